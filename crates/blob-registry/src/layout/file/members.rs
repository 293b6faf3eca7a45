//! What is in the tar file, from its headers: contents are passed over, but for the list of manifests.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use blob_core::Digest;
use tar::{EntryType, Header};

use super::super::disk::MAX_INDEX_BYTES;
use super::super::failed;
use super::super::refs::Index;
use crate::error::RegistryError;

/// The unit of tar files.
const BLOCK: u64 = 512;

/// Larger records about a member are not read: 1 MiB. What they say of a layout's members has a hundred bytes.
const MAX_RECORDS: u64 = 1 << 20;

/// Files with more members than this are refused.
const MAX_MEMBERS: u64 = 1_000_000;

/// The members of a layout.
pub(super) struct Members {
    pub(super) index: Index,
    pub(super) blobs: HashMap<Digest, Range<u64>>,
}

/// Why a file cannot be read.
pub(super) enum Problem {
    Io(io::Error),
    Form(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Problem {
    /// As an error about `action`.
    pub(super) fn at(self, action: String) -> RegistryError {
        match self {
            Self::Io(error) => failed(|| action)(error),
            Self::Form(detail) => RegistryError::Protocol { action, detail },
        }
    }
}

fn form<T>(detail: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Form(detail.into()))
}

/// What the records before a member say about it, in place of its header.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

/// A member of a layout.
enum Name {
    Marker,
    Index,
    Blob(Digest),
}

/// Reads the headers, the marker and the list of manifests. Of several members with one name the last one counts.
pub(super) fn read(file: &File) -> Result<Members, Problem> {
    let length = file.metadata()?.len();
    check_beginning(file)?;
    let (mut marker, mut index, mut blobs) = (None, None, HashMap::new());
    let (mut at, mut members, mut said) = (0, 0, Said::default());
    while let Some(header) = header(file, at, length)? {
        members += 1;
        if members > MAX_MEMBERS {
            return form(format!("it has more than {MAX_MEMBERS} members"));
        }
        let kind = header.entry_type();
        let own = header.entry_size().or_else(|_| form(format!("the size of the member at byte {at} is no number")))?;
        let about = matches!(kind, EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink);
        let size = said.size.filter(|_| !about).unwrap_or(own);
        let start = at + BLOCK;
        let Some(end) = start.checked_add(size).filter(|end| *end <= length) else {
            return form(format!("it ends within the member at byte {at}: it has {length} bytes, and was cut off"));
        };
        match kind {
            EntryType::XHeader => said.take(&bytes(file, start..end, MAX_RECORDS, "a record")?),
            EntryType::GNULongName => {
                let name = bytes(file, start..end, MAX_RECORDS, "a name")?;
                said.path = Some(name.into_iter().take_while(|byte| *byte != 0).collect());
            }
            EntryType::GNULongLink | EntryType::XGlobalHeader => {}
            EntryType::Regular | EntryType::Continuous => {
                let path = said.path.take().unwrap_or_else(|| header.path_bytes().into_owned());
                match name(&path) {
                    Some(Name::Marker) => marker = Some(bytes(file, start..end, 4096, "oci-layout")?),
                    Some(Name::Index) => index = Some(bytes(file, start..end, MAX_INDEX_BYTES, "index.json")?),
                    Some(Name::Blob(digest)) => drop(blobs.insert(digest, start..end)),
                    None => {}
                }
                said = Said::default();
            }
            _ => said = Said::default(),
        }
        at = end.next_multiple_of(BLOCK);
    }
    check_marker(marker)?;
    let Some(index) = index else { return form("it has no member index.json, without which a layout lists nothing") };
    match Index::parse(&index) {
        Ok(index) => Ok(Members { index, blobs }),
        Err(_) => form("its index.json is no object with a list of manifests"),
    }
}

/// Names the program that packed a compressed file, which has to be unpacked first.
fn check_beginning(file: &File) -> Result<(), Problem> {
    let mut first = [0; 6];
    let got = file.read_at(&mut first, 0)?;
    let packed = [
        (&b"\x1f\x8b"[..], "gzip", "gunzip"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
        (b"\xfd7zXZ\0", "xz", "unxz"),
        (b"BZh", "bzip2", "bunzip2"),
    ];
    for (magic, by, with) in packed {
        if first[..got].starts_with(magic) {
            return form(format!("it is compressed by {by}, expected plain tar: unpack it with {with} first"));
        }
    }
    Ok(())
}

/// The header at byte `at`; `None` at the end, which some programs mark by blocks of zeros and others leave out.
fn header(file: &File, at: u64, length: u64) -> Result<Option<Box<Header>>, Problem> {
    if at == length && at > 0 {
        return Ok(None);
    }
    let mut block = [0; BLOCK as usize];
    if at + BLOCK > length {
        return form(if at == 0 { "it is no tar file" } else { "it ends within a header, and was cut off" });
    }
    file.read_exact_at(&mut block, at)?;
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    // The check sum counts its own field as blanks.
    let sum: u32 =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
    let header = Header::from_byte_slice(&block);
    if header.cksum().ok() != Some(sum) {
        let detail = if at == 0 { "it is no tar file".into() } else { format!("the header at byte {at} is damaged") };
        return form(detail);
    }
    Ok(Some(Box::new(header.clone())))
}

/// The bytes of a member, at most `limit`.
fn bytes(file: &File, range: Range<u64>, limit: u64, what: &str) -> Result<Vec<u8>, Problem> {
    let size = range.end - range.start;
    if size > limit {
        return form(format!("{what} in it has {size} bytes, over the limit of {limit}"));
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

/// What a path means in a layout. Programs that pack a directory write `./` before it.
fn name(path: &[u8]) -> Option<Name> {
    let mut path = std::str::from_utf8(path).ok()?;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    match path {
        "oci-layout" => Some(Name::Marker),
        "index.json" => Some(Name::Index),
        _ => {
            let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
            format!("{algorithm}:{hex}").parse().ok().map(Name::Blob)
        }
    }
}

fn check_marker(marker: Option<Vec<u8>>) -> Result<(), Problem> {
    let Some(marker) = marker else { return form("there is no layout in it: it has no member oci-layout") };
    let document = serde_json::from_slice::<serde_json::Value>(&marker).ok();
    match document.as_ref().and_then(|document| document.get("imageLayoutVersion")?.as_str()) {
        Some(version) if version.starts_with("1.") => Ok(()),
        other => form(format!("expected imageLayoutVersion 1.0.0 in oci-layout, got {other:?}")),
    }
}

impl Said {
    /// Takes `LENGTH key=value` lines. What cannot be read is not said.
    fn take(&mut self, mut records: &[u8]) {
        while let Some(blank) = records.iter().position(|byte| *byte == b' ') {
            let length = std::str::from_utf8(&records[..blank]).ok().and_then(|digits| digits.parse::<usize>().ok());
            let Some(length) = length.filter(|length| *length > blank + 1 && *length <= records.len()) else { return };
            let Some(record) = records[blank + 1..length].strip_suffix(b"\n") else { return };
            if let Some(path) = record.strip_prefix(b"path=") {
                self.path = Some(path.to_vec());
            } else if let Some(size) = record.strip_prefix(b"size=") {
                self.size = std::str::from_utf8(size).ok().and_then(|digits| digits.parse().ok());
            }
            records = &records[length..];
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn records_before_a_member_are_read() {
        let mut said = Said::default();
        said.take(b"19 path=./oci-layout");
        assert_eq!(said.path, None, "cut off");
        said.take(b"21 path=./oci-layout\n22 size=9000000000000\n7 junk");
        assert_eq!((said.path.as_deref(), said.size), (Some(&b"./oci-layout"[..]), Some(9_000_000_000_000)));
        for odd in [&b""[..], b" ", b"0 ", b"3 x", b"99999999999999999999 a=b\n", b"x y=z\n"] {
            Said::default().take(odd);
        }
    }

    #[test]
    fn names_of_a_layout_are_known() {
        let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert!(matches!(name(b"./oci-layout"), Some(Name::Marker)));
        assert!(matches!(name(b"index.json"), Some(Name::Index)));
        assert!(matches!(name(format!("./blobs/sha256/{hex}").as_bytes()), Some(Name::Blob(_))));
        for other in ["", "manifest.json", "blobs", "blobs/sha256/", "blobs/sha256/00", "/index.json", "x/index.json"] {
            assert!(name(other.as_bytes()).is_none(), "{other}");
        }
    }
}
