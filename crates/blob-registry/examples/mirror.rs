//! Mirrors a repository, every tag of it with its signatures, into a directory of image layouts, and serves that
//! directory in front of the original: `mirror localhost:5000/team/assets DIRECTORY`.
//!
//! Without arguments it mirrors a registry in this process and stops.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use blob_core::{Digest, MemorySource};
use blob_registry::client::{DockerConfig, RegistryClient};
use blob_registry::filter::{Log, ReadOnly};
use blob_registry::{
    CopyOptions, EMPTY_JSON, ImageManifest, LayoutStore, MemoryRegistry, PageRequest, Place, PushBlob, PushManifest,
    Registry, Repository, Server, ServerHandle, Tag, Unify, UnifyOptions, copy, media_type,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [from, directory] => {
            let (host, repository) = from.split_once('/').ok_or("expected host/repository")?;
            let client = RegistryClient::builder(host).credentials(DockerConfig::from_env()?).build()?;
            let origin = Place::new(Arc::new(client), Repository::new(repository)?);
            let server = serve(&origin, Path::new(directory)).await?;
            println!("serving http://{}/v2/", server.local_addr());
            std::future::pending().await
        }
        [] => {
            let directory = std::env::temp_dir().join(format!("mirror-{}", std::process::id()));
            let server = serve(&demo().await?, &directory).await?;
            println!("served http://{}/v2/", server.local_addr());
            server.shutdown().await;
            Ok(std::fs::remove_dir_all(directory)?)
        }
        _ => Err("expected host/repository and a directory".into()),
    }
}

/// Brings the mirror up to date and serves it: what is not in it comes from the origin and is kept.
async fn serve(origin: &Place, directory: &Path) -> Result<ServerHandle> {
    let mirror: Arc<dyn Registry> = Arc::new(LayoutStore::open(directory).await?);
    let target = Place::new(Arc::clone(&mirror), origin.repository.clone());
    let mut page = PageRequest::first();
    loop {
        let tags = origin.registry.tags(&origin.repository, &page).await?;
        for tag in tags.items {
            let mut options = CopyOptions::default();
            options.referrers = true;
            options.tags.push(tag.clone());
            let report = copy(origin, &tag.clone().into(), &target, &options).await?;
            println!("{tag}: {} manifests, {} blobs copied", report.manifests_copied, report.blobs_copied);
        }
        let Some(next) = tags.next else { break };
        page = PageRequest::first().after(next);
    }
    let both = Unify::new(vec![mirror, Arc::clone(&origin.registry)], UnifyOptions::cache());
    let front = Log::new(Arc::new(ReadOnly::new(Arc::new(both))));
    Ok(Server::builder(Arc::new(front)).bind("127.0.0.1:0").await?)
}

/// A registry with one artifact in it.
async fn demo() -> Result<Place> {
    let (registry, repository) = (MemoryRegistry::new(), Repository::new("demo/a")?);
    let config = PushBlob::new(Digest::sha256_of(EMPTY_JSON), Arc::new(MemorySource::new(EMPTY_JSON)));
    registry.push_blob(&repository, config).await?;
    let manifest = ImageManifest::artifact("application/vnd.example", vec![]).to_bytes();
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest).with_tags([Tag::new("v1")?]);
    registry.push_manifest(&repository, push).await?;
    Ok(Place::new(Arc::new(registry), repository))
}
