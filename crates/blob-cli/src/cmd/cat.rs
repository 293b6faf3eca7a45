//! `blob cat`.

use std::ops::Range;

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
use crate::ui::size;

const EXAMPLES: &str = "\
Examples:
  blob cat localhost:5000/team/assets:v1 config/app.yaml
  blob cat --stats oci:./layout:v1 logs/a.txt logs/b.txt > both.txt
  blob cat --tail 4K localhost:5000/team/assets:v1 logs/a.txt     the last 4096 bytes

Files of up to 8 MiB are verified before their first byte is written. Larger ones are verified as they are written: on \
exit code 7, do not use what was written. Whatever part of a file is wanted, all of it is read, since only a whole file \
can be verified.";

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

    #[command(flatten)]
    part: PartArgs,

    /// Say on standard error how many requests and bytes it took.
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

/// What of each file is written, in bytes.
#[derive(Args, Clone, Copy, Debug, Default)]
struct PartArgs {
    /// Write only the first bytes of each file, as in 512 or 64K.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, conflicts_with_all = ["tail", "offset", "count"])]
    head: Option<u64>,

    /// Write only the last bytes of each file.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, conflicts_with_all = ["offset", "count"])]
    tail: Option<u64>,

    /// Begin behind so many bytes of each file.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    offset: Option<u64>,

    /// Write at most so many bytes of each file.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    count: Option<u64>,
}

impl PartArgs {
    /// The bytes that are meant of a file of `size` bytes.
    fn range(self, size: u64) -> Range<u64> {
        let start = self.offset.or(self.tail.map(|tail| size.saturating_sub(tail))).unwrap_or(0).min(size);
        let count = self.head.or(self.count).unwrap_or(u64::MAX);
        start..start.saturating_add(count).min(size)
    }
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
        write(&archive, path, args.part, &mut output).await?;
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
    write(archive, path, PartArgs::default(), &mut output).await?;
    output.finish().await
}

/// Writes what is meant of a file. All of it is read, since only a whole file can be verified.
async fn write(archive: &Archive, path: impl AsRef<[u8]>, part: PartArgs, output: &mut Output) -> Result<(), Failure> {
    let size = archive.index().entry(path.as_ref()).map_or(0, |entry| entry.original_size());
    let (wanted, mut at) = (part.range(size), 0);
    let mut chunks = archive.stream(path).await?;
    while let Some(chunk) = chunks.try_next().await? {
        let inside = |place: u64| place.clamp(at, at + chunk.len() as u64) - at;
        let (start, end) = (inside(wanted.start) as usize, inside(wanted.end) as usize);
        at += chunk.len() as u64;
        if start < end {
            output.write(&chunk[start..end]).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_within_the_file() {
        let part = |head, tail, offset, count| PartArgs { head, tail, offset, count }.range(10);
        assert_eq!(part(None, None, None, None), 0..10);
        assert_eq!((part(Some(3), None, None, None), part(Some(30), None, None, None)), (0..3, 0..10));
        assert_eq!((part(None, Some(3), None, None), part(None, Some(30), None, None)), (7..10, 0..10));
        assert_eq!((part(None, None, Some(4), Some(3)), part(None, None, Some(9), Some(3))), (4..7, 9..10));
        assert!(part(None, None, Some(11), None).is_empty() && part(None, Some(0), None, None).is_empty());
        assert_eq!(part(None, None, Some(2), Some(u64::MAX)), 2..10);
    }
}
