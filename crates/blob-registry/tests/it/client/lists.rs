//! Lists and referrers: links that lead astray, the tag that stands in for the API.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use blob_core::{Digest, MemorySource};
use blob_registry::client::{ClientLimits, RegistryClient};
use blob_registry::{
    Descriptor, ErrorCode, ImageIndex, ImageManifest, PageRequest, PushBlob, PushManifest, Registry, RegistryError,
    media_type,
};
use blob_testkit::peers::{DockerRegistry, require};
use futures_util::future::try_join_all;

use super::{builder, by_tag, client, repository, tag};
use blob_testkit::hostile::{Reply, Script};

const NAME: &str = "team/app";

async fn all_tags(client: &RegistryClient, limit: Option<usize>) -> Result<Vec<String>, RegistryError> {
    let mut page = PageRequest::first();
    page.limit = limit;
    let mut all = Vec::new();
    loop {
        let got = client.tags(&repository(NAME), &page).await?;
        all.extend(got.items.iter().map(ToString::to_string));
        let Some(next) = got.next else { return Ok(all) };
        page.after = Some(next);
    }
}

fn list(tags: &[&str]) -> Reply {
    Reply::new(200).json(serde_json::json!({ "name": NAME, "tags": tags }).to_string())
}

#[tokio::test]
async fn pages_are_followed_and_loops_end() {
    let link = |to: &str| format!("<{to}>; rel=\"next\"");
    let server = Script::start(move |seen| match seen.query.as_str() {
        "n=2" => list(&["a", "b"]).header("Link", link("/v2/team/app/tags/list?n=2&token=opaque%2F1")),
        "n=2&token=opaque%2F1" => list(&["c"]),
        _ => list(&["d"]).header("Link", link("/v2/team/app/tags/list?n=9&last=x")),
    })
    .await;
    assert_eq!(all_tags(&client(server.addr), Some(2)).await.unwrap(), ["a", "b", "c"]);

    let turns = AtomicUsize::new(0);
    let endless = Script::start(move |_| {
        let turn = turns.fetch_add(1, Ordering::SeqCst) % 2;
        list(&["a"]).header("Link", format!("</v2/team/app/tags/list?last={turn}>; rel=next"))
    })
    .await;
    let client = builder(endless.addr).limits(ClientLimits::default().with_pages(20)).build().unwrap();
    assert!(all_tags(&client, None).await.unwrap_err().to_string().contains("20 pages"));
    assert!(endless.seen().len() <= 20);
}

#[tokio::test]
async fn links_to_other_places_are_not_followed() {
    let thief = Script::start(|_| list(&["stolen"])).await;
    for to in [
        format!("http://{}/v2/team/app/tags/list?last=a", thief.addr),
        format!("//{}/v2/team/app/tags/list?last=a", thief.addr),
        "/v2/secret/tags/list?last=a".to_owned(),
        "https://127.0.0.1/v2/team/app/tags/list?last=a".to_owned(),
    ] {
        let server = Script::start(move |_| list(&["a"]).header("Link", format!("<{to}>; rel=next"))).await;
        assert!(all_tags(&client(server.addr), None).await.is_err());
        assert!(all_tags(&client(server.addr), Some(1)).await.is_err());
    }
    assert!(thief.seen().is_empty());
}

#[tokio::test]
async fn a_registry_that_gives_the_whole_list_is_cut_into_pages() {
    let server = Script::start(|_| list(&["e", "a", "c", "b", "d", "-not a tag"])).await;
    let client = client(server.addr);
    assert_eq!(all_tags(&client, Some(2)).await.unwrap(), ["a", "b", "c", "d", "e"]);
    let none = Script::start(|_| Reply::new(200).json(r#"{"name":"x","tags":null}"#)).await;
    assert!(all_tags(&super::client(none.addr), None).await.unwrap().is_empty());
    let catalog = Script::start(|_| Reply::new(404)).await;
    let error = super::client(catalog.addr).repositories(&PageRequest::first()).await.unwrap_err();
    assert!(error.is_unsupported());
}

fn index(entries: &[Descriptor]) -> Reply {
    let bytes = ImageIndex::new(entries.to_vec()).to_bytes();
    Reply::new(200).header("Content-Type", media_type::IMAGE_INDEX).body(bytes)
}

fn entry(kind: &str, content: &str) -> Descriptor {
    let mut entry = Descriptor::of(media_type::IMAGE_MANIFEST, content.as_bytes());
    entry.artifact_type = Some(kind.into());
    entry
}

#[tokio::test]
async fn only_a_404_leads_to_the_fallback_tag() {
    let subject = Digest::sha256_of(b"subject");
    for (status, falls) in [(404, true), (401, false), (403, false), (429, false), (500, false), (400, false)] {
        let server = Script::start(move |seen| {
            if seen.path.contains("/referrers/") {
                return Reply::new(status);
            }
            index(&[entry("a/sig", "1"), entry("b/other", "2")])
        })
        .await;
        let client = client(server.addr);
        let found = client.referrers(&repository(NAME), &subject, Some("a/sig"), &PageRequest::first()).await;
        assert_eq!(found.is_ok(), falls, "{status}");
        assert_eq!(server.count("GET", "/manifests/"), usize::from(falls), "{status}");
        if let Ok(page) = found {
            assert_eq!(page.items, [entry("a/sig", "1")], "filtered here");
            let tag = format!("/manifests/sha256-{}", subject.hex());
            assert_eq!(server.count("GET", &tag), 1);
            // Next time the registry is not asked for what it has not got.
            client.referrers(&repository(NAME), &subject, None, &PageRequest::first()).await.unwrap();
            assert_eq!(server.count("GET", "/referrers/"), 1);
        }
    }
}

#[tokio::test]
async fn referrers_that_are_no_index_are_refused() {
    let subject = Digest::sha256_of(b"subject");
    let cases = [
        ("html", Reply::new(200).header("Content-Type", "text/html").body("<html>")),
        ("malformed", Reply::new(200).header("Content-Type", media_type::IMAGE_INDEX).body("{}")),
        ("huge", Reply::new(200).header("Content-Type", media_type::IMAGE_INDEX).body(vec![b' '; (4 << 20) + 1])),
        ("foreign link", index(&[]).header("Link", "<http://evil/v2/x>; rel=next")),
    ];
    for (what, reply) in cases {
        let server = Script::start(move |_| reply.clone()).await;
        let found = client(server.addr).referrers(&repository(NAME), &subject, None, &PageRequest::first()).await;
        assert!(found.is_err(), "{what}");
    }
    let none = Script::start(|_| Reply::new(404)).await;
    let page = client(none.addr).referrers(&repository(NAME), &subject, None, &PageRequest::first()).await.unwrap();
    assert!(page.items.is_empty() && page.next.is_none());
}

/// Pushes a manifest that refers to `subject`.
async fn attach(client: &RegistryClient, subject: &Descriptor, mark: &str) -> Result<Digest, RegistryError> {
    let mut manifest = ImageManifest::artifact("a/sig", vec![]);
    manifest.subject = Some(subject.clone());
    manifest.annotations.insert("mark".into(), mark.into());
    let pushed = client
        .push_manifest(&repository(NAME), PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes()))
        .await?;
    assert_eq!(pushed.subject, None, "this registry has no referrers API");
    Ok(pushed.digest)
}

#[tokio::test]
async fn writers_of_the_fallback_tag_keep_each_others_entries() {
    let Some(registry) = require("docker-registry", DockerRegistry::start()) else { return };
    let name = repository(NAME);
    let clients: Vec<_> = (0..2).map(|_| client(registry.addr())).collect();
    let empty = PushBlob::new(Digest::sha256_of(b"{}"), Arc::new(MemorySource::new(&b"{}"[..])));
    clients[0].push_blob(&name, empty).await.unwrap();
    let bytes = ImageManifest::artifact("a/b", vec![]).to_bytes();
    let subject = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, bytes).with_tags([tag("v1"), tag("v2")]);
    clients[0].push_manifest(&name, push).await.unwrap();
    // Many writers of one process, one behind the other; then one of a second client, which finds them all.
    let first = (0..4).map(|n| attach(&clients[0], &subject, ["a", "b", "c", "d"][n]));
    let mut digests = try_join_all(first).await.unwrap();
    digests.push(attach(&clients[1], &subject, "e").await.unwrap());
    let page = clients[1].referrers(&name, &subject.digest, Some("a/sig"), &PageRequest::first()).await.unwrap();
    let mut found: Vec<_> = page.items.iter().map(|entry| entry.digest).collect();
    found.sort_unstable();
    digests.sort_unstable();
    assert_eq!(found, digests);
    assert_eq!(page.items[0].annotations.len(), 1, "annotations are copied up");
    // In pages, too.
    let mut page = PageRequest::first().limit(2);
    let mut paged = Vec::new();
    loop {
        let got = clients[0].referrers(&name, &subject.digest, None, &page).await.unwrap();
        assert!(got.items.len() <= 2);
        paged.extend(got.items.iter().map(|entry| entry.digest));
        let Some(next) = got.next else { break };
        page.after = Some(next);
    }
    paged.sort_unstable();
    assert_eq!(paged, digests);
    // A referrer that is deleted leaves the list.
    clients[1].delete_manifest(&name, &digests[0]).await.unwrap();
    let page = clients[0].referrers(&name, &subject.digest, None, &PageRequest::first()).await.unwrap();
    assert_eq!(page.items.len(), 4);
    assert!(page.items.iter().all(|entry| entry.digest != digests[0]));
}

#[tokio::test]
async fn a_fallback_tag_that_is_something_else_is_left_alone() {
    let server = Script::start(|seen| match seen.method.as_str() {
        "PUT" => Reply::new(201),
        _ if seen.path.contains("/manifests/sha256-") => Reply::new(200)
            .header("Content-Type", media_type::IMAGE_MANIFEST)
            .body(ImageManifest::artifact("a/b", vec![]).to_bytes()),
        _ => Reply::new(404),
    })
    .await;
    let subject = Descriptor::of(media_type::IMAGE_MANIFEST, b"subject");
    let error = attach(&client(server.addr), &subject, "x").await.unwrap_err();
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error:?}");
    assert_eq!(server.count("PUT", ""), 1, "the manifest, and not the tag");
    assert_eq!(server.count("DELETE", ""), 0);
}

#[tokio::test]
async fn a_condition_on_a_tag_is_checked() {
    let old = ImageManifest::artifact("a/b", vec![]).to_bytes();
    let digest = Digest::sha256_of(&old);
    let bytes = old.clone();
    let server = Script::start(move |seen| match seen.method.as_str() {
        "PUT" if seen.header("if-match") == Some(&format!("\"{digest}\"")) => Reply::new(201),
        "PUT" => Reply::new(412),
        _ => Reply::new(200)
            .header("Content-Type", media_type::IMAGE_MANIFEST)
            .header("Docker-Content-Digest", digest)
            .body(bytes.clone()),
    })
    .await;
    let client = client(server.addr);
    let push = |condition: Digest| {
        let mut push = PushManifest::new(media_type::IMAGE_MANIFEST, ImageManifest::artifact("c/d", vec![]).to_bytes());
        push.tags.push(tag("v1"));
        push.if_match = Some(condition);
        push
    };
    client.push_manifest(&repository(NAME), push(digest)).await.unwrap();
    let error = client.push_manifest(&repository(NAME), push(Digest::sha256_of(b"x"))).await.unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::PreconditionFailed);
    assert_eq!(server.count("PUT", ""), 1);
    let missing = client.resolve(&repository(NAME), &by_tag("v1")).await.unwrap();
    assert_eq!(missing.digest, digest);
}
