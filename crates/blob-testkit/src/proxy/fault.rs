//! Damaged answers: by script, or drawn from a seed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_RANGE;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tokio::sync::watch;

/// What happens to one answer. Positions count bytes of the answer's body from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// The connection is cut after this many bytes.
    Cut(u64),
    /// The connection is cut after this many bytes of the *request's* body went to the upstream; there is no answer. A body
    /// that does not reach them is left alone.
    CutUpload(u64),
    /// The upstream is not asked; this is answered instead.
    Answer {
        /// Status code, 200 to 599.
        status: u16,
        /// Header names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: Bytes,
    },
    /// Nothing more is sent after this many bytes, and the connection stays open.
    Stall(u64),
    /// The `Range` header is not passed on, so that the upstream answers 200 with everything.
    IgnoreRange,
    /// Start and end of `Content-Range` are moved by this much; the bytes stay.
    ShiftContentRange(i64),
    /// The upstream's answer gets another status; the rest of it stays.
    Status(u16),
    /// A header of the upstream's answer is set, or left out.
    Header {
        /// Its name, in small letters.
        name: &'static str,
        /// Its value instead of those that are there; `None` leaves it out.
        value: Option<String>,
    },
    /// All bits of the byte at this position are inverted.
    Flip(u64),
    /// The upstream is asked only when the latch is opened.
    Hold(Latch),
    /// The upstream is asked this much later.
    Delay(Duration),
}

/// Holds requests back until a test opens it, for tests that want to know what happens meanwhile. Clones are the same latch.
#[derive(Debug, Clone)]
pub struct Latch(Arc<watch::Sender<bool>>);

impl Latch {
    /// A closed latch.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a latch is made to be kept")]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets everything through that waits, and all that comes.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn opened(&self) {
        // It cannot be dropped while somebody waits here.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

impl PartialEq for Latch {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Latch {}

impl Action {
    /// An answer with a status and no body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// An answer with a status and one header.
    #[must_use]
    pub fn status_with(status: u16, name: &str, value: &str) -> Self {
        Self::Answer { status, headers: vec![(name.to_owned(), value.to_owned())], body: Bytes::new() }
    }
}

/// To which requests an action applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The method, or `None` for any.
    pub method: Option<String>,
    /// A part of the path; empty matches every path.
    pub path: String,
    /// How many matching requests pass before the first that is damaged.
    pub skip: u64,
    /// How many are damaged then.
    pub times: u64,
    /// What happens to them.
    pub action: Action,
}

impl Rule {
    /// Damages the first request whose path contains `path`, once.
    #[must_use]
    pub fn first(path: &str, action: Action) -> Self {
        Self { method: None, path: path.to_owned(), skip: 0, times: 1, action }
    }

    /// Damages every request whose path contains `path`.
    #[must_use]
    pub fn every(path: &str, action: Action) -> Self {
        Self { times: u64::MAX, ..Self::first(path, action) }
    }

    /// Restricts the rule to one method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: Some(method.to_owned()), ..self }
    }

    /// Lets `skip` matching requests pass first.
    #[must_use]
    pub fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Damages `times` matching requests.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted == method) && path.contains(&self.path)
    }
}

/// Which answers are damaged. The default damages none.
#[derive(Debug, Default)]
pub struct Faults {
    script: Mutex<Vec<(Rule, u64)>>,
    random: Option<Mutex<Random>>,
    resets: Option<Mutex<Resets>>,
}

/// Connections that break at random, as they do on a bad line: the more often, the more bytes go over it.
#[derive(Debug)]
struct Resets {
    state: u64,
    mean_bytes: u64,
}

#[derive(Debug)]
struct Random {
    state: u64,
    one_in: u64,
    actions: Vec<Action>,
}

impl Faults {
    /// Applies the rules: for each request the first rule that matches and is due. Every matching rule counts it.
    #[must_use]
    pub fn script(rules: Vec<Rule>) -> Self {
        Self { script: Mutex::new(rules.into_iter().map(|rule| (rule, 0)).collect()), ..Self::default() }
    }

    /// Damages about one request in `one_in` with one of `actions`, drawn from `seed`.
    ///
    /// The same seed gives the same sequence, so a single client that asks in order sees the same faults every time.
    #[must_use]
    pub fn seeded(seed: u64, one_in: u64, actions: Vec<Action>) -> Self {
        let random = Random { state: seed, one_in: one_in.max(1), actions };
        Self { random: Some(Mutex::new(random)), ..Self::default() }
    }

    /// Cuts the bodies of requests and answers too, at places drawn from `seed`: one in `mean_bytes` bytes, on average.
    #[must_use]
    pub fn with_resets(self, seed: u64, mean_bytes: u64) -> Self {
        Self { resets: Some(Mutex::new(Resets { state: seed, mean_bytes })), ..self }
    }

    /// What to do to this request, if anything.
    pub(super) fn next(&self, parts: &Parts) -> Option<Action> {
        let due = self.due(parts.method.as_str(), parts.uri.path());
        due.or_else(|| {
            let at = self.resets.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).draw();
            Some(if parts.method == http::Method::GET { Action::Cut(at) } else { Action::CutUpload(at) })
        })
    }

    fn due(&self, method: &str, path: &str) -> Option<Action> {
        let mut found = None;
        for (rule, seen) in self.script.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if rule.matches(method, path) {
                let nth = *seen;
                *seen += 1;
                if found.is_none() && nth >= rule.skip && nth - rule.skip < rule.times {
                    found = Some(rule.action.clone());
                }
            }
        }
        found.or_else(|| self.random.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).draw())
    }
}

impl Resets {
    /// The bytes until the next break: without a memory, so that many short bodies break as often as one long one.
    #[expect(clippy::cast_sign_loss, reason = "the logarithm of what is at most 1 is not above 0")]
    fn draw(&mut self) -> u64 {
        // The upper half of the bits, as a number above 0 and up to 1.
        let chance = ((crate::trees::splitmix(&mut self.state) >> 32) + 1) as f64 / (1_u64 << 32) as f64;
        (-chance.ln() * self.mean_bytes as f64) as u64
    }
}

impl Random {
    fn draw(&mut self) -> Option<Action> {
        let hit = crate::trees::splitmix(&mut self.state).is_multiple_of(self.one_in);
        let choice = crate::trees::splitmix(&mut self.state);
        if !hit || self.actions.is_empty() {
            return None;
        }
        let index = choice % self.actions.len() as u64;
        self.actions.get(usize::try_from(index).ok()?).cloned()
    }
}

/// The answer of [`Action::Answer`]; a script that cannot be sent is answered 500 with the reason.
pub(super) fn made_up(status: u16, headers: &[(String, String)], body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    let Ok(status) = StatusCode::from_u16(status) else {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        *response.body_mut() = Bytes::from_static(b"the fault script names a status that does not exist");
        return response;
    };
    *response.status_mut() = status;
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// What [`Action::Status`], [`Action::Header`] and [`Action::ShiftContentRange`] do to the head of an answer.
pub(super) fn bend(parts: &mut http::response::Parts, fault: Option<&Action>) {
    match fault {
        Some(Action::Status(status)) => {
            if let Ok(status) = StatusCode::from_u16(*status) {
                parts.status = status;
            }
        }
        Some(Action::Header { name, value }) => {
            parts.headers.remove(*name);
            if let Some(value) = value.as_ref().and_then(|text| HeaderValue::try_from(text).ok()) {
                parts.headers.insert(HeaderName::from_static(name), value);
            }
        }
        Some(Action::ShiftContentRange(by)) => {
            let shifted = parts.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            let shifted = shifted.and_then(|text| HeaderValue::try_from(shift_content_range(text, *by)).ok());
            if let Some(value) = shifted {
                parts.headers.insert(CONTENT_RANGE, value);
            }
        }
        _ => {}
    }
}

/// Moves `bytes A-B/N` by `by`; what is not of that form stays.
fn shift_content_range(value: &str, by: i64) -> String {
    let moved = || {
        let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let start = start.parse::<u64>().ok()?.saturating_add_signed(by);
        let end = end.parse::<u64>().ok()?.saturating_add_signed(by);
        Some(format!("bytes {start}-{end}/{total}"))
    };
    moved().unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_counts_matching_requests_only() {
        let rule = Rule::first("/blobs/", Action::status(503)).method("GET").after(1).times(2);
        let faults = Faults::script(vec![rule]);
        let asked = [
            ("GET", "/v2/a/manifests/v1", false),
            ("GET", "/v2/a/blobs/x", false),
            ("HEAD", "/v2/a/blobs/x", false),
            ("GET", "/v2/a/blobs/x", true),
            ("GET", "/v2/a/blobs/y", true),
            ("GET", "/v2/a/blobs/x", false),
        ];
        for (i, (method, path, expect)) in asked.into_iter().enumerate() {
            assert_eq!(faults.due(method, path).is_some(), expect, "request {i}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_faults_every_time() {
        let draw = |seed| {
            let faults = Faults::seeded(seed, 3, vec![Action::Cut(1), Action::status(503)]);
            (0..200).map(|_| faults.due("GET", "/")).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let hits = draw(7).iter().filter(|action| action.is_some()).count();
        assert!((30..110).contains(&hits), "about one in three of 200, got {hits}");
    }

    #[test]
    fn resets_come_as_often_as_they_should() {
        let draw = |seed| {
            let mut resets = Resets { state: seed, mean_bytes: 1000 };
            (0..2000).map(|_| resets.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        let mean = draw(7).iter().sum::<u64>() / 2000;
        assert!((900..1100).contains(&mean), "{mean}");
        assert!(draw(8).iter().all(|&bytes| bytes < 30_000));
    }

    #[test]
    fn content_ranges_are_shifted() {
        let cases = [
            ("bytes 0-9/100", 1, "bytes 1-10/100"),
            ("bytes 5-9/100", -2, "bytes 3-7/100"),
            ("bytes */100", 1, "bytes */100"),
        ];
        for (value, by, expect) in cases {
            assert_eq!(shift_content_range(value, by), expect);
        }
    }
}
