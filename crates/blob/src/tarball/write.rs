//! Writing archives as tar streams: the same archive gives the same bytes.
//!
//! The form is POSIX ustar, with PAX records where a name, size or time does not fit. Directories that hold something are
//! not recorded in archives and do not appear; who extracts the stream makes them.

use std::io;

use blob_core::{Node, ReadError};
use futures_util::TryStreamExt as _;
use tar::{EntryType, Header};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, BufWriter};

use crate::pull::Archive;

/// Bytes are gathered to writes of this size: 256 KiB.
const GATHER: usize = 256 << 10;

/// The unit of tar streams.
const BLOCK: u64 = 512;

/// The largest size and time that eleven octal digits hold.
const OCTAL: u64 = 0o777_7777_7777;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Empty directories.
    pub empty_dirs: u64,
    /// Bytes of the files.
    pub content_bytes: u64,
    /// Bytes of the stream.
    pub bytes: u64,
}

/// An archive that was not written as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A file could not be read. What was written of it, if it is larger than 8 MiB, is not to be used.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream could not be written.
    #[error("writing the tar stream")]
    Write(#[source] io::Error),
}

/// How many bytes [`Archive::export`] writes for these nodes.
pub fn exported_size(nodes: &[Node<'_>]) -> u64 {
    let one = |node: &Node<'_>| {
        let content = if let Node::File(file) = node { file.original_size() } else { 0 };
        head(node).map_or(0, |head| head.len() as u64 + content.next_multiple_of(BLOCK))
    };
    nodes.iter().map(one).sum::<u64>() + 2 * BLOCK
}

impl Archive {
    /// Writes `nodes` to `out` as a tar stream, in their order. Files up to 8 MiB are verified before their first byte is
    /// written; larger ones end in an error if they were wrong. Near files are read by one request.
    ///
    /// # Errors
    /// [`ExportError`]; what was written is then incomplete, and does not end as tar streams do.
    ///
    /// # Cancellation
    /// Dropping the future ends the requests; the stream stays incomplete.
    pub async fn export(
        &self,
        nodes: &[Node<'_>],
        out: impl AsyncWrite + Unpin + Send,
    ) -> Result<Exported, ExportError> {
        let files = nodes.iter().filter_map(|node| if let Node::File(file) = node { Some(*file) } else { None });
        let mut contents = self.contents(files.collect());
        let mut out = Counted { out: BufWriter::with_capacity(GATHER, out), bytes: 0 };
        let mut done = Exported::default();
        for node in nodes {
            let Some(head) = head(node) else { continue };
            match node {
                Node::File(file) => {
                    let Some((_, mut content)) = contents.try_next().await? else { break };
                    out.write(&head).await?;
                    while let Some(chunk) = content.try_next().await? {
                        out.write(&chunk).await?;
                    }
                    out.pad(file.original_size()).await?;
                    done.files += 1;
                    done.content_bytes += file.original_size();
                }
                Node::Symlink(_) => {
                    out.write(&head).await?;
                    done.symlinks += 1;
                }
                Node::EmptyDir(_) | Node::Directory(_) => {
                    out.write(&head).await?;
                    done.empty_dirs += 1;
                }
            }
        }
        out.write(&[0; 2 * BLOCK as usize]).await?;
        out.out.flush().await.map_err(ExportError::Write)?;
        Ok(Exported { bytes: out.bytes, ..done })
    }
}

struct Counted<W> {
    out: BufWriter<W>,
    bytes: u64,
}

impl<W: AsyncWrite + Unpin> Counted<W> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).await.map_err(ExportError::Write)
    }

    /// Fills the last block of a content of `size` bytes.
    async fn pad(&mut self, size: u64) -> Result<(), ExportError> {
        self.write(&[0; BLOCK as usize][..(size.next_multiple_of(BLOCK) - size) as usize]).await
    }
}

/// What stands before the content: a header, and one with PAX records before it if they are needed.
fn head(node: &Node<'_>) -> Option<Vec<u8>> {
    let mut header = Header::new_ustar();
    let (mut path, mut records) = (node.path().to_vec(), Vec::new());
    header.set_uid(0);
    header.set_gid(0);
    let (mode, mtime_ns, size) = match node {
        Node::File(file) => {
            header.set_entry_type(EntryType::Regular);
            header.set_uid(file.uid().into());
            header.set_gid(file.gid().into());
            (file.mode(), file.mtime_ns(), file.original_size())
        }
        Node::Symlink(link) => {
            header.set_entry_type(EntryType::Symlink);
            if !fill(&mut header.as_old_mut().linkname, link.target()) {
                record(&mut records, "linkpath", link.target());
            }
            (0o777, link.mtime_ns(), 0)
        }
        Node::EmptyDir(dir) => {
            header.set_entry_type(EntryType::Directory);
            path.push(b'/');
            (dir.mode(), dir.mtime_ns(), 0)
        }
        Node::Directory(_) => return None,
    };
    if !fill(&mut header.as_old_mut().name, &path) {
        record(&mut records, "path", &path);
    }
    if size > OCTAL {
        record(&mut records, "size", size.to_string().as_bytes());
    }
    let seconds = u64::try_from(mtime_ns.div_euclid(1_000_000_000)).unwrap_or(0);
    if mtime_ns < 0 || mtime_ns % 1_000_000_000 != 0 {
        record(&mut records, "mtime", decimal(mtime_ns).as_bytes());
    }
    header.set_mode(mode);
    header.set_size(size.min(OCTAL));
    header.set_mtime(seconds.min(OCTAL));
    header.set_cksum();
    let mut head = if records.is_empty() { Vec::new() } else { extended(&records) };
    head.extend_from_slice(header.as_bytes());
    Some(head)
}

/// Copies `value` to a field, cut where the field ends; tells whether all of it fits.
fn fill(field: &mut [u8], value: &[u8]) -> bool {
    let fits = value.len().min(field.len());
    field[..fits].copy_from_slice(&value[..fits]);
    fits == value.len()
}

/// Adds `LENGTH key=value`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The header of PAX records, and the records.
fn extended(records: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    fill(&mut header.as_old_mut().name, b"PaxHeaders/member");
    header.set_mode(0o644);
    header.set_size(records.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(records);
    bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
    bytes
}

/// Nanoseconds as seconds with a fraction, exactly.
fn decimal(ns: i64) -> String {
    let (sign, ns) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
    let text = format!("{sign}{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        for (value, expected) in
            [("x", "9 path=x"), ("xx", "11 path=xx"), ("", "8 path="), ("yyyyyyyyy", "18 path=yyyyyyyyy")]
        {
            let mut records = Vec::new();
            record(&mut records, "path", value.as_bytes());
            assert_eq!(records, format!("{expected}\n").as_bytes());
            assert_eq!(expected.split(' ').next().and_then(|length| length.parse().ok()), Some(records.len()));
        }
        // Where counting the length makes it longer.
        let mut records = Vec::new();
        record(&mut records, "k", &[b'v'; 94]);
        assert_eq!(records.len(), 101);
        assert!(records.starts_with(b"101 k="));
    }

    #[test]
    fn times_are_exact() {
        for (ns, expected) in
            [(1_500_000_000, "1.5"), (-1_500_000_000, "-1.5"), (-1, "-0.000000001"), (2_000_000_000, "2")]
        {
            assert_eq!(decimal(ns), expected);
        }
    }
}
