//! Failures on purpose, for tests.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use blob_core::{ByteStream, SourceError, SourceId};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::prelude::*;

/// How often what goes wrong; nothing by default. Rates are in calls of a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Which failures come: the same seed gives the same ones.
    pub seed: u64,
    /// Calls that fail before anything is done.
    pub refuse: u32,
    /// Calls that are done, and fail all the same: the answer got lost. Reads are refused instead.
    pub lose: u32,
    /// Reads of blobs that break off behind their first half.
    pub cut: u32,
    /// Calls that wait before they begin.
    pub delay: u32,
    /// How long those wait: 0 by default.
    pub delay_time: Duration,
}

impl Faults {
    /// None, whose choice will follow `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

/// A registry that fails now and then, as networks and disks do: for tests of what stands in front of it, never for use.
/// Its failures pass ([`RegistryError::is_transient`]); what it answers is right.
///
/// What befalls a call depends on the seed, on the method, on the repository, and on how many such calls came before: calls of
/// different kinds may overtake one another, and the same ones fail again.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::sync::Arc;
/// use blob_registry::filter::{Fault, Faults};
/// use blob_registry::{MemoryRegistry, Registry, Repository};
///
/// let mut faults = Faults::seeded(7);
/// faults.refuse = 1000;
/// let registry = Fault::new(Arc::new(MemoryRegistry::new()), faults);
/// let error = registry.tags(&Repository::new("a")?, &Default::default()).await.unwrap_err();
/// assert!(error.is_transient());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    inner: Arc<dyn Registry>,
    dice: Arc<Dice>,
}

impl Fault {
    /// Makes `inner` fail as `faults` say.
    pub fn new(inner: Arc<dyn Registry>, faults: Faults) -> Self {
        Self { inner, dice: Arc::new(Dice { faults, thrown: Mutex::default() }) }
    }

    /// How many calls were made to fail, cut answers included.
    pub fn failures(&self) -> u64 {
        self.dice.lock().failures
    }

    /// Calls something that changes the registry.
    async fn write<T>(&self, call: &'static str, place: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.dice.before(call, place).await?;
        let done = work.await?;
        if self.dice.happens(call, place, "lose", self.dice.faults.lose) {
            return Err(failure(call, place, "its answer was lost"));
        }
        Ok(done)
    }

    /// Calls something that changes nothing.
    async fn read<T>(&self, call: &'static str, place: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.dice.before(call, place).await?;
        work.await
    }

    fn session(&self, repository: &Repository, inner: Box<dyn Upload>) -> Box<dyn Upload> {
        Box::new(Shaky { inner, fault: self.clone(), place: repository.to_string() })
    }
}

fn failure(call: &str, place: &str, what: &str) -> RegistryError {
    let source = io::Error::new(io::ErrorKind::ConnectionReset, what.to_owned());
    RegistryError::Io { action: format!("{call} of {place}, made to fail"), transient: true, source: Box::new(source) }
}

/// Decides about calls.
#[derive(Debug)]
struct Dice {
    faults: Faults,
    thrown: Mutex<Thrown>,
}

#[derive(Debug, Default)]
struct Thrown {
    /// How often each question was asked.
    counts: HashMap<u64, u64>,
    failures: u64,
}

impl Dice {
    fn lock(&self) -> std::sync::MutexGuard<'_, Thrown> {
        self.thrown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something with this rate happens to a call.
    fn happens(&self, call: &str, place: &str, what: &str, rate: u32) -> bool {
        let key = [call, place, what].iter().fold(self.faults.seed, |key, part| {
            part.bytes().chain([0]).fold(mixed(key), |key, byte| mixed(key ^ u64::from(byte)))
        });
        let mut thrown = self.lock();
        let count = thrown.counts.entry(key).or_default();
        *count += 1;
        let happens = mixed(key.wrapping_add(*count)) % 1000 < u64::from(rate);
        if happens && what != "delay" {
            thrown.failures += 1;
        }
        happens
    }

    async fn before(&self, call: &'static str, place: &str) -> Result<()> {
        if self.happens(call, place, "delay", self.faults.delay) {
            tokio::time::sleep(self.faults.delay_time).await;
        }
        if self.happens(call, place, "refuse", self.faults.refuse) {
            return Err(failure(call, place, "it was refused"));
        }
        Ok(())
    }
}

/// Spreads the bits of a number (SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The first half of a stream of `length` bytes, and then a failure.
fn cut(stream: ByteStream, id: SourceId, length: u64) -> ByteStream {
    let half = length / 2;
    let state = (stream, 0_u64, false);
    stream::unfold(state, move |(mut stream, came, over)| {
        let id = id.clone();
        async move {
            if over {
                return None;
            }
            let next = if came < half { stream.next().await } else { None };
            let Some(piece) = next else {
                let failed = SourceError::Truncated { id, expected: length, got: came };
                return Some((Err(failed), (stream, came, true)));
            };
            let piece = piece.map(|mut bytes| {
                bytes.truncate(usize::try_from(half - came).unwrap_or(usize::MAX));
                bytes
            });
            let came = came + piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
            Some((piece, (stream, came, false)))
        }
    })
    .boxed()
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for Fault {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        self.read("resolve", repository.as_str(), self.inner.resolve(repository, target)).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        self.read("manifest", repository.as_str(), self.inner.manifest(repository, target)).await
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        self.read("stat_blob", repository.as_str(), self.inner.stat_blob(repository, digest)).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        let place = repository.as_str();
        let reader = self.read("read_blob", place, self.inner.read_blob(repository, digest, range)).await?;
        let length = reader.range.end - reader.range.start;
        if length > 0 && self.dice.happens("read_blob", place, "cut", self.dice.faults.cut) {
            let stream = cut(reader.stream, SourceId::from(*digest), length);
            return Ok(BlobReader { stream, ..reader });
        }
        Ok(reader)
    }

    /// None, where something can happen to reads: a file has no network between.
    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        if self.dice.faults.refuse + self.dice.faults.cut > 0 {
            return Ok(None);
        }
        self.inner.local_blob(repository, digest).await
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob> {
        self.write("push_blob", repository.as_str(), self.inner.push_blob(repository, blob)).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        let upload = self.write("start_upload", repository.as_str(), self.inner.start_upload(repository)).await?;
        Ok(self.session(repository, upload))
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        let upload = self.read("resume_upload", repository.as_str(), self.inner.resume_upload(repository, id)).await?;
        Ok(self.session(repository, upload))
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        let work = self.inner.mount_blob(repository, digest, from);
        Ok(match self.write("mount_blob", repository.as_str(), work).await? {
            Mount::Mounted => Mount::Mounted,
            Mount::Session(upload) => Mount::Session(self.session(repository, upload)),
        })
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        self.write("push_manifest", repository.as_str(), self.inner.push_manifest(repository, manifest)).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.write("delete_manifest", repository.as_str(), self.inner.delete_manifest(repository, digest)).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.write("delete_blob", repository.as_str(), self.inner.delete_blob(repository, digest)).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        self.write("delete_tag", repository.as_str(), self.inner.delete_tag(repository, tag)).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        self.read("tags", repository.as_str(), self.inner.tags(repository, page)).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        let work = self.inner.referrers(repository, subject, artifact_type, page);
        self.read("referrers", repository.as_str(), work).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        self.read("repositories", "", self.inner.repositories(page)).await
    }
}

/// An upload session that fails now and then.
struct Shaky {
    inner: Box<dyn Upload>,
    fault: Fault,
    place: String,
}

#[async_trait]
impl Upload for Shaky {
    fn id(&self) -> UploadId {
        self.inner.id()
    }

    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        self.fault.write("append", &self.place, self.inner.append(bytes)).await
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> Result<()> {
        self.fault.write("commit", &self.place, self.inner.commit(digest)).await
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.fault.write("cancel", &self.place, self.inner.cancel()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryRegistry;

    #[test]
    fn a_seed_says_what_happens() {
        let outcomes = |seed: u64, rate: u32| -> Vec<bool> {
            let fault = Fault::new(Arc::new(MemoryRegistry::new()), Faults::seeded(seed));
            (0..2000).map(|_| fault.dice.happens("tags", "a", "refuse", rate)).collect()
        };
        let often = |outcomes: &[bool]| outcomes.iter().filter(|happened| **happened).count();
        assert_eq!(outcomes(1, 100), outcomes(1, 100));
        assert_ne!(outcomes(1, 100), outcomes(2, 100));
        assert!((120..280).contains(&often(&outcomes(3, 100))), "{}", often(&outcomes(3, 100)));
        assert_eq!((often(&outcomes(4, 0)), often(&outcomes(4, 1000))), (0, 2000));
    }
}
