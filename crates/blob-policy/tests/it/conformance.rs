//! The public conformance cases for bundles, each as content and as digest.

use std::fs;
use std::path::{Path, PathBuf};

use blob_core::Digest;
use blob_policy::sigstore::{
    Artifact, Bundle, PublicKey, Signer, TrustRoot, VerifiedBundle, verify_with_certificate, verify_with_key,
};

pub(crate) const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
pub(crate) const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// The folder of the cases; `None`, said aloud, where there is none.
#[allow(clippy::print_stderr)] // a test that did not run says so
pub(crate) fn fixtures() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let Some(dir) = std::env::var_os("BLOB_FIXTURES") else {
        let must = std::env::var_os("CI").is_some() && beside.exists();
        assert!(!must, "BLOB_FIXTURES is not set, although the fixtures are there");
        eprintln!("not run: BLOB_FIXTURES");
        return None;
    };
    Some(PathBuf::from(dir).join("sigstore"))
}

fn text(path: PathBuf) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// What a caller would do with a bundle: verify, then look who it was.
fn judge(all: &Path, case: &Path, artifact: Artifact<'_>) -> Result<VerifiedBundle, String> {
    let own_root = case.join("trusted_root.json");
    let root = if own_root.exists() { own_root } else { all.join("production_trusted_root.json") };
    let root = TrustRoot::from_file(&root).map_err(|e| e.to_string())?;
    let bundle = fs::read(case.join("bundle.sigstore.json")).unwrap();
    let bundle = Bundle::parse(&bundle).map_err(|e| e.reason())?;
    if let Some(pem) = text(case.join("key.pub")) {
        let key = PublicKey::from_pem(&pem).map_err(|e| e.reason())?;
        return verify_with_key(&root, &key, &bundle, artifact).map_err(|e| e.reason());
    }
    let verified = verify_with_certificate(&root, &bundle, artifact).map_err(|e| e.reason())?;
    let identity = text(case.join("identity")).unwrap_or_else(|| IDENTITY.into());
    let issuer = text(case.join("issuer")).unwrap_or_else(|| ISSUER.into());
    match verified.signer() {
        Signer::Certificate(signer) if signer.san.as_str() == identity.trim() && signer.issuer == issuer.trim() => {
            Ok(verified)
        }
        other => Err(format!("signed by {other}")),
    }
}

#[test]
fn every_case_has_its_verdict() {
    let Some(all) = fixtures() else { return };
    let folder = all.join("bundle-verify");
    let (mut cases, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(&folder).unwrap() {
        let case = entry.unwrap().path();
        if !case.is_dir() {
            continue;
        }
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let artifact = fs::read(case.join("artifact")).or_else(|_| fs::read(folder.join("a.txt"))).unwrap();
        let digest = Digest::sha256_of(&artifact);
        for (form, artifact) in [("content", Artifact::Content(&artifact)), ("digest", Artifact::Digest(&digest))] {
            cases += 1;
            match judge(&all, &case, artifact) {
                Ok(_) if name.ends_with("_fail") => wrong.push(format!("{name} as {form}: verified")),
                Err(reason) if !name.ends_with("_fail") => wrong.push(format!("{name} as {form}: {reason}")),
                _ => {}
            }
        }
    }
    assert!(cases >= 78, "only {cases} cases found");
    assert!(wrong.is_empty(), "{} of {cases} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
