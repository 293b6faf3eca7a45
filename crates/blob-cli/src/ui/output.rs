//! Standard output and standard error.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncWriteExt as _, Stdout};

use crate::error::Failure;

/// See [`has_begun`].
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Standard output as the commands use it. A reader that is slow holds up nobody but the command, which can still be
/// interrupted.
pub(crate) struct Output(Stdout);

impl Output {
    pub(crate) fn new() -> Self {
        Self(tokio::io::stdout())
    }

    /// Writes `bytes`; they may wait for [`finish`](Self::finish).
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        begin();
        self.0.write_all(bytes).await.map_err(|error| Failure::output(&error))
    }

    /// Waits until everything is out.
    pub(crate) async fn finish(&mut self) -> Result<(), Failure> {
        self.0.flush().await.map_err(|error| Failure::output(&error))
    }
}

/// Standard output for those who write to it themselves.
pub(crate) fn raw() -> Stdout {
    begin();
    tokio::io::stdout()
}

/// Says that something is out that must not come twice: on standard output, or in a tree.
pub(crate) fn begin() {
    BEGUN.store(true, Ordering::Relaxed);
}

/// Whether anything was written to standard output, or is half written elsewhere: then a command cannot begin anew.
pub(crate) fn has_begun() -> bool {
    BEGUN.load(Ordering::Relaxed)
}

/// Writes `bytes` to standard output.
pub(crate) async fn print(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut output = Output::new();
    output.write(bytes.as_ref()).await?;
    output.finish().await
}

/// Writes `text` to standard error. That it cannot be written cannot be told anybody.
pub(crate) fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
