//! `blob rm`.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use blob::core::Digest;
use blob::registry::{Descriptor, ErrorCode, Outline, PageRequest, Registry, RegistryError, Repository, Tag, Target};
use blob::{Client, Error, Location};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::tags::all_tags;
use crate::error::Failure;
use crate::session::Session;
use crate::ui::ask;
use crate::ui::escape::shown;
use crate::ui::size::count;

const EXAMPLES: &str = "\
Examples:
  blob rm localhost:5000/team/assets:old                    the tag; the archive stays under its digest and other tags
  blob rm --manifest localhost:5000/team/assets:old         the archive, with every tag that points at it
  blob rm --yes --referrers localhost:5000/team/assets@sha256:…   and its signatures

On a terminal you are asked first; elsewhere --yes is needed. Registries give the room back when they collect their \
garbage.";

/// Delete tags or archives.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RmArgs {
    /// What to delete: a tag, or with a digest or --manifest the archive itself.
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,

    /// Delete the manifest that a tag points at, and with it every tag that points there.
    #[arg(short, long)]
    manifest: bool,

    /// Delete what refers to a deleted manifest as well, such as signatures, and what refers to that.
    #[arg(long)]
    referrers: bool,

    /// Do not ask.
    #[arg(short, long)]
    yes: bool,

    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

/// What was deleted.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// Whether this only says what would be done.
    dry_run: bool,
    /// One for each reference.
    deleted: Vec<Deleted>,
}

/// A tag or a manifest.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Deleted {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// `tag` or `manifest`.
    kind: &'static str,
    /// The digest of the manifest.
    digest: String,
    /// Every tag that goes with a deleted manifest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    /// What refers to a deleted manifest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    referrers: Vec<Referrer>,
    /// Whether these are deleted too.
    #[serde(rename = "referrers_deleted", skip_serializing_if = "Option::is_none")]
    with_referrers: Option<bool>,
}

/// What refers to a deleted manifest.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Referrer {
    /// Its digest.
    digest: String,
    /// The artifact type, else the media type.
    artifact_type: String,
}

/// One thing to delete, looked at.
struct Step {
    location: Location,
    digest: Digest,
    manifest: bool,
    /// The tags that point at a manifest that goes.
    tags: Vec<Tag>,
    referrers: Vec<Descriptor>,
}

/// How deep referrers of referrers are followed, and how many there may be.
const MAX_DEPTH: usize = 8;
const MAX_REFERRERS: usize = 1000;

/// Tags that are asked for at a time.
const AT_A_TIME: usize = 8;

pub(crate) async fn run(args: RmArgs, session: &Session) -> Result<(), Failure> {
    let typed = args.references.iter().map(|reference| session.location(reference));
    let locations = typed.collect::<Result<Vec<_>, _>>()?;
    if !args.dry_run && !args.yes && (session.options.output.is_json() || !std::io::stdin().is_terminal()) {
        let message = "deleting needs a confirmation, and nobody can be asked here";
        return Err(Failure::usage(message).with_hint("pass --yes, or --dry-run to see what would be deleted"));
    }
    if let Some(tag) = locations.iter().find(|location| args.referrers && !args.manifest && location.tag().is_some()) {
        let failure =
            Failure::usage(format!("--referrers deletes what refers to a manifest, and {tag} is a tag alone"));
        return Err(failure.with_hint("pass --manifest to delete what the tag points at"));
    }
    let client = session.client(&locations.iter().collect::<Vec<_>>()).await?;
    let mut steps = Vec::new();
    for location in &locations {
        crate::plan::changeable(location)?;
    }
    for location in locations {
        steps.push(look(&client, location, &args).await?);
    }
    let mut whole = report(&steps, &args);
    let mut failed = None;
    if !args.dry_run {
        if !args.yes {
            session.meter.clear();
            if !ask::confirmed(&question(&whole)).await? {
                crate::ui::output::complain("Canceled.\n");
                return Ok(());
            }
        }
        for (done, step) in steps.iter().enumerate() {
            if let Err(failure) = delete(&client, step, args.referrers).await {
                if done == 0 {
                    return Err(failure);
                }
                // What is gone is gone, and is told as such.
                whole.deleted.truncate(done);
                failed = Some(failure.after(format!("deleted {done} of {}", count(steps.len() as u64, "reference"))));
                break;
            }
        }
    }
    Session::log_traffic(&client);
    session.outcome(args.dry_run, &whole, || text(&whole)).await?;
    failed.map_or(Ok(()), Err)
}

async fn look(client: &Client, location: Location, args: &RmArgs) -> Result<Step, Failure> {
    let found = client.resolve(&location).await.map_err(|error| Failure::at(error, &location))?;
    let manifest = args.manifest || matches!(location.target(), Some(Target::Digest(_)));
    let referrers = if manifest { referrers(client, &location, found.digest).await? } else { Vec::new() };
    let tags = if manifest { tags_of(client, &location, found.digest).await } else { Vec::new() };
    Ok(Step { location, digest: found.digest, manifest, tags, referrers })
}

/// The tags that point at a manifest. A registry that does not list its tags keeps nobody from deleting.
async fn tags_of(client: &Client, location: &Location, digest: Digest) -> Vec<Tag> {
    let Ok(tags) = all_tags(client, location, &PageRequest::first()).await else {
        tracing::warn!("the registry does not list its tags: others may point at what is deleted");
        return Vec::new();
    };
    let points = |tag: Tag| async move {
        let found = client.resolve(&location.with_target(Target::Tag(tag.clone()))).await;
        found.is_ok_and(|found| found.digest == digest).then_some(tag)
    };
    stream::iter(tags).map(points).buffered(AT_A_TIME).filter_map(std::future::ready).collect().await
}

/// Everything that refers to a manifest, and to that; what is referred to comes first.
async fn referrers(client: &Client, location: &Location, subject: Digest) -> Result<Vec<Descriptor>, Failure> {
    let mut all: Vec<Descriptor> = Vec::new();
    let mut level = vec![subject];
    let (registry, repository) = client.registry_without_mirrors(location).await?;
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for digest in level {
            let found = client.referrers(location, &digest, None).await;
            for one in found.map_err(|error| Failure::at(error, location))? {
                if !refers(registry.as_ref(), &repository, one.digest, digest).await? {
                    let (referrer, subject) = (one.digest.to_string(), digest.to_string());
                    tracing::warn!(referrer, subject, "left alone: it is listed as a referrer and does not refer");
                } else if one.digest != subject && all.iter().all(|known| known.digest != one.digest) {
                    next.push(one.digest);
                    all.push(one);
                }
                if all.len() > MAX_REFERRERS {
                    let message = format!("more than {MAX_REFERRERS} manifests refer to {location}");
                    return Err(Failure::new(crate::error::Kind::General, message));
                }
            }
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
    Ok(all)
}

/// Whether a manifest says itself that it refers to `subject`: lists may be written by anyone who can push a tag.
async fn refers(
    registry: &dyn Registry,
    repository: &Repository,
    referrer: Digest,
    subject: Digest,
) -> Result<bool, Failure> {
    match registry.manifest(repository, &referrer.into()).await {
        Ok(manifest) => {
            let outline = Outline::parse(&manifest.bytes).ok();
            Ok(outline.and_then(|outline| outline.subject).is_some_and(|named| named.digest == subject))
        }
        Err(error) if error.is_not_found() => Ok(false),
        Err(source) => Err(Error::Registry { action: format!("reading the referrer {referrer}"), source }.into()),
    }
}

async fn delete(client: &Client, step: &Step, with_referrers: bool) -> Result<(), Failure> {
    let Step { location, digest, manifest, referrers, .. } = step;
    if !manifest {
        return client.delete_tag(location).await.map_err(|error| refused(error, location));
    }
    if with_referrers {
        // Those that refer go before what they refer to.
        for referrer in referrers.iter().rev() {
            match client.delete_manifest(location, &referrer.digest).await {
                Err(error) if !error.is_not_found() => return Err(refused(error, location)),
                _ => {}
            }
        }
    }
    client.delete_manifest(location, digest).await.map_err(|error| refused(error, location))
}

fn refused(error: Error, location: &Location) -> Failure {
    let unsupported = matches!(&error, Error::Registry { source, .. } if is_unsupported(source));
    let failure = Failure::at(error, location);
    if matches!(location, Location::LayoutFile { .. }) {
        // Perhaps that is in the error.
        let told = failure.sentence().contains("copy it back");
        return if told {
            failure
        } else {
            failure.with_hint("copy it to a directory, change it there, and copy it back")
        };
    }
    // Where nothing is deleted, there is no other way either.
    let keeps = ["keeps what it has", "read-only"].iter().any(|words| failure.sentence().contains(words));
    let tag = location.tag().is_some() && !keeps;
    match (unsupported, tag) {
        (true, true) => failure.with_hint(
            "this registry cannot delete tags alone, or nothing at all; --manifest deletes the archive with all its tags",
        ),
        (true, false) => failure.with_hint("this registry does not delete, or was configured not to"),
        _ => failure,
    }
}

fn is_unsupported(error: &RegistryError) -> bool {
    error.error_code() == ErrorCode::Unsupported
}

fn report(steps: &[Step], args: &RmArgs) -> Report {
    let one = |step: &Step| Deleted {
        r#ref: step.location.to_string(),
        kind: if step.manifest { "manifest" } else { "tag" },
        digest: step.digest.to_string(),
        tags: step.tags.iter().map(ToString::to_string).collect(),
        referrers: step.referrers.iter().map(referrer).collect(),
        with_referrers: step.manifest.then_some(args.referrers),
    };
    Report { dry_run: args.dry_run, deleted: steps.iter().map(one).collect() }
}

fn referrer(found: &Descriptor) -> Referrer {
    let artifact_type = found.artifact_type.clone().unwrap_or_else(|| found.media_type.clone());
    Referrer { digest: found.digest.to_string(), artifact_type }
}

fn question(report: &Report) -> String {
    let mut text = String::new();
    for deleted in &report.deleted {
        let _ = write!(text, "{} {} ({})", deleted.kind, deleted.r#ref, deleted.digest);
        if !deleted.tags.is_empty() {
            let _ = write!(text, ", and with it {}", tags(deleted));
        }
        match deleted.referrers.len() as u64 {
            0 => {}
            some if deleted.with_referrers == Some(true) => {
                let _ = write!(text, ", with {}", count(some, "referrer"));
            }
            some => {
                let _ = write!(text, "; {} will be left without it", count(some, "referrer"));
            }
        }
        text.push('\n');
    }
    shown_lines(&text) + "Delete? [y/N]: "
}

/// `the tags v1, latest`
fn tags(deleted: &Deleted) -> String {
    format!("the {} {}", if deleted.tags.len() == 1 { "tag" } else { "tags" }, deleted.tags.join(", "))
}

fn shown_lines(text: &str) -> String {
    text.lines().map(|line| shown(line.as_bytes()) + "\n").collect()
}

fn text(report: &Report) -> String {
    let verb = if report.dry_run { "Would delete" } else { "Deleted" };
    let mut text = String::new();
    for deleted in &report.deleted {
        let _ = writeln!(text, "{verb} {} {}\n  Digest: {}", deleted.kind, deleted.r#ref, deleted.digest);
        for tag in &deleted.tags {
            let _ = writeln!(text, "  Tag: {tag}");
        }
        let label = if deleted.with_referrers == Some(true) { "Referrer" } else { "Referrer left" };
        for referrer in &deleted.referrers {
            let _ = writeln!(text, "  {label}: {}  {}", referrer.digest, referrer.artifact_type);
        }
    }
    shown_lines(&text)
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("rm")]
}
