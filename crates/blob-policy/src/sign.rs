//! Signing: a statement about a manifest becomes a Sigstore bundle, and the bundle a referrer of the manifest.
//!
//! A [`Signer`] makes bundles. [`KeyedSigner`] signs with a key: a [`LocalKey`] from a file, or any [`KeySigner`], which
//! is where a key management service plugs in. [`KeylessSigner`] signs with a certificate for an identity, which an
//! [`IdentityToken`] proves. [`Services`] names the logs and authorities that are asked. A bundle is verified before it
//! is handed out, so what cannot be verified is never published. [`attach`] writes the referrer as cosign 3 does.
//!
//! ```
//! use std::sync::Arc;
//! use blob_core::Digest;
//! use blob_policy::sign::{KeyKind, KeyedSigner, LocalKey, Signer, Statement};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = LocalKey::generate(KeyKind::EcdsaP256)?;
//! let signer = KeyedSigner::new(Arc::new(key));
//! let statement = Statement::signature(Digest::sha256_of(b"a manifest")).annotation("release", "1.2.3");
//! let bundle = signer.sign(&statement).await?;
//! assert_eq!(bundle.predicate_type(), Some("https://sigstore.dev/cosign/sign/v1"));
//! # Ok(())
//! # }
//! ```

mod attach;
mod bundle;
mod cosign_key;
mod equivalence;
mod error;
mod key;
mod keyed;
mod keyless;
mod local;
mod pem;
mod services;
mod statement;
mod token;

pub use attach::{Attached, attach};
pub use bundle::{SignedBundle, Signer};
pub use equivalence::Equivalence;
pub use error::{AttachError, KeyError, SignError};
pub use key::{KeyKind, KeySigner};
pub use keyed::KeyedSigner;
pub use keyless::KeylessSigner;
pub use local::LocalKey;
pub use pem::MAX_KEY_FILE_BYTES;
pub use services::{
    LogVersion, MAX_ANSWER_BYTES, MAX_SIGNING_CONFIG_BYTES, ServiceError, ServiceKind, Services, SigningConfigError,
};
pub use statement::{MAX_PREDICATE_BYTES, Statement, StatementError};
pub use token::{
    AUDIENCE, AmbientToken, Browser, IdentityToken, LoginError, LoginOptions, MAX_TOKEN_BYTES, TokenError, TokenSource,
    Variables,
};
