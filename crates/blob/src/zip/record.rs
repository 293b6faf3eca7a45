//! What stands around the contents of a ZIP file (APPNOTE 6.3.10, section 4).

/// What stands for a number that is in a ZIP64 record.
const ELSEWHERE_32: u32 = u32::MAX;
const ELSEWHERE_16: u16 = u16::MAX;

/// Flags: sizes stand behind the content; the name is UTF-8.
const STREAMED: u16 = 1 << 3;
const UTF_8: u16 = 1 << 11;

/// Versions of the format that a reader needs, without and with ZIP64; the writer is a Unix.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;
const UNIX: u16 = 3 << 8;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Symlink,
    Directory,
}

/// How the content is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Store = 0,
    Deflate = 8,
}

/// A member, as both its header and the directory tell about it.
#[derive(Clone, Debug)]
pub(super) struct Record<'a> {
    kind: Kind,
    path: &'a [u8],
    mode: u32,
    mtime_ns: i64,
    pub(super) method: Method,
    pub(super) crc: u32,
    /// Bytes in the ZIP file.
    pub(super) stored: u64,
    /// Bytes of the content.
    pub(super) size: u64,
    /// Where its header begins.
    pub(super) offset: u64,
    streamed: bool,
    /// The sizes behind the content have 64 bits.
    wide: bool,
}

impl<'a> Record<'a> {
    pub(super) fn new(kind: Kind, path: &'a [u8], mode: u32, mtime_ns: i64) -> Self {
        Self {
            kind,
            path,
            mode,
            mtime_ns,
            method: Method::Store,
            crc: 0,
            stored: 0,
            size: 0,
            offset: 0,
            streamed: false,
            wide: false,
        }
    }

    /// The sizes will stand behind the content, of which `size` is known: it may grow by what does not compress.
    pub(super) fn stream(&mut self) {
        self.streamed = true;
        self.wide = self.size.saturating_add(self.size / 1000 + 1024) >= u64::from(ELSEWHERE_32);
    }

    /// What stands before the content.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut extra = self.time();
        if self.wide {
            // Which says that the sizes behind the content are wide, too.
            extra.extend(field(0x0001, &[0; 16]));
        }
        let sizes = match (self.streamed, self.wide) {
            (true, true) => (0, ELSEWHERE_32, ELSEWHERE_32),
            (true, false) => (0, 0, 0),
            // In memory they are small.
            (false, _) => (self.crc, narrow(self.stored), narrow(self.size)),
        };
        let mut bytes = Vec::new();
        put32(&mut bytes, 0x0403_4b50);
        put16(&mut bytes, if self.wide { VERSION_64 } else { VERSION });
        self.common(&mut bytes, sizes, &extra);
        bytes.extend(self.name());
        bytes.extend(extra);
        bytes
    }

    /// What stands behind a content that was streamed.
    pub(super) fn descriptor(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put32(&mut bytes, 0x0807_4b50);
        put32(&mut bytes, self.crc);
        for size in [self.stored, self.size] {
            if self.wide { put64(&mut bytes, size) } else { put32(&mut bytes, narrow(size)) }
        }
        bytes
    }

    /// What the directory says.
    pub(super) fn listed(&self) -> Vec<u8> {
        let mut far = Vec::new();
        for number in [self.size, self.stored, self.offset] {
            if narrow(number) == ELSEWHERE_32 {
                put64(&mut far, number);
            }
        }
        let mut extra = self.time();
        if !far.is_empty() {
            extra.extend(field(0x0001, &far));
        }
        let (kind, dos) = match self.kind {
            Kind::File => (0o100_000, 0),
            Kind::Symlink => (0o120_000, 0),
            Kind::Directory => (0o040_000, 0x10),
        };
        let wide = self.wide || !far.is_empty();
        let mut bytes = Vec::new();
        put32(&mut bytes, 0x0201_4b50);
        put16(&mut bytes, UNIX | VERSION_64);
        put16(&mut bytes, if wide { VERSION_64 } else { VERSION });
        self.common(&mut bytes, (self.crc, narrow(self.stored), narrow(self.size)), &extra);
        // No comment, the first disk, no internal attributes.
        bytes.extend([0; 6]);
        put32(&mut bytes, (kind | self.mode & 0o7777) << 16 | dos);
        put32(&mut bytes, narrow(self.offset));
        bytes.extend(self.name());
        bytes.extend(extra);
        bytes
    }

    /// What header and directory have in common: from the flags to the lengths.
    fn common(&self, bytes: &mut Vec<u8>, (crc, stored, size): (u32, u32, u32), extra: &[u8]) {
        put16(bytes, UTF_8 | if self.streamed { STREAMED } else { 0 });
        put16(bytes, self.method as u16);
        let (time, date) = dos_time(self.seconds());
        put16(bytes, time);
        put16(bytes, date);
        put32(bytes, crc);
        put32(bytes, stored);
        put32(bytes, size);
        put16(bytes, short(self.name().len()));
        put16(bytes, short(extra.len()));
    }

    fn name(&self) -> Vec<u8> {
        let mut name = self.path.to_vec();
        if self.kind == Kind::Directory {
            name.push(b'/');
        }
        name
    }

    fn seconds(&self) -> i64 {
        self.mtime_ns.div_euclid(1_000_000_000)
    }

    /// The time in UTC to the second, in the field that Info-ZIP knows; the other one has no zone.
    fn time(&self) -> Vec<u8> {
        let Ok(seconds) = i32::try_from(self.seconds()) else { return Vec::new() };
        let mut time = vec![1];
        time.extend(seconds.to_le_bytes());
        field(0x5455, &time)
    }
}

/// What ends the file: how many records the directory has, where it begins and how long it is.
pub(super) fn end(records: u64, start: u64, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if records >= u64::from(ELSEWHERE_16) || narrow(start) == ELSEWHERE_32 || narrow(length) == ELSEWHERE_32 {
        put32(&mut bytes, 0x0606_4b50);
        put64(&mut bytes, 44);
        put16(&mut bytes, UNIX | VERSION_64);
        put16(&mut bytes, VERSION_64);
        put64(&mut bytes, 0);
        for number in [records, records, length, start] {
            put64(&mut bytes, number);
        }
        put32(&mut bytes, 0x0706_4b50);
        put32(&mut bytes, 0);
        put64(&mut bytes, start + length);
        put32(&mut bytes, 1);
    }
    put32(&mut bytes, 0x0605_4b50);
    put32(&mut bytes, 0);
    put16(&mut bytes, short(usize::try_from(records).unwrap_or(usize::MAX)));
    put16(&mut bytes, short(usize::try_from(records).unwrap_or(usize::MAX)));
    put32(&mut bytes, narrow(length));
    put32(&mut bytes, narrow(start));
    put16(&mut bytes, 0);
    bytes
}

fn put16(bytes: &mut Vec<u8>, number: u16) {
    bytes.extend(number.to_le_bytes());
}

fn put32(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend(number.to_le_bytes());
}

fn put64(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend(number.to_le_bytes());
}

/// An extra field.
fn field(id: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put16(&mut bytes, id);
    put16(&mut bytes, short(content.len()));
    bytes.extend_from_slice(content);
    bytes
}

/// The number, or that it is elsewhere.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(ELSEWHERE_32)
}

fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(ELSEWHERE_16)
}

/// Time and date as DOS has them, in UTC; from 1980 to 2107, to two seconds.
fn dos_time(seconds: i64) -> (u16, u16) {
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_198;
    let seconds = seconds.clamp(FIRST, LAST);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    let part = |number: i8| u16::try_from(number).unwrap_or(0);
    let year = u16::try_from(moment.year() - 1980).unwrap_or(0);
    let time = part(moment.hour()) << 11 | part(moment.minute()) << 5 | (part(moment.second()) / 2);
    (time, year << 9 | part(moment.month()) << 5 | part(moment.day()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_dos() {
        for (seconds, (hour, minute, pair), (year, month, day)) in [
            (0, (0, 0, 0), (0, 1, 1)),
            (315_532_800, (0, 0, 0), (0, 1, 1)),
            (1_700_000_000, (22, 13, 10), (43, 11, 14)),
            (i64::MAX, (23, 59, 29), (127, 12, 31)),
        ] {
            let expected = (hour * 2048 + minute * 32 + pair, year * 512 + month * 32 + day);
            assert_eq!(dos_time(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn large_numbers_are_in_wide_fields() {
        let mut record = Record::new(Kind::File, b"x", 0o644, 0);
        (record.size, record.stored, record.offset) = (5 << 30, 10, 6 << 30);
        record.stream();
        assert!(record.wide);
        assert_eq!(record.descriptor().len(), 4 + 4 + 8 + 8);
        let listed = record.listed();
        assert_eq!(&listed[listed.len() - 16..listed.len() - 8], (5_u64 << 30).to_le_bytes());
        assert_eq!(&listed[listed.len() - 8..], (6_u64 << 30).to_le_bytes());
        let small = Record { size: 9 << 20, wide: false, ..record };
        assert_eq!(small.descriptor().len(), 4 + 4 + 4 + 4);
        // More records than sixteen bits count, and a directory behind four gibibytes.
        for (records, start, length) in [(65_534, 10, 98), (65_535, 10, 22 + 76), (1, 5 << 30, 22 + 76)] {
            let expected = if records == 65_534 { 22 } else { length };
            assert_eq!(end(records, start, 20).len(), expected, "{records} {start}");
        }
    }
}
