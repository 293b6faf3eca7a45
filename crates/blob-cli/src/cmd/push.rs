//! `blob push`.

pub(super) mod create;
pub(super) mod report;
mod tar;

use std::collections::HashSet;
use std::fs::File;
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use blob::registry::{Repository, Tag, Target};
use blob::{Location, PushOptions, SignWith};
use clap::Args;
use create::{CreateArgs, Noted};
use tempfile::NamedTempFile;

use crate::error::{Failure, Kind};
use crate::plan;
use crate::session::Session;
use crate::signing::SigningArgs;
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

/// What helps where nothing is left.
pub(super) const NOTHING_LEFT: &str = "no file is left by --include, --exclude, --files-from and .blobignore";

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
    #[arg(long, conflicts_with = "files_from")]
    from_tar: bool,

    #[command(flatten)]
    create: CreateArgs,

    /// An annotation of the manifest; may be repeated.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = plan::annotation)]
    annotation: Vec<(String, String)>,

    /// A further tag for the archive; may be repeated.
    #[arg(short, long, value_name = "TAG", value_parser = plan::tag)]
    tag: Vec<Tag>,

    /// Begin although the file system says that it has not the room for the files as they are.
    #[arg(long)]
    no_space_check: bool,

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

pub(crate) async fn run(mut args: PushArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    plan::not_a_pair(&location)?;
    // A tag that is named twice is set once.
    let mut seen: HashSet<Tag> = location.tag().into_iter().collect();
    args.tag.retain(|tag| seen.insert(tag.clone()));
    let input = Input::of(&args)?;
    let noted = Noted::default();
    let mut options = options((&location, &args), &input, session, &noted)?;
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
    noted.problem()?;
    let pushed = pushed.map_err(|error| match error {
        error @ blob::Error::Empty { .. } => Failure::from(error).with_hint(NOTHING_LEFT),
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
    let left_out = noted.left_out.load(Ordering::Relaxed);
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

pub(super) fn check_source(dir: &Path) -> Result<(), Failure> {
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
    noted: &Noted,
) -> Result<PushOptions, Failure> {
    let dir = match input {
        Input::Directory(dir) => Some(*dir),
        Input::Tar(_) => None,
    };
    let mut options = PushOptions::default();
    (options.create, options.created) =
        args.create.options((dir, dir.and_then(|dir| layout_within(location, dir))), session, noted)?;
    options.refuse_empty = args.create.wants_a_part();
    options.annotations = args.annotation.iter().cloned().collect();
    options.tags.clone_from(&args.tag);
    options.mount_from.clone_from(&args.mount_from);
    options.dry_run = args.dry_run;
    options.skip_room_check = args.no_space_check;
    options.recheck = args.recheck;
    options.progress = Some(noted.watching(session.meter.watcher()));
    Ok(options)
}

/// The path below the directory that is pushed of the layout that it is pushed to.
fn layout_within(location: &Location, dir: &Path) -> Option<Vec<u8>> {
    let (Location::Layout { dir: layout, .. } | Location::LayoutFile { file: layout, .. }) = location else {
        return None;
    };
    below(dir, layout)
}

/// The path of `place` below `dir`, if it is there.
pub(super) fn below(dir: &Path, place: &Path) -> Option<Vec<u8>> {
    // What does not exist yet is made below a directory that does, or is nowhere near.
    let exists = place.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let real = match exists {
        Some((above, found)) => found.join(place.strip_prefix(above).ok()?),
        None => std::env::current_dir().ok()?.join(place),
    };
    let within = real.strip_prefix(dir.canonicalize().ok()?).ok()?.as_os_str().as_encoded_bytes();
    (!within.is_empty()).then(|| within.to_vec())
}
