//! Ranges on the wire (RFC 9110, section 14), and every lie a server can tell about them.
//!
//! Archives are read at computed offsets, so an answer that is off by one byte is worse than none. [`judge`] looks at
//! status and headers and accepts exactly what was asked for; what the body then holds is counted by the reader.

use std::ops::Range;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// An answer is not the part that was asked for. Positions are bytes; ends are exclusive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// A part without a word about where it belongs.
    #[error("a part came without Content-Range")]
    Missing,
    /// A Content-Range (or Content-Length) that cannot be understood.
    #[error("{value:?} is not a valid {header}")]
    Malformed {
        /// Which header.
        header: &'static str,
        /// Its value, shortened.
        value: String,
    },
    /// A part measured in something other than bytes.
    #[error("the part is measured in {unit:?}, not in bytes")]
    Unit {
        /// The unit, shortened.
        unit: String,
    },
    /// The part begins elsewhere.
    #[error("the part begins at byte {got}, not at {expected}")]
    Start {
        /// What was asked for.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// The part ends elsewhere.
    #[error("the part ends before byte {got}, not before {expected}")]
    End {
        /// What was asked for.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// The resource has another size.
    #[error("the whole has {got} bytes, not {expected}")]
    Total {
        /// The size it was opened with.
        expected: u64,
        /// The size it has now.
        got: u64,
    },
    /// The server does not say how large the whole is (`*`).
    #[error("the size of the whole is not said")]
    TotalUnknown,
    /// The server says that a range is not there which is there.
    #[error("bytes {}..{} are said not to exist in a whole of {total:?} bytes", range.start, range.end)]
    Unsatisfied {
        /// What was asked for.
        range: Range<u64>,
        /// The size the server claims, if it does.
        total: Option<u64>,
    },
    /// Several parts for one range.
    #[error("several parts came for one range")]
    Multipart,
    /// The bytes are compressed on the way, so positions mean nothing.
    #[error("the answer is encoded as {encoding:?}")]
    Encoded {
        /// The encoding, shortened.
        encoding: String,
    },
    /// A part though the whole was asked for.
    #[error("a part came for a request of the whole")]
    Unasked,
    /// The announced length contradicts the range.
    #[error("{got} bytes are announced for a range of {expected}")]
    Length {
        /// The length of the range.
        expected: u64,
        /// The announced length.
        got: u64,
    },
    /// More bytes came than were promised.
    #[error("more than the promised {expected} bytes came")]
    Longer {
        /// The promise.
        expected: u64,
    },
}

/// A parsed `Content-Range` in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// `bytes first-last/total`: this part (end-exclusive) of a whole of `total` bytes, `None` for `*`.
    Part {
        /// Never empty.
        range: Range<u64>,
        /// At least `range.end`.
        total: Option<u64>,
    },
    /// `bytes */total`: the range does not exist in a whole of `total` bytes.
    Unsatisfied {
        /// The size.
        total: u64,
    },
}

impl ContentRange {
    /// Parses the value of the header.
    ///
    /// # Errors
    /// [`RangeError::Unit`], [`RangeError::Malformed`]: also for ranges that are inverted or leave the whole.
    pub fn parse(value: &[u8]) -> Result<Self, RangeError> {
        let malformed = || RangeError::Malformed { header: "Content-Range", value: shorten(value) };
        let text = std::str::from_utf8(value).map_err(|_| malformed())?.trim_matches([' ', '\t']);
        let (unit, rest) = text.split_once(' ').ok_or_else(malformed)?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return Err(RangeError::Unit { unit: shorten(unit.as_bytes()) });
        }
        let (part, total) = rest.trim_start().split_once('/').ok_or_else(malformed)?;
        if part == "*" {
            return Ok(Self::Unsatisfied { total: digits(total).ok_or_else(malformed)? });
        }
        let (first, last) = part.split_once('-').ok_or_else(malformed)?;
        let total = if total == "*" { None } else { Some(digits(total).ok_or_else(malformed)?) };
        let (first, last) = digits(first).zip(digits(last)).ok_or_else(malformed)?;
        let end = last.checked_add(1).ok_or_else(malformed)?;
        if first >= end || total.is_some_and(|total| end > total) {
            return Err(malformed());
        }
        Ok(Self::Part { range: first..end, total })
    }
}

/// The value of a `Range` header; `None` for an empty range, which has no form on the wire.
pub fn header(range: &Range<u64>) -> Option<HeaderValue> {
    if range.is_empty() {
        return None;
    }
    HeaderValue::try_from(format!("bytes={}-{}", range.start, range.end - 1)).ok()
}

/// What was asked of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The range, or `None` for the whole. Its end may lie beyond the whole if `total` is not known.
    pub range: Option<Range<u64>>,
    /// The size of the whole, if known.
    pub total: Option<u64>,
}

/// What a server's status and headers promise, after all checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The body is exactly this part of a whole of `total` bytes.
    Part {
        /// What was asked for, shortened to the whole.
        range: Range<u64>,
        /// The size of the whole.
        total: u64,
    },
    /// The body is the whole, of `total` bytes if the server says so.
    Whole {
        /// The size of the whole.
        total: Option<u64>,
    },
    /// The whole is empty.
    Empty,
    /// Neither: the status is for the caller to judge.
    Other,
}

/// Compares an answer with what was asked for.
///
/// # Errors
/// Every [`RangeError`] but [`RangeError::Longer`].
pub fn judge(asked: &Asked, status: StatusCode, headers: &HeaderMap) -> Result<Promise, RangeError> {
    match status {
        StatusCode::OK => {
            check_identity(headers)?;
            let total = content_length(headers)?;
            match (asked.total, total) {
                (Some(expected), Some(got)) if expected != got => Err(RangeError::Total { expected, got }),
                _ => Ok(Promise::Whole { total }),
            }
        }
        StatusCode::PARTIAL_CONTENT => {
            check_identity(headers)?;
            judge_part(asked, headers)
        }
        StatusCode::RANGE_NOT_SATISFIABLE => judge_unsatisfied(asked, headers),
        _ => Ok(Promise::Other),
    }
}

fn judge_part(asked: &Asked, headers: &HeaderMap) -> Result<Promise, RangeError> {
    let Some(wanted) = &asked.range else { return Err(RangeError::Unasked) };
    if text(headers, &CONTENT_TYPE).is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/byteranges")) {
        return Err(RangeError::Multipart);
    }
    let value = headers.get(CONTENT_RANGE).ok_or(RangeError::Missing)?;
    let ContentRange::Part { range, total } = ContentRange::parse(value.as_bytes())? else {
        return Err(RangeError::Malformed { header: "Content-Range", value: shorten(value.as_bytes()) });
    };
    let total = match (asked.total, total) {
        (Some(expected), Some(got)) if expected != got => return Err(RangeError::Total { expected, got }),
        (Some(total), None) | (_, Some(total)) => total,
        (None, None) => return Err(RangeError::TotalUnknown),
    };
    if range.start != wanted.start {
        return Err(RangeError::Start { expected: wanted.start, got: range.start });
    }
    let end = wanted.end.min(total);
    if range.end != end {
        return Err(RangeError::End { expected: end, got: range.end });
    }
    let expected = range.end - range.start;
    match content_length(headers)? {
        Some(got) if got != expected => Err(RangeError::Length { expected, got }),
        _ => Ok(Promise::Part { range, total }),
    }
}

fn judge_unsatisfied(asked: &Asked, headers: &HeaderMap) -> Result<Promise, RangeError> {
    let total = match headers.get(CONTENT_RANGE).map(|value| ContentRange::parse(value.as_bytes())) {
        Some(Ok(ContentRange::Unsatisfied { total })) => Some(total),
        _ => None,
    };
    match (asked.total, total) {
        (None | Some(0), Some(0)) => Ok(Promise::Empty),
        (Some(expected), Some(got)) if expected != got => Err(RangeError::Total { expected, got }),
        _ => Err(RangeError::Unsatisfied { range: asked.range.clone().unwrap_or_default(), total }),
    }
}

/// Positions count in the bytes of the resource itself, so the answer must not be compressed on the way.
fn check_identity(headers: &HeaderMap) -> Result<(), RangeError> {
    for value in headers.get_all(CONTENT_ENCODING) {
        if !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity") {
            return Err(RangeError::Encoded { encoding: shorten(value.as_bytes()) });
        }
    }
    Ok(())
}

/// The announced length of the body.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, RangeError> {
    let Some(value) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let length = std::str::from_utf8(value.as_bytes()).ok().and_then(|text| digits(text.trim()));
    let malformed = || RangeError::Malformed { header: "Content-Length", value: shorten(value.as_bytes()) };
    length.map(Some).ok_or_else(malformed)
}

/// What pins a resource's content, as its server tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entity {
    /// The entity tag with its quotes; one that begins with `W/` is weak.
    pub etag: Option<String>,
    /// The time of the last change, as the server writes it.
    pub last_modified: Option<String>,
}

impl Entity {
    /// Reads an answer's headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let owned = |name| text(headers, name).map(str::to_owned);
        let etag = owned(&ETAG).filter(|tag| tag.trim_start_matches("W/").starts_with('"') && tag.ends_with('"'));
        Self { etag, last_modified: owned(&LAST_MODIFIED) }
    }

    /// The entity tag, if it promises equal bytes: the only kind that `If-Range` takes.
    pub fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|tag| !tag.starts_with("W/"))
    }

    /// How `now` shows that the content is not the one of `self`, or cannot show that it is. An entity tag decides if
    /// there was one; else the time of the last change does, if both know one.
    pub fn difference(&self, now: &Self) -> Option<String> {
        if let Some(before) = &self.etag {
            return match &now.etag {
                Some(tag) if tag == before => None,
                Some(tag) => Some(format!("its entity tag was {before} and is {tag}")),
                None => Some(format!("its entity tag was {before} and is gone")),
            };
        }
        match (&self.last_modified, &now.last_modified) {
            (Some(before), Some(time)) if before != time => Some(format!("it was last changed {before}, now {time}")),
            _ => None,
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Digits and nothing else: `parse` alone would take a sign.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// At most 64 characters of a header for an error.
fn shorten(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(64).collect()
}

#[cfg(test)]
mod tests;
