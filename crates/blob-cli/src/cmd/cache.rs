//! `blob cache`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use blob::Layer;
use blob::cache::{CacheAdmin, CacheDir, layout};
use blob::core::CacheError;
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::cache_flags::KINDS;
use crate::cache_place::CachePlace;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::trust::off_thread;
use crate::ui::escape::shown;
use crate::ui::output;
use crate::ui::size::{count, human};

const EXAMPLES: &str = "\
Examples:
  blob cache status
  blob cache clear refs --force     forget what tags name; the next command asks the registry
  blob cache prune --max 1G         drop what was unused for longest
  blob cache prune --older-than 30d drop what was unused for a month

The cache is shared by all commands; anything in it can be dropped at any time.";

/// Look after what was fetched and kept.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say how full the cache is.
    #[command(after_help = "Examples:\n  blob cache status\n  blob cache status -o json")]
    Status,
    /// Empty the cache, or one kind of entries.
    #[command(after_help = "Examples:\n  blob cache clear\n  blob cache clear refs --force    without a question")]
    Clear {
        /// content, blocks, refs, manifests, indexes or all.
        #[arg(value_name = "TYPE", default_value = "all", hide_default_value = true)]
        kind: String,
        /// Do not ask.
        #[arg(short, long, visible_short_alias = 'y')]
        force: bool,
        /// Only say what would be dropped.
        #[arg(long)]
        dry_run: bool,
    },
    /// Say where the cache is.
    #[command(
        after_help = "Examples:\n  blob cache path\n  du -sh \"$(blob cache path -q)\"    -q prints the directory alone"
    )]
    Path,
    /// Read and check everything, and drop what is damaged.
    #[command(after_help = "Examples:\n  blob cache verify\n  blob cache verify --dry-run")]
    Verify {
        /// Only say what is damaged.
        #[arg(long)]
        dry_run: bool,
    },
    /// Drop what was unused for longest.
    #[command(
        after_help = "Examples:\n  blob cache prune --max 1G\n  blob cache prune --older-than 30d\n  blob cache prune --dry-run"
    )]
    Prune {
        /// Drop what was unused for so long, as in 12h or 30d, however little there is.
        #[arg(long, value_name = "TIME", value_parser = crate::ui::duration::parse)]
        older_than: Option<Duration>,
        /// How much may stay [default: --cache-max, without --older-than].
        #[arg(long, value_name = "SIZE", value_parser = crate::ui::size::parse)]
        max: Option<u64>,
        /// Only say how much would be dropped.
        #[arg(long)]
        dry_run: bool,
    },
}

/// The directory of one kind of entries.
fn directory(layer: Layer) -> &'static str {
    match layer {
        Layer::Blocks => layout::BLOCKS,
        Layer::Tags => layout::TAGS,
        Layer::Manifests => layout::MANIFESTS,
        Layer::Indexes => layout::INDEXES,
        _ => layout::CONTENTS,
    }
}

/// The housekeeping of one kind of entries.
fn admin(cache: &CacheDir, layer: Layer) -> Box<dyn CacheAdmin> {
    match layer {
        Layer::Blocks => Box::new(cache.blocks()),
        Layer::Tags => Box::new(cache.tags()),
        Layer::Manifests => Box::new(cache.manifests()),
        Layer::Indexes => Box::new(cache.indexes()),
        _ => Box::new(cache.contents()),
    }
}

pub(crate) async fn run(args: CacheArgs, session: &Session) -> Result<(), Failure> {
    let place = CachePlace::find(&session.options);
    let place = place.ok_or_else(|| {
        Failure::usage("no cache directory: neither XDG_CACHE_HOME nor HOME is set").with_hint("pass --cache-dir")
    })?;
    let dir = std::path::absolute(&place.dir).map_err(|error| Failure::io("finding the cache directory", &error))?;
    if matches!(args.action, Action::Path) {
        return path(&dir, session).await;
    }
    let opened = CacheDir::open(&dir, session.options.cache.options());
    let cache = opened.map_err(|source| blob::Error::Cache { dir: dir.clone(), source })?;
    match args.action {
        Action::Status => status(&cache, session).await,
        Action::Clear { kind, force, dry_run } => clear(&cache, &kind, How { force, dry_run }, session).await,
        Action::Path => Ok(()),
        Action::Verify { dry_run } => verify(&cache, dry_run, session).await,
        Action::Prune { older_than, max, dry_run } => prune(&cache, older_than, max, dry_run, session).await,
    }
}

fn failed(error: &CacheError) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::new(Kind::General, format!("{error}{cause}"))
}

/// How full the cache is.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Status {
    /// The directory of the cache.
    root: String,
    /// The kinds of entries.
    caches: Vec<Kept>,
    /// Bytes of all entries.
    total_size: u64,
    /// The same for people.
    total_size_human: String,
    /// Entries.
    total_files: u64,
    /// The most bytes that it may hold.
    max_size: u64,
}

/// One kind of entries.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Kept {
    /// `content`, `blocks`, `refs`, `manifests` or `indexes`.
    name: &'static str,
    /// Their directory.
    path: String,
    /// Whether commands use them.
    enabled: bool,
    /// Bytes.
    size: u64,
    /// The size for people.
    size_human: String,
    /// Entries.
    files: u64,
    /// The most bytes that it may hold.
    max_size: u64,
}

async fn layers(cache: &CacheDir, session: &Session) -> Result<Vec<Kept>, Failure> {
    let mut layers = Vec::new();
    for (name, layer) in KINDS {
        let usage = admin(cache, layer).usage().await.map_err(|error| failed(&error))?;
        layers.push(Kept {
            name,
            path: cache.root().join(directory(layer)).display().to_string(),
            enabled: !session.options.no_cache && session.options.cache.uses(layer),
            size: usage.bytes,
            size_human: human(usage.bytes),
            files: usage.entries,
            max_size: usage.max_bytes,
        });
    }
    Ok(layers)
}

async fn status(cache: &CacheDir, session: &Session) -> Result<(), Failure> {
    let caches = layers(cache, session).await?;
    let total_size = caches.iter().map(|layer| layer.size).sum();
    let status = Status {
        root: cache.root().display().to_string(),
        total_size,
        total_size_human: human(total_size),
        total_files: caches.iter().map(|layer| layer.files).sum(),
        max_size: session.options.cache.options().max_bytes,
        caches,
    };
    let text = || {
        let mut text = format!("Cache directory: {}\n\n", shown(status.root.as_bytes()));
        for layer in &status.caches {
            let disabled = if layer.enabled { "" } else { " (disabled)" };
            let (name, size, files) = (layer.name, &layer.size_human, layer.files);
            let _ = writeln!(text, "  {name:<9}  {size:>8}  {files:>5} files{disabled}");
        }
        let most = human(status.max_size);
        text + &format!("\nTotal: {} ({} files)\n  Most: {most}\n", status.total_size_human, status.total_files)
    };
    session.answer(&status, text).await
}

/// Where the cache is.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Paths {
    /// The directory of the cache.
    root: String,
    /// The directories of the kinds of entries.
    paths: BTreeMap<&'static str, String>,
}

async fn path(dir: &std::path::Path, session: &Session) -> Result<(), Failure> {
    let below = |name: &str| dir.join(name).display().to_string();
    let paths = Paths {
        root: PathBuf::from(dir).display().to_string(),
        paths: KINDS.iter().map(|(name, layer)| (*name, below(directory(*layer)))).collect(),
    };
    let text = || {
        let mut text = format!("Cache directory: {}\n\n", shown(paths.root.as_bytes()));
        for (name, layer) in KINDS {
            let path = below(directory(layer));
            let _ = writeln!(text, "  {:<11}  {}", format!("{name}:"), shown(path.as_bytes()));
        }
        text
    };
    if session.is_terse() {
        return session.print(format!("{}\n", paths.root)).await;
    }
    session.answer(&paths, text).await
}

/// How the cache is emptied.
#[derive(Clone, Copy)]
struct How {
    force: bool,
    dry_run: bool,
}

/// What was cleared.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Emptied {
    /// The kinds of entries that were cleared.
    cleared: Vec<&'static str>,
    /// Bytes that were freed.
    total_size_cleared: u64,
    /// The same for people.
    total_size_human: String,
    /// Entries that were dropped.
    total_files_cleared: u64,
    /// Whether nothing was dropped, only looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

async fn clear(cache: &CacheDir, kind: &str, how: How, session: &Session) -> Result<(), Failure> {
    let chosen: Vec<&'static str> =
        KINDS.iter().map(|(name, _)| *name).filter(|name| kind == "all" || kind == *name).collect();
    if chosen.is_empty() {
        let valid = KINDS.map(|(name, _)| name).join(", ");
        return Err(Failure::usage(format!("invalid cache type {kind:?}, valid types: {valid}, all")));
    }
    let json = session.options.output.is_json();
    let unasked = how.force || how.dry_run;
    if json && !unasked {
        return Err(Failure::usage("--force required when using --output json"));
    }
    let (mut size, mut files) = held(cache, &chosen, session).await?;
    if !unasked && !confirmed(kind, size, files, session).await? {
        output::complain("Canceled.\n");
        return Ok(());
    }
    for (_, layer) in KINDS.iter().filter(|(name, _)| chosen.contains(name) && !how.dry_run) {
        admin(cache, *layer).clear().await.map_err(|error| failed(&error))?;
    }
    if kind == "all" {
        // Verdicts of policies hold for minutes, and are no kind of their own.
        let root = cache.root().to_owned();
        off_thread(move || {
            blob::forget_verdicts(&root).map_err(|error| Failure::io("removing the verdicts of policies", &error))
        })
        .await?;
    }
    if !how.dry_run {
        let (size_left, files_left) = held(cache, &chosen, session).await?;
        if files_left > 0 {
            let left = human(size_left);
            let problem = format!("{files_left} files ({left}) are still there: they cannot be removed, or are new");
            let hint = format!("see who may write to {}", cache.root().display());
            return Err(Failure::new(Kind::General, problem).with_hint(hint));
        }
        (size, files) = (size.saturating_sub(size_left), files.saturating_sub(files_left));
    }
    let cleared = Emptied {
        cleared: chosen,
        total_size_cleared: size,
        total_size_human: human(size),
        total_files_cleared: files,
        dry_run: how.dry_run,
    };
    let text = || {
        let names = cleared.cleared.join("\n  - ");
        let verb = if how.dry_run { "Would clear" } else { "Cleared" };
        format!("{verb} {} ({files} files)\n  - {names}\n", cleared.total_size_human)
    };
    session.outcome(how.dry_run, &cleared, text).await
}

/// Bytes and files of the kinds that were chosen.
async fn held(cache: &CacheDir, chosen: &[&str], session: &Session) -> Result<(u64, u64), Failure> {
    let layers = layers(cache, session).await?;
    let chosen = || layers.iter().filter(|layer| chosen.contains(&layer.name));
    Ok((chosen().map(|layer| layer.size).sum(), chosen().map(|layer| layer.files).sum()))
}

/// Asks; no answer means no.
async fn confirmed(kind: &str, size: u64, files: u64, session: &Session) -> Result<bool, Failure> {
    let what = if kind == "all" { "all caches".to_owned() } else { format!("the {kind} cache") };
    session.print(format!("Clear {what}? ({}, {files} files) [y/N]: ", human(size))).await?;
    let mut answer = String::new();
    let read = BufReader::new(tokio::io::stdin()).read_line(&mut answer).await;
    read.map_err(|error| Failure::io("reading the answer from standard input", &error))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What was read and checked.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Verification {
    /// Entries that were read.
    checked: u64,
    /// Entries that were damaged, and dropped.
    dropped: u64,
    /// Whether nothing was dropped, only looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

async fn verify(cache: &CacheDir, dry_run: bool, session: &Session) -> Result<(), Failure> {
    let verified = if dry_run { cache.verify_only().await } else { cache.verify().await };
    let verified = verified.map_err(|error| failed(&error))?;
    let checked = Verification { checked: verified.checked, dropped: verified.dropped, dry_run };
    let what = if dry_run { "damaged, which would be dropped" } else { "damaged and dropped" };
    let text = || format!("Checked {} entries: {} {what}\n", checked.checked, checked.dropped);
    session.outcome(dry_run, &checked, text).await
}

/// What was dropped, and what stays.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Pruned {
    /// Bytes that were freed.
    freed: u64,
    /// The same for people.
    freed_human: String,
    /// Bytes that stay.
    total_size: u64,
    /// The same for people.
    total_size_human: String,
    /// Entries that stay.
    total_files: u64,
    /// Whether nothing was dropped, only looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

async fn prune(
    cache: &CacheDir,
    older_than: Option<Duration>,
    max: Option<u64>,
    dry_run: bool,
    session: &Session,
) -> Result<(), Failure> {
    let failed = |error| failed(&error);
    let default = if older_than.is_some() { u64::MAX } else { session.options.cache.options().max_bytes };
    let (most, mut freed) = (max.unwrap_or(default), 0);
    if let Some(age) = older_than {
        freed = if dry_run {
            cache.unused(age).await.map_err(failed)?.bytes
        } else {
            cache.prune_unused(age).await.map_err(failed)?
        };
    }
    if !dry_run && most < u64::MAX {
        freed += cache.prune(most).await.map_err(failed)?;
    }
    let usage = cache.usage().await.map_err(failed)?;
    // Entries go as a whole, so it may be a little more.
    let freed = if dry_run { freed.max(usage.bytes.saturating_sub(most)) } else { freed };
    let pruned = Pruned {
        freed,
        freed_human: human(freed),
        total_size: usage.bytes,
        total_size_human: human(usage.bytes),
        total_files: usage.entries,
        dry_run,
    };
    if dry_run {
        let text = || format!("Would free at least {}\n  Now: {}\n", pruned.freed_human, pruned.total_size_human);
        return session.answer(&pruned, text).await;
    }
    let left = || format!("{} ({})", pruned.total_size_human, count(pruned.total_files, "file"));
    session.report(&pruned, || format!("Freed {}\n  Left: {}\n", pruned.freed_human, left())).await
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![
        document::<Status>("cache-status"),
        document::<Emptied>("cache-clear"),
        document::<Paths>("cache-path"),
        document::<Verification>("cache-verify"),
        document::<Pruned>("cache-prune"),
    ]
}
