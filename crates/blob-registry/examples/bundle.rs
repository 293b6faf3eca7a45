//! Attaches a signature bundle to a manifest, and finds it again as whoever verifies would.
//!
//! Runs against a registry of its own: `cargo run --example bundle`.
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use std::error::Error;
use std::sync::Arc;

use blob_core::MemorySource;
use blob_registry::client::RegistryClient;
use blob_registry::{
    Descriptor, ImageManifest, MemoryRegistry, PushBlob, PushManifest, Registry as _, RegistryExt as _, Repository,
    Server, Tag, media_type,
};
use futures_util::TryStreamExt as _;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await?;
    let registry = RegistryClient::builder(server.local_addr().to_string()).build()?;
    let repository = Repository::new("team/app")?;

    // What is signed: any manifest.
    registry.ensure_empty_config(&repository).await?;
    let app = ImageManifest::artifact("application/vnd.acme.app", vec![]).to_bytes();
    let subject = Descriptor::of(media_type::IMAGE_MANIFEST, &app);
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, app).with_tags([Tag::new("v1")?]);
    registry.push_manifest(&repository, push).await?;

    // The bundle is a layer of a manifest whose subject is the other one.
    let bundle = br#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#.to_vec();
    let layer = Descriptor::of(BUNDLE, &bundle);
    registry.push_blob(&repository, PushBlob::new(layer.digest, Arc::new(MemorySource::new(bundle)))).await?;
    let attached = ImageManifest::artifact(BUNDLE, vec![layer])
        .with_subject(subject.clone())
        .with_annotation("org.opencontainers.image.created", "2026-01-01T00:00:00Z");
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, attached.to_bytes());
    registry.push_manifest(&repository, push).await?;

    println!("referrers are kept by: {:?}", registry.referrers_support(&repository).await?);
    let mut bundles = registry.all_referrers(&repository, &subject.digest, Some(BUNDLE), None);
    while let Some(found) = bundles.try_next().await? {
        let manifest = ImageManifest::parse(&registry.manifest(&repository, &found.digest.into()).await?.bytes)?;
        // A list of referrers is a claim; the subject in the manifest is what counts.
        assert_eq!(manifest.subject.map(|named| named.digest), Some(subject.digest));
        println!(
            "{} has the bundle {} of {} bytes",
            subject.digest, manifest.layers[0].digest, manifest.layers[0].size
        );
    }
    Ok(())
}
