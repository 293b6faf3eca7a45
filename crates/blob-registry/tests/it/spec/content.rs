//! What a registry must be able to hold: every kind of manifest, and manifests with what it does not know.

use blob_registry::Descriptor;
use blob_registry::media_type::{
    DOCKER_MANIFEST, DOCKER_MANIFEST_1, DOCKER_MANIFEST_LIST, EMPTY, IMAGE_INDEX, IMAGE_MANIFEST,
};
use serde_json::{Value, json};

use super::site::{Site, each, fresh, index};

/// Pushes `document` and reads it back.
async fn holds(site: &Site, name: &str, kind: &str, document: &Value) {
    let bytes = document.to_string().into_bytes();
    let digest = site.push(name, kind, &bytes).await;
    let answer = site.get(&format!("/v2/{name}/manifests/{digest}")).await.is(&[200]);
    assert_eq!(answer.body, bytes);
    assert_eq!(answer.header("content-type"), Some(kind));
}

async fn document(site: &Site, name: &str) -> Value {
    serde_json::from_slice(&site.image(name, "1", None).await).unwrap()
}

#[tokio::test]
async fn an_image_without_layers() {
    each(async |site| {
        let name = fresh();
        let mut image = document(site, &name).await;
        image["layers"] = json!([]);
        holds(site, &name, IMAGE_MANIFEST, &image).await;
    })
    .await;
}

#[tokio::test]
async fn an_image_with_an_empty_layer() {
    each(async |site| {
        let name = fresh();
        let mut image = document(site, &name).await;
        site.put(&name, b"").await;
        image["layers"] = json!([site.descriptor("application/vnd.example", b"")]);
        holds(site, &name, IMAGE_MANIFEST, &image).await;
    })
    .await;
}

#[tokio::test]
async fn an_image_whose_layers_are_elsewhere() {
    each(async |site| {
        let name = fresh();
        let mut image = document(site, &name).await;
        let mut layer = site.descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", b"elsewhere");
        layer.urls = vec!["https://example.org/layer".into()];
        image["layers"] = json!([layer]);
        holds(site, &name, IMAGE_MANIFEST, &image).await;
    })
    .await;
}

#[tokio::test]
async fn an_image_with_its_configuration_inside() {
    each(async |site| {
        let name = fresh();
        let mut image = document(site, &name).await;
        image["config"] = json!(Descriptor { data: Some("e30=".into()), ..site.descriptor(EMPTY, b"{}") });
        holds(site, &name, IMAGE_MANIFEST, &image).await;
    })
    .await;
}

#[tokio::test]
async fn an_image_with_members_that_nobody_knows() {
    each(async |site| {
        let name = fresh();
        let mut image = document(site, &name).await;
        image["org.example.custom"] = json!({ "nested": [1, 2.5, null, "text"], "deeper": { "true": false } });
        image["config"]["custom"] = json!("field");
        image["layers"][0]["custom"] = json!([["field"]]);
        holds(site, &name, IMAGE_MANIFEST, &image).await;
        let mut list: Value = serde_json::from_slice(&index(&[])).unwrap();
        list["custom"] = json!("field");
        holds(site, &name, IMAGE_INDEX, &list).await;
    })
    .await;
}

#[tokio::test]
async fn an_image_that_does_not_say_its_type() {
    each(async |site| {
        let name = fresh();
        let mut image = document(site, &name).await;
        image.as_object_mut().unwrap().remove("mediaType");
        holds(site, &name, IMAGE_MANIFEST, &image).await;
    })
    .await;
}

#[tokio::test]
async fn an_index_of_images_and_of_indexes() {
    each(async |site| {
        let name = fresh();
        let image = site.image(&name, "1", None).await;
        site.push(&name, IMAGE_MANIFEST, &image).await;
        let mut platform = site.descriptor(IMAGE_MANIFEST, &image);
        platform.platform = Some(json!({ "architecture": "amd64", "os": "linux" }));
        let list = index(&[platform]);
        holds(site, &name, IMAGE_INDEX, &serde_json::from_slice(&list).unwrap()).await;
        let list: Value = serde_json::from_slice(&list).unwrap();
        let outer = index(&[site.descriptor(IMAGE_INDEX, list.to_string().as_bytes())]);
        holds(site, &name, IMAGE_INDEX, &serde_json::from_slice(&outer).unwrap()).await;
        let mut artifact: Value = serde_json::from_slice(&outer).unwrap();
        artifact["artifactType"] = json!("application/vnd.example.list");
        artifact["annotations"] = json!({ "key": "value" });
        holds(site, &name, IMAGE_INDEX, &artifact).await;
    })
    .await;
}

#[tokio::test]
async fn an_index_with_images_that_are_not_there() {
    each(async |site| {
        let name = fresh();
        let image = site.image(&name, "1", None).await;
        site.push(&name, IMAGE_MANIFEST, &image).await;
        let absent = site.descriptor(IMAGE_MANIFEST, b"of another platform");
        let list = index(&[site.descriptor(IMAGE_MANIFEST, &image), absent.clone()]);
        holds(site, &name, IMAGE_INDEX, &serde_json::from_slice(&list).unwrap()).await;
        site.get(&format!("/v2/{name}/manifests/{}", absent.digest)).await.is(&[404]);
    })
    .await;
}

#[tokio::test]
async fn manifests_of_docker() {
    each(async |site| {
        let name = fresh();
        let mut image = document(site, &name).await;
        image["mediaType"] = json!(DOCKER_MANIFEST);
        image.as_object_mut().unwrap().remove("artifactType");
        holds(site, &name, DOCKER_MANIFEST, &image).await;
        let child = site.descriptor(DOCKER_MANIFEST, image.to_string().as_bytes());
        let list = json!({ "schemaVersion": 2, "mediaType": DOCKER_MANIFEST_LIST, "manifests": [child] });
        holds(site, &name, DOCKER_MANIFEST_LIST, &list).await;
    })
    .await;
}

#[tokio::test]
async fn manifests_of_the_first_schema_of_docker_need_their_layers() {
    each(async |site| {
        if !site.ours {
            // Newer registries may refuse that schema altogether.
            return;
        }
        let name = fresh();
        let layer = site.put(&name, b"a layer of old").await;
        let image = |layer: &str| {
            json!({
                "schemaVersion": 1, "name": name, "tag": "v1", "architecture": "amd64",
                "fsLayers": [{ "blobSum": layer }, { "blobSum": layer }],
                "history": [{ "v1Compatibility": "{\"id\":\"b\",\"parent\":\"a\"}" }, { "v1Compatibility": "{\"id\":\"a\"}" }],
            })
        };
        holds(site, &name, DOCKER_MANIFEST_1, &image(&layer.to_string())).await;
        let absent = image(&site.digest(b"absent").to_string()).to_string();
        let path = format!("/v2/{name}/manifests/{}", site.digest(absent.as_bytes()));
        let headers = [("Content-Type", DOCKER_MANIFEST_1)];
        site.send("PUT", &path, &headers, absent.as_bytes()).await.is(&[404]).says(&["MANIFEST_BLOB_UNKNOWN"]);
        let broken = image("sha256:x").to_string();
        let path = format!("/v2/{name}/manifests/{}", site.digest(broken.as_bytes()));
        site.send("PUT", &path, &headers, broken.as_bytes()).await.is(&[400]).says(&["MANIFEST_INVALID"]);
    })
    .await;
}

#[tokio::test]
async fn an_image_on_a_subject_that_is_not_there() {
    each(async |site| {
        let name = fresh();
        let nowhere = site.descriptor(IMAGE_MANIFEST, b"nowhere");
        let image = site.image(&name, "1", Some(nowhere)).await;
        holds(site, &name, IMAGE_MANIFEST, &serde_json::from_slice(&image).unwrap()).await;
    })
    .await;
}

#[tokio::test]
async fn names_that_hold_the_words_of_the_api() {
    each(async |site| {
        let base = fresh();
        for last in ["blobs", "manifests/x", "tags/list", "blobs/uploads", "referrers/a", "a__b/c-d.e"] {
            let name = format!("{base}/{last}");
            let image = site.image(&name, last, None).await;
            site.tag(&name, "v1", &image).await;
            assert_eq!(site.get(&format!("/v2/{name}/manifests/v1")).await.is(&[200]).body, image);
            let list = site.get(&format!("/v2/{name}/tags/list")).await.is(&[200]);
            assert_eq!(list.json()["tags"], json!(["v1"]), "{name}");
        }
    })
    .await;
}
