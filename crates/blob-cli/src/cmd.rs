//! The commands, one file each.

pub(crate) mod alias;
pub(crate) mod attach;
pub(crate) mod cache;
pub(crate) mod cat;
pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod cp;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod download;
pub(crate) mod du;
pub(crate) mod export;
pub(crate) mod find;
pub(crate) mod gc;
pub(crate) mod grep;
pub(crate) mod inspect;
pub(crate) mod key_pair;
mod local;
pub(crate) mod login;
pub(crate) mod ls;
pub(crate) mod man;
mod missing;
#[cfg(all(feature = "fuse", target_os = "linux"))]
pub(crate) mod mount;
mod node;
#[cfg(feature = "tui")]
pub(crate) mod open;
pub(crate) mod pack;
pub(crate) mod policy;
pub(crate) mod preview;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod referrers;
pub(crate) mod repos;
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
pub(crate) mod web;

use std::pin::Pin;

use crate::args::Command;
use crate::error::Failure;
use crate::session::Session;

/// A command that runs.
type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// Does what was typed. Each command is behind a pointer: as parts of one they would all be there several times, once for
/// each place that waits for them.
pub(crate) fn run(command: Command, session: &Session) -> Running<'_> {
    match command {
        Command::Push(args) => Box::pin(push::run(args, session)),
        Command::Pull(args) => Box::pin(pull::run(args, session)),
        Command::Pack(args) => Box::pin(pack::pack(args, session)),
        Command::Unpack(args) => Box::pin(pack::unpack(args, session)),
        Command::Cat(args) => Box::pin(cat::run(args, session)),
        Command::Ls(args) => Box::pin(ls::run(args, session)),
        Command::Tree(args) => Box::pin(tree::run(args, session)),
        Command::Cp(args) => Box::pin(cp::run(args, session)),
        Command::Inspect(args) => Box::pin(inspect::run(args, session)),
        Command::Tag(args) => Box::pin(tag::run(args, session)),
        Command::Tags(args) => Box::pin(tags::run(args, session)),
        Command::Web(args) => Box::pin(web::run(args, session)),
        #[cfg(all(feature = "fuse", target_os = "linux"))]
        Command::Mount(args) => Box::pin(mount::run(args, session)),
        #[cfg(feature = "tui")]
        Command::Open(args) => Box::pin(open::run(args, session)),
        Command::Repos(args) => Box::pin(repos::run(args, session)),
        Command::Copy(args) => Box::pin(copy::run(args, session)),
        Command::Save(args) => Box::pin(copy::saved::save(args, session)),
        Command::Load(args) => Box::pin(copy::saved::load(args, session)),
        Command::Rm(args) => Box::pin(rm::run(args, session)),
        Command::Attach(args) => Box::pin(attach::run(args, session)),
        Command::Download(args) => Box::pin(download::run(args, session)),
        Command::Referrers(args) => Box::pin(referrers::run(args, session)),
        Command::Check(args) => Box::pin(check::run(args, session)),
        Command::Diff(args) => Box::pin(diff::run(args, session)),
        Command::Export(args) => Box::pin(export::run(args, session)),
        Command::Find(args) => Box::pin(find::run(args, session)),
        Command::Grep(args) => Box::pin(grep::run(args, session)),
        Command::Du(args) => Box::pin(du::run(args, session)),
        Command::Stat(args) => Box::pin(stat::run(args, session)),
        Command::Cache(args) => Box::pin(cache::run(args, session)),
        Command::Gc(args) => Box::pin(gc::run(args, session)),
        Command::Login(args) => Box::pin(login::login(args, session)),
        Command::Logout(args) => Box::pin(login::logout(args, session)),
        Command::Serve(args) => Box::pin(serve::run(args, session)),
        Command::Sign(args) => Box::pin(sign::sign(args, session)),
        Command::Attest(args) => Box::pin(sign::attest(args, session)),
        Command::GenerateKeyPair(args) => Box::pin(key_pair::run(args, session)),
        Command::Verify(args) => Box::pin(verify::run(args, session)),
        Command::VerifyBundle(args) => Box::pin(verify_bundle::run(args, session)),
        Command::Policy(args) => Box::pin(policy::run(args, session)),
        Command::Alias(args) => Box::pin(alias::run(args, session)),
        Command::Doctor(args) => Box::pin(doctor::run(args, session)),
        Command::Config(args) => Box::pin(config::run(args, session)),
        Command::Completion(args) => Box::pin(completion::run(args, session)),
        Command::Man(args) => Box::pin(man::run(args, session)),
        Command::Schema(args) => Box::pin(schema::run(args, session)),
        Command::Version(args) => Box::pin(version::run(args, session)),
    }
}
