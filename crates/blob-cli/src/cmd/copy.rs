//! `blob copy`, `blob save` and `blob load`.

pub(crate) mod saved;

use std::fmt::Write as _;
use std::num::NonZero;

use blob::registry::{CopyReport, PageRequest, Tag, Target};
use blob::{Client, Copied, CopyOptions, Error, Location};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::tags::all_tags;
use crate::error::{Failure, Kind};
use crate::plan;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::size::{count, human};

const EXAMPLES: &str = "\
Examples:
  blob copy localhost:5000/team/assets:v1 localhost:5000/team/mirror:v1
  blob copy ghcr.io/org/data:1.0 oci:./backup:1.0           to a directory that needs no registry
  blob copy oci:./backup:1.0 ghcr.io/org/data:1.0 -t latest  and back, under two tags
  blob copy ghcr.io/org/data:1.0 oci-archive:data.tar:1.0   to a single file, which skopeo and podman read
  blob copy --all-tags --no-clobber ghcr.io/org/data localhost:5000/org/data

Digests stay what they are, so signatures stay valid; they are copied too. Only what is missing at the destination is \
sent, and within one registry not even that: blobs are mounted. A tar file keeps what it had, and is replaced as a whole \
when the copy is done.";

/// Copy archives, or any other artifact, between registries and layouts.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CopyArgs {
    /// What to copy; with --all-tags a repository or layout.
    #[arg(value_name = "SRC")]
    source: String,

    /// Where to: a reference, or a repository or layout, where the tag of SRC is taken.
    #[arg(value_name = "DST")]
    dest: String,

    /// A further tag at the destination; may be repeated.
    #[arg(short, long, value_name = "TAG", value_parser = plan::tag, conflicts_with = "all_tags")]
    tag: Vec<Tag>,

    /// Copy every tag of the repository.
    #[arg(short, long)]
    all_tags: bool,

    #[command(flatten)]
    how: How,
}

/// How archives are copied.
#[derive(Args, Debug)]
pub(crate) struct How {
    /// Leave signatures, attestations and whatever else refers to the archive behind.
    #[arg(long)]
    no_referrers: bool,

    /// Leave tags alone that exist at the destination.
    #[arg(short, long)]
    no_clobber: bool,

    /// Begin although the file system of a layout says that it has not the room.
    #[arg(long)]
    no_space_check: bool,

    /// Only say what would be copied.
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

/// What was copied.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// Where from.
    source: String,
    /// Where to.
    destination: String,
    /// Whether this only says what would be done.
    dry_run: bool,
    /// One for each tag or manifest.
    copies: Vec<Done>,
    /// Manifests that were sent.
    manifests_copied: u64,
    /// Blobs that were sent.
    blobs_copied: u64,
    /// Bytes that were sent.
    bytes: u64,
}

/// One manifest with what belongs to it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Done {
    /// Where from.
    source: String,
    /// Its digest; none if it was left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// Tags that point at it now.
    tags: Vec<String>,
    /// Tags that existed and were left alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept_tags: Vec<String>,
    /// Manifests that were sent.
    manifests_copied: u64,
    /// Manifests that were there.
    manifests_existing: u64,
    /// Blobs that were sent.
    blobs_copied: u64,
    /// Blobs that were there.
    blobs_existing: u64,
    /// Blobs that the registry took from another repository.
    blobs_mounted: u64,
    /// Bytes that were sent.
    bytes: u64,
}

pub(crate) async fn run(args: CopyArgs, session: &Session) -> Result<(), Failure> {
    let (from, to) = if args.all_tags {
        (session.repository(&args.source)?, session.repository(&args.dest)?)
    } else {
        (session.location(&args.source)?, session.repository(&args.dest)?)
    };
    plan::not_a_pair(&to)?;
    if let (true, Some(named)) = (args.all_tags, from.target().or(to.target())) {
        return Err(Failure::usage(format!("--all-tags copies repositories, and {named} is named")));
    }
    let client = session.client(&[&from, &to]).await?;
    let mut options = args.how.options(session);
    options.tags.clone_from(&args.tag);
    let work = Work { options, how: &args.how, session };
    let (copies, failures, of) = if args.all_tags {
        let tags = all_tags(&client, &from, &PageRequest::first()).await?;
        let at = |tag: &Tag| (from.with_target(Target::Tag(tag.clone())), to.with_target(Target::Tag(tag.clone())));
        let places: Vec<(Location, Location)> = tags.iter().map(at).collect();
        let (copies, failures) = every(&work, &places, &to).await?;
        (copies, failures, places.len())
    } else {
        // A destination without a tag of its own gets that of the source.
        let to = match (to.target(), from.tag()) {
            (None, Some(tag)) if args.tag.is_empty() => to.with_target(Target::Tag(tag)),
            _ => to.clone(),
        };
        let client = session.copying(&[&from], &[&to], &args.how.trust).await?;
        (vec![one(&client, (&from, &to), &work.options).await?], Vec::new(), 1)
    };
    Session::log_traffic(&client);
    let report = Report::new(from.to_string(), to.to_string(), args.how.dry_run, copies);
    tell(&report, (&failures, of, "tag"), session).await
}

impl How {
    fn options(&self, session: &Session) -> CopyOptions {
        let mut options = CopyOptions::default();
        options.referrers = !self.no_referrers;
        options.keep_tags = self.no_clobber;
        options.dry_run = self.dry_run;
        options.skip_room_check = self.no_space_check;
        options.concurrency = session.options.jobs.map_or(options.concurrency, NonZero::get);
        options.progress = Some(session.meter.watcher());
        options
    }
}

/// What every copy of a command has in common.
struct Work<'a> {
    options: CopyOptions,
    how: &'a How,
    session: &'a Session,
}

impl Report {
    fn new(source: String, destination: String, dry_run: bool, copies: Vec<Done>) -> Self {
        let sum = |part: fn(&Done) -> u64| copies.iter().map(part).sum();
        Self {
            source,
            destination,
            dry_run,
            manifests_copied: sum(|done| done.manifests_copied),
            blobs_copied: sum(|done| done.blobs_copied),
            bytes: sum(|done| done.bytes),
            copies,
        }
    }
}

/// Says what was copied, and what was not of so many.
async fn tell(
    report: &Report,
    (failures, of, what): (&[Failure], usize, &str),
    session: &Session,
) -> Result<(), Failure> {
    if session.is_terse() && !report.dry_run {
        let digests = report.copies.iter().filter_map(|done| done.digest.clone());
        session.print(digests.map(|digest| digest + "\n").collect::<String>()).await?;
    } else {
        session.outcome(report.dry_run, report, || text(report)).await?;
    }
    if failures.is_empty() {
        return Ok(());
    }
    let message = format!("copied {} of {}", report.copies.len(), count(of as u64, what));
    Err(Failure::partial(message, failures))
}

/// Copies several places of one destination; what came of them, if it is something.
async fn every(
    work: &Work<'_>,
    places: &[(Location, Location)],
    to: &Location,
) -> Result<(Vec<Done>, Vec<Failure>), Failure> {
    // Policies may be for single tags.
    let (read, written): (Vec<&Location>, Vec<&Location>) = places.iter().map(|(from, to)| (from, to)).unzip();
    let client = work.session.copying(&read, &written, &work.how.trust).await?;
    let mut options = work.options.clone();
    options.file = if options.dry_run { None } else { client.layout_file(to).await? };
    let (copies, failures) = all(&client, places, &options).await;
    if let Some(file) = options.file.filter(|_| !copies.is_empty()) {
        let finished = file.finish().await;
        finished.map_err(|source| Error::Registry { action: format!("writing to {to}"), source })?;
    }
    match failures.first() {
        Some(failure) if copies.is_empty() => Err(failure.clone()),
        _ => Ok((copies, failures)),
    }
}

/// Copies several places, some of them at a time, all together with as many requests as the options say. What came of
/// them is in the order of the places. One that fails does not keep the others from being copied, unless the registry
/// cannot be reached or lets nobody in.
async fn all(client: &Client, places: &[(Location, Location)], options: &CopyOptions) -> (Vec<Done>, Vec<Failure>) {
    let at_a_time = options.concurrency.min(places.len()).max(1);
    let mut options = options.clone();
    options.concurrency = (options.concurrency / at_a_time).max(1);
    let copies = places.iter().map(|(from, to)| one(client, (from, to), &options));
    let mut results = stream::iter(copies).buffered(at_a_time);
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    while let Some(result) = results.next().await {
        match result {
            Ok(copied) => done.push(copied),
            Err(failure) => {
                let hopeless = matches!(failure.kind, Kind::Network | Kind::Authentication);
                failures.push(failure);
                if hopeless {
                    break;
                }
            }
        }
    }
    (done, failures)
}

async fn one(client: &Client, (from, to): (&Location, &Location), options: &CopyOptions) -> Result<Done, Failure> {
    let copied = client.copy(from, to, options).await.map_err(|error| match error {
        error @ Error::NoRoom { .. } => {
            let hint = "make room, or begin all the same with --no-space-check";
            Failure::from(error).without_hint().with_hint(hint)
        }
        error => Failure::between(error, from, to),
    })?;
    let Copied { report, tags, kept_tags, .. } = copied;
    let names = |tags: Vec<Tag>| tags.iter().map(ToString::to_string).collect();
    let number = |part: fn(&CopyReport) -> u64| report.as_ref().map_or(0, part);
    Ok(Done {
        source: from.to_string(),
        digest: report.as_ref().map(|report| report.root.digest.to_string()),
        tags: names(tags),
        kept_tags: names(kept_tags),
        manifests_copied: number(|report| report.manifests_copied),
        manifests_existing: number(|report| report.manifests_existing),
        blobs_copied: number(|report| report.blobs_copied),
        blobs_existing: number(|report| report.blobs_existing),
        blobs_mounted: number(|report| report.blobs_mounted),
        bytes: number(|report| report.bytes),
    })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let verb = if report.dry_run { "Would copy" } else { "Copied" };
    for done in &report.copies {
        let Some(digest) = &done.digest else {
            let kept = done.kept_tags.join(", ");
            let _ = writeln!(text, "Left alone {}: {kept} exists at {}", done.source, report.destination);
            continue;
        };
        let _ = writeln!(text, "{verb} {} to {}\n  Digest: {digest}", done.source, report.destination);
        let (tagged, label) = if report.dry_run { ("Would tag", "Would send") } else { ("Tagged", "Sent") };
        for (label, tags) in [(tagged, &done.tags), ("Left alone", &done.kept_tags)] {
            for tag in tags {
                let _ = writeln!(text, "  {label}: {tag}");
            }
        }
        let existing = done.manifests_existing + done.blobs_existing;
        let sent = [count(done.manifests_copied, "manifest"), count(done.blobs_copied, "blob")].join(", ");
        let mounted = if done.blobs_mounted > 0 { format!(", {} mounted", done.blobs_mounted) } else { String::new() };
        let there = if existing > 0 { format!(", {existing} there already") } else { String::new() };
        let _ = writeln!(text, "  {label}: {} ({sent}{mounted}{there})", human(done.bytes));
    }
    if report.copies.is_empty() {
        let _ = writeln!(text, "Nothing to copy: {} has no tags", report.source);
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("copy"), document::<Report>("save"), document::<Report>("load")]
}
