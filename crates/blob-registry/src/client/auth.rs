//! Who we are, per request: challenges answered, tokens fetched and kept.
//!
//! Nothing is sent until the registry asks. Once it did, every request brings what it needs along: a token is fetched
//! before the request when the realm is known. Secrets go to the registry's own origin and to the realm that passed
//! the [policy](super::realm), and nowhere else; a token request follows no redirect that leaves the realm's origin.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use blob_http::redirect::{RedirectPolicy, Redirects, same_origin};
use blob_http::retry::{is_transient_status, retry_after};
use blob_http::{Body, Response, Retries, RetryPolicy, Secret, Transport};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::{Instant, sleep, timeout};
use url::Url;
use url::form_urlencoded::Serializer;

use super::answer::{prefix, printable, protocol, text, transport};
use super::challenge;
use super::credentials::{Credential, Credentials};
use super::realm::RealmPolicy;
use super::scope::Scope;
use super::token::{self, Token, Tokens};
use crate::error::{ErrorCode, RegistryError};
use crate::reference::Repository;

/// Larger answers of token services are refused.
const MAX_TOKEN_ANSWER: u64 = 128 << 10;

/// A token request that takes longer is given up.
const TOKEN_TIME_LIMIT: Duration = Duration::from_secs(30);

/// How long a credential is used before its source is asked again.
const REMEMBER: Duration = Duration::from_mins(5);

/// How long "none" and failures are remembered.
const REMEMBER_NONE: Duration = Duration::from_secs(10);

/// Credentials of more repositories than this are not remembered.
const MAX_REMEMBERED: usize = 1024;

/// What the registry wants to see.
#[derive(Clone, Debug)]
enum Demand {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// What a request brings along.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// The value of `Authorization`, marked sensitive.
    pub(super) authorization: HeaderValue,
    /// What must not be shown when the registry repeats it.
    pub(super) hidden: Vec<Secret<String>>,
    /// Whether it was held from before rather than fetched for this very request.
    pub(super) reused: bool,
    serial: Option<u64>,
}

impl Pass {
    /// Whether sending this again would be sending `other` again. A token service may hand out one text twice; it is for
    /// the registry to say what it is worth now.
    fn is(&self, other: &Self) -> bool {
        self.serial == other.serial && (self.serial.is_some() || self.authorization == other.authorization)
    }
}

/// What came of a challenge.
pub(super) enum Reply {
    /// Try again with this.
    Pass(Pass),
    /// There is nothing to try; what a user can do about it.
    Nothing(String),
}

/// What a request is about, as far as authentication cares.
#[derive(Clone, Copy)]
pub(super) struct Purpose<'a> {
    pub(super) action: &'a str,
    pub(super) scope: &'a Scope,
    pub(super) repository: Option<&'a Repository>,
}

#[derive(Clone)]
struct Remembered {
    found: Result<Option<Credential>, String>,
    until: Instant,
}

/// Authentication against one registry.
pub(super) struct Auth {
    /// The registry as references write it: what credentials are looked up by.
    pub(super) host: String,
    pub(super) origin: Url,
    pub(super) transport: Transport,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) realms: RealmPolicy,
    pub(super) retry: RetryPolicy,
    state: State,
}

#[derive(Default)]
struct State {
    demand: Mutex<Option<Demand>>,
    remembered: tokio::sync::Mutex<HashMap<Option<Repository>, Remembered>>,
    tokens: Tokens,
}

impl Auth {
    pub(super) fn new(host: String, origin: Url, transport: Transport, credentials: Arc<dyn Credentials>) -> Self {
        Self {
            host,
            origin,
            transport,
            credentials,
            realms: RealmPolicy::default(),
            retry: RetryPolicy::default(),
            state: State::default(),
        }
    }

    /// What to bring along, if the registry is known to ask for something.
    pub(super) async fn pass(&self, purpose: Purpose<'_>) -> Result<Option<Pass>, RegistryError> {
        let demand = self.state.demand.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(demand) = demand else { return Ok(None) };
        let (credential, _) = self.credential(purpose).await?;
        self.satisfy(&demand, purpose, credential.as_ref(), purpose.scope, None).await
    }

    /// Answers the challenge in `headers`, which came although `used` was sent.
    pub(super) async fn reply(
        &self,
        headers: &HeaderMap,
        purpose: Purpose<'_>,
        used: Option<&Pass>,
    ) -> Result<Reply, RegistryError> {
        let (demand, asked) = self.understand(headers, purpose)?;
        let Some(demand) = demand else {
            return Ok(Reply::Nothing("the registry asks for no kind of credentials that is known here".into()));
        };
        *self.state.demand.lock().unwrap_or_else(PoisonError::into_inner) = Some(demand.clone());
        self.renew(&demand, purpose, &purpose.scope.union(&asked), used).await
    }

    /// Gets a new token after a 403 for an old one: some registries call an expired token that.
    pub(super) async fn refresh(&self, purpose: Purpose<'_>, used: &Pass) -> Result<Option<Pass>, RegistryError> {
        let demand = self.state.demand.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(demand @ Demand::Bearer { .. }), Some(_)) = (demand, used.serial) else { return Ok(None) };
        match self.renew(&demand, purpose, purpose.scope, Some(used)).await? {
            Reply::Pass(pass) => Ok(Some(pass)),
            Reply::Nothing(_) => Ok(None),
        }
    }

    async fn renew(
        &self,
        demand: &Demand,
        purpose: Purpose<'_>,
        scope: &Scope,
        used: Option<&Pass>,
    ) -> Result<Reply, RegistryError> {
        let refused = used.and_then(|pass| pass.serial);
        if let Some(serial) = refused {
            self.state.tokens.refuse(serial);
        }
        let (mut credential, mut trouble) = self.credential(purpose).await?;
        let mut pass = self.satisfy(demand, purpose, credential.as_ref(), scope, refused).await?;
        let same = |pass: &Option<Pass>| pass.as_ref().zip(used).is_some_and(|(new, old)| new.is(old));
        if pass.is_none() || same(&pass) {
            // Helpers hand out short-lived passwords: what was refused may have a successor by now.
            self.state.remembered.lock().await.remove(&purpose.repository.cloned());
            (credential, trouble) = self.credential(purpose).await?;
            pass = self.satisfy(demand, purpose, credential.as_ref(), scope, refused).await?;
        }
        let host = &self.host;
        Ok(match pass {
            Some(pass) if !same(&Some(pass.clone())) => Reply::Pass(pass),
            Some(_) => Reply::Nothing(format!("the credentials for {host} are not accepted")),
            None => Reply::Nothing(trouble.unwrap_or_else(|| format!("no credentials for {host} are known: log in"))),
        })
    }

    /// What to tell the user when a request was refused in spite of what it brought along: without credentials, that of
    /// anybody.
    pub(super) async fn advice(&self, purpose: Purpose<'_>) -> String {
        let host = &self.host;
        match self.credential(purpose).await {
            Ok((None, trouble)) => trouble.unwrap_or_else(|| format!("no credentials for {host} are known: log in")),
            _ => format!("the credentials for {host} do not allow this, or are wrong: log in again"),
        }
    }

    /// Which demand the challenges make, Bearer before Basic, and the scope they name.
    fn understand(&self, headers: &HeaderMap, purpose: Purpose<'_>) -> Result<(Option<Demand>, Scope), RegistryError> {
        let challenges = challenge::of_headers(headers);
        let mut refusal = None;
        for challenge in challenges.iter().filter(|challenge| challenge.scheme == "bearer") {
            let Some(realm) = challenge.parameter("realm") else { continue };
            match self.realms.check(realm, &self.origin) {
                Ok(realm) => {
                    let service = challenge.parameter("service").map(str::to_owned);
                    let scope = challenge.parameter("scope").map(Scope::parse).unwrap_or_default();
                    return Ok((Some(Demand::Bearer { realm, service }), scope));
                }
                Err(why) => refusal = refusal.or(Some(why)),
            }
        }
        if challenges.iter().any(|challenge| challenge.scheme == "basic") {
            return Ok((Some(Demand::Basic), Scope::default()));
        }
        match refusal {
            Some(detail) => Err(RegistryError::Credentials { action: purpose.action.into(), detail }),
            None => Ok((None, Scope::default())),
        }
    }

    /// The credential, and why there is none if something failed. For reading, a failure is a warning: much can be
    /// read without.
    async fn credential(&self, purpose: Purpose<'_>) -> Result<(Option<Credential>, Option<String>), RegistryError> {
        let key = purpose.repository.cloned();
        // Held while looking up, so that many requests at once start one helper.
        let mut remembered = self.state.remembered.lock().await;
        let known = remembered.get(&key).filter(|entry| Instant::now() < entry.until);
        let found = if let Some(entry) = known {
            entry.found.clone()
        } else {
            let found = self.credentials.lookup(&self.host, purpose.repository).await;
            let found = found.map_err(|error| printable(&chain(&error), 500));
            if let Err(error) = &found {
                tracing::warn!(host = self.host, error, "credentials are not available");
            }
            let life = if matches!(found, Ok(Some(_))) { REMEMBER } else { REMEMBER_NONE };
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
            remembered.insert(key, Remembered { found: found.clone(), until: Instant::now() + life });
            found
        };
        match found {
            Ok(credential) => Ok((credential, None)),
            Err(detail) if purpose.scope.is_read_only() => Ok((None, Some(detail))),
            Err(detail) => Err(RegistryError::Credentials { action: purpose.action.into(), detail }),
        }
    }

    /// What satisfies `demand`; `None` if that takes a credential and there is none.
    async fn satisfy(
        &self,
        demand: &Demand,
        purpose: Purpose<'_>,
        credential: Option<&Credential>,
        scope: &Scope,
        refused: Option<u64>,
    ) -> Result<Option<Pass>, RegistryError> {
        match (demand, credential) {
            (_, Some(Credential::RegistryToken(token))) => Ok(bearer(token, None, true)),
            (Demand::Basic, Some(Credential::Basic { user, password })) => Ok(basic(user, password)),
            (Demand::Basic, _) => Ok(None),
            (Demand::Bearer { realm, service }, credential) => {
                let identity = credential.map(Credential::identity);
                let usable = |token: &Token| Some(token.serial) != refused;
                if let Some(token) = self.state.tokens.find(identity.as_ref(), scope).filter(usable) {
                    return Ok(bearer(&token.secret, Some(token.serial), true));
                }
                let wide = self.state.tokens.renewed(identity.as_ref(), scope);
                let flight = self.state.tokens.flight(identity.as_ref(), &wide);
                let mut turn = flight.turn().await;
                if let Some(token) = self.state.tokens.find(identity.as_ref(), scope).filter(usable) {
                    return Ok(bearer(&token.secret, Some(token.serial), true));
                }
                // What was asked for on behalf of another scope may be refused for that scope alone.
                if let Some(error) = turn.missed().filter(|error| wide == *scope || error.is_transient()) {
                    return Err(token::shared(error, purpose.action));
                }
                let service = service.as_deref();
                let order = |scope| Order { realm, service, scope, credential, action: purpose.action };
                let (fetched, allowed) = match self.fetch(order(&wide)).await {
                    // Some of it may be forbidden by now.
                    Err(_) if wide != *scope => {
                        self.state.tokens.forget_ended(identity.as_ref());
                        (self.fetch(order(scope)).await, scope.clone())
                    }
                    fetched => (fetched, wide),
                };
                let token = fetched.map_err(|error| token::shared(&turn.fail(error), purpose.action))?;
                self.state.tokens.insert(identity, allowed, token.clone());
                Ok(bearer(&token.secret, Some(token.serial), false))
            }
        }
    }
}

/// An order for a token.
#[derive(Clone, Copy)]
struct Order<'a> {
    realm: &'a Url,
    service: Option<&'a str>,
    scope: &'a Scope,
    credential: Option<&'a Credential>,
    action: &'a str,
}

impl Order<'_> {
    fn query(&self) -> Request {
        let mut url = self.realm.clone();
        {
            let mut pairs = url.query_pairs_mut();
            if let Some(service) = self.service {
                pairs.append_pair("service", service);
            }
            for word in self.scope.words() {
                pairs.append_pair("scope", &word);
            }
        }
        let authorization = match self.credential {
            Some(Credential::Basic { user, password }) => basic(user, password),
            Some(Credential::IdentityToken(token)) => basic("<token>", token),
            _ => None,
        };
        Request { method: Method::GET, url, authorization: authorization.map(|pass| pass.authorization), form: None }
    }

    fn refresh(&self, token: &Secret<String>) -> Request {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", "blob");
        if let Some(service) = self.service {
            form.append_pair("service", service);
        }
        form.append_pair("scope", &self.scope.to_string()).append_pair("refresh_token", token.expose());
        Request { method: Method::POST, url: self.realm.clone(), authorization: None, form: Some(form.finish()) }
    }

    fn hidden(&self) -> Option<&str> {
        match self.credential? {
            Credential::Basic { password: secret, .. }
            | Credential::IdentityToken(secret)
            | Credential::RegistryToken(secret) => Some(secret.expose()),
        }
    }
}

/// A request to a token service.
struct Request {
    method: Method,
    url: Url,
    authorization: Option<HeaderValue>,
    form: Option<String>,
}

impl Auth {
    async fn fetch(&self, order: Order<'_>) -> Result<Token, RegistryError> {
        let mut retries = Retries::new(self.retry);
        loop {
            let result = self.fetch_once(order, &mut retries).await;
            // What is left of the retries is for answers that break off.
            let again = result.as_ref().err().filter(|error| error.is_transient());
            match again.and_then(|_| retries.next_delay(None)) {
                Some(wait) => sleep(wait).await,
                None => return result,
            }
        }
    }

    async fn fetch_once(&self, order: Order<'_>, retries: &mut Retries) -> Result<Token, RegistryError> {
        if let Some(Credential::IdentityToken(token)) = order.credential {
            let response = self.ask(&order.refresh(token), order.action, retries).await?;
            // Some services speak only the older protocol.
            if !matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
                return read_token(order, response).await;
            }
        }
        let response = self.ask(&order.query(), order.action, retries).await?;
        read_token(order, response).await
    }

    /// Sends a token request, again if that may help.
    async fn ask(&self, request: &Request, action: &str, retries: &mut Retries) -> Result<Response, RegistryError> {
        loop {
            let result = match timeout(TOKEN_TIME_LIMIT, self.ask_once(request, action)).await {
                Ok(result) => result,
                Err(_) => Err(protocol(action, "the token service did not answer in time")),
            };
            let wait = match &result {
                Ok(response) if is_transient_status(response.status().as_u16()) => {
                    retries.next_delay(retry_after(response.headers()))
                }
                Err(error) if error.is_transient() => retries.next_delay(None),
                _ => None,
            };
            match wait {
                Some(wait) => sleep(wait).await,
                None => return result,
            }
        }
    }

    async fn ask_once(&self, request: &Request, action: &str) -> Result<Response, RegistryError> {
        let mut url = request.url.clone();
        let mut redirects = Redirects::new(RedirectPolicy::default());
        loop {
            let body: Body = request.form.clone().map_or_else(blob_http::empty, blob_http::full);
            let mut attempt = http::Request::new(body);
            *attempt.method_mut() = request.method.clone();
            *attempt.uri_mut() = blob_http::transport::request_uri(&url).map_err(|error| transport(action, error))?;
            attempt.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
            if let Some(authorization) = &request.authorization {
                attempt.headers_mut().insert(AUTHORIZATION, authorization.clone());
            }
            if request.form.is_some() {
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                attempt.headers_mut().insert(CONTENT_TYPE, form);
            }
            let response = self.transport.send(attempt).await.map_err(|error| transport(action, error))?;
            let next = redirects.next(&url, response.status(), response.headers());
            match next.map_err(|error| transport(action, error))? {
                None => return Ok(response),
                Some(to) if same_origin(&to, &request.url) => url = to,
                Some(_) => return Err(protocol(action, "the token service redirects to another origin")),
            }
        }
    }
}

/// Reads a token from the answer of a token service.
async fn read_token(order: Order<'_>, response: Response) -> Result<Token, RegistryError> {
    let service = order.realm.host_str().unwrap_or_default();
    let status = response.status();
    let fail = |detail: String| RegistryError::Credentials { action: order.action.into(), detail };
    if !status.is_success() {
        let wait = retry_after(response.headers());
        let words = prefix(response.into_body(), 2048).await;
        let said = said(&words, order.hidden());
        let code = match status.as_u16() {
            // What the services answer for wrong passwords and expired identity tokens.
            400 | 401 => ErrorCode::Unauthorized,
            403 => ErrorCode::Denied,
            429 => ErrorCode::TooManyRequests,
            _ => ErrorCode::Unknown,
        };
        let detail = Some(format!("token service {service} answered with status {status}{said}"));
        let action = order.action.to_owned();
        return Err(RegistryError::Code { action, code, detail, status: Some(status.as_u16()), retry_after: wait });
    }
    let date = text(response.headers(), DATE.as_str());
    let now = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|zoned| zoned.timestamp());
    let body = timeout(TOKEN_TIME_LIMIT, response.into_body().collect(MAX_TOKEN_ANSWER)).await;
    let body = body.map_err(|_| fail(format!("token service {service} did not finish its answer in time")))?;
    let body = body.map_err(|error| transport(order.action, error))?;
    Token::parse(&body, now).map_err(|why| fail(format!("token service {service}: {why}")))
}

/// The words of a token service, as far as they can be shown.
fn said(body: &[u8], hidden: Option<&str>) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let member = |name: &str| value.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let nested = || value.as_ref()?.get("errors")?.get(0)?.get("message")?.as_str().map(str::to_owned);
    let words = member("error_description").or_else(|| member("details")).or_else(nested).or_else(|| member("message"));
    let Some(mut words) = words else { return String::new() };
    if let Some(secret) = hidden.filter(|secret| secret.len() >= 4) {
        words = words.replace(secret, "…");
    }
    format!(": {}", printable(&words, 300))
}

fn bearer(token: &Secret<String>, serial: Option<u64>, reused: bool) -> Option<Pass> {
    let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
    authorization.set_sensitive(true);
    Some(Pass { authorization, hidden: vec![token.clone()], reused, serial })
}

fn basic(user: &str, password: &Secret<String>) -> Option<Pass> {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{}", password.expose()));
    let mut authorization = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    authorization.set_sensitive(true);
    Some(Pass { authorization, hidden: vec![password.clone(), Secret::new(encoded)], reused: true, serial: None })
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("host", &self.host).field("credentials", &self.credentials).finish_non_exhaustive()
    }
}
