//! `blob verify`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use blob::policy::{BundleEvidence, PolicyError, Report as Findings};
use blob::{Verification, VerifyOptions};
use clap::Args;
use serde::Serialize;

use crate::error::Failure;
use crate::session::Session;
use crate::trust::{WantedArgs, off_thread};
use crate::ui::escape::shown;

const EXAMPLES: &str = "\
Examples:
  blob verify --repo acme/app --tags 'v*' ghcr.io/acme/data:1.0     signed by a workflow of the repository
  blob verify --key release.pub ghcr.io/acme/data:1.0               signed with a key, and logged
  blob verify --certificate-identity ann@example.com \\
      --certificate-oidc-issuer https://accounts.google.com h/acme/data:1.0
  blob verify --policy release.yaml --explain ghcr.io/acme/data:1.0  every check, and why others did not count

Everything that is asked for must be so, and what the configuration asks for too. The tag is resolved anew, and no \
earlier verdict counts. Without any policy this is an error: nothing would be verified.";

/// Verify signatures, provenance and rules without opening the archive.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// The archive, or any other manifest.
    #[arg(value_name = "REF")]
    reference: String,

    /// Show every check, and what was looked at and does not count.
    #[arg(long)]
    explain: bool,

    /// Take the evidence from this bundle instead of the registry. May be given several times.
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,

    #[command(flatten)]
    wanted: WantedArgs,
}

/// What became of a verification, for programs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Report {
    /// The place, as it was typed or as its alias resolved.
    pub(super) r#ref: String,
    /// The digest of the manifest.
    pub(super) digest: String,
    /// Whether all policies admitted it.
    pub(super) verified: bool,
    /// `verified` or `refused`.
    pub(super) status: &'static str,
    /// How many policies were asked.
    pub(super) policies_applied: usize,
    /// When the registry was asked what refers to the manifest, if that is known from the cache alone (--offline).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) evidence_listed_at: Option<String>,
    /// What each of them said.
    pub(super) policies: Vec<Judged>,
}

/// What one policy said.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Judged {
    /// The policy.
    policy: String,
    /// `admitted`, `rejected` or `cannot_tell`.
    verdict: &'static str,
    /// What spoke for it.
    findings: Vec<String>,
    /// What was looked at and does not count.
    refused: Vec<String>,
}

impl Judged {
    pub(super) fn new(policy: &str, verdict: &Result<Findings, PolicyError>) -> Self {
        let policy = policy.to_owned();
        match verdict {
            Ok(report) => {
                let findings = report.checks.iter().map(|check| check.finding.clone()).collect();
                Self { policy, verdict: "admitted", findings, refused: report.refused.clone() }
            }
            Err(error) => {
                let verdict = if error.is_rejection() { "rejected" } else { "cannot_tell" };
                Self { policy, verdict, findings: Vec::new(), refused: error.reasons() }
            }
        }
    }
}

impl Judged {
    pub(super) fn is_admitted(&self) -> bool {
        self.verdict == "admitted"
    }
}

pub(crate) async fn run(args: VerifyArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let client = session.trusting(&[&location], &args.wanted).await?;
    let mut options = VerifyOptions::default();
    let explain = args.explain;
    if !args.bundle.is_empty() {
        let bundles = off_thread(move || Ok(BundleEvidence::read(&args.bundle))).await?;
        let bundles = bundles.map_err(|error| Failure::from_chain(&error))?;
        options.evidence = Some(Arc::new(bundles));
    }
    let verified = client.verify(&location, &options).await;
    let verified = verified.map_err(|error| match error {
        blob::Error::NotVerified { .. } => {
            let message = format!("no policy is for {location}: there is nothing to verify it by");
            let hint = "name the signer with --repo, --key, or --certificate-identity and its issuer, or pass --policy";
            Failure::usage(message).with_hint(hint)
        }
        error => Failure::at(error, &location),
    })?;
    let report = report(location.to_string(), &verified);
    Session::log_traffic(&client);
    if report.verified || explain {
        session.report(&report, || text(&report, explain)).await?;
    }
    match verified.into_error() {
        Some(error) => Err(Failure::at(error, &location)),
        None => Ok(()),
    }
}

fn report(reference: String, verified: &Verification) -> Report {
    let outcomes = verified.outcomes();
    Report {
        r#ref: reference,
        digest: verified.descriptor().digest.to_string(),
        verified: verified.is_admitted(),
        status: if verified.is_admitted() { "verified" } else { "refused" },
        policies_applied: outcomes.len(),
        evidence_listed_at: verified.evidence_listed_at().and_then(time),
        policies: outcomes.iter().map(|outcome| Judged::new(&outcome.policy, &outcome.verdict)).collect(),
    }
}

/// A time as it is printed, in whole seconds.
fn time(at: SystemTime) -> Option<String> {
    Some(format!("{:.0}", jiff::Timestamp::try_from(at).ok()?))
}

/// The report for people: findings, and with `explain` what does not count.
pub(super) fn text(report: &Report, explain: bool) -> String {
    let verb = if report.verified { "Verified" } else { "Refused" };
    let mut text = format!("{verb} {}\n  Digest: {}\n", report.r#ref, report.digest);
    let _ = writeln!(text, "  Policies: {} applied", report.policies_applied);
    if let Some(at) = &report.evidence_listed_at {
        let _ = writeln!(text, "  Evidence: from the cache, as listed at {at}");
    }
    for judged in &report.policies {
        let _ = writeln!(text, "{}: {}", shown(judged.policy.as_bytes()), judged.verdict.replace('_', " "));
        for finding in &judged.findings {
            let _ = writeln!(text, "  + {}", shown(finding.as_bytes()));
        }
        for reason in judged.refused.iter().filter(|_| explain) {
            let _ = writeln!(text, "  - {}", shown(reason.as_bytes()));
        }
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("verify")]
}
