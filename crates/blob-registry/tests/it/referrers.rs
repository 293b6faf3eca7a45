//! Lists of referrers that say what is not so.

use blob_core::Digest;
use blob_registry::referrers::LeftOut::{Gone, OtherSubject, TooLarge};
use blob_registry::referrers::{ReferrerLimits, ReferrersError, verified_referrers};
use blob_registry::{Descriptor, ImageIndex, ImageManifest, PushManifest, media_type};

use crate::client::client;
use crate::kit::{artifact, descriptor, repository};
use blob_testkit::hostile::{Reply, Script};

/// A registry that lists `entries` as the referrers of everything, and has `manifests`.
async fn lying(entries: Vec<Descriptor>, manifests: Vec<PushManifest>) -> Script {
    Script::start(move |seen| {
        if seen.path.contains("/referrers/") {
            let list = ImageIndex::new(entries.clone()).to_bytes();
            return Reply::new(200).header("Content-Type", media_type::IMAGE_INDEX).body(list);
        }
        let found = manifests.iter().find(|push| seen.path.ends_with(&push.digest.to_string()));
        found.map_or_else(
            || Reply::new(404),
            |push| Reply::new(200).header("Content-Type", &push.media_type).body(push.bytes.to_vec()),
        )
    })
    .await
}

fn limits(change: impl FnOnce(&mut ReferrerLimits)) -> ReferrerLimits {
    let mut limits = ReferrerLimits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn only_what_says_itself_that_it_refers_to_the_subject_counts() {
    let (subject, other) = (artifact("subject", None), artifact("other", None));
    let (first, second) = (artifact("first", Some(&subject)), artifact("second", Some(&subject)));
    let foreign = artifact("foreign", Some(&other));
    let gone = artifact("gone", Some(&subject));
    let large = ImageManifest::artifact("a/b", vec![])
        .with_subject(descriptor(&subject))
        .with_annotation("filler", "x".repeat(70_000));
    let large = PushManifest::new(media_type::IMAGE_MANIFEST, large.to_bytes());
    let no_manifest = PushManifest::new(media_type::IMAGE_MANIFEST, "{}".as_bytes().to_vec());
    let listed = [&first, &gone, &foreign, &large, &other, &no_manifest, &second].map(descriptor);
    let server = lying(listed.to_vec(), vec![first.clone(), foreign, large, other, no_manifest, second.clone()]).await;
    let (client, name) = (client(server.addr), repository("a/b"));
    let found = verified_referrers(&client, (&name, &subject.digest), None, &ReferrerLimits::default()).await.unwrap();
    let bytes: Vec<_> = found.referrers.iter().map(|referrer| referrer.bytes.clone()).collect();
    assert_eq!(bytes, [first.bytes, second.bytes]);
    let why: Vec<_> = found.left_out.iter().map(|(_, why)| *why).collect();
    assert_eq!(why, [Gone, OtherSubject, TooLarge, OtherSubject, OtherSubject]);
    assert_eq!(server.count("GET", &listed[3].digest.to_string()), 0, "what is too large is not read");
}

#[tokio::test]
async fn more_than_the_limits_allow_is_an_error() {
    let subject = artifact("subject", None);
    let pushes: Vec<_> = ["a", "b", "c"].iter().map(|layer| artifact(layer, Some(&subject))).collect();
    let listed: Vec<_> = pushes.iter().map(descriptor).collect();
    let total: u64 = listed.iter().map(|entry| entry.size).sum();
    let server = lying(listed.clone(), pushes.clone()).await;
    let (client, name) = (client(server.addr), repository("a/b"));
    for (limits, fine) in [
        (limits(|limits| limits.max_referrers = 3), true),
        (limits(|limits| limits.max_referrers = 2), false),
        (limits(|limits| limits.max_pages = 1), true),
        (limits(|limits| limits.max_pages = 0), false),
        (limits(|limits| limits.max_total_bytes = total), true),
        (limits(|limits| limits.max_total_bytes = total - 1), false),
    ] {
        let found = verified_referrers(&client, (&name, &subject.digest), None, &limits).await;
        match found {
            Ok(found) => assert!(fine && found.referrers.len() == 3, "{limits:?}"),
            Err(ReferrersError::Limit { .. }) => assert!(!fine, "{limits:?}"),
            Err(error) => panic!("{limits:?}: {error:?}"),
        }
    }
    // Who lists one byte has it read, and not believed.
    let mut small = listed;
    small[1].size = 1;
    let server = lying(small, pushes).await;
    let found = verified_referrers(
        &crate::client::client(server.addr),
        (&name, &subject.digest),
        None,
        &ReferrerLimits::default(),
    )
    .await;
    assert!(matches!(found, Err(ReferrersError::Size { listed: 1, .. })), "{found:?}");
}

#[tokio::test]
async fn a_registry_that_refuses_is_no_empty_list() {
    let server = Script::start(|_| Reply::new(403)).await;
    let (subject, name) = (Digest::sha256_of(b"x"), repository("a/b"));
    let client = client(server.addr);
    let found = verified_referrers(&client, (&name, &subject), None, &ReferrerLimits::default()).await;
    assert!(matches!(&found, Err(ReferrersError::Registry { source, .. }) if source.is_unauthorized()), "{found:?}");
}
