//! Asking a person for what must not be typed into a command line.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use crate::error::Failure;
use crate::ui::ask::hidden;
use crate::ui::progress::Question;

/// A longer line is no secret that a registry would take.
const MAX_LINE: u64 = 64 << 10;

/// The first line of standard input, which holds `what`.
pub(super) async fn line(what: &'static str) -> Result<String, Failure> {
    let read = move || {
        let mut line = String::new();
        std::io::stdin().lock().take(MAX_LINE).read_line(&mut line).map(|_| line)
    };
    let line =
        blocking(read).await.map_err(|error| Failure::io(format!("reading {what} from standard input"), &error))?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(Failure::usage(format!("standard input does not hold {what}")));
    }
    Ok(line.to_owned())
}

/// The user, asked for on the terminal.
pub(super) async fn user() -> Result<String, Failure> {
    require_terminal()?;
    let _question = Question::begin();
    let prompt = || {
        let mut terminal = std::io::stderr().lock();
        terminal.write_all(b"Username: ").and_then(|()| terminal.flush())
    };
    prompt().map_err(|error| Failure::io("asking for the user", &error))?;
    line("a user").await
}

/// The password, asked for on the terminal without showing it.
pub(super) async fn password(user: &str) -> Result<String, Failure> {
    require_terminal()?;
    hidden(format!("Password for {user}: ")).await
}

fn require_terminal() -> Result<(), Failure> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    let failure = Failure::usage("there is no terminal to ask for the user and the password on");
    Err(failure.with_hint("name the user with -u and pass the password with --password-stdin"))
}

/// Waits elsewhere, so that signals are heard meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
