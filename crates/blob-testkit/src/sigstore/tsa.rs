//! The time-stamp authority (RFC 3161).

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, CertifiedIssuer, CustomExtension, KeyUsagePurpose, SerialNumber};

use super::ca::{authority, named};
use super::der::{self, element, integer, octets, oid, sequence, set};
use super::keys::{Key, sha256};
use super::{Fault, seconds};

const SHA256_OID: [u64; 9] = [2, 16, 840, 1, 101, 3, 4, 2, 1];
const ECDSA_SHA256: [u64; 7] = [1, 2, 840, 10045, 4, 3, 2];
const SIGNED_DATA: [u64; 7] = [1, 2, 840, 113_549, 1, 7, 2];
const TST_INFO: [u64; 9] = [1, 2, 840, 113_549, 1, 9, 16, 1, 4];
const CONTENT_TYPE: [u64; 7] = [1, 2, 840, 113_549, 1, 9, 3];
const MESSAGE_DIGEST: [u64; 7] = [1, 2, 840, 113_549, 1, 9, 4];
const SIGNING_CERTIFICATE_V2: [u64; 9] = [1, 2, 840, 113_549, 1, 9, 16, 2, 47];
const EXTENDED_KEY_USAGE: [u64; 4] = [2, 5, 29, 37];
const TIME_STAMPING: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 8];
const POLICY: [u64; 5] = [1, 2, 3, 4, 1];

/// An authority with a certificate of its own below a root.
pub(super) struct TimeStampAuthority {
    root: CertifiedIssuer<'static, Key>,
    key: Key,
    certificate: Vec<u8>,
}

impl TimeStampAuthority {
    pub(super) fn new(name: &str) -> Self {
        let root = CertifiedIssuer::self_signed(authority(&format!("{name} root"), 0), Key::new());
        let root = root.expect("the parameters are complete");
        let key = Key::new();
        let mut params = CertificateParams::default();
        let long: CertificateParams = authority(name, 0);
        (params.not_before, params.not_after) = (long.not_before, long.not_after);
        params.distinguished_name = named(name);
        params.serial_number = Some(SerialNumber::from_slice(&[7]));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        // The standard wants this usage alone, and critical.
        let mut usage = CustomExtension::from_oid_content(&EXTENDED_KEY_USAGE, sequence(&[oid(&TIME_STAMPING)]));
        usage.set_criticality(true);
        params.custom_extensions = vec![usage];
        let certificate = params.signed_by(&key, &root).expect("the parameters are complete").der().to_vec();
        Self { root, key, certificate }
    }

    /// The certificates from below to the root.
    pub(super) fn chain(&self) -> [&[u8]; 2] {
        [&self.certificate, self.root.der()]
    }

    /// Answers a `TimeStampReq` with a `TimeStampResp`; `None` for what is no request.
    pub(super) fn answer(&self, request: &[u8], fault: Option<Fault>) -> Option<Vec<u8>> {
        let converted = if request.starts_with(b"{") { from_json(request)? } else { request.to_vec() };
        let (request, _) = der::split(&converted)?;
        let (_version, rest) = der::split(request.content)?;
        let (imprint, mut rest) = der::split(rest)?;
        let mut nonce = Vec::new();
        while let Some((part, behind)) = der::split(rest) {
            if part.tag == 0x02 {
                nonce = part.whole.to_vec();
            }
            rest = behind;
        }
        let other = imprint_of(b"something else");
        let imprint = if fault == Some(Fault::OtherImprint) { &other } else { imprint.whole };
        let age = if fault == Some(Fault::StaleStamp) { 7200 } else { 0 };
        let info = sequence(&[
            integer(1),
            oid(&POLICY),
            imprint.to_vec(),
            integer(42),
            element(0x18, generalized(SystemTime::now() - Duration::from_secs(age)).as_bytes()),
            nonce,
        ]);
        Some(sequence(&[sequence(&[integer(0)]), self.signed(&info)]))
    }

    /// CMS `SignedData` around `info`.
    fn signed(&self, info: &[u8]) -> Vec<u8> {
        let sha256_algorithm = || sequence(&[oid(&SHA256_OID)]);
        let attribute = |kind: &[u64], value: Vec<u8>| sequence(&[oid(kind), set(vec![value])]);
        let certificate_hash = sequence(&[octets(&sha256(&self.certificate))]);
        let attributes = set(vec![
            attribute(&CONTENT_TYPE, oid(&TST_INFO)),
            attribute(&MESSAGE_DIGEST, octets(&sha256(info))),
            attribute(&SIGNING_CERTIFICATE_V2, sequence(&[sequence(&[certificate_hash])])),
        ]);
        let signature = self.key.sign_bytes(&attributes);
        let (inner, _) = der::split(&attributes).expect("it was just made");
        let (outer, _) = der::split(self.root.der()).expect("a certificate is DER");
        let issuer = sequence(&[issuer_name(outer.content), integer(7)]);
        let signer = sequence(&[
            integer(1),
            issuer,
            sha256_algorithm(),
            element(0xa0, inner.content),
            sequence(&[oid(&ECDSA_SHA256)]),
            octets(&signature),
        ]);
        let data = sequence(&[
            integer(3),
            set(vec![sha256_algorithm()]),
            sequence(&[oid(&TST_INFO), element(0xa0, &octets(info))]),
            element(0xa0, &self.certificate),
            set(vec![signer]),
        ]);
        sequence(&[oid(&SIGNED_DATA), element(0xa0, &data)])
    }
}

/// A request in the other form that Sigstore's authority takes.
fn from_json(request: &[u8]) -> Option<Vec<u8>> {
    let request: serde_json::Value = serde_json::from_slice(request).ok()?;
    let hash = BASE64_STANDARD.decode(request["artifactHash"].as_str()?).ok()?;
    let imprint = sequence(&[sequence(&[oid(&SHA256_OID)]), octets(&hash)]);
    (request["hashAlgorithm"] == "sha256" && hash.len() == 32).then(|| sequence(&[integer(1), imprint]))
}

/// The subject of a self-signed certificate, which is its issuer: the fourth part of its body.
fn issuer_name(certificate: &[u8]) -> Vec<u8> {
    let parts = || {
        let (body, _) = der::split(certificate)?;
        let (_version, rest) = der::split(body.content)?;
        let (_serial, rest) = der::split(rest)?;
        let (_algorithm, rest) = der::split(rest)?;
        let (issuer, _) = der::split(rest)?;
        Some(issuer.whole.to_vec())
    };
    parts().expect("a certificate of version 3 has these parts")
}

fn imprint_of(bytes: &[u8]) -> Vec<u8> {
    sequence(&[sequence(&[oid(&SHA256_OID)]), octets(&sha256(bytes))])
}

/// A time as `GeneralizedTime`, in UTC, in whole seconds.
fn generalized(time: SystemTime) -> String {
    let (days, second) = (seconds(time) / 86_400, seconds(time) % 86_400);
    // Days to a date, by the eras of 400 years that the calendar repeats in.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (seconds, expect) in [
            (0, "19700101000000Z"),
            (951_782_399, "20000228235959Z"),
            (951_782_400, "20000229000000Z"),
            (1_795_219_200, "20261121000000Z"),
        ] {
            assert_eq!(generalized(std::time::UNIX_EPOCH + Duration::from_secs(seconds)), expect);
        }
    }
}
