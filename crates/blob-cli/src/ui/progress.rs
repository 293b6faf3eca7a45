//! Progress on standard error: stage, bytes, files, rate and the time that is left.
//!
//! The operation only stores numbers; a thread of its own draws them, so a slow terminal slows nothing down.

use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blob::core::{Event, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::size::human;
use crate::args::When;

/// How often the terminal is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(1);

/// What is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    #[default]
    Starting,
    Scanning,
    Archiving,
    Uploading,
    Fetching,
    Extracting,
}

impl Stage {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Starting, "starting"),
        (Self::Scanning, "scanning"),
        (Self::Archiving, "archiving"),
        (Self::Uploading, "uploading"),
        (Self::Fetching, "fetching"),
        (Self::Extracting, "extracting"),
    ];
}

/// The numbers of an operation. Several threads store, one reads; that they may be of different moments does not
/// matter.
#[derive(Debug, Default)]
struct Numbers {
    stage: AtomicU8,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
    files: AtomicU64,
    files_total: AtomicU64,
    cancelled: AtomicBool,
}

impl Numbers {
    fn store(&self, stage: Stage, bytes: (u64, u64), files: (u64, u64)) {
        self.stage.store(stage as u8, Ordering::Relaxed);
        for (number, value) in
            [(&self.bytes, bytes.0), (&self.bytes_total, bytes.1), (&self.files, files.0), (&self.files_total, files.1)]
        {
            number.store(value, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Snapshot {
        let stage = Stage::ALL.get(usize::from(self.stage.load(Ordering::Relaxed))).unwrap_or(&Stage::ALL[0]);
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Snapshot {
            stage: stage.1,
            bytes: read(&self.bytes),
            bytes_total: read(&self.bytes_total),
            files: read(&self.files),
            files_total: read(&self.files_total),
        }
    }
}

impl Progress for Numbers {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Scanning { found } => self.store(Stage::Scanning, (0, 0), (*found, 0)),
            Event::Archived { files, files_total, bytes, bytes_total, .. } => {
                self.store(Stage::Archiving, (*bytes, *bytes_total), (*files, *files_total));
            }
            // Index and config are small and travel beside the data.
            Event::Uploading { what: "data", bytes, bytes_total } => {
                self.store(Stage::Uploading, (*bytes, *bytes_total), (0, 0));
            }
            Event::Fetching { .. } => self.store(Stage::Fetching, (0, 0), (0, 0)),
            Event::Extracted { files, files_total, bytes, bytes_total, .. } => {
                self.store(Stage::Extracting, (*bytes, *bytes_total), (*files, *files_total));
            }
            _ => {}
        }
        if self.cancelled.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The numbers at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Snapshot {
    stage: &'static str,
    bytes: u64,
    bytes_total: u64,
    files: u64,
    files_total: u64,
}

impl Snapshot {
    /// One line for where there is no bar.
    fn line(&self) -> String {
        let mut line = self.stage.to_owned();
        let of = |done: String, total: u64, shown: String| if total == 0 { done } else { format!("{done} of {shown}") };
        if self.bytes_total > 0 {
            line += &format!(": {}", of(human(self.bytes), self.bytes_total, human(self.bytes_total)));
        }
        if self.files > 0 || self.files_total > 0 {
            let separator = if self.bytes_total > 0 { ", " } else { ": " };
            let files = of(self.files.to_string(), self.files_total, self.files_total.to_string());
            line += &format!("{separator}{files} files");
        }
        line
    }

    /// Shows the numbers in `bar`, which is begun anew for a stage of its own.
    fn draw(&self, bar: &ProgressBar, before: &Self) {
        if self.stage != before.stage || self.bytes < before.bytes {
            bar.reset();
            bar.set_style(style(self.bytes_total > 0));
        } else if (self.bytes_total > 0) != (before.bytes_total > 0) {
            bar.set_style(style(self.bytes_total > 0));
        }
        bar.set_length(self.bytes_total);
        bar.set_position(self.bytes);
        bar.set_prefix(self.stage);
        bar.set_message(match (self.files, self.files_total) {
            (0, 0) => String::new(),
            (files, 0) => format!("{files} files"),
            (files, total) => format!("{files}/{total} files"),
        });
        bar.tick();
    }
}

fn style(measured: bool) -> ProgressStyle {
    let template = if measured {
        "{prefix:10} [{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {msg} {eta} left"
    } else {
        "{prefix:10} {msg}"
    };
    ProgressStyle::with_template(template).expect("the templates are valid").progress_chars("=> ")
}

/// Shows progress until it is dropped; what it drew is gone then.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    numbers: Arc<Numbers>,
    drawing: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Meter {
    /// A meter that draws if that is wanted.
    pub(crate) fn start(when: When, silent: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::env::var("TERM").as_deref() != Ok("dumb");
        if !when.choice().unwrap_or(terminal && !silent) {
            return Self::default();
        }
        let numbers = Arc::new(Numbers::default());
        let (stop, stopped) = mpsc::channel();
        let (drawn, frame) = (Arc::clone(&numbers), if terminal { FRAME } else { LINE });
        let thread = std::thread::spawn(move || {
            let bar = terminal.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
            let mut before = Snapshot::default();
            // A short operation ends before anything is drawn.
            while stopped.recv_timeout(frame) == Err(RecvTimeoutError::Timeout) {
                let now = drawn.read();
                match &bar {
                    Some(bar) => now.draw(bar, &before),
                    // Standard error that cannot be written ends nothing.
                    None if now != before => drop(writeln!(std::io::stderr(), "{}", now.line())),
                    None => {}
                }
                before = now;
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        });
        Self { numbers, drawing: Mutex::new(Some((stop, thread))) }
    }

    /// Where operations report to.
    pub(crate) fn watcher(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.numbers) as Arc<dyn Progress>
    }

    /// Tells whoever still works for a command that was given up to stop, and waits until they have cleaned up, at most
    /// for `limit`. Threads that work for a command hold its watcher to their end, which is how they are known.
    pub(crate) fn stop(&self, limit: Duration) {
        self.clear();
        self.numbers.cancelled.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        while Arc::strong_count(&self.numbers) > 1 && begun.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Takes what was drawn away, before anything else is written.
    pub(crate) fn clear(&self) {
        let drawing = self.drawing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = drawing {
            drop(stop);
            // It ends with its channel and does not panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_a_line() {
        let numbers = Numbers::default();
        let line = |event: Event<'_>| {
            let _ = numbers.event(&event);
            numbers.read().line()
        };
        assert_eq!(line(Event::Scanning { found: 12 }), "scanning: 12 files");
        let archived = Event::Archived { path: b"x", files: 3, files_total: 9, bytes: 1024, bytes_total: 4096 };
        assert_eq!(line(archived), "archiving: 1.0K of 4.0K, 3 of 9 files");
        assert_eq!(
            line(Event::Uploading { what: "index", bytes: 1, bytes_total: 2 }),
            "archiving: 1.0K of 4.0K, 3 of 9 files"
        );
        assert_eq!(line(Event::Uploading { what: "data", bytes: 1, bytes_total: 2 }), "uploading: 1 of 2");
        assert_eq!(line(Event::Fetching { what: "index" }), "fetching");
    }

    #[test]
    fn stages_have_their_names() {
        for (position, (stage, _)) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, position);
        }
    }

    #[test]
    fn a_meter_waits_for_who_still_works() {
        let meter = Meter::start(When::Always, false);
        let (watcher, (reported, report)) = (meter.watcher(), mpsc::channel());
        let worker = std::thread::spawn(move || {
            while watcher.event(&Event::Scanning { found: 1 }).is_continue() {
                reported.send(()).expect("the test waits");
            }
            std::thread::sleep(Duration::from_millis(50));
        });
        report.recv().expect("the worker reports");
        meter.stop(Duration::from_secs(60));
        assert_eq!(Arc::strong_count(&meter.numbers), 1);
        worker.join().expect("the worker ends");
    }
}
