//! `blob du`.

mod ncdu;

use std::collections::HashSet;

use blob::core::index::Directory;
use blob::core::{Node, path};
use blob::{Archive, Location};
use clap::Args;
use serde::Serialize;

use super::missing;
use crate::args::{Caching, Format};
use crate::error::Failure;
use crate::filter::{Filter, Patterns};
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::escape::{PathText, exact};
use crate::ui::json;
use crate::ui::size::human;
use crate::ui::table::{Align, Cell, Table};

const EXAMPLES: &str = "\
Examples:
  blob du -h localhost:5000/team/assets:v1
  blob du -hs --stored localhost:5000/team/assets:v1 images docs
  blob du -d 1 -o json oci:./layout:v1
  blob du --ncdu localhost:5000/team/assets:v1 | ncdu -f -      browse sizes

No file data is fetched. Stored sizes are what the files take up in the registry: content that several files have \
counts once, where it comes first.";

/// Add up the sizes of files in directories of an archive.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, disable_help_flag = true)]
pub(crate) struct DuArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// Directories or files in the archive; the root by default.
    #[arg(value_name = "PATH")]
    paths: Vec<String>,

    /// Show directories this many levels deep.
    #[arg(short = 'd', long, value_name = "N")]
    max_depth: Option<usize>,

    /// Show one sum for each PATH: --max-depth 0.
    #[arg(short, long, conflicts_with = "max_depth")]
    summarize: bool,

    /// Show files, too.
    #[arg(short, long)]
    all: bool,

    /// Show stored bytes instead of the bytes of the files.
    #[arg(long)]
    stored: bool,

    /// Show sizes as 1.5K, 2.0M.
    #[arg(short = 'h', long)]
    human: bool,

    /// Write what `ncdu -f` reads; disk usage is the stored size there.
    #[arg(long, conflicts_with_all = ["max_depth", "summarize", "all", "stored", "human"])]
    ncdu: bool,

    #[command(flatten)]
    patterns: Patterns,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,

    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Sizes of directories.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// Directories, those that are deeper first, and files where they were asked for.
    entries: Vec<Sum>,
}

/// The size of one thing.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Sum {
    #[serde(flatten)]
    path: PathText,
    /// Whether it is a directory.
    is_dir: bool,
    /// Bytes of its files, uncompressed.
    size: u64,
    /// Bytes in the data; content that several files have counts once.
    stored_size: u64,
    /// Files.
    file_count: u64,
    #[serde(skip)]
    raw: Vec<u8>,
}

impl DuArgs {
    /// Whether it writes for another program.
    pub(crate) fn is_for_ncdu(&self) -> bool {
        self.ncdu
    }
}

pub(crate) async fn run(args: DuArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    Session::log_traffic(&client);
    let index = archive.index();
    if args.ncdu {
        return session.print(for_ncdu(&args, &location, &archive)?).await;
    }
    let everything = [String::new()];
    let mut entries = Vec::new();
    for typed in if args.paths.is_empty() { &everything[..] } else { &args.paths } {
        let node = index.lookup(path::normalize(typed.as_bytes()));
        match node.ok_or_else(|| missing::failure("path not found in archive", index, typed))? {
            Node::Directory(dir) => entries.append(&mut sums(&dir, &args)),
            node => entries.push(single(&node)),
        }
    }
    let output = session.options.output;
    let text = match output {
        Format::Jsonl => entries.iter().map(json::line).collect(),
        Format::Json => json::document(&Report { r#ref: location.to_string(), entries }),
        _ => {
            let table = table(&entries, &args);
            table.render(output)
        }
    };
    session.print(text).await
}

fn for_ncdu(args: &DuArgs, location: &Location, archive: &Archive) -> Result<String, Failure> {
    let typed = match args.paths.as_slice() {
        [] => "",
        [path] => path,
        _ => return Err(Failure::usage("--ncdu shows one directory, and several were named")),
    };
    let (index, path) = (archive.index(), path::normalize(typed.as_bytes()));
    match index.lookup(&path).ok_or_else(|| missing::failure("path not found in archive", index, typed))? {
        Node::Directory(dir) if dir.path().is_empty() => {
            Ok(ncdu::document(&location.to_string(), &dir, &args.patterns))
        }
        Node::Directory(dir) => {
            let title = format!("{location}:/{}", String::from_utf8_lossy(dir.path()));
            Ok(ncdu::document(&title, &dir, &args.patterns))
        }
        _ => Err(Failure::usage(format!("--ncdu shows a directory, and {typed} is none that holds anything"))),
    }
}

fn sum(path: &[u8], is_dir: bool) -> Sum {
    Sum { path: PathText::new(path), is_dir, raw: path.to_vec(), ..Sum::default() }
}

fn single(node: &Node<'_>) -> Sum {
    let mut sum = sum(node.path(), node.is_dir());
    if let Node::File(file) = node {
        (sum.size, sum.stored_size, sum.file_count) = (file.original_size(), file.data_size(), 1);
    }
    sum
}

/// The sums of `top` and of the directories in it, those that are deeper first, as `du` does.
fn sums(top: &Directory<'_>, args: &DuArgs) -> Vec<Sum> {
    let depth_of = |path: &[u8]| {
        let below = &path[top.path().len()..];
        let slashes = below.split(|byte| *byte == b'/').count() - 1;
        slashes + usize::from(top.path().is_empty() && !path.is_empty())
    };
    let limit = if args.summarize { Some(0) } else { args.max_depth };
    let filter = args.patterns.filter();
    let (mut seen, mut done) = (HashSet::new(), Vec::new());
    // Directories that are open, each within the one before.
    let mut open = vec![sum(top.path(), true)];
    let all = !args.patterns.includes();
    let close = |open: &mut Vec<Sum>, done: &mut Vec<Sum>| {
        let Some(closed) = open.pop() else { return };
        // Where only what matches is meant, a directory without any of it is not.
        if !all && closed.file_count == 0 && !open.is_empty() {
            return;
        }
        if let Some(parent) = open.last_mut() {
            parent.size += closed.size;
            parent.stored_size += closed.stored_size;
            parent.file_count += closed.file_count;
        }
        if limit.is_none_or(|limit| depth_of(&closed.raw) <= limit) {
            done.push(closed);
        }
    };
    for node in ordered(top, &filter) {
        let path = node.path();
        while open.len() > 1 && open.last().is_some_and(|dir| !is_below(path, &dir.raw)) {
            close(&mut open, &mut done);
        }
        if let Node::Directory(_) = node {
            open.push(sum(path, true));
            continue;
        }
        let mut own = single(&node);
        if let Node::File(file) = &node
            && !seen.insert((file.range(), file.digest()))
        {
            own.stored_size = 0;
        }
        if let Some(parent) = open.last_mut() {
            parent.size += own.size;
            parent.stored_size += own.stored_size;
            parent.file_count += own.file_count;
        }
        if (args.all || all && node.is_dir()) && limit.is_none_or(|limit| depth_of(path) <= limit) {
            done.push(own);
        }
    }
    while !open.is_empty() {
        close(&mut open, &mut done);
    }
    done
}

fn is_below(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Everything below `top`, depth first and by name: a directory comes before what is in it.
fn ordered<'a>(top: &Directory<'a>, filter: &'a Filter) -> impl Iterator<Item = Node<'a>> + use<'a> {
    let mut open = vec![top.entries().into_iter()];
    std::iter::from_fn(move || {
        loop {
            let Some(entry) = open.last_mut()?.next() else {
                open.pop();
                continue;
            };
            if !filter.takes(entry.node.path(), entry.node.is_dir()) {
                continue;
            }
            if let Node::Directory(dir) = entry.node {
                open.push(dir.entries().into_iter());
            }
            return Some(entry.node);
        }
    })
}

fn table(entries: &[Sum], args: &DuArgs) -> Table {
    let mut table = Table::new(vec![("SIZE", Align::Right), ("PATH", Align::Left)]);
    for entry in entries {
        let size = if args.stored { entry.stored_size } else { entry.size };
        let name = if entry.raw.is_empty() { ".".into() } else { exact(&entry.raw) };
        let slash = if entry.is_dir { "/" } else { "" };
        let size = if args.human { human(size) } else { size.to_string() };
        table.row(vec![Cell::new(size), Cell::new(name + slash)]);
    }
    table
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Report>("du"), line::<Sum>("du-line")]
}
