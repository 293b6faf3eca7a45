//! Signing with a key that never leaves a service: the service signs digests, and this side knows the public key.
//!
//! The service here is a stand-in in this process; with a real one, `Service::sign_digest` is a request that is awaited.

#![allow(clippy::print_stdout)] // an example shows what it made

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest::{Digest as Sha2, SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use blob_core::Digest;
use blob_policy::sign::{KeyError, KeyKind, KeySigner, KeyedSigner, Signer as _, Statement};
use blob_policy::sigstore::PublicKey;

/// What the vendor's client library gives.
struct Service(EcdsaKeyPair);

impl Service {
    fn sign_digest(&self, sha256: Sha2) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(self.0.sign_digest(&sha256)?.as_ref().to_vec())
    }
}

/// The adapter: a key in the service, and its public half, which was asked for once.
struct ServiceKey {
    service: Service,
    public: PublicKey,
}

impl std::fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceKey").field("id", &self.public.id()).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeySigner for ServiceKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn kind(&self) -> KeyKind {
        KeyKind::EcdsaP256
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signed = self.service.sign_digest(digest(&SHA256, message));
        signed.map_err(|source| KeyError::Failed { action: "asking the key service for a signature", source })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = Service(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?);
    let public = PublicKey::from_der(service.0.public_key().as_der()?.as_ref())?;
    let signer = KeyedSigner::new(Arc::new(ServiceKey { service, public }));
    let bundle = signer.sign(&Statement::signature(Digest::sha256_of(b"a manifest"))).await?;
    println!("{}", String::from_utf8_lossy(bundle.bytes()));
    Ok(())
}
