//! Copying out of the archive while the browser goes on.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use blob::Archive;
use blob::core::extract::{Existing, ExtractError, ExtractOptions, ExtractReport, Selection};
use blob::core::path::Shown;
use blob::core::{Event, Node, Progress};

use tokio::sync::Notify;

use super::state::Copy;
use crate::ui::size::{count, human};

/// How far a copy is, and the way to stop it.
#[derive(Debug, Default)]
pub(super) struct Advance {
    bytes: AtomicU64,
    total: AtomicU64,
    stopped: AtomicBool,
    stopping: Notify,
}

impl Advance {
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.stopping.notify_one();
    }

    /// `copying 1.2M of 3.4M`
    pub(super) fn text(&self) -> String {
        let (bytes, total) = (self.bytes.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        format!("copying {} of {}, Esc stops it", human(bytes), human(total))
    }
}

impl Progress for Advance {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        if let Event::Extracted { bytes, bytes_total, .. } = event {
            self.bytes.store(*bytes, Ordering::Relaxed);
            self.total.store(*bytes_total, Ordering::Relaxed);
        }
        if self.stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Copies, and says in one line how that went. A copy that waits for bytes stops at once, too.
pub(super) async fn extract(archive: Archive, copy: Copy, advance: Arc<Advance>) -> Result<String, String> {
    tokio::select! {
        copied = copy_out(archive, copy, Arc::clone(&advance)) => copied,
        () = advance.stopping.notified() => Err("stopped".into()),
    }
}

async fn copy_out(archive: Archive, copy: Copy, advance: Arc<Advance>) -> Result<String, String> {
    let mut options = ExtractOptions::default();
    options.existing = if copy.overwrite { Existing::Overwrite } else { Existing::KeepEqual };
    (options.preserve_mode, options.preserve_times) = (true, true);
    options.progress = Some(advance);
    let dest = Shown(copy.dest.as_os_str().as_encoded_bytes()).to_string();
    let done = match copy.paths.as_slice() {
        // One file goes to exactly the name that was typed, unless that is a directory.
        [path] if matches!(archive.index().lookup(path), Some(Node::File(_))) && !is_directory(&copy).await => {
            archive.copy_file(path, &copy.dest, &options).await
        }
        paths => archive.extract(Selection::paths(paths), &copy.dest, &options).await,
    };
    done.map(|report| told(&report, &dest)).map_err(|error| refused(&error))
}

async fn is_directory(copy: &Copy) -> bool {
    let typed = copy.dest.as_os_str().as_encoded_bytes().ends_with(b"/");
    typed || tokio::fs::metadata(&copy.dest).await.is_ok_and(|found| found.is_dir())
}

fn told(report: &ExtractReport, dest: &str) -> String {
    let kept = if report.kept > 0 { format!(", {} equal already", report.kept) } else { String::new() };
    let files = (report.files > 0 || report.symlinks == 0)
        .then(|| format!("{} ({})", count(report.files, "file"), human(report.bytes)));
    let links = (report.symlinks > 0).then(|| count(report.symlinks, "link"));
    let copied: Vec<String> = files.into_iter().chain(links).collect();
    format!("copied {} to {dest}{kept}", copied.join(" and "))
}

fn refused(error: &ExtractError) -> String {
    if let ExtractError::Exists { total, .. } = error {
        return format!("nothing was written: {} there and different; c, then Ctrl-O replaces", count(*total, "file"));
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
