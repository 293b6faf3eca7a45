//! Access tokens: what a token service answers, and the ones we hold.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use blob_core::Digest;
use blob_http::Secret;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::scope::Scope;
use crate::error::RegistryError;

/// How long a token lives whose answer does not say (distribution, "Token Authentication Specification").
const DEFAULT_LIFE: Duration = Duration::from_mins(1);

/// No token is trusted for longer.
const MAX_LIFE: Duration = Duration::from_hours(24);

/// More tokens than this are not held.
const MAX_TOKENS: usize = 512;

/// An access token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) secret: Secret<String>,
    /// Tells this token from others, so that a refused one can be taken out.
    pub(super) serial: u64,
    /// From when on a new one is asked for: four fifths of its life.
    renew_at: Instant,
}

impl Token {
    pub(super) fn new(secret: String, life: Duration) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let renew_at = Instant::now() + life.min(MAX_LIFE) * 4 / 5;
        Self { secret: Secret::new(secret), serial: SERIAL.fetch_add(1, Ordering::Relaxed), renew_at }
    }

    /// Reads the answer of a token service; `now` is the time of the answer by the service's own clock, if it said it.
    pub(super) fn parse(body: &[u8], now: Option<Timestamp>) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        #[expect(clippy::struct_field_names, reason = "the names on the wire")]
        struct Issued {
            #[serde(default)]
            access_token: Option<String>,
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            expires_in: Option<f64>,
            #[serde(default)]
            issued_at: Option<String>,
        }
        let issued: Issued = serde_json::from_slice(body).map_err(|_| "its answer is not the expected JSON")?;
        let filled = |token: &String| !token.is_empty();
        let secret = issued.access_token.filter(filled).or(issued.token.filter(filled));
        let secret = secret.ok_or("its answer holds no token")?;
        if http::HeaderValue::from_str(&secret).is_err() {
            return Err("its token cannot stand in a header");
        }
        let life = issued.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let life = life.filter(|life| !life.is_zero()).unwrap_or(DEFAULT_LIFE).min(MAX_LIFE);
        // Age by the service's clock on both sides: ours may be years off.
        let issued_at = issued.issued_at.and_then(|text| text.parse::<Timestamp>().ok());
        let age = issued_at.zip(now).and_then(|(then, now)| Duration::try_from(now.duration_since(then)).ok());
        Ok(Self::new(secret, life.saturating_sub(age.unwrap_or_default())))
    }

    fn is_fresh(&self) -> bool {
        Instant::now() < self.renew_at
    }
}

/// The tokens being fetched, by credential and scope.
type Flights = HashMap<(Option<Digest>, Scope), Weak<Flight>>;

/// A token on its way: whoever needs it waits for its turn, and finds the token or what went wrong.
#[derive(Debug, Default)]
pub(super) struct Flight {
    turn: tokio::sync::Mutex<Option<Arc<RegistryError>>>,
    failures: AtomicU64,
}

/// A turn at fetching a token.
pub(super) struct Turn<'a> {
    failures: &'a AtomicU64,
    last: tokio::sync::MutexGuard<'a, Option<Arc<RegistryError>>>,
    /// Whether somebody failed while this one waited.
    missed: bool,
}

impl Flight {
    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let before = self.failures.load(Ordering::Acquire);
        let last = self.turn.lock().await;
        let missed = self.failures.load(Ordering::Acquire) != before;
        Turn { failures: &self.failures, last, missed }
    }
}

impl Turn<'_> {
    /// The failure that happened while this one waited: trying again at once, one after the other, would keep everybody
    /// waiting for a service that is down.
    pub(super) fn missed(&self) -> Option<&Arc<RegistryError>> {
        self.last.as_ref().filter(|_| self.missed)
    }

    /// Tells those who wait what went wrong.
    pub(super) fn fail(&mut self, error: RegistryError) -> Arc<RegistryError> {
        let error = Arc::new(error);
        *self.last = Some(Arc::clone(&error));
        self.failures.fetch_add(1, Ordering::Release);
        error
    }
}

/// The cause of a failure that several share.
#[derive(Debug)]
struct Shared(Arc<RegistryError>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match StdError::source(&*self.0) {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl StdError for Shared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        StdError::source(&*self.0)?.source()
    }
}

/// The failure `error` as that of `action`.
pub(super) fn shared(error: &Arc<RegistryError>, action: &str) -> RegistryError {
    let action = action.to_owned();
    match &**error {
        RegistryError::Code { code, detail, status, retry_after, .. } => {
            let (code, status, retry_after) = (*code, *status, *retry_after);
            RegistryError::Code { action, code, detail: detail.clone(), status, retry_after }
        }
        RegistryError::Credentials { detail, .. } => RegistryError::Credentials { action, detail: detail.clone() },
        RegistryError::Protocol { detail, .. } => RegistryError::Protocol { action, detail: detail.clone() },
        RegistryError::TooLarge { size, limit, .. } => RegistryError::TooLarge { action, size: *size, limit: *limit },
        other => {
            let transient = other.is_transient();
            RegistryError::Io { action, transient, source: Box::new(Shared(Arc::clone(error))) }
        }
    }
}

/// The tokens of one registry, by credential and scope.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    held: Mutex<Vec<Held>>,
    flights: Mutex<Flights>,
}

#[derive(Debug)]
struct Held {
    identity: Option<Digest>,
    scope: Scope,
    token: Token,
    /// The registry does not take it any more. What it allowed is still known.
    refused: bool,
}

impl Held {
    fn is_good(&self) -> bool {
        !self.refused && self.token.is_fresh()
    }
}

impl Tokens {
    /// A token of `identity` that allows `scope` and is not about to expire.
    pub(super) fn find(&self, identity: Option<&Digest>, scope: &Scope) -> Option<Token> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |held: &&Held| held.identity.as_ref() == identity && held.is_good() && held.scope.contains(scope);
        held.iter().find(fits).map(|held| held.token.clone())
    }

    /// What to ask for when `scope` is needed: as much as a token allowed that came to its end and covered it. The job that
    /// needed the rest goes on, and would need another token for it.
    pub(super) fn renewed(&self, identity: Option<&Digest>, scope: &Scope) -> Scope {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = held
            .iter()
            .rev()
            .find(|held| held.identity.as_ref() == identity && !held.is_good() && held.scope.contains(scope));
        ended.map_or_else(|| scope.clone(), |ended| ended.scope.clone())
    }

    /// Holds `token`; those that it makes useless go.
    pub(super) fn insert(&self, identity: Option<Digest>, scope: Scope, token: Token) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|old| !(old.identity == identity && scope.contains(&old.scope)));
        if held.len() >= MAX_TOKENS {
            held.remove(0);
        }
        held.push(Held { identity, scope, token, refused: false });
    }

    /// Notes that the token with this serial is of no more use.
    pub(super) fn refuse(&self, serial: u64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter_mut().filter(|held| held.token.serial == serial).for_each(|held| held.refused = true);
    }

    /// Forgets what tokens of `identity` that came to their end allowed.
    pub(super) fn forget_ended(&self, identity: Option<&Digest>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|held| held.identity.as_ref() != identity || held.is_good());
    }

    /// The lock under which a token for `scope` is fetched: whoever waited for it finds the token.
    pub(super) fn flight(&self, identity: Option<&Digest>, scope: &Scope) -> Arc<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (identity.copied(), scope.clone());
        if let Some(flight) = flights.get(&key).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::new(Flight::default());
        flights.insert(key, Arc::downgrade(&flight));
        flight
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn life(body: &str, now: Option<&str>) -> Duration {
        let token = Token::parse(body.as_bytes(), now.map(|text| text.parse().unwrap())).unwrap();
        (token.renew_at - Instant::now()) * 5 / 4
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_read() {
        let seconds = Duration::from_secs;
        assert_eq!(life(r#"{"token":"t"}"#, None), seconds(60));
        assert_eq!(life(r#"{"access_token":"t","expires_in":300}"#, None), seconds(300));
        assert_eq!(life(r#"{"token":"t","expires_in":-5}"#, None), seconds(60));
        assert_eq!(life(r#"{"token":"t","expires_in":1e300}"#, None), seconds(60));
        let aged = r#"{"token":"t","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(life(aged, Some("2026-01-01T00:01:40Z")), seconds(200));
        assert_eq!(life(aged, Some("2025-01-01T00:00:00Z")), seconds(300));
        assert_eq!(life(aged, Some("2027-01-01T00:00:00Z")), seconds(0));
        let both = Token::parse(br#"{"token":"b","access_token":"a"}"#, None).unwrap();
        assert_eq!(both.secret.expose(), "a");
        for bad in ["", "[]", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":7}"#] {
            assert!(Token::parse(bad.as_bytes(), None).is_err(), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_found_by_scope_and_expire() {
        let tokens = Tokens::default();
        let (pull, push) = (Scope::parse("repository:a:pull"), Scope::parse("repository:a:pull,push"));
        tokens.insert(None, push.clone(), Token::new("t".into(), Duration::from_secs(100)));
        assert!(tokens.find(None, &pull).is_some());
        assert!(tokens.find(Some(&Digest::sha256_of(b"other")), &pull).is_none());
        assert!(tokens.find(None, &Scope::parse("repository:b:pull")).is_none());
        tokio::time::advance(Duration::from_secs(81)).await;
        assert!(tokens.find(None, &pull).is_none());
        let token = Token::new("u".into(), Duration::from_secs(100));
        let serial = token.serial;
        tokens.insert(None, push, token);
        tokens.refuse(serial);
        assert!(tokens.find(None, &pull).is_none());
    }

    #[tokio::test]
    async fn who_waited_for_a_failure_has_it_and_who_comes_later_tries() {
        let flight = Flight::default();
        let cause = std::io::Error::other("no route");
        let mut first = flight.turn().await;
        assert!(first.missed().is_none());
        let mut waiting = Box::pin(flight.turn());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let error = RegistryError::Io { action: "reading a".into(), transient: true, source: Box::new(cause) };
        let own = shared(&first.fail(error), "reading a");
        drop(first);
        let told = shared(waiting.await.missed().unwrap(), "reading b");
        for (error, action) in [(own, "reading a"), (told, "reading b")] {
            assert!(error.is_transient());
            assert_eq!(
                (error.to_string().as_str(), StdError::source(&error).unwrap().to_string().as_str()),
                (action, "no route")
            );
        }
        assert!(flight.turn().await.missed().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_ended_is_asked_for_again_as_a_whole() {
        let tokens = Tokens::default();
        let (push, other) = (Scope::parse("repository:a:pull,push"), Scope::parse("repository:b:pull"));
        let both = push.union(&other);
        let long = || Token::new("t".into(), Duration::from_secs(100));
        assert_eq!(tokens.renewed(None, &push), push);
        tokens.insert(None, both.clone(), long());
        assert_eq!(tokens.renewed(None, &push), push, "what is good need not be renewed");
        tokio::time::advance(Duration::from_secs(81)).await;
        assert_eq!(tokens.renewed(None, &push), both);
        assert_eq!(tokens.renewed(None, &Scope::parse("repository:c:pull")), Scope::parse("repository:c:pull"));
        let me = Digest::sha256_of(b"me");
        assert_eq!(tokens.renewed(Some(&me), &push), push, "what others were allowed");
        let token = long();
        let serial = token.serial;
        tokens.insert(None, both.clone(), token);
        tokens.refuse(serial);
        assert_eq!(tokens.renewed(None, &other), both);
        tokens.forget_ended(None);
        assert_eq!(tokens.renewed(None, &other), other);
    }
}
