//! A tar stream that is looked at before anybody reads names out of what may be anything.

use std::io::{self, Cursor, Read};

/// What tar streams are made of, in bytes.
const BLOCK: usize = 512;

/// What packed streams begin with. Of those, and of what is empty or cut short, more can be said where they are read.
const PACKED: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ"];

/// A stream whose first block is the header of a member; otherwise reading it fails.
#[derive(Debug)]
pub(super) struct TarStream<R> {
    /// What was looked at, once that is done.
    first: Option<Cursor<Vec<u8>>>,
    rest: R,
}

impl<R: Read> TarStream<R> {
    /// Nothing is read yet: the other end may take its time.
    pub(super) fn new(rest: R) -> Self {
        Self { first: None, rest }
    }

    fn look(&mut self) -> io::Result<Cursor<Vec<u8>>> {
        let mut first = Vec::with_capacity(BLOCK);
        self.rest.by_ref().take(BLOCK as u64).read_to_end(&mut first)?;
        let known = first.len() < BLOCK || is_header(&first) || PACKED.iter().any(|magic| first.starts_with(magic));
        if known { Ok(Cursor::new(first)) } else { Err(io::Error::other("it does not begin as tar streams do")) }
    }
}

impl<R: Read> Read for TarStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut first = match self.first.take() {
            Some(first) => first,
            None => self.look()?,
        };
        let read = first.read(buffer)?;
        self.first = Some(first);
        if read > 0 || buffer.is_empty() { Ok(read) } else { self.rest.read(buffer) }
    }
}

/// Whether a block is the header of a member, whose sum says so, or belongs to the end of a stream.
fn is_header(block: &[u8]) -> bool {
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let Some(sum) = block.get(148..156) else { return false };
    let digits: Vec<u8> = sum.iter().copied().filter(u8::is_ascii_digit).collect();
    let said = str::from_utf8(&digits).ok().and_then(|digits| i64::from_str_radix(digits, 8).ok());
    let counted = |byte: fn(u8) -> i64| -> i64 {
        let others = block[..148].iter().chain(&block[156..]);
        others.map(|value| byte(*value)).sum::<i64>() + 8 * i64::from(b' ')
    };
    // Some old programs added bytes with a sign.
    let sums = [counted(i64::from), counted(|byte| i64::from(byte.cast_signed()))];
    said.is_some_and(|said| sums.contains(&said))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_tar_is_not_read_on() {
        let read = |bytes: &[u8]| {
            let mut all = Vec::new();
            TarStream::new(bytes).read_to_end(&mut all).map(|_| all)
        };
        let zeros = vec![0; 2 * BLOCK];
        assert_eq!(read(&zeros).unwrap(), zeros);
        for (bytes, fits) in [
            (b"hello ".repeat(200), false),
            (b"hello".to_vec(), true),
            ([&b"\x1f\x8b"[..], &[7; 1000]].concat(), true),
            (Vec::new(), true),
        ] {
            assert_eq!(read(&bytes).is_ok(), fits, "{bytes:?}");
        }
    }
}
