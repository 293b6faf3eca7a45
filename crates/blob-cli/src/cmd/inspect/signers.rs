//! Who signed an archive: what verifies, and what does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use blob::policy::sigstore::{Claims, KeyRing, Trust, TrustRoot, TrustedKey};
use blob::{Inspection, Location};
use serde::Serialize;

use crate::error::Failure;
use crate::session::Session;
use crate::trust::{WantedArgs, off_thread, public_key};

/// One bundle.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Signed {
    /// The manifest that carries it.
    referrer: String,
    /// The bundle, where one was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
    /// Whether the signature verifies.
    verified: bool,
    /// Who signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    /// When, as a log or a time-stamp authority says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    times: Vec<String>,
    /// The type of the predicate, where the statement has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<String>,
    /// Why it is not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Signed {
    pub(super) fn sentence(&self) -> String {
        let (Some(signer), true) = (&self.signer, self.verified) else {
            let reason = self.reason.as_deref().unwrap_or("unknown");
            return format!("{}: not verified: {reason}", self.referrer);
        };
        let mut text = format!("{signer} (verified)");
        if let Some(time) = self.times.first() {
            text.extend([", at ", time]);
        }
        match &self.predicate_type {
            Some(kind) => text.extend([", says ", kind]),
            None => text.push_str(", signs the manifest"),
        }
        text.extend([", in ", &self.referrer]);
        text
    }
}

/// Who signed, and whether that is all of them.
pub(super) struct Signers {
    pub(super) each: Vec<Signed>,
    /// Why there may be others, if there may.
    pub(super) unread: Option<String>,
}

/// Every bundle about the archive, tried with the trust root and with the keys that were named.
pub(super) async fn signers(
    inspected: &Inspection,
    wanted: &WantedArgs,
    location: &Location,
    session: &Session,
) -> Result<Signers, Failure> {
    let root = match wanted.root.find(session).await? {
        Some(root) => root,
        None => TrustRoot::production().map_err(|error| Failure::from_chain(&error))?,
    };
    let mut trusts = vec![Trust::Certificates(root)];
    let paths = wanted.signers.key.clone();
    let keys = off_thread(move || paths.iter().map(|path| key(path)).collect::<Result<Vec<_>, _>>()).await?;
    trusts.extend(KeyRing::new(keys).map(|ring| Trust::UnloggedKeys(Arc::new(ring))));
    let (mut found, mut unread) = (BTreeMap::new(), None);
    for trust in &trusts {
        let claims = inspected.claims(trust).await.map_err(|error| Failure::at(error, location))?;
        add(&mut found, &claims);
        unread = unread.or_else(|| claims.unread.as_ref().map(|error| Failure::from_chain(error.as_ref()).sentence()));
    }
    Ok(Signers { each: found.into_values().collect(), unread })
}

fn key(path: &std::path::Path) -> Result<TrustedKey, Failure> {
    public_key(path).map(TrustedKey::new)
}

/// By referrer and bundle: a referrer may carry several.
type Found = BTreeMap<(String, Option<String>), Signed>;

/// What verified with one kind of trust counts, whatever others say.
fn add(found: &mut Found, claims: &Claims) {
    for claim in &claims.verified {
        let verified = claim.verified();
        let signer = Signed {
            referrer: claim.referrer().to_string(),
            bundle: Some(claim.bundle().to_string()),
            verified: true,
            signer: Some(claim.signer().to_string()),
            times: verified.times().iter().map(ToString::to_string).collect(),
            predicate_type: verified.statement().map(|said| said.predicate_type().to_owned()),
            reason: None,
        };
        found.insert((signer.referrer.clone(), signer.bundle.clone()), signer);
    }
    for refused in &claims.refused {
        let referrer = refused.referrer.map(|digest| digest.to_string()).unwrap_or_default();
        let bundle = refused.bundle.map(|digest| digest.to_string());
        found.entry((referrer.clone(), bundle.clone())).or_insert_with(|| Signed {
            referrer,
            bundle,
            verified: false,
            signer: None,
            times: Vec::new(),
            predicate_type: None,
            reason: Some(refused.reason.clone()),
        });
    }
}
