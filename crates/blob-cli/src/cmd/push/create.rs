//! How a directory becomes an archive: what `push` and `pack` have in common.

use std::fs::File;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use blob::core::create::{CreateOptions, EntryKind, Links, Presence, Reproducible, SkipCompression, UnstorableNames};
use blob::core::{Compression, Event, Progress};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use crate::config::settings::CompressionName;
use crate::config::value::truth;
use crate::error::{Failure, Kind};
use crate::filter::{IgnoreFiles, List, Patterns, Sieve};
use crate::session::Session;
use crate::ui::escape::shown;

/// How a directory becomes an archive.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// How files are stored: none or zstd [default: zstd].
    #[arg(short, long, env = "BLOB_COMPRESSION", value_name = "TYPE", value_parser = compression)]
    compression: Option<Compression>,

    /// The Zstandard level, 1 to 22 [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=22))]
    level: Option<i32>,

    /// Store small files and those of compressed formats as they are, without a try.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    skip_compressed: bool,

    /// The most files, links and empty directories; 0 for no limit [default: 10000000].
    #[arg(long, value_name = "N")]
    max_files: Option<u64>,

    /// The most bytes of content, as in 500M or 2T; 0 for no limit [default: 1T].
    #[arg(long, value_name = "SIZE", value_parser = crate::ui::size::parse)]
    max_size: Option<u64>,

    /// Leave owners and times out, so that equal files give an equal archive. Times are 0, or at most
    /// SOURCE_DATE_EPOCH if that is set.
    #[arg(long, env = "BLOB_REPRODUCIBLE", value_parser = truth)]
    reproducible: bool,

    /// What becomes of symbolic links: they are kept as links, left out, or refused; or what they lead to is stored in
    /// their place, within DIR alone or wherever it is.
    #[arg(long, value_name = "HOW", default_value = "keep")]
    symlinks: SymlinksArg,

    /// Leave symbolic links out: --symlinks skip.
    #[arg(long, conflicts_with = "symlinks")]
    no_symlinks: bool,

    /// Leave empty directories out.
    #[arg(long)]
    no_empty_dirs: bool,

    /// Leave names out that an archive cannot hold, such as those that are not UTF-8.
    #[arg(long)]
    skip_non_utf8: bool,

    /// Fail if anything would be left out that no option leaves out.
    #[arg(long)]
    strict: bool,

    #[command(flatten)]
    patterns: Patterns,

    /// Take only the files that are listed here, and everything in listed directories: paths below DIR, one a line;
    /// - is standard input.
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,

    /// The list of --files-from is separated by NUL bytes.
    #[arg(short = '0', long, requires = "files_from")]
    null: bool,

    /// Do not heed .blobignore files, whose rules are those of .gitignore files; they are stored then.
    #[arg(long)]
    no_ignore: bool,

    /// Store .blobignore files, too.
    #[arg(long)]
    store_ignore_files: bool,
}

/// What becomes of symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SymlinksArg {
    /// They are stored as links.
    Keep,
    /// They are left out.
    Skip,
    /// The first one ends the push, before anything is sent.
    Error,
    /// The files and directories in DIR that they lead to are stored in their place.
    Follow,
    /// The files and directories that they lead to are stored in their place, wherever they are.
    FollowOutside,
}

impl SymlinksArg {
    fn follows(self) -> bool {
        matches!(self, Self::Follow | Self::FollowOutside)
    }
}

/// `--compression`.
fn compression(typed: &str) -> Result<Compression, String> {
    match typed {
        "none" => Ok(Compression::None),
        "zstd" => Ok(Compression::Zstd),
        _ => Err(format!("invalid compression type {typed:?}: must be 'none' or 'zstd'")),
    }
}

/// What goes wrong or is left out while the archive is made.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// What ends it.
    problem: Arc<Mutex<Option<Failure>>>,
    /// What patterns and rules left out.
    pub(crate) left_out: Arc<AtomicU64>,
}

impl Noted {
    /// What ended it, if something did.
    pub(crate) fn problem(&self) -> Result<(), Failure> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// Ends the work when the rules of a `.blobignore` file cannot be read.
    pub(crate) fn watching(&self, inner: Arc<dyn Progress>) -> Arc<dyn Progress> {
        Arc::new(StopAtProblem { inner, problem: Arc::clone(&self.problem) })
    }
}

impl CreateArgs {
    /// What the words mean for the directory `dir`, or for a tar stream; `own` is a path in it that stays out. Also the time
    /// of creation to be told, if it is not now.
    ///
    /// # Errors
    /// Usage, and lists that cannot be read.
    pub(crate) fn options(
        &self,
        (dir, own): (Option<&Path>, Option<Vec<u8>>),
        session: &Session,
        noted: &Noted,
    ) -> Result<(CreateOptions, Option<Timestamp>), Failure> {
        let epoch = source_date_epoch(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?;
        let mut create = CreateOptions::default();
        create.compression = compression_of(self.compression, session);
        if self.level.is_some() && create.compression == Compression::None {
            return Err(Failure::usage("--level says how hard to compress, and nothing is compressed"));
        }
        create.level = self.level.unwrap_or(create.level);
        if !self.skip_compressed {
            create.skip_compression = SkipCompression::none();
        }
        create.threads = session.options.jobs;
        let limit = |typed, default| match typed {
            Some(0) => u64::MAX,
            Some(most) => most,
            None => default,
        };
        create.max_files = limit(self.max_files, create.max_files);
        create.max_bytes = limit(self.max_size, create.max_bytes);
        let presence = |skip| if skip { Presence::Skip } else { Presence::Keep };
        create.symlinks = self.links(dir.is_some())?;
        // A directory whose files do not match holds nothing, which is not what makes it wanted.
        create.empty_dirs = presence(self.no_empty_dirs || self.patterns.includes());
        if self.skip_non_utf8 {
            create.unstorable_names = UnstorableNames::Skip;
        }
        create.strict_loss = self.strict;
        if self.reproducible {
            let clamp = epoch.map(|time| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX));
            create.reproducible = Some(Reproducible { clamp_mtime_ns: clamp });
        }
        let mut sieve = self.sieve(dir, &noted.problem)?;
        sieve.layout = own;
        sieve.left_out = Arc::clone(&noted.left_out);
        let (refuse, found) = (self.symlinks == SymlinksArg::Error, Arc::clone(&noted.problem));
        create.filter = Some(Arc::new(move |path: &[u8], kind| {
            let taken = sieve.takes(path, kind);
            if taken && refuse && kind == EntryKind::Symlink {
                let message = format!("{} is a symbolic link, and --symlinks error allows none", shown(path));
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.get_or_insert_with(|| Failure::new(Kind::General, message));
            }
            taken
        }));
        Ok((create, epoch.or(self.reproducible.then_some(Timestamp::UNIX_EPOCH))))
    }

    /// Whether links are followed.
    pub(crate) fn follows(&self) -> bool {
        self.symlinks.follows()
    }

    /// Whether only a part is wanted, which should be something then.
    pub(crate) fn wants_a_part(&self) -> bool {
        self.patterns.includes() || self.files_from.is_some()
    }

    /// What becomes of links. A tar stream has members, and no directory to follow links in.
    fn links(&self, is_dir: bool) -> Result<Links, Failure> {
        if self.follows() && !is_dir {
            let failure = Failure::usage("links in a tar stream cannot be followed");
            return Err(failure.with_hint("`tar -h` stores what links lead to"));
        }
        Ok(match self.symlinks {
            _ if self.no_symlinks => Links::Skip,
            SymlinksArg::Keep | SymlinksArg::Error => Links::Keep,
            SymlinksArg::Skip => Links::Skip,
            SymlinksArg::Follow => Links::Follow,
            SymlinksArg::FollowOutside => Links::FollowOutside,
        })
    }

    /// What of the input is taken.
    fn sieve(&self, dir: Option<&Path>, problem: &Arc<Mutex<Option<Failure>>>) -> Result<Sieve, Failure> {
        let mut sieve = Sieve { patterns: Some(self.patterns.filter()), ..Sieve::default() };
        let Some(dir) = dir else { return Ok(sieve) };
        if !self.no_ignore {
            sieve.ignore = Some(IgnoreFiles::new(dir, Arc::clone(problem)).following(self.links(true)?));
            sieve.drop_ignore_files = !self.store_ignore_files;
        }
        if let Some(file) = &self.files_from {
            let mut text = Vec::new();
            let read = if file == Path::new("-") {
                std::io::stdin().read_to_end(&mut text)
            } else {
                File::open(file).and_then(|mut file| file.read_to_end(&mut text))
            };
            read.map_err(|error| Failure::io(format!("reading the list {}", file.display()), &error))?;
            sieve.list = Some(List::parse(&text, self.null, dir)?);
        }
        Ok(sieve)
    }
}

/// Ends the work when the rules of a `.blobignore` file cannot be read.
struct StopAtProblem {
    inner: Arc<dyn Progress>,
    problem: Arc<Mutex<Option<Failure>>>,
}

impl Progress for StopAtProblem {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        if matches!(event, Event::Scanning { .. })
            && self.problem.lock().unwrap_or_else(PoisonError::into_inner).is_some()
        {
            return ControlFlow::Break(());
        }
        self.inner.event(event)
    }
}

/// What was typed, else what is configured.
fn compression_of(typed: Option<Compression>, session: &Session) -> Compression {
    let configured = || session.config.settings.compression;
    typed.unwrap_or_else(|| match configured() {
        Some(CompressionName::None) => Compression::None,
        Some(CompressionName::Zstd) | None => Compression::Zstd,
    })
}

/// The time that builds are to pretend it is, in seconds.
pub(crate) fn source_date_epoch(value: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let time = value.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let wrong = || Failure::usage(format!("SOURCE_DATE_EPOCH is {value:?}: expected seconds since 1970"));
    time.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_epoch_is_seconds() {
        assert_eq!(source_date_epoch(None).unwrap(), None);
        assert_eq!(source_date_epoch(Some("")).unwrap(), None);
        assert_eq!(source_date_epoch(Some("1500000000")).unwrap().unwrap().to_string(), "2017-07-14T02:40:00Z");
        for wrong in ["yesterday", "1.5", "99999999999999999"] {
            assert_eq!(source_date_epoch(Some(wrong)).unwrap_err().kind.exit_code(), 2);
        }
    }
}
