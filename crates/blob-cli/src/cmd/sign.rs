//! `blob sign` and `blob attest`.

use std::io::Read as _;
use std::path::PathBuf;

use blob::policy::sign::{MAX_PREDICATE_BYTES, StatementError};
use blob::{Equivalent, Location, SignOptions, SignPlan, Signed};
use clap::Args;
use serde::Serialize;

use crate::error::Failure;
use crate::plan;
use crate::session::Session;
use crate::signing::{Planned, ServiceReport, SignerReport, SigningArgs};
use crate::trust::{bounded, off_thread};

const SIGN_EXAMPLES: &str = "\
Examples:
  blob sign --key release.key ghcr.io/acme/data:1.0
  blob sign --key release.key -a release=1.0 ghcr.io/acme/data@sha256:2cf24dba…
  blob sign --key release.key --no-upload --output-bundle b.json h/acme/data:1.0
  blob sign --dry-run ghcr.io/acme/data:1.0

What is signed is the digest that the tag points at now, as a statement like that of cosign 3. Signing again with the \
same key changes nothing.";

const ATTEST_EXAMPLES: &str = "\
Examples:
  blob attest --key k.key --type spdx --predicate sbom.json h/acme/data:1.0
  blob attest --key release.key --type https://example.com/scan/v1 \\
      --predicate scan.json ghcr.io/acme/data:1.0

Known names of types: slsaprovenance1, slsaprovenance02, spdx, cyclonedx, vuln, link; any other is a URI.";

/// Predicate types that have a short name, as in cosign.
const TYPES: [(&str, &str); 6] = [
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("spdx", "https://spdx.dev/Document"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ("link", "https://in-toto.io/Link/v1"),
];

/// Sign an archive, or any other manifest.
#[derive(Args, Debug)]
#[command(after_help = SIGN_EXAMPLES)]
pub(crate) struct SignArgs {
    /// What to sign.
    #[arg(value_name = "REF")]
    reference: String,

    /// Sign the bytes of the manifest themselves, for verifiers that know no statements.
    #[arg(long)]
    message: bool,

    #[command(flatten)]
    publish: PublishArgs,

    #[command(flatten)]
    signing: SigningArgs,
}

/// Attach a signed statement to an archive: provenance, a scan, a bill of materials.
#[derive(Args, Debug)]
#[command(after_help = ATTEST_EXAMPLES)]
pub(crate) struct AttestArgs {
    /// What the statement is about.
    #[arg(value_name = "REF")]
    reference: String,

    /// The file with the predicate, a JSON object; - is standard input.
    #[arg(long, value_name = "FILE")]
    predicate: PathBuf,

    /// The type of the predicate, a known name or a URI.
    #[arg(long, value_name = "TYPE")]
    r#type: String,

    #[command(flatten)]
    publish: PublishArgs,

    #[command(flatten)]
    signing: SigningArgs,
}

#[derive(Args, Debug)]
struct PublishArgs {
    /// Say this of the manifest, under the signature. May be given several times.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = plan::annotation)]
    annotation: Vec<(String, String)>,

    /// Write the bundle to this file, too; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    output_bundle: Option<PathBuf>,

    /// Publish nothing.
    #[arg(long, requires = "output_bundle")]
    no_upload: bool,

    /// Sign even if an equivalent signature is there.
    #[arg(long)]
    again: bool,

    /// Only say what would be signed, by whom, and where it would be attached. Nothing is sent, no certificate is asked for,
    /// and nobody for a password or to log in.
    #[arg(long)]
    dry_run: bool,
}

/// What was signed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// The digest that was signed.
    digest: String,
    /// `signed`, `unchanged` if an equivalent signature was there, or `dry_run`.
    status: &'static str,
    /// The manifest that carries the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_digest: Option<String>,
    /// The type of the predicate, where the statement has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<String>,
    /// What would be done, of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
}

/// What would be done.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Plan {
    /// `sign`, or `keep` where an equivalent signature is there already.
    action: &'static str,
    /// Whether an equivalent signature is there: `found`, `missing`, or `unknown` where it shows only when it is signed.
    equivalent: &'static str,
    /// `statement`, or `message` for the bytes of the manifest themselves.
    content: &'static str,
    /// Who would sign.
    signer: SignerReport,
    /// Who would be asked for certificates, log entries and time-stamps.
    services: Vec<ServiceReport>,
    /// The manifest that the signature would be attached to; absent with --no-upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    attach_to: Option<String>,
    /// The file that the bundle would be written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle_file: Option<String>,
}

impl PublishArgs {
    fn options(&self) -> SignOptions {
        let mut options = SignOptions::default();
        options.annotations = self.annotation.iter().cloned().collect();
        options.no_upload = self.no_upload;
        // Who wants the bundle needs one that is made.
        options.again = self.again || self.output_bundle.is_some();
        options
    }

    /// Says what would be done.
    async fn report(
        &self,
        verb: &'static str,
        location: &Location,
        (found, planned): (&SignPlan, Planned),
        session: &Session,
    ) -> Result<(), Failure> {
        let (equivalent, signature) = match found.equivalent {
            Equivalent::Found(referrer) => ("found", Some(referrer.to_string())),
            Equivalent::Missing => ("missing", None),
            _ => ("unknown", None),
        };
        let keep = signature.is_some() && !self.options().again;
        let plan = Plan {
            action: if keep { "keep" } else { "sign" },
            equivalent,
            content: if found.predicate_type.is_some() { "statement" } else { "message" },
            signer: planned.who,
            services: planned.services,
            attach_to: (!self.no_upload).then(|| found.location.to_string()),
            bundle_file: self.output_bundle.as_ref().map(|path| path.display().to_string()),
        };
        let report = Report {
            r#ref: location.to_string(),
            digest: found.subject.digest.to_string(),
            status: "dry_run",
            signature_digest: signature,
            predicate_type: found.predicate_type.clone(),
            plan: Some(plan),
        };
        session.answer(&report, || plan_text(verb, &report)).await
    }
}

pub(crate) async fn sign(args: SignArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    plan::changeable(&location)?;
    let mut options = args.publish.options();
    options.message = args.message;
    if args.publish.dry_run {
        let planned = args.signing.plan(session).await?;
        let client = session.client(&[&location]).await?;
        let plan = client.plan_sign(&location, planned.signer.as_ref(), &options).await;
        let plan = plan.map_err(|error| Failure::at(error, &location))?;
        return args.publish.report("sign", &location, (&plan, planned), session).await;
    }
    let signer = args.signing.signer(session).await?;
    let client = session.client(&[&location]).await?;
    let signed = client.sign(&location, signer.as_ref(), &options).await;
    let signed = signed.map_err(|error| Failure::at(error, &location))?;
    Session::log_traffic(&client);
    finish("Signed", &location, &signed, &args.publish, session).await
}

pub(crate) async fn attest(args: AttestArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    plan::changeable(&location)?;
    let path = args.predicate.clone();
    let predicate = off_thread(move || predicate(&path)).await?;
    let named = TYPES.iter().find(|(name, _)| *name == args.r#type).map(|(_, uri)| *uri);
    let kind = named.unwrap_or(&args.r#type);
    let failed = |error| match error {
        error @ blob::Error::Statement(StatementError::PredicateType(_)) => {
            let names: Vec<_> = TYPES.iter().map(|(name, _)| *name).collect();
            Failure::at(error, &location).with_hint(format!("known names are {}", names.join(", ")))
        }
        error => Failure::at(error, &location),
    };
    let options = args.publish.options();
    if args.publish.dry_run {
        let planned = args.signing.plan(session).await?;
        let client = session.client(&[&location]).await?;
        let plan = client.plan_attest(&location, planned.signer.as_ref(), kind, predicate, &options).await;
        return args.publish.report("attest", &location, (&plan.map_err(failed)?, planned), session).await;
    }
    let signer = args.signing.signer(session).await?;
    let client = session.client(&[&location]).await?;
    let made = client.attest(&location, signer.as_ref(), kind, predicate, &options).await;
    let made = made.map_err(failed)?;
    Session::log_traffic(&client);
    finish("Attested", &location, &made, &args.publish, session).await
}

fn predicate(path: &std::path::Path) -> Result<serde_json::Value, Failure> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(MAX_PREDICATE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::io("reading the predicate from standard input", &error))?;
        if bytes.len() as u64 > MAX_PREDICATE_BYTES {
            return Err(Failure::usage(format!("standard input has more than {MAX_PREDICATE_BYTES} bytes")));
        }
        bytes
    } else {
        bounded(path, MAX_PREDICATE_BYTES, "the predicate")?
    };
    serde_json::from_slice(&bytes).map_err(|error| Failure::usage(format!("{} is not JSON: {error}", path.display())))
}

async fn finish(
    verb: &str,
    location: &Location,
    signed: &Signed,
    publish: &PublishArgs,
    session: &Session,
) -> Result<(), Failure> {
    if let (Some(path), Some(bundle)) = (&publish.output_bundle, &signed.bundle) {
        if path.as_os_str() == "-" {
            return session.print(bundle.bytes()).await;
        }
        let written = tokio::fs::write(path, bundle.bytes()).await;
        written.map_err(|error| Failure::io(format!("writing the bundle to {}", path.display()), &error))?;
    }
    let predicate_type = signed.bundle.as_ref().and_then(|bundle| bundle.predicate_type());
    let report = Report {
        r#ref: location.to_string(),
        digest: signed.subject.digest.to_string(),
        status: if signed.bundle.is_some() { "signed" } else { "unchanged" },
        signature_digest: signed.referrer.map(|digest| digest.to_string()),
        predicate_type: predicate_type.map(str::to_owned),
        plan: None,
    };
    session.report(&report, || text(verb, &report)).await
}

fn text(verb: &str, report: &Report) -> String {
    let unchanged = if report.status == "unchanged" { " (an equivalent signature was there)" } else { "" };
    let mut text = format!("{verb} {}{unchanged}\n  Digest: {}\n", report.r#ref, report.digest);
    if let Some(signature) = &report.signature_digest {
        text.extend(["Signature: ", signature, "\n"]);
    }
    text
}

/// What would be done, for people.
fn plan_text(verb: &str, report: &Report) -> String {
    let Some(plan) = &report.plan else { return String::new() };
    let kept = plan.action == "keep";
    let mut text = if kept {
        format!("Would keep the signature of {} (an equivalent one is there)\n", report.r#ref)
    } else {
        format!("Would {verb} {}\n", report.r#ref)
    };
    let mut line = |label: &str, value: &str| text.extend(["  ", label, ": ", value, "\n"]);
    line("Digest", &report.digest);
    let content = report.predicate_type.as_ref().map(|kind| format!("a statement of type {kind}"));
    line("Content", content.as_deref().unwrap_or("the bytes of the manifest"));
    line("Signer", &plan.signer.to_string());
    if !kept {
        for service in &plan.services {
            line("Asked", &format!("{} {}", service.kind, service.url));
        }
        line("Attached", plan.attach_to.as_deref().map_or("nowhere", |_| "to that digest, in the same repository"));
    }
    if let Some(file) = &plan.bundle_file {
        line("Bundle", file);
    }
    match (&report.signature_digest, plan.equivalent) {
        (Some(signature), _) => line("Equivalent", signature),
        (None, "missing") => line("Equivalent", "none is there"),
        (None, _) => line("Equivalent", "not known before it is signed"),
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("sign"), document::<Report>("attest")]
}
