//! Requests to services: bounded in time and size, without redirects.

use std::error::Error;
use std::time::Duration;

use sigstore_sign::reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect};
use url::{Host, Url};

/// The largest answer of a service that is read: 1 MiB.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// How much of an error's text is shown.
const SHOWN: usize = 300;
/// The first pause between attempts; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(250);
const AGENT: &str = concat!("blob/", env!("CARGO_PKG_VERSION"));

/// A service was not asked, or did not answer as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The address is not one, or would show secrets to the network.
    #[error("{url:?} is not an https address, nor an http one on this machine")]
    Address {
        /// The address as given.
        url: String,
    },
    /// More services of one kind than are asked.
    #[error("more than {limit} services of one kind")]
    TooMany {
        /// Services at most.
        limit: usize,
    },
    /// There is no way to speak HTTP: no certificates of authorities, say.
    #[error("setting up HTTP")]
    Client(#[source] Box<dyn Error + Send + Sync>),
    /// No answer came.
    #[error("it does not answer")]
    NoAnswer(#[source] Box<dyn Error + Send + Sync>),
    /// It refused.
    #[error("it answered with status {status}{}", said(text))]
    Status {
        /// The status.
        status: u16,
        /// What it said, at most 300 characters.
        text: String,
    },
    /// It has this already.
    #[error("it has this already, and does not say where")]
    Exists {
        /// Where, if that is at the same service.
        at: Option<Url>,
    },
    /// The answer is larger than is read.
    #[error("its answer has more than {limit} bytes")]
    TooLarge {
        /// Bytes at most.
        limit: usize,
    },
    /// The answer is not what the protocol says.
    #[error("its answer is not understood")]
    Answer(#[source] Box<dyn Error + Send + Sync>),
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl ServiceError {
    pub(in crate::sign) fn answer(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Answer(source.into())
    }

    /// Whether the same question may be answered a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

/// An HTTP client for services.
#[derive(Clone, Debug)]
pub(in crate::sign) struct Http {
    client: Client,
    attempts: u32,
}

/// A question to a service.
#[derive(Clone, Copy, Debug)]
pub(in crate::sign) struct Question<'a> {
    pub(in crate::sign) url: &'a Url,
    /// `None` asks with `GET`.
    pub(in crate::sign) body: Option<(&'a str, &'a [u8])>,
    pub(in crate::sign) bearer: Option<&'a str>,
}

impl Http {
    pub(super) fn new(timeout: Duration, attempts: u32) -> Result<Self, ServiceError> {
        let client = Client::builder().user_agent(AGENT).timeout(timeout).connect_timeout(timeout);
        let client = client.redirect(redirect::Policy::none()).build();
        Ok(Self { client: client.map_err(|source| ServiceError::Client(source.into()))?, attempts })
    }

    /// Asks until there is an answer, or no hope of one.
    pub(in crate::sign) async fn ask(&self, question: Question<'_>) -> Result<Vec<u8>, ServiceError> {
        let mut pause = PAUSE;
        for _ in 1..self.attempts {
            match self.once(question).await {
                Err(error) if error.is_transient() => {
                    tracing::debug!(url = shown(question.url), %error, "asking again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
        self.once(question).await
    }

    /// Asks once.
    pub(in crate::sign) async fn once(&self, question: Question<'_>) -> Result<Vec<u8>, ServiceError> {
        let method = if question.body.is_some() { Method::POST } else { Method::GET };
        let mut request: RequestBuilder = self.client.request(method, question.url.clone());
        if let Some((content_type, body)) = question.body {
            request = request.header("content-type", content_type).body(body.to_vec());
        }
        if let Some(bearer) = question.bearer {
            request = request.bearer_auth(bearer);
        }
        // The error's own text would show the whole address.
        let answer = request.send().await.map_err(|error| ServiceError::NoAnswer(error.without_url().into()))?;
        let status = answer.status();
        if status == StatusCode::CONFLICT {
            let place = answer.headers().get("location").and_then(|value| value.to_str().ok());
            let at = place.and_then(|place| question.url.join(place).ok());
            return Err(ServiceError::Exists { at: at.filter(|at| at.origin() == question.url.origin()) });
        }
        let body = read(answer).await?;
        if status.is_success() {
            return Ok(body);
        }
        Err(ServiceError::Status { status: status.as_u16(), text: message(&body) })
    }
}

async fn read(mut answer: Response) -> Result<Vec<u8>, ServiceError> {
    let limit = MAX_ANSWER_BYTES;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| ServiceError::NoAnswer(error.without_url().into()))? {
        if body.len() + chunk.len() > limit {
            return Err(ServiceError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What a service says is wrong, in one line.
fn message(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = value["message"].as_str().map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect::<String>();
    line.trim().to_owned()
}

/// An address that may be asked.
pub(in crate::sign) fn address(text: &str) -> Result<Url, ServiceError> {
    let refused = || ServiceError::Address { url: text.into() };
    let url = Url::parse(text).map_err(|_| refused())?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(refused()),
    };
    let safe = url.scheme() == "https" || (url.scheme() == "http" && local);
    if safe && url.username().is_empty() && url.password().is_none() { Ok(url) } else { Err(refused()) }
}

/// `base` with more path behind it.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// An address without what may be secret in it.
pub(in crate::sign) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_travel_in_the_clear() {
        for (text, expect) in [
            ("https://fulcio.example.com", true),
            ("https://fulcio.example.com/base/", true),
            ("http://127.0.0.1:5555", true),
            ("http://[::1]:5555", true),
            ("http://localhost", true),
            ("http://fulcio.example.com", false),
            ("http://localhost.example.com", false),
            ("https://user:secret@fulcio.example.com", false),
            ("ftp://127.0.0.1", false),
            ("fulcio.example.com", false),
            ("", false),
        ] {
            assert_eq!(address(text).is_ok(), expect, "{text}");
        }
    }

    #[test]
    fn errors_of_services_are_one_short_line() {
        assert_eq!(message(br#"{"code":3,"message":"no\nsuch\u001b[1m thing"}"#), "no such [1m thing");
        assert_eq!(message(&[b'x'; 1000]).len(), SHOWN);
        assert_eq!(message(b""), "");
    }
}
