//! A program on a pseudo-terminal: keys in, screens out.

use std::io::{Read as _, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};

use crate::support::Place;

/// How long a screen may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program on a terminal.
pub(crate) struct Terminal {
    screen: Arc<Mutex<vt100::Parser>>,
    /// Everything that was written, escape sequences included.
    raw: Arc<Mutex<Vec<u8>>>,
    keyboard: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    reader: Option<JoinHandle<()>>,
    columns: u16,
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    /// Runs the words of `line` on a terminal of 90 columns and 20 lines.
    pub(crate) fn run(place: &Place, line: &str) -> Self {
        Self::sized(place, &place.command(line), (90, 20))
    }

    /// Runs `plain` on a terminal of so many columns and lines.
    pub(crate) fn sized(place: &Place, plain: &Command, (columns, rows): (u16, u16)) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(plain.get_program());
        command.args(plain.get_args());
        command.cwd(place.root.path());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            }
        }
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let raw = Arc::new(Mutex::new(Vec::new()));
        let (shown, kept) = (Arc::clone(&screen), Arc::clone(&raw));
        let mut output = pair.master.try_clone_reader().unwrap();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().process(&buffer[..read]);
                kept.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        let keyboard = pair.master.take_writer().unwrap();
        Self { screen, raw, keyboard, child, reader: Some(reader), columns, _master: pair.master }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    pub(crate) fn contents(&self) -> String {
        let screen = self.screen.lock().unwrap();
        let lines: Vec<String> = screen.screen().rows(0, self.columns).map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n").trim_end().to_owned() + "\n"
    }

    /// Waits until the screen has `text`, and gives the screen.
    pub(crate) fn until(&self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let contents = self.contents();
            if contents.contains(text) {
                return contents;
            }
            assert!(begun.elapsed() < PATIENCE, "no {text:?} came:\n{contents}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of the program: how it exited, and everything that it wrote.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = self.wait();
        (status, String::from_utf8_lossy(&self.raw.lock().unwrap()).into_owned())
    }

    /// Waits for the end of the program: how it exited, and the last screen, colours as `‹4:text›` by their numbers.
    pub(crate) fn last_screen(mut self) -> (ExitStatus, String) {
        let status = self.wait();
        let screen = self.screen.lock().unwrap();
        let (rows, columns) = screen.screen().size();
        let lines: Vec<String> = (0..rows).map(|row| painted(screen.screen(), row, columns)).collect();
        (status, lines.join("\n").trim_end().to_owned() + "\n")
    }

    fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // The terminal closes with its last program; what that wrote is read until then.
                self.reader.take().unwrap().join().unwrap();
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.contents());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A line of a screen; what is coloured or bold stands in `‹…›`.
fn painted(screen: &vt100::Screen, row: u16, columns: u16) -> String {
    let (mut line, mut open) = (String::new(), String::new());
    for cell in (0..columns).filter_map(|column| screen.cell(row, column)).filter(|cell| !cell.is_wide_continuation()) {
        let colour = match cell.fgcolor() {
            vt100::Color::Default => String::new(),
            vt100::Color::Idx(number) => number.to_string(),
            vt100::Color::Rgb(red, green, blue) => format!("#{red:02x}{green:02x}{blue:02x}"),
        };
        let style = colour + if cell.bold() { "b" } else { "" };
        if style != open {
            line += if open.is_empty() { "" } else { "›" };
            if !style.is_empty() {
                line.extend(["‹", &style, ":"]);
            }
            open = style;
        }
        line += if cell.has_contents() { cell.contents() } else { " " };
    }
    line += if open.is_empty() { "" } else { "›" };
    line.trim_end().to_owned()
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}
