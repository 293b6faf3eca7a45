//! References and paths that this machine knows: from the cache, and from image layouts on disk.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use blob::cache::{CacheDir, CacheOptions};
use blob::core::path;
use blob::registry::PageRequest;
use blob::{Client, Location, PullOptions};
use clap_complete::engine::CompletionCandidate;

use crate::alias::disk_prefix;
use crate::alias::{Aliases, Wanted};
use crate::args;
use crate::cache_place::CachePlace;
use crate::config::Config;
use crate::trust::policy_set;

/// How many candidates a shell is given.
const MOST: usize = 500;

/// How many remembered tags are looked at: each is a small file.
const MOST_TAGS: usize = 10_000;

/// A shell that waits longer than this is told nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// What this machine knows.
struct Known {
    config: Config,
    aliases: Aliases,
    require_signed: bool,
    cache: Option<CacheDir>,
}

impl Known {
    /// Reads the configuration and opens the cache, which is not made for this.
    fn find() -> Option<Self> {
        let (mut cli, matches) = args::parse(&["blob".into(), "version".into()] as &[OsString]).ok()?;
        let config = Config::load(cli.global.config.as_deref());
        config.apply(&matches, &mut cli.global);
        // What cannot be read may ask for something.
        if !config.problems.is_empty() {
            return None;
        }
        let place = CachePlace::find(&cli.global).filter(|place| !cli.global.no_cache && place.dir.is_dir());
        // What a tag named at any time is better than nothing.
        let options = CacheOptions { tag_ttl: Duration::MAX, ..CacheOptions::default() };
        let cache = place.and_then(|place| CacheDir::open(place.dir, options).ok());
        Some(Self { aliases: config.aliases(), require_signed: cli.global.require_signed, config, cache })
    }

    fn location(&self, typed: &str) -> Option<Location> {
        self.aliases.expand(typed, Wanted::Archive).parse().ok()
    }

    /// A client that sends nothing, and opens at `location` what the configuration lets commands open: an archive in a
    /// layout that its policies admit, or one that they admitted a moment ago.
    fn client(&self, location: &Location) -> Option<Client> {
        let mut builder = Client::builder().offline();
        if self.config.has_rules() {
            // Nobody waits for the trust root of a TUF repository to say what a command would say of it.
            if self.config.tuf().is_some() {
                return None;
            }
            let policies = policy_set(&self.config.rules(None), std::slice::from_ref(location)).ok()?;
            builder = builder.policies_from(Arc::new(policies));
        }
        if self.require_signed {
            builder = builder.require_verified();
        }
        match &self.cache {
            Some(cache) => builder.cache(cache.clone()).build().ok(),
            None => builder.build().ok(),
        }
    }

    /// The beginning of what is remembered that `typed` stands for, and what of `typed` is not a tag: both end in a colon
    /// unless the repository is not typed yet.
    fn beginning(&self, typed: &str) -> (String, String) {
        let name_at = typed.rfind('/').map_or(0, |slash| slash + 1);
        let Some(colon) = typed[name_at..].find(':').map(|colon| name_at + colon) else {
            return (typed.to_owned(), String::new());
        };
        let repository = self.aliases.expand(&typed[..colon], Wanted::Repository);
        (format!("{repository}:"), typed[..=colon].to_owned())
    }

    async fn tags(&self, typed: &str) -> Option<BTreeSet<String>> {
        let (wanted, kept) = self.beginning(typed);
        let keys = self.cache.as_ref()?.tags().keys(&wanted, MOST_TAGS).await.ok()?;
        // The cache also keeps what is no tag; names with blanks are none.
        let candidates = keys.iter().filter(|key| !key.contains(' ')).map(|key| match kept.as_str() {
            "" => key.clone(),
            kept => format!("{kept}{}", &key[wanted.len()..]),
        });
        Some(candidates.filter(|candidate| candidate.starts_with(typed)).collect())
    }

    /// Tags of an image layout: `oci:DIR:` or `oci-archive:FILE:` was typed.
    async fn layout_tags(&self, typed: &str) -> Option<BTreeSet<String>> {
        let start = disk_prefix(typed).len();
        let dir = &typed[..start + typed[start..].rfind(':')?];
        let location: Location = dir.parse().ok()?;
        let page = self.client(&location)?.tags(&location, &PageRequest::default()).await.ok()?;
        let candidates = page.items.iter().map(|tag| format!("{dir}:{tag}"));
        Some(candidates.filter(|candidate| candidate.starts_with(typed)).collect())
    }

    /// What is in the directory of the archive that `typed` is in, as paths that begin with it.
    async fn entries(&self, reference: &str, typed: &str) -> Option<BTreeSet<String>> {
        let location = self.location(reference)?;
        let archive = self.client(&location)?.pull(&location, &PullOptions::default()).await.ok()?;
        let (dir, _) = typed.rsplit_once('/').map_or(("", typed), |(dir, name)| (dir, name));
        let directory = archive.index().directory(path::normalize(dir.as_bytes()))?;
        let prefix = if typed.contains('/') { format!("{dir}/") } else { String::new() };
        let candidate = |name: &[u8], is_dir: bool| {
            let name = str::from_utf8(name).ok()?;
            Some(format!("{prefix}{name}{}", if is_dir { "/" } else { "" }))
        };
        let entries = directory.entries();
        let entries = entries.iter().filter_map(|entry| candidate(entry.name, entry.node.is_dir()));
        Some(entries.filter(|candidate| candidate.starts_with(typed)).take(MOST).collect())
    }
}

/// Places that begin as `typed` does.
pub(super) fn references(typed: &str) -> Vec<CompletionCandidate> {
    answer(async |known: &Known| match typed.split_at(disk_prefix(typed).len()) {
        ("", _) => known.tags(typed).await,
        (_, rest) if rest.contains(':') => known.layout_tags(typed).await,
        (prefix, rest) => Some(layouts(prefix, rest)),
    })
}

/// Paths of the archive that stands before `:/` in what was typed.
pub(super) fn sources(typed: &str) -> Vec<CompletionCandidate> {
    let (prefix, rest) = typed.split_at(disk_prefix(typed).len());
    let Some((reference, path)) = rest.rsplit_once(":/") else { return Vec::new() };
    let reference = format!("{prefix}{reference}");
    answer(async |known: &Known| {
        let paths = known.entries(&reference, path).await?;
        Some(paths.into_iter().map(|path| format!("{reference}:/{path}")).collect())
    })
}

/// Paths of the archive that is the first among the words that a shell passed on.
pub(super) fn paths(typed: &str, words: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let words: Vec<String> = words.skip_while(|word| word != "--").skip(2).collect();
    answer(async |known: &Known| {
        let named = |word: &&String| known.location(word).is_some_and(|location| location.target().is_some());
        let reference = words.iter().filter(|word| !word.starts_with('-')).find(named)?;
        known.entries(reference, typed).await
    })
}

/// Directories, and files if those are wanted, that may be layouts.
fn layouts(kind: &str, typed: &str) -> BTreeSet<String> {
    let (dir, name) = typed.rsplit_once('/').map_or(("", typed), |(dir, name)| (dir, name));
    let prefix = if typed.contains('/') { format!("{dir}/") } else { String::new() };
    let listed = std::fs::read_dir(if prefix.is_empty() { "." } else { &prefix });
    let entries = listed.into_iter().flatten().flatten();
    let wanted = entries.filter_map(|entry| {
        let found = entry.file_name().into_string().ok().filter(|found| found.starts_with(name))?;
        let hidden = found.starts_with('.') && name.is_empty();
        let path = entry.path();
        let packed = kind == "oci-archive:" && path.extension().is_some_and(|end| end.eq_ignore_ascii_case("tar"));
        let end = if packed || (kind == "oci:" && path.join("oci-layout").is_file()) { ':' } else { '/' };
        (!hidden && (packed || path.is_dir())).then(|| format!("{kind}{prefix}{found}{end}"))
    });
    wanted.take(MOST).collect()
}

/// What `work` finds in time.
fn answer(work: impl AsyncFnOnce(&Known) -> Option<BTreeSet<String>>) -> Vec<CompletionCandidate> {
    let Some(known) = Known::find() else { return Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, work(&known)).await.ok().flatten() });
    // A thread may still read a slow disk.
    runtime.shutdown_background();
    found.unwrap_or_default().into_iter().take(MOST).map(CompletionCandidate::new).collect()
}
