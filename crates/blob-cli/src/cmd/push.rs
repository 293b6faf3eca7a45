//! `blob push`.

mod report;
mod tar;

use std::collections::HashSet;
use std::fs::File;
use std::io::{IsTerminal as _, Read, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use blob::core::create::{EntryKind, Links, Presence, Reproducible, SkipCompression, UnstorableNames};
use blob::core::{Compression, Event, Progress};
use blob::registry::{Repository, Tag, Target};
use blob::{Location, PushOptions, SignWith};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tempfile::NamedTempFile;

use crate::config::settings::CompressionName;
use crate::config::value::truth;
use crate::error::{Failure, Kind};
use crate::filter::{IgnoreFiles, List, Patterns, Sieve};
use crate::plan;
use crate::session::Session;
use crate::signing::SigningArgs;
use crate::ui::escape::shown;
#[cfg(test)]
pub(crate) use report::schemas;
use tar::TarStream;

const EXAMPLES: &str = "\
Examples:
  blob push localhost:5000/team/assets:v1 ./assets
  blob push -t latest -a version=1.0 ghcr.io/org/data:1.0 ./data
  blob push --reproducible --exclude '*.log' oci:./layout:v1 ./build
  tar -c ./assets | blob push localhost:5000/team/assets:v1 -

A .blobignore file in the directory, or in one below it, leaves out what a .gitignore file would.";

/// Store a directory as an archive and push it.
///
/// Nothing is sent when the tag points at the same files already. Links and empty directories are kept; special files
/// are left out and listed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PushArgs {
    /// Where to push: HOST/REPOSITORY:TAG, oci:DIR:TAG or oci-archive:FILE:TAG.
    #[arg(value_name = "REF")]
    reference: String,

    /// The directory; - for a tar stream on standard input.
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// DIR is a tar file, or - for standard input. Of several members with one path the last one counts; absolute paths
    /// and paths with `..` are refused.
    #[arg(long)]
    from_tar: bool,

    /// How files are stored: none or zstd [default: zstd].
    #[arg(short, long, env = "BLOB_COMPRESSION", value_name = "TYPE", value_parser = compression)]
    compression: Option<Compression>,

    /// The Zstandard level, 1 to 22 [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=22))]
    level: Option<i32>,

    /// Store small files and those of compressed formats as they are, without a try.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    skip_compressed: bool,

    /// An annotation of the manifest; may be repeated.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = plan::annotation)]
    annotation: Vec<(String, String)>,

    /// A further tag for the archive; may be repeated.
    #[arg(short, long, value_name = "TAG", value_parser = plan::tag)]
    tag: Vec<Tag>,

    /// The most files, links and empty directories; 0 for no limit [default: 10000000].
    #[arg(long, value_name = "N")]
    max_files: Option<u64>,

    /// The most bytes of content, as in 500M or 2T; 0 for no limit [default: 1T].
    #[arg(long, value_name = "SIZE", value_parser = crate::ui::size::parse)]
    max_size: Option<u64>,

    /// Begin although the file system says that it has not the room for the files as they are.
    #[arg(long)]
    no_space_check: bool,

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
    #[arg(long, value_name = "FILE", conflicts_with = "from_tar")]
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

    /// Assemble the archive in this directory [default: that of the cache, else $TMPDIR or /var/tmp].
    #[arg(long, env = "BLOB_SPOOL_DIR", value_name = "DIR")]
    spool_dir: Option<PathBuf>,

    /// Ask the registry also for what the tag's present manifest names, and send again what it has lost.
    #[arg(long)]
    recheck: bool,

    /// Only say what would be pushed. The directory is read and compressed, the registry asked what it has.
    #[arg(long)]
    dry_run: bool,

    /// A repository of the same registry that may hold the content, to mount it from; may be repeated.
    #[arg(long, value_name = "REPOSITORY", value_parser = plan::mount)]
    mount_from: Vec<Repository>,

    /// Write the digest of the manifest to this file.
    #[arg(long, value_name = "FILE")]
    digest_file: Option<PathBuf>,

    /// Sign the archive before the tag points at it; --key alone says so too.
    #[arg(long)]
    sign: bool,

    #[command(flatten)]
    signing: SigningArgs,
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

pub(crate) async fn run(mut args: PushArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    // A tag that is named twice is set once.
    let mut seen: HashSet<Tag> = location.tag().into_iter().collect();
    args.tag.retain(|tag| seen.insert(tag.clone()));
    let input = Input::of(&args)?;
    let (problem, left_out) = (Arc::default(), Arc::default());
    let mut options = options((&location, &args), &input, session, (&problem, &left_out))?;
    if !args.sign && args.signing.key.is_none() && args.signing.is_given() {
        let failure = Failure::usage("options about signing, and nothing is to be signed");
        return Err(failure.with_hint("pass --sign, or --key with a private key"));
    }
    let mut would_sign = None;
    if args.sign || args.signing.key.is_some() {
        let signer = if args.dry_run {
            let planned = args.signing.plan(session).await?;
            would_sign = Some(planned.who.to_string());
            planned.signer
        } else {
            args.signing.signer(session).await?
        };
        options.sign = Some(SignWith::new(signer));
    }
    let client = session.client_for_push(&location, args.spool_dir.as_deref())?;
    // Found out before anything is sent.
    let digest_file = args.digest_file.as_deref().filter(|_| !args.dry_run).map(DigestFile::begin).transpose()?;
    let pushed = match input {
        Input::Directory(dir) => client.push(&location, dir, &options).await,
        Input::Tar(input) => client.push_tar(&location, input, &options).await,
    };
    if let Some(failure) = problem.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(failure);
    }
    let pushed = pushed.map_err(|error| match error {
        error @ blob::Error::Empty { .. } => {
            Failure::from(error).with_hint("no file is left by --include, --exclude, --files-from and .blobignore")
        }
        error => Failure::at(error, &location),
    })?;
    Session::log_traffic(&client);
    let pinned = location.with_target(Target::Digest(*pushed.digest())).to_string();
    if let Some(file) = digest_file {
        file.write(&format!("{}\n", pushed.digest())).map_err(|failure| failure.after(format!("pushed {pinned}")))?;
    }
    // What is not pushed has no digest yet: another run makes another one.
    if session.is_terse() && !args.dry_run {
        return session.print(format!("{pinned}\n")).await;
    }
    let left_out = left_out.load(Ordering::Relaxed);
    let mut report = report::report((&location, pinned), &pushed, &args, left_out);
    report.signer.clone_from(&would_sign);
    let signer = || would_sign.map_or_else(String::new, |signer| format!("  Would be signed by: {signer}\n"));
    session.outcome(args.dry_run, &report, || report::text(&location, &pushed, &args, left_out) + &signer()).await
}

/// Where the digest goes: a file that is there whole or not at all, or something else that can be written to, such as a
/// pipe.
struct DigestFile<'a> {
    path: &'a Path,
    file: Either,
}

enum Either {
    Replaced(NamedTempFile),
    Open(File),
}

impl<'a> DigestFile<'a> {
    fn begin(path: &'a Path) -> Result<Self, Failure> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => File::options().write(true).open(path).map(Either::Open),
            _ => tempfile::Builder::new().permissions(readable()).tempfile_in(dir).map(Either::Replaced),
        };
        let file = file.map_err(|error| Self::failed(path, &error).of_kind(Kind::General))?;
        Ok(Self { path, file })
    }

    fn write(self, digest: &str) -> Result<(), Failure> {
        let written = match self.file {
            Either::Open(mut file) => file.write_all(digest.as_bytes()),
            Either::Replaced(mut file) => file
                .write_all(digest.as_bytes())
                .and_then(|()| file.persist(self.path).map(drop).map_err(std::io::Error::from)),
        };
        written.map_err(|error| Self::failed(self.path, &error))
    }

    fn failed(path: &Path, error: &std::io::Error) -> Failure {
        Failure::io(format!("writing the digest to {}", path.display()), error)
    }
}

/// As other files are made: the umask decides.
fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// What is pushed.
enum Input<'a> {
    Directory(&'a Path),
    Tar(Box<dyn Read + Send>),
}

impl<'a> Input<'a> {
    fn of(args: &'a PushArgs) -> Result<Self, Failure> {
        let stdin = || -> Result<Self, Failure> {
            if std::io::stdin().is_terminal() {
                let failure = Failure::usage("standard input is a terminal, not a tar stream");
                return Err(failure.with_hint("pipe one in, as in `tar -c . | blob push REF -`"));
            }
            Ok(Self::Tar(Box::new(TarStream::new(std::io::stdin()))))
        };
        let path = args.dir.as_path();
        if path == Path::new("-") {
            stdin()
        } else if args.from_tar {
            let opened = File::open(path);
            let opened = opened.map_err(|error| Failure::io(format!("opening {}", path.display()), &error))?;
            Ok(Self::Tar(Box::new(TarStream::new(opened))))
        } else {
            check_source(path)?;
            Ok(Self::Directory(path))
        }
    }
}

fn check_source(dir: &Path) -> Result<(), Failure> {
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::usage(format!("source path is not a directory: {}", dir.display()))
            .with_hint("with --from-tar it is read as a tar file")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Failure::not_found(format!("source path does not exist: {}", dir.display())))
        }
        Err(error) => Err(Failure::io(format!("looking at the source path {}", dir.display()), &error)),
    }
}

fn options(
    (location, args): (&Location, &PushArgs),
    input: &Input<'_>,
    session: &Session,
    (problem, left_out): (&Arc<Mutex<Option<Failure>>>, &Arc<AtomicU64>),
) -> Result<PushOptions, Failure> {
    let epoch = source_date_epoch(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?;
    let mut options = PushOptions::default();
    let create = &mut options.create;
    create.compression = compression_of(args.compression, session);
    if args.level.is_some() && create.compression == Compression::None {
        return Err(Failure::usage("--level says how hard to compress, and nothing is compressed"));
    }
    create.level = args.level.unwrap_or(create.level);
    if !args.skip_compressed {
        create.skip_compression = SkipCompression::none();
    }
    create.threads = session.options.jobs;
    create.max_files = match args.max_files {
        Some(0) => u64::MAX,
        Some(most) => most,
        None => create.max_files,
    };
    create.max_bytes = match args.max_size {
        Some(0) => u64::MAX,
        Some(most) => most,
        None => create.max_bytes,
    };
    let presence = |skip| if skip { Presence::Skip } else { Presence::Keep };
    create.symlinks = links(args, input)?;
    // A directory whose files do not match holds nothing, which is not what makes it wanted.
    create.empty_dirs = presence(args.no_empty_dirs || args.patterns.includes());
    if args.skip_non_utf8 {
        create.unstorable_names = UnstorableNames::Skip;
    }
    create.strict_loss = args.strict;
    if args.reproducible {
        let clamp = epoch.map(|time| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX));
        create.reproducible = Some(Reproducible { clamp_mtime_ns: clamp });
    }
    let mut sieve = sieve(args, input, problem)?;
    sieve.layout = layout_within(location, input);
    sieve.left_out = Arc::clone(left_out);
    options.refuse_empty = args.patterns.includes() || args.files_from.is_some();
    let (refuse, found) = (args.symlinks == SymlinksArg::Error, Arc::clone(problem));
    create.filter = Some(Arc::new(move |path: &[u8], kind| {
        let taken = sieve.takes(path, kind);
        if taken && refuse && kind == EntryKind::Symlink {
            let message = format!("{} is a symbolic link, and --symlinks error allows none", shown(path));
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.get_or_insert_with(|| Failure::new(Kind::General, message));
        }
        taken
    }));
    options.created = epoch.or(args.reproducible.then_some(Timestamp::UNIX_EPOCH));
    options.annotations = args.annotation.iter().cloned().collect();
    options.tags.clone_from(&args.tag);
    options.mount_from.clone_from(&args.mount_from);
    options.dry_run = args.dry_run;
    options.skip_room_check = args.no_space_check;
    options.recheck = args.recheck;
    options.progress = Some(Arc::new(StopAtProblem { inner: session.meter.watcher(), problem: Arc::clone(problem) }));
    Ok(options)
}

/// What becomes of links. A tar stream has members, and no directory to follow links in.
fn links(args: &PushArgs, input: &Input<'_>) -> Result<Links, Failure> {
    if args.symlinks.follows() && matches!(input, Input::Tar(_)) {
        let failure = Failure::usage("links in a tar stream cannot be followed");
        return Err(failure.with_hint("`tar -h` stores what links lead to"));
    }
    Ok(match args.symlinks {
        _ if args.no_symlinks => Links::Skip,
        SymlinksArg::Keep | SymlinksArg::Error => Links::Keep,
        SymlinksArg::Skip => Links::Skip,
        SymlinksArg::Follow => Links::Follow,
        SymlinksArg::FollowOutside => Links::FollowOutside,
    })
}

/// The path below the directory that is pushed of the layout that it is pushed to.
fn layout_within(location: &Location, input: &Input<'_>) -> Option<Vec<u8>> {
    let Input::Directory(dir) = input else { return None };
    let (Location::Layout { dir: layout, .. } | Location::LayoutFile { file: layout, .. }) = location else {
        return None;
    };
    // One that does not exist yet is made below a directory that does, or is nowhere near.
    let exists = layout.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let place = match exists {
        Some((above, found)) => found.join(layout.strip_prefix(above).ok()?),
        None => std::env::current_dir().ok()?.join(layout),
    };
    let within = place.strip_prefix(dir.canonicalize().ok()?).ok()?.as_os_str().as_encoded_bytes();
    (!within.is_empty()).then(|| within.to_vec())
}

/// What of the input is pushed.
fn sieve(args: &PushArgs, input: &Input<'_>, problem: &Arc<Mutex<Option<Failure>>>) -> Result<Sieve, Failure> {
    let mut sieve = Sieve { patterns: Some(args.patterns.filter()), ..Sieve::default() };
    let Input::Directory(dir) = input else { return Ok(sieve) };
    if !args.no_ignore {
        sieve.ignore = Some(IgnoreFiles::new(dir, Arc::clone(problem)).following(args.symlinks.follows()));
        sieve.drop_ignore_files = !args.store_ignore_files;
    }
    if let Some(file) = &args.files_from {
        let mut text = Vec::new();
        let read = if file == Path::new("-") {
            std::io::stdin().read_to_end(&mut text)
        } else {
            File::open(file).and_then(|mut file| file.read_to_end(&mut text))
        };
        read.map_err(|error| Failure::io(format!("reading the list {}", file.display()), &error))?;
        sieve.list = Some(List::parse(&text, args.null, dir)?);
    }
    Ok(sieve)
}

/// Ends the push when the rules of a `.blobignore` file cannot be read.
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
fn source_date_epoch(value: Option<&str>) -> Result<Option<Timestamp>, Failure> {
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
