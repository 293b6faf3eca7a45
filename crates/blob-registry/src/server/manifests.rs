//! Manifests: by tag or digest, with several tags at once and conditional moves.

use blob_core::Digest;
use http::header::{self, HeaderName};
use http::{HeaderMap, Method, Response, StatusCode};

use super::answer::{self, Body, CONTENT_DIGEST, Fault};
use super::body::RequestBody;
use super::query::Query;
use super::{App, range, route, unsupported};
use crate::descriptor::Descriptor;
use crate::error::ErrorCode;
use crate::manifest::Outline;
use crate::reference::{Repository, Tag, Target};
use crate::registry::PushManifest;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// More tags than this in one request are refused.
const MAX_TAGS: usize = 100;

/// One request about a manifest.
pub(super) struct Turn<'a> {
    pub(super) app: &'a App,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: &'a Query,
    pub(super) repository: &'a Repository,
    pub(super) target: &'a Target,
}

impl Turn<'_> {
    /// Answers the request.
    pub(super) async fn answer(&self, method: &Method, body: &mut RequestBody) -> Result<Response<Body>, Fault> {
        match *method {
            Method::HEAD => {
                let descriptor = self.app.registry.resolve(self.repository, self.target).await?;
                Ok(self.found(&descriptor, None))
            }
            Method::GET => {
                let read = self.app.registry.manifest(self.repository, self.target).await;
                let manifest = read.map_err(answer::unreadable)?;
                Ok(self.found(&manifest.descriptor, Some(manifest.bytes)))
            }
            Method::PUT => self.put(body).await,
            Method::DELETE => {
                match self.target {
                    Target::Tag(tag) => self.app.registry.delete_tag(self.repository, tag).await?,
                    Target::Digest(digest) => self.app.registry.delete_manifest(self.repository, digest).await?,
                }
                Ok(answer::bare(StatusCode::ACCEPTED))
            }
            _ => Err(unsupported("GET, HEAD, PUT, DELETE")),
        }
    }

    /// The manifest, or only its headers. `Accept` is not looked at: there is one form of each manifest.
    fn found(&self, descriptor: &Descriptor, bytes: Option<bytes::Bytes>) -> Response<Body> {
        let etag = format!("\"{}\"", descriptor.digest);
        let mut response = if range::names_etag(self.headers, &header::IF_NONE_MATCH, &etag) {
            answer::bare(StatusCode::NOT_MODIFIED)
        } else {
            let mut response = answer::full(StatusCode::OK, &descriptor.media_type, bytes.unwrap_or_default());
            response.headers_mut().insert(header::CONTENT_LENGTH, descriptor.size.into());
            response
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_DIGEST, answer::value(&descriptor.digest.to_string()));
        headers.insert(header::ETAG, answer::value(&etag));
        response
    }

    async fn put(&self, body: &mut RequestBody) -> Result<Response<Body>, Fault> {
        let (if_match, if_unset) = self.condition()?;
        let bytes = body.whole(self.app.limits.max_manifest_bytes).await?;
        let _reading = body.reading(bytes.len()).await?;
        let media_type = self.media_type(&bytes)?;
        let mut manifest = PushManifest::new(media_type, bytes);
        (manifest.if_match, manifest.if_unset) = (if_match, if_unset);
        let mut answered = Vec::new();
        match self.target {
            Target::Tag(tag) => {
                manifest.tags.push(tag.clone());
                // For digests of another algorithm under a tag.
                if let Some(digest) = self.query.first("digest") {
                    manifest.digest = route::parse_digest(digest)?;
                }
            }
            Target::Digest(digest) => {
                manifest.digest = *digest;
                answered = self.tags()?;
                manifest.tags.clone_from(&answered);
            }
        }
        let pushed = self.app.registry.push_manifest(self.repository, manifest).await?;
        let mut response = answer::bare(StatusCode::CREATED);
        let headers = response.headers_mut();
        let location = format!("{}/manifests/{}", answer::base(self.repository), pushed.digest);
        headers.insert(header::LOCATION, answer::value(&location));
        headers.insert(header::ETAG, answer::value(&format!("\"{}\"", pushed.digest)));
        headers.insert(CONTENT_DIGEST, answer::value(&pushed.digest.to_string()));
        if let Some(subject) = pushed.subject {
            headers.insert(OCI_SUBJECT, answer::value(&subject.to_string()));
        }
        for tag in answered {
            headers.append(OCI_TAG, answer::value(tag.as_str()));
        }
        Ok(response)
    }

    /// The tags of `?tag=a&tag=b`.
    fn tags(&self) -> Result<Vec<Tag>, Fault> {
        let bad = |error: crate::reference::ReferenceError| Fault::of(ErrorCode::ManifestInvalid, error.to_string());
        let tags: Vec<Tag> = self.query.all("tag").map(Tag::new).collect::<Result<_, _>>().map_err(bad)?;
        if tags.len() > MAX_TAGS {
            let message = format!("{} tags are over the limit of {MAX_TAGS}", tags.len());
            return Err(Fault::plain(414, ErrorCode::ManifestInvalid, message));
        }
        Ok(tags)
    }

    /// `If-Match`, and whether tags must not be set (`If-None-Match: *`). Conditions that cannot be honoured are refused,
    /// never ignored.
    fn condition(&self) -> Result<(Option<Digest>, bool), Fault> {
        let refuse = || {
            let message = "the only conditions are If-Match with one entity tag, and If-None-Match: *";
            Fault::plain(400, ErrorCode::Unsupported, message)
        };
        let mut values = self.headers.get_all(header::IF_NONE_MATCH).iter();
        let if_unset = match (values.next(), values.next()) {
            (None, _) => false,
            (Some(value), None) if value.as_bytes() == b"*" => true,
            _ => return Err(refuse()),
        };
        let mut values = self.headers.get_all(header::IF_MATCH).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return if self.headers.contains_key(header::IF_MATCH) { Err(refuse()) } else { Ok((None, if_unset)) };
        };
        let quoted = value.to_str().ok().and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
        Ok((Some(route::parse_digest(quoted.ok_or_else(refuse)?)?), if_unset))
    }

    /// `Content-Type` without parameters, else what the document says of itself.
    fn media_type(&self, bytes: &[u8]) -> Result<String, Fault> {
        let header = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let named =
            header.map(|text| text.split(';').next().unwrap_or_default().trim()).filter(|text| !text.is_empty());
        if let Some(named) = named {
            // Nothing that a browser would show or run.
            return match named.strip_prefix("application/") {
                Some(rest) if !rest.is_empty() => Ok(named.to_owned()),
                _ => Err(Fault::of(ErrorCode::ManifestInvalid, "manifests are application/…, by their Content-Type")),
            };
        }
        let own = Outline::parse(bytes).ok().and_then(|outline| outline.media_type);
        own.ok_or_else(|| Fault::of(ErrorCode::ManifestInvalid, "neither Content-Type nor mediaType says what it is"))
    }
}
