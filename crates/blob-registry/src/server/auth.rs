//! Who may do what: Basic credentials, or bearer tokens from an issuer in the same process.
//!
//! This is for tests and small set-ups: users live in memory and either do everything or only read.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blob_core::Digest;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response};
use serde_json::json;

use super::answer::{self, Body, Fault};
use super::query::Query;
use crate::error::ErrorCode;
use crate::reference::Repository;
use crate::token;

/// More tokens than this are not remembered; the ones that expire first give way.
const MAX_TOKENS: usize = 10_000;

/// The access rules of a server.
///
/// ```
/// use blob_registry::server::Auth;
///
/// let auth = Auth::basic("our registry").user("ann", "correct horse").reader("bob", "battery staple");
/// assert!(!format!("{auth:?}").contains("horse"));
/// ```
pub struct Auth {
    scheme: Scheme,
    users: Vec<User>,
    anonymous_pull: bool,
}

enum Scheme {
    Basic { realm: String },
    Bearer { service: String, lifetime: Duration, issued: Mutex<HashMap<String, Grant>> },
}

struct User {
    /// Digest of `name:password`: comparing digests takes the same time wherever they differ.
    credentials: Digest,
    writes: bool,
}

/// What a token allows.
struct Grant {
    scopes: Vec<Scope>,
    expires: Instant,
}

/// `type:name:action,action`
#[derive(Clone, PartialEq, Eq)]
struct Scope {
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// What a request does to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Pull,
    Push,
    Delete,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// What a request needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need<'a> {
    /// To be known.
    Known,
    /// To list the repositories.
    Catalog,
    /// To do this.
    Repository(&'a Repository, Action),
}

/// What whoever sent a request may do.
pub(super) struct Principal {
    reads: bool,
    writes: bool,
    scopes: Vec<Scope>,
}

impl Principal {
    fn new(reads: bool, writes: bool) -> Self {
        Self { reads, writes, scopes: Vec::new() }
    }

    /// Whether `action` on `repository` is allowed.
    pub(super) fn may(&self, action: Action, repository: &Repository) -> bool {
        let by_rank = if action == Action::Pull { self.reads } else { self.writes };
        by_rank || self.scopes.iter().any(|scope| scope.allows("repository", repository.as_str(), action.name()))
    }

    /// Whether every repository may be read.
    pub(super) fn may_everything(&self) -> bool {
        self.reads
    }

    fn satisfies(&self, need: Need<'_>) -> bool {
        match need {
            Need::Known => true,
            Need::Catalog => self.reads || self.scopes.iter().any(|scope| scope.allows("registry", "catalog", "*")),
            Need::Repository(repository, action) => self.may(action, repository),
        }
    }
}

impl Scope {
    /// `repository:a/b:pull,push`; the name may hold colons.
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
        Some(Self { kind: kind.into(), name: name.into(), actions })
    }

    fn allows(&self, kind: &str, name: &str, action: &str) -> bool {
        self.kind == kind && self.name == name && self.actions.iter().any(|own| own == action || own == "*")
    }
}

impl Auth {
    /// Basic credentials with every request.
    pub fn basic(realm: impl Into<String>) -> Self {
        Self { scheme: Scheme::Basic { realm: realm.into() }, users: Vec::new(), anonymous_pull: false }
    }

    /// Bearer tokens, which `GET /token?service=…&scope=…` of the same server issues for five minutes against Basic
    /// credentials. The tokens mean nothing outside this process.
    pub fn bearer(service: impl Into<String>) -> Self {
        let lifetime = Duration::from_mins(5);
        let scheme = Scheme::Bearer { service: service.into(), lifetime, issued: Mutex::default() };
        Self { scheme, users: Vec::new(), anonymous_pull: false }
    }

    /// Adds a user who may do everything.
    #[must_use]
    pub fn user(self, name: &str, password: &str) -> Self {
        self.add(name, password, true)
    }

    /// Adds a user who may only read.
    #[must_use]
    pub fn reader(self, name: &str, password: &str) -> Self {
        self.add(name, password, false)
    }

    /// Lets anybody read. With bearer tokens, those too must fetch a token.
    #[must_use]
    pub fn anonymous_pull(mut self) -> Self {
        self.anonymous_pull = true;
        self
    }

    /// How long tokens hold; Basic credentials know no time.
    #[must_use]
    pub fn token_lifetime(mut self, time: Duration) -> Self {
        if let Scheme::Bearer { lifetime, .. } = &mut self.scheme {
            *lifetime = time;
        }
        self
    }

    fn add(mut self, name: &str, password: &str, writes: bool) -> Self {
        self.users.push(User { credentials: Digest::sha256_of(format!("{name}:{password}").as_bytes()), writes });
        self
    }

    /// Finds out who sent a request and checks that they may do what it needs.
    pub(super) fn admit(&self, headers: &HeaderMap, need: Need<'_>) -> Result<Principal, Fault> {
        let given = headers.get(header::AUTHORIZATION);
        match &self.scheme {
            Scheme::Basic { realm } => {
                let challenge = || answer::value(&format!("Basic realm=\"{}\", charset=\"UTF-8\"", quotable(realm)));
                let refused = || unauthorized("valid credentials are needed", challenge());
                let principal = match given {
                    Some(value) => self.user_of(value).ok_or_else(refused)?,
                    None if self.anonymous_pull => Principal::new(true, false),
                    None => return Err(refused()),
                };
                match (principal.satisfies(need), given) {
                    (true, _) => Ok(principal),
                    (false, None) => Err(refused()),
                    (false, Some(_)) => Err(Fault::of(ErrorCode::Denied, "these credentials do not suffice")),
                }
            }
            Scheme::Bearer { service, issued, .. } => {
                let principal = given.and_then(|value| principal_of_token(issued, value));
                if let Some(principal) = principal
                    && principal.satisfies(need)
                {
                    return Ok(principal);
                }
                let problem = given.is_some().then_some("insufficient_scope");
                Err(unauthorized("a token for this is needed", challenge(headers, service, need, problem)))
            }
        }
    }

    /// Answers `GET /token`. `None` where there are no tokens.
    pub(super) fn issue(&self, headers: &HeaderMap, query: &Query) -> Option<Result<Response<Body>, Fault>> {
        let Scheme::Bearer { service, lifetime, issued } = &self.scheme else { return None };
        let refused = || {
            let realm = answer::value(&format!("Basic realm=\"{}\"", quotable(service)));
            unauthorized("valid credentials are needed", realm)
        };
        let user = match headers.get(header::AUTHORIZATION) {
            Some(value) => self.user_of(value),
            None => self.anonymous_pull.then(|| Principal::new(true, false)),
        };
        let Some(user) = user else { return Some(Err(refused())) };
        if query.first("service").is_some_and(|named| named != service) {
            return Some(Err(Fault::plain(400, ErrorCode::Unknown, "this is another service")));
        }
        Some(grant(issued, *lifetime, &user, query))
    }

    /// The user whose Basic credentials `value` holds.
    fn user_of(&self, value: &HeaderValue) -> Option<Principal> {
        let encoded = after_scheme(value, "basic")?;
        let given = Digest::sha256_of(&STANDARD.decode(encoded).ok()?);
        let equal =
            |own: &Digest| own.as_bytes().iter().zip(given.as_bytes()).fold(0_u8, |sum, (a, b)| sum | (a ^ b)) == 0;
        // Every user is compared, so that the time does not tell which one matched.
        let found = self.users.iter().fold(
            None,
            |found, user| {
                if equal(&user.credentials) { Some(user.writes) } else { found }
            },
        );
        found.map(|writes| Principal::new(true, writes))
    }
}

/// Makes a token for what was asked for and is allowed.
fn grant(
    issued: &Mutex<HashMap<String, Grant>>,
    lifetime: Duration,
    user: &Principal,
    query: &Query,
) -> Result<Response<Body>, Fault> {
    let allowed = |scope: &mut Scope| {
        scope.actions.retain(|action| user.writes || action == "pull" || (scope.kind == "registry" && user.reads));
        !scope.actions.is_empty()
    };
    let mut scopes: Vec<Scope> =
        query.all("scope").flat_map(|text| text.split(' ')).take(100).filter_map(Scope::parse).collect();
    scopes.retain_mut(allowed);
    let token = token::random()?;
    let now = Instant::now();
    let mut issued = issued.lock().unwrap_or_else(PoisonError::into_inner);
    issued.retain(|_, grant| grant.expires > now);
    if issued.len() >= MAX_TOKENS
        && let Some(first) = issued.iter().min_by_key(|(_, grant)| grant.expires).map(|(token, _)| token.clone())
    {
        issued.remove(&first);
    }
    issued.insert(token.clone(), Grant { scopes, expires: now + lifetime });
    Ok(answer::json(&json!({ "token": token, "access_token": token, "expires_in": lifetime.as_secs() })))
}

fn principal_of_token(issued: &Mutex<HashMap<String, Grant>>, value: &HeaderValue) -> Option<Principal> {
    let token = after_scheme(value, "bearer")?;
    let issued = issued.lock().unwrap_or_else(PoisonError::into_inner);
    let grant = issued.get(token).filter(|grant| grant.expires > Instant::now())?;
    Some(Principal { reads: false, writes: false, scopes: grant.scopes.clone() })
}

/// What follows the name of the scheme, in any case.
fn after_scheme<'a>(value: &'a HeaderValue, scheme: &str) -> Option<&'a str> {
    let (name, rest) = value.to_str().ok()?.split_once(' ')?;
    name.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn challenge(headers: &HeaderMap, service: &str, need: Need<'_>, problem: Option<&str>) -> HeaderValue {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let scope = match need {
        Need::Known => String::new(),
        Need::Catalog => ",scope=\"registry:catalog:*\"".to_owned(),
        Need::Repository(repository, action) => {
            let actions = if action == Action::Push { "pull,push" } else { action.name() };
            format!(",scope=\"repository:{repository}:{actions}\"")
        }
    };
    let problem = problem.map(|problem| format!(",error=\"{problem}\"")).unwrap_or_default();
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"{}\"", quotable(host), quotable(service));
    answer::value(&(realm + &scope + &problem))
}

fn unauthorized(message: &str, challenge: HeaderValue) -> Fault {
    Fault::of(ErrorCode::Unauthorized, message).with(header::WWW_AUTHENTICATE, challenge)
}

/// What can stand in a quoted string.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '"' | '\\')).collect()
}

/// What a request may do where there are no rules.
pub(super) fn everybody() -> Principal {
    Principal::new(true, true)
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match &self.scheme {
            Scheme::Basic { .. } => "Basic",
            Scheme::Bearer { .. } => "Bearer",
        };
        f.debug_struct("Auth").field("scheme", &scheme).field("users", &self.users.len()).finish_non_exhaustive()
    }
}
