//! What broken and hostile registries do, as faults that a proxy in front of an honest one draws from a seed.

use bytes::Bytes;

use crate::proxy::Action;

/// A digest that no content of a test has.
const OTHER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// Every lie and fault that fits any request, to be drawn by [`Faults::seeded`](crate::proxy::Faults::seeded): whoever reads
/// through them gets the right bytes or an error, and never hangs. `elsewhere` is another origin, `host:port`, which is to see
/// no credentials, apart from its `/token`, which is named as the token service.
///
/// Nothing here falls silent, so that a whole sweep is quick: [`Action::Stall`] is for tests of time-outs.
#[must_use]
pub fn lies(elsewhere: &str) -> Vec<Action> {
    let set = |name, value: &str| Action::Header { name, value: Some(value.to_owned()) };
    let unset = |name| Action::Header { name, value: None };
    let answer = |status, headers: &[(&str, &str)], body: &'static str| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Action::Answer { status, headers, body: Bytes::from_static(body.as_bytes()) }
    };
    let realm = |realm: &str| format!(r#"Bearer realm="{realm}",service="s",scope="repository:any:pull""#);
    vec![
        // The line breaks.
        Action::Cut(0),
        Action::Cut(100),
        Action::Cut(40_000),
        Action::CutUpload(0),
        Action::CutUpload(1000),
        // Bytes and ranges are not what was asked for.
        Action::Flip(0),
        Action::Flip(1000),
        Action::IgnoreRange,
        Action::ShiftContentRange(1),
        Action::ShiftContentRange(-1),
        unset("content-range"),
        set("content-range", "bytes 0-0/*"),
        set("content-encoding", "gzip"),
        // Statuses that fit nothing, or that fit and come with something else.
        Action::Status(200),
        Action::Status(201),
        Action::Status(204),
        Action::Status(206),
        Action::Status(416),
        // Refusals that pass.
        answer(429, &[("retry-after", "0")], ""),
        answer(429, &[("retry-after", "Fri, 20 Nov 2026 10:00:00 GMT")], ""),
        answer(503, &[("retry-after", "0")], ""),
        answer(500, &[], "oh"),
        answer(502, &[], ""),
        answer(504, &[], ""),
        answer(408, &[], ""),
        // Refusals that do not pass, and answers of somebody else.
        answer(403, &[], r#"{"errors":[{"code":"DENIED"}]}"#),
        answer(404, &[], r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
        answer(404, &[], "nothing here"),
        answer(413, &[], ""),
        answer(416, &[("range", "0-0")], ""),
        answer(200, &[("content-type", "text/html")], "<html><form>Who are you?</form></html>"),
        answer(200, &[], "{}"),
        answer(200, &[], ""),
        // Who asks for credentials, and for whom.
        answer(401, &[], ""),
        answer(401, &[("www-authenticate", &realm("http://169.254.169.254/latest"))], ""),
        answer(401, &[("www-authenticate", &realm(&format!("http://{elsewhere}/token")))], ""),
        answer(401, &[("www-authenticate", "Negotiate"), ("www-authenticate", "Digest realm=\"x\", nonce=\"y\"")], ""),
        // Ways that lead elsewhere, nowhere, or in circles.
        answer(307, &[("location", &format!("http://{elsewhere}/v2/other"))], ""),
        answer(307, &[("location", "//")], ""),
        answer(307, &[], ""),
        answer(302, &[("location", "?again")], ""),
        set("location", &format!("http://{elsewhere}/v2/uploads/1")),
        set("location", "http://["),
        unset("location"),
        set("link", "</v2/other/name/tags/list?last=a>; rel=\"next\""),
        set("link", &format!("<http://{elsewhere}/v2/a/tags/list>; rel=\"next\"")),
        // What is said about content.
        unset("docker-content-digest"),
        set("docker-content-digest", OTHER),
        set("docker-content-digest", "sha256:../../x"),
        set("content-type", "text/html"),
        set("content-type", "application/vnd.oci.image.index.v1+json"),
        unset("content-type"),
        // What is said about uploads and referrers.
        unset("range"),
        set("range", "0-0"),
        set("range", "0-99999999"),
        set("range", "nonsense"),
        set("oci-chunk-min-length", "18446744073709551615"),
        set("oci-subject", OTHER),
        set("oci-filters-applied", "artifactType"),
        set("oci-tag", "another"),
    ]
}
