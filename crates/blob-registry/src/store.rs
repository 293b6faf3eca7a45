//! The rules that every store of this crate keeps: what a manifest must be to be taken, how lists are cut into pages,
//! what a referrer looks like in a list.

use std::fmt;

use blob_core::{Digest, Event};

use crate::descriptor::{Descriptor, media_type};
use crate::error::{ErrorCode, RegistryError};
use crate::manifest::Outline;
use crate::reference::Tag;
use crate::registry::{MAX_MANIFEST_BYTES, Page, PageRequest, PushBlob, PushManifest};

/// Pages are never longer than this, whatever was asked for.
pub(crate) const MAX_PAGE: usize = 10_000;

/// Longer media types and artifact types are refused. RFC 6838 allows 127 characters on each side of the slash. They
/// are repeated in lists, where a long one would be a load on everybody.
const MAX_TYPE_BYTES: usize = 255;

/// Checks a manifest by itself: its size, its digest, that it is one document of one kind, and that this kind is the
/// one it was sent as.
pub(crate) fn check_manifest(repository: impl fmt::Display, manifest: &PushManifest) -> Result<Outline, RegistryError> {
    let action = || format!("pushing manifest {repository}@{}", manifest.digest);
    let size = manifest.bytes.len() as u64;
    if size > MAX_MANIFEST_BYTES {
        return Err(RegistryError::TooLarge { action: action(), size, limit: MAX_MANIFEST_BYTES });
    }
    let got = Digest::of(manifest.digest.algorithm(), &manifest.bytes);
    if got != manifest.digest {
        return Err(RegistryError::DigestMismatch { action: action(), expected: manifest.digest, got });
    }
    let invalid = |detail: String| RegistryError::detailed(action(), ErrorCode::ManifestInvalid, detail);
    let outline = Outline::parse(&manifest.bytes).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        invalid(format!("{error}{cause}"))
    })?;
    let named = outline.blobs.iter().chain(&outline.manifests).chain(&outline.subject);
    let types = named.flat_map(|named| [Some(&named.media_type), named.artifact_type.as_ref()]);
    let own = [Some(&manifest.media_type), outline.media_type.as_ref(), outline.artifact_type.as_ref()];
    if let Some(long) = own.into_iter().chain(types).flatten().find(|kind| kind.len() > MAX_TYPE_BYTES) {
        let length = long.len();
        return Err(invalid(format!("a media type has {length} bytes, and at most {MAX_TYPE_BYTES} are taken")));
    }
    if let Some(named) = &outline.media_type
        && *named != manifest.media_type
    {
        return Err(invalid(format!("it was sent as {:?} and says of itself {named:?}", manifest.media_type)));
    }
    let problem = match manifest.media_type.as_str() {
        media_type::IMAGE_MANIFEST | media_type::DOCKER_MANIFEST if !outline.manifests.is_empty() => "lists manifests",
        media_type::IMAGE_MANIFEST | media_type::DOCKER_MANIFEST if outline.blobs.is_empty() => {
            "names no configuration"
        }
        media_type::IMAGE_INDEX | media_type::DOCKER_MANIFEST_LIST if !outline.blobs.is_empty() => "lists layers",
        _ => return Ok(outline),
    };
    Err(invalid(format!("a document of type {:?} {problem}", manifest.media_type)))
}

/// The blobs that `outline` names and that must be there. The subject need not, nor need layers that may not be
/// distributed, nor the manifests of an index: indexes with some of their platforms elsewhere are common. A `sparse`
/// store needs none.
pub(crate) fn needed(outline: &Outline, sparse: bool) -> impl Iterator<Item = Digest> + '_ {
    let here = outline.blobs.iter().filter(move |blob| !sparse && !media_type::is_foreign(&blob.media_type));
    let older = outline.fs_layers.iter().filter(move |_| !sparse);
    here.map(|blob| blob.digest).chain(older.copied())
}

/// The refusal of a manifest that names what is not there.
pub(crate) fn missing(repository: impl fmt::Display, manifest: &Digest, absent: &Digest) -> RegistryError {
    let action = format!("pushing manifest {repository}@{manifest}");
    RegistryError::detailed(action, ErrorCode::ManifestBlobUnknown, format!("{absent} is not in the repository"))
}

/// Checks that `tag`, which points at `current`, may be moved by `manifest`.
pub(crate) fn check_condition(
    repository: impl fmt::Display,
    tag: &Tag,
    current: Option<&Digest>,
    manifest: &PushManifest,
) -> Result<(), RegistryError> {
    if manifest.if_unset
        && let Some(current) = current
        && *current != manifest.digest
    {
        let detail = format!("expected it not to be set, it is at {current}");
        return Err(RegistryError::detailed(
            format!("setting tag {repository}:{tag}"),
            ErrorCode::PreconditionFailed,
            detail,
        ));
    }
    let Some(expected) = &manifest.if_match else { return Ok(()) };
    if current == Some(expected) {
        return Ok(());
    }
    let now = current.map_or_else(|| "nothing".into(), Digest::to_string);
    let detail = format!("expected it at {expected}, it is at {now}");
    Err(RegistryError::detailed(format!("moving tag {repository}:{tag}"), ErrorCode::PreconditionFailed, detail))
}

/// How a manifest appears in the list of its subject's referrers.
pub(crate) fn referrer(descriptor: &Descriptor, outline: Outline) -> Descriptor {
    let mut entry = Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size);
    entry.artifact_type = outline.artifact_type;
    entry.annotations = outline.annotations;
    entry
}

/// Cuts a page out of `items`, which are in the byte order of their keys.
pub(crate) fn page<T>(
    items: impl IntoIterator<Item = T>,
    request: &PageRequest,
    key: impl Fn(&T) -> String,
) -> Page<T> {
    let limit = request.limit.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    let behind = |item: &T| request.after.as_ref().is_none_or(|after| key(item).as_str() > after.as_str());
    let mut rest = items.into_iter().filter(behind);
    let chosen: Vec<T> = rest.by_ref().take(limit).collect();
    let next = chosen.last().map(&key).filter(|_| rest.next().is_some());
    Page::new(chosen, next)
}

/// The refusal of a range that leaves its blob.
pub(crate) fn bad_range(action: String, start: u64, end: u64, size: u64) -> RegistryError {
    RegistryError::detailed(action, ErrorCode::RangeInvalid, format!("bytes {start}..{end} of {size}"))
}

/// The refusal of bytes for another place of an upload than its end.
pub(crate) fn moved(action: String, expected: u64, got: u64) -> RegistryError {
    let detail = format!("the session holds {got} bytes, not {expected}: another request wrote to it");
    RegistryError::detailed(action, ErrorCode::BlobUploadInvalid, detail)
}

/// Tells the watcher of a push that nothing had to be sent.
pub(crate) fn report_existing(blob: &PushBlob, action: &str) -> Result<(), RegistryError> {
    report(blob, action, |what| Event::Existing { what, bytes: blob.source.size() })
}

/// Tells the watcher of a push how far it is.
pub(crate) fn report_sent(blob: &PushBlob, bytes: u64, action: &str) -> Result<(), RegistryError> {
    report(blob, action, |what| Event::Uploading { what, bytes, bytes_total: blob.source.size() })
}

fn report<'a>(blob: &'a PushBlob, action: &str, event: impl FnOnce(&'a str) -> Event<'a>) -> Result<(), RegistryError> {
    let Some((what, progress)) = &blob.progress else { return Ok(()) };
    if progress.event(&event(what)).is_continue() {
        return Ok(());
    }
    Err(RegistryError::Cancelled { action: action.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another_without_gaps() {
        let all = ["a", "b", "c", "d"];
        let key = |item: &&str| (*item).to_owned();
        let first = page(all, &PageRequest::first().limit(2), key);
        assert_eq!((first.items, first.next.as_deref()), (vec!["a", "b"], Some("b")));
        let second = page(all, &PageRequest::first().limit(2).after("b"), key);
        assert_eq!((second.items, second.next), (vec!["c", "d"], None));
        let between = page(all, &PageRequest::first().after("bb"), key);
        assert_eq!((between.items, between.next), (vec!["c", "d"], None));
        let none = page(all, &PageRequest::first().limit(0), key);
        assert_eq!((none.items.len(), none.next), (0, None));
    }
}
