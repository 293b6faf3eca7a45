//! Many small things at a time: `crowd put|get HOST/REPOSITORY COUNT` moves blobs of 1 KiB, `crowd kind HOST/REPOSITORY@DIGEST`
//! finds out what a digest names, `crowd attach HOST/REPOSITORY@DIGEST NUMBER [LOCKS]` attaches a referrer (processes that
//! share the directory LOCKS take turns), `crowd referrers HOST/REPOSITORY@DIGEST` counts them.
//!
//! With the feature `oci-client`, `peer-put` and `peer-get` move the blobs through that crate, for comparisons.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::Arc;

use blob_core::{Digest, MemorySource};
use blob_registry::client::RegistryClient;
use blob_registry::{
    Descriptor, ImageManifest, PageRequest, PushBlob, PushManifest, Reference, Registry as _, RegistryExt as _, Target,
    media_type, resolve_any,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Transfers at a time.
const AT_A_TIME: usize = 16;

const USAGE: &str = "usage: crowd put|get HOST/REPOSITORY COUNT | kind|referrers HOST/REPOSITORY@DIGEST | \
                     attach HOST/REPOSITORY@DIGEST NUMBER [LOCKS]";

type Done = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["put", place, count] => put(&place.parse()?, count.parse()?).await,
        ["get", place, count] => get(&place.parse()?, count.parse()?).await,
        ["kind", place] => kind(&place.parse()?).await,
        ["attach", place, number] => attach(&place.parse()?, number, None).await,
        ["attach", place, number, locks] => attach(&place.parse()?, number, Some(locks)).await,
        ["referrers", place] => referrers(&place.parse()?).await,
        #[cfg(feature = "oci-client")]
        ["peer-put", place, count] => peer::put(&place.parse()?, count.parse()?).await,
        #[cfg(feature = "oci-client")]
        ["peer-get", place, count] => peer::get(&place.parse()?, count.parse()?).await,
        _ => Err(USAGE.into()),
    }
}

/// The content of blob number `number`: 1 KiB, each another one.
fn content(number: u32) -> Vec<u8> {
    format!("{number:08}").repeat(128).into_bytes()
}

async fn put(place: &Reference, count: u32) -> Done {
    let client = RegistryClient::builder(place.host()).build()?;
    client.will_push(place.repository());
    let pushes = stream::iter(0..count).map(|number| {
        let content = content(number);
        let push = PushBlob::new(Digest::sha256_of(&content), Arc::new(MemorySource::new(content)));
        client.push_blob(place.repository(), push)
    });
    let pushed: Vec<_> = pushes.buffer_unordered(AT_A_TIME).try_collect().await?;
    println!("{} blobs", pushed.len());
    Ok(())
}

async fn get(place: &Reference, count: u32) -> Done {
    let client = RegistryClient::builder(place.host()).build()?;
    let client = &client;
    let reads = stream::iter(0..count).map(|number| async move {
        let digest = Digest::sha256_of(&content(number));
        let reader = client.read_blob(place.repository(), &digest, None).await?;
        // The stream ends in an error unless all bytes have the digest.
        let pieces: Vec<_> = reader.stream.try_collect().await?;
        Ok::<_, Box<dyn Error>>(pieces.concat().len())
    });
    let read: Vec<usize> = reads.buffer_unordered(AT_A_TIME).try_collect().await?;
    println!("{} bytes", read.iter().sum::<usize>());
    Ok(())
}

async fn kind(place: &Reference) -> Done {
    let Some(Target::Digest(digest)) = place.target() else { return Err(USAGE.into()) };
    let client = RegistryClient::builder(place.host()).build()?;
    println!("{:?}", resolve_any(&client, place.repository(), &digest, None).await?);
    Ok(())
}

async fn attach(place: &Reference, number: &str, locks: Option<&str>) -> Done {
    let Some(Target::Digest(digest)) = place.target() else { return Err(USAGE.into()) };
    let mut builder = RegistryClient::builder(place.host());
    if let Some(locks) = locks {
        builder = builder.lock_dir(locks);
    }
    let (client, repository) = (builder.build()?, place.repository());
    client.ensure_empty_config(repository).await?;
    let mut note = ImageManifest::artifact("application/vnd.example.note", vec![]).with_annotation("number", number);
    note.subject = Some(Descriptor::new(media_type::IMAGE_MANIFEST.to_owned(), digest, 2));
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, note.to_bytes());
    println!("{}", client.push_manifest(repository, push).await?.digest);
    Ok(())
}

async fn referrers(place: &Reference) -> Done {
    let Some(Target::Digest(digest)) = place.target() else { return Err(USAGE.into()) };
    let client = RegistryClient::builder(place.host()).build()?;
    let found = client.referrers(place.repository(), &digest, None, &PageRequest::first()).await?;
    println!("{}", found.items.len());
    Ok(())
}

#[cfg(feature = "oci-client")]
mod peer {
    use blob_core::Digest;
    use blob_registry::Reference;
    use futures_util::{StreamExt as _, TryStreamExt as _, stream};
    use oci_client::RegistryOperation;
    use oci_client::client::{Client, ClientConfig, ClientProtocol};
    use oci_client::errors::OciDistributionError;
    use oci_client::secrets::RegistryAuth;

    use super::{AT_A_TIME, Done, content};

    async fn client(
        place: &Reference,
        operation: RegistryOperation,
    ) -> Result<(Client, oci_client::Reference), OciDistributionError> {
        let config =
            ClientConfig { protocol: ClientProtocol::Http, use_monolithic_push: true, ..ClientConfig::default() };
        let client = Client::new(config);
        let (host, repository) = (place.host().to_owned(), place.repository().to_string());
        let place = oci_client::Reference::with_tag(host, repository, "latest".to_owned());
        client.auth(&place, &RegistryAuth::Anonymous, operation).await?;
        Ok((client, place))
    }

    pub(super) async fn put(place: &Reference, count: u32) -> Done {
        let (client, place) = client(place, RegistryOperation::Push).await?;
        let (client, place) = (&client, &place);
        let pushes = stream::iter(0..count).map(|number| async move {
            let (content, digest) = (content(number), Digest::sha256_of(&content(number)).to_string());
            client.push_blob(place, content, &digest).await.map(drop)
        });
        let pushed: Vec<()> = pushes.buffer_unordered(AT_A_TIME).try_collect().await?;
        println!("{} blobs", pushed.len());
        Ok(())
    }

    pub(super) async fn get(place: &Reference, count: u32) -> Done {
        let (client, place) = client(place, RegistryOperation::Pull).await?;
        let (client, place) = (&client, &place);
        let reads = stream::iter(0..count).map(|number| async move {
            let digest = Digest::sha256_of(&content(number)).to_string();
            let pieces: Vec<_> = client.pull_blob_stream(place, digest.as_str()).await?.stream.try_collect().await?;
            Ok::<_, Box<dyn std::error::Error>>(pieces.concat().len())
        });
        let read: Vec<usize> = reads.buffer_unordered(AT_A_TIME).try_collect().await?;
        println!("{} bytes", read.iter().sum::<usize>());
        Ok(())
    }
}
