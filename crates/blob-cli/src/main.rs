//! The command `blob`: words typed, the terminal, exit codes. Everything else is in the library of the same name.

mod alias;
mod args;
#[cfg(feature = "tui")]
mod browse;
mod cache_flags;
mod cache_place;
mod cmd;
mod complete;
mod config;
mod contents;
mod error;
mod filter;
mod log;
#[cfg(all(feature = "fuse", target_os = "linux"))]
mod mount;
mod plan;
mod schemas;
mod session;
mod signals;
mod signing;
mod trust;
mod ui;
mod web;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use tokio::runtime::{Builder, Runtime};

use args::{Cli, Command};
use config::Config;
use error::{Failure, Kind};
use session::Session;
use signals::{Asked, Signals};
use ui::output::complain;

/// How long an interrupted command may take to remove what it has begun.
const CLEAN_UP: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    signals::survive_questions();
    complete::answer();
    let words: Vec<OsString> = std::env::args_os().collect();
    // Scripts ask for it at each start, and nothing else needs to be known for it.
    if let [_, word] = words.as_slice()
        && (word == "--version" || word == "-V")
    {
        // That it cannot be written cannot be told anybody.
        let _ = writeln!(std::io::stdout(), concat!("blob ", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    let (result, format) = match args::parse(&words) {
        Ok((mut cli, matches)) => {
            let config = configure(&mut cli, &matches);
            let format = cli.global.output;
            let result = config.and_then(|config| {
                log::init(&cli.global)?;
                start(cli, config, args::flags(&matches))
            });
            (result.or_else(|failure| again(failure, &words)), format)
        }
        Err((failure, format)) => (Err(failure), format),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                complain(&if format.is_json() { failure.json() } else { failure.text() });
            }
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// Reads the configuration, and fills in what nobody typed. Commands that help to mend it do not stop at a file that
/// cannot be used.
fn configure(cli: &mut Cli, matches: &ArgMatches) -> Result<Config, Failure> {
    let config = Config::load(cli.global.config.as_deref());
    config.apply(matches, &mut cli.global);
    if let Command::Doctor(_) = &cli.command {
        cmd::doctor::hurry(&mut cli.global);
    }
    let tolerant = match &cli.command {
        Command::Config(args) => args.is_tolerant(),
        Command::Version(_) | Command::Completion(_) | Command::Man(_) | Command::Doctor(_) | Command::Schema(_) => {
            true
        }
        _ => false,
    };
    match config.problems.first() {
        Some(problem) if !tolerant => Err(problem.clone()),
        _ => Ok(config),
    }
}

/// A second try of a command that the cache sent to what is gone by now, unless something is out already.
fn again(failure: Failure, words: &[OsString]) -> Result<(), Failure> {
    let Some(forgotten) = failure.outdated().filter(|_| !ui::output::has_begun()) else { return Err(failure) };
    tracing::warn!("what the cache remembers of the tag is gone: beginning anew");
    let (mut cli, matches) = args::parse(words).map_err(|(failure, _)| failure)?;
    let config = configure(&mut cli, &matches)?;
    if cli.global.password_stdin {
        // It was read, and cannot be read again.
        return Err(failure);
    }
    cli.global.no_cache |= !forgotten;
    start(cli, config, args::flags(&matches))
}

/// Runs a command to its end, or until a signal comes.
fn start(cli: Cli, config: Config, flags: Vec<String>) -> Result<(), Failure> {
    for skipped in &config.places.skipped {
        tracing::warn!(path = %skipped.display(), "passing over a project's configuration of another user");
    }
    if config.places.user.is_none() {
        tracing::warn!("going on without the user's configuration: neither XDG_CONFIG_HOME nor HOME says where it is");
    }
    let runtime = runtime(&cli.command).map_err(|error| Failure::io("starting the runtime", &error))?;
    let session = Session::begin(cli.global, config, flags)?;
    let stays = cli.command.stays();
    let result = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        // These end in their own way; whoever asks them how far they are does not end them.
        if stays {
            return cmd::run(cli.command, &session).await;
        }
        let mut command = std::pin::pin!(run(cli.command, &session));
        loop {
            tokio::select! {
                biased;
                asked = signals.next() => match asked {
                    Asked::End(kind) => return Err(Failure::new(kind, kind.name())),
                    Asked::Progress => session.meter.tell(),
                },
                result = &mut command => return result,
            }
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

/// Runs a command; a tag that is not there may be like one that is.
async fn run(command: Command, session: &Session) -> Result<(), Failure> {
    let asks = session.options.offline && command.asks_the_registry();
    match cmd::run(command, session).await {
        Err(failure) if asks && failure.is_offline() => {
            let hint = "this asks the registry itself, whatever is cached: leave --offline out";
            Err(failure.without_hint().with_hint(hint))
        }
        Err(failure) => Err(session.with_near(failure).await),
        done => done,
    }
}

/// Commands that move much data get all cores; the others one thread, which starts faster.
fn runtime(command: &Command) -> std::io::Result<Runtime> {
    let mut builder = match command {
        Command::Push(_)
        | Command::Pull(_)
        | Command::Cp(_)
        | Command::Pack(_)
        | Command::Unpack(_)
        | Command::Copy(_)
        | Command::Save(_)
        | Command::Load(_)
        | Command::Export(_)
        | Command::Grep(_)
        | Command::Serve(_)
        | Command::Web(_) => Builder::new_multi_thread(),
        #[cfg(all(feature = "fuse", target_os = "linux"))]
        Command::Mount(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    builder.enable_all().build()
}
