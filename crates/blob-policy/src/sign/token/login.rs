//! Logging in as a person: OpenID Connect's code flow for programs that cannot keep a secret (RFC 8252), with proof of who
//! began it (PKCE, RFC 7636).
//!
//! The person's browser carries the answer back to a port of this machine; where there is no browser, the person carries a
//! code. Neither way is believed: the answer has to repeat what was sent (`state`), the token what it was asked with
//! (`nonce`), and it has to be for us, by the issuer that was asked.

mod callback;

use std::fmt;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio::net::TcpListener;
use url::Url;
use zeroize::Zeroizing;

use super::{IdentityToken, TokenError};
use crate::sign::services::{Http, Question, ServiceError, Services, address};

/// How long a person may take, unless another time is chosen: 5 minutes.
const PATIENCE: Duration = Duration::from_mins(5);
/// Where the answer comes to, on this machine.
const PATH: &str = "/auth/callback";
/// What stands for an address of ours where there is no browser: the issuer then shows the code to the person.
const BY_HAND: &str = "urn:ietf:wg:oauth:2.0:oob";
/// The longest code that is taken, and the longest text of an issuer that is repeated.
const MAX_TEXT: usize = 4096;
/// How much of what an issuer says is repeated.
const SHOWN: usize = 200;

/// The person who logs in, and what there is to show them something with.
#[async_trait]
pub trait Browser: fmt::Debug + Send + Sync {
    /// Shows the page at `url`, and tells them that they can also open it themselves on this machine. `false` where they
    /// cannot: they are asked for a [`code`](Self::code) then.
    async fn open(&self, url: &str) -> bool;

    /// Tells them to open `url` wherever they have a browser, and gives the code that they find there.
    ///
    /// # Errors
    /// When nobody is there who could be asked.
    async fn code(&self, url: &str) -> io::Result<String>;
}

/// How somebody logs in.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LoginOptions<'a> {
    /// As which program: `sigstore` by default, which issuers for Sigstore know.
    pub client_id: &'a str,
    /// How long the person may take: 5 minutes by default.
    pub patience: Duration,
}

impl Default for LoginOptions<'_> {
    fn default() -> Self {
        Self { client_id: "sigstore", patience: PATIENCE }
    }
}

/// Nobody logged in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The issuer could not be asked.
    #[error("asking the issuer")]
    Issuer(#[source] ServiceError),
    /// The issuer says of itself that it is somebody else.
    #[error("the issuer says that it is {got:?}")]
    Impostor {
        /// What it says.
        got: String,
    },
    /// There is no port that the browser could come back to.
    #[error("listening for the browser")]
    Listen(#[source] io::Error),
    /// Nobody could be asked for a code.
    #[error("asking for the code")]
    Code(#[source] io::Error),
    /// The person said no, or the issuer did.
    #[error("it was denied: {0}")]
    Denied(String),
    /// The person took too long.
    #[error("nobody logged in within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// What came back is not an answer to what was asked: perhaps another page sent it.
    #[error("what the browser brought back {0}")]
    Answer(&'static str),
    /// The token is not the one that was asked for.
    #[error("the token that was given {0}")]
    Token(&'static str),
}

/// Where an issuer is asked for what.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
}

/// What is made up for one log-in, and must come back.
struct Secrets {
    state: String,
    nonce: String,
    verifier: Zeroizing<String>,
}

impl Secrets {
    fn new() -> Result<Self, LoginError> {
        Ok(Self { state: made_up()?, nonce: made_up()?, verifier: Zeroizing::new(made_up()?) })
    }

    /// What tells the issuer that who asks for the token is who began, without telling anybody else how to.
    fn challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier.as_bytes()))
    }
}

/// A code, and where it came to.
struct Came {
    code: Zeroizing<String>,
    redirect: String,
}

/// 32 bytes that nobody can guess.
fn made_up() -> Result<String, LoginError> {
    let mut bytes = [0; 32];
    let failed = |_| LoginError::Listen(io::Error::other("the system gives no random bytes"));
    aws_lc_rs::rand::fill(&mut bytes).map_err(failed)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

impl IdentityToken {
    /// Lets a person log in at `issuer`, with what `browser` shows them.
    ///
    /// # Errors
    /// [`TokenError::Login`]; [`TokenError::Malformed`] and [`TokenError::Expired`] for a token that cannot be used.
    ///
    /// # Cancellation
    /// Dropping the future closes the port that waits for the browser.
    pub async fn interactive(
        issuer: &str,
        services: &Services,
        browser: &dyn Browser,
        options: LoginOptions<'_>,
    ) -> Result<Self, TokenError> {
        let token = log_in(issuer, services, browser, options).await;
        Self::new(&token.map_err(|source| TokenError::Login { issuer: issuer.into(), source })?)
    }
}

async fn log_in(
    issuer: &str,
    services: &Services,
    browser: &dyn Browser,
    options: LoginOptions<'_>,
) -> Result<Zeroizing<String>, LoginError> {
    let http = services.http().map_err(LoginError::Issuer)?;
    let places = discover(&http, issuer).await?;
    let secrets = Secrets::new()?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(LoginError::Listen)?;
    let port = listener.local_addr().map_err(LoginError::Listen)?.port();
    let here = format!("http://127.0.0.1:{port}{PATH}");
    let url = page(&places, &secrets, &here, options.client_id)?;
    let waited = async {
        if browser.open(url.as_str()).await {
            let code = callback::wait(&listener, &secrets.state, &places.issuer).await?;
            return Ok(Came { code, redirect: here });
        }
        let url = page(&places, &secrets, BY_HAND, options.client_id)?;
        let code = browser.code(url.as_str()).await.map_err(LoginError::Code)?;
        let code = Zeroizing::new(code.trim().to_owned());
        if code.is_empty() || code.len() > MAX_TEXT {
            return Err(LoginError::Answer("is no code"));
        }
        Ok(Came { code, redirect: BY_HAND.to_owned() })
    };
    let came = tokio::time::timeout(options.patience, waited).await;
    let came = came.map_err(|_| LoginError::TimedOut(options.patience))??;
    let token = exchange(&http, &places, &secrets, &came, options.client_id).await?;
    check(&token, &places.issuer, &secrets.nonce, options.client_id)?;
    Ok(token)
}

/// What the issuer says of itself (OpenID Connect Discovery 1.0).
async fn discover(http: &Http, issuer: &str) -> Result<Discovered, LoginError> {
    let base = issuer.trim_end_matches('/');
    let url = address(&format!("{base}/.well-known/openid-configuration")).map_err(LoginError::Issuer)?;
    let answer = http.ask(Question { url: &url, body: None, bearer: None }).await.map_err(LoginError::Issuer)?;
    let found: Discovered =
        serde_json::from_slice(&answer).map_err(|error| LoginError::Issuer(ServiceError::answer(error)))?;
    if found.issuer.trim_end_matches('/') != base {
        return Err(LoginError::Impostor { got: found.issuer.chars().take(SHOWN).collect() });
    }
    Ok(found)
}

/// Where the person logs in.
fn page(places: &Discovered, secrets: &Secrets, redirect: &str, client_id: &str) -> Result<Url, LoginError> {
    let mut url = address(&places.authorization_endpoint).map_err(LoginError::Issuer)?;
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", client_id)
        .append_pair("redirect_uri", redirect)
        .append_pair("scope", "openid email")
        .append_pair("state", &secrets.state)
        .append_pair("nonce", &secrets.nonce)
        .append_pair("code_challenge", &secrets.challenge())
        .append_pair("code_challenge_method", "S256");
    Ok(url)
}

/// The token for a code. A code counts once, so this is asked once.
async fn exchange(
    http: &Http,
    places: &Discovered,
    secrets: &Secrets,
    came: &Came,
    client_id: &str,
) -> Result<Zeroizing<String>, LoginError> {
    #[derive(Deserialize)]
    struct Given {
        id_token: String,
    }
    let url = address(&places.token_endpoint).map_err(LoginError::Issuer)?;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "authorization_code")
        .append_pair("client_id", client_id)
        .append_pair("code", &came.code)
        .append_pair("redirect_uri", &came.redirect)
        .append_pair("code_verifier", &secrets.verifier)
        .finish();
    let form = Zeroizing::new(form);
    let body = Some(("application/x-www-form-urlencoded", form.as_bytes()));
    let answer = http.once(Question { url: &url, body, bearer: None }).await.map_err(LoginError::Issuer)?;
    let answer = Zeroizing::new(answer);
    let given: Given = serde_json::from_slice(&answer).map_err(|_| LoginError::Token("is not there"))?;
    Ok(Zeroizing::new(given.id_token))
}

/// That a token is the one that was asked for. Who signed it is for the certificate authority to check.
fn check(token: &str, issuer: &str, nonce: &str, client_id: &str) -> Result<(), LoginError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Several(Vec<String>),
    }
    #[derive(Deserialize)]
    struct Said {
        iss: String,
        aud: Audience,
        nonce: Option<String>,
    }
    let payload = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let said: Option<Said> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
    let said = said.ok_or(LoginError::Token("is not one"))?;
    if said.iss != issuer {
        return Err(LoginError::Token("is by another issuer"));
    }
    let ours = match &said.aud {
        Audience::One(one) => one == client_id,
        Audience::Several(several) => several.iter().any(|one| one == client_id),
    };
    if !ours {
        return Err(LoginError::Token("is for another program"));
    }
    if said.nonce.as_deref() != Some(nonce) {
        return Err(LoginError::Token("was given for another log-in"));
    }
    Ok(())
}
