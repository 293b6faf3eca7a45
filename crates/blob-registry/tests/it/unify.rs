//! Several registries as one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use blob_core::Digest;
use blob_registry::filter::ReadOnly;
use blob_registry::{
    ErrorCode, Mount, PageRequest, PushedBlob, ReadPolicy, Registry, RegistryError, TagPolicy, Unify, UnifyOptions,
    WritePolicy,
};
use proptest::prelude::*;

use crate::kit::{
    Scripted, artifact, blob, code, every_repository, every_tag, memory, put, put_artifact, read, repository, tag,
};

mod clauses;
mod fill;

fn options(change: impl FnOnce(&mut UnifyOptions)) -> UnifyOptions {
    let mut options = UnifyOptions::default();
    change(&mut options);
    options
}

/// A union of `members`, which count.
fn union(members: &[&Scripted], options: UnifyOptions) -> Unify {
    Unify::new(members.iter().map(|&member| Arc::new(member.clone()) as Arc<dyn Registry>).collect(), options)
}

fn three() -> [Scripted; 3] {
    [(); 3].map(|()| Scripted::new(memory()))
}

#[tokio::test]
async fn content_comes_from_whoever_has_it() {
    for policy in [ReadPolicy::Sequential, ReadPolicy::Race, ReadPolicy::Random] {
        let [a, b, c] = three();
        let manifest = put_artifact(&c, "x", "layer", &["v1"]).await;
        let all = union(&[&a, &b, &c], options(|options| options.read = policy));
        let (name, layer) = (repository("x"), Digest::sha256_of(b"layer"));
        assert_eq!(read(&all, "x", &layer).await, "layer");
        assert_eq!(all.stat_blob(&name, &layer).await.unwrap(), 5);
        assert!(all.local_blob(&name, &layer).await.unwrap().is_some());
        for target in [manifest.digest.into(), tag("v1").into()] {
            assert_eq!(all.manifest(&name, &target).await.unwrap().bytes, manifest.bytes, "{policy:?}");
            assert_eq!(all.resolve(&name, &target).await.unwrap().digest, manifest.digest, "{policy:?}");
        }
        let error = all.read_blob(&name, &layer, Some(3..9)).await.unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::RangeInvalid, "{policy:?}");
        assert!(all.stat_blob(&name, &Digest::sha256_of(b"absent")).await.unwrap_err().is_not_found());
    }
    let nobody = union(&[], UnifyOptions::default());
    assert!(nobody.resolve(&repository("x"), &tag("v1").into()).await.unwrap_err().is_unsupported());
    assert!(nobody.push_manifest(&repository("x"), artifact("x", None)).await.unwrap_err().is_unsupported());
    assert!(nobody.tags(&repository("x"), &PageRequest::first()).await.unwrap_err().is_unsupported());
}

#[tokio::test]
async fn in_a_sequence_only_those_are_asked_that_have_to_be() {
    let [a, b, c] = three();
    put(&b, "x", "layer").await;
    let all = union(&[&a, &b, &c], UnifyOptions::default());
    all.stat_blob(&repository("x"), &Digest::sha256_of(b"layer")).await.unwrap();
    assert_eq!([&a, &b, &c].map(|member| member.take("stat_blob")), [1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn in_a_race_the_quick_one_wins() {
    let [a, b, c] = three();
    for member in [&a, &b] {
        put(member, "x", "layer").await;
    }
    a.delay("stat_blob", Duration::from_mins(1));
    b.delay("stat_blob", Duration::from_millis(1));
    let all = union(&[&a, &b, &c], options(|options| options.read = ReadPolicy::Race));
    let begun = tokio::time::Instant::now();
    all.stat_blob(&repository("x"), &Digest::sha256_of(b"layer")).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(1));
    assert_eq!([&a, &b, &c].map(|member| member.take("stat_blob")), [1, 1, 1]);
}

#[tokio::test]
async fn the_policy_says_whose_tags_count() {
    for read in [ReadPolicy::Sequential, ReadPolicy::Race] {
        let [a, b, c] = three();
        let one = put_artifact(&b, "x", "one", &["v1", "b"]).await.digest;
        let two = put_artifact(&c, "x", "two", &["v1"]).await.digest;
        // The slower one counts all the same.
        b.delay("resolve", Duration::from_millis(5));
        let resolve = async |policy, name: &str| {
            let all = union(&[&a, &b, &c], options(|options| (options.tags, options.read) = (policy, read)));
            let by_resolve = all.resolve(&repository("x"), &tag(name).into()).await.map(|found| found.digest);
            let by_manifest = all.manifest(&repository("x"), &tag(name).into()).await;
            assert_eq!(by_resolve.as_ref().ok(), by_manifest.as_ref().map(|found| &found.descriptor.digest).ok());
            by_resolve
        };
        assert_eq!(resolve(TagPolicy::First, "v1").await.unwrap(), one);
        assert_eq!(resolve(TagPolicy::Last, "v1").await.unwrap(), two);
        assert_eq!(resolve(TagPolicy::Last, "b").await.unwrap(), one, "the last that knows it");
        assert_eq!(resolve(TagPolicy::Agree, "b").await.unwrap(), one);
        let conflict = resolve(TagPolicy::Agree, "v1").await.unwrap_err();
        let text = conflict.to_string();
        assert!(matches!(conflict, RegistryError::Conflict { .. }), "{conflict:?}");
        assert!(text.contains(&one.to_string()) && text.contains(&two.to_string()), "{text}");
        assert!(resolve(TagPolicy::Agree, "none").await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn not_found_is_said_only_if_all_say_so() {
    for policy in [ReadPolicy::Sequential, ReadPolicy::Race] {
        for (failure, seen) in [
            (ErrorCode::Unauthorized, ErrorCode::Unauthorized),
            (ErrorCode::Denied, ErrorCode::Denied),
            (ErrorCode::TooManyRequests, ErrorCode::TooManyRequests),
            (ErrorCode::ManifestUnknown, ErrorCode::ManifestUnknown),
        ] {
            for failing in 0..3 {
                let members = three();
                members[failing].fail_with(Some(failure));
                let [a, b, c] = &members;
                let all = union(&[a, b, c], options(|options| options.read = policy));
                let (name, digest) = (repository("x"), Digest::sha256_of(b"absent"));
                for target in [digest.into(), tag("v1").into()] {
                    assert_eq!(code(all.resolve(&name, &target).await).status(), seen.status(), "{failing}");
                }
                assert_eq!(code(all.tags(&name, &PageRequest::first()).await).status(), seen.status());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_fails_for_the_moment_is_asked_last_for_a_while() {
    let [a, b, _] = three();
    for member in [&a, &b] {
        put_artifact(member, "x", "layer", &["v1"]).await;
        member.take_all();
    }
    let all = union(&[&a, &b], UnifyOptions::default());
    let (name, layer) = (repository("x"), Digest::sha256_of(b"layer"));
    let ask = async || {
        all.stat_blob(&name, &layer).await.unwrap();
        all.resolve(&name, &tag("v1").into()).await.unwrap();
        let counts = |member: &Scripted| member.take("stat_blob") + member.take("resolve");
        [counts(&a), counts(&b)]
    };
    assert_eq!(ask().await, [2, 0]);
    a.fail_with(Some(ErrorCode::TooManyRequests));
    assert_eq!(ask().await, [1, 2], "once, and not again");
    a.fail_with(None);
    assert_eq!(ask().await, [0, 2], "it rests");
    b.fail_with(Some(ErrorCode::TooManyRequests));
    all.stat_blob(&name, &layer).await.expect("who rests is better than nobody");
    b.fail_with(None);
    tokio::time::advance(Duration::from_secs(2)).await;
    all.stat_blob(&name, &layer).await.unwrap();
    a.take_all();
    b.take_all();
    assert_eq!(ask().await, [2, 0], "it is well again");
}

#[tokio::test]
async fn lists_are_merged_and_come_without_whoever_fails() {
    let [a, b, c] = three();
    let one = put_artifact(&a, "x", "one", &["v1", "v3"]).await;
    put_artifact(&b, "x", "one", &["v2", "v3"]).await;
    put(&b, "y", "only here").await;
    c.fail_with(Some(ErrorCode::TooManyRequests));
    let all = union(&[&a, &b, &c], UnifyOptions::default());
    assert_eq!(every_tag(&all, "x", Some(1)).await, ["v1", "v2", "v3"]);
    assert_eq!(every_repository(&all, None).await, ["x", "y"]);
    // Of referrers nobody may be missing.
    c.fail_with(None);
    let mut expected = BTreeSet::new();
    for (member, layers) in [(&a, ["s1", "s2"]), (&b, ["s2", "s3"])] {
        for layer in layers {
            put(member, "x", layer).await;
            let referrer = artifact(layer, Some(&one));
            expected.insert(referrer.digest);
            member.push_manifest(&repository("x"), referrer).await.unwrap();
        }
    }
    for limit in [1, 2, 10] {
        let (mut seen, mut request) = (Vec::new(), PageRequest::first().limit(limit));
        loop {
            let page = all.referrers(&repository("x"), &one.digest, None, &request).await.unwrap();
            assert!(page.items.len() <= limit);
            seen.extend(page.items.into_iter().map(|entry| entry.digest));
            let Some(next) = page.next else { break };
            request.after = Some(next);
        }
        assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (3, expected.clone()));
    }
}

#[tokio::test]
async fn writes_go_to_the_first_or_to_all() {
    for (policy, copies) in [(WritePolicy::First, [true, false]), (WritePolicy::All, [true, true])] {
        let [a, b, _] = three();
        let all = union(&[&a, &b], options(|options| options.write = policy));
        let manifest = put_artifact(&all, "x", "layer", &["v1"]).await;
        let mut upload = all.start_upload(&repository("x")).await.unwrap();
        upload.append("in ".into()).await.unwrap();
        let mut upload = all.resume_upload(&repository("x"), &upload.id()).await.unwrap();
        upload.append("pieces".into()).await.unwrap();
        let pieces = Digest::sha256_of(b"in pieces");
        upload.commit(&pieces).await.unwrap();
        for (member, has) in [&a, &b].into_iter().zip(copies) {
            assert_eq!(member.resolve(&repository("x"), &tag("v1").into()).await.is_ok(), has, "{policy:?}");
            assert_eq!(member.stat_blob(&repository("x"), &pieces).await.is_ok(), has, "{policy:?}");
        }
        all.delete_manifest(&repository("x"), &manifest.digest).await.unwrap();
        assert!(all.resolve(&repository("x"), &manifest.digest.into()).await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn a_half_success_says_which_half() {
    let [a, b, c] = three();
    let all = union(&[&a, &b, &c], options(|options| options.write = WritePolicy::All));
    b.fail_with(Some(ErrorCode::Denied));
    let error = all.push_blob(&repository("x"), blob("{}")).await.unwrap_err();
    assert!(error.to_string().ends_with("done in registries 1, 3, not in registry 2"), "{error}");
    assert_eq!(error.error_code(), ErrorCode::Denied);
    let RegistryError::Partial { succeeded, failed, .. } = error else { panic!("{error:?}") };
    assert_eq!((succeeded, failed), (vec![0, 2], vec![1]));
    // Doing it again completes it, and sends only what is missing.
    b.fail_with(None);
    assert_eq!(all.push_blob(&repository("x"), blob("{}")).await.unwrap(), PushedBlob::Uploaded);
    assert_eq!(all.push_blob(&repository("x"), blob("{}")).await.unwrap(), PushedBlob::Existing);
    // What the first refuses reaches no other.
    a.fail_with(Some(ErrorCode::Denied));
    b.take_all();
    assert_eq!(code(all.push_manifest(&repository("x"), artifact("{}", None)).await), ErrorCode::Denied);
    assert_eq!(b.take("push_manifest"), 0);
    a.fail_with(None);
    // It is enough to delete something where it is.
    put(&c, "x", "only here").await;
    let digest = Digest::sha256_of(b"only here");
    all.delete_blob(&repository("x"), &digest).await.unwrap();
    assert!(all.delete_blob(&repository("x"), &digest).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_mount_sends_bytes_only_where_they_are_missing() {
    let [a, b, _] = three();
    let all = union(&[&a, &b], options(|options| options.write = WritePolicy::All));
    let digest = put(&a, "from", "content").await;
    let (name, from) = (repository("x"), repository("from"));
    let Mount::Session(mut upload) = all.mount_blob(&name, &digest, Some(&from)).await.unwrap() else {
        panic!("one of them lacks it")
    };
    upload.append("content".into()).await.unwrap();
    upload.commit(&digest).await.unwrap();
    for member in [&a, &b] {
        assert_eq!(read(member, "x", &digest).await, "content");
    }
    put(&b, "from", "content").await;
    assert!(matches!(all.mount_blob(&repository("y"), &digest, Some(&from)).await.unwrap(), Mount::Mounted));
}

#[tokio::test]
async fn sessions_that_are_out_of_step_are_refused() {
    let [a, b, _] = three();
    let all = union(&[&a, &b], options(|options| options.write = WritePolicy::All));
    let name = repository("x");
    let id = all.start_upload(&name).await.unwrap().id();
    for wrong in ["", "0", "0.", "0.!", "9.eA", "x.eA", &format!("{0}~{0}", id.as_str())] {
        let resumed = all.resume_upload(&name, &blob_registry::UploadId::new(wrong)).await.err().unwrap();
        assert_eq!(resumed.error_code(), ErrorCode::BlobUploadUnknown, "{wrong}");
    }
    let only_first = union(&[&a], options(|options| options.write = WritePolicy::All));
    let first_id = id.as_str().split('~').next().unwrap();
    let mut ahead = only_first.resume_upload(&name, &blob_registry::UploadId::new(first_id)).await.unwrap();
    ahead.append("x".into()).await.unwrap();
    let resumed = all.resume_upload(&name, &id).await.err().unwrap();
    assert_eq!(resumed.error_code(), ErrorCode::BlobUploadInvalid);
}

/// Which members have a name.
type Spread = Vec<(String, [bool; 3])>;

fn spread() -> impl Strategy<Value = Spread> {
    let name = "[a-c](/[a-c]|-[a-c])?";
    proptest::collection::btree_map(name, proptest::array::uniform3(any::<bool>()), 0..16)
        .prop_map(|names| names.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_of_unions_are_exact(spread in spread(), limit in proptest::option::of(1_usize..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let members = three();
            let mut expected = Vec::new();
            for member in &members {
                put_artifact(member, "tagged", "layer", &[]).await;
            }
            for (name, there) in &spread {
                for (member, _) in members.iter().zip(there).filter(|(_, there)| **there) {
                    put(member, name, "x").await;
                    let tagged = artifact("layer", None).with_tags([tag(&name.replace('/', "."))]);
                    member.push_manifest(&repository("tagged"), tagged).await.unwrap();
                }
                if there.contains(&true) {
                    expected.push(name.clone());
                }
            }
            let [a, b, c] = &members;
            let all = union(&[a, b, c], UnifyOptions::default());
            let tags: BTreeSet<String> = expected.iter().map(|name| name.replace('/', ".")).collect();
            assert_eq!(every_tag(&all, "tagged", limit).await, tags.into_iter().collect::<Vec<_>>());
            expected.push("tagged".into());
            assert_eq!(every_repository(&all, limit).await, expected);
        });
    }
}

#[tokio::test]
async fn a_member_that_cannot_write_is_only_read() {
    let theirs = memory();
    put_artifact(&*theirs, "x", "layer", &["v1"]).await;
    let all = Unify::new(vec![memory(), Arc::new(ReadOnly::new(theirs))], UnifyOptions::default());
    put_artifact(&all, "x", "mine", &["v2"]).await;
    assert_eq!(every_tag(&all, "x", None).await, ["v1", "v2"]);
}

/// With registries of different people, the next one has no say while the first one cannot be asked.
#[tokio::test]
async fn strict_tags_are_those_of_the_first_that_can_know() {
    let (ours, theirs) = (Scripted::new(memory()), Scripted::new(memory()));
    let (mine, other) =
        (put_artifact(&ours, "x", "ours", &["v1"]).await, put_artifact(&theirs, "x", "theirs", &["v1", "v2"]).await);
    let at = |name: &str| blob_registry::Target::from(tag(name));
    for read in [ReadPolicy::Sequential, ReadPolicy::Race, ReadPolicy::Random] {
        let all = union(&[&ours, &theirs], options(|options| (options.tags, options.read) = (TagPolicy::Strict, read)));
        assert_eq!(all.resolve(&repository("x"), &at("v1")).await.unwrap().digest, mine.digest);
        assert_eq!(all.resolve(&repository("x"), &at("v2")).await.unwrap().digest, other.digest, "nobody else has it");
        for code in [ErrorCode::TooManyRequests, ErrorCode::Denied, ErrorCode::Unauthorized, ErrorCode::Unknown] {
            ours.fail_with(Some(code));
            for name in ["v1", "v2"] {
                assert_eq!(all.manifest(&repository("x"), &at(name)).await.unwrap_err().error_code(), code);
            }
            // Content is the same wherever it comes from.
            all.manifest(&repository("x"), &other.digest.into()).await.unwrap();
            ours.fail_with(None);
        }
    }
}

/// A list of referrers from which somebody is missing would say that there is no signature.
#[tokio::test]
async fn referrers_are_those_of_all_or_an_error() {
    let (near, far) = (Scripted::new(memory()), Scripted::new(memory()));
    let subject = put_artifact(&near, "x", "subject", &["v1"]).await;
    let digest = subject.digest;
    let ask = async |all: &Unify| all.referrers(&repository("x"), &digest, None, &PageRequest::first()).await;
    for options in [UnifyOptions::default(), UnifyOptions::cache()] {
        let all = union(&[&near, &far], options);
        assert_eq!(ask(&all).await.unwrap().items, []);
        for code in [ErrorCode::TooManyRequests, ErrorCode::Denied, ErrorCode::Unauthorized, ErrorCode::Unknown] {
            far.fail_with(Some(code));
            assert_eq!(ask(&all).await.unwrap_err().error_code(), code);
        }
        // Who has no such repository, or no such lists, has nothing to say about it.
        for code in [ErrorCode::NameUnknown, ErrorCode::Unsupported] {
            far.fail_with(Some(code));
            assert_eq!(ask(&all).await.unwrap().items, []);
        }
        far.fail_with(None);
    }
}
