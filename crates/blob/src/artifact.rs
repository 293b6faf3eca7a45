//! Artifacts beside archives: files that are attached to a manifest, and got back from there.
//!
//! An artifact is a manifest whose layers are files, such as a bill of materials; its subject is what it says something
//! about, and registries list it as a referrer of that. The manifests are those that `oras attach` writes and `oras pull`
//! reads. Nothing about an artifact is signed by being attached: its content has the digests of its manifest, and whoever
//! can push can attach.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::source::FileSource;
use blob_core::{Hasher, Progress, plain};
use blob_registry::{
    BlobSource, Descriptor, DownloadOptions, ImageManifest, Outline, Place, PushBlob, PushManifest, RegistryError,
    RegistryExt as _, Target, download, media_type,
};
use bytes::Bytes;
use jiff::Timestamp;

use crate::archive_manifest::CREATED;
use crate::client::Client;
use crate::error::Error;
use crate::location::Location;

/// The annotation that says what a file is called.
const TITLE: &str = "org.opencontainers.image.title";
/// The longest name of a file, in bytes: of the 255 that file systems take, some are for what it is called until it is complete.
const NAME_MAX: usize = 200;
/// The most files that are attached at a time, and the most layers of an artifact that are looked at.
const MAX_FILES: usize = 1000;

/// A file to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachFile {
    /// Where it is. It must stay as it is until it was sent.
    pub path: PathBuf,
    /// Its media type, such as `application/spdx+json`.
    pub media_type: String,
}

impl AttachFile {
    /// The file at `path`.
    pub fn new(path: impl Into<PathBuf>, media_type: impl Into<String>) -> Self {
        Self { path: path.into(), media_type: media_type.into() }
    }
}

/// How files are attached.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct AttachOptions {
    /// Annotations of the manifest. `org.opencontainers.image.created` is added unless it is among them.
    pub annotations: BTreeMap<String, String>,
    /// Send nothing, only find out what would be sent.
    pub dry_run: bool,
    /// Told of the files that are sent, by their names.
    pub progress: Option<Arc<dyn Progress>>,
}

impl std::fmt::Debug for AttachOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("AttachOptions");
        shown.field("annotations", &self.annotations).field("dry_run", &self.dry_run).finish_non_exhaustive()
    }
}

/// An artifact that was attached, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attachment {
    /// The artifact, pinned to its digest.
    pub location: Location,
    /// What it is attached to.
    pub subject: Descriptor,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its files, in the order in which they were named.
    pub files: Vec<ArtifactFile>,
}

/// A file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArtifactFile {
    /// Its name: the last part of the one it was given, if that can be a name in a directory, else made of its digest.
    pub name: String,
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
}

/// An artifact in a registry or layout: its manifest was read, its files were not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Artifact {
    /// Where it is, pinned to its digest.
    pub location: Location,
    /// Its manifest.
    pub manifest: Descriptor,
    /// What kind of artifact it is; empty if its manifest does not say.
    pub artifact_type: String,
    /// What it says something about, if it does.
    pub subject: Option<Descriptor>,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// Its files. There are none in a list of manifests.
    pub files: Vec<ArtifactFile>,
    place: Place,
}

impl Client {
    /// Attaches files, as one artifact of type `artifact_type`, to what is at `location`: an archive, or any other manifest.
    /// The files come first, then the manifest, by its digest alone. A registry that lists no referrers gets the fallback
    /// tag.
    ///
    /// # Errors
    /// [`Error::Attachment`] for types that are none, for no file, and for more than 1,000; [`Error::Io`] for files that cannot
    /// be read; [`Error::Registry`], also where `location` is not there.
    ///
    /// # Cancellation
    /// What was uploaded stays, and does no harm.
    pub async fn attach(
        &self,
        location: &Location,
        artifact_type: &str,
        files: &[AttachFile],
        options: &AttachOptions,
    ) -> Result<Attachment, Error> {
        check(artifact_type, files)?;
        let needs = "tag or digest";
        let target = location.target().ok_or_else(|| Error::Incomplete { location: location.to_string(), needs })?;
        let (registry, repository) = self.registry_without_mirrors(location).await?;
        let subject = registry.resolve(&repository, &target).await;
        let subject = subject.map_err(|source| Error::Registry { action: format!("resolving {location}"), source })?;
        let mut read = Vec::new();
        for file in files {
            read.push(Hashed::read(file.clone()).await?);
        }
        let layers = read.iter().map(|file| file.layer.clone()).collect();
        let mut manifest = ImageManifest::artifact(artifact_type, layers).with_subject(subject.clone());
        manifest.annotations.clone_from(&options.annotations);
        let created = || Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
        manifest.annotations.entry(CREATED.into()).or_insert_with(|| created().to_string());
        let bytes = manifest.to_bytes();
        let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
        if !options.dry_run {
            let failed = |what: &str| {
                let action = format!("attaching {what} to {location}");
                move |source| Error::Registry { action, source }
            };
            for Hashed { name, layer, source } in &read {
                let mut push = PushBlob::new(layer.digest, Arc::new(source.clone()));
                push.progress = options.progress.clone().map(|progress| (name.clone(), progress));
                registry.push_blob(&repository, push).await.map_err(failed(name))?;
            }
            registry.ensure_empty_config(&repository).await.map_err(failed("the empty configuration"))?;
            let push = PushManifest::new(media_type::IMAGE_MANIFEST, bytes);
            registry.push_manifest(&repository, push).await.map_err(failed("the manifest"))?;
        }
        let files = read.into_iter().map(|file| ArtifactFile { name: file.name, descriptor: file.layer }).collect();
        let location = location.with_target(Target::Digest(descriptor.digest));
        Ok(Attachment { location, subject, manifest: descriptor, files })
    }

    /// Reads the manifest of an artifact, which `location` names by tag or digest: one request. Nothing is verified but its
    /// digest.
    ///
    /// # Errors
    /// [`Error::Registry`]: not found, or the registry fails.
    pub async fn artifact(&self, location: &Location) -> Result<Artifact, Error> {
        let needs = "tag or digest";
        let target = location.target().ok_or_else(|| Error::Incomplete { location: location.to_string(), needs })?;
        let (registry, repository) = self.registry_without_mirrors(location).await?;
        let failed = |source| Error::Registry { action: format!("reading the manifest of {location}"), source };
        let manifest = registry.manifest(&repository, &target).await.map_err(failed)?;
        let outline = Outline::parse(&manifest.bytes).map_err(|error| {
            failed(RegistryError::Protocol { action: "a manifest came".into(), detail: error.to_string() })
        })?;
        // The configuration is the first blob, where there is one; no file is there.
        let layers = match ImageManifest::parse(&manifest.bytes) {
            Ok(image) => image.layers,
            Err(_) => outline.blobs,
        };
        if layers.len() > MAX_FILES {
            let detail = format!("it has {} layers, and an artifact may have {MAX_FILES}", layers.len());
            return Err(failed(RegistryError::Protocol { action: "reading an artifact".into(), detail }));
        }
        let files = layers.into_iter().map(ArtifactFile::of).collect();
        Ok(Artifact {
            location: location.with_target(Target::Digest(manifest.descriptor.digest)),
            manifest: manifest.descriptor,
            artifact_type: outline.artifact_type.unwrap_or_default(),
            subject: outline.subject,
            annotations: outline.annotations,
            files,
            place: Place::new(registry, repository),
        })
    }
}

impl Artifact {
    /// The content of a file of at most `limit` bytes, with its digest checked.
    ///
    /// # Errors
    /// [`Error::Registry`], also for a file that is larger, and for other bytes than the digest promises.
    pub async fn read(&self, file: &ArtifactFile, limit: u64) -> Result<Bytes, Error> {
        let wanted = &file.descriptor;
        let (registry, repository) = (Arc::clone(&self.place.registry), self.place.repository.clone());
        let source = BlobSource::new(registry, repository, wanted.digest, wanted.size);
        let failed = |source| Error::Registry { action: format!("reading {} of {}", file.name, self.location), source };
        source.read_whole(limit).await.map_err(failed)
    }

    /// Fetches a file to `path`, which appears, or is replaced, when its content is complete and has the digest.
    ///
    /// # Errors
    /// [`Error::Registry`]: other bytes than the digest promises, a file that cannot be written, or the registry fails.
    ///
    /// # Cancellation
    /// Nothing stays of what came.
    pub async fn save(
        &self,
        file: &ArtifactFile,
        path: &Path,
        progress: Option<Arc<dyn Progress>>,
    ) -> Result<(), Error> {
        let mut options = DownloadOptions::default().with_resume(false);
        options.progress = progress.map(|progress| (file.name.clone(), progress));
        let saved = download(&self.place, &file.descriptor, path, &options).await;
        let action = || format!("fetching {} of {} to {}", file.name, self.location, path.display());
        saved.map(drop).map_err(|source| Error::Registry { action: action(), source })
    }
}

impl ArtifactFile {
    /// A layer as a file. What others called it is a suggestion: it must not lead anywhere.
    fn of(descriptor: Descriptor) -> Self {
        let title = descriptor.annotations.get(TITLE).map_or("", String::as_str);
        let name = title.rsplit(['/', '\\']).next().unwrap_or_default();
        let usable = !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && !name.chars().any(char::is_control);
        let name = if usable { name.to_owned() } else { nameless(&descriptor) };
        Self { name, descriptor }
    }
}

/// A name for a file that has none.
fn nameless(descriptor: &Descriptor) -> String {
    let kind = descriptor.media_type.as_str();
    let is_json = kind == "json" || kind.ends_with("/json") || kind.ends_with("+json");
    format!("{}{}", descriptor.digest.to_string().replace(':', "-"), if is_json { ".json" } else { "" })
}

/// Refuses what no registry would take.
fn check(artifact_type: &str, files: &[AttachFile]) -> Result<(), Error> {
    let kinds = std::iter::once(artifact_type).chain(files.iter().map(|file| file.media_type.as_str()));
    if let Some(wrong) = kinds.into_iter().find(|kind| !is_media_type(kind)) {
        let problem = format!("{wrong:?} is no media type: expected one such as application/spdx+json");
        return Err(Error::Attachment(problem));
    }
    if files.is_empty() || files.len() > MAX_FILES {
        return Err(Error::Attachment(format!("{} files are to be attached: expected 1 to {MAX_FILES}", files.len())));
    }
    Ok(())
}

/// `type/subtype`, each of the characters of RFC 6838.
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        begins
            && name.len() <= 127
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/').is_some_and(|(kind, below)| is_name(kind) && is_name(below))
}

/// A file that was read once, and will be read again when it is sent.
struct Hashed {
    name: String,
    layer: Descriptor,
    source: FileSource,
}

impl Hashed {
    async fn read(file: AttachFile) -> Result<Self, Error> {
        let failed = |path: &Path, source| Error::Io { action: format!("reading {}", path.display()), source };
        let path = file.path.clone();
        let task = tokio::task::spawn_blocking(move || Self::hash(file));
        match task.await {
            Ok(read) => read.map_err(|source| failed(&path, source)),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    fn hash(file: AttachFile) -> io::Result<Self> {
        let mut opened = plain::open(&file.path)?;
        if !opened.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a plain file"));
        }
        let (mut hasher, mut size, mut buffer) = (Hasher::sha256(), 0, vec![0; 128 << 10]);
        loop {
            let read = opened.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            size += read as u64;
        }
        let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut layer = Descriptor::new(file.media_type, hasher.finish(), size);
        layer.annotations.insert(TITLE.into(), name.clone());
        Ok(Self { name, layer, source: FileSource::from_file(opened)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_lead_nowhere() {
        let digest = blob_core::Digest::sha256_of(b"");
        for (title, expected) in [
            ("sbom.json", Some("sbom.json")),
            ("dir/sbom.json", Some("sbom.json")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\x\\y.txt", Some("y.txt")),
            ("", None),
            ("..", None),
            ("a/", None),
            ("a\nb", None),
            ("nul\0", None),
        ] {
            let mut descriptor = Descriptor::new("application/spdx+json", digest, 0);
            descriptor.annotations.insert(TITLE.into(), title.into());
            let name = ArtifactFile::of(descriptor).name;
            assert_eq!(
                name,
                expected.map_or_else(|| format!("sha256-{}.json", digest.hex()), str::to_owned),
                "{title:?}"
            );
        }
        assert!(!ArtifactFile::of(Descriptor::new("text/plain", digest, 0)).name.contains('.'));
    }

    #[test]
    fn media_types_are_two_names() {
        for (text, expected) in [
            ("application/spdx+json", true),
            ("application/vnd.acme.note.v1", true),
            ("spdx", false),
            ("application/", false),
            ("a/b/c", false),
            ("a/b c", false),
            ("text/plain; charset=utf-8", false),
        ] {
            assert_eq!(is_media_type(text), expected, "{text}");
        }
    }
}
