//! So much comes in, and no more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::prelude::*;

/// Of more repositories than this, nothing is remembered for long.
const MAX_KNOWN: usize = 1024;

/// A store that can tell how much of it is taken.
#[async_trait]
pub trait Usage: fmt::Debug + Send + Sync {
    /// Bytes that `repository` takes, or all repositories together: blobs, manifests and unfinished uploads. One that is not
    /// there takes none.
    ///
    /// # Errors
    /// Those of the store.
    async fn used(&self, repository: Option<&Repository>) -> Result<u64>;
}

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quotas {
    /// Bytes of one repository; no limit by default.
    pub repository: Option<u64>,
    /// Bytes of all repositories; no limit by default.
    pub total: Option<u64>,
    /// How long the store's own word about what is taken counts, with what came in since added up here: 30 s. What is
    /// deleted or collected makes room when the store is asked again.
    pub recount: Duration,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { repository: None, total: None, recount: Duration::from_secs(30) }
    }
}

/// A registry that takes nothing beyond its quotas: what would be too much is [`ErrorCode::Denied`] before it goes through.
///
/// What is under way counts as taken. Mounts take no room of their own where the store links files, and are refused only in
/// a repository that is full. Several processes on one store know of each other's content when they ask it again.
#[derive(Clone, Debug)]
pub struct Quota {
    inner: Arc<dyn Registry>,
    ledger: Arc<Ledger>,
}

impl Quota {
    /// Lets no more in to `inner` than `quotas` say, by the word of `usage` about what is there: for the most part they
    /// are the same store.
    pub fn new(inner: Arc<dyn Registry>, usage: Arc<dyn Usage>, quotas: Quotas) -> Self {
        Self {
            inner,
            ledger: Arc::new(Ledger {
                usage,
                quotas,
                accounts: Mutex::default(),
                counting: tokio::sync::Mutex::default(),
            }),
        }
    }

    fn metered(&self, repository: &Repository, inner: Box<dyn Upload>) -> Box<dyn Upload> {
        Box::new(Metered { inner, ledger: Arc::clone(&self.ledger), repository: repository.clone() })
    }
}

/// Who has how much: a repository, or all of them.
type Holder = Option<Repository>;

#[derive(Debug)]
struct Ledger {
    usage: Arc<dyn Usage>,
    quotas: Quotas,
    accounts: Mutex<HashMap<Holder, Account>>,
    /// Held by the one who asks the store.
    counting: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Account {
    /// What the store said.
    counted: u64,
    /// When it did.
    at: Instant,
    /// What has come in since.
    since: u64,
    /// What may come in.
    under_way: u64,
}

/// Room that is held until what it is for is there, or is not going to be.
#[derive(Debug)]
struct Hold<'a> {
    ledger: &'a Ledger,
    holders: Vec<Holder>,
    bytes: u64,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, HashMap<Holder, Account>> {
        // Every change is one of numbers that are right by themselves.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those to whom something of `repository` counts, and what they may have.
    fn limits(&self, repository: &Repository) -> Vec<(Holder, u64)> {
        let own = self.quotas.repository.map(|limit| (Some(repository.clone()), limit));
        own.into_iter().chain(self.quotas.total.map(|limit| (None, limit))).collect()
    }

    /// Holds room for `bytes`, or refuses them.
    async fn hold(&self, repository: &Repository, bytes: u64, action: impl Fn() -> String) -> Result<Hold<'_>> {
        let limits = self.limits(repository);
        for (holder, _) in &limits {
            self.recount(holder).await?;
        }
        let mut accounts = self.lock();
        for (holder, limit) in &limits {
            let account = accounts.get(holder);
            let taken = account.map_or(0, |account| account.counted + account.since + account.under_way);
            if taken.saturating_add(bytes) > *limit {
                let whose = holder.as_ref().map_or("the registry".to_owned(), |name| format!("repository {name}"));
                let detail = format!("{whose} may have {limit} bytes and has {taken}; {bytes} more are too many");
                return Err(RegistryError::detailed(action(), ErrorCode::Denied, detail));
            }
        }
        let holders: Vec<Holder> = limits.into_iter().map(|(holder, _)| holder).collect();
        for holder in &holders {
            if let Some(account) = accounts.get_mut(holder) {
                account.under_way += bytes;
            }
        }
        Ok(Hold { ledger: self, holders, bytes })
    }

    /// Asks the store what `holder` has, if that was long ago.
    async fn recount(&self, holder: &Holder) -> Result<()> {
        let known = || self.lock().get(holder).is_some_and(|account| account.at.elapsed() < self.quotas.recount);
        if known() {
            return Ok(());
        }
        // One at a time: it takes long where there is much to count.
        let _turn = self.counting.lock().await;
        if known() {
            return Ok(());
        }
        let before = self.lock().get(holder).map_or(0, |account| account.since);
        let counted = self.usage.used(holder.as_ref()).await?;
        let at = Instant::now();
        let mut accounts = self.lock();
        if accounts.len() >= MAX_KNOWN && !accounts.contains_key(holder) {
            accounts.retain(|_, account| account.under_way > 0);
        }
        let fresh = || Account { counted, at, since: 0, under_way: 0 };
        let account = accounts.entry(holder.clone()).or_insert_with(fresh);
        // What came in meanwhile may have been counted or not, and stays until the next time.
        (account.counted, account.at, account.since) = (counted, at, account.since.saturating_sub(before));
        Ok(())
    }
}

impl Hold<'_> {
    /// It is there now.
    fn taken(self) {
        let mut accounts = self.ledger.lock();
        for holder in &self.holders {
            if let Some(account) = accounts.get_mut(holder) {
                account.since += self.bytes;
            }
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut accounts = self.ledger.lock();
        for holder in &self.holders {
            if let Some(account) = accounts.get_mut(holder) {
                account.under_way = account.under_way.saturating_sub(self.bytes);
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for Quota {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        self.inner.resolve(repository, target).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        self.inner.manifest(repository, target).await
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        self.inner.stat_blob(repository, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        self.inner.read_blob(repository, digest, range).await
    }

    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        self.inner.local_blob(repository, digest).await
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob> {
        let (digest, size) = (blob.digest, blob.source.size());
        let action = || format!("pushing blob {repository}@{digest}");
        // What is there already takes nothing more, and must not be refused in a full registry.
        let there =
            !blob.known_absent && self.inner.stat_blob(repository, &digest).await.is_ok_and(|held| held == size);
        let hold = self.ledger.hold(repository, if there { 0 } else { size }, action).await?;
        let pushed = self.inner.push_blob(repository, blob).await?;
        if pushed == PushedBlob::Uploaded {
            hold.taken();
        }
        Ok(pushed)
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        Ok(self.metered(repository, self.inner.start_upload(repository).await?))
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        Ok(self.metered(repository, self.inner.resume_upload(repository, id).await?))
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        let _room = self.ledger.hold(repository, 0, || format!("mounting {digest} to {repository}")).await?;
        Ok(match self.inner.mount_blob(repository, digest, from).await? {
            Mount::Mounted => Mount::Mounted,
            Mount::Session(upload) => Mount::Session(self.metered(repository, upload)),
        })
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        let (digest, size) = (manifest.digest, manifest.bytes.len() as u64);
        let target = Target::Digest(digest);
        let there = self.inner.resolve(repository, &target).await.is_ok();
        let action = || format!("pushing manifest {repository}@{digest}");
        let hold = self.ledger.hold(repository, if there { 0 } else { size }, action).await?;
        let pushed = self.inner.push_manifest(repository, manifest).await?;
        hold.taken();
        Ok(pushed)
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.inner.delete_manifest(repository, digest).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.inner.delete_blob(repository, digest).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        self.inner.delete_tag(repository, tag).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        self.inner.tags(repository, page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        self.inner.referrers(repository, subject, artifact_type, page).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        self.inner.repositories(page).await
    }
}

/// An upload session whose bytes count as they come.
struct Metered {
    inner: Box<dyn Upload>,
    ledger: Arc<Ledger>,
    repository: Repository,
}

#[async_trait]
impl Upload for Metered {
    fn id(&self) -> UploadId {
        self.inner.id()
    }

    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let action = || format!("uploading to {}", self.repository);
        let hold = self.ledger.hold(&self.repository, bytes.len() as u64, action).await?;
        self.inner.append(bytes).await?;
        hold.taken();
        Ok(())
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> Result<()> {
        self.inner.commit(digest).await
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.inner.cancel().await
    }
}
