//! Small files that a person, a configuration or a policy names: keys, trust roots, rules.
//!
//! What is at such a path is not always a file. A pipe that nobody writes to would hold a program for ever, and no size
//! that is asked for beforehand says how much a device gives. Here opening never waits, and reading ends at a limit.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Where a shell puts what it hands over (`<(command)`): such a pipe has somebody at its other end.
const HANDED_OVER: [&str; 3] = ["/dev/fd", "/proc/self/fd", "/dev/stdin"];

/// Opens the file at `path` for reading; links are followed. Character devices pass, such as `/dev/null`: reading them
/// never waits. So do pipes that a shell handed over, `/dev/fd/N`, for which whoever writes is waited.
///
/// # Errors
/// What the system says; [`io::ErrorKind::InvalidInput`] for directories, other pipes, sockets and disks.
pub fn open(path: &Path) -> io::Result<File> {
    if HANDED_OVER.iter().any(|place| path.starts_with(place)) {
        return File::open(path);
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_char_device() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("expected a plain file, got {}", name(kind))))
}

/// The content of the file at `path`, of at most `limit` bytes, opened as [`open`] does.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::FileTooLarge`] for more than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

fn name(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::ErrorKind;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn only_files_are_read_and_only_to_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| -> PathBuf { dir.path().join(name) };
        std::fs::write(at("file"), "four").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for name in ["file", "link"] {
            assert_eq!(read(&at(name), 4).unwrap(), b"four", "{name}");
        }
        assert_eq!(read(Path::new("/dev/null"), 4).unwrap(), b"");
        for (path, limit, expected) in [
            (at("file"), 3, ErrorKind::FileTooLarge),
            ("/dev/zero".into(), 1000, ErrorKind::FileTooLarge),
            (at("pipe"), 4, ErrorKind::InvalidInput),
            (at(""), 4, ErrorKind::InvalidInput),
            (at("missing"), 4, ErrorKind::NotFound),
        ] {
            assert_eq!(read(&path, limit).unwrap_err().kind(), expected, "{}", path.display());
        }
    }
}
