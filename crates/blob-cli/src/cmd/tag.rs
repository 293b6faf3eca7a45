//! `blob tag`.

use blob::core::Digest;
use blob::registry::{Tag, Target};
use blob::{Client, Location};
use clap::Args;
use serde::Serialize;

use crate::error::Failure;
use crate::plan;
use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  blob tag localhost:5000/team/assets:v1 latest stable
  blob tag localhost:5000/team/assets@sha256:… localhost:5000/team/assets:v1";

/// Point tags at an archive, or at anything else in a repository.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TagArgs {
    /// What the tags shall point at.
    #[arg(value_name = "SRC")]
    source: String,

    /// New tags: bare, or as references of the same repository.
    #[arg(value_name = "TAG|REF", required = true)]
    tags: Vec<String>,

    /// Only say what would be done: where the tags point now, and where they would.
    #[arg(long)]
    dry_run: bool,
}

/// Tags that were set.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// What they point at, as it was typed.
    src_ref: String,
    /// What an alias resolved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_src_ref: Option<String>,
    /// The first tag.
    dst_ref: String,
    /// All tags.
    dst_refs: Vec<String>,
    /// The digest of the manifest.
    digest: String,
    /// `success`, or `dry_run`.
    status: &'static str,
    /// What would become of each tag, of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Vec<Step>>,
}

/// What would become of one tag.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Step {
    /// The tag, as a reference.
    r#ref: String,
    /// `create`, `move`, or `keep` where the tag points there already.
    action: &'static str,
    /// What it points at now.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_digest: Option<String>,
}

pub(crate) async fn run(args: TagArgs, session: &Session) -> Result<(), Failure> {
    let source = session.location(&args.source)?;
    let tags = args
        .tags
        .iter()
        .map(|typed| plan::new_tag(&source, typed, |typed| session.location(typed)))
        .collect::<Result<Vec<Tag>, _>>()?;
    plan::changeable(&source)?;
    let client = session.client(&[&source]).await?;
    let tagged = if args.dry_run { client.resolve(&source).await } else { client.tag(&source, &tags).await };
    let tagged = tagged.map_err(|error| Failure::at(error, &source))?;
    let named: Vec<Location> = tags.into_iter().map(|tag| source.with_target(Target::Tag(tag))).collect();
    let plan = if args.dry_run { Some(plan_of(&client, &named, &tagged.digest).await?) } else { None };
    Session::log_traffic(&client);
    let dst_refs: Vec<String> = named.iter().map(Location::to_string).collect();
    let report = Report {
        resolved_src_ref: Session::resolved(&args.source, &source),
        src_ref: args.source,
        dst_ref: dst_refs.first().cloned().unwrap_or_default(),
        dst_refs,
        digest: tagged.digest.to_string(),
        status: if plan.is_some() { "dry_run" } else { "success" },
        plan,
    };
    session.outcome(args.dry_run, &report, || text(&report)).await
}

/// Where the tags point now.
async fn plan_of(client: &Client, tags: &[Location], digest: &Digest) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    for tag in tags {
        let now = match client.resolve(tag).await {
            Ok(found) => Some(found.digest),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(Failure::at(error, tag)),
        };
        let action = match now {
            None => "create",
            Some(now) if now == *digest => "keep",
            Some(_) => "move",
        };
        steps.push(Step { r#ref: tag.to_string(), action, previous_digest: now.map(|now| now.to_string()) });
    }
    Ok(steps)
}

/// What a tag would come to.
fn planned(step: &Step) -> String {
    match &step.previous_digest {
        Some(from) if step.action == "move" => format!("Would move {} from {from}\n", step.r#ref),
        Some(_) => format!("Would keep {}\n", step.r#ref),
        None => format!("Would create {}\n", step.r#ref),
    }
}

fn text(report: &Report) -> String {
    let source = format!("Source: {}\n", report.src_ref);
    if let Some(plan) = &report.plan {
        let steps: String = plan.iter().map(planned).collect();
        return format!("{steps}{source}Digest: {}\n", report.digest);
    }
    let tagged = report.dst_refs.join("\nTagged ");
    let resolved =
        report.resolved_src_ref.as_ref().map(|resolved| format!("  Resolved: {resolved}\n")).unwrap_or_default();
    format!("Tagged {tagged}\n{source}{resolved}Digest: {}\n", report.digest)
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("tag")]
}
