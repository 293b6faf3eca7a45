//! Progress on standard error: stage, bytes, files, rate and the time that is left.
//!
//! The operation only stores numbers; a thread of its own draws them, so a slow terminal slows nothing down.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blob::Client;
use blob::core::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

mod numbers;

use crate::args::ProgressMode;
use numbers::{Comparing, Numbers, Snapshot};

#[cfg(test)]
pub(crate) use numbers::schemas;
pub(crate) use numbers::{Stage, Tally};

/// How often the terminal is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How often a line is written where there is no terminal and nobody asked for progress.
const RARELY: Duration = Duration::from_secs(10);

/// How often a line is written where somebody asked for lines.
const LINE: Duration = Duration::from_secs(1);

/// How many questions wait for an answer, and whether a bar is on the terminal. Whoever draws holds the lock.
static TERMINAL: Mutex<(u32, bool)> = Mutex::new((0, false));

/// Standard error above what is drawn: a line that is written takes the bar away, which is drawn anew below it.
#[derive(Debug, Default)]
pub(crate) struct Above(());

impl io::Write for Above {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stderr = io::stderr().lock();
        if std::mem::take(&mut terminal.1) {
            stderr.write_all(b"\r\x1b[2K")?;
        }
        stderr.write_all(text)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A question is on the terminal: nothing is drawn over it while this lives.
pub(crate) struct Question(());

impl Question {
    /// Takes away what is drawn.
    pub(crate) fn begin() -> Self {
        let mut terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut terminal.1) {
            // That it cannot be written cannot be told anybody.
            let _ = io::stderr().write_all(b"\r\x1b[2K");
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
            (None, Face::Json) => drop(write!(io::stderr(), "{}", now.json(rate))),
            // That it has begun is known.
            (None, _) if pause == RARELY && now.stage == Stage::ALL[0].1 => {}
            (None, _) if now != before => drop(writeln!(io::stderr(), "{}", now.line())),
            (None, _) => {}
        }
        before = now;
    }
    let last = numbers.read();
    if face == Face::Json && last.stage != Stage::ALL[0].1 && last != before {
        drop(write!(io::stderr(), "{}", last.json(pace.rate(&last))));
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// Shows progress until it is dropped; what it drew is gone then.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    numbers: Arc<Numbers>,
    /// Whether who asks is told in JSON.
    json: bool,
    drawing: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Meter {
    /// A meter that draws if that is wanted.
    pub(crate) fn start(mode: ProgressMode, silent: bool) -> Self {
        let terminal = io::stderr().is_terminal() && std::env::var("TERM").as_deref() != Ok("dumb");
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
        Self { numbers, json: face == Face::Json, drawing: Mutex::new(Some((stop, thread))) }
    }

    /// Counts what `client` receives, for stages whose own numbers say nothing while something is fetched.
    pub(crate) fn watch(&self, client: &Client) {
        let client = client.clone();
        self.numbers.watch(Box::new(move || client.traffic().received));
    }

    /// Where operations report to.
    pub(crate) fn watcher(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.numbers) as Arc<dyn Progress>
    }

    /// Where a directory that is compared reports to, which is archived for that.
    pub(crate) fn comparing(&self) -> Arc<dyn Progress> {
        Arc::new(Comparing(Arc::clone(&self.numbers)))
    }

    /// What a command reads or writes itself: so many bytes and files in all.
    pub(crate) fn tally(&self, stage: Stage, bytes_total: u64, files_total: u64) -> Tally {
        Tally::begin(&self.numbers, stage, bytes_total, files_total)
    }

    /// Writes a line about how far the command is, whatever was said about progress: somebody asked.
    pub(crate) fn tell(&self) {
        let (now, rate) = (self.numbers.read(), self.numbers.rate());
        let mut terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
        // A question, or the browser, has the terminal.
        if terminal.0 > 0 {
            return;
        }
        let above = if std::mem::take(&mut terminal.1) { "\r\x1b[2K" } else { "" };
        let line = if self.json { now.json(rate) } else { now.asked(rate) + "\n" };
        // Standard error that cannot be written ends nothing.
        let _ = io::stderr().write_all(format!("{above}{line}").as_bytes());
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
    use blob::core::Event;

    use super::numbers::clock;
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
        let mut now = Snapshot {
            stage: "archiving",
            bytes: 1 << 20,
            bytes_total: 4 << 20,
            files: 3,
            files_total: 9,
            ..Snapshot::default()
        };
        assert_eq!(now.drawn(0), "archiving  [=====>                  ] 1.0M of 4.0M, 3 of 9 files");
        assert!(now.drawn(1 << 10).ends_with(", 1.0K/s, 51m12s left"), "{}", now.drawn(1 << 10));
        // Of less than a hundredth nobody can tell.
        now.bytes = 41_942;
        assert!(now.drawn(48).ends_with(", 48/s") && now.asked(48).ends_with(", 48/s"), "{}", now.asked(48));
        assert!(!now.json(48).contains("seconds_left"));
        now.bytes = 41_943;
        assert!(now.asked(48).ends_with(" left") && now.json(48).contains("seconds_left"), "{}", now.asked(48));
        now.bytes = 5 << 20;
        assert!(now.drawn(7).contains("=======================>] 5.0M") && now.drawn(7).ends_with(" 0s left"));
        assert_eq!((clock(59), clock(3600)), ("59s".into(), "1h00m".into()));
    }

    #[test]
    fn the_documentation_shows_what_is_drawn() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/screens.md"));
        let at = |stage, bytes, bytes_total, files, files_total| {
            let rest = Snapshot::default();
            Snapshot { stage, bytes, bytes_total, files, files_total, ..rest }
        };
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
    fn what_is_fetched_counts_where_nothing_else_moves() {
        let numbers = Arc::new(Numbers::default());
        numbers.watch(Box::new(|| 3 << 20));
        let _ = numbers.event(&Event::Fetching { what: "index" });
        assert_eq!(numbers.read().line(), "fetching: 3.0M received");
        let tally = Tally::begin(&numbers, Stage::Exporting, 17 << 20, 0);
        assert_eq!(numbers.read().line(), "exporting: 0 of 17.0M, 3.0M received");
        assert!(numbers.read().json(0).contains("\"bytes_received\":3145728"), "{}", numbers.read().json(0));
        drop(tally);
        let extracted = Event::Extracted { path: b"x", files: 1, files_total: 2, bytes: 1, bytes_total: 4 };
        let _ = numbers.event(&extracted);
        assert_eq!(numbers.read().line(), "extracting: 1 of 4, 1 of 2 files");
    }

    #[test]
    fn programs_are_told_in_json() {
        let rest = Snapshot::default();
        let now = Snapshot { stage: "archiving", bytes: 1, bytes_total: 4, files: 3, files_total: 9, ..rest };
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
