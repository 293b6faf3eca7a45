//! Checking everything that is stored.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use blob_core::{Digest, Hasher};

use crate::admin::Verified;
use crate::dir::Shared;
use crate::evict::{Scope, walk};
use crate::files::open_regular;
use crate::layout::{Bucket, digest_of_path};
use crate::{block, marker, tag};

/// How much is read at once: 256 KiB.
const CHUNK: usize = 256 * 1024;

/// The digest of `size` bytes of `file` under the algorithm of `like`.
///
/// # Errors
/// `UnexpectedEof` when the file is shorter by now.
pub(crate) fn digest_of(file: &File, size: u64, like: &Digest) -> io::Result<Digest> {
    let mut hasher = Hasher::new(like.algorithm());
    let mut buffer = vec![0; CHUNK.min(size as usize)];
    let mut offset = 0;
    while offset < size {
        let length = buffer.len().min((size - offset) as usize);
        file.read_exact_at(&mut buffer[..length], offset)?;
        hasher.update(&buffer[..length]);
        offset += length as u64;
    }
    Ok(hasher.finish())
}

/// What becomes of what is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// It goes.
    Drop,
    /// It stays, and is only counted.
    Keep,
}

/// Checks every entry of `scope`. One that cannot be read is passed over with a warning.
pub(crate) fn all(shared: &Shared, scope: Scope, damage: Damage) -> io::Result<Verified> {
    marker::require(&shared.root)?;
    let mut verified = Verified::default();
    walk(shared, scope, &mut |bucket, path, meta| {
        let outcome = match bucket {
            Bucket::Blocks => block::check_pack(path, damage),
            Bucket::Tags => tag::check_file(path),
            Bucket::Contents | Bucket::Manifests | Bucket::Indexes => content(path),
        };
        match outcome {
            Ok(Outcome::Sound { checked, dropped }) => {
                verified.checked += checked;
                verified.dropped += dropped;
            }
            Ok(Outcome::Damaged) => {
                verified.checked += 1;
                verified.dropped += 1;
                if damage == Damage::Drop {
                    shared.heal(bucket, path, meta.len(), "found by a check");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "a cache entry cannot be checked"),
        }
    })?;
    Ok(verified)
}

/// What the check of one file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The file may stay. Parts of it were dropped, or would be.
    Sound { checked: u64, dropped: u64 },
    /// The file has to go.
    Damaged,
}

impl Outcome {
    pub(crate) const GOOD: Self = Self::Sound { checked: 1, dropped: 0 };
}

fn content(path: &Path) -> io::Result<Outcome> {
    let (Some(digest), Some((file, meta))) = (digest_of_path(path), open_regular(path)?) else {
        return Ok(Outcome::Damaged);
    };
    let size = meta.len();
    match digest_of(&file, size, &digest) {
        Ok(found) if found == digest => Ok(Outcome::GOOD),
        Ok(_) => Ok(Outcome::Damaged),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Outcome::Damaged),
        Err(error) => Err(error),
    }
}
