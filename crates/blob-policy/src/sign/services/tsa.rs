//! Time-stamps (RFC 3161).

use blob_core::Digest;
use url::Url;

use super::http::{Http, Question, ServiceError};

/// `TimeStampReq` of version 1 up to the digest: the digest is SHA-256, and comes next.
const BEFORE: [u8; 24] = [
    0x30, 0x39, 0x02, 0x01, 0x01, 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
    0x01, 0x05, 0x00, 0x04, 0x20,
];
/// ... and behind it: the authority is to send its certificate. A nonce is not needed: what is stamped is a signature
/// that did not exist a moment ago.
const BEHIND: [u8; 3] = [0x01, 0x01, 0xff];

/// The answer of the authority about `signature`, which is checked with the bundle.
pub(super) async fn stamp(http: &Http, url: &Url, signature: &[u8]) -> Result<Vec<u8>, ServiceError> {
    let digest = Digest::sha256_of(signature);
    let request = [&BEFORE[..], digest.as_bytes(), &BEHIND[..]].concat();
    let answer =
        http.ask(Question { url, body: Some(("application/timestamp-query", &request)), bearer: None }).await?;
    if answer.first() != Some(&0x30) {
        return Err(ServiceError::answer("it is not a time-stamp"));
    }
    Ok(answer)
}
