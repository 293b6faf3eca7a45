//! One request to a registry, from words to an answer: authentication, redirects, repetition.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blob_core::{ByteSource, Event, Progress, SourceError};
use blob_http::redirect::{RedirectPolicy, Redirects, same_origin};
use blob_http::retry::{exhausted, is_transient_status, retry_after};
use blob_http::transport::request_uri;
use blob_http::{Body, BoxError, Bulk, Expectation, HttpError, Retries};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, EXPECT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::{sleep, timeout};
use url::Url;

use super::Core;
use super::answer::{Answer, prefix, protocol, transport};
use super::auth::{Pass, Purpose, Reply};
use super::limit::Action;
use super::push::Follower;
use super::scope::Scope;
use crate::error::{ErrorCode, Object, RegistryError};
use crate::reference::Repository;

/// A request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    pub(super) scope: Scope,
    pub(super) repository: Option<Repository>,
    /// What is being done, for errors.
    pub(super) action: String,
    pub(super) object: Object,
    /// Whether it is sent again after a failure that may pass.
    pub(super) repeat: bool,
    /// Whether it moves many bytes, for which it gets a connection of its own.
    pub(super) bulk: bool,
}

/// Bodies above this are announced before they are sent.
const EXPECT_ABOVE: u64 = 64 << 10;

/// What moves more than this gets a connection of its own.
pub(super) const BULK_ABOVE: u64 = 4 << 20;

impl Call {
    /// A request without headers and body about `repository`, repeated when that may help.
    pub(super) fn new(method: Method, url: Url, repository: &Repository, action: String, object: Object) -> Self {
        let scope = match method {
            Method::GET | Method::HEAD => Scope::pull(repository),
            Method::DELETE => Scope::delete(repository),
            _ => Scope::push(repository),
        };
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            payload: Payload::Bytes(Bytes::new()),
            scope,
            repository: Some(repository.clone()),
            action,
            object,
            repeat: true,
            bulk: false,
        }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    pub(super) fn with_payload(mut self, payload: Payload) -> Self {
        self.bulk |= payload.length() > BULK_ABOVE;
        self.payload = payload;
        self
    }

    pub(super) fn with_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    pub(super) fn once(mut self) -> Self {
        self.repeat = false;
        self
    }
}

/// A request's body, which can be sent as often as needed.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Bytes(Bytes),
    Source(SourcePayload),
}

/// A range of a source as a body.
#[derive(Clone)]
pub(super) struct SourcePayload {
    pub(super) source: Arc<dyn ByteSource>,
    pub(super) range: Range<u64>,
    pub(super) meter: Option<Meter>,
    /// Who hashes what is sent.
    follower: Option<Follower>,
    /// Why the body ended early, if it was not the network: the transport only knows that it did.
    stop: Arc<Mutex<Option<Stop>>>,
}

/// Whom to tell how far an upload got.
#[derive(Clone)]
pub(super) struct Meter {
    pub(super) what: Arc<str>,
    pub(super) progress: Arc<dyn Progress>,
}

#[derive(Debug)]
enum Stop {
    Source(SourceError),
    Cancelled,
}

impl SourcePayload {
    pub(super) fn new(source: Arc<dyn ByteSource>, range: Range<u64>, meter: Option<Meter>) -> Self {
        Self { source, range, meter, follower: None, stop: Arc::default() }
    }

    /// Has everything that is sent hashed, too.
    pub(super) fn followed_by(mut self, follower: Option<Follower>) -> Self {
        self.follower = follower;
        self
    }

    async fn body(&self, action: &str) -> Result<Body, RegistryError> {
        let size = self.range.end - self.range.start;
        let opened = self.source.open(self.range.clone()).await;
        let mut stream = opened.map_err(|source| RegistryError::Source { action: action.to_owned(), source })?;
        if let Some(follower) = &self.follower {
            stream = follower.watch(stream, self.range.start);
        }
        let (stop, meter, total) = (Arc::clone(&self.stop), self.meter.clone(), self.source.size());
        let mut done = self.range.start;
        let stream = stream.map(move |item| {
            let why = match item {
                Ok(bytes) => {
                    done += bytes.len() as u64;
                    match meter.as_ref().map(|meter| meter.at(done, total)) {
                        Some(ControlFlow::Break(())) => Stop::Cancelled,
                        _ => return Ok(bytes),
                    }
                }
                Err(error) => Stop::Source(error),
            };
            *stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            Err(BoxError::from("the body was stopped"))
        });
        Ok(blob_http::stream_body(stream, Some(size)))
    }

    /// Why the body ended early, as an error of the request that it belonged to.
    fn stopped(&self, action: &str) -> Option<RegistryError> {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let action = action.to_owned();
        Some(match stop {
            Stop::Source(source) => RegistryError::Source { action, source },
            Stop::Cancelled => RegistryError::Cancelled { action },
        })
    }
}

impl Meter {
    /// Reports that `bytes` of `bytes_total` were handed to the network.
    pub(super) fn at(&self, bytes: u64, bytes_total: u64) -> ControlFlow<()> {
        self.progress.event(&Event::Uploading { what: &self.what, bytes, bytes_total })
    }
}

impl fmt::Debug for SourcePayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourcePayload")
            .field("source", &self.source)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

impl Payload {
    /// Bytes in all.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Source(source) => source.range.end - source.range.start,
        }
    }

    async fn body(&self, action: &str) -> Result<Body, RegistryError> {
        match self {
            Self::Bytes(bytes) => Ok(blob_http::full(bytes.clone())),
            Self::Source(source) => source.body(action).await,
        }
    }
}

/// Why an exchange came to nothing.
enum Failed {
    /// The registry was asked, and may be asked again.
    Exchange(RegistryError),
    /// The token service failed, after it was asked as often as the policy allows.
    Login(RegistryError),
    /// The registry wants to be left alone for longer than the operation may wait.
    Patience(RegistryError),
}

impl Failed {
    fn into_error(self) -> RegistryError {
        match self {
            Self::Exchange(error) | Self::Login(error) | Self::Patience(error) => error,
        }
    }
}

/// The refusal to wait any longer.
fn impatient(call: &Call, time: Duration, retries: &Retries) -> RegistryError {
    let detail = format!(
        "the registry wants no requests for {} s, after {} s of waiting for this one",
        time.as_secs().max(1),
        retries.waited().as_secs()
    );
    RegistryError::detailed(call.action.clone(), ErrorCode::TooManyRequests, detail)
}

impl Core {
    /// Sends `call`. Answers that ask to come back later are repeated within the retry policy; every other status is
    /// the caller's to judge.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, RegistryError> {
        self.send_within(call, &mut Retries::new(self.retry)).await
    }

    /// Sends `call` with what is left of an operation's retries.
    async fn send_within(&self, call: &Call, retries: &mut Retries) -> Result<Answer, RegistryError> {
        let mut repeated = false;
        loop {
            let result = self.limited(call, retries).await;
            let wait = match &result {
                _ if !call.repeat => None,
                Ok(answer) if is_transient_status(answer.status.as_u16()) => {
                    retries.next_delay(retry_after(&answer.headers))
                }
                Err(Failed::Exchange(error)) if error.is_transient() => retries.next_delay(None),
                _ => None,
            };
            let Some(wait) = wait else {
                return result.map(|answer| Answer { repeated, ..answer }).map_err(Failed::into_error);
            };
            tracing::debug!(action = call.action, ?wait, "trying again");
            repeated = true;
            sleep(wait).await;
        }
    }

    /// Sends `call` and reads the body, of at most `limit` bytes and within the time for a document; a body that breaks off is asked
    /// for again. Answers whose status is no success come back with an unread body.
    pub(super) async fn fetch(&self, call: &Call, limit: u64) -> Result<Fetched, RegistryError> {
        let mut retries = Retries::new(self.retry);
        loop {
            let answer = self.send_within(call, &mut retries).await?;
            if !answer.status.is_success() {
                return Ok(Fetched::Refused(answer));
            }
            let Answer { headers, body, url, status, .. } = answer;
            // Who sends a byte now and then is never silent.
            let Ok(collected) = timeout(self.limits.document_time, body.collect(limit)).await else {
                let detail = format!("the answer was not complete after {:?}", self.limits.document_time);
                return Err(protocol(&call.action, detail));
            };
            match collected {
                Ok(bytes) => return Ok(Fetched::Whole(Document { status, headers, url, bytes })),
                Err(error) => match retries.next_delay(None).filter(|_| error.is_transient()) {
                    Some(wait) => sleep(wait).await,
                    None => return Err(transport(&call.action, error)),
                },
            }
        }
    }

    /// One exchange, when the registry bears it. Waits that it asks for are in the same budget as those between attempts.
    async fn limited(&self, call: &Call, retries: &mut Retries) -> Result<Answer, Failed> {
        let action = Action::of(&call.method, call.object);
        let allowed = retries.left();
        let mut patience = allowed;
        let entered = match &call.payload {
            Payload::Bytes(_) => self.limit.enter(action, &mut patience).await.map(Some),
            // Its body may be read from this very registry, with requests that need leave themselves.
            Payload::Source(_) => self.limit.pause(&mut patience).await.map(|()| None),
        };
        retries.charge(allowed.saturating_sub(patience));
        let permit = entered.map_err(|time| Failed::Patience(impatient(call, time, retries)))?;
        let result = self.exchange(call).await;
        drop(permit);
        // Storage that a redirect led to speaks for itself only.
        if let Ok(answer) = result.as_ref()
            && !answer.foreign
        {
            self.heed_warnings(answer);
            let asked = match answer.status {
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    self.limit.refused(action);
                    retry_after(&answer.headers)
                }
                _ => {
                    self.limit.succeeded(action);
                    exhausted(&answer.headers)
                }
            };
            if let Some(time) = asked.filter(|&time| time <= self.retry.max_retry_after) {
                self.limit.wait(time);
            }
        }
        result
    }

    /// What the token for `call` must allow.
    fn scope(&self, call: &Call) -> Scope {
        match &call.repository {
            Some(repository) if self.profile.is_written(repository) => call.scope.union(&Scope::push(repository)),
            _ => call.scope.clone(),
        }
    }

    /// One exchange with the registry, including what it takes to be let in.
    async fn exchange(&self, call: &Call) -> Result<Answer, Failed> {
        let scope = self.scope(call);
        let purpose = Purpose { action: &call.action, scope: &scope, repository: call.repository.as_ref() };
        let at_home = same_origin(&call.url, &self.origin);
        let pass = if at_home { self.auth.pass(purpose).await.map_err(Failed::Login)? } else { None };
        let mut answer = self.follow(call, pass.as_ref()).await.map_err(Failed::Exchange)?;
        // Who is not the registry has no business asking for its credentials.
        if answer.foreign {
            return Ok(answer);
        }
        match (answer.status, &pass) {
            (StatusCode::UNAUTHORIZED, _) => {
                let reply = self.auth.reply(&answer.headers, purpose, pass.as_ref()).await;
                match reply.map_err(Failed::Login)? {
                    Reply::Pass(pass) => self.again(call, purpose, answer, &pass).await.map_err(Failed::Exchange),
                    Reply::Nothing(advice) => {
                        answer.advice = Some(advice);
                        Ok(answer)
                    }
                }
            }
            (StatusCode::FORBIDDEN, Some(used)) if used.reused => match self.auth.refresh(purpose, used).await {
                Ok(Some(pass)) => self.again(call, purpose, answer, &pass).await.map_err(Failed::Exchange),
                // The refusal stands; that no other token could be had is not the news.
                _ => Ok(answer),
            },
            _ => Ok(answer),
        }
    }

    /// Repeats `call` with a new pass, once.
    async fn again(
        &self,
        call: &Call,
        purpose: Purpose<'_>,
        refused: Answer,
        pass: &Pass,
    ) -> Result<Answer, RegistryError> {
        // Read to the end, a short body lets the connection be used again.
        prefix(refused.body, 8 << 10).await;
        let mut answer = self.follow(call, Some(pass)).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            answer.advice = Some(self.auth.advice(purpose).await);
        }
        Ok(answer)
    }

    /// Sends `call` and follows redirects. What authorises goes to the registry's origin only, and not even there once
    /// a redirect led away. Bodies are sent on only where the status says so.
    async fn follow(&self, call: &Call, pass: Option<&Pass>) -> Result<Answer, RegistryError> {
        let mut redirects = Redirects::new(RedirectPolicy::default());
        let mut url = call.url.clone();
        let mut foreign = !same_origin(&url, &self.origin);
        loop {
            let refuse = |error: HttpError| transport(&call.action, error);
            let mut request = http::Request::new(call.payload.body(&call.action).await?);
            *request.method_mut() = call.method.clone();
            *request.uri_mut() = request_uri(&url).map_err(refuse)?;
            *request.headers_mut() = call.headers.clone();
            if !foreign {
                let own = |name: &HeaderName| call.headers.contains_key(name);
                let more = self.headers.iter().filter(|(name, _)| !own(name));
                request.headers_mut().extend(more.map(|(name, value)| (name.clone(), value.clone())));
            }
            let bulk = call.bulk && !self.profile.no_bulk.is_set();
            if bulk {
                request.extensions_mut().insert(Bulk);
            }
            // HTTP/2, which may be spoken over shared connections with TLS, does not show the answer.
            let visible = bulk || url.scheme() == "http";
            let expects = visible && call.payload.length() > EXPECT_ABOVE && !self.profile.no_continue.is_set();
            if expects {
                request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
            }
            if let Some(pass) = pass.filter(|_| !foreign) {
                request.headers_mut().insert(AUTHORIZATION, pass.authorization.clone());
            }
            let response = match self.transport.send(request).await {
                // Servers that speak HTTP/2 only.
                Err(HttpError::Tls { .. }) if call.bulk && self.profile.no_bulk.set() => continue,
                Err(error) => {
                    return Err(match &call.payload {
                        Payload::Source(source) => source.stopped(&call.action).unwrap_or_else(|| refuse(error)),
                        Payload::Bytes(_) => refuse(error),
                    });
                }
                Ok(response) => response,
            };
            let (parts, body) = response.into_parts();
            if parts.extensions.get() == Some(&Expectation::Ignored) {
                self.profile.no_continue.set();
            }
            if parts.status == StatusCode::EXPECTATION_FAILED && expects && self.profile.no_continue.set() {
                continue;
            }
            let safe = matches!(call.method, Method::GET | Method::HEAD);
            let next = match parts.status.as_u16() {
                301..=303 if !safe => None,
                _ => redirects.next(&url, parts.status, &parts.headers).map_err(refuse)?,
            };
            let Some(to) = next else {
                let hidden = pass.map(|pass| pass.hidden.clone()).unwrap_or_default();
                let (status, headers) = (parts.status, parts.headers);
                return Ok(Answer { status, headers, body, url, foreign, repeated: false, hidden, advice: None });
            };
            foreign |= !same_origin(&to, &self.origin);
            url = to;
        }
    }
}

/// An answer with its body.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    pub(super) bytes: Bytes,
}

/// What [`Core::fetch`] got.
#[derive(Debug)]
pub(super) enum Fetched {
    Whole(Document),
    Refused(Answer),
}
