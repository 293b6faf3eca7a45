//! end-12: what says something about a manifest.

use blob_registry::Descriptor;
use blob_registry::media_type::{IMAGE_INDEX, IMAGE_MANIFEST};
use serde_json::{Value, json};

use super::site::{Answer, Site, each, fresh, index};

/// The digests of a list, sorted.
fn digests(answer: &Answer) -> Vec<String> {
    let document = answer.json();
    assert_eq!((&document["schemaVersion"], &document["mediaType"]), (&json!(2), &json!(IMAGE_INDEX)));
    let manifests = document["manifests"].as_array().unwrap();
    let mut found: Vec<String> = manifests.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect();
    found.sort();
    found
}

/// An image that is stored.
async fn subject(site: &Site, name: &str) -> Descriptor {
    let bytes = site.image(name, "the subject", None).await;
    site.push(name, IMAGE_MANIFEST, &bytes).await;
    site.descriptor(IMAGE_MANIFEST, &bytes)
}

#[tokio::test]
async fn end_12a_a_manifest_without_referrers_has_an_empty_list() {
    each(async |site| {
        let name = fresh();
        let known = subject(site, &name).await.digest;
        for digest in [known, site.digest(b"nobody knows it")] {
            let answer = site.get(&format!("/v2/{name}/referrers/{digest}")).await.is(&[200]);
            assert_eq!(answer.header("content-type"), Some(IMAGE_INDEX));
            assert_eq!(digests(&answer), [""; 0]);
        }
    })
    .await;
}

#[tokio::test]
async fn end_12a_referrers_are_listed_with_type_and_annotations() {
    each(async |site| {
        let name = fresh();
        let subject = subject(site, &name).await;
        let bytes = site.image(&name, "a referrer", Some(subject.clone())).await;
        let path = format!("/v2/{name}/manifests/{}", site.digest(&bytes));
        let pushed = site.send("PUT", &path, &[("Content-Type", IMAGE_MANIFEST)], &bytes).await.is(&[201]);
        assert_eq!(pushed.header("oci-subject"), Some(subject.digest.to_string().as_str()));
        let answer = site.get(&format!("/v2/{name}/referrers/{}", subject.digest)).await.is(&[200]);
        let entry = answer.json()["manifests"][0].clone();
        assert_eq!(entry["digest"], json!(site.digest(&bytes)));
        assert_eq!(entry["size"], json!(bytes.len()));
        assert_eq!(entry["mediaType"], json!(IMAGE_MANIFEST));
        assert_eq!(entry["artifactType"], json!("application/vnd.spec.test"));
        assert_eq!(entry["annotations"], json!({ "org.example.mark": "a referrer" }));
    })
    .await;
}

#[tokio::test]
async fn end_12a_the_type_of_the_configuration_stands_in_for_the_artifact_type() {
    each(async |site| {
        let name = fresh();
        let subject = subject(site, &name).await;
        let bytes = site.image(&name, "a referrer", Some(subject.clone())).await;
        let mut document: Value = serde_json::from_slice(&bytes).unwrap();
        document.as_object_mut().unwrap().remove("artifactType");
        document["config"]["mediaType"] = json!("application/vnd.spec.config");
        site.push(&name, IMAGE_MANIFEST, document.to_string().as_bytes()).await;
        let answer = site.get(&format!("/v2/{name}/referrers/{}", subject.digest)).await.is(&[200]);
        assert_eq!(answer.json()["manifests"][0]["artifactType"], json!("application/vnd.spec.config"));
    })
    .await;
}

#[tokio::test]
async fn end_12a_an_index_can_be_a_referrer_and_a_subject_may_come_later() {
    each(async |site| {
        let name = fresh();
        let later = site.image(&name, "later", None).await;
        let mut document: Value = serde_json::from_slice(&index(&[])).unwrap();
        document["subject"] = json!(site.descriptor(IMAGE_MANIFEST, &later));
        document["artifactType"] = json!("application/vnd.spec.list");
        let bytes = document.to_string();
        let referrer = site.push(&name, IMAGE_INDEX, bytes.as_bytes()).await;
        let path = format!("/v2/{name}/referrers/{}", site.digest(&later));
        for _ in 0..2 {
            let answer = site.get(&path).await.is(&[200]);
            assert_eq!(digests(&answer), [referrer.to_string()]);
            assert_eq!(answer.json()["manifests"][0]["artifactType"], json!("application/vnd.spec.list"));
            site.push(&name, IMAGE_MANIFEST, &later).await;
        }
    })
    .await;
}

#[tokio::test]
async fn end_12b_the_list_is_filtered_by_type() {
    each(async |site| {
        let name = fresh();
        let subject = subject(site, &name).await;
        let one = site.image(&name, "one", Some(subject.clone())).await;
        let two = String::from_utf8(site.image(&name, "two", Some(subject.clone())).await).unwrap();
        let two = two.replace("application/vnd.spec.test", "application/vnd.spec.other+x");
        let one = site.push(&name, IMAGE_MANIFEST, &one).await.to_string();
        let two = site.push(&name, IMAGE_MANIFEST, two.as_bytes()).await.to_string();
        let list = format!("/v2/{name}/referrers/{}", subject.digest);
        let mut both = [one.clone(), two.clone()];
        both.sort();
        assert_eq!(digests(&site.get(&list).await.is(&[200])), both);
        for (kind, expected) in [
            ("application/vnd.spec.test", vec![one]),
            ("application%2Fvnd.spec.other%2Bx", vec![two]),
            ("application/vnd.none", vec![]),
        ] {
            let answer = site.get(&format!("{list}?artifactType={kind}")).await.is(&[200]);
            assert_eq!(digests(&answer), expected, "{kind}");
            assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"));
        }
    })
    .await;
}

#[tokio::test]
async fn end_12a_a_long_list_comes_in_pages() {
    each(async |site| {
        let name = fresh();
        let subject = subject(site, &name).await;
        let mut expected = Vec::new();
        for mark in ["1", "2", "3"] {
            let bytes = site.image(&name, mark, Some(subject.clone())).await;
            expected.push(site.push(&name, IMAGE_MANIFEST, &bytes).await.to_string());
        }
        expected.sort();
        // The number of items is not in the specification; registries that do not know it give one page.
        let (mut path, mut found) = (format!("/v2/{name}/referrers/{}?n=2", subject.digest), Vec::new());
        for _ in 0..4 {
            let page = site.get(&path).await.is(&[200]);
            found.extend(digests(&page));
            let Some(link) = page.header("link") else { break };
            path = link.split_once('<').unwrap().1.split_once('>').unwrap().0.to_owned();
        }
        found.sort();
        assert_eq!(found, expected);
    })
    .await;
}

#[tokio::test]
async fn end_12a_a_deleted_referrer_is_not_listed() {
    each(async |site| {
        let name = fresh();
        let subject = subject(site, &name).await;
        let bytes = site.image(&name, "a referrer", Some(subject.clone())).await;
        let referrer = site.push(&name, IMAGE_MANIFEST, &bytes).await;
        let list = format!("/v2/{name}/referrers/{}", subject.digest);
        assert_eq!(digests(&site.get(&list).await.is(&[200])), [referrer.to_string()]);
        site.send("DELETE", &format!("/v2/{name}/manifests/{referrer}"), &[], b"").await.is(&[202]);
        assert_eq!(digests(&site.get(&list).await.is(&[200])), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn end_12a_what_is_no_digest_is_refused() {
    each(async |site| {
        let name = fresh();
        subject(site, &name).await;
        for bad in ["sha256:abc", "v1"] {
            site.get(&format!("/v2/{name}/referrers/{bad}")).await.is(&[400]).says(&["DIGEST_INVALID"]);
        }
    })
    .await;
}
