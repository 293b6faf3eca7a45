//! `blob diff`.

mod patch;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use blob::core::index::{Changes, Difference, diff};
use blob::core::{ArchiveIndex, Node};
use blob::{Client, Location};
use clap::Args;
use serde::Serialize;

use super::node::{Facts, size};
use super::{local, missing};
use crate::args::{Caching, Format};
use crate::error::{Failure, Kind};
use crate::filter::{Filter, Patterns};
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::escape::{PathText, exact};
use crate::ui::json;
use crate::ui::size::human;
use crate::ui::table::{Align, Cell, Table};

const EXAMPLES: &str = "\
Examples:
  blob diff localhost:5000/team/assets:v1 localhost:5000/team/assets:v2
  blob diff --stat localhost:5000/team/assets:v1 ./assets
  blob diff --patch localhost:5000/team/assets:v1 ./assets  the lines of text files
  blob diff --name-only -z ghcr.io/org/data:1.0 ./data | xargs -0 ls -l

Each line has a letter and a path: A added, D removed, M other content, T another kind of thing, m other mode or time \
(with --metadata). Without --patch no file data is fetched: archives are compared by their indexes, directories are read and hashed, without \
what their .blobignore files leave out.

As with diff(1), the exit code is 0 if there is no difference, 1 if there is one, and 2 or more after an error.";

/// Compare two archives, or an archive and a directory.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DiffArgs {
    /// The archive or directory that was.
    #[arg(value_name = "REF|DIR")]
    from: String,

    /// The archive or directory that is.
    #[arg(value_name = "REF|DIR")]
    to: String,

    /// Compare only what is in this directory.
    #[arg(short, long, value_name = "PATH")]
    prefix: Option<String>,

    /// Compare modes and modification times as well.
    #[arg(short, long)]
    metadata: bool,

    /// Say only how much differs.
    #[arg(long, conflicts_with = "name_only")]
    stat: bool,

    /// Write nothing but the paths.
    #[arg(long)]
    name_only: bool,

    /// Show the lines of text files that differ, with N lines around them [default: 3]. Files that differ are read.
    #[arg(short = 'U', long, visible_alias = "unified", value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "3", conflicts_with_all = ["stat", "name_only"])]
    patch: Option<usize>,

    /// End each path with a NUL byte, and write it as it is.
    #[arg(short = 'z', long, requires = "name_only")]
    null: bool,

    /// Do not heed the .blobignore files of a directory.
    #[arg(long)]
    no_ignore: bool,

    #[command(flatten)]
    patterns: Patterns,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

/// How two sides differ.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The side that was.
    from: String,
    /// The side that is.
    to: String,
    /// Whether there is no difference.
    identical: bool,
    #[serde(flatten)]
    sums: Sums,
    /// Names at a directory that no archive can hold, which were not compared.
    #[serde(skip_serializing_if = "is_zero")]
    not_compared: u64,
    /// One for each path that differs.
    differences: Vec<Told>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Clone, Copy, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Sums {
    /// Paths that only the second side has.
    added: u64,
    /// Bytes of them.
    added_size: u64,
    /// Paths that only the first side has.
    removed: u64,
    /// Bytes of them.
    removed_size: u64,
    /// Paths that differ.
    changed: u64,
    /// Bytes of them on the first side.
    changed_size_before: u64,
    /// Bytes of them on the second side.
    changed_size_after: u64,
}

/// One path that differs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Told {
    /// `added`, `removed` or `changed`.
    change: &'static str,
    #[serde(flatten)]
    path: PathText,
    /// What changed: `type`, `content`, `mode`, `mod_time`.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    changes: Vec<&'static str>,
    /// What was recorded on the first side.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Facts>,
    /// What is recorded on the second side.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Facts>,
    #[serde(skip)]
    letter: char,
    /// What it is on each side, where it is a file there.
    #[serde(skip)]
    files: (Option<FileOf>, Option<FileOf>),
    #[serde(skip)]
    raw: Vec<u8>,
}

/// A file of a side.
#[derive(Clone, Copy)]
struct FileOf {
    /// Bytes.
    size: u64,
    /// Permission bits.
    mode: u32,
}

/// One side of the comparison.
struct Side {
    name: String,
    index: Arc<ArchiveIndex>,
    /// What is there and could not be looked at.
    left_out: u64,
    contents: patch::Contents,
}

pub(crate) async fn run(args: DiffArgs, session: &Session) -> Result<(), Failure> {
    // The exit code 1 says that there is a difference, so what fails must have another.
    compare(args, session).await.map_err(Failure::not_a_difference)
}

async fn compare(args: DiffArgs, session: &Session) -> Result<(), Failure> {
    if args.null && session.options.output.is_json() {
        return Err(Failure::usage("-z writes paths, and --output json a document"));
    }
    if args.patch.is_some() && session.options.output.is_json() {
        return Err(Failure::usage("--patch writes lines, and --output json a document"));
    }
    for typed in [&args.from, &args.to] {
        // What is a path, or no reference by any reading, was meant for a directory.
        let is_path = typed.starts_with(['.', '/']) || !typed.contains('/');
        if is_path && !local::is_directory(typed) && session.location(typed).is_err() {
            return Err(Failure::not_found(format!("{typed} is neither a directory nor a reference")));
        }
    }
    let client = client(&args, session).await?;
    let from = side(&args.from, &client, &args, session).await?;
    let to = side(&args.to, &client, &args, session).await?;
    Session::log_traffic(&client);
    let prefix = args.prefix.as_deref().map(|prefix| blob::core::path::normalize(prefix.as_bytes()));
    if let (Some(prefix), Some(typed)) = (&prefix, &args.prefix)
        && from.index.lookup(prefix).is_none()
        && to.index.lookup(prefix).is_none()
    {
        return Err(missing::failure("path not found", &from.index, typed));
    }
    let filter = args.patterns.filter();
    let (mut sums, mut told) = (Sums::default(), Vec::new());
    for difference in diff(&from.index, &to.index, args.metadata) {
        if is_meant(&difference, prefix.as_deref(), &filter) {
            sums.add(&difference);
            told.push(tell(&difference));
        }
    }
    let report = Report {
        from: from.name.clone(),
        to: to.name.clone(),
        identical: told.is_empty(),
        sums,
        not_compared: from.left_out + to.left_out,
        differences: told,
    };
    if let Some(context) = args.patch {
        session.meter.clear();
        patch::write(&report.differences, &from.contents, &to.contents, context).await?;
    } else {
        session.print(render(&args, session, &report)).await?;
    }
    if report.identical { Ok(()) } else { Err(Failure::new(Kind::Different, "there are differences")) }
}

/// A client for the archives that are compared; directories need none.
async fn client(args: &DiffArgs, session: &Session) -> Result<Client, Failure> {
    let archives = [&args.from, &args.to].into_iter().filter(|typed| !local::is_directory(typed));
    let locations: Vec<Location> = archives.map(|typed| session.location(typed)).collect::<Result<_, _>>()?;
    if locations.is_empty() && args.trust.is_given() {
        let failure = Failure::usage("trust options, and two directories: nobody signed those");
        return Err(failure.with_hint("an archive is named as HOST/REPOSITORY:TAG or oci:DIR:TAG"));
    }
    session.reading(&locations.iter().collect::<Vec<_>>(), &args.trust).await
}

async fn side(typed: &str, client: &Client, args: &DiffArgs, session: &Session) -> Result<Side, Failure> {
    if local::is_directory(typed) {
        let (index, report) = local::index_of(typed.as_ref(), !args.no_ignore, session).await?;
        let left_out = report.special.count + report.skipped_names.count;
        if left_out > 0 {
            session.meter.clear();
            let (of, were) = if left_out == 1 { ("name", "was") } else { ("names", "were") };
            tracing::warn!(
                "{left_out} {of} in {typed} {were} not compared: special files, and names that are not UTF-8"
            );
        }
        let contents = patch::Contents::Directory(PathBuf::from(typed));
        return Ok(Side { name: typed.to_owned(), index: Arc::new(index), left_out, contents });
    }
    let location: Location = session.location(typed)?;
    let archive = session.open(client, &location, args.caching).await?;
    let (name, index) = (location.to_string(), Arc::clone(archive.index()));
    Ok(Side { name, index, left_out: 0, contents: patch::Contents::Archive(Box::new(archive)) })
}

fn is_meant(difference: &Difference<'_>, prefix: Option<&[u8]>, filter: &Filter) -> bool {
    let path = difference.path();
    let below = prefix.is_none_or(|prefix| {
        prefix.is_empty() || path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(b"/"))
    });
    let (Difference::Added(node) | Difference::Removed(node) | Difference::Changed { to: node, .. }) = difference
    else {
        return false;
    };
    below && filter.takes_node(node)
}

impl Sums {
    fn add(&mut self, difference: &Difference<'_>) {
        match difference {
            Difference::Added(node) => {
                self.added += 1;
                self.added_size += size(node);
            }
            Difference::Removed(node) => {
                self.removed += 1;
                self.removed_size += size(node);
            }
            Difference::Changed { from, to, .. } => {
                self.changed += 1;
                self.changed_size_before += size(from);
                self.changed_size_after += size(to);
            }
            _ => {}
        }
    }

    fn text(self) -> String {
        if self.added + self.removed + self.changed == 0 {
            return "no differences\n".into();
        }
        let parts = [
            (self.added, format!("{} added ({})", self.added, human(self.added_size))),
            (self.removed, format!("{} removed ({})", self.removed, human(self.removed_size))),
            (
                self.changed,
                format!(
                    "{} changed ({} before, {} after)",
                    self.changed,
                    human(self.changed_size_before),
                    human(self.changed_size_after)
                ),
            ),
        ];
        let told: Vec<String> = parts.into_iter().filter(|(number, _)| *number > 0).map(|(_, text)| text).collect();
        told.join(", ") + "\n"
    }
}

fn tell(difference: &Difference<'_>) -> Told {
    let (letter, change, before, after, changes) = match difference {
        Difference::Added(node) => ('A', "added", None, Some(node), Vec::new()),
        Difference::Removed(node) => ('D', "removed", Some(node), None, Vec::new()),
        Difference::Changed { from, to, changes } => {
            let letter = match changes {
                Changes { kind: true, .. } => 'T',
                Changes { content: true, .. } => 'M',
                _ => 'm',
            };
            (letter, "changed", Some(from), Some(to), names(*changes))
        }
        _ => ('?', "unknown", None, None, Vec::new()),
    };
    Told {
        change,
        path: PathText::new(difference.path()),
        changes,
        files: (before.and_then(file), after.and_then(file)),
        before: before.map(Facts::of),
        after: after.map(Facts::of),
        letter,
        raw: difference.path().to_vec(),
    }
}

fn file(node: &Node<'_>) -> Option<FileOf> {
    if let Node::File(file) = node { Some(FileOf { size: file.original_size(), mode: file.mode() }) } else { None }
}

fn names(changes: Changes) -> Vec<&'static str> {
    let Changes { kind, content, mode, mtime, .. } = changes;
    let all = [(kind, "type"), (content, "content"), (mode, "mode"), (mtime, "mod_time")];
    all.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect()
}

fn render(args: &DiffArgs, session: &Session, report: &Report) -> Vec<u8> {
    let output = session.options.output;
    if output == Format::Jsonl {
        let lines = report.differences.iter().map(json::line);
        return lines.collect::<String>().into_bytes();
    }
    if output == Format::Json {
        return json::document(report).into_bytes();
    }
    if args.null {
        return report.differences.iter().flat_map(|told| [&told.raw[..], b"\0"].concat()).collect();
    }
    if args.stat {
        return report.sums.text().into_bytes();
    }
    let mut table = Table::new(vec![("STATUS", Align::Left), ("PATH", Align::Left)]);
    let (mut names, mut lines) = (String::new(), String::new());
    for told in &report.differences {
        names += &(exact(&told.raw) + "\n");
        let _ = writeln!(lines, "{} {}", told.letter, exact(&told.raw));
        table.row(vec![Cell::new(told.letter.to_string()), Cell::new(exact(&told.raw))]);
    }
    match output {
        _ if args.name_only => names.into_bytes(),
        Format::Plain | Format::Csv | Format::Table => table.render(output).into_bytes(),
        _ => lines.into_bytes(),
    }
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Report>("diff"), line::<Told>("diff-line")]
}
