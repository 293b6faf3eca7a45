//! The command `blob`: words typed, the terminal, exit codes. Everything else is in the library of the same name.

mod args;
#[cfg(feature = "tui")]
mod browse;
mod cache_flags;
mod cache_place;
mod cmd;
mod error;
mod filter;
mod log;
mod plan;
mod session;
mod signals;
mod signing;
mod trust;
mod ui;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use args::{Cli, Command, Format};
use error::{Failure, Kind};
use session::Session;
use signals::Signals;
use ui::output::complain;

/// How long an interrupted command may take to remove what it has begun.
const CLEAN_UP: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let (result, format) = match args::parse(&words) {
        Ok(cli) => {
            let format = cli.global.output;
            (start(cli), format)
        }
        Err((failure, format)) => (Err(failure), format),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                complain(&if format == Format::Json { failure.json() } else { failure.text() });
            }
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// Runs a command to its end, or until a signal comes.
fn start(cli: Cli) -> Result<(), Failure> {
    log::init(&cli.global);
    let runtime = runtime(&cli.command).map_err(|error| Failure::io("starting the runtime", &error))?;
    let session = Session::begin(cli.global)?;
    let serves = matches!(cli.command, Command::Serve(_));
    let result = runtime.block_on(async {
        // A server ends in its own way.
        if serves {
            return cmd::run(cli.command, &session).await;
        }
        let mut signals = Signals::listen()?;
        tokio::select! {
            biased;
            kind = signals.next() => Err(Failure::new(kind, kind.name())),
            result = cmd::run(cli.command, &session) => result,
        }
    });
    let interrupted = matches!(&result, Err(failure) if matches!(failure.kind, Kind::Interrupted | Kind::Terminated));
    if interrupted {
        session.meter.stop(CLEAN_UP);
    }
    drop(session);
    // A thread may still wait for a terminal or a pipe that nobody reads.
    runtime.shutdown_background();
    result
}

/// Commands that move much data get all cores; the others one thread, which starts faster.
fn runtime(command: &Command) -> std::io::Result<Runtime> {
    let mut builder = match command {
        Command::Push(_)
        | Command::Pull(_)
        | Command::Cp(_)
        | Command::Copy(_)
        | Command::Export(_)
        | Command::Serve(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    builder.enable_all().build()
}
