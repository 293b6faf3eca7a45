//! Whether a digest names a blob or a manifest, when nobody knows.
//!
//! Registries keep the two apart and answer about one at a time, and some take many seconds to say that they have no
//! such manifest. So the blob is asked for first, and the manifest a moment later, at the same time.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blob_core::Digest;
use futures_util::future::{Either, select};

use crate::descriptor::Descriptor;
use crate::error::RegistryError;
use crate::reference::{Repository, Target};
use crate::registry::Registry;

/// How long the question about the blob runs alone: most answers are here by then.
const HEAD_START: Duration = Duration::from_millis(50);

/// How many answers [`Kinds`] remembers.
const REMEMBERED: usize = 1024;

/// What a digest names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on its way to the caller")]
pub enum Kind {
    /// A blob.
    Blob {
        /// Its size in bytes.
        size: u64,
    },
    /// A manifest.
    Manifest(Descriptor),
}

/// What a digest is likely to name: asked for first, and alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KindHint {
    /// A blob.
    Blob,
    /// A manifest. Needed where a manifest is shown as a blob too: image layouts do so, and some servers.
    Manifest,
}

/// What `digest` names in `repository`: [`Kinds::resolve`] without a memory.
///
/// # Errors
/// As [`Kinds::resolve`].
pub async fn resolve_any(
    registry: &dyn Registry,
    repository: &Repository,
    digest: &Digest,
    hint: Option<KindHint>,
) -> Result<Kind, RegistryError> {
    let target = Target::Digest(*digest);
    let blob = async { registry.stat_blob(repository, digest).await.map(|size| Kind::Blob { size }) };
    let manifest = async { registry.resolve(repository, &target).await.map(Kind::Manifest) };
    match hint {
        Some(KindHint::Blob) => one_then_other(blob, manifest).await,
        Some(KindHint::Manifest) => one_then_other(manifest, blob).await,
        None => {
            let mut blob = pin!(blob);
            match select(&mut blob, pin!(tokio::time::sleep(HEAD_START))).await {
                Either::Left((Ok(kind), _)) => Ok(kind),
                Either::Left((Err(error), _)) => manifest.await.map_err(|other| error.or_worse(other)),
                Either::Right(_) => first_success(blob, manifest).await,
            }
        }
    }
}

async fn one_then_other(
    one: impl Future<Output = Result<Kind, RegistryError>>,
    other: impl Future<Output = Result<Kind, RegistryError>>,
) -> Result<Kind, RegistryError> {
    match one.await {
        Ok(kind) => Ok(kind),
        Err(error) => other.await.map_err(|other| error.or_worse(other)),
    }
}

async fn first_success(
    one: impl Future<Output = Result<Kind, RegistryError>>,
    other: impl Future<Output = Result<Kind, RegistryError>>,
) -> Result<Kind, RegistryError> {
    match select(pin!(one), pin!(other)).await {
        Either::Left((Ok(kind), _)) | Either::Right((Ok(kind), _)) => Ok(kind),
        Either::Left((Err(error), other)) => other.await.map_err(|other| error.or_worse(other)),
        Either::Right((Err(error), one)) => one.await.map_err(|other| error.or_worse(other)),
    }
}

/// Remembers what digests of one registry name: the last 1,024 answers. What was found once is not asked for again,
/// even if it was deleted since.
#[derive(Debug, Default)]
pub struct Kinds {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<(Repository, Digest), Kind>,
    /// Oldest first.
    order: VecDeque<(Repository, Digest)>,
}

impl Kinds {
    /// An empty memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// What `digest` names in `repository`. The hint is asked first; without one, a blob answers in one round trip
    /// however long the registry looks for a manifest.
    ///
    /// # Errors
    /// Not found only if it is neither a blob nor a manifest; if one of the answers is another failure, that one.
    pub async fn resolve(
        &self,
        registry: &dyn Registry,
        repository: &Repository,
        digest: &Digest,
        hint: Option<KindHint>,
    ) -> Result<Kind, RegistryError> {
        let key = (repository.clone(), *digest);
        if let Some(kind) = self.memory().known.get(&key) {
            return Ok(kind.clone());
        }
        let kind = resolve_any(registry, repository, digest, hint).await?;
        let mut memory = self.memory();
        if memory.known.insert(key.clone(), kind.clone()).is_none() {
            memory.order.push_back(key);
        }
        while memory.order.len() > REMEMBERED {
            let Some(oldest) = memory.order.pop_front() else { break };
            memory.known.remove(&oldest);
        }
        Ok(kind)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing that changes it can panic half-way.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
