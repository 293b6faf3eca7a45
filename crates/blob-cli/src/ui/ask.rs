//! Questions to people.

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::output::complain;
use super::progress::Question;
use crate::error::Failure;

/// Asks on standard error; anything but yes, the end of the input among it, is no.
pub(crate) async fn confirmed(question: &str) -> Result<bool, Failure> {
    let _question = Question::begin();
    complain(question);
    let mut answer = String::new();
    let read = BufReader::new(tokio::io::stdin()).read_line(&mut answer).await;
    read.map_err(|error| Failure::io("reading the answer from standard input", &error))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks on the terminal without showing what is typed.
pub(crate) async fn hidden(prompt: String) -> Result<String, Failure> {
    // From before the question, since somebody may answer at once; and if a signal ends the command here, the terminal must
    // show again what is typed.
    let _hidden = Hidden::begin();
    let _question = Question::begin();
    // Elsewhere, so that signals are heard meanwhile.
    let asked = tokio::task::spawn_blocking(move || rpassword::prompt_password(prompt)).await;
    let asked = asked.map_err(std::io::Error::other).and_then(|asked| asked);
    asked.map_err(|error| Failure::io("asking for the password", &error))
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
