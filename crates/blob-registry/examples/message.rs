//! A registry as a mailbox: messages are artifacts under tags of their own, receipts refer to the messages they are for.
//!
//! Runs against a registry of its own: `cargo run --example message`.
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use std::error::Error;
use std::sync::Arc;

use blob_core::MemorySource;
use blob_registry::{
    Descriptor, ImageManifest, MemoryRegistry, PushBlob, PushManifest, Registry, RegistryExt as _, Repository, Tag,
    media_type,
};
use futures_util::TryStreamExt as _;

const MESSAGE: &str = "application/vnd.acme.message.v1";
const RECEIPT: &str = "application/vnd.acme.receipt.v1";
const CHUNK: &str = "application/vnd.acme.chunk.v1";

/// Stores `chunks` as one message to `recipient`.
async fn send(
    registry: &dyn Registry,
    mailbox: &Repository,
    recipient: &str,
    chunks: &[&[u8]],
) -> Result<Descriptor, Box<dyn Error>> {
    registry.ensure_empty_config(mailbox).await?;
    let mut message = ImageManifest::artifact(MESSAGE, vec![]).with_annotation("to", recipient);
    for (position, chunk) in chunks.iter().enumerate() {
        let mut layer = Descriptor::of(CHUNK, chunk);
        layer.annotations.insert("chunk.index".into(), position.to_string());
        registry.push_blob(mailbox, PushBlob::new(layer.digest, Arc::new(MemorySource::new(chunk.to_vec())))).await?;
        message = message.with_layer(layer);
    }
    let bytes = message.to_bytes();
    let sent = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
    let tag = Tag::new(&format!("inbox-{recipient}-{}", &sent.digest.hex()[..12]))?;
    registry.push_manifest(mailbox, PushManifest::new(media_type::IMAGE_MANIFEST, bytes).with_tags([tag])).await?;
    Ok(sent)
}

/// Says that `message` has come. A receipt has no layers, and still is a whole manifest.
async fn acknowledge(
    registry: &dyn Registry,
    mailbox: &Repository,
    message: &Descriptor,
) -> Result<(), Box<dyn Error>> {
    let receipt = ImageManifest::artifact(RECEIPT, vec![]).with_subject(message.clone()).with_annotation("by", "bob");
    registry.push_manifest(mailbox, PushManifest::new(media_type::IMAGE_MANIFEST, receipt.to_bytes())).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (registry, mailbox) = (MemoryRegistry::new(), Repository::new("post/office")?);
    send(&registry, &mailbox, "bob", &[b"hello, ", b"bob"]).await?;

    let mut inbox = registry.all_tags(&mailbox, Some(100));
    while let Some(tag) = inbox.try_next().await? {
        if !tag.as_str().starts_with("inbox-bob-") {
            continue;
        }
        let found = registry.manifest(&mailbox, &tag.clone().into()).await?;
        let message = ImageManifest::parse(&found.bytes)?;
        let mut text = Vec::new();
        for layer in &message.layers {
            let reader = registry.read_blob(&mailbox, &layer.digest, None).await?;
            text.extend(reader.stream.try_collect::<Vec<_>>().await?.concat());
        }
        println!("{tag}: {}", String::from_utf8_lossy(&text));
        acknowledge(&registry, &mailbox, &found.descriptor).await?;
        let receipts: Vec<_> =
            registry.all_referrers(&mailbox, &found.descriptor.digest, Some(RECEIPT), None).try_collect().await?;
        println!("receipts: {}", receipts.len());
    }
    Ok(())
}
