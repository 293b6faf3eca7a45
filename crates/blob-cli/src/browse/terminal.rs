//! The terminal: taken over while the browser runs, given back however it ends.

use std::io::{self, Stdout, Write as _};
use std::time::Duration;

use crossterm::event::{self, Event};
use crossterm::{execute, terminal};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::sync::mpsc;

use crate::ui::escape::base64;

/// The screen. Dropping it gives the terminal back.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    pub(super) fn take() -> io::Result<Self> {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            earlier(panic);
        }));
        terminal::enable_raw_mode()?;
        let mut stdout = io::stdout();
        // From here on a failure must undo what was done.
        let entered = execute!(stdout, terminal::EnterAlternateScreen, event::EnableBracketedPaste);
        let made = entered.and_then(|()| Terminal::new(CrosstermBackend::new(stdout)));
        made.map(Self).inspect_err(|_| give_back())
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }

    /// Asks the terminal to put `text` on the clipboard (OSC 52).
    pub(super) fn clip(&mut self, text: &str) -> io::Result<()> {
        let backend = self.0.backend_mut();
        write!(backend, "\x1b]52;c;{}\x07", base64(text.as_bytes()))?;
        io::Write::flush(backend)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = std::panic::take_hook();
        give_back();
    }
}

/// Gives the terminal back. What cannot be undone cannot be told anybody either.
fn give_back() {
    let _ =
        execute!(io::stdout(), event::DisableBracketedPaste, terminal::LeaveAlternateScreen, crossterm::cursor::Show);
    let _ = terminal::disable_raw_mode();
}

/// Keys, pastes and new sizes, from a thread of their own that ends with its reader.
pub(super) fn events() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let next = match event::poll(Duration::from_millis(100)) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let failed = next.is_err();
            if sender.blocking_send(next).is_err() || failed {
                return;
            }
        }
    });
    receiver
}
