//! `blob mount`.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use blob::{Archive, Client};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Caching, Format};
use crate::contents::RoomArgs;
use crate::error::{Failure, Kind};
use crate::mount::{self, Detached, MountOptions, Mounted};
use crate::session::Session;
use crate::signals::{Asked, Signals};
use crate::trust::TrustArgs;
use crate::ui::{json, output};

const EXAMPLES: &str = "\
Examples:
  blob mount localhost:5000/team/assets:v1 /mnt/assets
  blob mount localhost:5000/team/sdk:v3 ./sdk -- make test     as long as the command runs
  blob mount --require-signed localhost:5000/team/tools:v1 /opt/tools &

It is there until Ctrl-C, SIGTERM or `umount`. Only what is read is fetched, and nothing is shown before it was verified: a file of up to 8 MiB in memory, a larger one \
in a temporary file, whole, at its first read. A file that is not what the index promises cannot be read (EIO), and the \
log says why. Symbolic links are shown as they are, wherever they lead.

Whoever is not root needs `fusermount3`, of the package fuse3. What is mounted stays as it was when the tag was looked up.";

/// How long those who still have files open are served when the mount is to end.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the shells exit with when a command is not there, or cannot be run.
const NOT_THERE: u8 = 127;
const NOT_RUNNABLE: u8 = 126;
/// What they add to the number of the signal that ended a command.
const BY_SIGNAL: i32 = 128;

/// Show an archive as a read-only file system.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MountArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// Where it is shown: an empty directory.
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    directory: PathBuf,

    /// Run this meanwhile, unmount when it has ended, and exit as it did.
    #[arg(value_name = "COMMAND", last = true, value_hint = clap::ValueHint::CommandWithArguments)]
    command: Vec<OsString>,

    /// Let other users see it too, as far as the modes of files allow.
    #[arg(long)]
    allow_other: bool,

    #[command(flatten)]
    room: RoomArgs,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

/// A line that says that the archive can be read.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Shown {
    /// The archive.
    r#ref: String,
    /// The digest of its manifest.
    digest: String,
    /// Where it is.
    directory: String,
    /// Whether a policy admitted it.
    verified: bool,
}

pub(crate) async fn run(args: MountArgs, session: &Session) -> Result<(), Failure> {
    // Whoever reads that it is there may end it at once.
    let mut ends = Ends::listen()?;
    let (archive, client, directory, options) = {
        let mut opened = std::pin::pin!(open(&args, session));
        loop {
            tokio::select! {
                biased;
                asked = ends.next() => match asked {
                    Asked::End(kind) => return Err(Failure::new(kind, kind.name())),
                    Asked::Progress => session.meter.tell(),
                },
                opened = &mut opened => break opened?,
            }
        }
    };
    // Not interrupted: what is mounted would stay when the process is gone.
    let mut mounted = mount::mount(archive.clone(), directory, options).await?;
    session.meter.clear();
    let (done, is_there) = if args.command.is_empty() {
        match announce(&archive, &mounted, session).await {
            Ok(()) => wait(&mut mounted, &mut ends).await,
            Err(failure) => (Err(failure), true),
        }
    } else {
        (attend(&args.command, &mut ends).await, true)
    };
    let detached = if is_there { detach(&mut mounted, &mut ends).await } else { Ok(()) };
    Session::log_traffic(&client);
    done.and(detached)
}

/// Opens the archive, which policies judge; nothing is mounted yet.
async fn open(args: &MountArgs, session: &Session) -> Result<(Archive, Client, PathBuf, MountOptions), Failure> {
    let location = session.location(&args.reference)?;
    // Before anything is fetched for nothing.
    let directory = mount::check(&args.directory)?;
    let spool_dir = args.room.spool_dir(session)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    let bounds = args.room.bounds(None);
    Ok((archive, client, directory, MountOptions { bounds, spool_dir, allow_other: args.allow_other }))
}

/// Says that the archive can be read. Whoever started us may not care.
async fn announce(archive: &Archive, mounted: &Mounted, session: &Session) -> Result<(), Failure> {
    let (location, digest) = (archive.location(), archive.manifest().digest());
    let directory = mounted.directory().display();
    let written = match session.options.output {
        Format::Json | Format::Jsonl => {
            let verified = archive.manifest().is_verified();
            let (r#ref, digest, directory) = (location.to_string(), digest.to_string(), directory.to_string());
            session.print(json::line(&Shown { r#ref, digest, directory, verified })).await
        }
        _ if session.is_terse() => Ok(()),
        _ => session.print(format!("mounted {location} on {directory}\n")).await,
    };
    match written {
        Err(failure) if failure.kind == Kind::ClosedOutput => Ok(()),
        written => written,
    }
}

/// Until somebody unmounts it, or asks us to: then it is still there.
async fn wait(mounted: &mut Mounted, ends: &mut Ends) -> (Result<(), Failure>, bool) {
    loop {
        tokio::select! {
            ended = mounted.ended() => return (ended, false),
            asked = ends.next() => if asked != Asked::Progress { return (Ok(()), true) },
        }
    }
}

/// Unmounts. Those who have files open are served for a while, unless a signal comes.
async fn detach(mounted: &mut Mounted, ends: &mut Ends) -> Result<(), Failure> {
    if mounted.detach().await? == Detached::Gone {
        return Ok(());
    }
    let seconds = FAREWELL.as_secs();
    let directory = mounted.directory().display();
    output::complain(&format!(
        "{directory} is unmounted, and still in use: its users are served for {seconds} seconds more, or until the next Ctrl-C\n"
    ));
    let asked = async { while ends.next().await == Asked::Progress {} };
    tokio::select! {
        _ = tokio::time::timeout(FAREWELL, mounted.ended()) => {}
        () = asked => {}
    }
    Ok(())
}

/// Signals that end a mount: the usual ones, and that of a terminal that goes away, unless `nohup` had that ignored.
struct Ends {
    signals: Signals,
    hangup: Option<tokio::signal::unix::Signal>,
}

impl Ends {
    fn listen() -> Result<Self, Failure> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hangup = if ignores_hangup(&status) { None } else { signal(SignalKind::hangup()).ok() };
        Ok(Self { signals: Signals::listen()?, hangup })
    }

    async fn next(&mut self) -> Asked {
        let hangup = async {
            match &mut self.hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            asked = self.signals.next() => asked,
            _ = hangup => Asked::End(Kind::Terminated),
        }
    }
}

/// Whether `/proc/self/status` says that SIGHUP, the first signal, is ignored.
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Runs a command to its end.
async fn attend(words: &[OsString], ends: &mut Ends) -> Result<(), Failure> {
    let Some((program, rest)) = words.split_first() else { return Ok(()) };
    let spawned = tokio::process::Command::new(program).args(rest).spawn();
    let mut child = spawned.map_err(|error| {
        let code = if error.kind() == io::ErrorKind::NotFound { NOT_THERE } else { NOT_RUNNABLE };
        Failure::io(format!("running {}", program.display()), &error).of_kind(Kind::Command(code))
    })?;
    // What is out cannot be taken back, and the command cannot run twice.
    output::begin();
    let status = loop {
        tokio::select! {
            ended = child.wait() => {
                break ended.map_err(|error| Failure::io("waiting for the command", &error))?;
            }
            // A terminal interrupts the command as well; whoever terminates us means the command.
            asked = ends.next() => if asked == Asked::End(Kind::Terminated) { terminate(&child) },
        }
    };
    match code(status) {
        0 => Ok(()),
        code => Err(Failure::new(Kind::Command(code), "")),
    }
}

fn terminate(child: &Child) {
    if let Some(id) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
        // It may have ended just now.
        let _ = kill_process(id, Signal::TERM);
    }
}

/// How a shell would exit.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| BY_SIGNAL + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::line;
    vec![line::<Shown>("mount")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_ignores_stays_ignored() {
        for (status, expected) in
            [("SigIgn:\t0000000000000001\n", true), ("SigIgn:\t0000000000001000\n", false), ("", false)]
        {
            assert_eq!(ignores_hangup(&format!("Name:\tblob\n{status}")), expected);
        }
    }

    #[test]
    fn commands_exit_as_in_a_shell() {
        for (raw, expected) in [(0, 0), (3 << 8, 3), (255 << 8, 255), (15, 143), (9, 137)] {
            assert_eq!(code(ExitStatus::from_raw(raw)), expected);
        }
    }
}
