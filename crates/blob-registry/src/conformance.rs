//! The kit that every implementation of [`Registry`] runs: one function per clause of the contract.
//!
//! Clauses panic, naming what they expected. What an implementation may leave out ([`RegistryError::is_unsupported`])
//! is not asked of it; [`capabilities`] finds out what that is, so that a test can say what it should be.
//!
//! ```
//! # mod example {
//! use std::sync::Arc;
//! use blob_registry::{MemoryRegistry, Registry};
//!
//! blob_registry::registry_conformance!(async || Arc::new(MemoryRegistry::new()) as Arc<dyn Registry>);
//! # }
//! ```

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blob_core::{ByteSource, Digest, MemorySource};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, TryStreamExt as _};

use crate::error::{ErrorCode, RegistryError};
use crate::manifest::ImageManifest;
use crate::reference::{Repository, Tag};
use crate::registry::{PageRequest, PushBlob, PushManifest, Registry};

mod blobs;
mod capabilities;
mod lists;
mod manifests;
mod uploads;

pub use blobs::*;
pub use capabilities::*;
pub use lists::*;
pub use manifests::*;
pub use uploads::*;

/// Makes one `#[tokio::test]` of each clause. The argument is an async closure that makes a fresh registry: an
/// `Arc<dyn Registry>`, or a pair of it and whatever has to live as long (a temporary directory, a server).
///
/// A registry that is meant to break a clause, such as one whose tags do not move, names it and a part of what the clause
/// then says: `registry_conformance!(make, refused: [tags_move_and_manifests_stay: "code: Denied"])`. The test is that the
/// clause fails with these words, which for errors are those of their `Debug` form.
#[macro_export]
macro_rules! registry_conformance {
    ($make:expr) => {
        $crate::registry_conformance! { $make, refused: [] }
    };
    ($make:expr, refused: [$($refused:ident: $says:expr),*]) => {
        #[::tokio::test]
        async fn what_is_refused_is_refused() {
            $(
                let kept = ($make)().await;
                let repository = $crate::conformance::fresh_repository();
                let registry = $crate::conformance::Kept::registry(&kept);
                let clause = $crate::conformance::$refused(registry, &repository);
                $crate::conformance::refused(clause, stringify!($refused), $says).await;
            )*
        }
        $crate::registry_conformance! { @clauses $make, &[$(stringify!($refused)),*];
            blobs_round_trip,
            ranges_are_exact,
            empty_blobs_are_blobs,
            wrong_blobs_are_refused,
            absent_blobs_are_not_found,
            failing_sources_leave_nothing,
            dropped_pushes_leave_nothing,
            pushes_tell_their_progress,
            local_blobs_are_the_blobs,
            deleted_blobs_are_gone,
            blobs_are_mounted_or_a_session_opens,
            pieces_become_a_blob,
            uploads_are_resumed,
            cancelled_uploads_are_gone,
            wrong_uploads_are_refused,
            manifests_round_trip,
            absent_manifests_are_not_found,
            tags_move_and_manifests_stay,
            one_push_sets_many_tags,
            conditions_are_honoured_or_refused,
            wrong_manifests_are_refused,
            what_manifests_name_must_exist,
            sha512_is_a_digest_too,
            deleted_tags_leave_the_manifest,
            deleted_manifests_take_their_tags,
            tags_come_in_pages,
            unknown_repositories_are_not_found,
            referrers_are_found,
            referrers_come_in_pages,
            deleted_referrers_are_not_found,
            repositories_are_listed,
        }
    };
    (@clauses $make:expr; $($clause:ident,)*) => {
        $crate::registry_conformance! { @clauses $make, &[]; $($clause,)* }
    };
    (@clauses $make:expr, $refused:expr; $($clause:ident,)*) => {
        $(
            #[::tokio::test]
            async fn $clause() {
                let refused: &[&str] = $refused;
                if refused.contains(&stringify!($clause)) {
                    return;
                }
                let kept = ($make)().await;
                let repository = $crate::conformance::fresh_repository();
                $crate::conformance::$clause($crate::conformance::Kept::registry(&kept), &repository).await;
            }
        )*
    };
}

/// Asserts that a clause fails with the words `says`: another failure than the one that is meant is none.
///
/// # Panics
/// When the clause holds, or fails otherwise.
pub async fn refused(clause: impl Future<Output = ()>, name: &str, says: &str) {
    let outcome = AssertUnwindSafe(clause).catch_unwind().await;
    let Err(panic) = outcome else { panic!("{name}: expected the registry to refuse this, it did not") };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
    assert!(text.contains(says), "{name}: expected a refusal that says {says:?}, it failed with: {text}");
}

/// A registry, with what must live as long.
pub trait Kept {
    /// The registry.
    fn registry(&self) -> &dyn Registry;
}

impl Kept for Arc<dyn Registry> {
    fn registry(&self) -> &dyn Registry {
        &**self
    }
}

impl<G> Kept for (Arc<dyn Registry>, G) {
    fn registry(&self) -> &dyn Registry {
        &*self.0
    }
}

/// A repository name that no other call returned: different between processes, so that clauses can run against a
/// registry that is kept.
pub fn fresh_repository() -> Repository {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Repository::new(&format!("conformance/r{}-{time:x}-{number}", std::process::id())).expect("digits and letters")
}

fn sibling(repository: &Repository) -> Repository {
    Repository::new(&format!("{repository}/sibling")).expect("a valid name with another element")
}

fn tag(text: &str) -> Tag {
    Tag::new(text).expect("the kit's tags are valid")
}

fn source(content: &'static [u8]) -> Arc<dyn ByteSource> {
    Arc::new(MemorySource::new(content))
}

/// Stores `content` and gives its digest.
async fn put(registry: &dyn Registry, repository: &Repository, content: &'static [u8]) -> Digest {
    let digest = Digest::sha256_of(content);
    registry.push_blob(repository, PushBlob::new(digest, source(content))).await.expect("a good blob is taken");
    digest
}

/// Reads a whole blob.
async fn get(registry: &dyn Registry, repository: &Repository, digest: &Digest) -> Bytes {
    let reader = registry.read_blob(repository, digest, None).await.expect("the blob is there");
    assert_eq!(reader.range, 0..reader.size, "a whole blob has the whole range");
    let bytes: BytesMut = reader.stream.try_collect().await.expect("the blob can be read");
    assert_eq!(bytes.len() as u64, reader.size, "the stream has as many bytes as the reader says");
    bytes.freeze()
}

/// An artifact that differs by `mark`; its configuration is stored.
async fn artifact(registry: &dyn Registry, repository: &Repository, mark: &str) -> ImageManifest {
    put(registry, repository, b"{}").await;
    let mut manifest = ImageManifest::artifact("application/vnd.conformance", vec![]);
    manifest.annotations.insert("mark".into(), mark.into());
    manifest
}

fn push_of(manifest: &ImageManifest) -> PushManifest {
    PushManifest::new(crate::media_type::IMAGE_MANIFEST, manifest.to_bytes())
}

fn all() -> PageRequest {
    PageRequest::first()
}

fn assert_not_found<T: Debug>(result: Result<T, RegistryError>, what: &str) {
    match result {
        Err(error) => assert!(error.is_not_found(), "{what}: expected a not-found error, got {error:?}"),
        Ok(answer) => panic!("{what}: expected a not-found error, got {answer:?}"),
    }
}

/// Whether the implementation can do it; other errors are failures.
fn supported<T>(result: Result<T, RegistryError>) -> Option<T> {
    match result {
        Ok(answer) => Some(answer),
        Err(error) if error.is_unsupported() => None,
        Err(error) => panic!("expected success or Unsupported, got {error:?}"),
    }
}

/// The error must say that content is not what its digest promises.
fn assert_wrong_content<T: Debug>(result: Result<T, RegistryError>, what: &str) {
    let error = result.err().unwrap_or_else(|| panic!("{what}: wrong content was taken"));
    let fits = error.is_integrity() || matches!(error.error_code(), ErrorCode::DigestInvalid | ErrorCode::SizeInvalid);
    assert!(fits, "{what}: expected an integrity error, got {error:?}");
}
