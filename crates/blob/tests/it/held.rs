//! Evidence that is kept for clients that are offline: it admits what was verified once, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use blob::cache::{CacheDir, CacheOptions, TagCache as _, TagEntry};
use blob::core::{ByteSourceExt as _, Cache as _, Digest};
use blob::policy::sign::KeyedSigner;
use blob::registry::Registry as _;
use blob::{Client, ClientBuilder, Error, ErrorKind, PullOptions, SignOptions, VerifyOptions};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::bypass::{Bench, chain};
use crate::support::client;

const KEY: &str = "signature: {key: {path: key.pub, transparency_log: none}}";
const OTHER: &str = "signature: {key: {path: other.pub, transparency_log: none}}";

/// A client that judges anew each time.
fn judging(bench: &Bench, policy: &str, cache: &Path) -> ClientBuilder {
    Client::builder().policies_from(bench.set(policy)).verdict_ttl(Duration::ZERO).cache_dir(cache)
}

async fn offline(bench: &Bench, policy: &str, cache: &Path) -> Result<Option<SystemTime>, Error> {
    let away = judging(bench, policy, cache).offline().build().unwrap();
    let opened = away.pull(&bench.location(), &PullOptions::default()).await;
    let verified = away.verify(&bench.location(), &VerifyOptions::default()).await?;
    assert_eq!(away.traffic().requests, 0);
    assert_eq!(verified.is_admitted(), opened.is_ok());
    match opened {
        Ok(archive) => assert!(archive.manifest().is_verified()),
        Err(error) => assert_eq!(error.kind(), verified.into_error().unwrap().kind(), "{}", chain(&error)),
    }
    let again = away.verify(&bench.location(), &VerifyOptions::default()).await?;
    let listed_at = again.evidence_listed_at();
    again.into_error().map_or(Ok(listed_at), Err)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_verified_once_is_verified_offline() {
    let (bench, cache) = (Bench::new().await, tempfile::tempdir().unwrap());
    let cache = cache.path();
    client().sign(&bench.location(), &KeyedSigner::new(bench.key.clone()), &SignOptions::default()).await.unwrap();
    // Who opened it without a verdict knows the archive, and nothing about it.
    let careless = Client::builder().cache_dir(cache).build().unwrap();
    careless.pull(&bench.location(), &PullOptions::default()).await.unwrap();
    let missing = offline(&bench, KEY, cache).await.unwrap_err();
    assert!(missing.is_offline() && missing.kind() == ErrorKind::Network, "{}", chain(&missing));
    assert!(chain(&missing).contains("the cache does not have the list of referrers"), "{}", chain(&missing));

    let online = judging(&bench, KEY, cache).build().unwrap();
    let verified = online.verify(&bench.location(), &VerifyOptions::default()).await.unwrap();
    assert!(verified.is_admitted() && verified.evidence_listed_at().is_none());
    let listed_at = offline(&bench, KEY, cache).await.unwrap().unwrap();
    assert!(listed_at.elapsed().unwrap() < Duration::from_mins(10));
    // It is judged anew, by whatever policy asks.
    let refused = offline(&bench, OTHER, cache).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Verification, "{}", chain(&refused));
    // What came later is not known offline, and is once it was asked for.
    client().sign(&bench.location(), &KeyedSigner::new(bench.other.clone()), &SignOptions::default()).await.unwrap();
    offline(&bench, OTHER, cache).await.unwrap_err();
    judging(&bench, OTHER, cache).build().unwrap().pull(&bench.location(), &PullOptions::default()).await.unwrap();
    offline(&bench, OTHER, cache).await.unwrap();
    offline(&bench, KEY, cache).await.unwrap();
    // Without the layers that it is in, nothing is kept.
    let bare = tempfile::tempdir().unwrap();
    let partly = || judging(&bench, KEY, bare.path()).without_cache(blob::Layer::Manifests);
    partly().build().unwrap().pull(&bench.location(), &PullOptions::default()).await.unwrap();
    partly().offline().build().unwrap().pull(&bench.location(), &PullOptions::default()).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_list_says_counts_offline_alone() {
    let (bench, cache) = (Bench::new().await, tempfile::tempdir().unwrap());
    let (cache, signer) = (cache.path(), KeyedSigner::new(bench.key.clone()));
    let signed = client().sign(&bench.location(), &signer, &SignOptions::default()).await.unwrap();
    let lasting = || Client::builder().policies_from(bench.set(KEY)).cache_dir(cache);
    let options = PullOptions::default();
    judging(&bench, KEY, cache).build().unwrap().pull(&bench.location(), &options).await.unwrap();
    // The signature is taken back; who is offline cannot know, who is online does.
    bench.hostile.inner.delete_manifest(&bench.repository, &signed.referrer.unwrap()).await.unwrap();
    let away = lasting().offline().build().unwrap();
    away.pull(&bench.location(), &options).await.unwrap();
    let error = lasting().build().unwrap().pull(&bench.location(), &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification, "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_relies_on_no_old_list_and_leaves_none() {
    let (bench, cache) = (Bench::new().await, tempfile::tempdir().unwrap());
    let (cache, signer) = (cache.path(), KeyedSigner::new(bench.key.clone()));
    client().sign(&bench.location(), &signer, &SignOptions::default()).await.unwrap();
    let online = judging(&bench, KEY, cache).build().unwrap();
    online.pull(&bench.location(), &PullOptions::default()).await.unwrap();
    let away = judging(&bench, KEY, cache).offline().build().unwrap();
    let pinned = bench.location().with_target(bench.digest.into());
    let error = away.sign(&pinned, &signer, &SignOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{}", chain(&error));
    // There is one more now: what was listed before is no answer to who signed.
    online.sign(&bench.location(), &KeyedSigner::new(bench.other.clone()), &SignOptions::default()).await.unwrap();
    let error = offline(&bench, OTHER, cache).await.unwrap_err();
    assert!(error.is_offline(), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_what_was_kept_admits_nothing() {
    let (bench, cache) = (Bench::new().await, tempfile::tempdir().unwrap());
    let cache = cache.path();
    client().sign(&bench.location(), &KeyedSigner::new(bench.key.clone()), &SignOptions::default()).await.unwrap();
    judging(&bench, KEY, cache).build().unwrap().pull(&bench.location(), &PullOptions::default()).await.unwrap();
    let kept = files(cache);
    let wanted = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        ["dev.sigstore", "\"referrers\"", "about 127.0.0.1"].iter().any(|part| text.contains(part))
    };
    let mut damaged = 0;
    for path in kept {
        let whole = fs::read(&path).unwrap();
        if !wanted(&whole) {
            continue;
        }
        damaged += 1;
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            rewrite(&path, &bytes);
            let error = offline(&bench, KEY, cache).await.unwrap_err();
            assert!(error.is_offline(), "{} {at}: {}", path.display(), chain(&error));
            // Damage is dropped: it is as it was again.
            rewrite(&path, &whole);
            offline(&bench, KEY, cache).await.unwrap();
        }
    }
    assert!(damaged >= 4, "the bundle, its manifest, the list, and what it is found by: {damaged}");
}

/// Writes a file that may be read-only, or gone with its folder.
fn rewrite(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_lies_admits_nothing() {
    let (bench, foreign) = (Bench::new().await, Bench::new().await);
    let cache = tempfile::tempdir().unwrap();
    // A genuine signature, with the very key, of another archive: it is in the cache by its digest.
    let signer = KeyedSigner::new(bench.key.clone());
    let signed = client().sign(&foreign.location(), &signer, &SignOptions::default()).await.unwrap();
    fs::copy(bench.dir.path().join("key.pub"), foreign.dir.path().join("key.pub")).unwrap();
    let theirs = judging(&foreign, KEY, cache.path()).build().unwrap();
    theirs.pull(&foreign.location(), &PullOptions::default()).await.unwrap();
    let ours = Client::builder().cache_dir(cache.path()).build().unwrap();
    ours.pull(&bench.location(), &PullOptions::default()).await.unwrap();
    let dir = CacheDir::open(cache.path(), CacheOptions::default()).unwrap();
    let keys = dir.tags().keys("bundles about ", 100).await.unwrap();
    let [theirs] = &keys[..] else { panic!("{keys:?}") };
    let entry = dir.tags().get(theirs).await.unwrap().unwrap();
    let found = dir.manifests().get(&entry.digest).await.unwrap().unwrap();
    let list = found.read(0..found.size()).await.unwrap();
    let list: Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list["referrers"][0]["digest"], signed.referrer.unwrap().to_string());
    let location = bench.location();
    let repository = location.reference().unwrap();
    let key = format!("bundles about {}/{}@{}", repository.host(), repository.repository(), bench.digest);
    let put = async |list: &Value, resolved_at: SystemTime| {
        let bytes = Bytes::from(serde_json::to_vec(list).unwrap());
        let digest = Digest::sha256_of(&bytes);
        if let Some(mut writer) = dir.manifests().begin(&digest, bytes.len() as u64).await.unwrap() {
            writer.write(bytes).await.unwrap();
            writer.commit().await.unwrap();
        }
        dir.tags().put(&key, &TagEntry { digest, resolved_at }).await.unwrap();
    };
    let about_ours =
        |referrers: Value| json!({"subject": bench.digest.to_string(), "name": "bundles", "referrers": referrers});
    let now = SystemTime::now();
    // Their list as it is, and under another name.
    for lie in
        [list.clone(), json!({"subject": bench.digest.to_string(), "name": "referrers", "referrers": []}), json!({})]
    {
        put(&lie, now).await;
        let error = offline(&bench, KEY, cache.path()).await.unwrap_err();
        assert!(chain(&error).contains("does not have the list of referrers"), "{}", chain(&error));
    }
    // Their signature in a list about ours.
    put(&about_ours(list["referrers"].clone()), now).await;
    let error = offline(&bench, KEY, cache.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification, "{}", chain(&error));
    assert!(chain(&error).contains("no signature found"), "{}", chain(&error));
    // More than is looked at, and what is not here.
    put(&about_ours(vec![list["referrers"][0].clone(); 257].into()), now).await;
    let error = offline(&bench, KEY, cache.path()).await.unwrap_err();
    assert!(chain(&error).contains("over the limit"), "{}", chain(&error));
    let mut gone = list["referrers"][0].clone();
    gone["digest"] = Digest::sha256_of(b"gone").to_string().into();
    put(&about_ours(vec![gone].into()), now).await;
    let error = offline(&bench, KEY, cache.path()).await.unwrap_err();
    assert!(error.is_offline(), "{}", chain(&error));
    // A size that a stranger made up takes nothing from the cache.
    let made_up =
        json!({"mediaType": list["referrers"][0]["mediaType"], "digest": bench.digest.to_string(), "size": 5});
    put(&about_ours(vec![made_up].into()), now).await;
    for _ in 0..2 {
        offline(&bench, KEY, cache.path()).await.unwrap_err();
        assert!(dir.manifests().get(&bench.digest).await.unwrap().is_some());
    }
    // Asked in the future.
    put(&about_ours(vec![list["referrers"][0].clone()].into()), now + Duration::from_hours(1)).await;
    let error = offline(&bench, KEY, cache.path()).await.unwrap_err();
    assert!(error.is_offline(), "{}", chain(&error));
}
