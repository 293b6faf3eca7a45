//! Where credentials are asked for, every endpoint asks for them.

use super::site::{each, fresh};

#[tokio::test]
async fn whoever_is_not_known_is_told_how_to_become_so() {
    each(async |site| {
        if site.user.is_none() {
            return;
        }
        let (name, digest) = (fresh(), site.digest(b"x"));
        for (method, path) in [
            ("GET", "/v2/".to_owned()),
            ("GET", format!("/v2/{name}/blobs/{digest}")),
            ("HEAD", format!("/v2/{name}/manifests/v1")),
            ("PUT", format!("/v2/{name}/manifests/v1")),
            ("POST", format!("/v2/{name}/blobs/uploads/")),
            ("DELETE", format!("/v2/{name}/blobs/{digest}")),
            ("GET", format!("/v2/{name}/tags/list")),
            ("GET", format!("/v2/{name}/referrers/{digest}")),
        ] {
            let answer = site.raw(method, &path, &[], b"").await.is(&[401]);
            let challenge = answer.header("www-authenticate").unwrap_or_default().to_ascii_lowercase();
            assert!(
                challenge.starts_with("basic ") || challenge.starts_with("bearer "),
                "{method} {path}: {challenge}"
            );
            if method != "HEAD" {
                answer.says(&["UNAUTHORIZED"]);
            }
        }
        let headers = [("Authorization", "Basic bm9ib2R5Ondyb25n")];
        site.raw("GET", "/v2/", &headers, b"").await.is(&[401]);
    })
    .await;
}
