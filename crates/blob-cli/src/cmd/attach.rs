//! `blob attach`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use blob::core::path;
use blob::{AttachFile, AttachOptions, Attachment};
use clap::Args;
use serde::Serialize;

use super::push::create::source_date_epoch;
use crate::error::Failure;
use crate::plan;
use crate::session::Session;
use crate::ui::escape::shown;
use crate::ui::size::human;

const EXAMPLES: &str = "\
Examples:
  blob attach --type application/spdx+json ghcr.io/org/data:1.0 sbom.spdx.json
  blob attach --type text/x-scan -a by=x1 h/data:1.0 report.json log:text/plain
  blob referrers ghcr.io/org/data:1.0
  blob download --type application/spdx+json ghcr.io/org/data:1.0 sbom.json

The media type of a file may stand behind a colon. Nothing is signed by this: `blob attest` attaches signed statements.";

/// Attach files to an archive: a bill of materials, a report, a licence.
///
/// They are an artifact of their own, which refers to the archive. The archive and its digest stay as they are.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AttachArgs {
    /// The archive, or any other manifest.
    #[arg(value_name = "REF")]
    reference: String,

    /// The files.
    #[arg(value_name = "FILE[:MEDIA-TYPE]", required = true)]
    files: Vec<String>,

    /// What kind of artifact it is: a media type.
    #[arg(long = "type", visible_alias = "artifact-type", value_name = "TYPE", required = true)]
    kind: String,

    /// Annotate the artifact. May be given several times.
    #[arg(short, long = "annotation", value_name = "KEY=VALUE", value_parser = plan::annotation)]
    annotations: Vec<(String, String)>,

    /// Only say what would be attached.
    #[arg(long)]
    dry_run: bool,
}

/// What was attached.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// What it was attached to, as it was typed.
    r#ref: String,
    /// What an alias resolved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_ref: Option<String>,
    /// The digest of what it was attached to.
    subject: String,
    /// The digest of the artifact; of a plan that is another one later, unless the time is among the annotations.
    digest: String,
    /// The artifact, pinned to its digest.
    artifact_ref: String,
    /// What kind of artifact it is.
    artifact_type: String,
    /// Its files.
    files: Vec<Item>,
    /// Whether nothing was sent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

/// A file of the artifact.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Item {
    /// Its name.
    name: String,
    /// Its digest.
    digest: String,
    /// Bytes.
    size: u64,
    /// Its media type.
    media_type: String,
}

pub(crate) async fn run(args: AttachArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    plan::changeable(&location)?;
    let files = args.files.iter().map(|typed| file(typed)).collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = files.iter().filter_map(|file| file.path.file_name()).find(|name| !names.insert(*name)) {
        let failure = Failure::usage(format!("two of the files are called {}", twice.display()));
        return Err(
            failure.with_hint("files of an artifact are told apart by their names: attach one of them by itself")
        );
    }
    let client = session.client(&[&location]).await?;
    let mut options = AttachOptions::default();
    options.annotations = annotations(&args)?;
    options.dry_run = args.dry_run;
    options.progress = Some(session.meter.watcher());
    let attached = client.attach(&location, &args.kind, &files, &options).await;
    let attached = attached.map_err(|error| Failure::at(error, &location))?;
    Session::log_traffic(&client);
    if session.is_terse() && !args.dry_run {
        return session.print(format!("{}\n", attached.location)).await;
    }
    let report = report(&attached, &args, Session::resolved(&args.reference, &location));
    session.outcome(args.dry_run, &report, || text(&report)).await
}

/// The annotations that were typed, and the time for builds that are to come out the same.
fn annotations(args: &AttachArgs) -> Result<BTreeMap<String, String>, Failure> {
    let mut all: BTreeMap<String, String> = args.annotations.iter().cloned().collect();
    if let Some(time) = source_date_epoch(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())? {
        all.entry(blob::CREATED.into()).or_insert_with(|| time.to_string());
    }
    Ok(all)
}

/// `FILE`, or `FILE:MEDIA/TYPE`.
fn file(typed: &str) -> Result<AttachFile, Failure> {
    let (path, kind) = match typed.rsplit_once(':') {
        Some((path, kind)) if kind.matches('/').count() == 1 && !Path::new(typed).exists() => (path, Some(kind)),
        _ => (typed, None),
    };
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            let failure = Failure::usage(format!("{path} is a directory, and files are attached"));
            return Err(failure.with_hint("`blob push` stores a directory; a tar file of it can be attached"));
        }
        Err(error) => return Err(Failure::io(format!("reading {path}"), &error)),
        Ok(_) => {}
    }
    Ok(AttachFile::new(PathBuf::from(path), kind.unwrap_or_else(|| usual(path))))
}

/// The media type that files with such a name mostly have.
fn usual(path: &str) -> &'static str {
    let name = path::normalize(path.as_bytes()).to_ascii_lowercase();
    let known = [
        (".spdx.json", "application/spdx+json"),
        (".cdx.json", "application/vnd.cyclonedx+json"),
        (".sigstore.json", "application/vnd.dev.sigstore.bundle.v0.3+json"),
        (".sarif", "application/sarif+json"),
        (".json", "application/json"),
        (".xml", "application/xml"),
        (".md", "text/markdown"),
        (".txt", "text/plain"),
    ];
    let found = known.iter().find(|(end, _)| name.ends_with(end.as_bytes()));
    found.map_or("application/octet-stream", |(_, kind)| kind)
}

fn report(attached: &Attachment, args: &AttachArgs, resolved_ref: Option<String>) -> Report {
    let files = attached.files.iter().map(|file| Item {
        name: file.name.clone(),
        digest: file.descriptor.digest.to_string(),
        size: file.descriptor.size,
        media_type: file.descriptor.media_type.clone(),
    });
    Report {
        r#ref: args.reference.clone(),
        resolved_ref,
        subject: attached.subject.digest.to_string(),
        digest: attached.manifest.digest.to_string(),
        artifact_ref: attached.location.to_string(),
        artifact_type: args.kind.clone(),
        files: files.collect(),
        dry_run: args.dry_run,
    }
}

fn text(report: &Report) -> String {
    let verb = if report.dry_run { "Would attach" } else { "Attached" };
    let mut text = format!("{verb} {} to {}\n", report.artifact_type, report.r#ref);
    if let Some(resolved) = &report.resolved_ref {
        let _ = writeln!(text, "  Resolved: {resolved}");
    }
    let _ = writeln!(text, "  Subject: {}", report.subject);
    if !report.dry_run {
        let _ = writeln!(text, "  Digest: {}", report.digest);
    }
    for Item { name, size, media_type, .. } in &report.files {
        let _ = writeln!(text, "  File: {} ({}, {media_type})", shown(name.as_bytes()), human(*size));
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("attach")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_guessed_by_name() {
        for (path, expected) in [
            ("sbom.spdx.json", "application/spdx+json"),
            ("dir/SBOM.CDX.JSON", "application/vnd.cyclonedx+json"),
            ("report.json", "application/json"),
            ("notes", "application/octet-stream"),
        ] {
            assert_eq!(usual(path), expected, "{path}");
        }
    }
}
