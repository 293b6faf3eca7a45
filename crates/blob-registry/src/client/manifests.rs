//! Manifests: resolving, reading, pushing, deleting.

use blob_core::Digest;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::header::{ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::Core;
use super::answer::{self, protocol};
use super::call::{Call, Document, Fetched, Payload};
use super::referrers::ReferrersSupport;
use crate::descriptor::{Descriptor, media_type};
use crate::error::{ErrorCode, Object, RegistryError};
use crate::manifest::Outline;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{MAX_MANIFEST_BYTES, Manifest, PushManifest, PushedManifest};

/// The kinds of manifests that are understood.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                        application/vnd.docker.distribution.manifest.v2+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json";

/// From this many tags on, setting them all in one request is tried on a registry that may not know how.
const MANY_TAGS: usize = 3;

impl Core {
    fn manifest_call(&self, method: Method, repository: &Repository, target: &Target) -> Call {
        let action = format!("reading manifest {}", self.name(repository, target));
        let url = self.url(repository, &format!("manifests/{target}"));
        Call::new(method, url, repository, action, Object::Manifest)
            .with_header(ACCEPT, HeaderValue::from_static(ACCEPTED))
    }

    pub(super) async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor, RegistryError> {
        let call = self.manifest_call(Method::HEAD, repository, target);
        let answer = self.send(&call).await?;
        match answer.status {
            StatusCode::OK => {}
            // Some proxies know no HEAD.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                return Ok(self.manifest(repository, target).await?.descriptor);
            }
            _ => return Err(answer.refuse(&call).await),
        }
        let digest = answer.content_digest(&call.action)?;
        let (Some(digest), Some(size), Some(kind)) = (digest, answer.content_length(), answer.media_type()) else {
            return Ok(self.manifest(repository, target).await?.descriptor);
        };
        if let Target::Digest(expected) = target
            && *expected != digest
        {
            return Err(RegistryError::DigestMismatch { action: call.action, expected: *expected, got: digest });
        }
        if size > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge { action: call.action, size, limit: MAX_MANIFEST_BYTES });
        }
        Ok(Descriptor::new(kind, digest, size))
    }

    pub(super) async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest, RegistryError> {
        let call = self.manifest_call(Method::GET, repository, target);
        match self.fetch(&call, MAX_MANIFEST_BYTES).await? {
            Fetched::Whole(document) => check(document, target, &call.action),
            Fetched::Refused(answer) => Err(answer.refuse(&call).await),
        }
    }

    pub(super) async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: PushManifest,
    ) -> Result<PushedManifest, RegistryError> {
        let first = manifest.tags.first().cloned().map_or(Target::Digest(manifest.digest), Target::Tag);
        let action = format!("pushing manifest {}", self.name(repository, &first));
        let size = manifest.bytes.len() as u64;
        if size > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge { action, size, limit: MAX_MANIFEST_BYTES });
        }
        let got = Digest::of(manifest.digest.algorithm(), &manifest.bytes);
        if got != manifest.digest {
            return Err(RegistryError::DigestMismatch { action, expected: manifest.digest, got });
        }
        if let Some(expected) = &manifest.if_match {
            self.check_unmoved(repository, &manifest.tags, expected, &action).await?;
        }
        let subject = self.store_manifest(repository, &manifest).await?;
        // What cannot be read has no subject that we could see; the registry took it, so it is not for us to refuse.
        let outline = Outline::parse(&manifest.bytes).ok();
        if let Some(wanted) = outline.as_ref().and_then(|outline| outline.subject.as_ref()) {
            if subject.is_some() {
                self.profile.set_referrers(repository, true);
            } else {
                let mut descriptor = Descriptor::new(manifest.media_type.clone(), manifest.digest, size);
                descriptor.artifact_type = outline.as_ref().and_then(|outline| outline.artifact_type.clone());
                descriptor.annotations =
                    outline.as_ref().map(|outline| outline.annotations.clone()).unwrap_or_default();
                self.add_referrer(repository, &wanted.digest, descriptor).await?;
            }
        }
        Ok(PushedManifest::new(manifest.digest, subject))
    }

    /// Stores the bytes under all their names in as few requests as possible; the subject that the registry took note
    /// of.
    async fn store_manifest(
        &self,
        repository: &Repository,
        manifest: &PushManifest,
    ) -> Result<Option<Digest>, RegistryError> {
        let canonical = matches!(manifest.digest, Digest::Sha256(_));
        let many = match self.profile.many_tags.known() {
            // A condition on a digest would be about the manifest, not about the tags.
            _ if manifest.if_unset => false,
            Some(known) => known && manifest.tags.len() > 1,
            None => manifest.tags.len() >= MANY_TAGS,
        };
        // A tag names the manifest by its SHA-256; any other digest must be said.
        if manifest.tags.is_empty() || many || !canonical {
            let digest = manifest.digest.into();
            let (subject, taken) = self.put_manifest(repository, manifest, &digest, !manifest.if_unset).await?;
            let left: Vec<_> = manifest.tags.iter().filter(|tag| !taken.contains(tag)).collect();
            if manifest.tags.len() > 1 && !manifest.if_unset {
                self.profile.many_tags.learn(!taken.is_empty());
            }
            try_join_all(left.into_iter().map(|tag| self.put_tag(repository, manifest, tag))).await?;
            return Ok(subject);
        }
        let mut subjects =
            try_join_all(manifest.tags.iter().map(|tag| self.put_tag(repository, manifest, tag))).await?;
        Ok(subjects.pop().flatten())
    }

    async fn put_tag(
        &self,
        repository: &Repository,
        manifest: &PushManifest,
        tag: &Tag,
    ) -> Result<Option<Digest>, RegistryError> {
        Ok(self.put_manifest(repository, manifest, &tag.clone().into(), false).await?.0)
    }

    /// One PUT: the subject and the tags that the registry took note of.
    async fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &PushManifest,
        target: &Target,
        with_tags: bool,
    ) -> Result<(Option<Digest>, Vec<Tag>), RegistryError> {
        let action = format!("pushing manifest {}", self.name(repository, target));
        let kind = HeaderValue::from_str(&manifest.media_type)
            .map_err(|_| RegistryError::detailed(&action, ErrorCode::ManifestInvalid, "its media type is unusable"))?;
        let mut url = self.url(repository, &format!("manifests/{target}"));
        if with_tags && !manifest.tags.is_empty() {
            let tags = manifest.tags.iter().map(|tag| ("tag", tag.as_str()));
            url.query_pairs_mut().extend_pairs(tags);
        }
        let mut call = Call::new(Method::PUT, url, repository, action, Object::Manifest)
            .with_header(CONTENT_TYPE, kind)
            .with_payload(Payload::Bytes(manifest.bytes.clone()));
        if let Some(expected) = &manifest.if_match {
            let etag = HeaderValue::from_str(&format!("\"{expected}\""));
            call = call.with_header(IF_MATCH, etag.expect("because a digest is ASCII"));
        }
        if manifest.if_unset && matches!(target, Target::Tag(_)) {
            call = call.with_header(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let answer = self.send(&call).await?;
        // Registries may count what we set as set already.
        if answer.status == StatusCode::PRECONDITION_FAILED && (answer.repeated || manifest.if_unset) {
            return self.settle(repository, manifest, target, answer.refuse(&call).await).await;
        }
        if !answer.status.is_success() {
            return Err(answer.refuse(&call).await);
        }
        if let Some(got) = answer.content_digest(&call.action)?
            && !agrees(&got, &manifest.digest, &manifest.bytes)
        {
            return Err(RegistryError::DigestMismatch { action: call.action, expected: manifest.digest, got });
        }
        let subject = answer.header("oci-subject").and_then(|text| text.trim().parse().ok());
        let texts = answer.headers.get_all("oci-tag").iter().filter_map(|value| value.to_str().ok());
        let tags = texts.flat_map(|text| text.split(',')).filter_map(|tag| Tag::new(tag.trim()).ok()).collect();
        Ok((subject, tags))
    }

    /// After a condition that does not hold for a second attempt: the first one, whose answer got lost, may have been
    /// what changed the tag. Then it is done, and pushing the same by its digest tells what the first answer said.
    async fn settle(
        &self,
        repository: &Repository,
        manifest: &PushManifest,
        target: &Target,
        refusal: RegistryError,
    ) -> Result<(Option<Digest>, Vec<Tag>), RegistryError> {
        match self.resolve(repository, target).await {
            Ok(found) if agrees(&found.digest, &manifest.digest, &manifest.bytes) => {
                let mut again = manifest.clone();
                (again.if_match, again.if_unset) = (None, false);
                again.tags.clear();
                let digest = Target::Digest(manifest.digest);
                Ok((Box::pin(self.put_manifest(repository, &again, &digest, false)).await?.0, Vec::new()))
            }
            _ => Err(refusal),
        }
    }

    /// Refuses early when a tag is not what the condition asks for. Registries that do not know `If-Match` would move
    /// it without a word; there, this check is all there is, and a change right behind it goes unseen.
    async fn check_unmoved(
        &self,
        repository: &Repository,
        tags: &[Tag],
        expected: &Digest,
        action: &str,
    ) -> Result<(), RegistryError> {
        for tag in tags {
            let found = match self.resolve(repository, &tag.clone().into()).await {
                Ok(descriptor) => Some(descriptor.digest),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            };
            if found != Some(*expected) {
                let found = found.map_or_else(|| "nothing".to_owned(), |digest| digest.to_string());
                let detail = format!("tag {tag} points at {found}, not at {expected}");
                return Err(RegistryError::detailed(action, ErrorCode::PreconditionFailed, detail));
            }
        }
        Ok(())
    }

    pub(super) async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        // Where nobody else keeps the list of referrers, we do: the subject must be known before the manifest is gone.
        let subject = match self.profile.referrers(repository) {
            Some(true) => None,
            Some(false) | None => self.subject_of(repository, digest).await?,
        };
        let support = match &subject {
            Some(_) => self.referrers_support(repository).await?,
            None => ReferrersSupport::Native,
        };
        self.delete_untracked(repository, digest).await?;
        match subject.filter(|_| support != ReferrersSupport::Native) {
            Some(subject) => self.remove_referrer(repository, &subject, digest).await,
            None => Ok(()),
        }
    }

    /// What a manifest that is to be deleted refers to. One that is damaged can be deleted all the same.
    async fn subject_of(&self, repository: &Repository, digest: &Digest) -> Result<Option<Digest>, RegistryError> {
        match self.manifest(repository, &(*digest).into()).await {
            Ok(manifest) => {
                let outline = Outline::parse(&manifest.bytes).ok();
                Ok(outline.and_then(|outline| outline.subject).map(|subject| subject.digest))
            }
            Err(error) if error.is_transient() || error.is_unauthorized() => Err(error),
            Err(error) => {
                tracing::debug!(%digest, %error, "what it refers to is not known");
                Ok(None)
            }
        }
    }

    /// Deletes a manifest that is in no list of referrers.
    pub(super) async fn delete_untracked(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        let action = format!("deleting manifest {}", self.name_of(repository, digest));
        let url = self.url(repository, &format!("manifests/{digest}"));
        self.delete(Call::new(Method::DELETE, url, repository, action, Object::Manifest)).await
    }

    pub(super) async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), RegistryError> {
        let action = format!("deleting tag {}/{repository}:{tag}", self.host);
        let url = self.url(repository, &format!("manifests/{tag}"));
        let call = Call::new(Method::DELETE, url, repository, action, Object::Manifest);
        match self.delete(call).await {
            // What registries say that delete by digest only.
            Err(RegistryError::Code { action, status: Some(400), .. }) => Err(RegistryError::unsupported(action)),
            other => other,
        }
    }

    pub(super) async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        let action = format!("deleting blob {}", self.name_of(repository, digest));
        let url = self.url(repository, &format!("blobs/{digest}"));
        self.delete(Call::new(Method::DELETE, url, repository, action, Object::Blob)).await
    }

    async fn delete(&self, call: Call) -> Result<(), RegistryError> {
        let answer = self.send(&call).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            // The attempt whose answer got lost did it.
            StatusCode::NOT_FOUND if answer.repeated => Ok(()),
            _ => Err(answer.refuse(&call).await),
        }
    }
}

/// Whether `got` names the same bytes as `digest`, be it under another algorithm.
fn agrees(got: &Digest, digest: &Digest, bytes: &Bytes) -> bool {
    got == digest || got.matches(bytes)
}

/// Makes a manifest of an answer, if everything in it agrees.
fn check(document: Document, target: &Target, action: &str) -> Result<Manifest, RegistryError> {
    let Document { headers, bytes, .. } = document;
    let mismatch = |expected: Digest| {
        let got = Digest::of(expected.algorithm(), &bytes);
        RegistryError::DigestMismatch { action: action.to_owned(), expected, got }
    };
    let said = digest_header(&headers, action)?;
    let digest = match target {
        Target::Digest(digest) => *digest,
        Target::Tag(_) => said.unwrap_or_else(|| Digest::sha256_of(&bytes)),
    };
    for claim in [Some(digest), said].into_iter().flatten() {
        if !claim.matches(&bytes) {
            return Err(mismatch(claim));
        }
    }
    let kind = kind(&headers, &bytes, action)?;
    Ok(Manifest { descriptor: Descriptor::new(kind, digest, bytes.len() as u64), bytes })
}

fn digest_header(headers: &HeaderMap, action: &str) -> Result<Option<Digest>, RegistryError> {
    let Some(text) = answer::text(headers, answer::CONTENT_DIGEST) else { return Ok(None) };
    let unusable = |error| protocol(action, format!("the answer's Docker-Content-Digest is unusable: {error}"));
    text.trim().parse().map(Some).map_err(unusable)
}

/// The media type of a manifest: what the header and the document say must be the same, and must be what the document
/// looks like (CVE-2021-41190).
fn kind(headers: &HeaderMap, bytes: &Bytes, action: &str) -> Result<String, RegistryError> {
    let invalid = |detail: String| RegistryError::detailed(action, ErrorCode::ManifestInvalid, detail);
    let said = answer::media_type(headers);
    let general = |kind: &str| matches!(kind, "application/json" | "application/octet-stream" | "text/plain");
    let said = said.filter(|kind| !general(kind));
    // Login pages and the like answer 200 to everything.
    if let Some(page) = said.as_ref().filter(|kind| kind.starts_with("text/") || *kind == "application/xhtml+xml") {
        let page = answer::printable(page, 200);
        return Err(protocol(
            action,
            format!("expected a manifest, got a page of type {page}: who answered is no registry"),
        ));
    }
    if let Some(kind) = said.as_ref().filter(|kind| !media_type::is_manifest(kind)) {
        // Kinds that we know nothing of are handed over as they are, unless they call themselves something else.
        let written = Outline::parse(bytes).ok().and_then(|outline| outline.media_type);
        return match written.filter(|written| written != kind) {
            Some(written) => {
                Err(invalid(format!("it came as {kind} and calls itself {}", answer::printable(&written, 200))))
            }
            None => Ok(kind.clone()),
        };
    }
    let outline = Outline::parse(bytes).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        invalid(answer::printable(&format!("{error}{cause}"), 300))
    })?;
    let kind = match (said, outline.media_type) {
        (Some(said), Some(written)) if said != written => {
            let written = answer::printable(&written, 200);
            return Err(invalid(format!("it came as {said} and calls itself {written}")));
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => return Err(invalid("neither the answer nor the document names a media type".into())),
    };
    let index = matches!(kind.as_str(), media_type::IMAGE_INDEX | media_type::DOCKER_MANIFEST_LIST);
    let foreign = if index { !outline.blobs.is_empty() } else { !outline.manifests.is_empty() };
    if foreign {
        return Err(invalid(format!("it has members that {kind} has not")));
    }
    Ok(kind)
}
