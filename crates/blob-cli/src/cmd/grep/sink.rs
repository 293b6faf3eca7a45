//! What a search finds, line by line, in pieces for who writes it.

use std::borrow::Cow;
use std::io;

use grep_searcher::{Searcher, Sink, SinkContext, SinkContextKind, SinkFinish, SinkMatch};
use tokio::sync::mpsc::Sender;

use super::found::{Counted, LineKind, Lines, Told};
use super::place::{Place, breaks, by_line, replaced, without_end};
use super::search::{Piece, Search, Target};

/// How much is gathered before it is sent: 64 KiB of text, or so many lines.
const PIECE: usize = 64 << 10;
const LINES: usize = 256;

/// Gathers what is found.
pub(super) struct Gather<'a> {
    search: &'a Search,
    target: &'a Target,
    found: &'a Sender<Piece>,
    text: Vec<u8>,
    lines: Vec<Told>,
    counted: Counted,
    /// Lines were told.
    begun: bool,
}

impl<'a> Gather<'a> {
    pub(super) fn new(search: &'a Search, target: &'a Target, found: &'a Sender<Piece>) -> Self {
        Self { search, target, found, text: Vec::new(), lines: Vec::new(), counted: Counted::default(), begun: false }
    }

    /// Takes note that the file is binary, and was not searched.
    pub(super) fn pass_over(&mut self, offset: u64) {
        self.counted.binary_offset = Some(offset);
    }

    /// How many lines match so far.
    pub(super) fn found(&self) -> u64 {
        self.counted.lines
    }

    /// Sends the last piece, and says what was found.
    pub(super) fn end(mut self) -> (Counted, io::Result<()>) {
        if let Some(offset) = self.counted.binary_offset.filter(|_| self.counted.lines > 0) {
            let look = &self.search.look;
            if look.for_people && look.shows_lines() {
                let notice = look.binary(&self.target.shown, offset);
                self.text.extend(notice.as_bytes());
            }
        }
        let sent = self.send(0);
        (self.counted, sent)
    }

    /// Sends what was gathered, if it is more than `least`.
    fn send(&mut self, least: usize) -> io::Result<()> {
        // Nobody listens any more when something else went wrong.
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        if self.text.len() > least {
            self.found.blocking_send(Piece::Text(std::mem::take(&mut self.text))).map_err(gone)?;
        }
        if self.lines.len() > least.min(LINES) {
            self.found.blocking_send(Piece::Lines(std::mem::take(&mut self.lines))).map_err(gone)?;
        }
        Ok(())
    }

    /// Where the pattern matches in lines that were found, if that matters.
    fn places(&self, found: &SinkMatch<'_>) -> io::Result<Vec<Place>> {
        let look = &self.search.look;
        if self.search.args.inverts() || (look.for_people && !look.marks()) {
            return Ok(Vec::new());
        }
        self.search.places.find(&self.search.matcher, found)
    }

    fn tell(&mut self, lines: Lines<'_>, places: &[Place]) -> io::Result<()> {
        let look = &self.search.look;
        if look.for_people {
            self.write(lines, places);
        } else if !look.rows_of_parts {
            self.lines.push(Told::of(&self.target.path, lines, places));
        } else {
            let (mut number, mut at) = (lines.number, 0);
            for place in places.iter().filter(|place| !place.is_empty()) {
                if self.search.places.crosses_lines {
                    number = number.map(|number| number + breaks(&lines.text[at..place.at.start]));
                    at = place.at.start;
                }
                self.lines.push(Told::part(&self.target.path, number, lines, place));
                self.send(PIECE)?;
            }
        }
        self.send(PIECE)
    }

    /// Tells lines as people read them.
    fn write(&mut self, lines: Lines<'_>, places: &[Place]) {
        let look = &self.search.look;
        if !std::mem::replace(&mut self.begun, true) {
            look.heading(&self.target.shown, &mut self.text);
        }
        let changed = self.search.places.replacement.is_some() && lines.kind == LineKind::Match;
        let (text, ranges) = if changed {
            let (text, ranges) = replaced(lines.text, places);
            (Cow::Owned(text), ranges)
        } else {
            (Cow::Borrowed(lines.text), places.iter().map(|place| place.at.clone()).collect())
        };
        if !self.search.places.crosses_lines {
            return look.line(&self.target.shown, lines.kind, lines.number, &text, &ranges, &mut self.text);
        }
        for (number, (line, ranges)) in (0..).zip(by_line(&text, &ranges)) {
            let number = lines.number.map(|first| first + number);
            look.line(&self.target.shown, lines.kind, number, line, &ranges, &mut self.text);
        }
    }
}

impl Sink for Gather<'_> {
    type Error = io::Error;

    fn matched(&mut self, searcher: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        self.counted.lines += if self.search.places.crosses_lines { found.lines().count() as u64 } else { 1 };
        if !self.search.look.shows_lines() {
            return Ok(true);
        }
        // What lies behind a NUL byte is no text; that there is something is told at the end.
        if self.counted.binary_offset.is_some() && searcher.binary_detection().convert_byte().is_some() {
            return Ok(false);
        }
        let places = self.places(found)?;
        let (number, offset) = (found.line_number(), found.absolute_byte_offset());
        let lines = Lines { kind: LineKind::Match, number, offset, text: without_end(found.bytes()) };
        self.tell(lines, &places)?;
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        if *context.kind() == SinkContextKind::Other || self.counted.binary_offset.is_some() {
            return Ok(true);
        }
        let (number, offset) = (context.line_number(), context.absolute_byte_offset());
        self.tell(Lines { kind: LineKind::Context, number, offset, text: without_end(context.bytes()) }, &[])?;
        Ok(true)
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        if self.search.look.for_people {
            self.text.extend_from_slice(b"--\n");
        }
        Ok(true)
    }

    fn binary_data(&mut self, _: &Searcher, offset: u64) -> io::Result<bool> {
        self.counted.binary_offset.get_or_insert(offset);
        Ok(true)
    }

    fn finish(&mut self, _: &Searcher, end: &SinkFinish) -> io::Result<()> {
        self.counted.binary_offset = self.counted.binary_offset.or(end.binary_byte_offset());
        Ok(())
    }
}
