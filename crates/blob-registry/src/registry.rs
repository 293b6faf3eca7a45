//! The one trait that client, memory, layout, server and every wrapper share.
//!
//! A `Registry` holds repositories; a repository holds blobs and manifests by digest, and tags that point at
//! manifests. The terms are those of the OCI distribution specification 1.1.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{ByteSource, ByteStream, Digest, Progress};
use bytes::Bytes;

use crate::descriptor::Descriptor;
use crate::error::RegistryError;
use crate::reference::{Repository, Tag, Target};

/// Manifests larger than this are refused everywhere: 4 MiB, as registries do.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// A store of repositories.
///
/// # Contract
/// - What a method returns by digest has that digest: manifests are checked before they are returned, blob streams
///   that cover a whole blob are checked by their reader, ranges by whoever knows the content.
/// - "Not there" is an error for which [`RegistryError::is_not_found`] holds; it is never an empty answer.
/// - Methods with a provided body answer [`RegistryError::unsupported`]; wrappers forward every method.
///
/// `conformance::registry` (feature `conformance`) checks an implementation clause by clause.
///
/// # Cancellation
/// Dropping a future stops the operation; content that was not committed is not visible.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync {
    /// The descriptor of a manifest: media type, digest, size. One `HEAD` on the wire.
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor, RegistryError>;

    /// A manifest, whole: at most [`MAX_MANIFEST_BYTES`], its digest checked. One `GET` on the wire, by tag too.
    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest, RegistryError>;

    /// The size of a blob in bytes.
    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError>;

    /// Reads a blob, or `range` of it. A range that leaves the blob is [`ErrorCode::RangeInvalid`]; an empty range is
    /// answered without reading.
    ///
    /// [`ErrorCode::RangeInvalid`]: crate::error::ErrorCode::RangeInvalid
    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError>;

    /// The blob as a source that is read from memory or a file of this process, where the registry has it so: reads and
    /// pushes then need no stream. `None` where it has not; an absent blob is an error as in
    /// [`stat_blob`](Self::stat_blob), or `None`.
    async fn local_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Arc<dyn ByteSource>>, RegistryError> {
        let _ = (repository, digest);
        Ok(None)
    }

    /// Stores a blob. The source may be read more than once, so a broken transfer can go on or begin again; content
    /// that does not have the digest is refused.
    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob, RegistryError>;

    /// Opens an upload session for content that comes in pieces.
    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, RegistryError> {
        Err(RegistryError::unsupported(format!("starting an upload to {repository}")))
    }

    /// Takes up an upload session where it stands.
    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>, RegistryError> {
        Err(RegistryError::unsupported(format!("resuming upload {id:?} to {repository}")))
    }

    /// Makes a blob of another repository (or of any, with `None`) visible in this one, without moving its bytes.
    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<Mount, RegistryError> {
        let _ = from;
        Err(RegistryError::unsupported(format!("mounting {digest} to {repository}")))
    }

    /// Stores a manifest and points tags at it.
    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: PushManifest,
    ) -> Result<PushedManifest, RegistryError>;

    /// Deletes a manifest and the tags that point at it.
    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        Err(RegistryError::unsupported(format!("deleting manifest {repository}@{digest}")))
    }

    /// Deletes a blob.
    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        Err(RegistryError::unsupported(format!("deleting blob {repository}@{digest}")))
    }

    /// Deletes a tag, and only the tag.
    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), RegistryError> {
        Err(RegistryError::unsupported(format!("deleting tag {repository}:{tag}")))
    }

    /// One page of tags, in byte order.
    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>, RegistryError>;

    /// One page of the manifests whose `subject` is `subject`, optionally of one artifact type. A subject nobody
    /// refers to, known or not, has none.
    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>, RegistryError>;

    /// One page of the repositories, in byte order.
    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>, RegistryError> {
        let _ = page;
        Err(RegistryError::unsupported("listing repositories"))
    }
}

/// A manifest as it is stored: never parsed and printed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes, which have the descriptor's digest.
    pub bytes: Bytes,
}

/// A blob, or a range of it, on its way.
pub struct BlobReader {
    /// The size of the whole blob in bytes.
    pub size: u64,
    /// Which bytes come.
    pub range: Range<u64>,
    /// The bytes: exactly `range`, in order.
    pub stream: ByteStream,
    /// Whether only these bytes are moved. Where the far side answers no ranges, everything before them is moved as well
    /// and thrown away: reading a blob in many parts then costs it many times over.
    pub ranged: bool,
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader").field("size", &self.size).field("range", &self.range).finish_non_exhaustive()
    }
}

/// A blob to push.
#[derive(Clone)]
#[non_exhaustive]
pub struct PushBlob {
    /// The digest of the whole source.
    pub digest: Digest,
    /// The content; its size is the blob's.
    pub source: Arc<dyn ByteSource>,
    /// Skip the question whether the registry has it already.
    pub known_absent: bool,
    /// Repositories of the same registry that may hold the blob: it is mounted from there if that works.
    pub mount_from: Vec<Repository>,
    /// Told of `Event::Uploading` and `Event::Existing` as `what`.
    pub progress: Option<(String, Arc<dyn Progress>)>,
}

impl PushBlob {
    /// Pushes `source`, whose digest is `digest`.
    pub fn new(digest: Digest, source: Arc<dyn ByteSource>) -> Self {
        Self { digest, source, known_absent: false, mount_from: Vec::new(), progress: None }
    }
}

impl fmt::Debug for PushBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushBlob").field("digest", &self.digest).field("source", &self.source).finish_non_exhaustive()
    }
}

/// How a blob came to be where it was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushedBlob {
    /// Its bytes were sent.
    Uploaded,
    /// It was there.
    Existing,
    /// It was mounted from another repository.
    Mounted,
}

/// The answer to a mount.
pub enum Mount {
    /// The blob is here.
    Mounted,
    /// It is not; the registry opened an upload session instead, which is to be used or cancelled.
    Session(Box<dyn Upload>),
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mounted => "Mounted",
            Self::Session(_) => "Session",
        })
    }
}

/// A manifest to push.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PushManifest {
    /// Its bytes, at most [`MAX_MANIFEST_BYTES`].
    pub bytes: Bytes,
    /// Its media type.
    pub media_type: String,
    /// The digest to store it under; SHA-256 of the bytes by default.
    pub digest: Digest,
    /// Tags to point at it; with none it is reachable by digest alone.
    pub tags: Vec<Tag>,
    /// Move a tag only if it points at this manifest now. `Unsupported` where the registry has no conditional push.
    pub if_match: Option<Digest>,
    /// Set a tag only if it is not set, or points at this manifest already; else `PreconditionFailed`. Registries that know
    /// no such condition move it all the same.
    pub if_unset: bool,
}

impl PushManifest {
    /// Pushes `bytes` by digest.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = Digest::sha256_of(&bytes);
        Self { bytes, media_type: media_type.into(), digest, tags: Vec::new(), if_match: None, if_unset: false }
    }

    /// Points `tags` at it as well.
    #[must_use]
    pub fn with_tags(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        self.tags.extend(tags);
        self
    }
}

/// What became of a pushed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushedManifest {
    /// Its digest.
    pub digest: Digest,
    /// The subject that the registry says it indexed the manifest under (`OCI-Subject`).
    pub subject: Option<Digest>,
}

impl PushedManifest {
    /// A manifest stored under `digest`.
    pub fn new(digest: Digest, subject: Option<Digest>) -> Self {
        Self { digest, subject }
    }
}

/// Names an upload session: opaque, possibly secret, never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// An id as the registry gave it.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadId(…)")
    }
}

/// An open upload session. Dropping it leaves it open on the far side, to be resumed or to expire.
#[async_trait]
pub trait Upload: Send {
    /// Names the session for [`Registry::resume_upload`]; it may change with every append.
    fn id(&self) -> UploadId;

    /// How many bytes the session holds.
    fn offset(&self) -> u64;

    /// Adds `bytes` at the offset.
    async fn append(&mut self, bytes: Bytes) -> Result<(), RegistryError>;

    /// Makes the content a blob, if it has this digest.
    async fn commit(self: Box<Self>, digest: &Digest) -> Result<(), RegistryError>;

    /// Throws the content away.
    async fn cancel(self: Box<Self>) -> Result<(), RegistryError>;
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageRequest {
    /// At most this many items; the implementation may give fewer. `None` leaves it to the implementation.
    pub limit: Option<usize>,
    /// Continue behind this token, which came with the page before; for tags and repositories any name will do.
    pub after: Option<String>,
}

impl PageRequest {
    /// The first page, as long as the implementation likes.
    pub fn first() -> Self {
        Self::default()
    }

    /// At most `limit` items.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The page behind `token`.
    #[must_use]
    pub fn after(mut self, token: impl Into<String>) -> Self {
        self.after = Some(token.into());
        self
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page; `next` is the token of the following one.
    pub fn new(items: Vec<T>, next: Option<String>) -> Self {
        Self { items, next }
    }
}
