//! What a search finds, line by line, in pieces for who writes it.

use std::io;
use std::ops::Range;

use grep_matcher::Matcher as _;
use grep_searcher::{Searcher, Sink, SinkContext, SinkContextKind, SinkFinish, SinkMatch};
use tokio::sync::mpsc::Sender;

use super::found::{Counted, LineKind, Told};
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

    /// Sends the last piece.
    pub(super) fn end(mut self) -> io::Result<Counted> {
        if let Some(offset) = self.counted.binary_offset.filter(|_| self.counted.lines > 0) {
            let look = &self.search.look;
            if look.for_people && look.shows_lines() {
                let notice = look.binary(&self.target.shown, offset);
                self.text.extend(notice.as_bytes());
            }
        }
        self.send(0)?;
        Ok(self.counted)
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

    /// Where the pattern matches in a line.
    fn places(&self, line: &[u8]) -> io::Result<Vec<Range<usize>>> {
        let mut places = Vec::new();
        if self.search.args.inverts() {
            return Ok(places);
        }
        let found = self.search.matcher.find_iter(line, |found| {
            places.push(found.start()..found.end());
            true
        });
        found.map_err(io::Error::other)?;
        Ok(places)
    }

    fn tell(&mut self, kind: LineKind, bytes: &[u8], number: Option<u64>, offset: u64) -> io::Result<()> {
        let look = &self.search.look;
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let places =
            if kind == LineKind::Match && (look.marks() || !look.for_people) { self.places(line)? } else { Vec::new() };
        if look.for_people {
            if !std::mem::replace(&mut self.begun, true) {
                look.heading(&self.target.shown, &mut self.text);
            }
            look.line(&self.target.shown, kind, number, line, &places, &mut self.text);
        } else {
            self.lines.push(Told::of(&self.target.path, kind, number, offset, line, &places));
        }
        self.send(PIECE)
    }
}

impl Sink for Gather<'_> {
    type Error = io::Error;

    fn matched(&mut self, searcher: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        self.counted.lines += 1;
        if !self.search.look.shows_lines() {
            return Ok(true);
        }
        // What lies behind a NUL byte is no text; that there is something is told at the end.
        if self.counted.binary_offset.is_some() && searcher.binary_detection().convert_byte().is_some() {
            return Ok(false);
        }
        self.tell(LineKind::Match, found.bytes(), found.line_number(), found.absolute_byte_offset())?;
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        if *context.kind() == SinkContextKind::Other || self.counted.binary_offset.is_some() {
            return Ok(true);
        }
        self.tell(LineKind::Context, context.bytes(), context.line_number(), context.absolute_byte_offset())?;
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
