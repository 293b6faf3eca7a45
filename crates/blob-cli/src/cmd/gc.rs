//! `blob gc`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blob::registry::RegistryError;
use blob::registry::layout::{GcOptions, GcReport, LayoutRegistry, LayoutStore, Uncollected};
use clap::Args;
use serde::Serialize;

use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::ui::size::{count, human};

const EXAMPLES: &str = "\
Examples:
  blob gc ./registry --dry-run          what would go from the registry that `blob serve --root` keeps there
  blob gc oci:./layout --grace 1h       from an OCI image layout
  blob gc ./registry --untagged         manifests without a tag too

Deleting a manifest leaves its blobs until this removes them. It may run while the registry is served and pushed to; \
what is younger than the grace period stays, since it may be part of a push that is not finished.";

/// Remove what no manifest needs any more from a registry or an image layout on disk.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GcArgs {
    /// The directory of the registry or of the layout.
    #[arg(value_name = "DIR")]
    dir: String,

    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,

    /// Keep what is younger: seconds, or 90s, 5m, 24h, 7d.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = crate::ui::duration::parse)]
    grace: Duration,

    /// Remove manifests too that have no tag, belong to no index that is kept, and say nothing about one that is.
    #[arg(long)]
    untagged: bool,

    /// Hash everything that is kept, and list what is damaged. A registry takes damaged blobs out of their place, so that
    /// a push mends them.
    #[arg(long)]
    verify: bool,
}

/// How many directories are looked at to find a repository.
const MAX_LOOKED_AT: usize = 10_000;

/// What was removed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Collected {
    /// Whether this only says what would be done.
    dry_run: bool,
    /// Blobs that were removed.
    removed: Vec<Removed>,
    /// Bytes that were freed.
    freed: u64,
    /// The same for people.
    freed_human: String,
    /// Blobs that are needed.
    kept: usize,
    /// Blobs that are too young to go.
    young: usize,
    /// Unfinished uploads that were given up.
    leftovers: usize,
    /// Needed content that is damaged, with --verify.
    damaged: Vec<String>,
    /// Repositories whose garbage was not collected.
    uncollected: Vec<Left>,
}

/// A repository whose garbage was not collected.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Left {
    /// Its name.
    repository: String,
    /// Why.
    error: String,
}

/// A blob that was removed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Removed {
    /// Its digest.
    digest: String,
    /// Bytes.
    size: u64,
}

pub(crate) async fn run(args: GcArgs, session: &Session) -> Result<(), Failure> {
    let dir = PathBuf::from(args.dir.strip_prefix("oci:").unwrap_or(&args.dir));
    if !dir.is_dir() {
        return Err(Failure::not_found(format!("there is no directory {}", dir.display())));
    }
    if !is_store(&dir) {
        let failure = Failure::not_found(format!("{} is neither a layout nor a registry", dir.display()));
        return Err(failure.with_hint("name the directory of `blob serve --root`, or that of an image layout"));
    }
    let options = GcOptions::default().with_grace(args.grace).with_untagged(args.untagged).with_dry_run(args.dry_run);
    let options = options.with_verify(args.verify);
    let report = collect(&dir, &options).await.map_err(|source| {
        let action = format!("collecting garbage in {}", dir.display());
        Failure::from(blob::Error::Registry { action, source })
    })?;
    let collected = Collected {
        dry_run: args.dry_run,
        freed: report.freed,
        freed_human: human(report.freed),
        kept: report.kept,
        young: report.young,
        leftovers: report.leftovers,
        damaged: report.damaged.iter().map(ToString::to_string).collect(),
        uncollected: report
            .uncollected
            .iter()
            .map(|left| Left { repository: left.repository.to_string(), error: chain(&left.error) })
            .collect(),
        removed: report
            .removed
            .iter()
            .map(|(digest, size)| Removed { digest: digest.to_string(), size: *size })
            .collect(),
    };
    session.outcome(args.dry_run, &collected, || text(&report, args.dry_run)).await?;
    verdict(&dir, &report)
}

/// What is done about damage.
const MEND: &str =
    "push again, with --recheck, what needs what is damaged; what the disk cannot read has to be removed first";

/// A collection that left something is no success.
fn verdict(dir: &Path, report: &GcReport) -> Result<(), Failure> {
    if !report.uncollected.is_empty() {
        let left = report.uncollected.len();
        let repositories = if left == 1 { "repository" } else { "repositories" };
        let each =
            |left: &Uncollected| Failure::new(Kind::General, format!("{}: {}", left.repository, chain(&left.error)));
        let failures: Vec<Failure> = report.uncollected.iter().map(each).collect();
        let text = format!("{left} {repositories} of {} could not be collected to the end", dir.display());
        let failure = Failure::partial(text, &failures);
        return Err(if report.damaged.is_empty() { failure } else { failure.with_hint(MEND) });
    }
    if report.damaged.is_empty() {
        return Ok(());
    }
    let damaged = count(report.damaged.len() as u64, "blob");
    let failure = Failure::new(Kind::HashMismatch, format!("{} has {damaged} of damaged content", dir.display()));
    Err(failure.with_hint(MEND))
}

/// An error with its causes, in a line.
fn chain(error: &RegistryError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}

/// Whether a directory is a layout, or holds repositories as layouts at any depth.
fn is_store(dir: &Path) -> bool {
    let mut open = vec![dir.to_owned()];
    // Names of repositories are as deep as their longest has elements, of two bytes each at least.
    let mut left = MAX_LOOKED_AT;
    while let Some(dir) = open.pop() {
        if dir.join("oci-layout").is_file() {
            return true;
        }
        left -= 1;
        if left == 0 {
            return false;
        }
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        open.extend(
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    false
}

async fn collect(dir: &Path, options: &GcOptions) -> Result<GcReport, RegistryError> {
    if dir.join("oci-layout").exists() {
        return LayoutRegistry::open(dir).await?.collect_garbage(options).await;
    }
    LayoutStore::open(dir).await?.collect_garbage(options).await
}

fn text(report: &GcReport, dry_run: bool) -> String {
    let (done, freed) = if dry_run { ("Would remove", "would free") } else { ("Removed", "freed") };
    let mut text = format!("{done} {}, {freed} {}\n", count(report.removed.len() as u64, "blob"), human(report.freed));
    let _ = writeln!(text, "  Kept: {}, and {} too young to go", report.kept, report.young);
    for digest in &report.damaged {
        let _ = writeln!(text, "  Damaged: {digest}");
    }
    if report.leftovers > 0 {
        let _ = writeln!(text, "  Given up: {}", count(report.leftovers as u64, "unfinished upload"));
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Collected>("gc")]
}
