//! The numbers of an operation, and how they are written.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use blob::core::{Event, Progress};
use serde::Serialize;

use super::super::narrate::Narrator;
use super::super::size::human;

/// What is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    #[default]
    Starting,
    Scanning,
    Archiving,
    Uploading,
    Fetching,
    Extracting,
    Copying,
    Comparing,
    Exporting,
    Checking,
    Searching,
}

impl Stage {
    /// Whether a command reads an archive here, file by file, so that its own numbers stand still while a large one comes.
    fn is_of_readers(self) -> bool {
        matches!(self, Self::Fetching | Self::Exporting | Self::Checking | Self::Searching)
    }

    pub(super) const ALL: [(Self, &'static str); 11] = [
        (Self::Starting, "starting"),
        (Self::Scanning, "scanning"),
        (Self::Archiving, "archiving"),
        (Self::Uploading, "uploading"),
        (Self::Fetching, "fetching"),
        (Self::Extracting, "extracting"),
        (Self::Copying, "copying"),
        (Self::Comparing, "comparing"),
        (Self::Exporting, "exporting"),
        (Self::Checking, "checking"),
        (Self::Searching, "searching"),
    ];
}

/// How many bytes were received until now.
type Received = Box<dyn Fn() -> u64 + Send + Sync>;

/// The numbers of an operation. Several threads store, one reads; that they may be of different moments does not
/// matter.
#[derive(Default)]
pub(super) struct Numbers {
    stage: AtomicU8,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
    files: AtomicU64,
    files_total: AtomicU64,
    pub(super) cancelled: AtomicBool,
    narrator: Narrator,
    /// What came over the network, for stages that do not count it.
    received: Mutex<Option<Received>>,
    /// When the stage began, for who asks how fast it goes.
    begun: Mutex<Option<Instant>>,
    /// How far the blobs of a copy are: by name the bytes that are done and those that there are.
    copied: Mutex<HashMap<Box<str>, (u64, u64)>>,
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers").field("now", &self.read()).finish_non_exhaustive()
    }
}

impl Numbers {
    /// Asks `received` how much came, whenever somebody looks.
    pub(super) fn watch(&self, received: Received) {
        *self.received.lock().unwrap_or_else(PoisonError::into_inner) = Some(received);
    }

    /// What came over the network until now.
    fn received(&self) -> u64 {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.as_ref().map_or(0, |received| received())
    }

    fn store(&self, stage: Stage, bytes: (u64, u64), files: (u64, u64)) {
        if self.stage.swap(stage as u8, Ordering::Relaxed) != stage as u8 {
            *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        for (number, value) in
            [(&self.bytes, bytes.0), (&self.bytes_total, bytes.1), (&self.files, files.0), (&self.files_total, files.1)]
        {
            number.store(value, Ordering::Relaxed);
        }
    }

    /// A blob of a copy went on; several may be under way.
    fn copy(&self, what: &str, now: (u64, u64)) {
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        let before = copied.insert(what.into(), now).unwrap_or_default();
        let new = |sum: &AtomicU64, before, now| sum.load(Ordering::Relaxed).saturating_sub(before) + now;
        let (bytes, total) = if self.stage.load(Ordering::Relaxed) == Stage::Copying as u8 {
            (new(&self.bytes, before.0, now.0), new(&self.bytes_total, before.1, now.1))
        } else {
            now
        };
        self.store(Stage::Copying, (bytes, total), (0, 0));
    }

    /// The rate of the stage until now in bytes per second; 0 as long as it cannot be told.
    pub(super) fn rate(&self) -> u64 {
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = begun.map_or(0, |begun| begun.elapsed().as_millis());
        let rate = u128::from(self.bytes.load(Ordering::Relaxed)) * 1000 / millis.max(1);
        if millis < 100 { 0 } else { u64::try_from(rate).unwrap_or(u64::MAX) }
    }

    pub(super) fn read(&self) -> Snapshot {
        let stage = Stage::ALL.get(usize::from(self.stage.load(Ordering::Relaxed))).unwrap_or(&Stage::ALL[0]);
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Snapshot {
            stage: stage.1,
            received: if stage.0.is_of_readers() { self.received() } else { 0 },
            bytes: read(&self.bytes),
            bytes_total: read(&self.bytes_total),
            files: read(&self.files),
            files_total: read(&self.files_total),
        }
    }
}

impl Progress for Numbers {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        self.narrator.tell(event);
        match event {
            Event::Scanning { found } => self.store(Stage::Scanning, (0, 0), (*found, 0)),
            Event::Archived { files, files_total, bytes, bytes_total, .. } => {
                self.store(Stage::Archiving, (*bytes, *bytes_total), (*files, *files_total));
            }
            // Index and config are small and travel beside the data.
            Event::Uploading { what: "data", bytes, bytes_total } => {
                self.store(Stage::Uploading, (*bytes, *bytes_total), (0, 0));
            }
            Event::Uploading { what, bytes, bytes_total } if what.starts_with("sha") => {
                self.copy(what, (*bytes, *bytes_total));
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

/// What a comparison tells: nothing is archived to stay.
pub(super) struct Comparing(pub(super) Arc<Numbers>);

impl Progress for Comparing {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        let told = self.0.event(event);
        if matches!(event, Event::Archived { .. }) {
            self.0.stage.store(Stage::Comparing as u8, Ordering::Relaxed);
        }
        told
    }
}

/// Counts what a command itself reads or writes.
#[derive(Clone, Debug)]
pub(crate) struct Tally(Arc<Numbers>);

impl Tally {
    pub(super) fn begin(numbers: &Arc<Numbers>, stage: Stage, bytes_total: u64, files_total: u64) -> Self {
        numbers.store(stage, (0, bytes_total), (0, files_total));
        Self(Arc::clone(numbers))
    }

    /// So many bytes more.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes and files in all.
    pub(crate) fn set(&self, bytes: u64, files: u64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
        self.0.files.store(files, Ordering::Relaxed);
    }
}

/// The numbers at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) stage: &'static str,
    pub(super) bytes: u64,
    pub(super) bytes_total: u64,
    pub(super) files: u64,
    pub(super) files_total: u64,
    /// Bytes that came over the network since the command began, where nothing else tells how far it is.
    pub(super) received: u64,
}

impl Snapshot {
    /// One line for where there is no bar.
    pub(super) fn line(&self) -> String {
        let mut facts = Vec::new();
        if self.bytes_total > 0 {
            facts.push(format!("{} of {}", human(self.bytes), human(self.bytes_total)));
        }
        match (self.files, self.files_total) {
            (0, 0) => {}
            (files, 0) => facts.push(format!("{files} files")),
            (files, total) => facts.push(format!("{files} of {total} files")),
        }
        if self.received > 0 {
            facts.push(format!("{} received", human(self.received)));
        }
        if facts.is_empty() { self.stage.to_owned() } else { format!("{}: {}", self.stage, facts.join(", ")) }
    }

    /// How many seconds are left at `rate` bytes per second, if that can be told: where less than a hundredth is done that
    /// rate says little, as of small files before a large one.
    fn seconds_left(&self, rate: u64) -> Option<u64> {
        let left = self.bytes_total.saturating_sub(self.bytes);
        (rate > 0 && self.bytes >= self.bytes_total / 100).then(|| left.div_ceil(rate))
    }

    /// One line for who asked for it, with the `rate` in bytes per second.
    pub(super) fn asked(&self, rate: u64) -> String {
        let done = self.bytes >= self.bytes_total;
        match (rate, self.seconds_left(rate)) {
            (0, _) => self.line(),
            (rate, Some(left)) if !done => format!("{}, {}/s, {} left", self.line(), human(rate), clock(left)),
            (rate, _) => format!("{}, {}/s", self.line(), human(rate)),
        }
    }

    /// One line for programs; `rate` is in bytes per second.
    pub(super) fn json(&self, rate: u64) -> String {
        let &Self { stage, bytes, bytes_total, files, files_total, received } = self;
        let bytes_received = (received > 0).then_some(received);
        let seconds_left = self.seconds_left(rate);
        let told = Told {
            stage,
            bytes,
            bytes_total,
            files,
            files_total,
            bytes_per_second: rate,
            seconds_left,
            bytes_received,
        };
        super::super::json::line(&Line { progress: told })
    }

    /// One line with a bar; `rate` is in bytes per second.
    pub(super) fn drawn(&self, rate: u64) -> String {
        if self.bytes_total == 0 {
            return self.line();
        }
        let done = (u128::from(self.bytes) * BAR as u128 / u128::from(self.bytes_total)) as usize;
        let done = done.min(BAR);
        let bar = "=".repeat(done.saturating_sub(1)) + if done > 0 { ">" } else { "" };
        let line = self.line();
        let facts = line.split_once(": ").map_or("", |(_, facts)| facts);
        let mut text = format!("{:10} [{bar:BAR$}] {facts}", self.stage);
        if rate > 0 {
            let _ = write!(text, ", {}/s", human(rate));
        }
        if let Some(left) = self.seconds_left(rate) {
            let _ = write!(text, ", {} left", clock(left));
        }
        text
    }
}

/// A line of `--progress=json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Line {
    /// How far it is.
    progress: Told,
}

/// The numbers of a moment, since the command began.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Told {
    /// `starting`, `scanning`, `archiving`, `uploading`, `fetching`, `extracting`, `copying`, `comparing`,
    /// `exporting`, `checking` or `searching`.
    stage: &'static str,
    /// Bytes that are done in this stage.
    bytes: u64,
    /// Bytes that there are; 0 as long as that is not known.
    bytes_total: u64,
    /// Files that are done in this stage.
    files: u64,
    /// Files that there are; 0 as long as that is not known.
    files_total: u64,
    /// The rate of this stage; 0 as long as it cannot be told.
    bytes_per_second: u64,
    /// Seconds that are left at this rate, unless too little is done to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
    /// Bytes that came over the network since the command began, where a stage does not count them itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_received: Option<u64>,
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    vec![crate::schemas::line::<Line>("progress")]
}

/// How many characters the bar has.
const BAR: usize = 24;

/// `42s`, `3m05s`, `2h07m`.
pub(super) fn clock(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}
