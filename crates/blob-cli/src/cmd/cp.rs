//! `blob cp`.

mod meant;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use blob::core::extract::{Existing, ExtractOptions, ExtractReport, Layout, Selection};
use blob::core::{Node, path};
use blob::{Archive, Location};
use clap::{ArgAction, Args};
use serde::Serialize;

use super::preview::Preview;
use super::pull::Overwrite;
use super::{cat, export, missing, pull};
use crate::args::Caching;
use crate::error::Failure;
use crate::filter::Patterns;
use crate::plan::CopySource;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::escape::shown;
use crate::ui::output;
use crate::ui::size::human;
use crate::ui::traffic::Traffic;

const EXAMPLES: &str = "\
Examples:
  blob cp localhost:5000/team/assets:v1:/config/app.yaml ./app.yaml
  blob cp localhost:5000/team/assets:v1:/config ./out           becomes ./out/config/…
  blob cp --flat h/a:1:/x/one.txt h/b:2:/y/two.txt ./out        becomes ./out/one.txt, ./out/two.txt
  blob cp -T localhost:5000/team/assets:v1:/config ./settings   becomes ./settings/…
  blob cp --strip-components 1 h/a:1:/config/prod ./out         becomes ./out/prod/…
  blob cp localhost:5000/team/assets:v1:/config - | tar -t      a tar stream

A single file goes to exactly DEST, unless DEST is a directory or ends in a slash. Everything else keeps its path in the \
archive below DEST. The last `:/` of a source separates the archive from the path.";

/// Options may stand between the operands, so that these are one list to the parser.
pub(crate) const USAGE: &str = "blob cp [OPTIONS] <REF:/PATH>... <DEST>";

/// Copy files and directories out of archives.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, override_usage = USAGE)]
pub(crate) struct CpArgs {
    /// What to copy, which may be several, from several archives; then DEST, where to: - writes a file, or directories as a
    /// tar stream, to standard output.
    #[arg(value_name = "REF:/PATH", required = true)]
    words: Vec<OsString>,

    #[arg(skip)]
    sources: Vec<String>,

    #[arg(skip)]
    dest: PathBuf,

    /// Copy directories.
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    recursive: bool,

    /// Set the modes and modification times of the archive, which is the default.
    #[arg(long, overrides_with = "no_preserve")]
    preserve: bool,

    /// Leave modes to the umask and set no times.
    #[arg(long)]
    no_preserve: bool,

    /// Replace files that exist: all of them, those that differ, those that differ and are older than the archive's, or none,
    /// which are skipped then.
    #[arg(short, long, visible_alias = "overwrite", value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    force: Option<Overwrite>,

    /// Skip files that exist: --overwrite=never.
    #[arg(short, long, conflicts_with_all = ["force", "update"])]
    no_clobber: bool,

    /// Replace files that differ and are older than the archive's: --overwrite=if-newer.
    #[arg(short, long, conflicts_with = "force")]
    update: bool,

    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    patterns: Patterns,

    /// Give everything its last name alone.
    #[arg(long)]
    flat: bool,

    /// Keep paths as they are in the archive, below DEST. Only a single file does not without this.
    #[arg(long, conflicts_with = "flat")]
    parents: bool,

    /// Take so many names off the beginning of each path; what has no more than that is left out.
    #[arg(long, value_name = "N", conflicts_with_all = ["flat", "parents"])]
    strip_components: Option<usize>,

    /// DEST is the name of the copy itself: of a directory, what is in it goes to DEST.
    #[arg(short = 'T', long, conflicts_with_all = ["flat", "parents", "strip_components"])]
    no_target_directory: bool,

    /// Begin although the file system says that it has not the room.
    #[arg(long)]
    no_space_check: bool,

    /// Create symbolic links that lead out of the destination, too.
    #[arg(long)]
    allow_external_symlinks: bool,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

/// What was copied.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// What was named.
    sources: Vec<Source>,
    /// The directory or file that was written to, absolute.
    destination: String,
    /// Files.
    file_count: u64,
    /// Bytes of the files, uncompressed.
    total_size: u64,
    /// The size for people.
    size_human: String,
    /// Symbolic links.
    symlink_count: u64,
    /// Files and links that were there already and equal.
    kept_count: u64,
    /// What `--strip-components` left without a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_left_out: Option<u64>,
    /// Files that exist and were left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped_count: Option<u64>,
    /// What was fetched, and what the cache saved.
    traffic: Traffic,
}

/// A path in an archive.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Source {
    /// The archive.
    r#ref: String,
    /// The path, with a slash before it.
    path: String,
}

/// An archive and what is copied from it.
struct Batch {
    location: Location,
    archive: Archive,
    paths: Vec<String>,
}

/// Where the copies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// To exactly this file.
    File,
    /// Below this directory.
    Directory,
}

impl CpArgs {
    /// What was typed besides options.
    pub(crate) fn operands(&self) -> usize {
        self.words.len()
    }

    /// Tells sources from the destination, which is the last.
    fn tell_apart(&mut self) -> Result<(), Failure> {
        let mut words = std::mem::take(&mut self.words);
        self.dest = words.pop().unwrap_or_default().into();
        let text = |word: OsString| {
            word.into_string().map_err(|word| Failure::usage(format!("{} is not UTF-8 text", word.display())))
        };
        self.sources = words.into_iter().map(text).collect::<Result<_, _>>()?;
        Ok(())
    }
}

pub(crate) async fn run(mut args: CpArgs, session: &Session) -> Result<(), Failure> {
    args.tell_apart()?;
    let sources = args
        .sources
        .iter()
        .map(|typed| CopySource::parse(typed, |reference| session.location(reference)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|failure| {
            let first = args.sources.first().map_or("", String::as_str);
            meant::with_other_command(failure, (first, &args.dest), session)
        })?;
    meant::check_dest(&args.dest, session)?;
    let locations: Vec<&Location> = sources.iter().map(|source| &source.location).collect();
    let client = session.reading(&locations, &args.trust).await?;
    let mut batches: Vec<Batch> = Vec::new();
    for source in &sources {
        let path = source.path.clone();
        if let Some(batch) = batches.iter_mut().find(|batch| batch.location == source.location) {
            batch.paths.push(path);
            continue;
        }
        let archive = session.open(&client, &source.location, args.caching).await?;
        batches.push(Batch { location: source.location.clone(), archive, paths: vec![path] });
    }
    if args.dest == Path::new("-") {
        return to_output(&batches, &args, session).await;
    }
    let target = target(&batches, &args)?;
    if args.dry_run {
        return preview(&batches, target, &args, session).await;
    }
    let copied = copy(&batches, target, &args, session).await?;
    Session::log_traffic(&client);
    let destination = std::path::absolute(&args.dest).unwrap_or(args.dest);
    let report = Report {
        sources: sources
            .iter()
            .map(|source| Source { r#ref: source.location.to_string(), path: format!("/{}", source.path) })
            .collect(),
        destination: destination.display().to_string(),
        file_count: copied.files,
        total_size: copied.bytes,
        size_human: human(copied.bytes),
        symlink_count: copied.symlinks,
        paths_left_out: args.strip_components.map(|_| copied.paths_left_out),
        kept_count: copied.kept,
        skipped_count: (copied.skipped > 0).then_some(copied.skipped),
        traffic: Traffic::of(&client, batches.iter().map(|batch| &batch.archive)),
    };
    session.report(&report, || text(&sources, &copied, &report)).await
}

/// Checks sources against the destination, and finds out what the destination is.
fn target(batches: &[Batch], args: &CpArgs) -> Result<Target, Failure> {
    let several = args.sources.len() > 1;
    let found = std::fs::metadata(&args.dest).ok();
    let is_file = found.as_ref().is_some_and(|found| !found.is_dir());
    let is_dir = found.is_some_and(|found| found.is_dir()) || ends_in_slash(&args.dest);
    let wants_dir = !args.no_target_directory && (is_dir || args.parents);
    if several && args.no_target_directory {
        return Err(Failure::usage("--no-target-directory gives one copy its name, and several were asked for"));
    }
    if several && is_file {
        return Err(Failure::usage("destination must be a directory when copying multiple sources"));
    }
    for batch in batches {
        for path in &batch.paths {
            let index = batch.archive.index();
            let node = index.lookup(path::normalize(path.as_bytes()));
            let node = node.ok_or_else(|| missing::failure("path not found in archive", index, path))?;
            let dest = shown(args.dest.as_os_str().as_encoded_bytes());
            match node {
                _ if !node.is_dir() => {}
                _ if !args.recursive => {
                    return Err(Failure::usage(format!("cannot copy directory {path} without -r flag")));
                }
                _ if is_file => return Err(Failure::usage(format!("cannot copy directory {path} to file {dest}"))),
                _ => continue,
            }
            if several || wants_dir {
                continue;
            }
            if is_dir {
                let failure = Failure::usage(format!("cannot copy the file {path} to the directory {dest}"));
                return Err(failure.with_hint("without --no-target-directory it is copied into the directory"));
            }
            if matches!(node, Node::Symlink(_)) {
                let message = format!("cannot copy the symbolic link {path} to {dest}: expected a directory");
                return Err(Failure::usage(message).with_hint("end the destination in a slash to make a directory"));
            }
            return Ok(Target::File);
        }
    }
    Ok(Target::Directory)
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Writes one file as it is, and everything else as a tar stream.
async fn to_output(batches: &[Batch], args: &CpArgs, session: &Session) -> Result<(), Failure> {
    let [Batch { archive, paths, .. }] = batches else {
        return Err(Failure::usage("only one archive can be written to standard output"));
    };
    if args.flat || args.strip_components.is_some() || args.no_target_directory {
        let named = if args.flat { "--flat" } else { "--strip-components and -T" };
        let verb = if args.flat { "is" } else { "are" };
        return Err(Failure::usage(format!("{named} {verb} for destinations on disk: a tar stream has whole paths")));
    }
    session.meter.clear();
    let nodes = export::nodes(archive, paths, &args.patterns)?;
    if let ([path], [Node::File(_)]) = (paths.as_slice(), nodes.as_slice())
        && archive.index().entry(path::normalize(path.as_bytes())).is_some()
        && !args.dry_run
    {
        return cat::write_one(archive, path).await;
    }
    let names_files = || paths.iter().all(|path| archive.index().entry(path::normalize(path.as_bytes())).is_some());
    if !args.recursive && !names_files() {
        return Err(Failure::usage("cannot copy a directory without -r flag"));
    }
    if args.dry_run {
        return Preview::streamed(batches[0].location.to_string(), &nodes).report(session).await;
    }
    export::refuse_terminal(export::Form::Tar)?;
    export::to_output(archive, &nodes, export::Form::Tar, session).await.map(drop)
}

/// What of a batch is meant.
fn selection(batch: &Batch, args: &CpArgs) -> Result<Selection, Failure> {
    let patterns = &args.patterns;
    let is_empty = |path: &String| matches!(batch.archive.index().lookup(path.as_bytes()), Some(Node::EmptyDir(_)));
    if args.no_target_directory && batch.paths.iter().any(is_empty) {
        // The destination is what becomes of it.
        return Ok(Selection::Paths(Vec::new()));
    }
    if patterns.is_empty() {
        return Ok(Selection::paths(&batch.paths));
    }
    let nodes = export::nodes(&batch.archive, &batch.paths, patterns)?;
    Ok(Selection::paths(nodes.iter().map(Node::path)))
}

async fn preview(batches: &[Batch], target: Target, args: &CpArgs, session: &Session) -> Result<(), Failure> {
    let options = options(args, session);
    let mut planned = Vec::new();
    for batch in batches {
        let archive = &batch.archive;
        if target == Target::File {
            for path in &batch.paths {
                planned.extend(archive.preview_file(path, &args.dest, &options).await.map_err(pull::refusal)?);
            }
            continue;
        }
        let options = with_layout(&options, batch, args);
        let selection = selection(batch, args)?;
        planned.extend(archive.preview(selection, &args.dest, &options).await.map_err(pull::refusal)?);
    }
    let sources: Vec<String> = batches.iter().map(|batch| batch.location.to_string()).collect();
    Preview::new(sources.join(" "), args.dest.display().to_string(), &planned, &[]).report(session).await
}

/// What becomes of files that exist.
fn existing(args: &CpArgs) -> Existing {
    match args.force {
        _ if args.no_clobber => Existing::Skip,
        _ if args.update => Existing::UpdateOlder,
        overwrite => pull::existing(overwrite),
    }
}

fn options(args: &CpArgs, session: &Session) -> ExtractOptions {
    let mut options = ExtractOptions::default();
    options.existing = existing(args);
    let preserve = args.preserve || !args.no_preserve;
    (options.preserve_mode, options.preserve_times) = (preserve, preserve);
    options.allow_external_symlinks = args.allow_external_symlinks;
    options.layout = match args.strip_components {
        _ if args.flat => Layout::Flat,
        Some(components) => Layout::StripComponents(components),
        None => Layout::Full,
    };
    options.skip_room_check = args.no_space_check;
    options.workers = session.options.jobs;
    pull::limit_requests(&mut options, session);
    options.progress = Some(session.meter.watcher());
    options
}

/// Of a directory that gets a name of its own, only what is below it counts.
fn with_layout(options: &ExtractOptions, batch: &Batch, args: &CpArgs) -> ExtractOptions {
    let mut options = options.clone();
    if let (true, [path]) = (args.no_target_directory, batch.paths.as_slice()) {
        options.layout = Layout::Strip(path.as_bytes().to_vec());
    }
    options
}

async fn copy(batches: &[Batch], target: Target, args: &CpArgs, session: &Session) -> Result<ExtractReport, Failure> {
    let options = options(args, session);
    let refused = pull::refusal;
    let mut sum = ExtractReport::default();
    if let (Target::File, [Batch { archive, paths, .. }]) = (target, batches) {
        for path in paths {
            let copied = archive.copy_file(path, &args.dest, &options).await.map_err(refused)?;
            pull::add(&mut sum, &copied);
        }
        return Ok(sum);
    }
    // Every archive is held against the destination before the first one is written.
    if batches.len() > 1 && options.existing == Existing::KeepEqual {
        let mut differing = Vec::new();
        for batch in batches {
            let selection = selection(batch, args)?;
            differing.extend(batch.archive.conflicts(selection, &args.dest, &options).await.map_err(refused)?);
        }
        if !differing.is_empty() {
            return Err(pull::exist(&differing, differing.len() as u64));
        }
    }
    for (done, batch) in batches.iter().enumerate() {
        if args.dest.exists() {
            // File by file, and not to be taken back.
            output::begin();
        }
        let options = with_layout(&options, batch, args);
        let copied = batch.archive.extract(selection(batch, args)?, &args.dest, &options).await;
        let copied = copied.map_err(|error| match (refused(error), done) {
            (failure, 0) => failure,
            (failure, _) => failure.after(format!("copied from {done} of {} archives", batches.len())),
        });
        pull::add(&mut sum, &copied?);
    }
    Ok(sum)
}

fn text(sources: &[CopySource], copied: &ExtractReport, report: &Report) -> String {
    let mut text = format!("Copied {}\n", pull::summary(copied));
    for source in sources {
        let _ = writeln!(text, "  {}", shown(source.shown().as_bytes()));
    }
    let _ = writeln!(text, "  → {}", shown(report.destination.as_bytes()));
    if copied.kept > 0 {
        let _ = writeln!(text, "  Kept: {} equal already", copied.kept);
    }
    if copied.skipped > 0 {
        let _ = writeln!(text, "  Skipped: {}", copied.skipped);
    }
    if let Some(paths @ 1..) = report.paths_left_out {
        let _ = writeln!(text, "  {}", pull::too_short(paths));
    }
    if let Some(fetched) = report.traffic.text() {
        let _ = writeln!(text, "  Fetched: {fetched}");
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("cp")]
}
