//! Tar streams: an archive written as one, and one pushed as an archive. Nothing touches a directory on the way.

mod read;
mod write;

use std::io::Read;

use blob_core::create::{CreateOptions, Created, create_from_parts};
use blob_core::source::FileSource;

use crate::client::Client;
use crate::error::Error;
use crate::location::Location;
use crate::push::{Input, PushOptions, Pushed, Spool};

pub use read::TarError;
pub use write::{ExportError, Exported, exported_size};

impl Client {
    /// Makes an archive of a tar stream and pushes it to the tag that `location` names, as
    /// [`push`](Self::push) does with a directory; the same tree gives the same archive. Contents wait in a temporary
    /// file, and the archive in another.
    ///
    /// Of several members with one path the last one counts. Hard links and sparse files become files; sockets, FIFOs and
    /// devices are left out and counted. The stream is read on a thread of its own.
    ///
    /// # Errors
    /// [`Error::Tar`] for the stream: more bytes of content than [`max_bytes`](CreateOptions::max_bytes), absolute paths, paths with `..`, hard links to nothing, compressed streams, and what
    /// `input` fails with; otherwise as [`push`](Self::push).
    ///
    /// # Cancellation
    /// As [`push`](Self::push), but for a read of `input` that is under way.
    pub async fn push_tar(
        &self,
        location: &Location,
        input: impl Read + Send + 'static,
        options: &PushOptions,
    ) -> Result<Pushed, Error> {
        self.push_input(location, Input::Tar(Box::new(input)), options).await
    }
}

/// Reads a tar stream and makes an archive of it in unnamed temporary files: of its contents first, then of the archive.
pub(crate) fn spool_tar(
    input: Box<dyn Read + Send>,
    spool: &Spool,
    options: &CreateOptions,
) -> Result<(Created, FileSource), Error> {
    let contents = spool.file()?;
    // The archive takes as much again, unless it compresses.
    let room = spool.room();
    let limit = options.max_bytes.min(room / 2);
    let what = "the tar stream";
    let parts = read::read(input, &contents, (options, limit)).map_err(|source| match source {
        TarError::TooLarge { bytes, limit } if limit < options.max_bytes => {
            spool.full(what, bytes.saturating_mul(2), room)
        }
        source => Error::Tar { source },
    })?;
    let mut data = spool.file()?;
    let created = create_from_parts(parts, &contents, &mut data, options);
    let created = created.map_err(|source| Error::Create { dir: what.into(), source })?;
    Ok((created, spool.source(data)?))
}
