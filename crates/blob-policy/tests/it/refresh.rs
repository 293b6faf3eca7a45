//! Trust roots from a TUF repository on loopback, from its cache, and from neither.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use blob_policy::sigstore::{TrustRootError, TrustRootSource};
use blob_testkit::sigstore::{Files, Instance, Publisher};

const FAR: &str = Publisher::FAR;
const PAST: &str = Publisher::PAST;

/// Publishes a trust root alone.
fn publish(publisher: &Publisher, files: &Files, trusted_root: &str, version: u64, expires: &str) {
    publisher.publish(files, (trusted_root, "{}"), version, expires);
}

fn is_refused(result: &Result<impl std::fmt::Debug, TrustRootError>) {
    assert!(matches!(result, Err(TrustRootError::Refresh { .. })), "{result:?}");
}

#[tokio::test]
async fn the_newest_is_fetched_and_the_last_known_is_kept() {
    let (publisher, files, cache) = (Publisher::new(), Files::default(), tempfile::tempdir().unwrap());
    let url = files.serve().unwrap();
    let source = TrustRootSource::custom(&url, &publisher.root()).cache_dir(cache.path());
    let source = source.timeout(Duration::from_secs(30));
    is_refused(&source.offline().await);
    is_refused(&source.refresh().await);
    let (one, two) = (Instance::start().unwrap(), Instance::start().unwrap());
    publish(&publisher, &files, &one.trusted_root(), 1, FAR);
    let first = source.refresh().await.unwrap();
    assert!(first.stale.is_none());
    assert_eq!(source.offline().await.unwrap().digest(), first.root.digest());
    publish(&publisher, &files, &two.trusted_root(), 2, FAR);
    let second = source.refresh().await.unwrap();
    assert!(second.stale.is_none() && second.root.digest() != first.root.digest());
    // Nobody answers, an older version is served, another key signed, bytes are changed: the last known stays.
    let good = files.change(|files| files.clone());
    let damage: [&dyn Fn(); 4] = [
        &|| files.change(BTreeMap::clear),
        &|| publish(&publisher, &files, &one.trusted_root(), 1, FAR),
        &|| publish(&Publisher::new(), &files, &one.trusted_root(), 3, FAR),
        &|| files.change(|files| files.get_mut("timestamp.json").unwrap()[40] ^= 1),
    ];
    for (at, damage) in damage.iter().enumerate() {
        files.change(|files| files.clone_from(&good));
        damage();
        let kept = source.refresh().await.unwrap();
        assert!(kept.stale.is_some(), "case {at}");
        assert_eq!(kept.root.digest(), second.root.digest(), "case {at}");
        // Without a cache there is nothing to keep.
        if at != 1 {
            is_refused(&TrustRootSource::custom(&url, &publisher.root()).refresh().await);
        }
    }
}

#[cfg(feature = "sign")]
#[tokio::test]
async fn the_services_are_fetched_too() {
    use blob_policy::sign::Services;

    let (publisher, files, cache) = (Publisher::new(), Files::default(), tempfile::tempdir().unwrap());
    let instance = Instance::start().unwrap();
    let source = TrustRootSource::custom(&files.serve().unwrap(), &publisher.root()).cache_dir(cache.path());
    is_refused(&source.signing_config().await);
    publisher.publish(&files, (&instance.trusted_root(), &instance.signing_config(true)), 1, FAR);
    let expect = Services::from_signing_config(instance.signing_config(true).as_bytes(), None).unwrap();
    // The second time from the cache.
    for _ in 0..2 {
        let fetched = source.signing_config().await.unwrap();
        assert_eq!(Services::from_signing_config(&fetched, None).unwrap(), expect);
        files.change(BTreeMap::clear);
    }
}

#[tokio::test]
async fn what_expired_or_was_changed_in_the_cache_is_not_used() {
    let (publisher, files, cache) = (Publisher::new(), Files::default(), tempfile::tempdir().unwrap());
    let instance = Instance::start().unwrap();
    let source = TrustRootSource::custom(&files.serve().unwrap(), &publisher.root()).cache_dir(cache.path());
    publish(&publisher, &files, &instance.trusted_root(), 1, PAST);
    is_refused(&source.refresh().await);
    publish(&publisher, &files, &instance.trusted_root(), 2, FAR);
    source.refresh().await.unwrap();
    files.change(BTreeMap::clear);
    source.refresh().await.unwrap();
    // Whoever writes to the cache cannot make a trust root of it.
    let mut changed = 0;
    let mut directories = vec![cache.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.to_string_lossy().contains("trusted_root") {
                let bytes = std::fs::read_to_string(&path).unwrap().replace("2020-01-01", "2019-01-01");
                std::fs::write(&path, bytes).unwrap();
                changed += 1;
            }
        }
    }
    assert!(changed > 0, "the cache holds the trust root");
    is_refused(&source.offline().await);
    is_refused(&source.refresh().await);
}

#[tokio::test]
async fn well_known_instances_work_offline_or_say_that_they_cannot() {
    let cache = tempfile::tempdir().unwrap();
    for source in [TrustRootSource::production(), TrustRootSource::github()] {
        is_refused(&source.clone().offline().await);
        is_refused(&source.cache_dir(cache.path()).offline().await);
    }
}

#[tokio::test]
async fn what_is_recent_is_not_asked_for_again() {
    let (publisher, files, cache) = (Publisher::new(), Files::default(), tempfile::tempdir().unwrap());
    let (one, two) = (Instance::start().unwrap(), Instance::start().unwrap());
    let source = TrustRootSource::custom(&files.serve().unwrap(), &publisher.root()).cache_dir(cache.path());
    let source = source.max_age(Duration::from_hours(1));
    publish(&publisher, &files, &one.trusted_root(), 1, FAR);
    let first = source.refresh().await.unwrap();
    let asked = files.requests();
    assert!(asked > 0);
    publish(&publisher, &files, &two.trusted_root(), 2, FAR);
    assert_eq!(source.refresh().await.unwrap().root.digest(), first.root.digest());
    assert_eq!(files.requests(), asked);
    // Once it is old, or said to be of the future, or damaged, there is a request again.
    let note = cache.path().join("refreshed");
    let date = |time| std::fs::File::options().write(true).open(&note).unwrap().set_modified(time).unwrap();
    date(SystemTime::now() - Duration::from_hours(2));
    let second = source.refresh().await.unwrap();
    assert!(second.root.digest() != first.root.digest() && files.requests() > asked);
    date(SystemTime::now() + Duration::from_hours(2));
    let asked = files.requests();
    source.refresh().await.unwrap();
    assert!(files.requests() > asked);
}

#[test]
fn the_repositories_that_are_known_need_no_root() {
    for (url, known) in [
        ("https://tuf-repo-cdn.sigstore.dev", true),
        ("https://tuf-repo-cdn.sigstore.dev/", true),
        ("https://tuf-repo.github.com", true),
        ("https://tuf-repo-cdn.sigstore.dev.example.com", false),
        ("http://tuf-repo-cdn.sigstore.dev", false),
        ("", false),
    ] {
        assert_eq!(TrustRootSource::well_known(url).is_some(), known, "{url}");
    }
}
