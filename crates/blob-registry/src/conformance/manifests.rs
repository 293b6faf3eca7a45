//! Clauses about manifests and tags.

use blob_core::{Algorithm, Digest};
use bytes::Bytes;

use super::{all, artifact, assert_not_found, assert_wrong_content, get, push_of, put, source, supported, tag};
use crate::descriptor::{Descriptor, media_type};
use crate::error::ErrorCode;
use crate::manifest::ImageIndex;
use crate::reference::{Repository, Target};
use crate::registry::{MAX_MANIFEST_BYTES, PushBlob, PushManifest, Registry};

/// A manifest is found by digest and by tag, byte for byte.
pub async fn manifests_round_trip(registry: &dyn Registry, repository: &Repository) {
    let push = push_of(&artifact(registry, repository, "1").await);
    let by_digest = registry.push_manifest(repository, push.clone()).await.expect("a good manifest is taken");
    assert_eq!((by_digest.digest, by_digest.subject), (push.digest, None));
    assert_not_found(registry.resolve(repository, &tag("v1").into()).await, "a tag that was not set");
    let tagged = push.clone().with_tags([tag("v1")]);
    registry.push_manifest(repository, tagged).await.expect("the manifest can be tagged");
    let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &push.bytes);
    for target in [Target::from(push.digest), tag("v1").into()] {
        assert_eq!(registry.resolve(repository, &target).await.expect("it is there"), descriptor, "{target}");
        let manifest = registry.manifest(repository, &target).await.expect("it is there");
        assert_eq!((manifest.descriptor, manifest.bytes), (descriptor.clone(), push.bytes.clone()), "{target}");
    }
}

/// Manifests and tags that nobody pushed are not found.
pub async fn absent_manifests_are_not_found(registry: &dyn Registry, repository: &Repository) {
    for round in ["of an unknown repository", "of a known repository"] {
        for target in [Target::from(Digest::sha256_of(b"absent")), tag("absent").into()] {
            assert_not_found(registry.resolve(repository, &target).await, round);
            assert_not_found(registry.manifest(repository, &target).await, round);
        }
        put(registry, repository, b"a blob is no manifest").await;
    }
    let blob = Target::from(Digest::sha256_of(b"a blob is no manifest"));
    assert_not_found(registry.manifest(repository, &blob).await, "a blob");
}

/// A tag points at what was pushed last; what it pointed at is still there by digest.
pub async fn tags_move_and_manifests_stay(registry: &dyn Registry, repository: &Repository) {
    let one = push_of(&artifact(registry, repository, "1").await);
    let two = push_of(&artifact(registry, repository, "2").await);
    for push in [&one, &two, &one, &two] {
        let tagged = push.clone().with_tags([tag("v1")]);
        registry.push_manifest(repository, tagged).await.expect("a good manifest is taken");
        let now = registry.manifest(repository, &tag("v1").into()).await.expect("the tag is there");
        assert_eq!(now.bytes, push.bytes);
    }
    for push in [&one, &two] {
        let manifest = registry.manifest(repository, &push.digest.into()).await.expect("both are there");
        assert_eq!(manifest.bytes, push.bytes);
    }
    assert_eq!(registry.tags(repository, &all()).await.expect("there are tags").items, [tag("v1")]);
}

/// One push sets many tags.
pub async fn one_push_sets_many_tags(registry: &dyn Registry, repository: &Repository) {
    let tags = [tag("a"), tag("b"), tag("c")];
    let push = push_of(&artifact(registry, repository, "1").await).with_tags(tags.clone());
    registry.push_manifest(repository, push.clone()).await.expect("a good manifest is taken");
    assert_eq!(registry.tags(repository, &all()).await.expect("there are tags").items, tags);
    for tag in tags {
        assert_eq!(registry.resolve(repository, &tag.into()).await.expect("the tag is there").digest, push.digest);
    }
}

/// A conditional push moves a tag only from where the condition has it, or is not supported at all.
pub async fn conditions_are_honoured_or_refused(registry: &dyn Registry, repository: &Repository) {
    let push_if = |mark: &'static str, if_match| async move {
        let mut push = push_of(&artifact(registry, repository, mark).await).with_tags([tag("v1")]);
        push.if_match = if_match;
        (push.digest, registry.push_manifest(repository, push).await)
    };
    let (one, pushed) = push_if("1", None).await;
    pushed.expect("a good manifest is taken");
    let (two, refused) = push_if("2", Some(Digest::sha256_of(b"elsewhere"))).await;
    let error = refused.expect_err("the tag is elsewhere");
    let now = registry.resolve(repository, &tag("v1").into()).await.expect("the tag is there");
    assert_eq!(now.digest, one, "a refused push leaves the tag");
    if error.is_unsupported() {
        return;
    }
    assert_eq!(error.error_code(), ErrorCode::PreconditionFailed, "{error:?}");
    push_if("2", Some(one)).await.1.expect("the tag is where the condition has it");
    let now = registry.resolve(repository, &tag("v1").into()).await.expect("the tag is there");
    assert_eq!(now.digest, two);
}

/// Documents that are no manifests, ambiguous, mislabelled, too large or not what their digest says are refused.
pub async fn wrong_manifests_are_refused(registry: &dyn Registry, repository: &Repository) {
    let manifest = artifact(registry, repository, "1").await;
    let good = String::from_utf8(manifest.to_bytes()).expect("JSON is text");
    let document = |text: String| PushManifest::new(media_type::IMAGE_MANIFEST, text);
    let mut mislabelled = push_of(&manifest);
    mislabelled.media_type = media_type::IMAGE_INDEX.into();
    for (push, what) in [
        (document(String::new()), "nothing"),
        (document("{".into()), "half a document"),
        (document("[]".into()), "a list"),
        (document(good.replace("{\"schemaVersion\":2", "{\"schemaVersion\":2,\"schemaVersion\":2")), "duplicates"),
        (document(good.replace("\"layers\"", "\"manifests\":[],\"layers\"")), "both kinds at once"),
        (document(good.replace("sha256:4", "sha256:../")), "a digest that is none"),
        (mislabelled, "another media type"),
    ] {
        let digest = push.digest;
        let error = registry.push_manifest(repository, push.with_tags([tag("v1")])).await.err();
        let code = error.unwrap_or_else(|| panic!("{what} was taken")).error_code();
        assert_eq!(code, ErrorCode::ManifestInvalid, "{what}");
        assert_not_found(registry.manifest(repository, &digest.into()).await, what);
    }
    let mut wrong = push_of(&manifest);
    wrong.digest = Digest::sha256_of(b"something else");
    assert_wrong_content(registry.push_manifest(repository, wrong).await, "a wrong digest");
    let padding = " ".repeat(MAX_MANIFEST_BYTES as usize + 1 - good.len());
    let error = registry.push_manifest(repository, document(good + &padding)).await.expect_err("over the limit");
    assert_eq!(error.error_code(), ErrorCode::SizeInvalid, "{error:?}");
    assert_not_found(registry.resolve(repository, &tag("v1").into()).await, "the tag of refused manifests");
}

/// Blobs that a manifest names must be there; the subject need not, nor must the manifests of an index.
pub async fn what_manifests_name_must_exist(registry: &dyn Registry, repository: &Repository) {
    let mut manifest = artifact(registry, repository, "1").await;
    manifest.layers = vec![Descriptor::of("a/b", b"layer")];
    let refused = registry.push_manifest(repository, push_of(&manifest)).await.expect_err("the layer is not there");
    assert_eq!(refused.error_code(), ErrorCode::ManifestBlobUnknown, "{refused:?}");
    put(registry, repository, b"layer").await;
    let child = push_of(&manifest);
    let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &child.bytes);
    let index = PushManifest::new(media_type::IMAGE_INDEX, ImageIndex::new(vec![descriptor]).to_bytes());
    // Registries may take an index before its manifests, and without them.
    if let Err(refused) = registry.push_manifest(repository, index.clone()).await {
        assert_eq!(refused.error_code(), ErrorCode::ManifestBlobUnknown, "{refused:?}");
    }
    registry.push_manifest(repository, child).await.expect("the layer is there");
    registry.push_manifest(repository, index.clone()).await.expect("the child is there");
    let stored = registry.manifest(repository, &index.digest.into()).await.expect("it was taken");
    assert_eq!((stored.descriptor.media_type.as_str(), stored.bytes), (media_type::IMAGE_INDEX, index.bytes));
    manifest.subject = Some(Descriptor::of(media_type::IMAGE_MANIFEST, b"nowhere"));
    registry.push_manifest(repository, push_of(&manifest)).await.expect("a subject may be missing");
}

/// SHA-512 names content as SHA-256 does.
pub async fn sha512_is_a_digest_too(registry: &dyn Registry, repository: &Repository) {
    let content: &[u8] = b"content";
    let digest = Digest::of(Algorithm::Sha512, content);
    registry.push_blob(repository, PushBlob::new(digest, source(content))).await.expect("a good blob is taken");
    assert_eq!(get(registry, repository, &digest).await, content);
    let wrong = Digest::of(Algorithm::Sha512, b"something else");
    let pushed = registry.push_blob(repository, PushBlob::new(wrong, source(content))).await;
    assert_wrong_content(pushed, "a wrong SHA-512 digest");
    let mut push = push_of(&artifact(registry, repository, "1").await);
    push.digest = Digest::of(Algorithm::Sha512, &push.bytes);
    let pushed = registry.push_manifest(repository, push.clone()).await.expect("a good manifest is taken");
    assert_eq!(pushed.digest, push.digest);
    // Where a tag names what it points at by SHA-256, it does not point at this.
    let tagged = registry.push_manifest(repository, push.clone().with_tags([tag("v1")])).await;
    let by_tag = supported(tagged).map(|_| Target::from(tag("v1")));
    for target in [Target::from(push.digest)].into_iter().chain(by_tag) {
        let manifest = registry.manifest(repository, &target).await.expect("it is there");
        assert_eq!((manifest.descriptor.digest, manifest.bytes), (push.digest, push.bytes.clone()));
    }
    if let Some(mut upload) = supported(registry.start_upload(repository).await) {
        let content = b"in pieces";
        upload.append(Bytes::from_static(content)).await.expect("the session takes bytes");
        let digest = Digest::of(Algorithm::Sha512, content);
        upload.commit(&digest).await.expect("the session makes a blob");
        assert_eq!(get(registry, repository, &digest).await, content.as_slice());
    }
}

/// Deleting a tag deletes nothing else.
pub async fn deleted_tags_leave_the_manifest(registry: &dyn Registry, repository: &Repository) {
    let push = push_of(&artifact(registry, repository, "1").await).with_tags([tag("a"), tag("b")]);
    registry.push_manifest(repository, push.clone()).await.expect("a good manifest is taken");
    if supported(registry.delete_tag(repository, &tag("a")).await).is_none() {
        return;
    }
    assert_not_found(registry.resolve(repository, &tag("a").into()).await, "a deleted tag");
    assert_not_found(registry.delete_tag(repository, &tag("a")).await, "a second deletion");
    assert_eq!(registry.tags(repository, &all()).await.expect("a tag is left").items, [tag("b")]);
    registry.delete_tag(repository, &tag("b")).await.expect("the other tag is there");
    assert_eq!(registry.tags(repository, &all()).await.expect("the repository is there").items, []);
    registry.manifest(repository, &push.digest.into()).await.expect("the manifest is there");
}

/// Deleting a manifest deletes the tags that point at it, and no others.
pub async fn deleted_manifests_take_their_tags(registry: &dyn Registry, repository: &Repository) {
    let one = push_of(&artifact(registry, repository, "1").await).with_tags([tag("a"), tag("b")]);
    let two = push_of(&artifact(registry, repository, "2").await).with_tags([tag("c")]);
    for push in [&one, &two] {
        registry.push_manifest(repository, push.clone()).await.expect("a good manifest is taken");
    }
    if supported(registry.delete_manifest(repository, &one.digest).await).is_none() {
        return;
    }
    for target in [Target::from(one.digest), tag("a").into(), tag("b").into()] {
        assert_not_found(registry.manifest(repository, &target).await, "a deleted manifest");
    }
    assert_not_found(registry.delete_manifest(repository, &one.digest).await, "a second deletion");
    assert_eq!(registry.tags(repository, &all()).await.expect("a tag is left").items, [tag("c")]);
    registry.push_manifest(repository, one.clone()).await.expect("it may come again");
    registry.manifest(repository, &tag("a").into()).await.expect("it came again");
}
