//! Every filter keeps the contract of the trait, apart from what it is there to refuse.

use super::*;

macro_rules! kept {
    ($name:ident, $wrap:expr) => {
        kept! { $name, $wrap, [] }
    };
    ($name:ident, $wrap:expr, [$($refused:ident),*]) => {
        mod $name {
            use super::*;
            blob_registry::registry_conformance!(
                async || Arc::new($wrap(memory())) as Arc<dyn Registry>,
                refused: [$($refused),*]
            );
        }
    };
}

kept!(immutable, Immutable::new, [tags_move_and_manifests_stay, conditions_are_honoured_or_refused]);
kept!(prefix, |inner| Prefix::new(inner, repository("some/where")));
kept!(select, |inner| Select::new(inner, |name: &Repository| name.as_str().starts_with("conformance/")));
kept!(access, |inner| Access::new(inner, |_, _| Ok(())));
kept!(limit, |inner| Limit::new(inner, Sizes::default()));
kept!(log, Log::new);
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
        UploadId,
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
