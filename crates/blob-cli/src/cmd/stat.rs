//! `blob stat`.

use std::fmt::Write as _;

use blob::core::{Node, path};
use clap::Args;
use serde::Serialize;

use super::missing;
use super::node::Facts;
use crate::args::Caching;
use crate::args::Format;
use crate::error::Failure;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::escape::exact;
use crate::ui::json;
use crate::ui::size::human;
use crate::ui::table::{Align, Cell, Table};

const EXAMPLES: &str = "\
Examples:
  blob stat localhost:5000/team/assets:v1 config/app.yaml
  blob stat -o json localhost:5000/team/assets:v1 a.txt b.txt";

/// Show everything that is recorded about files of an archive.
///
/// No file data is fetched.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// Files, links or directories in the archive.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

/// What is recorded.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// One for each.
    entries: Vec<Stat>,
}

/// One thing of an archive; the size of a directory is that of its files.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Stat {
    #[serde(flatten)]
    facts: Facts,
    #[serde(flatten)]
    stored: Option<Stored>,
    /// Files in a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_count: Option<usize>,
    #[serde(skip)]
    raw: Vec<u8>,
}

/// What is known about files alone.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Stored {
    /// `none` or `zstd`.
    compression: String,
    /// Bytes in the data of the archive.
    #[serde(rename = "stored_size")]
    size: u64,
    /// Where they begin in it.
    data_offset: u64,
    /// The number of the owner.
    uid: u32,
    /// The number of the group.
    gid: u32,
}

pub(crate) async fn run(args: StatArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    Session::log_traffic(&client);
    let mut entries = Vec::new();
    for typed in &args.paths {
        let found = archive.index().lookup(path::normalize(typed.as_bytes()));
        let found = found.ok_or_else(|| missing::failure("path not found in archive", archive.index(), typed))?;
        entries.push(stat(&found));
    }
    let text = match session.options.output {
        Format::Jsonl => entries.iter().map(json::line).collect(),
        Format::Json => json::document(&Report { r#ref: location.to_string(), entries }),
        output @ (Format::Table | Format::Plain | Format::Csv) => table(&entries).render(output),
        Format::Text => entries.iter().map(text).collect::<Vec<_>>().join("\n"),
    };
    session.print(text).await
}

fn stat(found: &Node<'_>) -> Stat {
    let stored = match found {
        Node::File(file) => Some(Stored {
            compression: file.compression().to_string(),
            size: file.data_size(),
            data_offset: file.data_offset(),
            uid: file.uid(),
            gid: file.gid(),
        }),
        _ => None,
    };
    let file_count = if let Node::Directory(dir) = found { Some(dir.files().count()) } else { None };
    let mut facts = Facts::of(found);
    if let Node::Directory(dir) = found {
        facts.size = dir.files().map(|file| file.original_size()).sum();
    }
    Stat { facts, stored, file_count, raw: found.path().to_vec() }
}

fn text(stat: &Stat) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{:<14}{}", format!("{label}:"), exact(value.as_bytes()));
    };
    let facts = &stat.facts;
    line("Path", &format!("/{}", String::from_utf8_lossy(&stat.raw)));
    line("Type", facts.r#type);
    line("Mode", &facts.mode);
    let size =
        if facts.size < 1024 { facts.size.to_string() } else { format!("{} ({})", facts.size, human(facts.size)) };
    line("Size", &size);
    if let Some(files) = stat.file_count {
        line("Files", &files.to_string());
    }
    if let Some(stored) = &stat.stored {
        line("Stored", &format!("{} at {}, {}", stored.size, stored.data_offset, stored.compression));
        line("Owner", &format!("{}:{}", stored.uid, stored.gid));
    }
    for (label, value) in [("Modified", &facts.mod_time), ("Target", &facts.target), ("Digest", &facts.digest)] {
        if let Some(value) = value {
            line(label, value);
        }
    }
    text
}

fn table(entries: &[Stat]) -> Table {
    let columns = ["MODE", "SIZE", "STORED", "MODIFIED", "DIGEST", "PATH"];
    let right = |name| if matches!(name, "SIZE" | "STORED") { Align::Right } else { Align::Left };
    let mut table = Table::new(columns.map(|name| (name, right(name))).to_vec());
    for entry in entries {
        let facts = &entry.facts;
        let stored = entry.stored.as_ref().map_or_else(String::new, |stored| stored.size.to_string());
        let cells = [
            facts.mode.clone(),
            facts.size.to_string(),
            stored,
            facts.mod_time.clone().unwrap_or_default(),
            facts.digest.clone().unwrap_or_default(),
            exact(&entry.raw) + if entry.file_count.is_some() { "/" } else { "" },
        ];
        table.row(cells.into_iter().map(Cell::new).collect());
    }
    table
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Report>("stat"), line::<Stat>("stat-line")]
}
