//! `blob ls`.

use blob::core::index::Directory;
use blob::core::{Digest, Node, path};
use clap::{ArgAction, Args, ValueEnum};
use serde::Serialize;

use super::missing;
use crate::args::{Caching, Format};
use crate::error::Failure;
use crate::plan;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::escape::{PathText, shown};
use crate::ui::json;
use crate::ui::mode;
use crate::ui::size::human;
use crate::ui::style::Style;
use crate::ui::table::{Align, Cell, Table};
use crate::ui::time;

const EXAMPLES: &str = "\
Examples:
  blob ls localhost:5000/team/assets:v1
  blob ls -lh localhost:5000/team/assets:v1 /images
  blob ls -R0 oci:./layout:v1 | xargs -0 -n1 echo";

/// List a directory of an archive.
///
/// No file data is fetched.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, disable_help_flag = true)]
pub(crate) struct LsArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// A directory or file in the archive; the root by default.
    #[arg(value_name = "PATH", default_value = "", hide_default_value = true)]
    path: String,

    /// Show modes, sizes and, with -o table, times.
    #[arg(short, long)]
    long: bool,

    /// Show sizes as 1.5K, 2.0M with -l.
    #[arg(short = 'h', long)]
    human: bool,

    /// Show the digests of files, shortened; JSON has them whole.
    #[arg(long)]
    digest: bool,

    /// List everything below, with whole paths.
    #[arg(short = 'R', long)]
    recursive: bool,

    /// By what to sort; sizes and times largest and newest first.
    #[arg(long, value_name = "KEY", default_value = "name")]
    sort: Sort,

    /// Sort the other way round.
    #[arg(short, long)]
    reverse: bool,

    /// Write names as they are, each ended by a NUL byte.
    #[arg(short = '0', long, conflicts_with_all = ["long", "digest"])]
    null: bool,

    /// Say on standard error how many requests and bytes it took.
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,

    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Name,
    Size,
    Time,
}

/// A line of the listing.
struct Row<'a> {
    /// What is printed: the name, or the path in recursive lists.
    name: &'a [u8],
    path: &'a [u8],
    node: Node<'a>,
}

impl Row<'_> {
    fn size(&self) -> u64 {
        match &self.node {
            Node::File(file) => file.original_size(),
            Node::Symlink(link) => link.target().len() as u64,
            Node::Directory(_) | Node::EmptyDir(_) => 0,
        }
    }

    /// Archives record no time for directories that hold something.
    fn mtime_ns(&self) -> Option<i64> {
        match &self.node {
            Node::File(file) => Some(file.mtime_ns()),
            Node::Symlink(link) => Some(link.mtime_ns()),
            Node::EmptyDir(dir) => Some(dir.mtime_ns()),
            Node::Directory(_) => None,
        }
    }

    fn digest(&self) -> Option<Digest> {
        if let Node::File(file) = &self.node { Some(file.digest()) } else { None }
    }

    fn mode(&self) -> String {
        match &self.node {
            Node::File(file) => mode::text('-', file.mode()),
            Node::Symlink(_) => mode::text('l', 0o777),
            Node::EmptyDir(dir) => mode::text('d', dir.mode()),
            Node::Directory(_) => mode::text('d', 0o755),
        }
    }

    fn kind(&self) -> &'static str {
        match &self.node {
            Node::File(_) => "file",
            Node::Symlink(_) => "symlink",
            Node::Directory(_) | Node::EmptyDir(_) => "directory",
        }
    }

    fn cell(&self, style: Style) -> Cell {
        let name = shown(self.name);
        match &self.node {
            Node::Directory(_) | Node::EmptyDir(_) => Cell::painted(&format!("{name}/"), |name| style.directory(name)),
            Node::Symlink(_) => Cell::painted(&name, |name| style.link(name)),
            Node::File(file) if file.mode() & 0o111 != 0 => Cell::painted(&name, |name| style.executable(name)),
            Node::File(_) => Cell::new(name),
        }
    }
}

pub(crate) async fn run(args: LsArgs, session: &Session) -> Result<(), Failure> {
    let location = plan::location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust)?;
    let archive = session.open(&client, &location, args.caching).await?;
    let typed = path::normalize(args.path.as_bytes());
    let found = archive.index().lookup(&typed);
    let found = found.ok_or_else(|| missing::failure("path not found in archive", archive.index(), &args.path))?;
    let mut rows = rows(&typed, found, args.recursive);
    sort(&mut rows, args.sort, args.reverse);
    let listing = if args.null {
        rows.iter().flat_map(|row| [row.name, b"\0"]).collect::<Vec<_>>().concat()
    } else {
        render(&args, session, &location.to_string(), &rows).into_bytes()
    };
    session.print(listing).await?;
    Session::log_traffic(&client);
    if args.stats {
        session.print_stats(&client, &archive);
    }
    Ok(())
}

/// What is listed for `node`: what a directory holds, or a file itself.
fn rows<'a>(typed: &'a [u8], node: Node<'a>, recursive: bool) -> Vec<Row<'a>> {
    match node {
        Node::Directory(directory) if recursive => below(directory),
        Node::Directory(directory) => {
            let row = |entry: blob::core::DirEntry<'a>| Row {
                name: entry.name,
                path: path_of(&entry.node),
                node: entry.node,
            };
            directory.entries().into_iter().map(row).collect()
        }
        Node::EmptyDir(_) => Vec::new(),
        Node::File(_) | Node::Symlink(_) => vec![Row { name: typed, path: path_of(&node), node }],
    }
}

/// Everything that is recorded below `directory`, by path.
fn below(directory: Directory<'_>) -> Vec<Row<'_>> {
    let files = directory.files().map(Node::File);
    let nodes = files.chain(directory.symlinks().map(Node::Symlink)).chain(directory.empty_dirs().map(Node::EmptyDir));
    nodes.map(|node| Row { name: path_of(&node), path: path_of(&node), node }).collect()
}

fn path_of<'a>(node: &Node<'a>) -> &'a [u8] {
    match node {
        Node::File(file) => file.path(),
        Node::Symlink(link) => link.path(),
        Node::Directory(directory) => directory.path(),
        Node::EmptyDir(directory) => directory.path(),
    }
}

fn sort(rows: &mut [Row<'_>], key: Sort, reverse: bool) {
    rows.sort_by(|a, b| a.name.cmp(b.name));
    match key {
        Sort::Name => {}
        Sort::Size => rows.sort_by_key(|row| std::cmp::Reverse(row.size())),
        Sort::Time => rows.sort_by_key(|row| std::cmp::Reverse(row.mtime_ns())),
    }
    if reverse {
        rows.reverse();
    }
}

fn render(args: &LsArgs, session: &Session, reference: &str, rows: &[Row<'_>]) -> String {
    match session.options.output {
        Format::Json => document(args, reference, rows),
        Format::Text => table(args, rows, session.style, args.long, None).aligned(false),
        Format::Table => table(args, rows, session.style, true, Some(time::short)).aligned(true),
        Format::Plain => table(args, rows, session.style, args.long, Some(time::rfc3339)).tabbed(),
    }
}

/// `long` adds modes and sizes, `times` says how times are added to that.
fn table(args: &LsArgs, rows: &[Row<'_>], style: Style, long: bool, times: Option<fn(i64) -> String>) -> Table {
    let mut columns = Vec::new();
    if long {
        columns.extend([("MODE", Align::Left), ("SIZE", Align::Right)]);
        columns.extend(times.map(|_| ("MODIFIED", Align::Left)));
    }
    columns.extend(args.digest.then_some(("DIGEST", Align::Left)));
    columns.push(("NAME", Align::Left));
    let mut table = Table::new(columns);
    for row in rows {
        let mut cells = Vec::new();
        if long {
            let size = row.size();
            cells.extend([Cell::new(row.mode()), Cell::new(if args.human { human(size) } else { size.to_string() })]);
            cells.extend(times.map(|shown| Cell::new(row.mtime_ns().map_or_else(String::new, shown))));
        }
        cells.extend(args.digest.then(|| Cell::new(row.digest().map_or_else(String::new, short_digest))));
        cells.push(row.cell(style));
        table.row(cells);
    }
    table
}

/// `sha256:` and 12 digits.
fn short_digest(digest: Digest) -> String {
    digest.to_string().chars().take(19).collect()
}

#[derive(Serialize)]
struct Listing<'a> {
    r#ref: &'a str,
    #[serde(flatten)]
    path: PathText,
    entries: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: String,
    #[serde(flatten)]
    path: PathText,
    is_dir: bool,
    r#type: &'a str,
    mode: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_human: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest_short: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mod_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

fn document(args: &LsArgs, reference: &str, rows: &[Row<'_>]) -> String {
    let listed = |row: &Row<'_>| Listed {
        name: String::from_utf8_lossy(row.name).into_owned(),
        path: PathText::new(row.path),
        is_dir: row.node.is_dir(),
        r#type: row.kind(),
        mode: row.mode(),
        size: row.size(),
        size_human: args.human.then(|| human(row.size())),
        digest: row.digest().map(|digest| digest.to_string()),
        digest_short: row.digest().map(short_digest),
        mod_time: row.mtime_ns().map(time::rfc3339),
        target: match &row.node {
            Node::Symlink(link) => Some(String::from_utf8_lossy(link.target()).into_owned()),
            _ => None,
        },
    };
    let path = PathText::new(&path::normalize(args.path.as_bytes()));
    json::document(&Listing { r#ref: reference, path, entries: rows.iter().map(listed).collect() })
}
