//! Progress on standard error: stage, bytes, files, rate and the time that is left.
//!
//! The operation only stores numbers; a thread of its own draws them, so a slow terminal slows nothing down.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blob::core::{Event, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::size::human;
use crate::args::ProgressMode;

/// How often the terminal is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How often a line is written where there is no terminal and nobody asked for progress.
const RARELY: Duration = Duration::from_secs(10);

/// How often a line is written where somebody asked for lines.
const LINE: Duration = Duration::from_secs(1);

/// How many questions wait for an answer, and whether a bar is on the terminal. Whoever draws holds the lock.
static TERMINAL: Mutex<(u32, bool)> = Mutex::new((0, false));

/// A question is on the terminal: nothing is drawn over it while this lives.
pub(crate) struct Question(());

impl Question {
    /// Takes away what is drawn.
    pub(crate) fn begin() -> Self {
        let mut terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut terminal.1) {
            // That it cannot be written cannot be told anybody.
            let _ = std::io::stderr().write_all(b"\r\x1b[2K");
        }
        terminal.0 += 1;
        Self(())
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        TERMINAL.lock().unwrap_or_else(PoisonError::into_inner).0 -= 1;
    }
}

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
    Copying,
    Comparing,
}

impl Stage {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Starting, "starting"),
        (Self::Scanning, "scanning"),
        (Self::Archiving, "archiving"),
        (Self::Uploading, "uploading"),
        (Self::Fetching, "fetching"),
        (Self::Extracting, "extracting"),
        (Self::Copying, "copying"),
        (Self::Comparing, "comparing"),
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
    /// How far the blobs of a copy are: by name the bytes that are done and those that there are.
    copied: Mutex<HashMap<Box<str>, (u64, u64)>>,
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
struct Comparing(Arc<Numbers>);

impl Progress for Comparing {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        let told = self.0.event(event);
        if matches!(event, Event::Archived { .. }) {
            self.0.stage.store(Stage::Comparing as u8, Ordering::Relaxed);
        }
        told
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
        let mut facts = Vec::new();
        if self.bytes_total > 0 {
            facts.push(format!("{} of {}", human(self.bytes), human(self.bytes_total)));
        }
        match (self.files, self.files_total) {
            (0, 0) => {}
            (files, 0) => facts.push(format!("{files} files")),
            (files, total) => facts.push(format!("{files} of {total} files")),
        }
        if facts.is_empty() { self.stage.to_owned() } else { format!("{}: {}", self.stage, facts.join(", ")) }
    }

    /// One line for programs; `rate` is in bytes per second.
    fn json(&self, rate: u64) -> String {
        let &Self { stage, bytes, bytes_total, files, files_total } = self;
        let seconds_left = (rate > 0).then(|| bytes_total.saturating_sub(bytes).div_ceil(rate));
        let told = Told { stage, bytes, bytes_total, files, files_total, bytes_per_second: rate, seconds_left };
        super::json::line(&Line { progress: told })
    }

    /// One line with a bar; `rate` is in bytes per second.
    fn drawn(&self, rate: u64) -> String {
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
            let left = self.bytes_total.saturating_sub(self.bytes).div_ceil(rate);
            let _ = write!(text, ", {}/s, {} left", human(rate), clock(left));
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
    /// `starting`, `scanning`, `archiving`, `uploading`, `fetching`, `extracting`, `copying` or `comparing`.
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
    /// Seconds that are left at this rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    vec![crate::schemas::line::<Line>("progress")]
}

/// How many characters the bar has.
const BAR: usize = 24;

/// `42s`, `3m05s`, `2h07m`.
fn clock(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// When a stage began, and with how many bytes: its rate is measured from there.
struct Pace {
    stage: &'static str,
    begun: Instant,
    first: u64,
}

impl Pace {
    /// The rate at `now` in bytes per second; 0 as long as it cannot be told.
    fn rate(&mut self, now: &Snapshot) -> u64 {
        if self.stage != now.stage || now.bytes < self.first {
            *self = Self { stage: now.stage, begun: Instant::now(), first: now.bytes };
        }
        let millis = self.begun.elapsed().as_millis();
        if millis < 500 {
            return 0;
        }
        let rate = u128::from(now.bytes - self.first) * 1000 / millis;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

/// What progress looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    Bar,
    Lines,
    Json,
}

/// Shows the numbers every `pause` until the channel is closed. A short operation ends before anything is shown, except
/// for programs, which are told the last numbers whatever came before.
fn draw(numbers: &Numbers, stopped: &Receiver<()>, face: Face, pause: Duration) {
    let style = ProgressStyle::with_template("{wide_msg}").expect("the template is valid");
    let bar = (face == Face::Bar)
        .then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style));
    let mut before = Snapshot::default();
    let mut pace = Pace { stage: "", begun: Instant::now(), first: 0 };
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let mut terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
        if terminal.0 > 0 {
            continue;
        }
        terminal.1 |= bar.is_some();
        let now = numbers.read();
        let rate = pace.rate(&now);
        // Standard error that cannot be written ends nothing.
        match (&bar, face) {
            (Some(bar), _) => bar.set_message(now.drawn(rate)),
            (None, Face::Json) => drop(write!(std::io::stderr(), "{}", now.json(rate))),
            (None, _) if now != before => drop(writeln!(std::io::stderr(), "{}", now.line())),
            (None, _) => {}
        }
        before = now;
    }
    let last = numbers.read();
    if face == Face::Json && last.stage != Stage::ALL[0].1 && last != before {
        drop(write!(std::io::stderr(), "{}", last.json(pace.rate(&last))));
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// Shows progress until it is dropped; what it drew is gone then.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    numbers: Arc<Numbers>,
    drawing: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Meter {
    /// A meter that draws if that is wanted.
    pub(crate) fn start(mode: ProgressMode, silent: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::env::var("TERM").as_deref() != Ok("dumb");
        let wanted = match mode {
            ProgressMode::Auto => !silent,
            ProgressMode::Always | ProgressMode::Json => true,
            ProgressMode::Never => false,
        };
        if !wanted {
            return Self::default();
        }
        let face = match mode {
            ProgressMode::Json => Face::Json,
            _ if terminal => Face::Bar,
            _ => Face::Lines,
        };
        let pause = match (face, mode) {
            (Face::Bar, _) => FRAME,
            (Face::Lines, ProgressMode::Auto) => RARELY,
            _ => LINE,
        };
        let numbers = Arc::new(Numbers::default());
        let (stop, stopped) = mpsc::channel();
        let watched = Arc::clone(&numbers);
        let thread = std::thread::spawn(move || draw(&watched, &stopped, face, pause));
        Self { numbers, drawing: Mutex::new(Some((stop, thread))) }
    }

    /// Where operations report to.
    pub(crate) fn watcher(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.numbers) as Arc<dyn Progress>
    }

    /// Where a directory that is compared reports to, which is archived for that.
    pub(crate) fn comparing(&self) -> Arc<dyn Progress> {
        Arc::new(Comparing(Arc::clone(&self.numbers)))
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
        for (what, bytes, bytes_total, expected) in [
            ("sha256:a", 1, 10, "copying: 1 of 10"),
            ("sha256:b", 0, 5, "copying: 1 of 15"),
            ("sha256:a", 10, 10, "copying: 10 of 15"),
            ("sha256:b", 5, 5, "copying: 15 of 15"),
        ] {
            assert_eq!(line(Event::Uploading { what, bytes, bytes_total }), expected);
        }
    }

    #[test]
    fn a_bar_tells_how_much_is_left() {
        let mut now = Snapshot { stage: "archiving", bytes: 1 << 20, bytes_total: 4 << 20, files: 3, files_total: 9 };
        assert_eq!(now.drawn(0), "archiving  [=====>                  ] 1.0M of 4.0M, 3 of 9 files");
        assert!(now.drawn(1 << 10).ends_with(", 1.0K/s, 51m12s left"), "{}", now.drawn(1 << 10));
        now.bytes = 5 << 20;
        assert!(now.drawn(7).contains("=======================>] 5.0M") && now.drawn(7).ends_with(" 0s left"));
        assert_eq!((clock(59), clock(3600)), ("59s".into(), "1h00m".into()));
    }

    #[test]
    fn the_documentation_shows_what_is_drawn() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/screens.md"));
        let at =
            |stage, bytes, bytes_total, files, files_total| Snapshot { stage, bytes, bytes_total, files, files_total };
        for (now, rate) in [
            (at("scanning", 0, 0, 1834, 0), 0),
            (at("archiving", 212 << 20, 512 << 20, 812, 2048), 90 << 20),
            (at("uploading", 96 << 20, 180 << 20, 0, 0), 24 << 20),
            (at("extracting", 256 << 20, 512 << 20, 1020, 2048), 128 << 20),
        ] {
            assert!(page.contains(&format!("\n{}\n", now.drawn(rate))), "{}", now.drawn(rate));
        }
        let now = at("extracting", 256 << 20, 512 << 20, 1020, 2048);
        assert!(page.contains(&now.json(128 << 20)), "{}", now.json(128 << 20));
        assert!(page.contains(&format!("\n{}\n", now.line())), "{}", now.line());
    }

    #[test]
    fn programs_are_told_in_json() {
        let now = Snapshot { stage: "archiving", bytes: 1, bytes_total: 4, files: 3, files_total: 9 };
        let told: serde_json::Value = serde_json::from_str(&now.json(2)).expect("it is JSON");
        assert_eq!((&told["progress"]["bytes_total"], &told["progress"]["seconds_left"]), (&4.into(), &2.into()));
        assert!(!now.json(0).contains("seconds_left"));
    }

    #[test]
    fn stages_have_their_names() {
        for (position, (stage, _)) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, position);
        }
    }

    #[test]
    fn a_meter_waits_for_who_still_works() {
        let meter = Meter::start(ProgressMode::Always, false);
        let (watcher, (reported, report)) = (meter.watcher(), mpsc::channel());
        let worker = std::thread::spawn(move || {
            while watcher.event(&Event::Scanning { found: 1 }).is_continue() {
                reported.send(()).expect("the test waits");
            }
            std::thread::sleep(Duration::from_millis(50));
        });
        report.recv().expect("the worker reports");
        meter.stop(Duration::from_mins(1));
        assert_eq!(Arc::strong_count(&meter.numbers), 1);
        worker.join().expect("the worker ends");
    }
}
