//! Progress: what a long operation tells its caller, and how the caller stops it.

use std::ops::ControlFlow;

/// Something happened. Counts are totals so far, never steps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The tree is being listed: entries found so far.
    Scanning {
        /// Files, links and directories found.
        found: u64,
    },
    /// A file was taken into the archive, or the next part of a large one.
    Archived {
        /// Its path in the archive.
        path: &'a [u8],
        /// Files done.
        files: u64,
        /// Files in all.
        files_total: u64,
        /// Bytes read so far, uncompressed.
        bytes: u64,
        /// Bytes to read in all, uncompressed.
        bytes_total: u64,
    },
    /// A blob is being sent.
    Uploading {
        /// What it is: "index", "data", "config".
        what: &'a str,
        /// Bytes sent.
        bytes: u64,
        /// Bytes in all.
        bytes_total: u64,
    },
    /// A blob was not sent, because the registry has it.
    Existing {
        /// What it is.
        what: &'a str,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A blob is being received.
    Downloading {
        /// What it is.
        what: &'a str,
        /// Bytes that are here, those of earlier attempts included.
        bytes: u64,
        /// Bytes in all.
        bytes_total: u64,
    },
    /// Something small is being fetched: "manifest", "index".
    Fetching {
        /// What it is.
        what: &'a str,
    },
    /// A file was written or skipped.
    Extracted {
        /// Its path in the archive.
        path: &'a [u8],
        /// Files done.
        files: u64,
        /// Files in all.
        files_total: u64,
        /// Content bytes written so far.
        bytes: u64,
        /// Content bytes to write in all.
        bytes_total: u64,
    },
}

/// Watches an operation. Calls may come from several threads; they must be cheap and never block.
pub trait Progress: Send + Sync {
    /// Takes note of `event`. `Break` cancels the operation, which then ends with its `Cancelled` error.
    fn event(&self, event: &Event<'_>) -> ControlFlow<()>;
}

impl<F: Fn(&Event<'_>) -> ControlFlow<()> + Send + Sync> Progress for F {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        self(event)
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn event(&self, _: &Event<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
