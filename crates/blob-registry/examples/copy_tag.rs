//! Copies what a tag points at from one registry to another: `copy_tag localhost:5000/a:v1 localhost:5001/b:v2`.
//!
//! Without arguments it starts two servers in this process and copies between them.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::Arc;

use blob_core::{Digest, MemorySource};
use blob_registry::client::{DockerConfig, RegistryClient};
use blob_registry::{
    BlobSource, EMPTY_JSON, ImageManifest, MemoryRegistry, Outline, PushBlob, PushManifest, Reference, Registry,
    Repository, Server, ServerHandle, Tag, media_type,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [from, to] => copy(&from.parse()?, &to.parse()?).await,
        [] => {
            let (full, empty) = (serve(true).await?, serve(false).await?);
            let from = format!("{}/demo/a:v1", full.local_addr()).parse()?;
            let to = format!("{}/demo/b:v2", empty.local_addr()).parse()?;
            copy(&from, &to).await
        }
        _ => Err("expected two references, host/repository:tag".into()),
    }
}

async fn copy(from: &Reference, to: &Reference) -> Result<()> {
    let source: Arc<dyn Registry> = Arc::new(connect(from.host())?);
    let target = connect(to.host())?;
    let tag = to.tag().ok_or("the second reference needs a tag")?;

    let wanted = from.target().ok_or("the first reference needs a tag or a digest")?;
    let manifest = source.manifest(from.repository(), &wanted).await?;
    let outline = Outline::parse(&manifest.bytes)?;
    if !outline.manifests.is_empty() {
        return Err("this example copies single manifests, not indexes".into());
    }
    for blob in outline.blobs {
        let content = BlobSource::new(Arc::clone(&source), from.repository().clone(), blob.digest, blob.size);
        let how = target.push_blob(to.repository(), PushBlob::new(blob.digest, Arc::new(content))).await?;
        println!("{} {how:?}", blob.digest);
    }
    let push = PushManifest::new(manifest.descriptor.media_type, manifest.bytes).with_tags([tag.clone()]);
    let pushed = target.push_manifest(to.repository(), push).await?;
    println!("{to} is {}", pushed.digest);
    Ok(())
}

fn connect(host: &str) -> Result<RegistryClient> {
    Ok(RegistryClient::builder(host).credentials(DockerConfig::from_env()?).build()?)
}

/// A server on a free port, with one artifact in it or empty.
async fn serve(full: bool) -> Result<ServerHandle> {
    let registry = MemoryRegistry::new();
    if full {
        let repository = Repository::new("demo/a")?;
        let config = PushBlob::new(Digest::sha256_of(EMPTY_JSON), Arc::new(MemorySource::new(EMPTY_JSON)));
        registry.push_blob(&repository, config).await?;
        let manifest = ImageManifest::artifact("application/vnd.example", vec![]).to_bytes();
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest).with_tags([Tag::new("v1")?]);
        registry.push_manifest(&repository, push).await?;
    }
    Ok(Server::builder(Arc::new(registry)).bind("127.0.0.1:0").await?)
}
