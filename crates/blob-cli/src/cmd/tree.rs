//! `blob tree`.

use std::fmt::Write as _;

use blob::core::{Node, path};
use clap::Args;

use super::missing;
use crate::args::{Caching, Format};
use crate::error::Failure;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::escape::PathText;
use crate::ui::json;
use crate::ui::size::count;
use crate::ui::table::{Align, Cell, Table};
use crate::ui::tree::{self, Counts, Shape};

const EXAMPLES: &str = "\
Examples:
  blob tree localhost:5000/team/assets:v1
  blob tree -L 2 --dirsfirst oci:./layout:v1 src";

/// Show the directories of an archive as a tree.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TreeArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// A directory in the archive; the root by default.
    #[arg(value_name = "PATH", default_value = "", hide_default_value = true)]
    path: String,

    /// How many levels to show; 0 for all.
    #[arg(short = 'L', short_alias = 'd', long, alias = "depth", value_name = "N", default_value_t = 0)]
    level: usize,

    /// Directories before files.
    #[arg(long)]
    dirsfirst: bool,

    /// Directories alone.
    #[arg(long)]
    dirs_only: bool,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) async fn run(args: TreeArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    let typed = path::normalize(args.path.as_bytes());
    let root = match archive.index().lookup(&typed) {
        Some(Node::Directory(root)) => root,
        Some(Node::EmptyDir(_)) => return session.print(empty(&args, session, &location.to_string())).await,
        Some(_) => return Err(Failure::usage(format!("not a directory: {}", args.path))),
        None => return Err(missing::failure("path not found in archive", archive.index(), &args.path)),
    };
    let shape =
        Shape { levels: (args.level > 0).then_some(args.level), dirs_first: args.dirsfirst, dirs_only: args.dirs_only };
    let text = match session.options.output {
        Format::Text | Format::Table => {
            let (lines, counts) = tree::lines(root, shape, session.style);
            format!("{lines}\n{}\n", summary(counts))
        }
        Format::Plain => tree::paths(root, shape),
        Format::Csv => paths(&tree::paths(root, shape)).csv(),
        Format::Json | Format::Jsonl => {
            let (nested, counts) = tree::nested(root, shape);
            let whole = document(&location.to_string(), &args.path, &nested, counts);
            if session.options.output == Format::Json { whole } else { json::compact(&whole) }
        }
    };
    session.print(text).await?;
    Session::log_traffic(&client);
    Ok(())
}

/// `N directories, M files`, and links if there are any.
fn summary(counts: Counts) -> String {
    let directories = if counts.directories == 1 { "directory" } else { "directories" };
    let mut text = format!("{} {directories}, {}", counts.directories, count(counts.files, "file"));
    if counts.links > 0 {
        let _ = write!(text, ", {}", count(counts.links, "link"));
    }
    text
}

/// A row for each path.
fn paths(lines: &str) -> Table {
    let mut table = Table::new(vec![("PATH", Align::Left)]);
    for path in lines.lines() {
        table.row(vec![Cell::new(path)]);
    }
    table
}

fn document(reference: &str, typed: &str, root: &str, counts: Counts) -> String {
    let path = PathText::new(&path::normalize(typed.as_bytes())).path;
    format!(
        "{{\n  \"schema_version\": {},\n  \"ref\": {},\n  \"path\": {},\n  \"root\": {root},\n  \
         \"directory_count\": {},\n  \"file_count\": {},\n  \"symlink_count\": {}\n}}\n",
        json::SCHEMA_VERSION,
        json::string(reference),
        json::string(&path),
        counts.directories,
        counts.files,
        counts.links,
    )
}

/// The tree of a directory that holds nothing.
fn empty(args: &TreeArgs, session: &Session, reference: &str) -> String {
    let typed = path::normalize(args.path.as_bytes());
    let name = typed.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    match session.options.output {
        Format::Text | Format::Table => {
            let name = session.style.directory(&format!("{}/", crate::ui::escape::shown(name)));
            format!("{name}\n\n{}\n", summary(Counts::default()))
        }
        Format::Plain => String::new(),
        Format::Csv => paths("").csv(),
        Format::Json | Format::Jsonl => {
            let (name, path) = (String::from_utf8_lossy(name), String::from_utf8_lossy(&typed));
            let (name, path) = (json::string(&name), json::string(&path));
            let root = format!(
                "{{\n    \"name\": {name},\n    \"path\": {path},\n    \"is_dir\": true,\n    \"type\": \"directory\"\n  }}"
            );
            let whole = document(reference, &args.path, &root, Counts::default());
            if session.options.output == Format::Json { whole } else { json::compact(&whole) }
        }
    }
}

/// What [`document`] writes, for its schema.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[allow(dead_code, reason = "the document is written by hand, since trees may be too deep to recurse")]
struct Document {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// The directory; empty for the root.
    path: String,
    /// The directory with what is in it.
    root: Branch,
    /// Directories below it.
    directory_count: u64,
    /// Files below it.
    file_count: u64,
    /// Symbolic links below it.
    symlink_count: u64,
}

/// A file, link or directory.
#[cfg(test)]
#[derive(serde::Serialize, schemars::JsonSchema)]
struct Branch {
    /// Its name; `.` for the root.
    name: String,
    #[serde(flatten)]
    path: PathText,
    /// Whether it is a directory.
    is_dir: bool,
    /// `file`, `directory` or `symlink`.
    r#type: String,
    /// Bytes of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// What a symbolic link points at.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// What a directory holds, as far as it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    children: Option<Vec<Branch>>,
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Document>("tree")]
}
