//! Whether the blobs on disk are what their names say.
//!
//! A blob is hashed before it comes under its name, and not when it is read: what a disk does to it later is noticed by
//! whoever reads it. With verification it is hashed here, once for as long as its file stays the same: blobs of up to
//! [`FIRST`] bytes before anything of them is handed out, whole reads of larger ones as they go, with the last piece held
//! back until the hash is right. Parts of larger blobs are for their reader to check until a whole read or a collection
//! has hashed them.
//!
//! A store that is served takes a damaged blob out of its place: clients that ask for it then learn that it is not there,
//! and a push mends it. It lies in `.blob/damaged` until a collection gives it up as what is unfinished. Manifests stay,
//! since a collection must not take what they need for garbage; they are hashed whenever they are read.

use std::fs;
use std::io::{self, Seek as _};
use std::path::Path;
use std::time::SystemTime;

use blob_core::{ByteStream, Digest, Hasher, SourceError, SourceId};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::disk::{Layout, is_absent};
use super::memo::Stamp;
use super::upload::hash;
use super::{failed, offload, write};
use crate::error::RegistryError;
use crate::token;

/// Blobs of at most this many bytes are hashed before anything of them is handed out: 64 MiB.
pub(super) const FIRST: u64 = 64 << 20;

/// What is done about blobs that are not what their names say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verify {
    /// Nobody looks.
    #[default]
    No,
    /// Reading them is an error.
    Report,
    /// And they are taken out of their place.
    SetAside,
}

/// What became of a look at a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is what its name says, when it was last looked at.
    Sound,
    /// It is something else, and this is its digest.
    Damaged(Digest),
    /// It is not there.
    Absent,
}

impl Layout {
    /// Looks at a blob, unless its file is known to be sound.
    pub(super) fn judge(&self, digest: &Digest) -> Result<Found, RegistryError> {
        let stamp = match Stamp::of(&self.blob_path(digest)) {
            Err(error) if is_absent(&error) => return Ok(Found::Absent),
            other => other.map_err(failed(|| format!("looking for blob {digest}")))?,
        };
        if self.memo().is_sound(digest, stamp) { Ok(Found::Sound) } else { self.scrub(digest) }
    }

    /// Whether a blob is there and what its name says; one that cannot be read is not.
    pub(super) fn is_sound(&self, digest: &Digest) -> bool {
        let found = self.judge(digest);
        if let Err(error) = &found {
            tracing::error!(%digest, %error, "a blob on disk cannot be read");
        }
        matches!(found, Ok(Found::Sound))
    }

    /// Hashes a blob, whatever is known of it. Damaged ones are set aside where that is what is done.
    pub(super) fn scrub(&self, digest: &Digest) -> Result<Found, RegistryError> {
        let action = || format!("verifying blob {digest} in {}", self.root().display());
        let mut file = match write::open_file(&self.blob_path(digest)) {
            Err(error) if is_absent(&error) => return Ok(Found::Absent),
            other => other.map_err(failed(action))?,
        };
        let stamp = file.metadata().and_then(|meta| Stamp::from(&meta)).map_err(failed(action))?;
        let mut got = hash(&mut file, digest.algorithm()).map_err(failed(action))?;
        if got != *digest {
            // Memory has faults, too: what may go for good is looked at twice. (The system may have the file in memory; then
            // the disk is not.)
            got = file.rewind().and_then(|()| hash(&mut file, digest.algorithm())).map_err(failed(action))?;
        }
        if got == *digest {
            self.memo().remember_sound(*digest, stamp);
            return Ok(Found::Sound);
        }
        tracing::error!(layout = %self.root().display(), %digest, %got, "a blob on disk is damaged");
        if self.verify() == Verify::SetAside {
            self.set_aside(digest, stamp)?;
        }
        Ok(Found::Damaged(got))
    }

    /// Moves the file of `stamp` out of its place. One that came to it meanwhile stays.
    fn set_aside(&self, digest: &Digest, stamp: Stamp) -> Result<(), RegistryError> {
        let action = || format!("setting the damaged blob {digest} aside");
        if self.names_manifest(digest)? {
            return Ok(());
        }
        self.locked(|| {
            let place = self.blob_path(digest);
            let aside = self.damaged().join(token::random()?);
            let moved = || -> io::Result<bool> {
                fs::create_dir_all(self.damaged())?;
                if Stamp::of(&place).is_ok_and(|now| !now.same_file(&stamp)) {
                    return Ok(false);
                }
                match fs::rename(&place, &aside) {
                    Err(error) if is_absent(&error) => return Ok(false),
                    other => other?,
                }
                if Stamp::of(&aside)?.same_file(&stamp) {
                    return Ok(true);
                }
                // Pushes of blobs need no lock: what was moved is what a push has just put there.
                put_back(&aside, &place)?;
                Ok(false)
            };
            if moved().map_err(failed(action))? {
                // It is given up when it has lain here for a while, however old it is.
                let young = write::open_file(&aside).and_then(|file| file.set_modified(SystemTime::now()));
                tracing::error!(path = %aside.display(), %digest, ok = young.is_ok(), "a damaged blob was set aside");
                write::sync_directory(place.parent().unwrap_or(self.root())).map_err(failed(action))?;
            }
            Ok(())
        })
    }

    /// The content of a whole blob, which is hashed as it goes by.
    pub(super) fn watched(&self, digest: Digest, stream: ByteStream, stamp: Stamp) -> ByteStream {
        let watch = Watch { layout: self.clone(), digest, stamp, hasher: Hasher::new(digest.algorithm()), held: None };
        stream::try_unfold(Some((stream, watch)), |state| async move {
            let Some((mut stream, mut watch)) = state else { return Ok::<_, SourceError>(None) };
            while let Some(piece) = stream.try_next().await? {
                watch.hasher.update(&piece);
                if let Some(before) = watch.held.replace(piece) {
                    return Ok(Some((before, Some((stream, watch)))));
                }
            }
            let last = watch.conclude().await?;
            Ok(Some((last, None)))
        })
        .boxed()
    }
}

/// Gives a file its name back, unless another one has it by now.
fn put_back(aside: &Path, place: &Path) -> io::Result<()> {
    match fs::hard_link(aside, place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::rename(aside, place),
        _ => fs::remove_file(aside),
    }
}

/// A blob on its way out.
struct Watch {
    layout: Layout,
    digest: Digest,
    stamp: Stamp,
    hasher: Hasher,
    /// The piece that came last: the last of all goes out when everything is right.
    held: Option<Bytes>,
}

impl Watch {
    /// The last piece, if everything was right.
    async fn conclude(self) -> Result<Bytes, SourceError> {
        let Self { layout, digest, stamp, hasher, held } = self;
        let sound = offload(move || {
            let got = hasher.finish();
            if got == digest {
                layout.memo().remember_sound(digest, stamp);
                return Ok(());
            }
            // Whatever its file has by now: what went out was wrong.
            layout.scrub(&digest)?;
            Err(damaged(digest, got))
        });
        sound.await.map_err(|error| error.into_source_error(SourceId::from(digest)))?;
        Ok(held.unwrap_or_default())
    }
}

/// The refusal to hand a damaged blob out.
pub(super) fn damaged(digest: Digest, got: Digest) -> RegistryError {
    RegistryError::DigestMismatch { action: format!("verifying blob {digest} on disk"), expected: digest, got }
}
