//! Every call is told to `tracing`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use blob_core::{ByteStream, SourceError};
use bytes::Bytes;
use futures_core::Stream;
use tracing::Instrument as _;

use super::prelude::*;

/// A registry that tells `tracing` of every call: one event of level INFO under the target `blob_registry::calls`, when
/// the call is over, and a span around it.
///
/// | field | |
/// |---|---|
/// | `operation` | the method |
/// | `repository`, `object` | what it was about: a tag, a digest; empty where there is none |
/// | `code` | `OK`, the OCI error code, or `CANCELLED` for a call that nobody waited for |
/// | `bytes` | content that went either way; for a read, what the reader took |
/// | `micros` | how long it took, for a read until its last byte |
///
/// Neither content nor the id of an upload session is ever told.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<dyn Registry>,
}

impl Log {
    /// Tells of the calls to `inner`.
    pub fn new(inner: Arc<dyn Registry>) -> Self {
        Self { inner }
    }
}

/// A call that is going on.
struct Call {
    operation: &'static str,
    repository: String,
    object: String,
    begun: Instant,
    code: &'static str,
    bytes: u64,
}

impl Call {
    fn begin(operation: &'static str, repository: Option<&Repository>, object: Option<&dyn fmt::Display>) -> Self {
        let text = |name: Option<&dyn fmt::Display>| name.map(ToString::to_string).unwrap_or_default();
        let repository = text(repository.map(|name| name as &dyn fmt::Display));
        Self { operation, repository, object: text(object), begun: Instant::now(), code: "CANCELLED", bytes: 0 }
    }

    /// Runs the call within its span.
    async fn run<T>(&mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Self { operation, repository, .. } = &*self;
        let span = tracing::info_span!(target: "blob_registry::calls", "registry", operation, %repository);
        let result = call.instrument(span).await;
        self.code = code(&result);
        result
    }

    /// Runs a call that moves no content.
    async fn plain<T>(mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.run(call).await
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        tracing::info!(
            target: "blob_registry::calls",
            operation = self.operation,
            repository = self.repository,
            object = self.object,
            code = self.code,
            bytes = self.bytes,
            micros = self.begun.elapsed().as_micros() as u64,
            "call"
        );
    }
}

fn code<T>(result: &Result<T>) -> &'static str {
    result.as_ref().err().map_or("OK", |error| error.error_code().name())
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for Log {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        Call::begin("resolve", Some(repository), Some(target)).plain(self.inner.resolve(repository, target)).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        let mut call = Call::begin("manifest", Some(repository), Some(target));
        let manifest = call.run(self.inner.manifest(repository, target)).await?;
        call.bytes = manifest.bytes.len() as u64;
        Ok(manifest)
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        Call::begin("stat_blob", Some(repository), Some(digest)).plain(self.inner.stat_blob(repository, digest)).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        let mut call = Call::begin("read_blob", Some(repository), Some(digest));
        let mut reader = call.run(self.inner.read_blob(repository, digest, range)).await?;
        call.code = "CANCELLED";
        reader.stream = Box::pin(Followed { inner: reader.stream, call });
        Ok(reader)
    }

    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        Call::begin("local_blob", Some(repository), Some(digest)).plain(self.inner.local_blob(repository, digest)).await
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob> {
        let (mut call, size) = (Call::begin("push_blob", Some(repository), Some(&blob.digest)), blob.source.size());
        let pushed = call.run(self.inner.push_blob(repository, blob)).await?;
        call.bytes = if pushed == PushedBlob::Uploaded { size } else { 0 };
        Ok(pushed)
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        let call = Call::begin("start_upload", Some(repository), None);
        Ok(LoggedUpload::wrap(repository, call.plain(self.inner.start_upload(repository)).await?))
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        let call = Call::begin("resume_upload", Some(repository), None);
        Ok(LoggedUpload::wrap(repository, call.plain(self.inner.resume_upload(repository, id)).await?))
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        let call = Call::begin("mount_blob", Some(repository), Some(digest));
        Ok(match call.plain(self.inner.mount_blob(repository, digest, from)).await? {
            Mount::Mounted => Mount::Mounted,
            Mount::Session(upload) => Mount::Session(LoggedUpload::wrap(repository, upload)),
        })
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        let mut call = Call::begin("push_manifest", Some(repository), Some(&manifest.digest));
        let size = manifest.bytes.len() as u64;
        let pushed = call.run(self.inner.push_manifest(repository, manifest)).await?;
        call.bytes = size;
        Ok(pushed)
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let call = Call::begin("delete_manifest", Some(repository), Some(digest));
        call.plain(self.inner.delete_manifest(repository, digest)).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let call = Call::begin("delete_blob", Some(repository), Some(digest));
        call.plain(self.inner.delete_blob(repository, digest)).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        Call::begin("delete_tag", Some(repository), Some(tag)).plain(self.inner.delete_tag(repository, tag)).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        Call::begin("tags", Some(repository), None).plain(self.inner.tags(repository, page)).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        let call = Call::begin("referrers", Some(repository), Some(subject));
        call.plain(self.inner.referrers(repository, subject, artifact_type, page)).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        Call::begin("repositories", None, None).plain(self.inner.repositories(page)).await
    }
}

/// A stream whose call is over when it is.
struct Followed {
    inner: ByteStream,
    call: Call,
}

impl Stream for Followed {
    type Item = std::result::Result<Bytes, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.inner.as_mut().poll_next(cx);
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => self.call.bytes += chunk.len() as u64,
            Poll::Ready(Some(Err(_))) => self.call.code = ErrorCode::Unknown.name(),
            // Nothing comes behind an error: it remains the outcome.
            Poll::Ready(None) if self.call.code == "CANCELLED" => self.call.code = "OK",
            _ => {}
        }
        polled
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

/// An upload session whose calls are told.
struct LoggedUpload {
    inner: Box<dyn Upload>,
    repository: Repository,
}

impl LoggedUpload {
    fn wrap(repository: &Repository, inner: Box<dyn Upload>) -> Box<dyn Upload> {
        Box::new(Self { inner, repository: repository.clone() })
    }
}

#[async_trait]
impl Upload for LoggedUpload {
    fn id(&self) -> UploadId {
        self.inner.id()
    }

    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let (mut call, size) = (Call::begin("append", Some(&self.repository), None), bytes.len() as u64);
        call.run(self.inner.append(bytes)).await?;
        call.bytes = size;
        Ok(())
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> Result<()> {
        Call::begin("commit", Some(&self.repository), Some(digest)).plain(self.inner.commit(digest)).await
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        Call::begin("cancel", Some(&self.repository), None).plain(self.inner.cancel()).await
    }
}
