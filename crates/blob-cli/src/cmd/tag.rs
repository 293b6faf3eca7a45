//! `blob tag`.

use blob::registry::{Tag, Target};
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
    /// `success`.
    status: &'static str,
}

pub(crate) async fn run(args: TagArgs, session: &Session) -> Result<(), Failure> {
    let source = session.location(&args.source)?;
    let tags = args
        .tags
        .iter()
        .map(|typed| plan::new_tag(&source, typed, |typed| session.location(typed)))
        .collect::<Result<Vec<Tag>, _>>()?;
    let client = session.client(&[&source])?;
    let tagged = client.tag(&source, &tags).await.map_err(|error| Failure::at(error, &source))?;
    Session::log_traffic(&client);
    let named = tags.into_iter().map(|tag| source.with_target(Target::Tag(tag)).to_string());
    let dst_refs: Vec<String> = named.collect();
    let report = Report {
        resolved_src_ref: Session::resolved(&args.source, &source),
        src_ref: args.source,
        dst_ref: dst_refs.first().cloned().unwrap_or_default(),
        dst_refs,
        digest: tagged.digest.to_string(),
        status: "success",
    };
    if session.options.quiet && !session.options.output.is_json() {
        return session.print("").await;
    }
    session.report(&report, || text(&report)).await
}

fn text(report: &Report) -> String {
    let tagged = report.dst_refs.join("\nTagged ");
    let resolved =
        report.resolved_src_ref.as_ref().map(|resolved| format!("  Resolved: {resolved}\n")).unwrap_or_default();
    format!("Tagged {tagged}\nSource: {}\n{resolved}Digest: {}\n", report.src_ref, report.digest)
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("tag")]
}
