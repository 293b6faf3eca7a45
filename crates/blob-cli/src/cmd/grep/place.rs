//! Where patterns match in lines, and what is written in the place of that.

use std::io;
use std::ops::Range;

use grep_matcher::{Captures as _, Matcher as _};
use grep_regex::RegexMatcher;
use grep_searcher::SinkMatch;

use super::pattern::MAX_LINE;

/// Places in one line, or in lines that match together, at most.
const MAX_PLACES: usize = 1 << 20;

/// How far behind lines that match together is looked, as patterns may ask what comes next, in bytes.
const LOOK_AHEAD: usize = 128;

/// A place where the pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes of the lines.
    pub(super) at: Range<usize>,
    /// What stands there instead.
    pub(super) replacement: Option<Vec<u8>>,
}

impl Place {
    /// Whether nothing is there, or nothing is put there.
    pub(super) fn is_empty(&self) -> bool {
        self.replacement.as_ref().map_or(self.at.is_empty(), Vec::is_empty)
    }
}

/// What finds places.
#[derive(Debug)]
pub(super) struct Places {
    /// Matches may go across lines.
    pub(super) crosses_lines: bool,
    /// What is written instead, with `$1` and `$name` for groups.
    pub(super) replacement: Option<Vec<u8>>,
}

impl Places {
    /// Where `matcher` matches in lines that were found.
    ///
    /// # Errors
    /// There are more than [`MAX_PLACES`], or the replacements take more than [`MAX_LINE`] bytes.
    pub(super) fn find(&self, matcher: &RegexMatcher, found: &SinkMatch<'_>) -> io::Result<Vec<Place>> {
        let lines = found.bytes_range_in_buffer();
        let text = without_end(found.bytes());
        if self.crosses_lines {
            let end = found.buffer().len().min(lines.end + LOOK_AHEAD);
            self.find_in(matcher, &found.buffer()[..end], lines.start..lines.end, text.len())
        } else {
            self.find_in(matcher, text, 0..text.len() + 1, text.len())
        }
    }

    /// Where it matches from the beginning of `range` on, in what has `len` bytes there.
    fn find_in(
        &self,
        matcher: &RegexMatcher,
        haystack: &[u8],
        range: Range<usize>,
        len: usize,
    ) -> io::Result<Vec<Place>> {
        let (mut places, mut written) = (Vec::new(), 0);
        let mut take = |start: usize, end: usize, replacement: Option<Vec<u8>>| {
            written += replacement.as_ref().map_or(0, Vec::len);
            let at = (start - range.start).min(len)..(end - range.start).min(len);
            places.push(Place { at, replacement });
            places.len() <= MAX_PLACES && written <= MAX_LINE
        };
        match &self.replacement {
            None => matcher.find_iter_at(haystack, range.start, |found| {
                found.start() < range.end && take(found.start(), found.end(), None)
            }),
            Some(replacement) => {
                let mut captures = matcher.new_captures().map_err(io::Error::other)?;
                matcher.captures_iter_at(haystack, range.start, &mut captures, |captures| {
                    let Some(found) = captures.get(0).filter(|found| found.start() < range.end) else { return false };
                    let mut text = Vec::new();
                    captures.interpolate(|name| matcher.capture_index(name), haystack, replacement, &mut text);
                    take(found.start(), found.end(), Some(text))
                })
            }
        }
        .map_err(io::Error::other)?;
        if places.len() > MAX_PLACES {
            return Err(io::Error::other("a line matches in more than 1,048,576 places"));
        }
        if written > MAX_LINE {
            return Err(io::Error::other("a line would have more than 64 MiB after its replacements"));
        }
        Ok(places)
    }
}

/// How many lines end in `text`.
pub(super) fn breaks(text: &[u8]) -> u64 {
    text.split(|byte| *byte == b'\n').skip(1).count() as u64
}

/// Lines without the end of the last one.
pub(super) fn without_end(lines: &[u8]) -> &[u8] {
    lines.strip_suffix(b"\n").unwrap_or(lines)
}

/// `line` with its replacements, and where they are.
pub(super) fn replaced(line: &[u8], places: &[Place]) -> (Vec<u8>, Vec<Range<usize>>) {
    let (mut text, mut at, mut ranges) = (Vec::with_capacity(line.len()), 0, Vec::with_capacity(places.len()));
    for Place { at: place, replacement } in places {
        text.extend_from_slice(&line[at..place.start]);
        let start = text.len();
        text.extend_from_slice(replacement.as_deref().unwrap_or(&line[place.clone()]));
        ranges.push(start..text.len());
        at = place.end;
    }
    text.extend_from_slice(&line[at..]);
    (text, ranges)
}

/// The lines of `text`, each with the parts of `places` that are in it; empty places are left out.
pub(super) fn by_line<'a>(
    text: &'a [u8],
    places: &'a [Range<usize>],
) -> impl Iterator<Item = (&'a [u8], Vec<Range<usize>>)> {
    let mut start = 0;
    text.split(|byte| *byte == b'\n').map(move |line| {
        let here = start..start + line.len();
        start = here.end + 1;
        let first = places.partition_point(|place| place.end <= here.start);
        let inside = places[first..].iter().take_while(|place| place.start < here.end);
        let clipped = inside.map(|place| place.start.max(here.start)..place.end.min(here.end));
        let clipped = clipped.map(|place| place.start - here.start..place.end - here.start);
        (line, clipped.filter(|place| !place.is_empty()).collect())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use grep_regex::RegexMatcherBuilder;

    use super::*;

    fn find(pattern: &str, replacement: Option<&str>, line: &str) -> io::Result<Vec<Place>> {
        let matcher = RegexMatcherBuilder::new().multi_line(true).build(pattern).unwrap();
        let replacement = replacement.map(|text| text.as_bytes().to_vec());
        let places = Places { crosses_lines: false, replacement };
        places.find_in(&matcher, line.as_bytes(), 0..line.len() + 1, line.len())
    }

    #[test]
    fn groups_stand_in_replacements() {
        for (pattern, replacement, line, expected) in [
            ("b", "x", "abab", "axax"),
            (r"(\w+)=(\w+)", "$2=$1", "a=1 b=2", "1=a 2=b"),
            (r"(?P<key>\w+)=", "${key}: ", "a=1", "a: 1"),
            ("(a)|(b)", "[$1$2$9]", "ab", "[a][b]"),
            ("^", "> ", "a", "> a"),
            ("$", ".", "a", "a."),
            ("a", "$$1", "a", "$1"),
            ("b*", "-", "abc", "-a-c-"),
        ] {
            let places = find(pattern, Some(replacement), line).unwrap();
            let (text, ranges) = replaced(line.as_bytes(), &places);
            assert_eq!(String::from_utf8(text).unwrap(), expected, "{pattern} {replacement} {line}");
            assert_eq!(ranges.len(), places.len());
        }
    }

    #[test]
    fn a_line_of_matches_is_bounded() {
        let line = "a".repeat(MAX_PLACES + 1);
        assert!(find("a", None, &line[1..]).is_ok());
        assert!(find("a", None, &line).is_err());
        assert!(find("a", Some(&"b".repeat(64)), &line[1..]).is_ok());
        assert!(find("a", Some(&"b".repeat(65)), &line[1..]).is_err());
    }

    #[test]
    fn places_are_cut_at_the_ends_of_lines() {
        let places = [0..2, 4..9, 10..10];
        let shown: Vec<String> =
            by_line(b"ab cd\ne\nfgh", &places).map(|(line, here)| format!("{} {here:?}", line.len())).collect();
        assert_eq!(shown, ["5 [0..2, 4..5]", "1 [0..1]", "3 [0..1]"]);
        assert_eq!(["", "a", "\n", "a\nb\n"].map(|text| breaks(text.as_bytes())), [0, 0, 1, 2]);
    }
}
