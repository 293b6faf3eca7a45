//! Digests of unknown kind.

use std::time::Duration;

use blob_core::Digest;
use blob_registry::{ErrorCode, Kind, KindHint, Kinds, resolve_any};
use tokio::time::Instant;

use crate::kit::{Scripted, code, descriptor, memory, put_artifact, repository};

const ROUND_TRIP: Duration = Duration::from_millis(20);
const SLOW_MISS: Duration = Duration::from_secs(8);

#[tokio::test(start_paused = true)]
async fn a_slow_miss_of_a_manifest_costs_a_blob_nothing() {
    let inner = memory();
    let manifest = put_artifact(&*inner, "a", "layer", &[]).await;
    let registry = Scripted::new(inner);
    registry.delay("stat_blob", ROUND_TRIP);
    registry.delay("resolve", SLOW_MISS);
    let (name, layer) = (repository("a"), Digest::sha256_of(b"layer"));
    let begun = Instant::now();
    assert_eq!(resolve_any(&registry, &name, &layer, None).await.unwrap(), Kind::Blob { size: 5 });
    assert_eq!(begun.elapsed(), ROUND_TRIP);
    assert_eq!(registry.take("resolve"), 0, "a blob that answers at once is the only question");
    // Slower than the head start: the manifest is asked for meanwhile, and the blob still wins.
    registry.delay("stat_blob", Duration::from_millis(300));
    let begun = Instant::now();
    assert_eq!(resolve_any(&registry, &name, &layer, None).await.unwrap(), Kind::Blob { size: 5 });
    assert_eq!((begun.elapsed(), registry.take("resolve")), (Duration::from_millis(300), 1));
    // And a manifest does not wait for the blob's slow miss.
    registry.delay("stat_blob", SLOW_MISS);
    registry.delay("resolve", ROUND_TRIP);
    let begun = Instant::now();
    let kind = resolve_any(&registry, &name, &manifest.digest, None).await.unwrap();
    assert_eq!(kind, Kind::Manifest(descriptor(&manifest)));
    assert_eq!(begun.elapsed(), Duration::from_millis(50) + ROUND_TRIP);
}

#[tokio::test(start_paused = true)]
async fn a_quick_miss_of_a_blob_starts_the_manifest_at_once() {
    let inner = memory();
    let manifest = put_artifact(&*inner, "a", "layer", &[]).await;
    let registry = Scripted::new(inner);
    registry.delay("stat_blob", ROUND_TRIP);
    registry.delay("resolve", ROUND_TRIP);
    let begun = Instant::now();
    resolve_any(&registry, &repository("a"), &manifest.digest, None).await.unwrap();
    assert_eq!(begun.elapsed(), 2 * ROUND_TRIP);
}

#[tokio::test]
async fn hints_are_asked_first_and_need_not_be_right() {
    let inner = memory();
    let manifest = put_artifact(&*inner, "a", "layer", &[]).await;
    let (registry, name, layer) = (Scripted::new(inner), repository("a"), Digest::sha256_of(b"layer"));
    for (digest, hint, blobs, manifests) in [
        (layer, KindHint::Blob, 1, 0),
        (layer, KindHint::Manifest, 1, 1),
        (manifest.digest, KindHint::Manifest, 0, 1),
        (manifest.digest, KindHint::Blob, 1, 1),
    ] {
        let kind = resolve_any(&registry, &name, &digest, Some(hint)).await.unwrap();
        assert_eq!(matches!(kind, Kind::Blob { .. }), digest == layer);
        assert_eq!((registry.take("stat_blob"), registry.take("resolve")), (blobs, manifests), "{hint:?}");
    }
}

#[tokio::test]
async fn answers_are_remembered_and_failures_are_not() {
    let inner = memory();
    put_artifact(&*inner, "a", "layer", &[]).await;
    let (registry, kinds) = (Scripted::new(inner), Kinds::new());
    let (name, layer) = (repository("a"), Digest::sha256_of(b"layer"));
    let ask = async |digest| kinds.resolve(&registry, &name, &digest, None).await;
    assert!(ask(Digest::sha256_of(b"absent")).await.unwrap_err().is_not_found());
    registry.fail_with(Some(ErrorCode::Unauthorized));
    assert_eq!(code(ask(layer).await), ErrorCode::Unauthorized);
    registry.fail_with(None);
    registry.take_all();
    for _ in 0..3 {
        assert_eq!(ask(layer).await.unwrap(), Kind::Blob { size: 5 });
    }
    assert_eq!(registry.take("stat_blob"), 1);
    let elsewhere = kinds.resolve(&registry, &repository("b"), &layer, None).await;
    assert!(elsewhere.unwrap_err().is_not_found(), "another repository is another question");
}
