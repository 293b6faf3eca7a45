//! What happens, in the log of `-v`: each step when it begins and when it is done.

use std::sync::atomic::{AtomicU8, Ordering};

use blob::core::Event;

/// Which steps were told. Several threads report, and each step is told once.
#[derive(Debug, Default)]
pub(super) struct Narrator(AtomicU8);

const SCANNING: u8 = 1;
const SCANNED: u8 = 1 << 1;
const ARCHIVED: u8 = 1 << 2;
const UPLOADING: u8 = 1 << 3;
const UPLOADED: u8 = 1 << 4;
const EXTRACTING: u8 = 1 << 5;
const EXTRACTED: u8 = 1 << 6;

impl Narrator {
    /// Tells what `event` is the beginning or the end of.
    pub(super) fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Scanning { .. } if self.first(SCANNING) => tracing::info!("scanning the files"),
            Event::Archived { files, files_total, bytes, bytes_total, .. } => {
                if self.first(SCANNED) {
                    tracing::info!(files = files_total, bytes = bytes_total, "scanned; archiving");
                }
                if files == files_total && self.first(ARCHIVED) {
                    tracing::info!(files, bytes, "archived");
                }
            }
            Event::Uploading { what: "data", bytes, bytes_total } => {
                if self.first(UPLOADING) {
                    tracing::info!(bytes = bytes_total, "uploading the data");
                }
                if bytes == bytes_total && self.first(UPLOADED) {
                    tracing::info!(bytes, "uploaded the data");
                }
            }
            Event::Uploading { what, bytes, bytes_total } if what.starts_with("sha") && bytes == bytes_total => {
                tracing::info!(blob = what, bytes, "copied");
            }
            Event::Fetching { what } => tracing::info!(what, "fetching"),
            Event::Extracted { files, files_total, bytes, bytes_total, .. } => {
                if self.first(EXTRACTING) {
                    tracing::info!(files = files_total, bytes = bytes_total, "extracting");
                }
                if files == files_total && self.first(EXTRACTED) {
                    tracing::info!(files, bytes, "extracted");
                }
            }
            _ => {}
        }
    }

    /// Whether nobody told `step` before.
    fn first(&self, step: u8) -> bool {
        // Most events are neither the first nor the last of theirs.
        self.0.load(Ordering::Relaxed) & step == 0 && self.0.fetch_or(step, Ordering::Relaxed) & step == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once() {
        let narrator = Narrator::default();
        assert!(narrator.first(SCANNED) && !narrator.first(SCANNED) && narrator.first(ARCHIVED));
    }
}
