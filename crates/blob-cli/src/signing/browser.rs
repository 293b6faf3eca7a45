//! The browser of whoever sits at the terminal.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use blob::policy::sign::Browser;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use crate::ui::output::complain;

/// How long a program may take to say that it cannot open a page. A browser that stays in front of us takes longer.
const SPOKEN: Duration = Duration::from_secs(5);
/// The longest line that is read as a code.
const MAX_LINE: u64 = 8 << 10;

/// Opens pages with the programs of `BROWSER`, as many programs do (`first:second`, `%s` for the address), else with what
/// the desktop has; says everything on standard error.
#[derive(Debug)]
pub(super) struct Desktop {
    programs: Vec<Vec<String>>,
}

impl Desktop {
    /// What the environment of this process names.
    pub(super) fn from_environment() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let programs = match std::env::var("BROWSER") {
            Ok(named) if !named.is_empty() => named.split(':').map(words).filter(|words| !words.is_empty()).collect(),
            _ if cfg!(target_os = "macos") => vec![words("open")],
            _ if cfg!(windows) => vec![words("rundll32 url.dll,FileProtocolHandler")],
            _ if set("DISPLAY") || set("WAYLAND_DISPLAY") => vec![words("xdg-open")],
            _ => Vec::new(),
        };
        Self { programs }
    }
}

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// Runs one program; whether it took the page.
async fn run(program: &[String], url: &str) -> bool {
    let Some((name, given)) = program.split_first() else { return false };
    let mut arguments: Vec<String> = given.iter().map(|word| word.replace("%s", url)).collect();
    if !given.iter().any(|word| word.contains("%s")) {
        arguments.push(url.to_owned());
    }
    // Nothing that a browser prints is ours to print.
    let child =
        Command::new(name).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    match tokio::time::timeout(SPOKEN, child.wait()).await {
        Ok(ended) => ended.is_ok_and(|status| status.success()),
        Err(_) => true,
    }
}

#[async_trait]
impl Browser for Desktop {
    async fn open(&self, url: &str) -> bool {
        for program in &self.programs {
            if run(program, url).await {
                complain(&format!("Log in with your browser. If it does not open, visit on this machine:\n  {url}\n"));
                return true;
            }
        }
        false
    }

    async fn code(&self, url: &str) -> io::Result<String> {
        complain(&format!("Visit this address with any browser, and type the code that it shows:\n  {url}\nCode: "));
        let mut code = String::new();
        BufReader::new(tokio::io::stdin().take(MAX_LINE)).read_line(&mut code).await?;
        if code.trim().is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no code was typed"));
        }
        Ok(code)
    }
}
