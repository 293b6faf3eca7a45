//! Bearer tokens: opaque, remembered by this process, gone with it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blob_core::Digest;
use http::Response;
use serde_json::json;

use super::rules::{Action, Rights};
use crate::error::RegistryError;
use crate::reference::Repository;
use crate::server::answer::{self, Body};
use crate::token;

/// More tokens than this, of users and of others, are not remembered; those of the same kind that expire first give
/// way.
const MAX_TOKENS: usize = 10_000;

/// More scopes than this in one request are left out.
const MAX_SCOPES: usize = 100;

/// How long a refresh token holds.
const REFRESH: Duration = Duration::from_hours(24 * 30);

/// `type:name:action,action`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Scope {
    /// `repository:a/b:pull,push`; the name may hold colons.
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
        Some(Self { kind: kind.into(), name: name.into(), actions })
    }

    /// Whether it allows `action` on `name`.
    pub(super) fn allows(&self, kind: &str, name: &str, action: &str) -> bool {
        self.kind == kind && self.name == name && self.actions.iter().any(|own| own == action || own == "*")
    }

    /// What of it `user` may do.
    fn cut(mut self, rights: &Rights, user: Option<&str>) -> Option<Self> {
        match self.kind.as_str() {
            "registry" if self.name == "catalog" => self.actions.retain(|action| action == "*"),
            "repository" => {
                let repository = Repository::new(&self.name).ok()?;
                let may = |action| rights.allow(user, action, &repository);
                let everything = [Action::Pull, Action::Push, Action::Delete];
                if self.actions.iter().any(|action| action == "*") {
                    self.actions = everything.iter().map(|action| action.name().to_owned()).collect();
                }
                self.actions.retain(|name| everything.iter().any(|action| action.name() == name && may(*action)));
            }
            _ => self.actions.clear(),
        }
        (!self.actions.is_empty()).then_some(self)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

/// What a token stands for.
#[derive(Clone)]
pub(super) struct Grant {
    /// Who has it; `None` is somebody without credentials.
    pub(super) user: Option<String>,
    pub(super) scopes: Vec<Scope>,
    expires: Instant,
}

/// What a refresh token stands for.
#[derive(Clone)]
pub(super) struct Refresh {
    pub(super) user: String,
    /// The user's standing with everybody who knows passwords, when the token was issued.
    pub(super) standing: Standing,
    expires: Instant,
}

/// What each of those who know passwords says of a user.
pub(super) type Standing = Vec<Option<Digest>>;

/// Something that is remembered until then.
trait Expires {
    fn expires(&self) -> Instant;
}

impl Expires for Grant {
    fn expires(&self) -> Instant {
        self.expires
    }
}

impl Expires for Refresh {
    fn expires(&self) -> Instant {
        self.expires
    }
}

/// What somebody asks the issuer for.
pub(super) struct Wish<'a> {
    pub(super) user: Option<String>,
    pub(super) scopes: Vec<&'a str>,
    /// A refresh token too, for as long as the user has this standing.
    pub(super) offline: Option<Standing>,
}

/// Issues tokens and remembers them.
pub(super) struct Issuer {
    pub(super) service: String,
    pub(super) lifetime: Duration,
    /// Tokens of users.
    issued: Mutex<HashMap<String, Grant>>,
    /// Tokens of those without credentials, who can have as many as they like: those of users do not give way to them.
    anonymous: Mutex<HashMap<String, Grant>>,
    refresh: Mutex<HashMap<String, Refresh>>,
}

impl Issuer {
    pub(super) fn new(service: String) -> Self {
        Self {
            service,
            lifetime: Duration::from_mins(5),
            issued: Mutex::default(),
            anonymous: Mutex::default(),
            refresh: Mutex::default(),
        }
    }

    /// What `token` stands for, unless it has expired.
    pub(super) fn grant(&self, token: &str) -> Option<Grant> {
        live(&lock(&self.issued), token).or_else(|| live(&lock(&self.anonymous), token))
    }

    /// Who a refresh token belongs to, unless it has expired. Whether it still counts is for the caller to find out.
    pub(super) fn refresh(&self, token: &str) -> Option<Refresh> {
        live(&lock(&self.refresh), token)
    }

    /// Takes a refresh token back.
    pub(super) fn revoke(&self, token: &str) {
        lock(&self.refresh).remove(token);
    }

    /// Makes a token for what was asked for and is allowed.
    pub(super) fn issue(&self, wish: Wish<'_>, rights: &Rights) -> Result<Response<Body>, RegistryError> {
        let Wish { user, scopes, offline } = wish;
        let asked = scopes.iter().flat_map(|text| text.split(' ')).take(MAX_SCOPES).filter_map(Scope::parse);
        let scopes: Vec<Scope> = asked.filter_map(|scope| scope.cut(rights, user.as_deref())).collect();
        let granted: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        let now = Instant::now();
        let refresh = match (&user, offline) {
            // Nobody could tell when such a token should end.
            (_, Some(standing)) if standing.iter().all(Option::is_none) => None,
            (Some(user), Some(standing)) => {
                let refresh = Refresh { user: user.clone(), standing, expires: now + REFRESH };
                Some(remember(&mut lock(&self.refresh), refresh, now)?)
            }
            _ => None,
        };
        let pool = if user.is_some() { &self.issued } else { &self.anonymous };
        let grant = Grant { user, scopes, expires: now + self.lifetime };
        let token = remember(&mut lock(pool), grant, now)?;
        let mut document = json!({
            "token": token,
            "access_token": token,
            "expires_in": self.lifetime.as_secs(),
            "issued_at": jiff::Timestamp::now().to_string(),
            "scope": granted.join(" "),
        });
        if let Some(refresh) = refresh {
            document["refresh_token"] = json!(refresh);
        }
        let mut response = answer::json(&document);
        let never = http::HeaderValue::from_static("no-store");
        response.headers_mut().insert(http::header::CACHE_CONTROL, never);
        Ok(response)
    }
}

fn lock<T>(grants: &Mutex<HashMap<String, T>>) -> MutexGuard<'_, HashMap<String, T>> {
    // Changes are single insertions and removals: the map is whole even if a thread panicked.
    grants.lock().unwrap_or_else(PoisonError::into_inner)
}

fn live<T: Expires + Clone>(grants: &HashMap<String, T>, token: &str) -> Option<T> {
    grants.get(token).filter(|grant| grant.expires() > Instant::now()).cloned()
}

fn remember<T: Expires>(grants: &mut HashMap<String, T>, grant: T, now: Instant) -> Result<String, RegistryError> {
    let token = token::random()?;
    if grants.len() >= MAX_TOKENS {
        grants.retain(|_, grant| grant.expires() > now);
    }
    if grants.len() >= MAX_TOKENS
        && let Some(first) = grants.iter().min_by_key(|(_, grant)| grant.expires()).map(|(token, _)| token.clone())
    {
        grants.remove(&first);
    }
    grants.insert(token.clone(), grant);
    Ok(token)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_of_users_do_not_give_way_to_those_of_anybody() {
        let issuer = Issuer::new("s".into());
        let issue = |user: Option<&str>| {
            let wish = Wish { user: user.map(str::to_owned), scopes: vec![], offline: None };
            issuer.issue(wish, &Rights::default()).unwrap();
        };
        issue(Some("ann"));
        let token = lock(&issuer.issued).keys().next().unwrap().clone();
        for _ in 0..MAX_TOKENS + 2 {
            issue(None);
        }
        assert_eq!(issuer.grant(&token).unwrap().user.as_deref(), Some("ann"));
        assert_eq!(lock(&issuer.anonymous).len(), MAX_TOKENS);
        let other = lock(&issuer.anonymous).keys().next().unwrap().clone();
        assert_eq!(issuer.grant(&other).unwrap().user, None);
    }
}
