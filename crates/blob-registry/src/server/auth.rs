//! Who may do what: Basic credentials, or bearer tokens from an issuer in the same process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response};

use super::answer::{self, Body, Fault};
use super::body::RequestBody;
use super::query::Query;
use crate::error::ErrorCode;
use crate::reference::Repository;

#[cfg(feature = "htpasswd")]
mod htpasswd;
mod passwords;
mod rules;
mod tokens;

#[cfg(feature = "htpasswd")]
pub use htpasswd::{Htpasswd, HtpasswdError};
pub use passwords::Passwords;
pub use rules::{Action, Rule, Who};

use passwords::InMemory;
use rules::Rights;
use tokens::{Issuer, Scope, Standing, Wish};

/// Largest body of a token request in bytes.
const MAX_FORM: u64 = 64 << 10;

/// The access rules of a server.
///
/// Without [rules](Self::rules) every user does everything, except for [readers](Self::reader).
///
/// ```
/// use blob_registry::server::Auth;
///
/// let auth = Auth::basic("our registry").user("ann", "correct horse").reader("bob", "battery staple");
/// assert!(!format!("{auth:?}").contains("horse"));
/// ```
pub struct Auth {
    scheme: Scheme,
    in_memory: InMemory,
    passwords: Vec<Arc<dyn Passwords>>,
    rights: Arc<Rights>,
    token_url: Option<String>,
}

enum Scheme {
    Basic { realm: String },
    Bearer(Box<Issuer>),
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
    /// To push to the first and read the second.
    Mount(&'a Repository, &'a Repository),
}

/// What whoever sent a request may do.
pub(super) struct Principal {
    /// `None` where there are no rules.
    rights: Option<Arc<Rights>>,
    user: Option<String>,
    /// What the token is for; credentials are for everything that their user may do.
    scopes: Option<Vec<Scope>>,
}

impl Principal {
    /// Who it is; `None` for somebody without credentials.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether `action` on `repository` is allowed.
    pub(super) fn may(&self, action: Action, repository: &Repository) -> bool {
        let in_scope = self.scopes.as_ref().is_none_or(|scopes| {
            scopes.iter().any(|scope| scope.allows("repository", repository.as_str(), action.name()))
        });
        in_scope && self.user_may(action, repository)
    }

    /// Whether the user may do it, whatever the token is for.
    fn user_may(&self, action: Action, repository: &Repository) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.allow(self.user.as_deref(), action, repository))
    }

    /// Whether the user may read every repository. No scope of a token stands for that.
    pub(super) fn reads_everything(&self) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.allow_everywhere(self.user.as_deref(), Action::Pull))
    }

    /// Whether a list of repositories may name `repository`.
    pub(super) fn sees(&self, repository: &Repository) -> bool {
        self.user_may(Action::Pull, repository)
    }

    fn satisfies(&self, need: Need<'_>) -> bool {
        match need {
            Need::Known => true,
            Need::Catalog => self
                .scopes
                .as_ref()
                .is_none_or(|scopes| scopes.iter().any(|scope| scope.allows("registry", "catalog", "*"))),
            Need::Repository(repository, action) => self.may(action, repository),
            // Who may not read the other repository gets an upload session instead: only a token that could say more
            // is sent back.
            Need::Mount(to, from) => {
                self.may(Action::Push, to) && (self.may(Action::Pull, from) || !self.user_may(Action::Pull, from))
            }
        }
    }
}

/// How a request reached the server.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) headers: &'a HeaderMap,
    /// Over TLS.
    pub(super) secure: bool,
}

impl Auth {
    /// Basic credentials with every request.
    pub fn basic(realm: impl Into<String>) -> Self {
        Self::new(Scheme::Basic { realm: realm.into() })
    }

    /// Bearer tokens, which `/token` of the same server issues for five minutes against Basic credentials, or against a
    /// password or a refresh token in a form (OAuth2). The tokens mean nothing outside this process.
    pub fn bearer(service: impl Into<String>) -> Self {
        Self::new(Scheme::Bearer(Box::new(Issuer::new(service.into()))))
    }

    fn new(scheme: Scheme) -> Self {
        Self { scheme, in_memory: InMemory::default(), passwords: Vec::new(), rights: Arc::default(), token_url: None }
    }

    /// Adds a user.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.in_memory.add(name, password);
        self
    }

    /// Adds a user who, unless rules say otherwise, may only read.
    #[must_use]
    pub fn reader(self, name: &str, password: &str) -> Self {
        self.user(name, password).change(|rights| rights.readers.push(name.to_owned()))
    }

    /// Takes the users of `passwords` as well.
    #[must_use]
    pub fn passwords(mut self, passwords: impl Passwords + 'static) -> Self {
        self.passwords.push(Arc::new(passwords));
        self
    }

    /// Lets anybody read. With bearer tokens, those too must fetch a token.
    #[must_use]
    pub fn anonymous_pull(self) -> Self {
        self.change(|rights| rights.anonymous_pull = true)
    }

    /// Allows what the rules allow, and nothing else.
    #[must_use]
    pub fn rules(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.change(|rights| rights.rules.extend(rules))
    }

    /// How long tokens hold; Basic credentials know no time.
    #[must_use]
    pub fn token_lifetime(mut self, time: Duration) -> Self {
        if let Scheme::Bearer(issuer) = &mut self.scheme {
            issuer.lifetime = time;
        }
        self
    }

    /// Where clients find `/token`, for servers behind a proxy: an URL. By default it is made of the `Host` that the
    /// client asked.
    #[must_use]
    pub fn token_url(mut self, url: impl Into<String>) -> Self {
        self.token_url = Some(url.into());
        self
    }

    fn change(mut self, change: impl FnOnce(&mut Rights)) -> Self {
        // The server shares the rights only once it is built.
        if let Some(rights) = Arc::get_mut(&mut self.rights) {
            change(rights);
        }
        self
    }

    /// Finds out who sent a request and checks that they may do what it needs.
    pub(super) async fn admit(&self, way: Way<'_>, need: Need<'_>) -> Result<Principal, Fault> {
        let given = way.headers.get(header::AUTHORIZATION);
        match &self.scheme {
            Scheme::Basic { realm } => {
                let refused = || unauthorized("valid credentials are needed", basic_challenge(realm));
                let user = match given {
                    Some(value) => Some(self.user_of(value).await.ok_or_else(refused)?),
                    None if self.rights.know_anonymous() => None,
                    None => return Err(refused()),
                };
                let principal = self.principal(user, None);
                match (principal.satisfies(need), given) {
                    (true, _) => Ok(principal),
                    (false, None) => Err(refused()),
                    (false, Some(_)) => Err(Fault::of(ErrorCode::Denied, "these credentials do not suffice")),
                }
            }
            Scheme::Bearer(issuer) => {
                let grant = given.and_then(|value| issuer.grant(after_scheme(value, "bearer")?));
                let problem = match (&grant, given) {
                    (Some(_), _) => Some("insufficient_scope"),
                    (None, Some(_)) => Some("invalid_token"),
                    (None, None) => None,
                };
                if let Some(grant) = grant {
                    let principal = self.principal(grant.user, Some(grant.scopes));
                    if principal.satisfies(need) {
                        return Ok(principal);
                    }
                }
                let challenge = self.bearer_challenge(way, &issuer.service, need, problem);
                Err(unauthorized("a token for this is needed", challenge))
            }
        }
    }

    fn principal(&self, user: Option<String>, scopes: Option<Vec<Scope>>) -> Principal {
        Principal { rights: Some(Arc::clone(&self.rights)), user, scopes }
    }

    /// Answers `/token`: `GET` with Basic credentials, or an OAuth2 form. `None` where there are no tokens.
    pub(super) async fn issue(
        &self,
        method: &Method,
        headers: &HeaderMap,
        query: &Query,
        body: &mut RequestBody,
    ) -> Option<Result<Response<Body>, Fault>> {
        let Scheme::Bearer(issuer) = &self.scheme else { return None };
        Some(match *method {
            Method::GET => self.issue_by_query(issuer, headers, query).await,
            Method::POST => self.issue_by_form(issuer, body).await,
            _ => Err(super::unsupported("GET, POST")),
        })
    }

    async fn issue_by_query(
        &self,
        issuer: &Issuer,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<Response<Body>, Fault> {
        let refused = || unauthorized("valid credentials are needed", basic_challenge(&issuer.service));
        let user = match headers.get(header::AUTHORIZATION) {
            Some(value) => Some(self.user_of(value).await.ok_or_else(refused)?),
            None if self.rights.know_anonymous() => None,
            None => return Err(refused()),
        };
        check_service(issuer, query)?;
        let offline = self.offline(query.first("offline_token") == Some("true"), user.as_deref()).await;
        let wish = Wish { user, scopes: query.all("scope").collect(), offline };
        Ok(issuer.issue(wish, &self.rights)?)
    }

    async fn issue_by_form(&self, issuer: &Issuer, body: &mut RequestBody) -> Result<Response<Body>, Fault> {
        let bytes = body.whole(MAX_FORM).await?;
        let text = std::str::from_utf8(&bytes);
        let form = Query::parse(Some(text.map_err(|_| Fault::plain(400, ErrorCode::Unknown, "not a form"))?));
        check_service(issuer, &form)?;
        let refused = || unauthorized("these credentials are not valid", basic_challenge(&issuer.service));
        let field = |name| form.first(name).unwrap_or_default();
        let user = match field("grant_type") {
            "password" => {
                let (user, password) = (field("username"), field("password"));
                // As Basic cannot have one either: the name would end somewhere else.
                let verified = !user.contains(':') && self.verify(user, password).await;
                verified.then(|| user.to_owned()).ok_or_else(refused)?
            }
            "refresh_token" => self.refreshed(issuer, field("refresh_token")).await.ok_or_else(refused)?,
            _ => {
                let message = "grant_type is neither password nor refresh_token";
                return Err(Fault::plain(400, ErrorCode::Unsupported, message));
            }
        };
        let offline = self.offline(field("access_type") == "offline", Some(&user)).await;
        let wish = Wish { user: Some(user), scopes: form.all("scope").collect(), offline };
        Ok(issuer.issue(wish, &self.rights)?)
    }

    /// What a refresh token for `user` is tied to, if one is `wanted`.
    async fn offline(&self, wanted: bool, user: Option<&str>) -> Option<Standing> {
        match user {
            Some(user) if wanted => Some(self.standing(user).await),
            _ => None,
        }
    }

    /// The user of a refresh token, if their password is still the one that the token was issued for.
    async fn refreshed(&self, issuer: &Issuer, token: &str) -> Option<String> {
        let refresh = issuer.refresh(token)?;
        if self.standing(&refresh.user).await == refresh.standing {
            return Some(refresh.user);
        }
        issuer.revoke(token);
        None
    }

    async fn standing(&self, user: &str) -> Standing {
        let mut standing = vec![self.in_memory.standing(user)];
        for passwords in &self.passwords {
            standing.push(passwords.standing(user).await);
        }
        standing
    }

    /// The user whose Basic credentials `value` holds, if they are right.
    async fn user_of(&self, value: &HeaderValue) -> Option<String> {
        let decoded = String::from_utf8(STANDARD.decode(after_scheme(value, "basic")?).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        self.verify(user, password).await.then(|| user.to_owned())
    }

    async fn verify(&self, user: &str, password: &str) -> bool {
        if self.in_memory.verify(user, password) {
            return true;
        }
        for passwords in &self.passwords {
            if passwords.verify(user, password).await {
                return true;
            }
        }
        false
    }

    fn bearer_challenge(&self, way: Way<'_>, service: &str, need: Need<'_>, problem: Option<&str>) -> HeaderValue {
        let scope = match need {
            Need::Known => String::new(),
            Need::Catalog => ",scope=\"registry:catalog:*\"".to_owned(),
            Need::Repository(repository, Action::Push) => format!(",scope=\"repository:{repository}:pull,push\""),
            Need::Repository(repository, action) => format!(",scope=\"repository:{repository}:{}\"", action.name()),
            Need::Mount(to, from) => format!(",scope=\"repository:{to}:pull,push repository:{from}:pull\""),
        };
        let problem = problem.map(|problem| format!(",error=\"{problem}\"")).unwrap_or_default();
        let url = self.token_url.clone().unwrap_or_else(|| {
            let host = way.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
            format!("{}://{host}/token", if way.secure { "https" } else { "http" })
        });
        let realm = format!("Bearer realm=\"{}\",service=\"{}\"", quotable(&url), quotable(service));
        answer::value(&(realm + &scope + &problem))
    }
}

fn check_service(issuer: &Issuer, query: &Query) -> Result<(), Fault> {
    if query.first("service").is_some_and(|named| named != issuer.service) {
        return Err(Fault::plain(400, ErrorCode::Unknown, "this is another service"));
    }
    Ok(())
}

/// What follows the name of the scheme, in any case.
fn after_scheme<'a>(value: &'a HeaderValue, scheme: &str) -> Option<&'a str> {
    let (name, rest) = value.to_str().ok()?.split_once(' ')?;
    name.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn basic_challenge(realm: &str) -> HeaderValue {
    answer::value(&format!("Basic realm=\"{}\", charset=\"UTF-8\"", quotable(realm)))
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
    Principal { rights: None, user: None, scopes: None }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match &self.scheme {
            Scheme::Basic { .. } => "Basic",
            Scheme::Bearer(_) => "Bearer",
        };
        let mut shown = f.debug_struct("Auth");
        shown.field("scheme", &scheme).field("users", &self.in_memory.len()).field("passwords", &self.passwords);
        shown.field("rights", &self.rights).finish_non_exhaustive()
    }
}
