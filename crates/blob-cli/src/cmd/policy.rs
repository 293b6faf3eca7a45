//! `blob policy`.

mod init;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob::policy::file::{PolicyContext, PolicyFile};
use blob::policy::{BundleEvidence, NoEvidence, Policy, Subject};
use blob::registry::{Descriptor, MAX_MANIFEST_BYTES, Outline};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::verify::{Judged, Report as Verdict, text as verdict_text};
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::trust::{RootArgs, WantedArgs, bounded, context, off_thread, refused};

const CHECK_EXAMPLES: &str = "\
Examples:
  blob policy check release.yaml
  blob policy check --trusted-root root.json policies/*.yaml

Keys, modules, documents and trust roots that a file names are read too, and rules in Rego are evaluated once over a \
manifest that nobody signed, which shows errors that only running them does.";

const TEST_EXAMPLES: &str = "\
Examples:
  blob policy test --policy release.yaml --bundle signature.json manifest.json
  blob policy test --repo acme/app --bundle provenance.json \\
      --reference ghcr.io/acme/data:1.0 manifest.json

The manifest is the file as the registry has it, byte for byte. Nothing is fetched.";

/// Write policies and try them out, without a registry.
#[derive(Args, Debug)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    Check(CheckArgs),
    Test(Box<TestArgs>),
    Init(Box<init::InitArgs>),
}

impl PolicyArgs {
    /// Whether it writes a file to standard output.
    pub(crate) fn writes_content(&self) -> bool {
        matches!(&self.command, PolicyCommand::Init(args) if args.writes_content())
    }
}

/// Read policy files and everything that they name.
#[derive(Args, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
struct CheckArgs {
    /// The files.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// The trust root for policies that name none.
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
}

/// Judge a saved manifest by saved bundles.
#[derive(Args, Debug)]
#[command(after_help = TEST_EXAMPLES)]
struct TestArgs {
    /// The manifest.
    #[arg(value_name = "MANIFEST")]
    manifest: PathBuf,

    /// A bundle about it. May be given several times.
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,

    /// The reference that rules are told, and that patterns of policy files are for.
    #[arg(long, value_name = "REF")]
    reference: Option<String>,

    #[command(flatten)]
    wanted: WantedArgs,
}

/// A policy file.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Checked {
    /// The file.
    file: String,
    /// How many rules it has.
    rules: usize,
    /// The policies that they amount to.
    policies: Vec<String>,
}

/// Policy files that can be used.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CheckReport {
    /// The files.
    files: Vec<Checked>,
}

pub(crate) async fn run(args: PolicyArgs, session: &Session) -> Result<(), Failure> {
    match args.command {
        PolicyCommand::Check(args) => check(args, session).await,
        PolicyCommand::Test(args) => test(*args, session).await,
        PolicyCommand::Init(args) => init::run(*args, session).await,
    }
}

async fn check(args: CheckArgs, session: &Session) -> Result<(), Failure> {
    let root = RootArgs::of_file(args.trusted_root).find(session).await?;
    let context = context(Path::new(""), root.as_ref());
    let manifest = bytes::Bytes::from_static(br#"{"schemaVersion":2,"layers":[]}"#);
    let descriptor = Descriptor::of(blob::registry::media_type::IMAGE_MANIFEST, &manifest);
    let subject = Subject::new(&descriptor, &manifest, &NoEvidence).map_err(|error| Failure::from_chain(&error))?;
    let mut files = Vec::new();
    for path in &args.files {
        let context = context.moved_to(path.parent().unwrap_or(Path::new("")));
        let read = path.clone();
        let (rules, built) = off_thread(move || built(&read, &context)).await?;
        let mut policies = Vec::new();
        for policy in built {
            dry_run(path, policy.as_ref(), &subject).await?;
            policies.push(policy.name());
        }
        files.push(Checked { file: path.display().to_string(), rules, policies });
    }
    let report = CheckReport { files };
    let text = || {
        let lines = report.files.iter().map(|file| {
            let mut text = format!("{}: ok\n", file.file);
            file.policies.iter().for_each(|name| text.extend(["  ", name, "\n"]));
            text
        });
        lines.collect()
    };
    session.report(&report, text).await
}

/// How many rules a file has, and the policies that they amount to; blocks.
fn built(path: &Path, context: &PolicyContext) -> Result<(usize, Vec<Arc<dyn Policy>>), Failure> {
    let file = PolicyFile::read(path).map_err(refused)?;
    let policies = file.rules.iter().map(|rule| rule.build(context).map_err(refused));
    let policies: Result<Vec<_>, _> = policies.collect();
    Ok((file.rules.len(), policies?.into_iter().flatten().collect()))
}

/// A refusal is what a manifest without signatures deserves; rules that fail are a mistake of the file.
async fn dry_run(path: &Path, policy: &dyn Policy, subject: &Subject<'_>) -> Result<(), Failure> {
    let outcome = policy.evaluate(subject).await;
    let failed = outcome.err().map(|error| error.to_string()).filter(|text| text.contains("the rules failed"));
    match failed {
        Some(text) => Err(Failure::usage(format!("{}: {text}", path.display()))),
        None => Ok(()),
    }
}

async fn test(args: TestArgs, session: &Session) -> Result<(), Failure> {
    let path = args.manifest.clone();
    let manifest = off_thread(move || bounded(&path, MAX_MANIFEST_BYTES, "the manifest")).await?;
    let manifest = bytes::Bytes::from(manifest);
    let media_type = Outline::parse(&manifest).ok().and_then(|outline| outline.media_type);
    let media_type = media_type.ok_or_else(|| {
        Failure::usage(format!("{} is not a manifest that states its media type", args.manifest.display()))
    })?;
    let descriptor = Descriptor::of(media_type, &manifest);
    let spellings = match &args.reference {
        Some(typed) => blob::spellings(&session.location(typed)?),
        None => Vec::new(),
    };
    let policies = args.wanted.policies_for(&spellings, session).await?;
    if policies.is_empty() {
        let message = "no policy applies: there is nothing to judge the manifest by";
        return Err(Failure::usage(message).with_hint("policy files with `match` need --reference"));
    }
    let evidence = off_thread(move || Ok(BundleEvidence::read(&args.bundle))).await?;
    let evidence = evidence.map_err(|error| Failure::from_chain(&error))?;
    let subject = Subject::new(&descriptor, &manifest, &evidence).map_err(|error| Failure::from_chain(&error))?;
    let subject = match &args.reference {
        Some(reference) => subject.with_reference(reference),
        None => subject,
    };
    let mut judged = Vec::new();
    for policy in policies {
        judged.push(Judged::new(&policy.name(), &policy.evaluate(&subject).await));
    }
    let verified = judged.iter().all(Judged::is_admitted);
    let report = Verdict {
        r#ref: args.reference.unwrap_or_else(|| args.manifest.display().to_string()),
        digest: descriptor.digest.to_string(),
        verified,
        status: if verified { "verified" } else { "refused" },
        policies_applied: judged.len(),
        evidence_listed_at: None,
        policies: judged,
    };
    session.report(&report, || verdict_text(&report, true)).await?;
    if verified { Ok(()) } else { Err(Failure::new(Kind::Verification, "the policies refuse the manifest")) }
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![
        document::<CheckReport>("policy-check"),
        document::<init::Written>("policy-init"),
        document::<Verdict>("policy-test"),
    ]
}
