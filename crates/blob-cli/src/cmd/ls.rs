//! `blob ls`.

use blob::core::index::Directory;
use blob::core::{Digest, Node, path};
use clap::{ArgAction, Args, ValueEnum};
use serde::Serialize;

use super::{missing, node};
use crate::args::{Caching, Format};
use crate::error::Failure;
use crate::filter::Patterns;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::escape::{PathText, exact};
use crate::ui::json;
use crate::ui::size::human;
use crate::ui::style::Style;
use crate::ui::table::{Align, Cell, Table};
use crate::ui::time;

const EXAMPLES: &str = "\
Examples:
  blob ls localhost:5000/team/assets:v1
  blob ls -lh localhost:5000/team/assets:v1 /images
  blob ls -lS localhost:5000/team/assets:v1 images docs      two directories, the largest first
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

    /// Directories and files in the archive; the root by default. Of several, whole paths are listed.
    #[arg(value_name = "PATH")]
    paths: Vec<String>,

    /// Show modes, sizes and, with -o table, times.
    #[arg(short, long)]
    long: bool,

    /// Show sizes as 1.5K, 2.0M with -l.
    #[arg(short = 'h', long)]
    human: bool,

    /// Show the digests of files, shortened; -o plain and JSON have them whole.
    #[arg(long)]
    digest: bool,

    /// List everything below, with whole paths.
    #[arg(short = 'R', long)]
    recursive: bool,

    /// By what to sort; sizes and times largest and newest first.
    #[arg(long, value_name = "KEY", default_value = "name")]
    sort: Sort,

    /// The newest first: --sort time.
    #[arg(short = 't', conflicts_with_all = ["sort", "by_size"])]
    by_time: bool,

    /// The largest first: --sort size.
    #[arg(short = 'S', conflicts_with = "sort")]
    by_size: bool,

    /// List directories themselves, not what they hold.
    #[arg(short, long, conflicts_with = "recursive")]
    directory: bool,

    /// Sort the other way round.
    #[arg(short, long)]
    reverse: bool,

    /// Write one name a line, which is the default; for those who are used to it.
    #[arg(short = '1', hide = true)]
    one: bool,

    /// Write names as they are, each ended by a NUL byte.
    #[arg(short = '0', long, conflicts_with_all = ["long", "digest"])]
    null: bool,

    /// Say on standard error how many requests and bytes it took.
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    patterns: Patterns,

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

pub(crate) async fn run(args: LsArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    let named: Vec<&str> =
        if args.paths.is_empty() { vec![""] } else { args.paths.iter().map(String::as_str).collect() };
    let mut listed = Vec::new();
    for &typed in &named {
        let found = archive.index().lookup(path::normalize(typed.as_bytes()));
        let found = found.ok_or_else(|| missing::failure("path not found in archive", archive.index(), typed))?;
        listed.extend(rows(found, &args));
    }
    let mut rows = listed;
    if named.len() > 1 {
        for row in &mut rows {
            row.name = row.path;
        }
        rows.sort_by(|a, b| a.path.cmp(b.path));
        rows.dedup_by(|a, b| a.path == b.path);
    }
    let filter = args.patterns.filter();
    rows.retain(|row| match row.node {
        // A directory is there for what of it matches.
        Node::Directory(dir) if args.patterns.includes() => dir.nodes().any(|node| filter.takes_node(&node)),
        node if args.recursive || args.patterns.includes() => filter.takes_node(&node),
        node => filter.takes(row.path, node.is_dir()),
    });
    let key = if args.by_time { Sort::Time } else { args.sort };
    sort(&mut rows, if args.by_size { Sort::Size } else { key }, args.reverse);
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
fn rows<'a>(node: Node<'a>, args: &LsArgs) -> Vec<Row<'a>> {
    let itself = |node: Node<'a>| Row { name: node.path(), path: node.path(), node };
    match node {
        Node::Directory(directory) if args.directory => {
            let row = itself(Node::Directory(directory));
            vec![if row.path.is_empty() { Row { name: b".", ..row } } else { row }]
        }
        Node::EmptyDir(_) if args.directory => vec![itself(node)],
        Node::Directory(directory) if args.recursive => below(directory),
        Node::Directory(directory) => {
            let row =
                |entry: blob::core::DirEntry<'a>| Row { name: entry.name, path: entry.node.path(), node: entry.node };
            directory.entries().into_iter().map(row).collect()
        }
        Node::EmptyDir(_) => Vec::new(),
        Node::File(_) | Node::Symlink(_) => vec![itself(node)],
    }
}

/// Everything that is recorded below `directory`, by path.
fn below(directory: Directory<'_>) -> Vec<Row<'_>> {
    let files = directory.files().map(Node::File);
    let nodes = files.chain(directory.symlinks().map(Node::Symlink)).chain(directory.empty_dirs().map(Node::EmptyDir));
    nodes.map(|node| Row { name: node.path(), path: node.path(), node }).collect()
}

fn sort(rows: &mut [Row<'_>], key: Sort, reverse: bool) {
    rows.sort_by(|a, b| a.name.cmp(b.name));
    match key {
        Sort::Name => {}
        Sort::Size => rows.sort_by_key(|row| std::cmp::Reverse(node::size(&row.node))),
        Sort::Time => rows.sort_by_key(|row| std::cmp::Reverse(node::mtime_ns(&row.node))),
    }
    if reverse {
        rows.reverse();
    }
}

fn render(args: &LsArgs, session: &Session, reference: &str, rows: &[Row<'_>]) -> String {
    match session.options.output {
        Format::Json => document(args, reference, rows),
        Format::Jsonl => rows.iter().map(|row| json::line(&listed(args, row))).collect(),
        format => table(args, rows, session.style, format).render(format),
    }
}

/// Columns as `format` has them: people see times only in tables with headings.
fn table(args: &LsArgs, rows: &[Row<'_>], style: Style, format: Format) -> Table {
    let long = args.long || matches!(format, Format::Table | Format::Csv);
    let times: Option<fn(i64) -> String> = match format {
        Format::Plain | Format::Csv => Some(time::rfc3339),
        Format::Table => Some(time::short),
        _ => None,
    };
    let mut columns = Vec::new();
    if long {
        columns.extend([("MODE", Align::Left), ("SIZE", Align::Right)]);
        columns.extend(times.map(|_| ("MODIFIED", Align::Left)));
    }
    // Programs, which are given exact times, are not served by the beginning of a digest.
    let exact_digest = matches!(format, Format::Plain | Format::Csv);
    let digest = |digest: Digest| if exact_digest { digest.to_string() } else { node::short_digest(digest) };
    columns.extend(args.digest.then_some(("DIGEST", Align::Left)));
    columns.push(("NAME", Align::Left));
    let apart = long && matches!(format, Format::Plain | Format::Csv);
    columns.extend(apart.then_some(("TARGET", Align::Left)));
    let mut table = Table::new(columns);
    for row in rows {
        let mut cells = Vec::new();
        if long {
            let size = node::size(&row.node);
            cells.extend([
                Cell::new(node::mode_text(&row.node)),
                Cell::new(if args.human { human(size) } else { size.to_string() }),
            ]);
            cells.extend(times.map(|shown| Cell::new(node::mtime_ns(&row.node).map_or_else(String::new, shown))));
        }
        cells.extend(args.digest.then(|| Cell::new(node::digest(&row.node).map_or_else(String::new, digest))));
        let (name, target) = (node::cell(row.name, &row.node, style), node::target(&row.node));
        let target = target.map(|target| exact(target.as_bytes()));
        cells.push(match &target {
            Some(target) if long && !apart => name.followed_by(&format!(" -> {target}")),
            _ => name,
        });
        cells.extend(apart.then(|| Cell::new(target.unwrap_or_default())));
        table.row(cells);
    }
    table
}

/// What a directory holds.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Listing<'a> {
    /// The place, as it was typed or as its alias resolved.
    r#ref: &'a str,
    #[serde(flatten)]
    path: PathText,
    /// What it holds, in the order that was asked for.
    entries: Vec<Listed<'a>>,
}

/// One thing in a directory.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Listed<'a> {
    /// Its name; the whole path in recursive lists.
    name: String,
    #[serde(flatten)]
    path: PathText,
    /// Whether it is a directory.
    is_dir: bool,
    /// `file`, `directory` or `symlink`.
    r#type: &'a str,
    /// Kind and permissions, as `-rw-r--r--`.
    mode: String,
    /// Bytes; of a link those of its target, of a directory 0.
    size: u64,
    /// The size for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_human: Option<String>,
    /// The digest of the content of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// The first digits of the digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest_short: Option<String>,
    /// The modification time, RFC 3339; archives record none for directories that hold something.
    #[serde(skip_serializing_if = "Option::is_none")]
    mod_time: Option<String>,
    /// What a symbolic link points at.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

fn document(args: &LsArgs, reference: &str, rows: &[Row<'_>]) -> String {
    // Several paths are listed as what lies below the root.
    let typed = if let [path] = args.paths.as_slice() { path.as_str() } else { "" };
    let path = PathText::new(&path::normalize(typed.as_bytes()));
    json::document(&Listing { r#ref: reference, path, entries: rows.iter().map(|row| listed(args, row)).collect() })
}

fn listed<'a>(args: &LsArgs, row: &Row<'_>) -> Listed<'a> {
    Listed {
        name: String::from_utf8_lossy(row.name).into_owned(),
        path: PathText::new(row.path),
        is_dir: row.node.is_dir(),
        r#type: node::kind(&row.node),
        mode: node::mode_text(&row.node),
        size: node::size(&row.node),
        size_human: args.human.then(|| human(node::size(&row.node))),
        digest: node::digest(&row.node).map(|digest| digest.to_string()),
        digest_short: node::digest(&row.node).map(node::short_digest),
        mod_time: node::mtime_ns(&row.node).map(time::rfc3339),
        target: node::target(&row.node),
    }
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Listing<'_>>("ls"), line::<Listed<'_>>("ls-line")]
}
