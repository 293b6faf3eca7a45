//! `blob verify-bundle`: one bundle about one file, as the conformance suite of Sigstore asks.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use blob::core::{Algorithm, Digest, Hasher, plain};
use blob::policy::sigstore::{
    Artifact, Bundle, Identity, MAX_BUNDLE_BYTES, NamedIdentity, Pattern, Signer, TrustRoot, VerifiedBundle,
    verify_with_certificate, verify_with_key, verify_with_key_without_log,
};
use clap::Args;
use serde::Serialize;

use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::trust::{bounded, hint, off_thread, public_key, read_root};

/// Files up to this size are read whole, which every kind of signature can be verified with; larger ones are hashed.
const MAX_WHOLE: u64 = 64 << 20;

const EXAMPLES: &str = "\
Examples:
  blob verify-bundle --bundle app.json --certificate-identity ann@example.com \\
      --certificate-oidc-issuer https://accounts.google.com app.tar
  blob verify-bundle --bundle app.json --key release.pub sha256:2cf24dba…";

/// Verify a Sigstore bundle about a file or a digest, offline.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyBundleArgs {
    /// The file that was signed, or its digest, sha256:HEX; a file that is named like one is ./sha256:HEX.
    #[arg(value_name = "FILE|DIGEST")]
    artifact: String,

    /// The bundle.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,

    /// The name in the signer's certificate.
    #[arg(long, value_name = "NAME", group = "name", requires = "issuer", conflicts_with = "key")]
    certificate_identity: Option<String>,

    /// The same, by a regular expression over the whole name.
    #[arg(long, value_name = "REGEX", group = "name", requires = "issuer", conflicts_with = "key")]
    certificate_identity_regexp: Option<String>,

    /// The issuer that vouches for the name.
    #[arg(long, value_name = "URL", group = "issuer", requires = "name")]
    certificate_oidc_issuer: Option<String>,

    /// The same, by a regular expression over the whole issuer.
    #[arg(long, value_name = "REGEX", group = "issuer", requires = "name")]
    certificate_oidc_issuer_regexp: Option<String>,

    /// The public key that it was signed with.
    #[arg(long, value_name = "FILE", required_unless_present = "name")]
    key: Option<PathBuf>,

    /// Accept a signature by --key that is in no transparency log: whoever holds the key, or ever held it, can make one
    /// unseen.
    #[arg(long, requires = "key")]
    insecure_ignore_tlog: bool,

    /// The trusted_root.json to verify against, instead of that of the public-good instance.
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
}

/// A bundle that verifies.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// Always true; what does not verify is an error.
    verified: bool,
    /// Who signed.
    signer: String,
    /// When, as logs and time-stamp authorities say.
    times: Vec<String>,
    /// The type of the predicate, where the statement has one.
    predicate_type: Option<String>,
}

pub(crate) async fn run(args: VerifyBundleArgs, session: &Session) -> Result<(), Failure> {
    let artifact = args.artifact.clone();
    let report = off_thread(move || verify(&args)).await?;
    session.report(&report, || format!("Verified {artifact}\n  Signed by: {}\n", report.signer)).await
}

/// Reads everything and judges it; blocks.
fn verify(args: &VerifyBundleArgs) -> Result<Report, Failure> {
    let root = match &args.trusted_root {
        Some(path) => read_root(path)?,
        None => TrustRoot::production().map_err(|error| Failure::from_chain(&error))?,
    };
    let bundle = bounded(&args.bundle, MAX_BUNDLE_BYTES, "the bundle")?;
    let refused = |reason: String| {
        let message = format!("{} does not verify: {reason}", args.bundle.display());
        let failure = Failure::new(Kind::Verification, message);
        match hint(std::slice::from_ref(&reason)) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    };
    let bundle = Bundle::parse(&bundle).map_err(|error| refused(error.reason()))?;
    let artifact = Content::read(&args.artifact)?;
    let verified = judge(args, &root, &bundle, artifact.as_artifact())?.map_err(refused)?;
    Ok(Report {
        verified: true,
        signer: verified.signer().to_string(),
        times: verified.times().iter().map(ToString::to_string).collect(),
        predicate_type: verified.statement().map(|statement| statement.predicate_type().to_owned()),
    })
}

/// The verdict, unless the key cannot be read or a pattern not be understood.
fn judge(
    args: &VerifyBundleArgs,
    root: &TrustRoot,
    bundle: &Bundle,
    artifact: Artifact<'_>,
) -> Result<Result<VerifiedBundle, String>, Failure> {
    if let Some(path) = &args.key {
        let key = public_key(path)?;
        let verified = if args.insecure_ignore_tlog {
            verify_with_key_without_log(&key, bundle, artifact)
        } else {
            verify_with_key(root, &key, bundle, artifact)
        };
        return Ok(verified.map_err(|error| error.reason()));
    }
    let name = pattern(args.certificate_identity.as_ref(), args.certificate_identity_regexp.as_ref())?;
    let issuer = pattern(args.certificate_oidc_issuer.as_ref(), args.certificate_oidc_issuer_regexp.as_ref())?;
    let (Some(name), Some(issuer)) = (name, issuer) else {
        return Err(Failure::usage("neither --key nor --certificate-identity says who must have signed"));
    };
    let wanted = Identity::from(NamedIdentity::new(name, issuer));
    let verified = verify_with_certificate(root, bundle, artifact).map_err(|error| error.reason());
    Ok(verified.and_then(|verified| match verified.signer() {
        Signer::Certificate(signer) => wanted.check(signer).map(|()| verified.clone()),
        other => Err(format!("signed by {other}")),
    }))
}

/// What was typed as it is, or as an expression over the whole.
fn pattern(exact: Option<&String>, expression: Option<&String>) -> Result<Option<Pattern>, Failure> {
    let expression = expression.map(|expression| Pattern::regex(expression)).transpose();
    let expression = expression.map_err(|error| Failure::from_chain(&error))?;
    Ok(exact.map(|exact| Pattern::exact(exact.clone())).or(expression))
}

/// What was signed.
enum Content {
    Whole(Vec<u8>),
    Digest(Digest),
}

impl Content {
    /// What is a digest is never a file, whoever put one of that name here: such a file is `./sha256:…`.
    fn read(typed: &str) -> Result<Self, Failure> {
        let path = Path::new(typed);
        if let Ok(digest) = typed.parse::<Digest>() {
            return match digest.algorithm() {
                Algorithm::Sha256 => Ok(Self::Digest(digest)),
                _ => Err(Failure::usage(format!("{typed}: expected sha256"))),
            };
        }
        let action = || format!("reading {typed}");
        let mut file = plain::open(path).map_err(|error| {
            let failure = Failure::io(action(), &error);
            if typed.starts_with("sha256:") {
                return failure.with_hint("a digest is sha256: and 64 hexadecimal digits");
            }
            failure
        })?;
        let mut whole = Vec::new();
        let read = (&mut file).take(MAX_WHOLE + 1).read_to_end(&mut whole);
        if read.map_err(|error| Failure::io(action(), &error))? as u64 <= MAX_WHOLE {
            return Ok(Self::Whole(whole));
        }
        let (mut hasher, mut buffer) = (Hasher::sha256(), vec![0; 1 << 20]);
        hasher.update(&whole);
        drop(whole);
        loop {
            match file.read(&mut buffer).map_err(|error| Failure::io(action(), &error))? {
                0 => return Ok(Self::Digest(hasher.finish())),
                read => hasher.update(&buffer[..read]),
            }
        }
    }

    fn as_artifact(&self) -> Artifact<'_> {
        match self {
            Self::Whole(bytes) => Artifact::Content(bytes),
            Self::Digest(digest) => Artifact::Digest(digest),
        }
    }
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("verify-bundle")]
}
