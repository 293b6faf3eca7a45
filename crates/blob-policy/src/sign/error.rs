//! Why something was not signed, and what to do about it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use blob_core::Digest;
use blob_registry::RegistryError;

use super::services::{ServiceError, ServiceKind};
use super::token::TokenError;
use crate::sigstore::BundleError;

/// A cause of any type.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// A private key could not be read, made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be read.
    #[error("reading the private key {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is larger than any key.
    #[error("the private key file has more than {limit} bytes")]
    TooLarge {
        /// Bytes at most.
        limit: u64,
    },
    /// There is no block of a private key in it.
    #[error("no private key was found, {found}")]
    NotFound {
        /// What was found instead, for a person.
        found: String,
    },
    /// The block is not what its label says.
    #[error("the {label:?} block is malformed")]
    Malformed {
        /// The label of the PEM block.
        label: String,
        /// The cause.
        source: Cause,
    },
    /// The key is encrypted, and no password was given.
    #[error("the private key is encrypted, and no password was given")]
    PasswordRequired,
    /// The password does not open it, or it was damaged.
    #[error("the password does not open the private key, or the key was damaged")]
    WrongPassword,
    /// It can be read, but what it signs could not be verified.
    #[error("{kind} is not supported: {hint}")]
    Unsupported {
        /// What kind of key or encryption it is.
        kind: String,
        /// What to use instead.
        hint: &'static str,
    },
    /// Making a key, encrypting it or signing with it failed.
    #[error("{action} failed")]
    Failed {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: Cause,
    },
}

/// A bundle was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The certificate authority certified somebody else than the token is for.
    #[error("the token is for {wanted}, and the certificate that came for it names {certified}")]
    Holder {
        /// Who the token is for.
        wanted: String,
        /// Who the certificate is for.
        certified: String,
    },
    /// The key did not sign.
    #[error("signing with the key {id:.16}")]
    Key {
        /// The key's identifier: hexadecimal SHA-256 of its public half.
        id: String,
        /// The cause.
        source: KeyError,
    },
    /// There is no identity token.
    #[error("getting an identity token")]
    Token(#[source] TokenError),
    /// A service failed.
    #[error("asking the {kind} {url}")]
    Service {
        /// What kind of service.
        kind: ServiceKind,
        /// Which.
        url: String,
        /// The cause.
        source: ServiceError,
    },
    /// The bundle could not be put together.
    #[error("putting the bundle together")]
    Bundle(#[source] Cause),
    /// The bundle that was made does not verify, so it was thrown away. The key signer, or a service, answered wrongly.
    #[error("the bundle that was made does not verify, and is thrown away")]
    SelfCheck(#[source] BundleError),
    /// What was asked for cannot be made with what is configured.
    #[error("{0}")]
    Options(String),
}

/// A bundle was made, and could not be attached to its subject.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The bundle is about another manifest.
    #[error("the bundle is about {got}, not about {expected}")]
    Subject {
        /// The manifest to attach it to.
        expected: Digest,
        /// The manifest that it is about.
        got: Digest,
    },
    /// The registry refused.
    #[error("{action}")]
    Registry {
        /// What was being done.
        action: String,
        /// The cause.
        source: RegistryError,
    },
}

impl KeyError {
    pub(super) fn malformed(label: &str, source: impl Into<Cause>) -> Self {
        Self::Malformed { label: label.into(), source: source.into() }
    }
}
