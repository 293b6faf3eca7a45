//! Pushing archives: only what the registry lacks is sent, and nothing when nothing changed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blob_core::create::{CreateOptions, CreateReport, Created};
use blob_core::{ByteSource, Digest, Event, MemorySource, Progress, SourceId};
use blob_policy::FromManifest as _;
use blob_registry::{
    Descriptor, EMPTY_JSON, ErrorCode, LayoutRegistry, Place, PushManifest, PushedBlob, Registry, RegistryError,
    Repository, Tag, media_type,
};
use bytes::Bytes;
use futures_util::future::try_join_all;
use jiff::Timestamp;

use crate::archive_manifest::{ArchiveManifest, CREATED};
use crate::caches::store;
use crate::client::Client;
use crate::error::Error;
use crate::location::Location;

mod input;
mod parcel;

pub(crate) use input::{Input, Spool};
use input::{layout_within, temporary_dir_from_env, without_layout};
use parcel::{Parcel, Question, misses_content};

/// How the time of creation is written.
pub(crate) const CREATED_FORMAT: &str = "%Y-%m-%dT%H:%M:%SZ";

/// How an archive is made and pushed.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct PushOptions {
    /// How the directory becomes an archive; not used for archives that exist.
    pub create: CreateOptions,
    /// Annotations of the manifest. `org.opencontainers.image.created` is added unless it is among them.
    pub annotations: BTreeMap<String, String>,
    /// More tags for the same manifest.
    pub tags: Vec<Tag>,
    /// The time of creation; now by default.
    pub created: Option<Timestamp>,
    /// Repositories of the same registry that may hold the blobs: they are mounted from there.
    pub mount_from: Vec<Repository>,
    /// Sign the archive before a tag points at it: a tag then never names something unsigned. An unchanged archive is
    /// signed too unless it is already, if its manifest is ours to the last byte; else it is pushed anew.
    #[cfg(feature = "sign")]
    pub sign: Option<crate::sign::SignWith>,
    /// Whether to begin although the directory for temporary files has not the room for the files as they are. By default
    /// that is refused before they are read; what compresses well may take far less.
    pub skip_room_check: bool,
    /// Ask the registry also for the blobs that the manifest of the tag names, and send those that it has lost: up to three
    /// requests more. Without this they are believed to be there until the registry refuses a manifest for their sake. Of a
    /// layout on this machine they are hashed, and damaged ones replaced.
    pub recheck: bool,
    /// Fail with [`Error::Empty`] rather than push an archive that holds nothing: for inputs of which a part is wanted.
    pub refuse_empty: bool,
    /// Make the archive and ask the registry what it has, but change nothing: [`Pushed`] then says what would be.
    pub dry_run: bool,
    /// Told of files and bytes; may cancel while the archive is made.
    pub progress: Option<Arc<dyn Progress>>,
}

impl std::fmt::Debug for PushOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushOptions")
            .field("annotations", &self.annotations)
            .field("tags", &self.tags)
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}

/// What became of a push.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pushed {
    /// The manifest that the tag points at now.
    pub manifest: ArchiveManifest,
    /// Whether the tag pointed at the same files and annotations before, so that nothing was sent.
    pub unchanged: bool,
    /// What became of the index blob.
    pub index: PushedBlob,
    /// What became of the data blob.
    pub data: PushedBlob,
    /// What was found in the directory; `None` for archives that existed.
    pub report: Option<CreateReport>,
    /// The signature, if one was asked for.
    #[cfg(feature = "sign")]
    pub signed: Option<crate::sign::Signed>,
}

impl Pushed {
    /// The digest of the manifest.
    pub fn digest(&self) -> &Digest {
        self.manifest.digest()
    }

    /// Payload bytes that were sent: index and data, as far as they were uploaded.
    pub fn uploaded_bytes(&self) -> u64 {
        let sent = |outcome, descriptor: &Descriptor| if outcome == PushedBlob::Uploaded { descriptor.size } else { 0 };
        sent(self.index, self.manifest.index()) + sent(self.data, self.manifest.data())
    }
}

/// The blobs of an archive about to be pushed.
struct Payload {
    index: Bytes,
    data: Arc<dyn ByteSource>,
    data_digest: Digest,
    report: Option<CreateReport>,
}

impl Client {
    /// Makes an archive of the directory `dir` and pushes it to the tag that `location` names. The archive is
    /// assembled in a temporary file that needs as much room as the archive.
    ///
    /// If the tag points at the same files and annotations already, that is found out by the first request, and there
    /// is no other. A registry that refuses a manifest since it has lost what it once had is sent that again. A layout
    /// that is pushed to and lies in `dir` is left out.
    ///
    /// # Errors
    /// [`Error::Create`] for the directory; [`Error::Registry`] for the registry, and [`Error::SomeTags`] when it takes some
    /// of the tags only. Tags are moved last, so that they never point at something incomplete.
    ///
    /// # Cancellation
    /// Dropping the future stops the threads that read the directory and ends the requests.
    pub async fn push(&self, location: &Location, dir: &Path, options: &PushOptions) -> Result<Pushed, Error> {
        let Some(own) = layout_within(location, dir)? else {
            return self.push_input(location, Input::Directory(dir.to_owned()), options).await;
        };
        let mut options = options.clone();
        let inner = options.create.filter.take();
        options.create.filter = Some(Arc::new(move |path: &[u8], kind| {
            path != own.as_slice() && inner.as_ref().is_none_or(|inner| inner(path, kind))
        }));
        self.push_input(location, Input::Directory(dir.to_owned()), &options).await
    }

    pub(crate) async fn push_input(
        &self,
        location: &Location,
        input: Input,
        options: &PushOptions,
    ) -> Result<Pushed, Error> {
        // Boxed, like what follows, so that whoever pushes does not carry it all on the stack.
        let destination = Box::pin(Destination::open(self, location, options)).await?;
        let mut create_options = options.create.clone();
        without_layout(location, &mut create_options);
        // The registry is asked while the input is read; its refusal ends both.
        let (old, payload) =
            tokio::try_join!(destination.current(), self.assemble_payload(input, create_options, options))?;
        Box::pin(self.send(&destination, payload, old, options)).await
    }

    /// Pushes an archive that exists: a local pair of files, or one that was pulled from anywhere.
    ///
    /// # Errors
    /// As [`push`](Self::push); [`Error::Options`] when the archive's index does not record the digest of its data.
    pub async fn push_archive(
        &self,
        location: &Location,
        archive: &blob_core::Archive,
        options: &PushOptions,
    ) -> Result<Pushed, Error> {
        let Some(data_digest) = archive.index().data_digest() else {
            let problem = "the archive's index does not record the digest of its data, so it cannot be pushed";
            return Err(Error::Options(problem.into()));
        };
        let (index, data) = (archive.index().as_bytes().clone(), Arc::clone(archive.source()));
        let check = archive.index().check_data(&data_digest, data.size());
        check.map_err(|source| Error::Index { location: location.to_string(), source })?;
        let destination = Box::pin(Destination::open(self, location, options)).await?;
        let old = destination.current().await?;
        Box::pin(self.send(&destination, Payload { index, data, data_digest, report: None }, old, options)).await
    }

    /// Sends what is missing, and tells the caches where the tags point now.
    async fn send(
        &self,
        destination: &Destination,
        payload: Payload,
        old: Option<ArchiveManifest>,
        options: &PushOptions,
    ) -> Result<Pushed, Error> {
        let pushed = Box::pin(destination.send(self, payload, old, options)).await?;
        destination.to.finish(&destination.location).await?;
        if options.dry_run {
            return Ok(pushed);
        }
        // The others were told to it when they were set; this one may have stood already.
        self.remember_tags(&destination.location, std::slice::from_ref(&destination.tag), *pushed.digest()).await;
        if destination.location.reference().is_some() {
            let manifests = self.caches().manifests.as_ref();
            store(manifests, pushed.digest(), pushed.manifest.as_bytes()).await;
        }
        Ok(pushed)
    }

    /// Reads, hashes and compresses the input on threads of their own.
    async fn assemble_payload(
        &self,
        input: Input,
        mut create_options: CreateOptions,
        options: &PushOptions,
    ) -> Result<Payload, Error> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let watcher = Watcher { inner: options.progress.clone(), cancelled: Arc::clone(&cancelled) };
        create_options.progress = Arc::new(watcher);
        let spool_dir = self.spool_dir().cloned().unwrap_or_else(temporary_dir_from_env);

        let what = input.name();
        let _stop = SetOnDrop(cancelled);
        let spool = Spool::new(spool_dir, options.skip_room_check);
        let work = tokio::task::spawn_blocking(move || input.spool(&spool, &create_options));
        let (created, file) = match work.await {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let Created { index, data_digest, report, .. } = created;
        if options.refuse_empty && report.files + report.symlinks + report.empty_dirs == 0 {
            return Err(Error::Empty { what });
        }
        let data: Arc<dyn ByteSource> = Arc::new(file.with_id(SourceId::from(data_digest)));
        Ok(Payload { index: index.as_bytes().clone(), data, data_digest, report: Some(report) })
    }
}

/// Where an archive is pushed to.
struct Destination {
    location: Location,
    tag: Tag,
    registry: Arc<dyn Registry>,
    repository: Repository,
    to: crate::copy::Destination,
    /// Nothing that is there is believed to be right.
    recheck: bool,
}

impl Destination {
    async fn open(client: &Client, location: &Location, options: &PushOptions) -> Result<Self, Error> {
        let needs = "tag";
        let tag = location.tag().ok_or_else(|| Error::Incomplete { location: location.to_string(), needs })?;
        let to = client.destination(location, options.dry_run, None).await?;
        let Place { mut registry, repository } = to.place.clone();
        if let (Location::Layout { dir, .. }, true, false) = (location, options.recheck, options.dry_run) {
            let opened = LayoutRegistry::open(dir.clone()).await;
            let action = || format!("opening the layout {}", dir.display());
            let layout = opened.map_err(|source| Error::Registry { action: action(), source })?;
            registry = Arc::new(layout.with_verify(true));
        }
        if let (Some(file), true) = (&to.file, options.recheck) {
            registry = Arc::new(file.clone().with_verify(true));
        }
        Ok(Self { location: location.clone(), tag, registry, repository, to, recheck: options.recheck })
    }

    fn failed(&self, source: RegistryError) -> Error {
        Error::Registry { action: self.action(), source }
    }

    fn action(&self) -> String {
        format!("pushing to {}", self.location)
    }

    /// The archive that the tag points at now, if it is one.
    async fn current(&self) -> Result<Option<ArchiveManifest>, Error> {
        match self.registry.manifest(&self.repository, &self.tag.clone().into()).await {
            Ok(old) => match ArchiveManifest::from_manifest(&old.descriptor, &old.bytes) {
                Ok(old) if self.is_whole(&old).await => Ok(Some(old)),
                _ => Ok(None),
            },
            // Some registries deny reading a repository that does not exist yet.
            Err(error) if error.is_not_found() || error.error_code() == ErrorCode::Denied => Ok(None),
            // Damage is what a recheck is for. Servers tell it as an error of theirs.
            Err(error) if self.recheck && error.is_integrity() => Ok(None),
            Err(RegistryError::Code { status: Some(500), .. }) if self.recheck => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Whether the blobs of `old` are there. Registries promise that for every manifest they hold, so only layouts on
    /// this machine, which anybody may have tidied up, are looked at: that costs no request.
    async fn is_whole(&self, old: &ArchiveManifest) -> bool {
        if self.location.reference().is_some() {
            return true;
        }
        for layer in [old.index(), old.data()] {
            match self.registry.stat_blob(&self.repository, &layer.digest).await {
                Ok(size) if size == layer.size => {}
                _ => return false,
            }
        }
        true
    }

    async fn send(
        &self,
        client: &Client,
        payload: Payload,
        old: Option<ArchiveManifest>,
        options: &PushOptions,
    ) -> Result<Pushed, Error> {
        let mut annotations = options.annotations.clone();
        let created = options.created.unwrap_or_else(Timestamp::now);
        annotations.entry(CREATED.into()).or_insert_with(|| created.strftime(CREATED_FORMAT).to_string());
        let manifest = ArchiveManifest::build(&payload.index, (payload.data_digest, payload.data.size()), annotations);
        let standing = old.as_ref().filter(|old| stands(old, &manifest, &payload, options)).cloned();
        let sound = !options.recheck;
        let mut refusal = None;
        if let Some(standing) = standing.clone().filter(|_| sound) {
            match self.unchanged(client, standing, payload.report.clone(), options).await {
                Err(error) => refusal = Some(misses_content(error)?),
                done => return done,
            }
        }
        let manifest = standing.clone().unwrap_or(manifest);
        let parcels = parcels(payload.index, (payload.data_digest, payload.data));
        let believed = |parcel: &Parcel| sound && old.as_ref().is_some_and(|old| old.holds(&parcel.digest));
        let work = parcels.iter().map(|parcel| {
            let question = if believed(parcel) { Question::Known } else { Question::Asked };
            self.deliver(parcel, question, options)
        });
        let mut outcomes = try_join_all(work).await?;
        if let Some(refusal) = refusal {
            self.deliver_again(&parcels, &mut outcomes, (&refusal, false), options).await?;
        } else if let Some(standing) = standing.filter(|_| outcomes.iter().all(|done| *done == PushedBlob::Existing)) {
            return self.unchanged(client, standing, payload.report, options).await;
        }
        let mut attempt = 0;
        let signed = loop {
            match self.conclude(client, &manifest, options).await {
                Err(error) if attempt < 2 => {
                    let refusal = misses_content(error)?;
                    self.deliver_again(&parcels, &mut outcomes, (&refusal, attempt > 0), options).await?;
                    attempt += 1;
                }
                done => break done?,
            }
        };
        #[cfg(not(feature = "sign"))]
        let () = signed;
        Ok(Pushed {
            manifest,
            unchanged: false,
            index: outcomes[1],
            data: outcomes[2],
            report: payload.report,
            #[cfg(feature = "sign")]
            signed,
        })
    }

    /// Signs the manifest if that is wanted, and points the tags at it.
    async fn conclude(
        &self,
        client: &Client,
        manifest: &ArchiveManifest,
        options: &PushOptions,
    ) -> Result<Signature, Error> {
        #[cfg(feature = "sign")]
        let signed = self.sign(client, manifest, options).await?;
        let tags = std::iter::once(self.tag.clone()).chain(options.tags.iter().cloned());
        if !options.dry_run {
            self.point(client, manifest, tags).await?;
        }
        #[cfg(feature = "sign")]
        return Ok(signed);
        #[cfg(not(feature = "sign"))]
        Ok(())
    }

    /// Nothing to send; only tags beyond the one that was looked at are set.
    async fn unchanged(
        &self,
        client: &Client,
        manifest: ArchiveManifest,
        report: Option<CreateReport>,
        options: &PushOptions,
    ) -> Result<Pushed, Error> {
        #[cfg(feature = "sign")]
        let signed = self.sign(client, &manifest, options).await?;
        let others: Vec<Tag> = options.tags.iter().filter(|tag| **tag != self.tag).cloned().collect();
        if !others.is_empty() && !options.dry_run {
            self.point(client, &manifest, others).await?;
        }
        let existing = PushedBlob::Existing;
        Ok(Pushed {
            manifest,
            unchanged: true,
            index: existing,
            data: existing,
            report,
            #[cfg(feature = "sign")]
            signed,
        })
    }

    /// Signs the very manifest that tags will point at, which is pushed without a tag first: whatever others do to the tag
    /// meanwhile, nothing else is signed.
    #[cfg(feature = "sign")]
    async fn sign(
        &self,
        client: &Client,
        manifest: &ArchiveManifest,
        options: &PushOptions,
    ) -> Result<Option<crate::sign::Signed>, Error> {
        let Some(with) = &options.sign else { return Ok(None) };
        if options.dry_run {
            let checked = with.signer.check(with.options.message);
            let location = || self.location.to_string();
            return checked.map(|()| None).map_err(|source| Error::Sign { location: location(), source });
        }
        self.point(client, manifest, []).await?;
        let bytes = manifest.as_bytes().clone();
        let held = blob_registry::Manifest { descriptor: Descriptor::of(media_type::IMAGE_MANIFEST, &bytes), bytes };
        let (location, registry, repository) = (&self.location, &self.registry, &self.repository);
        let place = crate::trust::Place { location, registry, repository, manifest: &held };
        Box::pin(client.sign_manifest(&place, with.signer.as_ref(), &with.options)).await.map(Some)
    }

    async fn point(
        &self,
        client: &Client,
        manifest: &ArchiveManifest,
        tags: impl IntoIterator<Item = Tag>,
    ) -> Result<(), Error> {
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.as_bytes().clone()).with_tags(tags);
        let place = (self.registry.as_ref(), &self.repository, &self.location);
        client.point(place, push, self.action()).await
    }
}

/// What a push has to show for the signature that was asked for.
#[cfg(feature = "sign")]
type Signature = Option<crate::sign::Signed>;
#[cfg(not(feature = "sign"))]
type Signature = ();

/// The blobs of an archive, in the order in which a push reports them.
fn parcels(index: Bytes, (data_digest, data): (Digest, Arc<dyn ByteSource>)) -> [Parcel; 3] {
    let config: Arc<dyn ByteSource> = Arc::new(MemorySource::new(EMPTY_JSON));
    let index_digest = Digest::sha256_of(&index);
    [
        Parcel { what: "config", digest: Digest::sha256_of(EMPTY_JSON), source: config },
        Parcel { what: "index", digest: index_digest, source: Arc::new(MemorySource::new(index)) },
        Parcel { what: "data", digest: data_digest, source: data },
    ]
}

/// Whether `old`, which the registry has, says what `new` says. To leave it alone, the same files and annotations are
/// enough. What is signed is said by us, though: then it must be what we would have written, to the last byte, at the time
/// that it states.
fn stands(old: &ArchiveManifest, new: &ArchiveManifest, payload: &Payload, options: &PushOptions) -> bool {
    if !old.same_but_for_created(new) {
        return false;
    }
    #[cfg(feature = "sign")]
    if options.sign.is_some() && old.as_bytes() != new.as_bytes() {
        let Some(created) = old.created().map(|time| time.strftime(CREATED_FORMAT).to_string()) else { return false };
        let mut annotations = new.annotations().clone();
        annotations.insert(CREATED.into(), created);
        let data = (payload.data_digest, payload.data.size());
        return ArchiveManifest::build(&payload.index, data, annotations).as_bytes() == old.as_bytes();
    }
    #[cfg(not(feature = "sign"))]
    let _ = (payload, options);
    true
}

/// Passes events on, and breaks once the push was dropped.
pub(crate) struct Watcher {
    pub(crate) inner: Option<Arc<dyn Progress>>,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Progress for Watcher {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        self.inner.as_ref().map_or(ControlFlow::Continue(()), |inner| inner.event(event))
    }
}

/// Tells the threads to stop when the future that waits for them is dropped.
pub(crate) struct SetOnDrop(pub(crate) Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
