//! end-1, end-8: the base, lists of tags, and the catalog that registries have besides.

use serde_json::json;

use super::site::{Site, each, fresh};

#[tokio::test]
async fn end_1_the_base_answers() {
    each(async |site| {
        site.get("/v2/").await.is(&[200]);
    })
    .await;
}

/// A repository with five tags.
async fn tagged(site: &Site) -> String {
    let name = fresh();
    let bytes = site.image(&name, "1", None).await;
    // Neither the order of the list nor of time.
    for tag in ["d", "a", "c", "e", "b"] {
        site.tag(&name, tag, &bytes).await;
    }
    name
}

#[tokio::test]
async fn end_8a_tags_are_listed_in_order() {
    each(async |site| {
        let name = tagged(site).await;
        let answer = site.get(&format!("/v2/{name}/tags/list")).await.is(&[200]);
        assert_eq!(answer.json(), json!({ "name": name, "tags": ["a", "b", "c", "d", "e"] }));
    })
    .await;
}

#[tokio::test]
async fn end_8a_an_unknown_repository_is_404() {
    each(async |site| {
        let answer = site.get(&format!("/v2/{}/tags/list", fresh())).await.is(&[404]);
        answer.says(&["NAME_UNKNOWN"]);
    })
    .await;
}

#[tokio::test]
async fn end_8b_pages_are_no_longer_than_asked_and_follow_one_another() {
    each(async |site| {
        let name = tagged(site).await;
        let list = format!("/v2/{name}/tags/list");
        let page = site.get(&format!("{list}?n=2")).await.is(&[200]);
        assert_eq!(page.json()["tags"], json!(["a", "b"]));
        let after = site.get(&format!("{list}?n=2&last=b")).await.is(&[200]);
        assert_eq!(after.json()["tags"], json!(["c", "d"]));
        let between = site.get(&format!("{list}?last=bb")).await.is(&[200]);
        assert_eq!(between.json()["tags"], json!(["c", "d", "e"]));
        let none = site.get(&format!("{list}?n=0")).await.is(&[200]);
        assert_eq!(none.json()["tags"], json!([]));
        assert_eq!(none.header("link"), None);
        let end = site.get(&format!("{list}?n=5")).await.is(&[200]);
        assert_eq!(end.json()["tags"].as_array().map(Vec::len), Some(5));
        if site.ours {
            site.get(&format!("{list}?n=x")).await.is(&[400]);
        }
    })
    .await;
}

#[tokio::test]
async fn end_8b_links_lead_to_the_end() {
    each(async |site| {
        let name = tagged(site).await;
        let (mut path, mut tags) = (format!("/v2/{name}/tags/list?n=2"), Vec::new());
        for _ in 0..5 {
            let page = site.get(&path).await.is(&[200]);
            tags.extend(page.json()["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()));
            let Some(link) = page.header("link") else { break };
            assert!(link.contains("rel=\"next\""), "{link}");
            path = link.split_once('<').unwrap().1.split_once('>').unwrap().0.to_owned();
        }
        assert_eq!(tags, ["a", "b", "c", "d", "e"]);
    })
    .await;
}

#[tokio::test]
async fn the_catalog_lists_what_was_pushed() {
    each(async |site| {
        let name = tagged(site).await;
        let answer = site.get("/v2/_catalog?n=1000").await;
        if site.ours || answer.status == 200 {
            let document = answer.is(&[200]).json();
            assert!(document["repositories"].as_array().unwrap().contains(&json!(name)), "{document}");
        }
    })
    .await;
}
