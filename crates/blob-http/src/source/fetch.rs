//! One range request: to the place that redirects led to, or to the original URL, and the judgement of its answer.

use std::ops::Range;
use std::sync::PoisonError;

use http::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use super::Remote;
use crate::error::HttpError;
use crate::range::{self, Asked, Entity, Promise, RangeError};
use crate::redact;
use crate::redirect::{Followed, Outgoing, send_following};
use crate::retry::retry_after;
use crate::transport::ResponseBody;

/// Where redirects led to.
#[derive(Clone)]
pub(super) struct Place {
    url: Url,
    /// Whether another origin was visited on the way, so that secrets stay behind.
    foreign: bool,
}

/// An accepted answer; its body is still to come.
pub(super) struct Answer {
    pub(super) promise: Promise,
    pub(super) entity: Entity,
    pub(super) body: ResponseBody,
    /// The URL that answered, redacted.
    pub(super) target: String,
}

impl Remote {
    /// Asks for `range` once; `total` is the size if it is known.
    pub(super) async fn fetch(&self, range: Range<u64>, total: Option<u64>) -> Result<Answer, HttpError> {
        let Followed { response, url, .. } = self.ask(&range).await?;
        let target = redact::url(&url);
        let status = response.status();
        let entity = Entity::of(response.headers());
        if status.is_success() || status.as_u16() == 412 {
            self.check_entity(&entity, status.as_u16(), &target)?;
        }
        let asked = Asked { range: Some(range), total };
        match range::judge(&asked, status, response.headers()) {
            Ok(Promise::Other) => {
                let retry_after = retry_after(response.headers());
                Err(HttpError::Status { target, status: status.as_u16(), retry_after })
            }
            Ok(promise) => Ok(Answer { promise, entity, body: response.into_body(), target }),
            // The bytes may well be there, but not in the resource that was opened.
            Err(source @ RangeError::Total { .. }) => Err(HttpError::Changed { target, detail: source.to_string() }),
            Err(source) => Err(HttpError::Range { target, source }),
        }
    }

    fn check_entity(&self, now: &Entity, status: u16, target: &str) -> Result<(), HttpError> {
        let Some(before) = self.entity.get() else { return Ok(()) };
        let detail = match before.difference(now) {
            Some(detail) => detail,
            None if status == 412 => "the server says so with status 412".to_owned(),
            None => return Ok(()),
        };
        Err(HttpError::Changed { target: target.to_owned(), detail })
    }

    /// Sends the request. A place that no longer answers is forgotten: signed URLs expire, mirrors go away.
    async fn ask(&self, range: &Range<u64>) -> Result<Followed, HttpError> {
        if let Some(place) = self.place() {
            let answer = self.send(range, &place).await;
            let status = answer.as_ref().map(|followed| followed.response.status().as_u16());
            match status {
                Ok(200 | 206) => return answer,
                Ok(400 | 401 | 403 | 404 | 410) => self.set_place(None),
                _ => {
                    self.set_place(None);
                    return answer;
                }
            }
        }
        let origin = Place { url: self.url.clone(), foreign: false };
        let followed = self.send(range, &origin).await?;
        if followed.url != self.url && followed.response.status().is_success() {
            self.set_place(Some(Place { url: followed.url.clone(), foreign: followed.crossed }));
        }
        Ok(followed)
    }

    async fn send(&self, range: &Range<u64>, place: &Place) -> Result<Followed, HttpError> {
        let mut headers = if place.foreign { HeaderMap::new() } else { self.options.headers.clone() };
        // Whoever put them there: they are for this origin alone, also behind a redirect.
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(IF_RANGE);
        headers.remove(RANGE);
        headers.extend(range::header(range).map(|value| (RANGE, value)));
        let etag = self.entity.get().and_then(Entity::strong_etag);
        headers.extend(etag.and_then(|etag| HeaderValue::from_str(etag).ok()).map(|value| (IF_RANGE, value)));
        let request = Outgoing { method: Method::GET, url: place.url.clone(), headers };
        send_following(&self.transport, request, self.options.redirects).await
    }

    fn place(&self) -> Option<Place> {
        // The lock is never held across code that can panic, and a place is always whole.
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_place(&self, place: Option<Place>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
}
