//! The commands, one file each.

pub(crate) mod cat;
pub(crate) mod cp;
pub(crate) mod inspect;
pub(crate) mod ls;
mod missing;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod serve;
pub(crate) mod tag;
pub(crate) mod tags;
pub(crate) mod tree;
mod version;

use crate::args::Command;
use crate::error::{Failure, Kind};
use crate::session::Session;

/// Does what was typed.
pub(crate) async fn run(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::Push(args) => push::run(args, session).await,
        Command::Pull(args) => pull::run(args, session).await,
        Command::Cat(args) => cat::run(args, session).await,
        Command::Ls(args) => ls::run(args, session).await,
        Command::Tree(args) => tree::run(args, session).await,
        Command::Cp(args) => cp::run(args, session).await,
        Command::Inspect(args) => inspect::run(args, session).await,
        Command::Tag(args) => tag::run(args, session).await,
        Command::Tags(args) => tags::run(args, session).await,
        Command::Serve(args) => serve::run(args, session).await,
        Command::Version => version::run(session).await,
    }
}

/// Waits for a signal that asks to end.
///
/// # Errors
/// The signals cannot be listened to.
pub(crate) async fn signal() -> std::io::Result<Kind> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| Kind::Interrupted),
            _ = terminate.recv() => Ok(Kind::Terminated),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.map(|()| Kind::Interrupted)
}
