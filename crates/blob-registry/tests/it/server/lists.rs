use blob_core::Digest;
use serde_json::json;

use super::{MANIFEST, artifact, blob, start};
use crate::wire::Answer;

const TYPED: [(&str, &str); 1] = [("Content-Type", MANIFEST)];

/// The path of the next page.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let (path, rel) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
    assert_eq!(rel, "; rel=\"next\"");
    Some(path.to_owned())
}

#[tokio::test]
async fn tags_come_in_pages() {
    let (_server, wire, registry) = start().await;
    let bytes = artifact(&registry, "a/b", "1", None).await;
    for tag in ["c", "a", "B", "_x"] {
        wire.send("PUT", &format!("/v2/a/b/manifests/{tag}"), &TYPED, &bytes).await;
    }
    assert_eq!(wire.get("/v2/a/b/tags/list").await.json(), json!({"name": "a/b", "tags": ["B", "_x", "a", "c"]}));
    let first = wire.get("/v2/a/b/tags/list?n=3").await;
    assert_eq!(first.json()["tags"], json!(["B", "_x", "a"]));
    let second = wire.get(&next(&first).unwrap()).await;
    assert_eq!((second.json()["tags"].clone(), next(&second)), (json!(["c"]), None));
    assert_eq!(wire.get("/v2/a/b/tags/list?last=_z").await.json()["tags"], json!(["a", "c"]));
    let none = wire.get("/v2/a/b/tags/list?n=0").await;
    assert_eq!((none.json()["tags"].clone(), next(&none)), (json!([]), None));
    assert_eq!(wire.get("/v2/a/b/tags/list?n=x").await.status, 400);
    let unknown = wire.get("/v2/none/tags/list").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "NAME_UNKNOWN"));
    assert_eq!(wire.send("POST", "/v2/a/b/tags/list", &[], b"").await.status, 405);
}

/// Clients refuse pages above 4 MiB.
#[tokio::test]
async fn lists_of_long_referrers_come_in_pages_that_can_be_read() {
    let (_server, wire, registry) = start().await;
    let subject = artifact(&registry, "a", "subject", None).await;
    let digest = Digest::sha256_of(&subject);
    let mut expected = Vec::new();
    for length in [300_000; 20].into_iter().chain([(4 << 20) - 2000]) {
        let mark = format!("{}{}", expected.len(), "x".repeat(length));
        let bytes = artifact(&registry, "a", &mark, Some(&subject)).await;
        let own = Digest::sha256_of(&bytes);
        let answer = wire.send("PUT", &format!("/v2/a/manifests/{own}"), &TYPED, &bytes).await;
        assert_eq!(answer.status, 201);
        expected.push(own.to_string());
    }
    expected.sort();
    let (mut found, mut pages, mut path) = (Vec::new(), 0, Some(format!("/v2/a/referrers/{digest}")));
    while let Some(here) = path {
        let answer = wire.get(&here).await;
        assert!(answer.body.len() <= 4 << 20, "{} bytes", answer.body.len());
        for entry in answer.json()["manifests"].as_array().unwrap() {
            found.push(entry["digest"].as_str().unwrap().to_owned());
        }
        (pages, path) = (pages + 1, next(&answer));
    }
    assert_eq!(found, expected);
    assert_eq!(pages, 2);
}

#[tokio::test]
async fn repositories_come_in_pages() {
    let (_server, wire, registry) = start().await;
    for name in ["z", "a/b", "a"] {
        blob(&registry, name, b"x").await;
    }
    let first = wire.get("/v2/_catalog?n=2").await;
    assert_eq!(first.json(), json!({"repositories": ["a", "a/b"]}));
    let second = wire.get(&next(&first).unwrap()).await;
    assert_eq!((second.json(), next(&second)), (json!({"repositories": ["z"]}), None));
}

#[tokio::test]
async fn referrers_are_an_image_index() {
    let (_server, wire, registry) = start().await;
    let subject = artifact(&registry, "a", "subject", None).await;
    let digest = Digest::sha256_of(&subject);
    let path = format!("/v2/a/referrers/{digest}");
    let empty = wire.get(&path).await;
    assert_eq!(empty.header("content-type"), Some(blob_registry::media_type::IMAGE_INDEX));
    assert_eq!((empty.status, empty.json()["manifests"].clone()), (200, json!([])));
    let mut expected = Vec::new();
    for mark in ["1", "2", "3"] {
        let bytes = artifact(&registry, "a", mark, Some(&subject)).await;
        let own = Digest::sha256_of(&bytes);
        let answer = wire.send("PUT", &format!("/v2/a/manifests/{own}"), &TYPED, &bytes).await;
        assert_eq!((answer.status, answer.header("oci-subject")), (201, Some(digest.to_string().as_str())));
        expected.push(own.to_string());
    }
    expected.sort();
    let all = wire.get(&path).await.json();
    let entries = all["manifests"].as_array().unwrap();
    assert_eq!(entries.iter().map(|entry| entry["digest"].as_str().unwrap()).collect::<Vec<_>>(), expected);
    assert!(entries.iter().all(|entry| entry["artifactType"] == "application/vnd.test"));
    assert!(entries.iter().all(|entry| entry["annotations"]["mark"].is_string()));
    let filtered = wire.get(&format!("{path}?artifactType=application%2Fvnd.test&n=2")).await;
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 2);
    let rest = wire.get(&next(&filtered).unwrap()).await;
    assert_eq!(rest.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!((rest.json()["manifests"].as_array().unwrap().len(), next(&rest)), (1, None));
    let other = wire.get(&format!("{path}?artifactType=none")).await;
    assert_eq!(other.json()["manifests"], json!([]));
    assert_eq!(wire.get("/v2/a/referrers/sha256:x").await.status, 400);
}
