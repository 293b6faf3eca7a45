//! The commands, one file each.

pub(crate) mod cache;
pub(crate) mod cat;
pub(crate) mod cp;
pub(crate) mod gc;
pub(crate) mod inspect;
pub(crate) mod key_pair;
pub(crate) mod ls;
mod missing;
#[cfg(feature = "tui")]
pub(crate) mod open;
pub(crate) mod policy;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod serve;
pub(crate) mod sign;
pub(crate) mod tag;
pub(crate) mod tags;
pub(crate) mod tree;
pub(crate) mod verify;
pub(crate) mod verify_bundle;
mod version;

use crate::args::Command;
use crate::error::Failure;
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
        #[cfg(feature = "tui")]
        Command::Open(args) => open::run(args, session).await,
        Command::Cache(args) => cache::run(args, session).await,
        Command::Gc(args) => gc::run(args, session).await,
        Command::Serve(args) => serve::run(args, session).await,
        Command::Sign(args) => sign::sign(args, session).await,
        Command::Attest(args) => sign::attest(args, session).await,
        Command::GenerateKeyPair(args) => key_pair::run(args, session).await,
        Command::Verify(args) => verify::run(args, session).await,
        Command::VerifyBundle(args) => verify_bundle::run(args, session).await,
        Command::Policy(args) => policy::run(args, session).await,
        Command::Version => version::run(session).await,
    }
}
