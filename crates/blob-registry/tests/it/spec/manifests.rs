//! end-3, end-7, end-9: manifests and tags.

use blob_registry::media_type::{IMAGE_INDEX, IMAGE_MANIFEST};

use super::site::{each, fresh};

#[tokio::test]
async fn end_3_a_manifest_is_pulled_by_digest_and_by_tag() {
    each(async |site| {
        let name = fresh();
        let bytes = site.image(&name, "1", None).await;
        site.tag(&name, "v1", &bytes).await;
        let digest = site.digest(&bytes).to_string();
        for reference in [digest.as_str(), "v1"] {
            let path = format!("/v2/{name}/manifests/{reference}");
            let answer = site.send("GET", &path, &[("Accept", IMAGE_MANIFEST)], b"").await.is(&[200]);
            assert_eq!(answer.body, bytes, "the bytes are those that were pushed");
            let head = site.send("HEAD", &path, &[("Accept", IMAGE_MANIFEST)], b"").await.is(&[200]);
            assert!(head.body.is_empty());
            for answer in [answer, head] {
                assert_eq!(answer.header("content-type"), Some(IMAGE_MANIFEST));
                assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
                assert_eq!(answer.header("content-length"), Some(bytes.len().to_string().as_str()));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn end_3_an_unknown_manifest_is_404() {
    each(async |site| {
        let name = fresh();
        site.tag(&name, "v1", &site.image(&name, "1", None).await).await;
        for reference in [site.digest(b"absent").to_string(), "absent".into(), ".INVALID_MANIFEST_NAME".into()] {
            let path = format!("/v2/{name}/manifests/{reference}");
            site.get(&path).await.is(&[404]).says(&["MANIFEST_UNKNOWN", "NAME_UNKNOWN"]);
            site.head(&path).await.is(&[404]);
        }
    })
    .await;
}

#[tokio::test]
async fn end_3_an_entity_tag_saves_the_body() {
    each(async |site| {
        let name = fresh();
        site.tag(&name, "v1", &site.image(&name, "1", None).await).await;
        let path = format!("/v2/{name}/manifests/v1");
        let Some(etag) = site.head(&path).await.header("etag").map(str::to_owned) else { return };
        let answer = site.send("GET", &path, &[("If-None-Match", &etag)], b"").await.is(&[304]);
        assert!(answer.body.is_empty());
    })
    .await;
}

#[tokio::test]
async fn end_7a_a_pushed_manifest_is_where_its_location_says() {
    each(async |site| {
        let name = fresh();
        let bytes = site.image(&name, "1", None).await;
        let digest = site.digest(&bytes).to_string();
        let path = format!("/v2/{name}/manifests/{digest}");
        let answer = site.send("PUT", &path, &[("Content-Type", IMAGE_MANIFEST)], &bytes).await.is(&[201]);
        assert_eq!(site.get(&answer.location()).await.is(&[200]).body, bytes);
        assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
        assert_eq!(answer.header("oci-subject"), None);
        // And once more: nothing changes.
        site.send("PUT", &path, &[("Content-Type", IMAGE_MANIFEST)], &bytes).await.is(&[201]);
    })
    .await;
}

#[tokio::test]
async fn end_7a_a_tag_moves_and_the_manifest_stays() {
    each(async |site| {
        let name = fresh();
        let (one, two) = (site.image(&name, "1", None).await, site.image(&name, "2", None).await);
        site.tag(&name, "v1", &one).await;
        site.tag(&name, "v1", &two).await;
        assert_eq!(site.get(&format!("/v2/{name}/manifests/v1")).await.is(&[200]).body, two);
        let old = format!("/v2/{name}/manifests/{}", site.digest(&one));
        assert_eq!(site.get(&old).await.is(&[200]).body, one);
    })
    .await;
}

#[tokio::test]
async fn end_7a_what_is_no_manifest_is_refused() {
    each(async |site| {
        let name = fresh();
        let good = site.image(&name, "1", None).await;
        let put = async |reference: &str, kind: &str, bytes: &[u8]| {
            site.send("PUT", &format!("/v2/{name}/manifests/{reference}"), &[("Content-Type", kind)], bytes).await
        };
        put(&site.digest(b"others").to_string(), IMAGE_MANIFEST, &good)
            .await
            .is(&[400])
            .says(&["DIGEST_INVALID", "MANIFEST_INVALID"]);
        put("v1", IMAGE_MANIFEST, b"{").await.is(&[400]).says(&["MANIFEST_INVALID"]);
        put("v1", IMAGE_INDEX, &good).await.is(&[400]).says(&["MANIFEST_INVALID"]);
        put("sha256:abc", IMAGE_MANIFEST, &good).await.is(&[400]).says(&["DIGEST_INVALID", "MANIFEST_INVALID"]);
        site.get(&format!("/v2/{name}/manifests/v1")).await.is(&[404]);
    })
    .await;
}

#[tokio::test]
async fn end_7a_a_manifest_larger_than_4_mib_is_413() {
    each(async |site| {
        let name = fresh();
        let mut bytes = site.image(&name, "1", None).await;
        let path = format!("/v2/{name}/manifests/large");
        // Registries must take at least 4 MiB.
        bytes.resize(4 << 20, b' ');
        site.send("PUT", &path, &[("Content-Type", IMAGE_MANIFEST)], &bytes).await.is(&[201]);
        if site.ours {
            bytes.push(b' ');
            site.send("PUT", &path, &[("Content-Type", IMAGE_MANIFEST)], &bytes).await.is(&[413]);
        }
    })
    .await;
}

#[tokio::test]
async fn end_7a_a_missing_layer_is_told() {
    each(async |site| {
        let name = fresh();
        let bytes = String::from_utf8(site.image(&name, "1", None).await).unwrap();
        let absent = bytes.replace(&site.digest(b"a layer").to_string(), &site.digest(b"absent!").to_string());
        let path = format!("/v2/{name}/manifests/v1");
        let answer = site.send("PUT", &path, &[("Content-Type", IMAGE_MANIFEST)], absent.as_bytes()).await;
        if site.ours {
            answer.is(&[404]).says(&["MANIFEST_BLOB_UNKNOWN"]);
        } else {
            answer.is(&[201, 400, 404]);
        }
    })
    .await;
}

#[tokio::test]
async fn end_7b_one_push_sets_several_tags() {
    each(async |site| {
        let name = fresh();
        let bytes = site.image(&name, "1", None).await;
        let path = format!("/v2/{name}/manifests/{}?tag=one&tag=two&tag=three", site.digest(&bytes));
        let answer = site.send("PUT", &path, &[("Content-Type", IMAGE_MANIFEST)], &bytes).await.is(&[201]);
        let tags: Vec<_> = answer.headers.get_all("oci-tag").iter().map(|tag| tag.to_str().unwrap()).collect();
        assert_eq!(tags, ["one", "two", "three"]);
        for tag in tags {
            assert_eq!(site.get(&format!("/v2/{name}/manifests/{tag}")).await.is(&[200]).body, bytes);
        }
        let bad = format!("/v2/{name}/manifests/{}?tag=.bad", site.digest(&bytes));
        site.send("PUT", &bad, &[("Content-Type", IMAGE_MANIFEST)], &bytes).await.is(&[400]);
    })
    .await;
}

#[tokio::test]
async fn end_9_a_deleted_manifest_is_gone_with_its_tags() {
    each(async |site| {
        let name = fresh();
        let bytes = site.image(&name, "1", None).await;
        site.tag(&name, "v1", &bytes).await;
        let path = format!("/v2/{name}/manifests/{}", site.digest(&bytes));
        site.send("DELETE", &path, &[], b"").await.is(&[202]);
        site.get(&path).await.is(&[404]).says(&["MANIFEST_UNKNOWN", "NAME_UNKNOWN"]);
        site.get(&format!("/v2/{name}/manifests/v1")).await.is(&[404]);
        site.send("DELETE", &path, &[], b"").await.is(&[404]);
    })
    .await;
}

#[tokio::test]
async fn end_9_a_deleted_tag_leaves_its_manifest_and_other_tags() {
    each(async |site| {
        let name = fresh();
        let bytes = site.image(&name, "1", None).await;
        site.tag(&name, "one", &bytes).await;
        site.tag(&name, "two", &bytes).await;
        site.send("DELETE", &format!("/v2/{name}/manifests/one"), &[], b"").await.is(&[202]);
        site.get(&format!("/v2/{name}/manifests/one")).await.is(&[404]);
        site.get(&format!("/v2/{name}/manifests/two")).await.is(&[200]);
        site.get(&format!("/v2/{name}/manifests/{}", site.digest(&bytes))).await.is(&[200]);
        assert_eq!(
            site.get(&format!("/v2/{name}/tags/list")).await.is(&[200]).json()["tags"],
            serde_json::json!(["two"])
        );
    })
    .await;
}

#[tokio::test]
async fn end_9_blobs_and_manifests_are_deleted_in_any_order() {
    each(async |site| {
        let name = fresh();
        let bytes = site.image(&name, "1", None).await;
        site.tag(&name, "v1", &bytes).await;
        let blob = format!("/v2/{name}/blobs/{}", site.digest(b"a layer"));
        site.send("DELETE", &blob, &[], b"").await.is(&[202]);
        site.send("DELETE", &format!("/v2/{name}/manifests/{}", site.digest(&bytes)), &[], b"").await.is(&[202]);
        site.send("DELETE", &format!("/v2/{name}/blobs/{}", site.digest(b"{}")), &[], b"").await.is(&[202]);
    })
    .await;
}

#[tokio::test]
async fn end_7a_of_pushes_to_one_tag_at_once_one_wins_and_all_are_there() {
    each(async |site| {
        let name = fresh();
        let mut images = Vec::new();
        for mark in ["1", "2", "3", "4"] {
            images.push(site.image(&name, mark, None).await);
        }
        futures_util::future::join_all(images.iter().map(|bytes| site.tag(&name, "raced", bytes))).await;
        let winner = site.get(&format!("/v2/{name}/manifests/raced")).await.is(&[200]).body;
        assert!(images.contains(&winner));
        for bytes in &images {
            let path = format!("/v2/{name}/manifests/{}", site.digest(bytes));
            assert_eq!(site.get(&path).await.is(&[200]).body, *bytes);
        }
    })
    .await;
}
