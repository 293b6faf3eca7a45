//! Asking a person for what must not be typed into a command line.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use crate::error::Failure;

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
    // From before the question, since somebody may answer at once; and if a signal ends the command here, the terminal must
    // show again what is typed.
    let _hidden = Hidden::begin();
    let prompt = format!("Password for {user}: ");
    let asked = blocking(move || rpassword::prompt_password(prompt)).await;
    asked.map_err(|error| Failure::io("asking for the password", &error))
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

/// The terminal does not show what is typed; dropping this puts it back to how it was.
#[cfg(unix)]
struct Hidden(Option<rustix::termios::Termios>);

#[cfg(unix)]
impl Hidden {
    fn begin() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut modes) = before.clone() {
            modes.local_modes.remove(LocalModes::ECHO);
            // Where this fails, the question hides the answer itself.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &modes);
        }
        Self(before)
    }
}

#[cfg(unix)]
impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(modes) = &self.0 {
            // The terminal may be gone; then nothing needs to be put back.
            let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, modes);
        }
    }
}

#[cfg(not(unix))]
struct Hidden;

#[cfg(not(unix))]
impl Hidden {
    fn begin() -> Self {
        Self
    }
}
