//! `blob pull`.

mod refusal;

use std::fmt::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use blob::Location;
use blob::core::extract::{Existing, ExtractOptions, ExtractReport, FromCache, Layout, Selection, Symlinks};
use blob::core::{Node, path};
use clap::{ArgAction, Args, ValueEnum};
use serde::Serialize;

pub(super) use self::refusal::{exist, refusal};
use super::preview::Preview;
use super::{missing, sync};
use crate::args::Caching;
use crate::error::Failure;
use crate::filter::Patterns;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::escape::shown;
use crate::ui::output;
use crate::ui::size::{count, human};
use crate::ui::traffic::Traffic;

const EXAMPLES: &str = "\
Examples:
  blob pull localhost:5000/team/assets:v1 ./assets
  blob pull -p docs localhost:5000/team/assets:v1 ./out    only docs/, as ./out/docs/
  blob pull --strip-components 1 oci:./layout:v1 ./out     docs/a.md as ./out/a.md
  blob pull --clean oci:./layout:v1 ./deploy               replace ./deploy as a whole
  blob pull --sync --delete oci:./layout:v2 ./deploy       change only what differs, delete what is gone

Files that exist already and are equal are kept. If others differ, they are listed and nothing is written, unless \
--overwrite is given. Every file is verified before it gets its name.";

/// Extract an archive to a directory.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PullArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// The directory to extract to; made if it does not exist.
    #[arg(value_name = "DEST", default_value = ".")]
    dest: PathBuf,

    #[command(flatten)]
    extract: ExtractArgs,
}

/// How an archive is extracted.
#[derive(Args, Debug)]
pub(crate) struct ExtractArgs {
    /// Extract only what is in this directory of the archive; paths stay whole.
    #[arg(short, long, value_name = "PATH")]
    prefix: Option<String>,

    /// Take so many names off the beginning of each path; what has no more than that is left out.
    #[arg(long, value_name = "N", conflicts_with_all = ["delete", "clean"])]
    strip_components: Option<usize>,

    /// Replace files that exist: all of them, those that differ, those that differ and are older than the archive's, or none,
    /// which are skipped then.
    #[arg(long, visible_alias = "force", short_alias = 'f', value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    overwrite: Option<Overwrite>,

    /// Update a tree: what is equal stays, what differs is replaced, one rename each.
    #[arg(long, conflicts_with_all = ["overwrite", "clean"])]
    sync: bool,

    /// Delete what the archive does not have, as far as --include and --exclude mean it.
    #[arg(long, requires = "sync", group = "deletes")]
    delete: bool,

    /// Delete also where that looks like a mistake: in the home directory, in /, or where nothing is in common.
    #[arg(long, requires = "deletes")]
    force_delete: bool,

    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    patterns: Patterns,

    /// Replace files that differ, and keep those that are equal, with the modes and times that they have.
    #[arg(long, conflicts_with_all = ["overwrite", "sync"])]
    update: bool,

    /// Replace the whole destination, once everything is extracted beside it: what the archive does not have goes.
    #[arg(long, group = "deletes")]
    clean: bool,

    /// Set the modes of the archive, less the umask (the default).
    #[arg(long, overrides_with = "no_preserve_mode")]
    preserve_mode: bool,

    /// Let the umask alone decide modes.
    #[arg(long)]
    no_preserve_mode: bool,

    /// Set the modification times of the archive (the default).
    #[arg(long, overrides_with = "no_preserve_times")]
    preserve_times: bool,

    /// Leave modification times as they come to be.
    #[arg(long)]
    no_preserve_times: bool,

    /// Create symbolic links that lead out of the destination, too.
    #[arg(long)]
    allow_external_symlinks: bool,

    /// Leave symbolic links out.
    #[arg(long, conflicts_with = "allow_external_symlinks")]
    no_symlinks: bool,

    /// How files come out of the cache: copied; sharing blocks with it where the file system can; or as hard links, which
    /// can be read only.
    #[arg(long, env = "BLOB_LINK_MODE", value_name = "MODE", value_enum, default_value_t = LinkMode::Copy)]
    link_mode: LinkMode,

    /// Threads that decode and write [default: one for each core].
    #[arg(long, env = "BLOB_WORKERS", value_name = "N", action = ArgAction::Set)]
    workers: Option<NonZero<usize>>,

    /// Begin although the file system says that it has not the room.
    #[arg(long)]
    no_space_check: bool,

    /// Make sure that everything is on disk at the end.
    #[arg(long)]
    fsync: bool,

    /// Say on standard error how many requests and bytes it took.
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

/// How files come out of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LinkMode {
    /// Their bytes are copied.
    Copy,
    /// They share blocks with the cache until they are written to; copied where that cannot be.
    Reflink,
    /// They are the cache's files under other names, read-only; copied where that cannot be.
    Hardlink,
}

/// Which files that exist are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Overwrite {
    /// All of them.
    Always,
    /// Those that differ.
    IfChanged,
    /// Those that differ and are older than in the archive; the others are skipped.
    IfNewer,
    /// None: they are skipped.
    Never,
}

/// What was extracted.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The archive, as it was typed.
    r#ref: String,
    /// What an alias resolved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_ref: Option<String>,
    /// The digest of the manifest.
    digest: String,
    /// The directory or file that was written to, absolute.
    destination: String,
    /// Files that were written.
    file_count: u64,
    /// Their bytes.
    total_size: u64,
    /// The same for people.
    total_size_human: String,
    /// Symbolic links that were made.
    symlink_count: u64,
    /// Symbolic links that were left out, as was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    symlinks_left_out: Option<u64>,
    /// What `--strip-components` left without a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_left_out: Option<u64>,
    /// Files and links that were there already and equal.
    kept_count: u64,
    /// Those of them that were given other permission bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode_count: Option<u64>,
    /// Files whose content came from the cache.
    cached_count: u64,
    /// Files that are hard links to the cache.
    linked_count: u64,
    /// Files that differ and were left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped_count: Option<u64>,
    /// What was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_count: Option<u64>,
    /// Whether a policy admitted it.
    verified: bool,
    /// Of an archive in a pair of files: whether there is a manifest that says which index and data it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<bool>,
    /// What was fetched, and what the cache saved.
    traffic: Traffic,
}

pub(crate) async fn run(args: PullArgs, session: &Session) -> Result<(), Failure> {
    extract(("Pulled", &args.reference), args.dest, args.extract, session).await
}

/// Extracts the archive that `typed` means to `dest`, and says so with `verb`.
pub(super) async fn extract(
    (verb, typed): (&'static str, &str),
    dest: PathBuf,
    args: ExtractArgs,
    session: &Session,
) -> Result<(), Failure> {
    if args.clean && (args.prefix.is_some() || !args.patterns.is_empty()) {
        let failure =
            Failure::usage("--clean replaces the whole destination, and only a part of the archive is wanted");
        return Err(failure.with_hint("--sync --delete deletes within that part alone"));
    }
    let location = session.location(typed)?;
    check_dest(&dest)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open_to_read(&client, &location, args.caching, wants_all(&args, &dest)).await?;
    let selection = match &args.prefix {
        None => Selection::everything(),
        Some(prefix) => match archive.index().lookup(path::normalize(prefix.as_bytes())) {
            Some(Node::Directory(_) | Node::EmptyDir(_)) => Selection::directory(prefix),
            Some(_) => Selection::paths([prefix]),
            None => return Err(missing::failure("path not found in archive", archive.index(), prefix)),
        },
    };
    let selection = match selection {
        Selection::Directory(path) => match archive.index().directory(&path) {
            Some(directory) => args.patterns.select(directory),
            None => Selection::Directory(path),
        },
        other => other,
    };
    check_matches(&selection, &args.patterns, typed, args.delete)?;
    let options = options(&args, session);
    let prefix = path::normalize(args.prefix.as_deref().unwrap_or_default().as_bytes());
    let forced = args.force_delete || args.dry_run;
    let surplus = if args.delete {
        sync::surplus(&archive, (selection.clone(), &*prefix), &dest, &args.patterns, forced).await?
    } else if args.clean {
        sync::replaced(&archive, selection.clone(), &dest, forced).await?
    } else {
        Vec::new()
    };
    if args.dry_run {
        let planned = archive.preview_after(selection, &dest, &options, &surplus).await.map_err(refusal)?;
        Session::log_traffic(&client);
        let destination = dest.display().to_string();
        return Preview::new(location.to_string(), destination, &planned, &surplus).report(session).await;
    }
    // What stands in the way is moved aside, and back if the extraction fails; nothing goes before the new files are there.
    // A replacement as a whole does all that by itself.
    let surplus = if args.clean { Vec::new() } else { surplus };
    let (obstacles, rest): (Vec<_>, Vec<_>) = surplus.into_iter().partition(|surplus| surplus.obstructs);
    let aside = sync::set_aside(&dest, obstacles).await?;
    if dest.exists() {
        // File by file, and not to be taken back.
        output::begin();
    }
    let extracted = archive.extract(selection, &dest, &options).await.map_err(refusal)?;
    let deleted = sync::remove(&dest, aside, rest).await?;
    Session::log_traffic(&client);
    let destination = std::path::absolute(&dest).unwrap_or(dest);
    let report = Report {
        resolved_ref: Session::resolved(typed, &location),
        r#ref: typed.to_owned(),
        digest: archive.manifest().digest().to_string(),
        destination: destination.display().to_string(),
        file_count: extracted.files,
        total_size: extracted.bytes,
        total_size_human: human(extracted.bytes),
        symlink_count: extracted.symlinks,
        symlinks_left_out: args.no_symlinks.then_some(extracted.links_left_out),
        paths_left_out: args.strip_components.map(|_| extracted.paths_left_out),
        kept_count: extracted.kept,
        mode_count: (extracted.modes > 0).then_some(extracted.modes),
        cached_count: extracted.cached,
        linked_count: extracted.linked,
        skipped_count: (extracted.skipped > 0).then_some(extracted.skipped),
        deleted_count: args.delete.then_some(deleted),
        verified: archive.manifest().is_verified(),
        manifest: manifest_of(&location),
        traffic: Traffic::of(&client, [&archive]),
    };
    session.report(&report, || text(verb, &report)).await?;
    if args.stats {
        session.print_stats(&client, &archive);
    }
    Ok(())
}

/// Whether a pair of files has a manifest.
fn manifest_of(location: &Location) -> Option<bool> {
    let Location::Pair { dir, .. } = location else { return None };
    Some(blob::pair::has_manifest(dir))
}

/// Refuses patterns that name nothing of the archive, which is a slip more often than not; what they name at the
/// destination may be there to be deleted.
fn check_matches(selection: &Selection, patterns: &Patterns, typed: &str, deletes: bool) -> Result<(), Failure> {
    match selection {
        Selection::Paths(paths) if paths.is_empty() && patterns.includes() && !deletes => {
            Err(patterns.nothing_of(typed))
        }
        _ => Ok(()),
    }
}

/// Whether every file will be fetched: nothing is left out, and there is nothing at the destination to keep.
fn wants_all(args: &ExtractArgs, dest: &Path) -> bool {
    let empty = || std::fs::read_dir(dest).map_or(true, |mut entries| entries.next().is_none());
    args.prefix.is_none() && args.patterns.is_empty() && !args.dry_run && (args.clean || empty())
}

/// A destination that is something else than a directory.
pub(super) fn check_dest(dest: &Path) -> Result<(), Failure> {
    match std::fs::metadata(dest) {
        Ok(found) if !found.is_dir() => {
            Err(Failure::usage(format!("destination is not a directory: {}", dest.display())))
        }
        _ => Ok(()),
    }
}

fn options(args: &ExtractArgs, session: &Session) -> ExtractOptions {
    let mut options = ExtractOptions::default();
    options.existing = if args.sync || args.update { Existing::Update } else { existing(args.overwrite) };
    options.from_cache = match args.link_mode {
        LinkMode::Copy => FromCache::Copy,
        LinkMode::Reflink => FromCache::Reflink,
        LinkMode::Hardlink => FromCache::HardLink,
    };
    // Read-only hard links to the cache have modes of their own.
    options.compare_modes = !args.update && args.link_mode != LinkMode::Hardlink;
    options.preserve_mode = !args.no_preserve_mode;
    options.preserve_times = !args.no_preserve_times;
    options.clean = args.clean;
    options.layout = args.strip_components.map_or(Layout::Full, Layout::StripComponents);
    options.allow_external_symlinks = args.allow_external_symlinks;
    options.symlinks = if args.no_symlinks { Symlinks::Skip } else { options.symlinks };
    options.workers = args.workers.or(session.options.jobs);
    limit_requests(&mut options, session);
    options.fsync = args.fsync;
    options.skip_room_check = args.no_space_check;
    options.progress = Some(session.meter.watcher());
    options
}

/// What becomes of files that exist.
pub(super) fn existing(overwrite: Option<Overwrite>) -> Existing {
    match overwrite {
        Some(Overwrite::Always) => Existing::Overwrite,
        Some(Overwrite::IfChanged) => Existing::Update,
        Some(Overwrite::IfNewer) => Existing::UpdateOlder,
        Some(Overwrite::Never) => Existing::Skip,
        None => Existing::KeepEqual,
    }
}

/// As many requests at a time as `--jobs` says.
pub(super) fn limit_requests(options: &mut ExtractOptions, session: &Session) {
    options.read_concurrency = session.options.jobs.map_or(options.read_concurrency, NonZero::get);
}

fn text(verb: &str, report: &Report) -> String {
    let mut text = format!("{verb} {}\n", report.r#ref);
    if let Some(resolved) = &report.resolved_ref {
        let _ = writeln!(text, "  Resolved: {resolved}");
    }
    let _ = writeln!(text, "  Destination: {}", shown(report.destination.as_bytes()));
    let _ = writeln!(text, "  Files: {}\n  Size: {}", report.file_count, report.total_size_human);
    if report.symlink_count > 0 {
        let _ = writeln!(text, "  Links: {}", report.symlink_count);
    }
    if report.kept_count > 0 {
        let modes = report.mode_count.unwrap_or_default();
        let told = if modes > 0 { format!(", and {modes} with a new mode") } else { String::new() };
        let _ = writeln!(text, "  Kept: {} equal already{told}", report.kept_count.saturating_sub(modes));
    }
    if report.linked_count > 0 {
        let _ = writeln!(text, "  Linked: {}, read-only", report.linked_count);
    }
    if let Some(links @ 1..) = report.symlinks_left_out {
        let _ = writeln!(text, "  Left out: {}", count(links, "link"));
    }
    if let Some(paths @ 1..) = report.paths_left_out {
        let _ = writeln!(text, "  {}", too_short(paths));
    }
    for (label, number) in [("Skipped", report.skipped_count), ("Deleted", report.deleted_count)] {
        if let Some(number) = number {
            let _ = writeln!(text, "  {label}: {number}");
        }
    }
    if report.manifest == Some(false) {
        text.push_str("  Manifest: none, so files were checked against the index alone\n");
    }
    if let Some(fetched) = report.traffic.text() {
        let _ = writeln!(text, "  Fetched: {fetched}");
    }
    text
}

/// What is told of paths that have no more names than are taken off.
pub(super) fn too_short(paths: u64) -> String {
    format!("Left out: {} without so many names above", count(paths, "path"))
}

/// What several extractions did together.
pub(super) fn add(sum: &mut ExtractReport, one: &ExtractReport) {
    sum.files += one.files;
    sum.bytes += one.bytes;
    sum.kept += one.kept;
    sum.symlinks += one.symlinks;
    sum.skipped += one.skipped;
    sum.paths_left_out += one.paths_left_out;
}

/// `3 file(s) (1.5K)`.
pub(super) fn summary(report: &ExtractReport) -> String {
    let mut text = format!("{} file(s) ({})", report.files, human(report.bytes));
    if report.symlinks > 0 {
        let _ = write!(text, " and {}", count(report.symlinks, "link"));
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("pull")]
}
