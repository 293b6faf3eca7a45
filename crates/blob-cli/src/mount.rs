//! An archive as a read-only file system, by FUSE.
//!
//! [`tree`] turns the index into inodes, [`Contents`] hold what was read and verified, [`system`] answers the kernel from
//! both, and [`attach`] puts it all on a directory and takes it off again. Nothing is shown that was not verified: files
//! of up to 8 MiB are read to memory and checked there, larger ones go through a temporary file that has no name, whole,
//! before their first byte is given to anybody.

mod attach;
mod listings;
mod point;
mod system;
mod tree;

use std::path::{Path, PathBuf};
use std::thread;

use blob::Archive;
use fuser::{Session, SessionACL};
use tokio::sync::oneshot;

pub(crate) use self::attach::Detached;
use self::attach::Place;
use self::system::System;
use self::tree::Tree;
use crate::contents::{Bounds, Contents};
use crate::error::Failure;

/// How an archive is mounted.
#[derive(Clone, Debug)]
pub(crate) struct MountOptions {
    /// What it may take.
    pub(crate) bounds: Bounds,
    /// Where large files wait, verified; else where the system has its temporary files.
    pub(crate) spool_dir: PathBuf,
    /// Whether other users see it too, as far as modes allow.
    pub(crate) allow_other: bool,
}

/// An archive that is mounted. It stays so until [`Mounted::detach`]: a process that ends before leaves it behind, and nobody
/// answers for it any more.
pub(crate) struct Mounted {
    place: Place,
    ended: oneshot::Receiver<std::io::Result<()>>,
}

/// Checks that something can be mounted on `directory`, and gives its real path.
pub(crate) fn check(directory: &Path) -> Result<PathBuf, Failure> {
    point::check(directory)
}

/// Puts `archive` on `directory`, which was checked. It is there when this returns.
pub(crate) async fn mount(archive: Archive, directory: PathBuf, options: MountOptions) -> Result<Mounted, Failure> {
    let name = archive.location().to_string();
    let tree = Tree::new(&archive);
    tree.warn_of_long_names();
    let contents = Contents::new(archive, options.bounds, options.spool_dir);
    let system = System::new(tree, contents, tokio::runtime::Handle::current());
    let task = move || begin(system, &name, directory, options.allow_other);
    let joined = tokio::task::spawn_blocking(task).await;
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Mounts, and starts the threads that answer. Blocks until the kernel has seen the root.
fn begin(system: System, name: &str, directory: PathBuf, allow_other: bool) -> Result<Mounted, Failure> {
    let device = attach::attach(&directory, name, allow_other)?;
    let failed = |error: &std::io::Error| {
        attach::let_go(&directory);
        Failure::io(format!("mounting on {}", directory.display()), error)
    };
    let mut config = fuser::Config::default();
    config.acl = if allow_other { SessionACL::All } else { SessionACL::Owner };
    // What needs no data is answered by these threads themselves.
    config.n_threads = Some(thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4)));
    let acl = config.acl;
    let session = Session::from_fd(system, device, acl, config).map_err(|error| failed(&error))?;
    let (sender, ended) = oneshot::channel();
    let answer = move || {
        // Nobody may be there any more to hear of it.
        let _ = sender.send(session.run());
    };
    let started = thread::Builder::new().name("mount".into()).spawn(answer);
    started.map_err(|error| failed(&error))?;
    let place = Place::new(directory)?;
    Ok(Mounted { place, ended })
}

impl Mounted {
    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        self.place.directory()
    }

    /// Waits until it was unmounted, by whomever.
    pub(crate) async fn ended(&mut self) -> Result<(), Failure> {
        match (&mut self.ended).await {
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(error)) => Err(Failure::io(format!("answering for {}", self.directory().display()), &error)),
        }
    }

    /// Takes it off its directory.
    pub(crate) async fn detach(&self) -> Result<Detached, Failure> {
        let place = self.place.clone();
        let joined = tokio::task::spawn_blocking(move || place.detach()).await;
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}
