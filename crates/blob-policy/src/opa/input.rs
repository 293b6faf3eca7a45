//! The document that rules see as `input`.

use serde_json::{Map, Value, json};

use crate::policy::Subject;
use crate::sigstore::{CertificateClaims, Signer, VerifiedBundle, VerifiedClaim};

/// `manifest` (reference as it was asked for, digest, media type, size, annotations), `signatures` (one for each claim), and `attestations` (statements, each
/// with its signature).
pub(super) fn document(subject: &Subject<'_>, claims: &[&VerifiedClaim]) -> Value {
    let descriptor = subject.descriptor();
    // Not in the order in which a registry lists them, which anybody who can push decides.
    let mut claims = claims.to_vec();
    claims.sort_by_key(|claim| (claim.bundle().to_string(), claim.referrer().to_string()));
    let annotations = blob_registry::Outline::parse(subject.bytes()).map(|o| o.annotations).unwrap_or_default();
    json!({
        "manifest": {
            "reference": subject.reference(),
            "digest": descriptor.digest.to_string(),
            "mediaType": descriptor.media_type,
            "size": descriptor.size,
            "annotations": annotations,
        },
        "signatures": claims.iter().map(|claim| signature(claim)).collect::<Vec<_>>(),
        "attestations": claims.iter().filter_map(|claim| attestation(claim)).collect::<Vec<_>>(),
    })
}

fn signature(claim: &VerifiedClaim) -> Value {
    let verified = claim.verified();
    let mut value = signer(verified);
    value.insert("referrer".into(), claim.referrer().to_string().into());
    value.insert("bundle".into(), claim.bundle().to_string().into());
    value.insert("logged".into(), verified.is_logged().into());
    let times = verified.times().iter().map(ToString::to_string);
    value.insert("times".into(), times.collect::<Vec<_>>().into());
    let kind = verified.statement().map(crate::sigstore::Statement::predicate_type);
    value.insert("predicateType".into(), kind.into());
    value.into()
}

fn signer(verified: &VerifiedBundle) -> Map<String, Value> {
    let mut value = Map::new();
    match verified.signer() {
        Signer::Certificate(signer) => {
            value.insert("identity".into(), signer.san.as_str().into());
            value.insert("issuer".into(), signer.issuer.clone().into());
            let named = CertificateClaims::NAMES.iter().filter_map(|name| Some((*name, signer.claims.named(name)?)));
            let claims: Map<String, Value> = named.map(|(name, text)| (name.to_owned(), text.into())).collect();
            value.insert("certificate".into(), claims.into());
        }
        Signer::Key { id } => {
            value.insert("key".into(), id.clone().into());
        }
    }
    value
}

/// The statement as it was signed, and who signed it beside it: a member of the statement cannot pass for that.
fn attestation(claim: &VerifiedClaim) -> Option<Value> {
    let statement = claim.verified().statement()?;
    let mut value: Map<String, Value> = serde_json::from_slice(statement.bytes()).ok()?;
    value.insert("predicateType".into(), statement.predicate_type().into());
    value.insert("predicate".into(), statement.predicate().clone());
    value.insert("signature".into(), signature(claim));
    Some(value.into())
}
