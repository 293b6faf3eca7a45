//! `blob inspect`.

mod signers;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use blob::registry::Descriptor;
use blob::{ARTIFACT_TYPE, CREATED, Inspection};
use clap::Args;
use serde::Serialize;

use self::signers::{Signed, Signers};
use crate::args::Caching;
use crate::error::Failure;
use crate::session::{Session, note_verification};
use crate::trust::TrustArgs;
use crate::ui::escape::shown;
use crate::ui::output;
use crate::ui::size::human;

/// The artifact type of Sigstore bundles begins like this.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The artifact type of attestations.
const ATTESTATION: &str = "application/vnd.in-toto+json";

const EXAMPLES: &str = "\
Examples:
  blob inspect localhost:5000/team/assets:v1
  blob inspect --referrers -o json ghcr.io/org/data:1.0
  blob inspect --raw ghcr.io/org/data:1.0 | sha256sum      the manifest itself";

/// Describe an archive without reading its files.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// List what refers to the archive, and who signed what and when: verified or not, and said so. Whether to trust who signed
    /// is for a policy to say; keys are known if they are named by --key.
    #[arg(long)]
    referrers: bool,

    /// Write the manifest as the registry has it, to the byte.
    #[arg(long, conflicts_with = "referrers")]
    raw: bool,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

/// What an archive is.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// What an alias resolved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_ref: Option<String>,
    /// The digest of the manifest.
    digest: String,
    /// The artifact type of archives.
    artifact_type: &'static str,
    /// Whether a policy admitted it.
    verified: bool,
    /// When it was made, as it says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// Files.
    files: usize,
    /// Symbolic links.
    symlinks: usize,
    /// Empty directories.
    empty_dirs: usize,
    /// How large it is.
    size: Size,
    /// How its files are stored.
    compression: String,
    /// The blob that lists the files.
    index: Blob,
    /// The blob that holds them.
    data: Blob,
    /// Referrers that are Sigstore bundles.
    #[serde(skip_serializing_if = "Option::is_none")]
    signatures: Option<Vec<Referrer>>,
    /// Referrers that are attestations.
    #[serde(skip_serializing_if = "Option::is_none")]
    attestations: Option<Vec<Referrer>>,
    /// Who signed, verified or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    signers: Option<Vec<Signed>>,
    /// Why there may be more who signed than are listed, if there may.
    #[serde(skip_serializing_if = "Option::is_none")]
    signers_unread: Option<String>,
    /// Everything that refers to it, as the registry lists it.
    #[serde(skip_serializing_if = "Option::is_none")]
    referrers: Option<Vec<Referrer>>,
    /// Annotations of the manifest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// Sizes in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Size {
    /// Bytes as they are stored.
    compressed: u64,
    /// Bytes of the files.
    uncompressed: u64,
    /// The first divided by the second.
    ratio: f64,
}

/// A blob.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Blob {
    /// Its digest.
    digest: String,
    /// Bytes.
    size: u64,
}

/// What refers to the archive.
#[derive(Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Referrer {
    /// Its digest.
    digest: String,
    /// The artifact type, else the media type.
    artifact_type: String,
    /// Bytes.
    size: u64,
    /// Annotations of the descriptor.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl InspectArgs {
    /// Whether nothing but the manifest is written.
    pub(crate) fn is_raw(&self) -> bool {
        self.raw
    }
}

pub(crate) async fn run(args: InspectArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let client = if args.referrers {
        session.describing(&[&location], &args.trust).await?
    } else {
        session.reading(&[&location], &args.trust).await?
    };
    let inspected = client.inspect(&location, &session.pull_options(args.caching)).await;
    let inspected = inspected.map_err(|error| Failure::at(error, &location))?;
    note_verification(&location, inspected.manifest().is_verified());
    if args.raw {
        session.meter.clear();
        return output::print(inspected.manifest().as_bytes()).await;
    }
    let referrers = if args.referrers {
        Some(inspected.referrers(None).await.map_err(|error| Failure::at(error, &location))?)
    } else {
        None
    };
    let signers = match referrers {
        Some(_) => Some(signers::signers(&inspected, &args.trust.wanted, &location, session).await?),
        None => None,
    };
    let mut report = report(args.reference, &inspected, referrers, signers);
    report.resolved_ref = Session::resolved(&report.r#ref, &location);
    Session::log_traffic(&client);
    // What was asked for is data, which is printed in quiet too.
    session.print(crate::ui::record::render(session.options.output, &report, || text(&report))).await
}

fn report(
    reference: String,
    inspected: &Inspection,
    referrers: Option<Vec<Descriptor>>,
    signers: Option<Signers>,
) -> Report {
    let (signers, signers_unread) = signers.map_or((None, None), |found| (Some(found.each), found.unread));
    let manifest = inspected.manifest();
    let blob = |descriptor: &Descriptor| Blob { digest: descriptor.digest.to_string(), size: descriptor.size };
    let referrers: Option<Vec<Referrer>> = referrers.map(|found| found.into_iter().map(referrer).collect());
    let of = |fits: fn(&str) -> bool| {
        referrers.as_ref().map(|all| all.iter().filter(|one| fits(&one.artifact_type)).cloned().collect())
    };
    let root = inspected.index().root();
    Report {
        r#ref: reference,
        resolved_ref: None,
        digest: manifest.digest().to_string(),
        artifact_type: ARTIFACT_TYPE,
        verified: manifest.is_verified(),
        created: manifest.annotations().get(CREATED).cloned(),
        files: inspected.file_count(),
        symlinks: root.symlinks().count(),
        empty_dirs: root.empty_dirs().count(),
        size: Size {
            compressed: inspected.total_compressed_size(),
            uncompressed: inspected.total_uncompressed_size(),
            ratio: inspected.compression_ratio(),
        },
        compression: inspected.compression().to_string(),
        index: blob(manifest.index()),
        data: blob(manifest.data()),
        signatures: of(|kind| kind.starts_with(BUNDLE)),
        attestations: of(|kind| kind == ATTESTATION),
        signers,
        signers_unread,
        referrers,
        annotations: manifest.annotations().clone(),
    }
}

fn referrer(descriptor: Descriptor) -> Referrer {
    Referrer {
        digest: descriptor.digest.to_string(),
        artifact_type: descriptor.artifact_type.unwrap_or(descriptor.media_type),
        size: descriptor.size,
        annotations: descriptor.annotations,
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{:<14}{}", format!("{label}:"), shown(value.as_bytes()));
    };
    line("Reference", &report.r#ref);
    if let Some(resolved) = &report.resolved_ref {
        line("Resolved", resolved);
    }
    line("Digest", &report.digest);
    line("Files", &report.files.to_string());
    for (label, number) in [("Links", report.symlinks), ("Empty dirs", report.empty_dirs)] {
        if number > 0 {
            line(label, &number.to_string());
        }
    }
    let Size { compressed, uncompressed, .. } = report.size;
    line("Size", &format!("{} ({} uncompressed)", human(compressed), human(uncompressed)));
    line("Compression", &report.compression);
    if let Some(created) = &report.created {
        line("Created", created);
    }
    let known = |one: &&Referrer| !one.artifact_type.starts_with(BUNDLE) && one.artifact_type != ATTESTATION;
    let others: Option<Vec<Referrer>> =
        report.referrers.as_ref().map(|all| all.iter().filter(known).cloned().collect());
    for (heading, list) in
        [("Signatures", &report.signatures), ("Attestations", &report.attestations), ("Referrers", &others)]
    {
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
        let _ = writeln!(text, "{heading}:");
        for one in list {
            let _ = writeln!(text, "  {}  {}", one.digest, shown(one.artifact_type.as_bytes()));
        }
    }
    if let Some(signers) = report.signers.as_ref().filter(|signers| !signers.is_empty()) {
        text.push_str("Signed by:\n");
        for signer in signers {
            let _ = writeln!(text, "  {}", shown(signer.sentence().as_bytes()));
        }
    }
    if let Some(why) = &report.signers_unread {
        let _ = writeln!(text, "There may be others who signed: {}", shown(why.as_bytes()));
    }
    if !report.annotations.is_empty() {
        text.push_str("Annotations:\n");
        for (key, value) in &report.annotations {
            let _ = writeln!(text, "  {}: {}", shown(key.as_bytes()), shown(value.as_bytes()));
        }
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("inspect")]
}
