//! Identity tokens (OpenID Connect): who signs, as somebody vouches for it.

mod ambient;
mod holder;
mod login;

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use blob_core::plain;
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

pub use self::ambient::{AmbientToken, Variables};
pub(super) use self::holder::Holder;
pub use self::login::{Browser, LoginError, LoginOptions};
use super::services::ServiceError;

/// The largest token that is read: 64 KiB.
pub const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// The audience of tokens for Fulcio.
pub const AUDIENCE: &str = "sigstore";

/// A token that proves an identity to a certificate authority: a secret, erased when dropped, never shown by `Debug`.
#[derive(Clone)]
pub struct IdentityToken {
    secret: Zeroizing<String>,
    identity: String,
    issuer: String,
    expires: Timestamp,
    holder: Option<Holder>,
}

/// There is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file could not be read.
    #[error("reading the identity token {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is not a JSON Web Token with what is needed.
    #[error("the identity token is malformed: {0}")]
    Malformed(&'static str),
    /// It counts no longer.
    #[error("the identity token expired at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// No system that gives tokens was recognised.
    #[error(
        "no identity token: not in GitHub Actions, GitLab CI, Buildkite or CircleCI, and SIGSTORE_ID_TOKEN is not set"
    )]
    NotFound,
    /// The system was recognised, and does not give tokens to this job.
    #[error("{system} gives this job no identity token: {hint}")]
    NotAllowed {
        /// The system.
        system: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Asking for one failed.
    #[error("asking {system} for an identity token")]
    Ask {
        /// The system.
        system: &'static str,
        /// The cause.
        source: ServiceError,
    },
    /// The program that gives tokens failed.
    #[error("running {program:?} for an identity token: {reason}")]
    Program {
        /// The program.
        program: String,
        /// What went wrong.
        reason: String,
    },
    /// Logging in failed.
    #[error("logging in at {issuer}")]
    Login {
        /// Where.
        issuer: String,
        /// The cause.
        source: LoginError,
    },
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: Option<String>,
    email: Option<String>,
    exp: i64,
}

impl IdentityToken {
    /// Reads a JSON Web Token. Its signature is for the certificate authority to check.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], [`TokenError::Expired`].
    pub fn new(token: &str) -> Result<Self, TokenError> {
        let token = token.trim();
        if token.len() as u64 > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed("it is longer than 64 KiB"));
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [_, payload, _] = parts[..] else { return Err(TokenError::Malformed("it has not three parts")) };
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed("it is not base64"))?;
        let claims: Claims =
            serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed("iss or exp is missing"))?;
        let identity = claims.email.or(claims.sub).filter(|identity| !identity.is_empty());
        let identity = identity.ok_or(TokenError::Malformed("it names nobody"))?;
        let expires = Timestamp::from_second(claims.exp).map_err(|_| TokenError::Malformed("exp is not a time"))?;
        if expires <= Timestamp::now() {
            return Err(TokenError::Expired { at: expires });
        }
        let holder = Holder::read(&payload);
        Ok(Self { secret: Zeroizing::new(token.into()), identity, issuer: claims.iss, expires, holder })
    }

    /// Reads the file at `path`, such as a projected token of Kubernetes; blocks.
    ///
    /// # Errors
    /// [`TokenError::Read`], [`TokenError::Malformed`], [`TokenError::Expired`].
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let read = |source| TokenError::Read { path: path.to_owned(), source };
        let mut text = Zeroizing::new(String::new());
        let file = plain::open(path).map_err(read)?;
        file.take(MAX_TOKEN_BYTES + 1).read_to_string(&mut text).map_err(read)?;
        Self::new(&text)
    }

    /// Whom it is for: an e-mail address, else the subject. Not proved, until a certificate says so.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Who vouches for that. Not proved, either.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Until when it counts.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// What a certificate for it will say, if that is known.
    pub(super) fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    pub(super) fn expose(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityToken")
            .field("identity", &self.identity)
            .field("issuer", &self.issuer)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Gives tokens: asked anew for every signature, since tokens last for minutes.
#[async_trait]
pub trait TokenSource: fmt::Debug + Send + Sync {
    /// A token that counts now.
    ///
    /// # Errors
    /// [`TokenError`].
    async fn token(&self) -> Result<IdentityToken, TokenError>;
}

#[async_trait]
impl TokenSource for IdentityToken {
    async fn token(&self) -> Result<IdentityToken, TokenError> {
        if self.expires <= Timestamp::now() {
            return Err(TokenError::Expired { at: self.expires });
        }
        Ok(self.clone())
    }
}

/// How long a program may take to give a token.
pub(super) const PROGRAM_LIMIT: Duration = Duration::from_mins(1);
