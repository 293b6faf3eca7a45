//! Which authorities and logs are believed: a file, a TUF repository, or what is built in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use blob::cache::{CacheDir, CacheOptions};
use blob::core::Digest;
use blob::policy::sigstore::{TrustRoot, TrustRootSource};
use clap::Args;

use crate::cache_place::CachePlace;
use crate::error::{Failure, Kind};
use crate::session::Session;

/// The directory of TUF metadata below that of the cache.
const DIR: &str = "tuf-v1";
/// For how long a trust root that was refreshed is taken from the cache: asking for each command would slow down all.
const MAX_AGE: Duration = Duration::from_hours(1);
/// The largest `root.json` that is read: those of today have some ten kilobytes.
const MAX_ROOT_BYTES: u64 = 1 << 20;

/// The trust root for signatures. Without options it is what the configuration names as `trust.tuf_url`, else that of
/// Sigstore's public-good instance as it was when this program was built.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trust options")]
pub(crate) struct RootArgs {
    /// Verify against this trusted_root.json instead of the public-good instance.
    #[arg(long, value_name = "FILE", conflicts_with = "tuf_url")]
    trusted_root: Option<PathBuf>,

    /// Verify against the newest trust root of this TUF repository, which is kept in the cache for an hour, and for --offline.
    #[arg(long, value_name = "URL")]
    tuf_url: Option<String>,

    /// Believe the TUF repository as far as this root.json of it says. Those of Sigstore and GitHub need none.
    #[arg(long, value_name = "FILE", requires = "tuf_url")]
    tuf_root: Option<PathBuf>,
}

impl RootArgs {
    /// Only a file.
    pub(crate) fn of_file(trusted_root: Option<PathBuf>) -> Self {
        Self { trusted_root, ..Self::default() }
    }

    /// Whether something was typed.
    pub(crate) fn is_given(&self) -> bool {
        self.trusted_root.is_some() || self.tuf_url.is_some()
    }

    /// The trust root that was named, or that is configured; without either it is the built-in one, which is `None`.
    pub(crate) async fn find(&self, session: &Session) -> Result<Option<TrustRoot>, Failure> {
        self.found(session, session.options.offline).await
    }

    /// As [`find`](Self::find), without asking anybody.
    pub(crate) async fn find_offline(&self, session: &Session) -> Result<Option<TrustRoot>, Failure> {
        self.found(session, true).await
    }

    async fn found(&self, session: &Session, offline: bool) -> Result<Option<TrustRoot>, Failure> {
        if let Some(path) = self.trusted_root.clone() {
            return off_thread(move || read_root(&path)).await.map(Some);
        }
        let Some(source) = self.source(session).await? else { return Ok(None) };
        let failed = |error: &blob::policy::sigstore::TrustRootError| Failure::from_chain(error).of_kind(Kind::Network);
        if offline {
            let kept = source.offline().await.map_err(|error| {
                failed(&error).with_hint("run `blob verify` once without --offline, or name a file with --trusted-root")
            })?;
            return Ok(Some(kept));
        }
        let refreshed = source.refresh().await.map_err(|error| {
            failed(&error).with_hint("--trusted-root takes a trusted_root.json that was fetched some other way")
        })?;
        Ok(Some(refreshed.root))
    }

    /// The TUF repository that was named, or that is configured unless a file was named.
    pub(crate) async fn source(&self, session: &Session) -> Result<Option<TrustRootSource>, Failure> {
        let configured = session.config.tuf().filter(|_| !self.is_given());
        let (url, root) = match (&self.tuf_url, configured) {
            (Some(url), _) => (url.clone(), self.tuf_root.clone()),
            (None, Some(configured)) => configured,
            (None, None) => return Ok(None),
        };
        let cache = CachePlace::find(&session.options).filter(|_| !session.options.no_cache);
        off_thread(move || source(&url, root.as_deref(), cache.as_ref())).await.map(Some)
    }
}

fn source(url: &str, root: Option<&Path>, cache: Option<&CachePlace>) -> Result<TrustRootSource, Failure> {
    if !["https://", "http://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(Failure::usage(format!("{url:?} is not the URL of a TUF repository: https://… is expected")));
    }
    let mut name = url.trim_end_matches('/').as_bytes().to_vec();
    let source = match root {
        Some(path) => {
            let bytes = crate::trust::bounded(path, MAX_ROOT_BYTES, "the TUF root")?;
            check_metadata(path, &bytes)?;
            name.extend(&bytes);
            TrustRootSource::custom(url, &bytes)
        }
        None => TrustRootSource::well_known(url).ok_or_else(|| {
            let failure =
                Failure::usage(format!("nothing says by which keys the TUF repository {url} is to be believed"));
            failure.with_hint("name its first root.json, got from a source that you trust, with --tuf-root")
        })?,
    };
    // A directory for each repository and each beginning of trust: they have nothing to do with each other.
    // What is kept there lies in a cache, which is made first: what holds anything else is left alone.
    let is_cache = |place: &&CachePlace| CacheDir::open(&place.dir, CacheOptions::default()).is_ok();
    Ok(match cache.filter(is_cache) {
        Some(place) => source.cache_dir(&place.dir.join(DIR).join(Digest::sha256_of(&name).hex())).max_age(MAX_AGE),
        None => source,
    })
}

/// A file of another kind is noticed before anybody is asked. Whether its keys are any good is found out with what they
/// signed.
fn check_metadata(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let read: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    if read.as_ref().and_then(|read| read.pointer("/signed/_type")?.as_str()) == Some("root") {
        return Ok(());
    }
    let failure = Failure::usage(format!("{} is not the root.json of a TUF repository", path.display()));
    Err(failure.with_hint("its `signed` has the `_type` root; a trusted_root.json goes to --trusted-root"))
}

/// Reads a trust root.
pub(crate) fn read_root(path: &Path) -> Result<TrustRoot, Failure> {
    TrustRoot::from_file(path).map_err(|error| Failure::from_chain(&error))
}

/// Reads files, and asks people, on a thread where waiting holds nothing up.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
