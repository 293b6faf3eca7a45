//! `blob cat`.

use blob::Archive;
use blob::core::index::FollowError;
use blob::core::{Node, ReadError, path};
use clap::Args;
use futures_util::TryStreamExt as _;

use super::missing;
use crate::args::Caching;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::output::Output;

const EXAMPLES: &str = "\
Examples:
  blob cat localhost:5000/team/assets:v1 config/app.yaml
  blob cat --stats oci:./layout:v1 logs/a.txt logs/b.txt > both.txt

Files of up to 8 MiB are verified before their first byte is written. Larger ones are verified as they are written: on \
exit code 7, do not use what was written.";

/// Write files of an archive to standard output; only their bytes are fetched.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CatArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// Files in the archive, written one after the other.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,

    /// Say on standard error how many requests and bytes it took.
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) async fn run(args: CatArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    // All or nothing: a wrong path is noticed before the first byte is written.
    let mut paths = Vec::new();
    for typed in &args.paths {
        paths.push(check(&archive, typed)?);
    }
    let mut output = Output::new();
    session.meter.clear();
    for path in &paths {
        write(&archive, path, &mut output).await?;
    }
    output.finish().await?;
    Session::log_traffic(&client);
    if args.stats {
        session.print_stats(&client, &archive);
    }
    Ok(())
}

/// The file that `typed` leads to. Links are followed within the archive, as a file system would.
fn check(archive: &Archive, typed: &str) -> Result<Vec<u8>, Failure> {
    let normal = path::normalize(typed.as_bytes());
    let found = match archive.index().follow(&normal) {
        Ok(found) => found.path(),
        Err(error) if matches!(archive.index().lookup(&normal), Some(Node::Symlink(_))) => {
            let message = format!("cannot follow the symbolic link {typed}: {error}");
            return Err(match error {
                FollowError::NotFound => Failure::not_found(message),
                _ => Failure::new(Kind::General, message),
            });
        }
        Err(_) => &normal,
    };
    match archive.validate_files([found]) {
        Ok(_) => Ok(found.to_vec()),
        Err(ReadError::NotFound { .. }) => Err(missing::failure("file not found", archive.index(), typed)),
        Err(ReadError::IsDirectory { .. }) => {
            let hint = format!("`blob ls {} {typed}` lists it", archive.location());
            Err(Failure::usage(format!("cannot cat directory: {typed}")).with_hint(hint))
        }
        Err(error @ (ReadError::InvalidPath(_) | ReadError::NotAFile { .. })) => Err(Failure::usage(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Writes one file that is there.
pub(super) async fn write_one(archive: &Archive, path: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut output = Output::new();
    write(archive, path, &mut output).await?;
    output.finish().await
}

async fn write(archive: &Archive, path: impl AsRef<[u8]>, output: &mut Output) -> Result<(), Failure> {
    let mut chunks = archive.stream(path).await?;
    while let Some(chunk) = chunks.try_next().await? {
        output.write(&chunk).await?;
    }
    Ok(())
}
