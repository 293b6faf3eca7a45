//! `Range`, `Content-Range` and the conditions of RFC 9110, as far as blobs, uploads and [sites](super::Site) need them.

use std::ops::Range;

use http::HeaderMap;
use http::header::{self, HeaderName};

/// Which part of some content a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These bytes, which are within the content, and one at least.
    Part(Range<u64>),
    /// Bytes that are not there.
    Unsatisfiable,
}

/// Reads the `Range` header against content of `size` bytes with the entity tag `etag`. Malformed headers, other units,
/// several ranges and a failed `If-Range` all mean the whole; a range that ends before it begins means no bytes. `etag` is
/// as the header `ETag` has it, with its quotes.
pub fn wanted(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (Some(range), None) = (ranges.next().and_then(|value| value.to_str().ok()), ranges.next()) else {
        return Wanted::Whole;
    };
    // A date in If-Range never matches: blobs have no modification time that we would vouch for.
    if headers.get(header::IF_RANGE).is_some_and(|condition| condition.as_bytes() != etag.as_bytes()) {
        return Wanted::Whole;
    }
    parse(range, size).unwrap_or(Wanted::Whole)
}

fn parse(range: &str, size: u64) -> Option<Wanted> {
    let (unit, set) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    if first.is_empty() {
        let length = number(last)?.min(size);
        return Some(if length == 0 { Wanted::Unsatisfiable } else { Wanted::Part(size - length..size) });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    // RFC 9110 lets a server ignore or refuse a range that ends before it begins. No bytes can be meant by it, and
    // whoever asks for such a range does not want the whole blob.
    if last < first || first >= size {
        return Some(Wanted::Unsatisfiable);
    }
    Some(Wanted::Part(first..last.saturating_add(1).min(size)))
}

/// Digits alone; numbers beyond 64 bits stand for the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Reads the `Content-Range` of an upload: `first-last`, or the form of RFC 9110 (`bytes first-last/*`). Both ends are
/// inclusive. `Err` if it is malformed.
pub(super) fn content_range(headers: &HeaderMap) -> Result<Option<(u64, u64)>, ()> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let text = value.to_str().map_err(drop)?.trim();
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-').ok_or(())?;
    let (first, last) = (number(first).ok_or(())?, number(last).ok_or(())?);
    if last < first || last == u64::MAX {
        return Err(());
    }
    Ok(Some((first, last)))
}

/// Whether one of the entity tags of `name` (`If-Match`, `If-None-Match`) is `etag`, weakly compared, or is `*`.
pub fn names_etag(headers: &HeaderMap, name: &HeaderName, etag: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag == etag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_range_is_read() {
        use Wanted::{Part, Unsatisfiable, Whole};
        for (range, size, expected) in [
            ("bytes=0-0", 10, Part(0..1)),
            ("bytes=2-5", 10, Part(2..6)),
            ("bytes=2-", 10, Part(2..10)),
            ("bytes=-3", 10, Part(7..10)),
            ("bytes=-30", 10, Part(0..10)),
            ("bytes=5-99999999999999999999999", 10, Part(5..10)),
            ("BYTES=0-1", 10, Part(0..2)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
            ("bytes=5-2", 10, Unsatisfiable),
            ("bytes=500-0", 2048, Unsatisfiable),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("lines=0-1", 10, Whole),
            ("bytes", 10, Whole),
        ] {
            let headers = HeaderMap::from_iter([(header::RANGE, range.parse().expect("header"))]);
            assert_eq!(wanted(&headers, "\"x\"", size), expected, "{range} of {size}");
        }
    }

    #[test]
    fn content_ranges_of_both_kinds_are_read() {
        for (text, expected) in [
            ("0-9", Ok(Some((0, 9)))),
            ("bytes 5-9/10", Ok(Some((5, 9)))),
            ("bytes 5-9/*", Ok(Some((5, 9)))),
            ("9-0", Err(())),
            ("0-18446744073709551615", Err(())),
            ("x", Err(())),
            ("-5", Err(())),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_RANGE, text.parse().expect("header"))]);
            assert_eq!(content_range(&headers), expected, "{text}");
        }
    }
}
