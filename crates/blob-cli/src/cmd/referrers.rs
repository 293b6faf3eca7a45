//! `blob referrers`.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use blob::core::Digest;
use blob::registry::Descriptor;
use blob::{Client, Location};
use clap::Args;
use serde::Serialize;

use crate::args::Format;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::ui::escape::exact;
use crate::ui::json;
use crate::ui::table::{Align, Cell, Table};

/// How deep referrers of referrers are shown, and how many.
const MAX_DEPTH: usize = 16;
const MAX_REFERRERS: usize = 1000;

const EXAMPLES: &str = "\
Examples:
  blob referrers ghcr.io/org/data:1.0
  blob referrers --tree ghcr.io/org/data:1.0                what refers to signatures and attestations, too
  blob referrers --type application/vnd.in-toto+json ghcr.io/org/data:1.0

They are shown as the registry lists them: nothing about them is verified. `blob verify` does that.";

/// List what refers to an archive: signatures, attestations and other artifacts.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReferrersArgs {
    /// The archive, or any other manifest.
    #[arg(value_name = "REF")]
    reference: String,

    /// Show what refers to them as well, as a tree.
    #[arg(long)]
    tree: bool,

    /// List only those of this artifact type.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

/// What refers to a manifest.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// The digest of the manifest.
    digest: String,
    /// As the registry lists them.
    referrers: Vec<Referrer>,
}

/// One that refers.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Referrer {
    /// Its digest.
    digest: String,
    /// The artifact type, else the media type.
    artifact_type: String,
    /// The media type of the manifest.
    media_type: String,
    /// Bytes of the manifest.
    size: u64,
    /// Annotations of the descriptor.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// What refers to it in turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    referrers: Vec<Referrer>,
}

pub(crate) async fn run(args: ReferrersArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let client = session.client(&[&location]).await?;
    let root = client.resolve(&location).await.map_err(|error| Failure::at(error, &location))?;
    let mut search = Search { client: &client, location: &location, kind: args.kind.as_deref(), seen: HashSet::new() };
    let depth = if args.tree { MAX_DEPTH } else { 1 };
    let referrers = search.below(root.digest, depth).await?;
    Session::log_traffic(&client);
    let report = Report { r#ref: location.to_string(), digest: root.digest.to_string(), referrers };
    let output = session.options.output;
    let text = match output {
        Format::Jsonl => report.referrers.iter().map(json::line).collect(),
        Format::Json => json::document(&report),
        Format::Text if args.tree => tree(&report),
        output => table(&report).render(output),
    };
    session.print(text).await
}

struct Search<'a> {
    client: &'a Client,
    location: &'a Location,
    kind: Option<&'a str>,
    seen: HashSet<Digest>,
}

impl Search<'_> {
    /// What refers to `subject`, `depth` levels deep.
    async fn below(&mut self, subject: Digest, depth: usize) -> Result<Vec<Referrer>, Failure> {
        let found = self.client.referrers(self.location, &subject, self.kind).await;
        let mut referrers = Vec::new();
        for one in found.map_err(|error| Failure::at(error, self.location))? {
            // A registry may make two refer to one another, or say so.
            if !self.seen.insert(one.digest) {
                continue;
            }
            if self.seen.len() > MAX_REFERRERS {
                let message = format!("more than {MAX_REFERRERS} manifests refer to {}", self.location);
                return Err(Failure::new(Kind::General, message));
            }
            let deeper = if depth > 1 { Box::pin(self.below(one.digest, depth - 1)).await? } else { Vec::new() };
            referrers.push(referrer(one, deeper));
        }
        Ok(referrers)
    }
}

fn referrer(found: Descriptor, referrers: Vec<Referrer>) -> Referrer {
    Referrer {
        digest: found.digest.to_string(),
        artifact_type: found.artifact_type.unwrap_or_else(|| found.media_type.clone()),
        media_type: found.media_type,
        size: found.size,
        annotations: found.annotations,
        referrers,
    }
}

fn table(report: &Report) -> Table {
    let mut table = Table::new(vec![("DIGEST", Align::Left), ("SIZE", Align::Right), ("TYPE", Align::Left)]);
    let mut open: Vec<&Referrer> = report.referrers.iter().rev().collect();
    while let Some(one) = open.pop() {
        let kind = exact(one.artifact_type.as_bytes());
        table.row(vec![Cell::new(&one.digest), Cell::new(one.size.to_string()), Cell::new(kind)]);
        open.extend(one.referrers.iter().rev());
    }
    table
}

fn tree(report: &Report) -> String {
    let mut text = format!("{}\n", report.digest);
    branches(&report.referrers, "", &mut text);
    text
}

/// At most [`MAX_DEPTH`] levels.
fn branches(referrers: &[Referrer], indent: &str, text: &mut String) {
    for (at, one) in referrers.iter().enumerate() {
        let last = at + 1 == referrers.len();
        let (branch, below) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let _ = writeln!(text, "{indent}{branch}{}  {}", one.digest, exact(one.artifact_type.as_bytes()));
        branches(&one.referrers, &format!("{indent}{below}"), text);
    }
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Report>("referrers"), line::<Referrer>("referrers-line")]
}
