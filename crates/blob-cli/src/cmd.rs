//! The commands, one file each.

pub(crate) mod alias;
pub(crate) mod cache;
pub(crate) mod cat;
pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod cp;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod du;
pub(crate) mod export;
pub(crate) mod find;
pub(crate) mod gc;
pub(crate) mod inspect;
pub(crate) mod key_pair;
mod local;
pub(crate) mod login;
pub(crate) mod ls;
pub(crate) mod man;
mod missing;
mod node;
#[cfg(feature = "tui")]
pub(crate) mod open;
pub(crate) mod policy;
pub(crate) mod preview;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod referrers;
pub(crate) mod rm;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod sign;
pub(crate) mod stat;
mod sync;
pub(crate) mod tag;
pub(crate) mod tags;
pub(crate) mod tree;
pub(crate) mod verify;
pub(crate) mod verify_bundle;
pub(crate) mod version;

use crate::args::Command;
use crate::error::Failure;
use crate::session::Session;

/// Does what was typed.
pub(crate) async fn run(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::Push(args) => Box::pin(push::run(args, session)).await,
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
        Command::Copy(args) => copy::run(args, session).await,
        Command::Rm(args) => rm::run(args, session).await,
        Command::Referrers(args) => referrers::run(args, session).await,
        Command::Check(args) => check::run(args, session).await,
        Command::Diff(args) => diff::run(args, session).await,
        Command::Export(args) => export::run(args, session).await,
        Command::Find(args) => find::run(args, session).await,
        Command::Du(args) => du::run(args, session).await,
        Command::Stat(args) => stat::run(args, session).await,
        Command::Cache(args) => cache::run(args, session).await,
        Command::Gc(args) => gc::run(args, session).await,
        Command::Login(args) => login::login(args, session).await,
        Command::Logout(args) => login::logout(args, session).await,
        Command::Serve(args) => serve::run(args, session).await,
        Command::Sign(args) => sign::sign(args, session).await,
        Command::Attest(args) => sign::attest(args, session).await,
        Command::GenerateKeyPair(args) => key_pair::run(args, session).await,
        Command::Verify(args) => verify::run(args, session).await,
        Command::VerifyBundle(args) => verify_bundle::run(args, session).await,
        Command::Policy(args) => policy::run(args, session).await,
        Command::Alias(args) => alias::run(args, session).await,
        Command::Doctor(args) => doctor::run(args, session).await,
        Command::Config(args) => config::run(args, session).await,
        Command::Completion(args) => completion::run(args, session).await,
        Command::Man(args) => man::run(args, session).await,
        Command::Schema(args) => schema::run(args, session).await,
        Command::Version(args) => version::run(args, session).await,
    }
}
