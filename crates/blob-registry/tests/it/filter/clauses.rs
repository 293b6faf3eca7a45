//! Every filter keeps the contract of the trait, apart from what it is there to refuse.

use std::collections::BTreeSet;

use blob_registry::conformance::{Capability, capabilities, fresh_repository};
use blob_registry::{Server, UploadId};

use super::*;

macro_rules! kept {
    ($name:ident, $wrap:expr) => {
        kept! { $name, $wrap, [] }
    };
    ($name:ident, $wrap:expr, [$($refused:ident: $says:expr),*]) => {
        mod $name {
            use super::*;
            blob_registry::registry_conformance!(
                async || Arc::new($wrap(memory())) as Arc<dyn Registry>,
                refused: [$($refused: $says),*]
            );
        }
    };
}

kept!(
    immutable,
    Immutable::new,
    [
        tags_move_and_manifests_stay: "a good manifest is taken: Code { action: \"pointing tag",
        conditions_are_honoured_or_refused: "code: Denied"
    ]
);
kept!(prefix, |inner| Prefix::new(inner, repository("some/where")));
kept!(select, |inner| Select::new(inner, |name: &Repository| name.as_str().starts_with("conformance/")));
kept!(access, |inner| Access::new(inner, |_, _| Ok(())));
kept!(limit, |inner| Limit::new(inner, Sizes::default()));
kept!(log, Log::new);
kept!(delegate, |inner| Delegate::new(inner).with(repository("far"), memory()));
kept!(
    delegated,
    |inner| Prefix::new(Arc::new(Delegate::new(memory()).with(repository("far"), inner)), repository("far")),
    [repositories_are_listed: "left == right"]
);
kept!(quota, |inner: Arc<dyn Registry>| quota(inner, None, None));
kept!(quota_with_room, |inner: Arc<dyn Registry>| quota(inner, Some(100 << 20), Some(1 << 30)));
kept!(fault, |inner| Fault::new(inner, Faults::seeded(1)));
kept!(stacked, |inner| {
    let inner = Limit::new(Arc::new(Log::new(inner)), Sizes::default());
    let inner = Access::new(Arc::new(inner), |_, _| Ok(()));
    Prefix::new(Arc::new(Select::new(Arc::new(inner), |_| true)), repository("deep"))
});

mod read_only {
    use async_trait::async_trait;
    use blob_core::ByteSource;
    use blob_registry::{
        BlobReader, Descriptor, Manifest, Page, PushBlob, PushManifest, PushedBlob, PushedManifest, Tag, Upload,
    };

    use super::*;

    /// Reads through the filter what was written beside it: so the filter is seen to change no answer.
    #[derive(Debug)]
    struct Beside {
        reads: ReadOnly,
        writes: Arc<dyn Registry>,
    }

    macro_rules! forward {
        ($($side:ident . $call:ident ($($name:ident: $type:ty),*) -> $answer:ty;)*) => {
            #[async_trait]
            impl Registry for Beside {
                $(async fn $call(&self, $($name: $type),*) -> Result<$answer> {
                    self.$side.$call($($name),*).await
                })*
            }
        };
    }

    forward! {
        reads.resolve(repository: &Repository, target: &Target) -> Descriptor;
        reads.manifest(repository: &Repository, target: &Target) -> Manifest;
        reads.stat_blob(repository: &Repository, digest: &Digest) -> u64;
        reads.read_blob(
            repository: &Repository, digest: &Digest, range: Option<std::ops::Range<u64>>
        ) -> BlobReader;
        reads.local_blob(repository: &Repository, digest: &Digest) -> Option<Arc<dyn ByteSource>>;
        reads.tags(repository: &Repository, page: &PageRequest) -> Page<Tag>;
        reads.referrers(
            repository: &Repository, subject: &Digest, kind: Option<&str>, page: &PageRequest
        ) -> Page<Descriptor>;
        reads.repositories(page: &PageRequest) -> Page<Repository>;
        writes.push_blob(repository: &Repository, blob: PushBlob) -> PushedBlob;
        writes.start_upload(repository: &Repository) -> Box<dyn Upload>;
        writes.resume_upload(repository: &Repository, id: &UploadId) -> Box<dyn Upload>;
        writes.mount_blob(repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Mount;
        writes.push_manifest(repository: &Repository, manifest: PushManifest) -> PushedManifest;
        writes.delete_manifest(repository: &Repository, digest: &Digest) -> ();
        writes.delete_blob(repository: &Repository, digest: &Digest) -> ();
        writes.delete_tag(repository: &Repository, tag: &Tag) -> ();
    }

    blob_registry::registry_conformance!(async || {
        let writes = memory();
        let reads = ReadOnly::new(Arc::clone(&writes));
        Arc::new(Beside { reads, writes }) as Arc<dyn Registry>
    });
}

/// What each filter leaves of what a store can do.
#[tokio::test]
async fn filters_take_away_what_they_say_and_nothing_else() {
    let without = |missing: &[Capability]| -> BTreeSet<Capability> {
        Capability::ALL.into_iter().filter(|one| !missing.contains(one)).collect()
    };
    let deletions = [Capability::TagDeletion, Capability::ManifestDeletion, Capability::BlobDeletion];
    let stacked: Arc<dyn Registry> = Arc::new(Log::new(Arc::new(Limit::new(memory(), Sizes::default()))));
    let named = |name: &Repository| name.as_str().starts_with("conformance/");
    let delegate = Delegate::new(memory()).with(repository("far"), memory());
    let delegated = Prefix::new(Arc::new(delegate.clone()), repository("far"));
    let cases: [(&str, Arc<dyn Registry>, BTreeSet<Capability>); 11] = [
        ("delegate", Arc::new(delegate), without(&[])),
        ("delegated", Arc::new(delegated), without(&[])),
        ("quota", Arc::new(quota(memory(), Some(1 << 20), None)), without(&[])),
        ("fault", Arc::new(Fault::new(memory(), Faults::seeded(2))), without(&[])),
        ("immutable", Arc::new(Immutable::new(memory())), without(&deletions)),
        ("prefix", Arc::new(Prefix::new(memory(), repository("some/where"))), without(&[])),
        ("select", Arc::new(Select::new(memory(), named)), without(&[])),
        ("access", Arc::new(Access::new(memory(), |_, _| Ok(()))), without(&[])),
        ("limit", Arc::new(Limit::new(memory(), Sizes::default())), without(&[])),
        ("log", Arc::new(Log::new(memory())), without(&[])),
        ("stacked", Arc::new(Immutable::new(stacked)), without(&deletions)),
    ];
    for (name, registry, expected) in cases {
        assert_eq!(capabilities(&*registry, &fresh_repository()).await, expected, "{name}");
        // What cannot be done is refused as that, over the wire too.
        let server = Server::builder(registry).bind("127.0.0.1:0").await.unwrap();
        let client = crate::client::client(server.local_addr());
        assert_eq!(capabilities(&client, &fresh_repository()).await, expected, "{name}, served");
    }
}

/// A registry that is only read can do nothing that the kit tries by writing, and says so by name.
#[tokio::test]
async fn read_only_registries_take_nothing() {
    let (registry, name) = (ReadOnly::new(memory()), fresh_repository());
    let digest = put(&*memory(), "x", "content").await;
    let refusals = [
        ("start", registry.start_upload(&name).await.map(|_| ()).unwrap_err()),
        ("resume", registry.resume_upload(&name, &UploadId::new("x")).await.map(|_| ()).unwrap_err()),
        ("mount", registry.mount_blob(&name, &digest, None).await.map(|_| ()).unwrap_err()),
        ("blob", registry.push_blob(&name, blob("content")).await.map(|_| ()).unwrap_err()),
        ("manifest", registry.push_manifest(&name, artifact("x", None)).await.map(|_| ()).unwrap_err()),
        ("delete tag", registry.delete_tag(&name, &tag("v1")).await.unwrap_err()),
        ("delete manifest", registry.delete_manifest(&name, &digest).await.unwrap_err()),
        ("delete blob", registry.delete_blob(&name, &digest).await.unwrap_err()),
    ];
    for (what, error) in refusals {
        assert!(error.is_unsupported(), "{what}: {error:?}");
    }
    registry.repositories(&PageRequest::first()).await.unwrap();
}
