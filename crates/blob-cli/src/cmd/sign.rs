//! `blob sign` and `blob attest`.

use std::path::PathBuf;

use blob::policy::sign::MAX_PREDICATE_BYTES;
use blob::{Location, SignOptions, Signed};
use clap::Args;
use serde::Serialize;

use crate::error::Failure;
use crate::plan;
use crate::session::Session;
use crate::signing::SigningArgs;
use crate::trust::bounded;

const SIGN_EXAMPLES: &str = "\
Examples:
  blob sign --key release.key ghcr.io/acme/data:1.0
  blob sign --key release.key -a release=1.0 ghcr.io/acme/data@sha256:2cf24dba…
  blob sign --key release.key --no-upload --output-bundle data.sigstore.json ghcr.io/acme/data:1.0

What is signed is the digest that the tag points at now, as a statement like that of cosign 3. Signing again with the
same key changes nothing.";

const ATTEST_EXAMPLES: &str = "\
Examples:
  blob attest --key release.key --type spdx --predicate sbom.spdx.json ghcr.io/acme/data:1.0
  blob attest --key release.key --type https://example.com/scan/v1 --predicate scan.json ghcr.io/acme/data:1.0

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

    /// The file with the predicate, a JSON object.
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
}

/// What was signed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// The digest that was signed.
    digest: String,
    /// `signed`, or `unchanged` if an equivalent signature was there.
    status: &'static str,
    /// The manifest that carries the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_digest: Option<String>,
    /// The type of the predicate, where the statement has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<String>,
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
}

pub(crate) async fn sign(args: SignArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let signer = args.signing.signer(session).await?;
    let client = session.client(&[&location])?;
    let mut options = args.publish.options();
    options.message = args.message;
    let signed = client.sign(&location, signer.as_ref(), &options).await;
    let signed = signed.map_err(|error| Failure::at(error, &location))?;
    Session::log_traffic(&client);
    finish("Signed", &location, &signed, &args.publish, session).await
}

pub(crate) async fn attest(args: AttestArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let predicate = predicate(&args.predicate)?;
    let named = TYPES.iter().find(|(name, _)| *name == args.r#type).map(|(_, uri)| *uri);
    let signer = args.signing.signer(session).await?;
    let client = session.client(&[&location])?;
    let kind = named.unwrap_or(&args.r#type);
    let made = client.attest(&location, signer.as_ref(), kind, predicate, &args.publish.options()).await;
    let made = made.map_err(|error| Failure::at(error, &location))?;
    Session::log_traffic(&client);
    finish("Attested", &location, &made, &args.publish, session).await
}

fn predicate(path: &std::path::Path) -> Result<serde_json::Value, Failure> {
    let bytes = bounded(path, MAX_PREDICATE_BYTES, "the predicate")?;
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

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("sign"), document::<Report>("attest")]
}
