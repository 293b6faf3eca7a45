//! Mirrors: where content of a registry is looked for before the registry itself is asked.
//!
//! A mirror is a registry of its own: it has its own name, certificates and credentials, and those of the registry
//! that it stands in for never go there. What it hands out whole is asked for by digest and checked against it here:
//! it can refuse, but not lie; and one that is slow to answer gets the registry as a rival after two seconds. A part of a blob cannot be checked by the blob's digest. Whoever asks for
//! one must check it by something else, as archives check every file, and fails at wrong bytes. What a tag points at is the registry's to say, unless a mirror is
//! [trusted for tags](Mirror::with_tags).

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use blob_core::{ByteSource, ByteStream, Digest, FailureKind, Hasher, SourceError, SourceId};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use tokio::time::{Instant, timeout};
use url::Url;

use super::options::RegistryOptionsError;
use crate::descriptor::Descriptor;
use crate::error::{ErrorCode, RegistryError};
use crate::filter::Prefix;
use crate::reference::{Reference, Repository, Tag, Target};
use crate::registry::{
    BlobReader, Manifest, Mount, Page, PageRequest, PushBlob, PushManifest, PushedBlob, PushedManifest, Registry,
    Upload, UploadId,
};

/// How long a mirror is passed over that did not answer.
const REST: Duration = Duration::from_secs(30);

/// A mirror that says nothing for this long gets company: the registry is asked as well, and whoever answers first counts.
const PATIENCE: Duration = Duration::from_secs(2);

/// A whole blob up to this size, 8 MiB, is checked before its first byte is handed out.
const CHECKED: u64 = 8 << 20;

type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// The address of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mirror {
    /// The mirror's registry: `host` or `host:port`.
    pub host: String,
    /// The repository below which the mirror keeps the registry's repositories; none if it has them under their names.
    pub prefix: Option<Repository>,
    /// Speak `http` to it, or insist on `https`; by default what is configured for its host.
    pub plain_http: Option<bool>,
    /// Whether it is asked what tags point at, too: then it decides what is read.
    pub tags: bool,
    /// Whether it is told which registry is meant, by `ns=HOST`: it stands in for several.
    pub namespace: bool,
}

impl Mirror {
    /// Reads `host[:port][/prefix]`, with `http://` or `https://` in front where the scheme is to be fixed, and `?ns` at
    /// the end where the mirror is to be told which registry is meant.
    ///
    /// ```
    /// use blob_registry::client::Mirror;
    ///
    /// let mirror = Mirror::parse("https://mirror.example:8443/hub")?;
    /// assert_eq!(mirror.host, "mirror.example:8443");
    /// assert_eq!(mirror.prefix.map(|prefix| prefix.to_string()), Some("hub".into()));
    /// # Ok::<(), blob_registry::client::RegistryOptionsError>(())
    /// ```
    ///
    /// # Errors
    /// [`RegistryOptionsError::Mirror`].
    pub fn parse(text: &str) -> Result<Self, RegistryOptionsError> {
        let refuse = |detail| {
            // Somebody may have written a password into it.
            let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
            RegistryOptionsError::Mirror { text: shown.chars().take(300).collect(), detail }
        };
        let (text, namespace) = text.strip_suffix("?ns").map_or((text, false), |rest| (rest, true));
        let (plain_http, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(true), rest),
            Some(("https", rest)) => (Some(false), rest),
            Some(_) => return Err(refuse("its scheme is neither http nor https")),
            None => (None, text),
        };
        if rest.contains('@') {
            return Err(refuse("it holds a user name; credentials have a place of their own"));
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        // References hold hosts to their rules; the URL to those of ports.
        let probe = Repository::new("x").expect("because it is a word");
        let is_host =
            Reference::new(host, probe, None, None).is_ok() && Url::parse(&format!("https://{host}/")).is_ok();
        if !is_host {
            return Err(refuse("expected host[:port][/prefix][?ns]"));
        }
        let path = path.trim_end_matches('/');
        let prefix = (!path.is_empty()).then(|| Repository::new(path)).transpose();
        let prefix = prefix.map_err(|_| refuse("what is behind the host is no name of a repository"))?;
        Ok(Self { host: host.to_owned(), prefix, plain_http, tags: false, namespace })
    }

    /// Sets whether the mirror is asked what tags point at, too.
    #[must_use]
    pub fn with_tags(mut self, tags: bool) -> Self {
        self.tags = tags;
        self
    }
}

/// A registry with mirrors in front of it: reads by digest go to the mirrors first, everything else to the registry.
#[derive(Clone)]
pub struct Mirrored {
    registry: Arc<dyn Registry>,
    mirrors: Vec<Place>,
}

#[derive(Clone)]
struct Place {
    name: String,
    registry: Arc<dyn Registry>,
    tags: bool,
    /// Until when it is passed over, because it did not answer or did not tell the truth.
    rests: Arc<Mutex<Option<Instant>>>,
}

impl Place {
    fn is_awake(&self) -> bool {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|until| Instant::now() >= until)
    }

    /// Notes why it is passed over. Nothing that a mirror does keeps the registry from being asked.
    fn failed(&self, error: &RegistryError) {
        if error.is_not_found() {
            tracing::debug!(mirror = self.name, %error, "not on the mirror");
            return;
        }
        tracing::warn!(mirror = self.name, %error, "going past a mirror");
        if error.is_transient() || error.is_integrity() || matches!(error, RegistryError::Io { .. }) {
            *self.rests.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
        }
    }
}

impl Place {
    /// It is passed over for a while: the registry was asked later and answered first.
    fn was_slow(&self) {
        tracing::warn!(mirror = self.name, "going past a mirror that does not answer");
        *self.rests.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
    }
}

/// The content of `reader`, all of which is here and has `digest`.
async fn checked(reader: BlobReader, digest: &Digest) -> Result<BlobReader> {
    let BlobReader { size, range, mut stream, ranged } = reader;
    let action = || format!("reading {digest} from a mirror");
    let mut bytes = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|source| RegistryError::Source { action: action(), source })?;
        if bytes.len() as u64 + chunk.len() as u64 > size {
            let got = bytes.len() as u64 + chunk.len() as u64;
            return Err(RegistryError::SizeMismatch { action: action(), expected: size, got });
        }
        bytes.extend_from_slice(&chunk);
    }
    let got = Digest::of(digest.algorithm(), &bytes);
    if got != *digest {
        return Err(RegistryError::DigestMismatch { action: action(), expected: *digest, got });
    }
    let chunks = (!bytes.is_empty()).then(|| Ok(bytes.freeze()));
    Ok(BlobReader { size, range, stream: futures_util::stream::iter(chunks).boxed(), ranged })
}

impl Mirrored {
    /// `registry` without mirrors yet.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry, mirrors: Vec::new() }
    }

    /// Adds a mirror behind the others: `registry` is a client for `mirror.host`.
    #[must_use]
    pub fn with(mut self, mirror: &Mirror, registry: Arc<dyn Registry>) -> Self {
        let registry = match &mirror.prefix {
            Some(prefix) => Arc::new(Prefix::new(registry, prefix.clone())),
            None => registry,
        };
        let (name, tags) = (mirror.host.clone(), mirror.tags);
        self.mirrors.push(Place { name, registry, tags, rests: Arc::default() });
        self
    }

    fn awake(&self) -> impl Iterator<Item = &Place> {
        self.mirrors.iter().filter(|place| place.is_awake())
    }

    /// The mirrors to ask about `target`.
    fn for_target(&self, target: &Target) -> impl Iterator<Item = &Place> {
        let by_digest = matches!(target, Target::Digest(_));
        self.awake().filter(move |place| by_digest || place.tags)
    }

    /// Asks `places` in turn, and the registry if none of them knows; the answer, and the mirror that gave it.
    async fn ask<'a, T, F: Future<Output = Result<T>>>(
        &'a self,
        places: impl Iterator<Item = &'a Place>,
        question: impl Fn(Arc<dyn Registry>) -> F,
    ) -> Result<(T, Option<&'a Place>)> {
        for place in places {
            let mut asked = pin!(question(Arc::clone(&place.registry)));
            let Ok(answer) = timeout(PATIENCE, &mut asked).await else {
                return match select(asked, pin!(question(Arc::clone(&self.registry)))).await {
                    Either::Left((Ok(found), _)) => Ok((found, Some(place))),
                    Either::Left((Err(error), registry)) => {
                        place.failed(&error);
                        Ok((registry.await?, None))
                    }
                    Either::Right((Ok(found), _)) => {
                        place.was_slow();
                        Ok((found, None))
                    }
                    // The mirror may have what the registry cannot give now.
                    Either::Right((Err(error), asked)) => match asked.await {
                        Ok(found) => Ok((found, Some(place))),
                        Err(_) => Err(error),
                    },
                };
            };
            match answer {
                Ok(found) => return Ok((found, Some(place))),
                // The caller's mistake is the same everywhere.
                Err(error) if error.error_code() == ErrorCode::RangeInvalid => return Err(error),
                Err(error) => place.failed(&error),
            }
        }
        Ok((question(Arc::clone(&self.registry)).await?, None))
    }

    /// The stream of `reader`, which goes on at the registry where the mirror breaks off.
    fn continued(&self, place: &Place, at: (&Repository, &Digest), reader: BlobReader, whole: bool) -> BlobReader {
        let BlobReader { size, range, stream, ranged } = reader;
        let state = Continued {
            hasher: whole.then(|| Hasher::new(at.1.algorithm())),
            place: place.clone(),
            registry: Arc::clone(&self.registry),
            repository: at.0.clone(),
            digest: *at.1,
            left: range.clone(),
            stream,
            at_mirror: true,
        };
        let stream = futures_util::stream::try_unfold(state, |mut state| async move {
            Ok(state.next().await?.map(|bytes| (bytes, state)))
        });
        BlobReader { size, range, stream: stream.boxed(), ranged }
    }
}

/// A read that began at a mirror.
struct Continued {
    place: Place,
    registry: Arc<dyn Registry>,
    repository: Repository,
    digest: Digest,
    left: Range<u64>,
    stream: ByteStream,
    at_mirror: bool,
    /// Takes in everything, if that is the whole blob: its two ends come from different places.
    hasher: Option<Hasher>,
}

impl Continued {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            let error = match self.stream.next().await {
                Some(Ok(bytes)) => {
                    self.left.start += bytes.len() as u64;
                    self.check(&bytes)?;
                    return Ok(Some(bytes));
                }
                None => return Ok(None),
                Some(Err(error)) => error,
            };
            // Bytes that were handed out cannot be taken back: wrong ones end the read.
            let wrong = error.kind() == FailureKind::Integrity || self.left.is_empty();
            if self.at_mirror {
                let action = format!("reading {}@{} from a mirror", self.repository, self.digest);
                self.place.failed(&RegistryError::Io { action, transient: true, source: error.to_string().into() });
            }
            if wrong || !std::mem::take(&mut self.at_mirror) {
                return Err(error);
            }
            let again = self.registry.read_blob(&self.repository, &self.digest, Some(self.left.clone())).await;
            let id = SourceId::new(format!("{}@{}", self.repository, self.digest));
            self.stream = again.map_err(|error| error.into_source_error(id))?.stream;
        }
    }

    /// Whoever reads a whole blob learns of a wrong digest in place of the last chunk. What comes from one place alone was
    /// checked there.
    fn check(&mut self, bytes: &Bytes) -> Result<(), SourceError> {
        let Some(hasher) = &mut self.hasher else { return Ok(()) };
        hasher.update(bytes);
        if self.at_mirror || !self.left.is_empty() {
            return Ok(());
        }
        let got = self.hasher.take().map(Hasher::finish);
        let Some(got) = got.filter(|got| *got != self.digest) else { return Ok(()) };
        let action = format!("reading {}@{}, which a mirror began", self.repository, self.digest);
        let error = RegistryError::DigestMismatch { action, expected: self.digest, got };
        self.place.failed(&error);
        Err(error.into_source_error(SourceId::from(self.digest)))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Registry for Mirrored {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        let question = |registry: Arc<dyn Registry>| async move { registry.resolve(repository, target).await };
        Ok(self.ask(self.for_target(target), question).await?.0)
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        let question = |registry: Arc<dyn Registry>| async move { registry.manifest(repository, target).await };
        Ok(self.ask(self.for_target(target), question).await?.0)
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        let question = |registry: Arc<dyn Registry>| async move { registry.stat_blob(repository, digest).await };
        Ok(self.ask(self.awake(), question).await?.0)
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        let question = |registry: Arc<dyn Registry>| {
            let range = range.clone();
            async move { registry.read_blob(repository, digest, range).await }
        };
        let (reader, place) = self.ask(self.awake(), question).await?;
        let Some(place) = place else { return Ok(reader) };
        if range.is_some() || reader.size > CHECKED {
            return Ok(self.continued(place, (repository, digest), reader, range.is_none()));
        }
        // What is small is checked before the first byte, so that wrong bytes cost nothing but a request.
        match checked(reader, digest).await {
            Ok(reader) => Ok(reader),
            Err(error) => {
                place.failed(&error);
                self.registry.read_blob(repository, digest, None).await
            }
        }
    }

    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        for place in self.awake() {
            if let Ok(Some(found)) = place.registry.local_blob(repository, digest).await {
                return Ok(Some(found));
            }
        }
        self.registry.local_blob(repository, digest).await
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob> {
        self.registry.push_blob(repository, blob).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        self.registry.start_upload(repository).await
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        self.registry.resume_upload(repository, id).await
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        self.registry.mount_blob(repository, digest, from).await
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        self.registry.push_manifest(repository, manifest).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.registry.delete_manifest(repository, digest).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.registry.delete_blob(repository, digest).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        self.registry.delete_tag(repository, tag).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        self.registry.tags(repository, page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        self.registry.referrers(repository, subject, artifact_type, page).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        self.registry.repositories(page).await
    }
}

impl fmt::Debug for Mirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mirrors: Vec<_> = self.mirrors.iter().map(|place| &place.name).collect();
        f.debug_struct("Mirrored").field("registry", &self.registry).field("mirrors", &mirrors).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, host, prefix, plain) in [
            ("m.example", "m.example", None, None),
            ("http://127.0.0.1:5000", "127.0.0.1:5000", None, Some(true)),
            ("https://m.example:8443/a/b/", "m.example:8443", Some("a/b"), Some(false)),
        ] {
            let mirror = Mirror::parse(text).unwrap();
            assert_eq!((mirror.host.as_str(), mirror.plain_http, mirror.tags), (host, plain, false));
            assert_eq!(mirror.prefix.as_ref().map(Repository::as_str), prefix, "{text}");
        }
        for bad in
            ["", "ftp://m", "https://", "u:canary@m.example", "https://u:canary@m", "m/A", "m.example:99999", "a b"]
        {
            let error = Mirror::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
