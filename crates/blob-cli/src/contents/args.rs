//! The options of commands that show contents.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Bounds;
use crate::error::Failure;
use crate::session::Session;
use crate::ui::size;

/// What contents may take, and where.
#[derive(Args, Debug)]
pub(crate) struct RoomArgs {
    /// Hold this much of what was read in memory, 64M at least.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size::parse)]
    memory: u64,

    /// Keep this much of files over 8 MiB on disk, as temporary files; what does not fit cannot be read.
    #[arg(long, value_name = "SIZE", default_value = "10G", value_parser = size::parse)]
    spool_size: u64,

    /// Where these temporary files are [default: beside the cache].
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    spool_dir: Option<PathBuf>,
}

impl RoomArgs {
    /// As bounds, within which a read waits for others for so long.
    pub(crate) fn bounds(&self, patience: Option<Duration>) -> Bounds {
        Bounds { memory: self.memory, disk: self.spool_size, patience }
    }

    /// Where large files wait, verified; else where the system has its temporary files.
    ///
    /// # Errors
    /// There is no such directory.
    pub(crate) fn spool_dir(&self, session: &Session) -> Result<PathBuf, Failure> {
        let dir = self.spool_dir.clone().or_else(|| session.spool_dir()).unwrap_or_else(std::env::temp_dir);
        if dir.is_dir() {
            return Ok(dir);
        }
        Err(Failure::usage(format!("--spool-dir: {} is not a directory", dir.display())))
    }
}
