//! What verification costs: a manifest is signed once, with the services of an instance in this process, and then judged
//! as often as is asked for, each time from the list of referrers on.
//!
//! ```sh
//! cargo run --release --package blob-policy --all-features --example verify_cost -- keyless-v1 1000
//! ```
//!
//! The kinds are `key`, `logged-key`, `keyless-v1` and `keyless-v2`. The processor time of a thousand, less that of none,
//! is a thousand times that of one; `cargo xtask bench verify` does so.

use std::error::Error;
use std::sync::Arc;

use blob_policy::sign::{
    IdentityToken, KeyKind, KeySigner as _, KeyedSigner, KeylessSigner, LocalKey, Services, Signer, Statement, attach,
};
use blob_policy::sigstore::{Identity, KeyPolicy, SigstorePolicy, TrustRoot, TrustedKey};
use blob_policy::{EvidenceLimits, Policy, RegistryEvidence, Subject};
use blob_registry::{Descriptor, ImageManifest, MemoryRegistry, Registry, Repository, media_type};
use blob_testkit::sigstore::{Instance, Person};
use bytes::Bytes;

const ISSUER: &str = "https://issuer.test";
const ANN: &str = "ann@example.com";

type Made = (Arc<dyn Signer>, Box<dyn Policy>);

/// Who signs, and the policy that is content with it.
fn parties(kind: &str, instance: &Instance) -> Result<Made, Box<dyn Error>> {
    let root = TrustRoot::from_json(instance.trusted_root().as_bytes())?;
    let services =
        |v2: bool| Services::from_signing_config(instance.signing_config(v2).as_bytes(), None).map_err(Box::new);
    let key = Arc::new(LocalKey::generate(KeyKind::EcdsaP256)?);
    let trusted = vec![TrustedKey::new(key.public_key().clone())];
    Ok(match kind {
        "key" => (Arc::new(KeyedSigner::new(key)), Box::new(KeyPolicy::without_transparency_log(trusted)?)),
        "logged-key" => {
            let signer = KeyedSigner::new(key).with_services(services(false)?, root.clone());
            (Arc::new(signer), Box::new(KeyPolicy::logged(root, trusted)?))
        }
        "keyless-v1" | "keyless-v2" => {
            let token = Arc::new(IdentityToken::new(&Person::email(ISSUER, ANN).token())?);
            let signer = KeylessSigner::new(services(kind == "keyless-v2")?, root.clone(), token)?;
            (Arc::new(signer), Box::new(SigstorePolicy::new(root, vec![Identity::email(ANN, ISSUER)?])?))
        }
        other => return Err(format!("{other} is none of key, logged-key, keyless-v1, keyless-v2").into()),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(kind), Some(times)) = (words.next(), words.next()) else {
        return Err("two words: a kind, a number".into());
    };
    let instance = Instance::start()?;
    let (signer, policy) = parties(&kind, &instance)?;
    let manifest = ImageManifest::artifact("application/vnd.example.archive", vec![Descriptor::empty()]);
    let manifest = Bytes::from(manifest.to_bytes());
    let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &manifest);
    let (registry, repository) = (Arc::new(MemoryRegistry::new()), Repository::new("acme/app")?);
    let bundle = signer.sign(&Statement::signature(descriptor.digest)).await?;
    attach(registry.as_ref(), &repository, &descriptor, &bundle).await?;
    for _ in 0..times.parse::<u32>()? {
        let from: Arc<dyn Registry> = registry.clone();
        let evidence = RegistryEvidence::new(from, repository.clone(), descriptor.digest, EvidenceLimits::default());
        policy.evaluate(&Subject::new(&descriptor, &manifest, &evidence)?).await?;
    }
    Ok(())
}
