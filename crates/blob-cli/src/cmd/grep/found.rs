//! What was found, for programs.

use serde::Serialize;

use super::place::{self, replaced};
use crate::ui::escape::{PathText, base64, exact};
use crate::ui::table::{Align, Cell, Table};

/// What was found.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Report {
    /// The place, as it was typed or as its alias resolved.
    pub(super) r#ref: String,
    #[serde(flatten)]
    pub(super) found: Found,
    /// The lines, by path and number; with `-l` and `-c` one for each file.
    pub(super) lines: Vec<Told>,
}

/// How much was searched and found.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Found {
    /// Files that were searched.
    pub(super) searched_files: u64,
    /// Bytes of them.
    pub(super) searched_size: u64,
    /// Files with lines that match.
    pub(super) matched_files: u64,
    /// Lines that match.
    pub(super) matched_lines: u64,
    /// Files that could not be searched, or not to their end; standard error says why.
    pub(super) failed_files: u64,
    /// Files that are told about, with `-l` and its like.
    #[serde(skip)]
    pub(super) named_files: u64,
}

/// What was found in a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    /// Lines that match.
    pub(super) lines: u64,
    /// Where the first NUL byte is, if one was come upon.
    pub(super) binary_offset: Option<u64>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum LineKind {
    /// It matches.
    Match,
    /// It is near one that matches.
    Context,
    /// It stands for a file.
    File,
}

/// A line of a file, or a file.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Told {
    /// `match`, `context` (with -A, -B and -C), or `file` (with -l, -c and --files-without-match).
    r#type: LineKind,
    #[serde(flatten)]
    path: PathText,
    /// The number of the line; the first is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// Where the line begins in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// The line without its end, with --multiline all lines that a match goes across; what is not UTF-8 is U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Its bytes in Base64, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    text_base64: Option<String>,
    /// Where the pattern matches in the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    matches: Option<Vec<Place>>,
    /// Lines of the file that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched_lines: Option<u64>,
    /// Where the first NUL byte of a binary file is.
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_offset: Option<u64>,
    /// What rows show, if it is not the line.
    #[serde(skip)]
    row: Option<String>,
}

/// A part of a line, in bytes.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Place {
    /// Where it begins.
    start: usize,
    /// Where it ends.
    end: usize,
    /// What is there; what is not UTF-8 is U+FFFD.
    text: String,
    /// What `--replace` puts there.
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<String>,
}

/// Lines of a file, and where they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines<'a> {
    pub(super) kind: LineKind,
    /// The number of the first.
    pub(super) number: Option<u64>,
    /// Where they begin in the file, in bytes.
    pub(super) offset: u64,
    /// Without the end of the last one.
    pub(super) text: &'a [u8],
}

impl Told {
    /// Lines of the file `path`, and where the pattern matches.
    pub(super) fn of(path: &PathText, lines: Lines<'_>, places: &[place::Place]) -> Self {
        let Lines { kind, number, offset, text } = lines;
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let place = |place: &place::Place| Place {
            start: place.at.start,
            end: place.at.end,
            text: words(&text[place.at.clone()]),
            replacement: place.replacement.as_deref().map(words),
        };
        let replaces = places.iter().any(|place| place.replacement.is_some());
        Self {
            r#type: kind,
            path: path.clone(),
            line: number,
            offset: Some(offset),
            text: Some(words(text)),
            text_base64: std::str::from_utf8(text).is_err().then(|| base64(text)),
            matches: (kind == LineKind::Match).then(|| places.iter().map(place).collect()),
            matched_lines: None,
            binary_offset: None,
            row: replaces.then(|| words(&replaced(text, places).0)),
        }
    }

    /// One place of lines of the file `path`, for a row of its own; the `number` is that of the line where it begins.
    pub(super) fn part(path: &PathText, number: Option<u64>, lines: Lines<'_>, place: &place::Place) -> Self {
        let text = &lines.text[place.at.clone()];
        let shown = place.replacement.as_deref().unwrap_or(text);
        let row = Some(String::from_utf8_lossy(shown).into_owned());
        let offset = lines.offset + place.at.start as u64;
        Self { row, ..Self::of(path, Lines { number, offset, text, ..lines }, &[]) }
    }

    /// A file.
    pub(super) fn file(path: &PathText, counted: Counted) -> Self {
        Self {
            r#type: LineKind::File,
            path: path.clone(),
            line: None,
            offset: None,
            text: None,
            text_base64: None,
            matches: None,
            matched_lines: Some(counted.lines),
            binary_offset: counted.binary_offset,
            row: None,
        }
    }
}

/// The lines in columns.
pub(super) fn table(lines: &[Told]) -> Table {
    let files = lines.iter().any(|line| line.r#type == LineKind::File);
    let name = |line: &Told| Cell::new(exact(line.path.path.as_bytes()));
    if files {
        let mut table = Table::new(vec![("LINES", Align::Right), ("PATH", Align::Left)]);
        for line in lines {
            table.row(vec![Cell::new(number(line.matched_lines)), name(line)]);
        }
        return table;
    }
    let mut table =
        Table::new(vec![("PATH", Align::Left), ("LINE", Align::Right), ("TEXT", Align::Left), ("TYPE", Align::Left)]);
    for line in lines {
        let text = exact(line.row.as_deref().or(line.text.as_deref()).unwrap_or_default().as_bytes());
        let kind = if line.r#type == LineKind::Context { "context" } else { "match" };
        table.row(vec![name(line), Cell::new(number(line.line)), Cell::new(text), Cell::new(kind.to_owned())]);
    }
    table
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}
