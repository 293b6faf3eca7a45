//! Clauses about lists: tags, referrers, repositories.

use std::collections::BTreeSet;

use blob_core::Digest;

use super::{all, artifact, assert_not_found, push_of, put, sibling, supported, tag};
use crate::descriptor::{Descriptor, media_type};
use crate::reference::Repository;
use crate::registry::{PageRequest, Registry};

/// Tags are listed in byte order, in pages that neither repeat nor skip.
pub async fn tags_come_in_pages(registry: &dyn Registry, repository: &Repository) {
    let sorted = ["B", "_x", "a", "a.1", "b"].map(tag);
    let push = push_of(&artifact(registry, repository, "1").await);
    registry.push_manifest(repository, push.clone()).await.expect("a good manifest is taken");
    assert_eq!(registry.tags(repository, &all()).await.expect("the repository is there").items, []);
    let push = push.with_tags(sorted.iter().rev().cloned());
    registry.push_manifest(repository, push).await.expect("a good manifest is taken");
    for limit in [1, 2, 5, 100] {
        let (mut seen, mut request) = (Vec::new(), PageRequest::first().limit(limit));
        loop {
            let page = registry.tags(repository, &request).await.expect("the repository is there");
            assert!(page.items.len() <= limit, "a page is no longer than its limit");
            seen.extend(page.items);
            assert!(seen.len() <= sorted.len(), "pages do not repeat");
            let Some(next) = page.next else { break };
            request = PageRequest::first().limit(limit).after(next);
        }
        assert_eq!(seen, sorted, "limit {limit}");
    }
    let page = registry.tags(repository, &PageRequest::first().after("_")).await.expect("any name will do");
    assert_eq!(page.items, sorted[1..]);
}

/// A repository that nobody pushed to has no tags: it is not there.
pub async fn unknown_repositories_are_not_found(registry: &dyn Registry, repository: &Repository) {
    assert_not_found(registry.tags(repository, &all()).await, "tags of an unknown repository");
}

/// Referrers are found by subject and kind, with what their manifests say of themselves.
pub async fn referrers_are_found(registry: &dyn Registry, repository: &Repository) {
    let subject = Descriptor::of(media_type::IMAGE_MANIFEST, b"a subject that is not there");
    let none = registry.referrers(repository, &subject.digest, None, &all()).await;
    let Some(none) = supported(none) else { return };
    assert_eq!(none.items, [], "a subject may be unknown");
    let mut signature = artifact(registry, repository, "signature").await;
    signature.artifact_type = Some("application/vnd.signature".into());
    signature.subject = Some(subject.clone());
    let mut by_config = artifact(registry, repository, "config").await;
    by_config.artifact_type = None;
    by_config.config.media_type = "application/vnd.config".into();
    by_config.subject = Some(subject.clone());
    let unrelated = artifact(registry, repository, &subject.digest.to_string()).await;
    for manifest in [&signature, &by_config] {
        let pushed = registry.push_manifest(repository, push_of(manifest)).await.expect("a good manifest is taken");
        assert_eq!(pushed.subject, Some(subject.digest), "the registry says what it indexed it under");
    }
    registry.push_manifest(repository, push_of(&unrelated)).await.expect("a good manifest is taken");
    for (kind, manifest) in [("application/vnd.signature", &signature), ("application/vnd.config", &by_config)] {
        let found = registry.referrers(repository, &subject.digest, Some(kind), &all()).await.expect("a list");
        let mut expected = Descriptor::of(media_type::IMAGE_MANIFEST, &manifest.to_bytes());
        expected.artifact_type = Some(kind.into());
        expected.annotations.clone_from(&manifest.annotations);
        assert_eq!(found.items, [expected], "{kind}");
    }
    let found = registry.referrers(repository, &subject.digest, None, &all()).await.expect("a list");
    assert_eq!(found.items.len(), 2);
    let none = registry.referrers(repository, &subject.digest, Some("application/vnd.other"), &all()).await;
    assert_eq!(none.expect("a list").items, []);
}

/// Pages of referrers neither repeat nor skip.
pub async fn referrers_come_in_pages(registry: &dyn Registry, repository: &Repository) {
    let subject = Descriptor::of(media_type::IMAGE_MANIFEST, b"subject");
    let mut expected = BTreeSet::new();
    for mark in ["1", "2", "3", "4", "5"] {
        let mut manifest = artifact(registry, repository, mark).await;
        manifest.subject = Some(subject.clone());
        let push = push_of(&manifest);
        expected.insert(push.digest);
        registry.push_manifest(repository, push).await.expect("a good manifest is taken");
    }
    for limit in [1, 2, 5, 100] {
        let (mut seen, mut request) = (Vec::new(), PageRequest::first().limit(limit));
        loop {
            let page = registry.referrers(repository, &subject.digest, None, &request).await;
            let Some(page) = supported(page) else { return };
            seen.extend(page.items.into_iter().map(|entry| entry.digest));
            assert!(seen.len() <= expected.len(), "pages do not repeat");
            let Some(next) = page.next else { break };
            request = PageRequest::first().limit(limit).after(next);
        }
        assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<Digest>>()), (5, expected.clone()), "{limit}");
    }
}

/// A deleted manifest refers to nothing.
pub async fn deleted_referrers_are_not_found(registry: &dyn Registry, repository: &Repository) {
    let subject = Descriptor::of(media_type::IMAGE_MANIFEST, b"subject");
    let mut manifest = artifact(registry, repository, "1").await;
    manifest.subject = Some(subject.clone());
    let push = push_of(&manifest);
    registry.push_manifest(repository, push.clone()).await.expect("a good manifest is taken");
    if supported(registry.delete_manifest(repository, &push.digest).await).is_some() {
        let found = registry.referrers(repository, &subject.digest, None, &all()).await;
        assert_eq!(supported(found).map(|page| page.items).unwrap_or_default(), []);
    }
}

/// Repositories with content are listed in byte order, in pages.
pub async fn repositories_are_listed(registry: &dyn Registry, repository: &Repository) {
    let other = sibling(repository);
    for name in [&other, repository] {
        put(registry, name, b"content").await;
    }
    let (mut seen, mut request) = (Vec::new(), PageRequest::first().limit(1));
    loop {
        let Some(page) = supported(registry.repositories(&request).await) else { return };
        assert!(page.items.len() <= 1, "a page is no longer than its limit");
        seen.extend(page.items);
        let Some(next) = page.next else { break };
        request = PageRequest::first().limit(1).after(next);
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "in byte order, each once");
    let ours: Vec<&Repository> = seen.iter().filter(|name| *name == repository || **name == other).collect();
    assert_eq!(ours, [repository, &other]);
}
