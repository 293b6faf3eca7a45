//! The form of errors, and what is asked for wrongly.

use super::site::{each, fresh};

#[tokio::test]
async fn errors_are_json_with_a_code_and_a_message() {
    each(async |site| {
        let answer = site.get(&format!("/v2/{}/tags/list", fresh())).await.is(&[404]);
        assert_eq!(answer.header("content-type").map(|kind| kind.starts_with("application/json")), Some(true));
        let errors = answer.json()["errors"].clone();
        assert!(errors[0]["code"].as_str().is_some_and(|code| code == code.to_uppercase()), "{errors}");
        assert!(errors[0]["message"].is_string(), "{errors}");
    })
    .await;
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    each(async |site| {
        for name in ["UPPER", "a..b", "a/-b", "a_", ".a"] {
            let answer = site.get(&format!("/v2/{name}/tags/list")).await.is(&[400, 404]);
            answer.says(&["NAME_INVALID", "NAME_UNKNOWN", "UNKNOWN"]);
        }
    })
    .await;
}

#[tokio::test]
async fn methods_that_do_not_apply_are_405() {
    each(async |site| {
        if !site.ours {
            return;
        }
        let name = fresh();
        site.put(&name, b"x").await;
        for (method, path) in [
            ("PUT", format!("/v2/{name}/blobs/{}", site.digest(b"x"))),
            ("PATCH", format!("/v2/{name}/manifests/v1")),
            ("DELETE", format!("/v2/{name}/tags/list")),
            ("GET", format!("/v2/{name}/blobs/uploads/")),
            ("POST", format!("/v2/{name}/referrers/{}", site.digest(b"x"))),
        ] {
            let answer = site.send(method, &path, &[], b"").await.is(&[405]);
            assert!(answer.header("allow").is_some(), "{method} {path}");
            answer.says(&["UNSUPPORTED"]);
        }
    })
    .await;
}
