//! Reading a tar stream: what is in it, with the contents put behind one another in a file.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _};
use std::ops::ControlFlow;
use std::rc::Rc;

use blob_core::Event;
use blob_core::create::{CreateOptions, Member, MemberKind, Parts};
use blob_core::path::Shown;
use tar::EntryType;

/// How much is read and written at a time: 256 KiB.
const BUFFER: usize = 256 << 10;

/// The most bytes of headers before one member: a megabyte. They are read to memory whole.
const MAX_HEADERS: u64 = 1 << 20;

/// The most bytes of paths and targets of links: a gibibyte, which no index could hold.
const MAX_NAMES: u64 = 1 << 30;

/// A tar stream that cannot become an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The stream cannot be read, ends within a member, or is no tar stream.
    #[error("the stream cannot be read as tar, after {members} members")]
    Read {
        /// Members that were read before.
        members: u64,
        /// What is wrong.
        source: io::Error,
    },
    /// There is nothing in the stream, not even its end.
    #[error("the stream is empty: expected a tar stream")]
    Empty,
    /// The stream is compressed.
    #[error("the stream is compressed by {by}, expected plain tar")]
    Compressed {
        /// The program that decompresses it.
        by: &'static str,
    },
    /// A path leads out of the archive.
    #[error("the member \"{}\" {problem}", Shown(path))]
    Path {
        /// The path, as it stands in the stream.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A hard link names no member before it.
    #[error(
        "the hard link \"{}\" points at \"{}\", which is no file before it in the stream",
        Shown(path),
        Shown(target)
    )]
    HardLink {
        /// The link.
        path: Vec<u8>,
        /// What it points at.
        target: Vec<u8>,
    },
    /// A member is in a form that is not understood.
    #[error("the member \"{}\" is {form}", Shown(path))]
    Unsupported {
        /// The path.
        path: Vec<u8>,
        /// The form.
        form: &'static str,
    },
    /// There are more members than the options allow.
    #[error("there are more than {limit} members; raise the limit to archive them")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// The members hold more bytes than are allowed.
    #[error("its members hold at least {bytes} bytes, over the limit of {limit}")]
    TooLarge {
        /// How many the members until now say that they have.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// What stands before a member about it, such as its long name or PAX records, takes more room than any program needs.
    #[error("after {members} members come more than {limit} bytes of headers for a single one")]
    Headers {
        /// Members that were read before.
        members: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Paths and targets of links are kept in memory, and they are more than may be.
    #[error("the names of its members have more than {limit} bytes in all")]
    Names {
        /// The limit in bytes.
        limit: u64,
    },
    /// The contents could not be kept.
    #[error("writing a temporary file")]
    Spool(#[source] io::Error),
    /// The caller's progress said so.
    #[error("cancelled")]
    Cancelled,
}

/// What is in the stream; contents go to `spool`, at most as many bytes as the limit says. What the options say about
/// that is for who calls.
pub(super) fn read(
    input: Box<dyn Read + Send>,
    spool: &File,
    (options, limit): (&CreateOptions, u64),
) -> Result<Parts, TarError> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    check_beginning(&mut input)?;
    let mut spool = Spool { file: BufWriter::with_capacity(BUFFER, spool), written: 0, limit };
    let mut parts = Parts::new();
    let allowance = Allowance::default();
    let mut archive = tar::Archive::new(Metered { inner: input, allowance: allowance.clone() });
    let mut entries = archive.entries().map_err(|source| TarError::Read { members: 0, source })?;
    let (mut members, mut names) = (0, 0);
    loop {
        allowance.limit(MAX_HEADERS);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|source| {
            if allowance.is_spent() {
                TarError::Headers { members, limit: MAX_HEADERS }
            } else {
                TarError::Read { members, source }
            }
        })?;
        allowance.lift();
        names += take(&mut entry, &mut parts, &mut spool, members)?;
        // What is left of members that are not kept does not count as headers of the next.
        io::copy(&mut entry, &mut io::sink()).map_err(|source| TarError::Read { members, source })?;
        members += 1;
        if names > MAX_NAMES {
            return Err(TarError::Names { limit: MAX_NAMES });
        }
        if parts.len() as u64 > options.max_files {
            return Err(TarError::TooMany { limit: options.max_files });
        }
        if let ControlFlow::Break(()) = options.progress.event(&Event::Scanning { found: members }) {
            return Err(TarError::Cancelled);
        }
    }
    spool.file.flush().map_err(TarError::Spool)?;
    Ok(parts)
}

/// How many bytes may be read from a stream until more are allowed.
#[derive(Clone, Default)]
struct Allowance(Rc<Cell<Option<u64>>>);

impl Allowance {
    fn limit(&self, bytes: u64) {
        self.0.set(Some(bytes));
    }

    fn lift(&self) {
        self.0.set(None);
    }

    fn is_spent(&self) -> bool {
        self.0.get() == Some(0)
    }
}

/// A stream that fails when it was read further than is allowed.
struct Metered<R> {
    inner: R,
    allowance: Allowance,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.allowance.0.get() else { return self.inner.read(buffer) };
        if left == 0 {
            return Err(io::Error::other("too much was read"));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = self.inner.read(&mut buffer[..most])?;
        self.allowance.limit(left - got as u64);
        Ok(got)
    }
}

/// Refuses what is no tar stream at the first look.
fn check_beginning(input: &mut BufReader<Box<dyn Read + Send>>) -> Result<(), TarError> {
    let start = input.fill_buf().map_err(|source| TarError::Read { members: 0, source })?;
    if start.is_empty() {
        return Err(TarError::Empty);
    }
    let magic: [(&[u8], &'static str); 4] =
        [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2")];
    match magic.into_iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, by)) => Err(TarError::Compressed { by }),
        None => Ok(()),
    }
}

/// The file of contents and how much is in it.
struct Spool<'a> {
    file: BufWriter<&'a File>,
    written: u64,
    /// The most bytes of it.
    limit: u64,
}

/// Takes one member; how many bytes its names have.
fn take<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    parts: &mut Parts,
    spool: &mut Spool<'_>,
    members: u64,
) -> Result<u64, TarError> {
    let failed = |source| TarError::Read { members, source };
    // What holds for all members that follow; no program writes anything into it that an archive keeps.
    if entry.header().entry_type() == EntryType::XGlobalHeader {
        return Ok(0);
    }
    let raw = entry.path_bytes().into_owned();
    let path = inside(&raw)?;
    if path.is_empty() {
        return Ok(0);
    }
    let (mtime_ns, sparse) = extensions(entry).map_err(failed)?;
    if sparse {
        return Err(TarError::Unsupported {
            path: raw,
            form: "a sparse file in PAX form; write the stream without --sparse",
        });
    }
    let header = entry.header();
    let (uid, gid) = (header.uid().map_err(failed)?, header.gid().map_err(failed)?);
    let seconds = i64::try_from(header.mtime().map_err(failed)?).unwrap_or(i64::MAX);
    let mtime_ns = mtime_ns.unwrap_or_else(|| seconds.saturating_mul(1_000_000_000));
    let mode = header.mode().map_err(failed)?;
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => content(entry, spool, members)?,
        EntryType::Symlink => MemberKind::Symlink(entry.link_name_bytes().unwrap_or_default().into_owned()),
        EntryType::Link => {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            match parts.get(&inside(&target)?).map(|member| &member.kind) {
                Some(kind @ (MemberKind::File { .. } | MemberKind::Symlink(_))) => kind.clone(),
                _ => return Err(TarError::HardLink { path: raw, target }),
            }
        }
        EntryType::Directory => MemberKind::Directory,
        _ => MemberKind::Special,
    };
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let names = path.len() + if let MemberKind::Symlink(target) = &kind { target.len() } else { 0 };
    parts.insert(path, Member { kind, mode, uid: narrow(uid), gid: narrow(gid), mtime_ns });
    Ok(names as u64)
}

fn content<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    spool: &mut Spool<'_>,
    members: u64,
) -> Result<MemberKind, TarError> {
    let (start, size) = (spool.written, entry.size());
    // Before a byte of the member is read: it may say that it has more than any disk.
    let bytes = start.saturating_add(size);
    if bytes > spool.limit {
        return Err(TarError::TooLarge { bytes, limit: spool.limit });
    }
    let mut left = size;
    let mut chunk = vec![0; BUFFER.min(usize::try_from(size).unwrap_or(BUFFER))];
    while left > 0 {
        let wanted = chunk.len().min(usize::try_from(left).unwrap_or(BUFFER));
        let got = entry.read(&mut chunk[..wanted]).map_err(|source| TarError::Read { members, source })?;
        if got == 0 {
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, format!("{left} bytes of a file are missing"));
            return Err(TarError::Read { members, source });
        }
        spool.file.write_all(&chunk[..got]).map_err(TarError::Spool)?;
        spool.written += got as u64;
        left -= got as u64;
    }
    Ok(MemberKind::File { start, size })
}

/// What PAX records say of the modification time, and whether they describe a sparse file.
fn extensions<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<(Option<i64>, bool)> {
    let (mut time, mut sparse) = (None, false);
    let Some(records) = entry.pax_extensions()? else { return Ok((None, false)) };
    for record in records {
        let record = record?;
        match record.key() {
            Ok("mtime") => time = record.value().ok().and_then(nanoseconds).or(time),
            Ok(key) if key.starts_with("GNU.sparse.") => sparse = true,
            _ => {}
        }
    }
    Ok((time, sparse))
}

/// `1700000000.25` in nanoseconds.
fn nanoseconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (negative, seconds) = (whole.starts_with('-'), whole.parse::<i64>().ok()?);
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction));
    let part: i64 = digits.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(if negative { -part } else { part })
}

/// The path as archives write it; empty for the root.
fn inside(raw: &[u8]) -> Result<Vec<u8>, TarError> {
    let refused = |problem| TarError::Path { path: raw.to_vec(), problem };
    if raw.starts_with(b"/") {
        return Err(refused("has an absolute path"));
    }
    let elements = raw.split(|byte| *byte == b'/').filter(|element| !element.is_empty() && *element != b".");
    let elements: Vec<&[u8]> = elements.collect();
    if elements.contains(&&b".."[..]) {
        return Err(refused("has a path with `..` in it"));
    }
    Ok(elements.join(&b'/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_have_fractions() {
        for (text, expected) in [
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("1.5", Some(1_500_000_000)),
            ("0.123456789123", Some(123_456_789)),
            ("-1.5", Some(-1_500_000_000)),
            ("-0.5", Some(-500_000_000)),
            ("x", None),
            ("1.x", None),
            ("99999999999999", None),
        ] {
            assert_eq!(nanoseconds(text), expected, "{text}");
        }
    }

    #[test]
    fn paths_stay_inside() {
        for (raw, expected) in [
            ("./a//b/", Some("a/b")),
            ("./", Some("")),
            ("a..b", Some("a..b")),
            ("/a", None),
            ("a/../b", None),
            ("..", None),
        ] {
            assert_eq!(inside(raw.as_bytes()).ok().as_deref(), expected.map(str::as_bytes), "{raw}");
        }
    }
}
