//! Which manifests refer to a manifest: the referrers API, and the tag that stands in for it.
//!
//! Registries without the API keep the list as an image index under the tag `sha256-<hex>` (distribution specification,
//! "Referrers Tag Schema"), and it is the clients that write it. Nothing makes that write atomic: it is read, changed,
//! written, and looked at again after a random pause, in a few rounds. Clients of one machine [take turns](super::turn),
//! so that they lose nothing. An index that was replaced stays behind without a tag, unless the client was told to
//! [clean up](cleanup).

mod cleanup;

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use blob_core::Digest;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use http::{HeaderValue, Method, StatusCode};
use tokio::time::sleep;

use super::Core;
use super::answer::{self, protocol};
use super::call::{Call, Document, Fetched, Payload};
use super::pages::{self, Cursor};
use super::scope::Scope;
use super::turn;
use crate::descriptor::{Descriptor, media_type};
use crate::error::{ErrorCode, Object, RegistryError};
use crate::manifest::ImageIndex;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{MAX_MANIFEST_BYTES, Page, PageRequest};

/// How often a write of the fallback index is tried before others are let win.
const ROUNDS: u32 = 8;

/// How the referrers of a manifest are kept in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferrersSupport {
    /// By the registry, which has the referrers API.
    Native,
    /// By its clients, as an index under a tag.
    Tag,
    /// It cannot be told yet: the registry does not know the repository.
    Unknown,
}

/// The tag that holds the referrers of `subject`: `<algorithm>-<hex>`, the parts cut to 32 and 64 characters.
fn fallback_tag(subject: &Digest) -> Tag {
    let hex = subject.hex();
    Tag::new(&format!("{}-{}", subject.algorithm().name(), &hex[..64]))
        .expect("because an algorithm and hexadecimal digits are a tag")
}

impl Core {
    pub(super) async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>, RegistryError> {
        let action = format!("listing the referrers of {}", self.name_of(repository, subject));
        let cursor = match page.after.as_deref() {
            Some(token) => Some(
                Cursor::parse(token)
                    .ok_or_else(|| protocol(&action, "the continuation token is not one of this list"))?,
            ),
            None => None,
        };
        let tag = fallback_tag(subject);
        let stands_in = format!("/{tag}");
        let fallback = match &cursor {
            Some(cursor) => cursor.target == stands_in,
            None => self.profile.referrers(repository) == Some(false),
        };
        if !fallback {
            let mut url = self.url(repository, &format!("referrers/{subject}"));
            if let Some(kind) = artifact_type {
                url.query_pairs_mut().append_pair("artifactType", kind);
            }
            let place = match &cursor {
                Some(cursor) => cursor.clone(),
                None => Cursor { target: String::new(), page: 0, skip: 0 },
            };
            if let Some(cursor) = &cursor {
                url = cursor.url(&url, &action)?;
            }
            let call = Call::new(Method::GET, url, repository, action.clone(), Object::Manifest);
            if let Some(found) = self.ask_api(repository, &call, place, artifact_type, page.limit).await? {
                return Ok(found);
            }
            // Half a list must not look like a whole one.
            if cursor.is_some() {
                return Err(protocol(&action, "the list broke off: the registry has the API, and not the next page"));
            }
        }
        let manifests = match self.read_fallback(repository, &tag, subject, &action).await? {
            Fallback::List(held) => held.index.manifests,
            Fallback::Nothing | Fallback::Subject => Vec::new(),
        };
        let place = Cursor { target: stands_in, page: 0, skip: cursor.map_or(0, |cursor| cursor.skip) };
        Ok(cut(keep(manifests, artifact_type), &place, None, page.limit))
    }

    /// Asks the referrers API; `None` if the registry has none.
    async fn ask_api(
        &self,
        repository: &Repository,
        call: &Call,
        place: Cursor,
        artifact_type: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Option<Page<Descriptor>>, RegistryError> {
        let document = match self.fetch(call, self.limits.page_bytes).await? {
            Fetched::Whole(document) => document,
            Fetched::Refused(answer)
                if answer.status == StatusCode::NOT_FOUND && self.profile.referrers(repository) != Some(true) =>
            {
                // Not remembered: some registries that have the API say this of repositories they do not know.
                tracing::debug!(host = self.host, "no referrers API: reading the fallback tag");
                return Ok(None);
            }
            Fetched::Refused(answer) => return Err(answer.refuse(call).await),
        };
        let Document { headers, url, bytes, .. } = document;
        let kind = answer::media_type(&headers);
        if kind.as_deref() != Some(media_type::IMAGE_INDEX) {
            let kind = answer::printable(&kind.unwrap_or_else(|| "nothing".into()), 200);
            return Err(protocol(&call.action, format!("expected an image index, got {kind}")));
        }
        self.profile.set_referrers(repository, true);
        let index = parse(&bytes, &call.action)?;
        let next = pages::next(&headers, &url, place.page, self.limits.pages, &call.action)?;
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let place = Cursor { target, ..place };
        Ok(Some(cut(keep(index.manifests, artifact_type), &place, next, limit)))
    }

    /// Whether the referrers API answers for `repository`: asked once, about a digest that nothing has.
    pub(super) async fn referrers_support(&self, repository: &Repository) -> Result<ReferrersSupport, RegistryError> {
        match self.profile.referrers(repository) {
            Some(true) => return Ok(ReferrersSupport::Native),
            Some(false) => return Ok(ReferrersSupport::Tag),
            None => {}
        }
        let nothing = Digest::Sha256([0; 32]);
        let action = format!("asking {} for its referrers API", self.host);
        let url = self.url(repository, &format!("referrers/{nothing}"));
        let call = Call::new(Method::GET, url, repository, action, Object::Manifest);
        let answer = match self.fetch(&call, self.limits.page_bytes).await? {
            Fetched::Whole(document) => {
                let native = answer::media_type(&document.headers).as_deref() == Some(media_type::IMAGE_INDEX);
                return Ok(self.learned(repository, native));
            }
            Fetched::Refused(answer) => answer,
        };
        match answer.refuse(&call).await {
            // Who says that it knows no such repository may know the API.
            error if error.error_code() == ErrorCode::NameUnknown => Ok(ReferrersSupport::Unknown),
            error if error.is_not_found() || error.is_unsupported() => Ok(self.learned(repository, false)),
            error => Err(error),
        }
    }

    fn learned(&self, repository: &Repository, native: bool) -> ReferrersSupport {
        self.profile.set_referrers(repository, native);
        if native { ReferrersSupport::Native } else { ReferrersSupport::Tag }
    }

    /// The fallback index under `tag`, if there is one.
    async fn read_fallback(
        &self,
        repository: &Repository,
        tag: &Tag,
        subject: &Digest,
        action: &str,
    ) -> Result<Fallback, RegistryError> {
        let url = self.url(repository, &format!("manifests/{tag}"));
        let call = Call::new(Method::GET, url, repository, action.to_owned(), Object::Manifest)
            .with_header(http::header::ACCEPT, HeaderValue::from_static(media_type::IMAGE_INDEX));
        match self.fetch(&call, MAX_MANIFEST_BYTES).await? {
            Fetched::Whole(Document { headers, bytes, .. }) => {
                if subject.matches(&bytes) {
                    tracing::warn!(%subject, "the tag for the list of referrers names the subject itself");
                    return Ok(Fallback::Subject);
                }
                self.profile.set_referrers(repository, false);
                let etag = headers.get(ETAG).cloned();
                let held = Held { index: parse(&bytes, action)?, etag, digest: Digest::sha256_of(&bytes) };
                Ok(Fallback::List(Box::new(held)))
            }
            Fetched::Refused(answer) if answer.status == StatusCode::NOT_FOUND => Ok(Fallback::Nothing),
            Fetched::Refused(answer) => Err(answer.refuse(&call).await),
        }
    }

    /// The list that `change` is about; an error if its tag is taken by the subject, from which it must not be moved away.
    async fn list_to_change(&self, change: &Change<'_>, action: &str) -> Result<Option<Held>, RegistryError> {
        let Change { repository, tag, subject, add, .. } = change;
        match self.read_fallback(repository, tag, subject, action).await? {
            Fallback::List(held) => Ok(Some(*held)),
            Fallback::Subject if add.is_some() => {
                let detail = format!("the tag {tag}, under which the list belongs, names the subject itself");
                Err(protocol(action, detail))
            }
            Fallback::Nothing | Fallback::Subject => Ok(None),
        }
    }

    /// Adds `referrer` to the fallback index of `subject`.
    pub(super) async fn add_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        referrer: Descriptor,
    ) -> Result<(), RegistryError> {
        let name = self.name_of(repository, &referrer.digest);
        let action = format!("noting {name} as a referrer of {subject}");
        self.profile.set_referrers(repository, false);
        let (tag, subject) = (fallback_tag(subject), *subject);
        let change = Change { repository, tag, subject, digest: referrer.digest, add: Some(referrer) };
        self.change_fallback(&change, &action).await
    }

    /// Takes `referrer`, which was deleted, out of the fallback index of `subject`.
    pub(super) async fn remove_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        referrer: &Digest,
    ) -> Result<(), RegistryError> {
        let action = format!("taking {} out of the referrers of {subject}", self.name_of(repository, referrer));
        let (tag, subject) = (fallback_tag(subject), *subject);
        let change = Change { repository, tag, subject, digest: *referrer, add: None };
        self.change_fallback(&change, &action).await
    }

    async fn change_fallback(&self, change: &Change<'_>, action: &str) -> Result<(), RegistryError> {
        let Change { repository, tag, .. } = change;
        let _turn = turn::take(self.locks.as_deref(), &format!("{}/{repository}:{tag}", self.host)).await;
        let mut held = self.list_to_change(change, action).await?;
        let mut replaced = Vec::new();
        for round in 0..ROUNDS {
            if self.cleans_referrers {
                replaced.extend(held.as_ref().map(|held| held.digest));
            }
            let (mut index, etag) =
                held.map_or_else(|| (ImageIndex::new(Vec::new()), None), |held| (held.index, held.etag));
            if change.is_done(&index) {
                self.clean_up(change, replaced).await;
                return Ok(());
            }
            change.apply(&mut index);
            self.write_fallback(change, &index, etag, action).await?;
            // Who wrote at the same time has written by the end of the pause, and one of us sees it.
            sleep(pause(round)).await;
            held = self.list_to_change(change, action).await?;
        }
        let done = change.is_done(&held.map_or_else(|| ImageIndex::new(Vec::new()), |held| held.index));
        let detail = "others changed the list of referrers at the same time, again and again";
        if done { Ok(()) } else { Err(protocol(action, detail)) }
    }

    /// Writes the index, unless it changed meanwhile and the registry noticed.
    async fn write_fallback(
        &self,
        change: &Change<'_>,
        index: &ImageIndex,
        etag: Option<HeaderValue>,
        action: &str,
    ) -> Result<(), RegistryError> {
        let bytes = Bytes::from(index.to_bytes());
        let size = bytes.len() as u64;
        if size > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge { action: action.to_owned(), size, limit: MAX_MANIFEST_BYTES });
        }
        let target = Target::Tag(change.tag.clone());
        let url = self.url(change.repository, &format!("manifests/{target}"));
        let mut call = Call::new(Method::PUT, url, change.repository, action.to_owned(), Object::Manifest)
            .with_header(CONTENT_TYPE, HeaderValue::from_static(media_type::IMAGE_INDEX))
            .with_payload(Payload::Bytes(bytes))
            .with_scope(Scope::push(change.repository));
        if let Some(etag) = etag {
            call = call.with_header(IF_MATCH, etag);
        }
        let answer = self.send(&call).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            // Somebody was faster; the next round begins with what they wrote.
            StatusCode::PRECONDITION_FAILED => Ok(()),
            _ => Err(answer.refuse(&call).await),
        }
    }
}

/// What is under the tag for a list of referrers.
enum Fallback {
    Nothing,
    /// The subject itself, which somebody tagged like this: that is no list, and its children refer to nothing.
    Subject,
    List(Box<Held>),
}

/// A fallback index as it was found.
struct Held {
    index: ImageIndex,
    etag: Option<HeaderValue>,
    digest: Digest,
}

/// What is to become of a fallback index.
struct Change<'a> {
    repository: &'a Repository,
    tag: Tag,
    subject: Digest,
    digest: Digest,
    /// The entry to add; without one, the entry with `digest` goes.
    add: Option<Descriptor>,
}

impl Change<'_> {
    fn is_done(&self, index: &ImageIndex) -> bool {
        self.add.is_some() == index.manifests.iter().any(|entry| entry.digest == self.digest)
    }

    fn apply(&self, index: &mut ImageIndex) {
        match &self.add {
            Some(descriptor) => index.manifests.push(descriptor.clone()),
            None => index.manifests.retain(|entry| entry.digest != self.digest),
        }
    }
}

/// A random pause, longer with every round: up to 40 ms, then up to 80 ms, and so on.
fn pause(round: u32) -> Duration {
    let random = RandomState::new().hash_one(round) % 1000;
    Duration::from_micros(10_000 + random * 30 * u64::from(round + 1))
}

fn parse(bytes: &Bytes, action: &str) -> Result<ImageIndex, RegistryError> {
    ImageIndex::parse(bytes).map_err(|error| {
        protocol(action, format!("the list of referrers is unusable: {}", answer::printable(&error.to_string(), 300)))
    })
}

/// Registries may or may not filter; the answer is the same.
fn keep(mut manifests: Vec<Descriptor>, artifact_type: Option<&str>) -> Vec<Descriptor> {
    if let Some(kind) = artifact_type {
        manifests.retain(|entry| entry.artifact_type.as_deref() == Some(kind));
    }
    manifests
}

/// The items of a list at `place`, at most `limit` of them; `next` is where the list goes on behind them all.
fn cut(mut items: Vec<Descriptor>, place: &Cursor, next: Option<Cursor>, limit: Option<usize>) -> Page<Descriptor> {
    items.drain(..place.skip.min(items.len()));
    match limit.filter(|&limit| limit > 0 && items.len() > limit) {
        Some(limit) => {
            items.truncate(limit);
            let next = Cursor { skip: place.skip + limit, ..place.clone() };
            Page::new(items, Some(next.to_string()))
        }
        None => Page::new(items, next.map(|cursor| cursor.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blob_core::Algorithm;

    #[test]
    fn tags_fit() {
        let subject = Digest::sha256_of(b"x");
        assert_eq!(fallback_tag(&subject).as_str(), format!("sha256-{}", subject.hex()));
        let long = Digest::of(Algorithm::Sha512, b"x");
        assert_eq!(fallback_tag(&long).as_str(), format!("sha512-{}", &long.hex()[..64]));
    }

    #[test]
    fn lists_are_cut_and_go_on() {
        let items: Vec<_> = (0..5_u8).map(|n| Descriptor::of("a/b", &[n])).collect();
        let mut place = Cursor { target: "/t".into(), page: 0, skip: 0 };
        let mut seen = Vec::new();
        loop {
            let page = cut(items.clone(), &place, None, Some(2));
            assert!(page.items.len() <= 2);
            seen.extend(page.items);
            let Some(token) = page.next else { break };
            place = Cursor::parse(&token).expect("our own token");
        }
        assert_eq!(seen, items);
    }

    #[test]
    fn entries_are_added_once_and_removed() {
        let repository = Repository::new("a").expect("name");
        let entry = Descriptor::of("a/b", b"x");
        let add = Change {
            repository: &repository,
            tag: fallback_tag(&entry.digest),
            subject: entry.digest,
            digest: entry.digest,
            add: Some(entry),
        };
        let mut index = ImageIndex::new(vec![Descriptor::of("a/b", b"other")]);
        assert!(!add.is_done(&index));
        add.apply(&mut index);
        assert!(add.is_done(&index) && index.manifests.len() == 2);
        let remove = Change { add: None, ..add };
        remove.apply(&mut index);
        assert!(remove.is_done(&index) && index.manifests.len() == 1);
    }
}
