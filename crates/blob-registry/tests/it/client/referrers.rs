//! Lists of referrers that clients keep: many writers at once, and what the registry can do.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use blob_core::Digest;
use blob_registry::client::{ReferrersSupport, RegistryClient, RegistryOptions};
use blob_registry::{
    Descriptor, ImageIndex, ImageManifest, MemoryRegistry, PushManifest, Registry as _, RegistryError,
    RegistryExt as _, Server, Target, media_type,
};
use blob_testkit::peers::{DockerRegistry, require};
use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;

use super::{builder, client, repository};
use crate::layout::processes::{again, argument};
use blob_testkit::hostile::{Reply, Script};

const NAME: &str = "team/app";
const PROCESSES: usize = 4;
const WRITERS: usize = 8;

fn subject() -> (Vec<u8>, Descriptor) {
    let bytes = ImageManifest::artifact("a/b", vec![]).to_bytes();
    let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
    (bytes, descriptor)
}

async fn attach(client: &RegistryClient, mark: &str) -> Result<Digest, RegistryError> {
    let manifest = ImageManifest::artifact("a/sig", vec![]).with_subject(subject().1).with_annotation("mark", mark);
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes());
    Ok(client.push_manifest(&repository(NAME), push).await?.digest)
}

/// Each writer is a client of its own: they share nothing but the directory.
async fn attach_many(addr: SocketAddr, locks: &Path, process: &str) {
    let writers = (0..WRITERS).map(|writer| {
        let client = builder(addr).lock_dir(locks).build().unwrap();
        async move { attach(&client, &format!("{process}-{writer}")).await }
    });
    try_join_all(writers).await.unwrap();
}

#[tokio::test]
async fn child_that_attaches() {
    // Started by the suite itself, this test has nothing to do.
    let Some(argument) = argument() else { return };
    let mut parts = argument.splitn(3, '@');
    let mut part = || parts.next().unwrap();
    let (process, addr, locks) = (part(), part(), part());
    attach_many(addr.parse().unwrap(), Path::new(locks), process).await;
}

#[tokio::test]
async fn thirty_two_writers_in_four_processes_lose_nothing() {
    let Some(registry) = require("docker-registry", DockerRegistry::start()) else { return };
    let (addr, name, locks) = (registry.addr(), repository(NAME), tempfile::tempdir().unwrap());
    let client = client(addr);
    assert_eq!(client.referrers_support(&name).await.unwrap(), ReferrersSupport::Tag);
    client.ensure_empty_config(&name).await.unwrap();
    let (bytes, subject) = subject();
    client.push_manifest(&name, PushManifest::new(media_type::IMAGE_MANIFEST, bytes)).await.unwrap();
    let start = |process: usize| {
        let argument = format!("{process}@{addr}@{}", locks.path().display());
        let mut command = again("client::referrers::child_that_attaches", &argument);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..PROCESSES).map(start).collect();
    for child in children {
        let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
    let listed: Vec<_> =
        client.all_referrers(&name, &subject.digest, Some("a/sig"), Some(10)).try_collect().await.unwrap();
    let mut marks: Vec<_> = listed.iter().map(|entry| entry.annotations["mark"].clone()).collect();
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), PROCESSES * WRITERS, "{marks:?}");
}

#[tokio::test]
async fn what_the_registry_can_do_is_found_out_once() {
    let server = Server::builder(std::sync::Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
    let native = client(server.local_addr());
    let name = repository(NAME);
    native.ensure_empty_config(&name).await.unwrap();
    for _ in 0..2 {
        assert_eq!(native.referrers_support(&name).await.unwrap(), ReferrersSupport::Native);
    }
    for (reply, expected) in [
        (Reply::new(404), ReferrersSupport::Tag),
        (Reply::new(404).json(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#), ReferrersSupport::Unknown),
        (Reply::new(200).header("Content-Type", "text/html").body("<html>"), ReferrersSupport::Tag),
    ] {
        let server = Script::start(move |_| reply.clone()).await;
        let client = client(server.addr);
        for _ in 0..2 {
            assert_eq!(client.referrers_support(&name).await.unwrap(), expected);
        }
        let asked = if expected == ReferrersSupport::Unknown { 2 } else { 1 };
        assert_eq!(server.seen().len(), asked, "{expected:?}");
    }
}

#[tokio::test]
async fn an_index_that_is_its_own_fallback_tag_is_no_list() {
    let child = Descriptor::of(media_type::IMAGE_MANIFEST, b"child");
    let index = ImageIndex::new(vec![child]).to_bytes();
    let subject = Digest::sha256_of(&index);
    let server = Script::start(move |seen| match seen.method.as_str() {
        "GET" if seen.path.contains("/manifests/sha256-") => {
            Reply::new(200).header("Content-Type", media_type::IMAGE_INDEX).body(index.clone())
        }
        _ => Reply::new(404),
    })
    .await;
    let (name, client) = (repository(NAME), client(server.addr));
    let listed: Vec<_> = client.all_referrers(&name, &subject, None, None).try_collect().await.unwrap();
    assert!(listed.is_empty(), "{listed:?}");
}

/// Lists that were replaced go, unless something points at them.
#[tokio::test]
async fn replaced_lists_are_deleted_where_that_is_wanted() {
    let Some(registry) = require("docker-registry", DockerRegistry::start()) else { return };
    let name = repository(NAME);
    let (bytes, subject) = subject();
    for clean in [true, false] {
        let options = RegistryOptions::default().with_clean_referrers(clean);
        let client = builder(registry.addr()).options(options).build().unwrap();
        client.ensure_empty_config(&name).await.unwrap();
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, bytes.clone()).with_tags([super::tag("v1")]);
        client.push_manifest(&name, push).await.unwrap();
        let list = Target::Tag(super::tag(&format!("sha256-{}", subject.digest.hex())));
        let mut lists = Vec::new();
        for mark in ["a", "b", "c", "d"] {
            let mut note = ImageManifest::artifact("a/note", vec![]).with_annotation("mark", format!("{mark}{clean}"));
            note.subject = Some(subject.clone());
            client.push_manifest(&name, PushManifest::new(media_type::IMAGE_MANIFEST, note.to_bytes())).await.unwrap();
            let manifest = client.manifest(&name, &list).await.unwrap();
            lists.push(manifest.descriptor.digest);
            if mark == "b" {
                // Somebody keeps this one.
                let push = PushManifest::new(media_type::IMAGE_INDEX, manifest.bytes).with_tags([super::tag("kept")]);
                client.push_manifest(&name, push).await.unwrap();
            }
        }
        let mut there = Vec::new();
        for digest in lists {
            there.push(client.has_manifest(&name, &digest.into()).await.unwrap());
        }
        let expected = if clean { [false, true, false, true] } else { [true; 4] };
        assert_eq!(there, expected, "{clean}");
        let kept = client.resolve(&name, &super::by_tag("kept")).await;
        assert!(kept.is_ok(), "{kept:?}");
    }
}

/// A second client, which learned nothing of the registry, takes what it deletes out of the list, too.
#[tokio::test]
async fn who_deletes_a_referrer_takes_it_out_of_the_list() {
    let Some(registry) = require("docker-registry", DockerRegistry::start()) else { return };
    let (name, (bytes, subject)) = (repository(NAME), subject());
    let first = client(registry.addr());
    first.ensure_empty_config(&name).await.unwrap();
    first.push_manifest(&name, PushManifest::new(media_type::IMAGE_MANIFEST, bytes)).await.unwrap();
    let (one, two) = (attach(&first, "one").await.unwrap(), attach(&first, "two").await.unwrap());
    client(registry.addr()).delete_manifest(&name, &one).await.unwrap();
    let reader = client(registry.addr());
    let listed: Vec<_> = reader.all_referrers(&name, &subject.digest, None, None).try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [two]);
}

#[tokio::test]
async fn a_list_is_not_written_over_the_subject() {
    let (bytes, wanted) = subject();
    let taken = bytes.clone();
    let server = Script::start(move |seen| match (seen.method.as_str(), seen.path.contains("/manifests/sha256-")) {
        ("GET", true) => Reply::new(200).header("Content-Type", media_type::IMAGE_MANIFEST).body(taken.clone()),
        ("PUT", false) => Reply::new(201),
        ("PUT", true) => Reply::new(500),
        _ => Reply::new(404),
    })
    .await;
    let error = attach(&client(server.addr), "one").await.unwrap_err();
    assert!(super::everything(&error).contains("names the subject itself"), "{error:?}");
    assert_eq!(server.count("PUT", "/manifests/sha256-"), 0, "{:?}", server.log());
    assert_eq!(wanted.digest, Digest::sha256_of(&bytes));
}

#[tokio::test]
async fn a_list_whose_next_page_is_gone_is_an_error() {
    let entry = Descriptor::of(media_type::IMAGE_MANIFEST, b"referrer");
    let server = Script::start(move |seen| match (seen.path.contains("/referrers/"), seen.query.as_str()) {
        (true, "") => {
            let list = ImageIndex::new(vec![entry.clone()]).to_bytes();
            let next = format!("<{}?page=2>; rel=\"next\"", seen.path);
            Reply::new(200).header("Content-Type", media_type::IMAGE_INDEX).header("Link", next).body(list)
        }
        _ => Reply::new(404),
    })
    .await;
    let (name, client) = (repository(NAME), client(server.addr));
    let listed: Result<Vec<_>, _> = client.all_referrers(&name, &subject().1.digest, None, None).try_collect().await;
    assert!(listed.is_err(), "{listed:?}");
}
