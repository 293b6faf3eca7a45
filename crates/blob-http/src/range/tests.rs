//! Every lie that an answer can tell about its range.
#![allow(clippy::unwrap_used)]
use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn malformed(value: &str) -> RangeError {
    RangeError::Malformed { header: "Content-Range", value: value.into() }
}

#[test]
fn content_ranges_parse() {
    let part = |range, total| Ok(ContentRange::Part { range, total });
    let cases = [
        ("bytes 0-0/1", part(0..1, Some(1))),
        ("BYTES  5-9/10 ", part(5..10, Some(10))),
        ("bytes 5-9/*", part(5..10, None)),
        ("bytes 0-18446744073709551614/18446744073709551615", part(0..u64::MAX, Some(u64::MAX))),
        ("bytes */0", Ok(ContentRange::Unsatisfied { total: 0 })),
        ("items 0-0/1", Err(RangeError::Unit { unit: "items".into() })),
    ];
    for (value, expect) in cases {
        assert_eq!(ContentRange::parse(value.as_bytes()), expect, "{value}");
    }
    let bad = [
        "",
        "bytes",
        "bytes 0-0",
        "bytes 0-0/",
        "bytes */*",
        "bytes 1-0/9",
        "bytes 0-9/9",
        "bytes -1/9",
        "bytes +0-1/9",
        "bytes 0-18446744073709551615/*",
        "bytes 0-99999999999999999999/*",
        "bytes=0-0/1",
        "bytes 0-0/1 x",
        "bytes 0 -0/1",
    ];
    for value in bad {
        assert_eq!(ContentRange::parse(value.as_bytes()), Err(malformed(value)), "{value}");
    }
    assert!(ContentRange::parse(b"bytes \xff").is_err());
}

#[test]
fn range_headers_are_inclusive_and_never_inverted() {
    assert_eq!(header(&(0..1)).unwrap(), "bytes=0-0");
    assert_eq!(header(&(5..u64::MAX)).unwrap(), "bytes=5-18446744073709551614");
    assert_eq!(header(&(5..5)), None);
}

#[test]
fn honest_answers_are_taken() {
    let known = Asked { range: Some(10..20), total: Some(100) };
    let probe = Asked { range: Some(0..64), total: None };
    let whole = Asked { range: None, total: None };
    let cases = [
        (&known, 206, headers(&[("content-range", "bytes 10-19/100")]), Promise::Part { range: 10..20, total: 100 }),
        (&known, 206, headers(&[("content-range", "bytes 10-19/*")]), Promise::Part { range: 10..20, total: 100 }),
        (&probe, 206, headers(&[("content-range", "bytes 0-63/100")]), Promise::Part { range: 0..64, total: 100 }),
        (&probe, 206, headers(&[("content-range", "bytes 0-9/10")]), Promise::Part { range: 0..10, total: 10 }),
        (&known, 200, headers(&[("content-length", "100")]), Promise::Whole { total: Some(100) }),
        (&known, 200, headers(&[("content-encoding", "Identity")]), Promise::Whole { total: None }),
        (&whole, 200, headers(&[]), Promise::Whole { total: None }),
        (&probe, 416, headers(&[("content-range", "bytes */0")]), Promise::Empty),
        (&known, 503, headers(&[("content-range", "nonsense")]), Promise::Other),
    ];
    for (asked, status, headers, expect) in cases {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(judge(asked, status, &headers), Ok(expect), "{asked:?} {status} {headers:?}");
    }
}

#[test]
fn every_lie_has_a_name() {
    let known = Asked { range: Some(10..20), total: Some(100) };
    let probe = Asked { range: Some(0..64), total: None };
    let whole = Asked { range: None, total: None };
    let right = ("content-range", "bytes 10-19/100");
    let cases = [
        (&known, 206, headers(&[]), RangeError::Missing),
        (&known, 206, headers(&[("content-range", "bytes 9-18/100")]), RangeError::Start { expected: 10, got: 9 }),
        (&known, 206, headers(&[("content-range", "bytes 10-18/100")]), RangeError::End { expected: 20, got: 19 }),
        (&known, 206, headers(&[("content-range", "bytes 10-20/100")]), RangeError::End { expected: 20, got: 21 }),
        (&known, 206, headers(&[("content-range", "bytes 10-19/99")]), RangeError::Total { expected: 100, got: 99 }),
        (&known, 206, headers(&[("content-range", "bytes */100")]), malformed("bytes */100")),
        (&known, 206, headers(&[("content-range", "bytes 19-10/100")]), malformed("bytes 19-10/100")),
        (&known, 206, headers(&[right, ("content-length", "9")]), RangeError::Length { expected: 10, got: 9 }),
        (&known, 206, headers(&[right, ("content-encoding", "gzip")]), RangeError::Encoded { encoding: "gzip".into() }),
        (&known, 206, headers(&[("content-type", "Multipart/ByteRanges; boundary=x")]), RangeError::Multipart),
        (&known, 200, headers(&[("content-length", "99")]), RangeError::Total { expected: 100, got: 99 }),
        (&known, 200, headers(&[("content-encoding", "br")]), RangeError::Encoded { encoding: "br".into() }),
        (&known, 416, headers(&[("content-range", "bytes */0")]), RangeError::Total { expected: 100, got: 0 }),
        (&known, 416, headers(&[]), RangeError::Unsatisfied { range: 10..20, total: None }),
        (
            &known,
            416,
            headers(&[("content-range", "bytes */100")]),
            RangeError::Unsatisfied { range: 10..20, total: Some(100) },
        ),
        (&probe, 206, headers(&[("content-range", "bytes 0-63/*")]), RangeError::TotalUnknown),
        (&probe, 206, headers(&[("content-range", "bytes 0-9/100")]), RangeError::End { expected: 64, got: 10 }),
        (&whole, 206, headers(&[("content-range", "bytes 0-9/10")]), RangeError::Unasked),
    ];
    for (asked, status, headers, expect) in cases {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(judge(asked, status, &headers), Err(expect), "{asked:?} {status} {headers:?}");
    }
}

#[test]
fn entities_are_compared_by_their_best_evidence() {
    let entity = |etag: &str, modified: &str| {
        let owned = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Entity { etag: owned(etag), last_modified: owned(modified) }
    };
    let cases = [
        (entity("\"a\"", "x"), entity("\"a\"", "y"), false),
        (entity("\"a\"", "x"), entity("\"b\"", "x"), true),
        (entity("\"a\"", "x"), entity("", "x"), true),
        (entity("W/\"a\"", ""), entity("\"a\"", ""), true),
        (entity("", "x"), entity("\"a\"", "x"), false),
        (entity("", "x"), entity("", "y"), true),
        (entity("", "x"), entity("", ""), false),
        (entity("", ""), entity("\"a\"", "y"), false),
    ];
    for (before, now, differs) in cases {
        assert_eq!(before.difference(&now).is_some(), differs, "{before:?} {now:?}");
    }
    assert_eq!(entity("W/\"a\"", "").strong_etag(), None);
    assert_eq!(Entity::of(&headers(&[("etag", "unquoted")])).etag, None);
    assert_eq!(Entity::of(&headers(&[("etag", "\"q\"")])).strong_etag(), Some("\"q\""));
}

proptest::proptest! {
    #[test]
    fn parsing_outside_text_never_panics(value in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
        let _ = ContentRange::parse(&value);
    }

    #[test]
    fn what_is_written_is_parsed(start in 0..u64::MAX - 1, length in 1..u64::MAX, more in 0..u64::MAX) {
        let end = start.saturating_add(length).min(u64::MAX - 1);
        let total = end.saturating_add(more);
        let value = format!("bytes {start}-{}/{total}", end - 1);
        let expect = ContentRange::Part { range: start..end, total: Some(total) };
        proptest::prop_assert_eq!(ContentRange::parse(value.as_bytes()), Ok(expect));
    }
}
