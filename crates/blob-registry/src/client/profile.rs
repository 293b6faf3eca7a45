//! What a client learned of its registry's ways, so that it asks for nothing twice in vain.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use blob_core::Digest;
use url::Url;

use crate::reference::Repository;

/// More signed URLs, and answers about repositories, than this are not kept.
const MAX_KEPT: usize = 1024;

/// What is known of one registry.
#[derive(Default)]
pub(super) struct Profile {
    /// Whether a blob can be sent with the POST that announces it.
    pub(super) single_post: Tri,
    /// Whether one PUT of a manifest can set several tags.
    pub(super) many_tags: Tri,
    /// Tag lists come whole, whatever page was asked for.
    pub(super) paging_ignored: Flag,
    /// Ranges are answered with whole blobs.
    pub(super) ranges_ignored: Flag,
    /// `Expect: 100-continue` is not understood: it only costs time.
    pub(super) no_continue: Flag,
    /// Connections of their own cannot be had: only HTTP/2 is spoken.
    pub(super) no_bulk: Flag,
    /// Mounts are understood only with the repository to mount from.
    pub(super) no_anonymous_mount: Flag,
    /// The largest body it takes, in bytes; 0 if no limit is known.
    max_body: AtomicU64,
    referrers: Mutex<HashMap<Repository, bool>>,
    written: Mutex<HashSet<Repository>>,
    signed: Mutex<HashMap<(Repository, Digest), Url>>,
}

impl Profile {
    /// The largest body that the registry takes, in bytes, if it is known to have a limit.
    pub(super) fn max_body(&self) -> Option<u64> {
        Some(self.max_body.load(Ordering::Relaxed)).filter(|&bytes| bytes > 0)
    }

    pub(super) fn set_max_body(&self, bytes: u64) {
        self.max_body.store(bytes, Ordering::Relaxed);
    }

    /// Whether the referrers API answers for `repository`, if that is known.
    pub(super) fn referrers(&self, repository: &Repository) -> Option<bool> {
        self.referrers.lock().unwrap_or_else(PoisonError::into_inner).get(repository).copied()
    }

    pub(super) fn set_referrers(&self, repository: &Repository, supported: bool) {
        let mut known = self.referrers.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KEPT {
            known.clear();
        }
        known.insert(repository.clone(), supported);
    }

    /// Whether `repository` is known to be written to.
    pub(super) fn is_written(&self, repository: &Repository) -> bool {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).contains(repository)
    }

    pub(super) fn set_written(&self, repository: &Repository) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() >= MAX_KEPT {
            written.clear();
        }
        written.insert(repository.clone());
    }

    /// Where the registry last redirected reads of this blob to.
    pub(super) fn signed(&self, repository: &Repository, digest: &Digest) -> Option<Url> {
        let key = (repository.clone(), *digest);
        self.signed.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub(super) fn set_signed(&self, repository: &Repository, digest: &Digest, url: Option<Url>) {
        let mut known = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (repository.clone(), *digest);
        match url {
            Some(url) => {
                if known.len() >= MAX_KEPT {
                    known.clear();
                }
                known.insert(key, url);
            }
            None => drop(known.remove(&key)),
        }
    }
}

/// Something that turned out to be so.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it; whether it was unset before.
    pub(super) fn set(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

/// Yes, no, or not known yet.
#[derive(Default)]
pub(super) struct Tri(AtomicU8);

impl Tri {
    pub(super) fn known(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(true),
            2 => Some(false),
            _ => None,
        }
    }

    pub(super) fn learn(&self, yes: bool) {
        self.0.store(if yes { 1 } else { 2 }, Ordering::Relaxed);
    }
}
