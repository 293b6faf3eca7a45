//! A file that is searched, on a thread of its own.

use std::io::{self, Read};
use std::sync::Arc;

use blob::core::{EntryStream, ReadError};
use bytes::{Buf as _, Bytes};
use futures_util::TryStreamExt as _;
use grep_regex::RegexMatcher;
use grep_searcher::Searcher;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::found::{Counted, Told};
use super::pattern::MatchArgs;
use super::place::Places;
use super::sink::Gather;
use super::text::Look;
use crate::error::{Failure, Kind};
use crate::ui::escape::{PathText, exact};

/// Pieces that wait to be written, for each file, and chunks that wait to be searched.
const WAITING: usize = 4;

/// What is looked for, and how it is told.
pub(super) struct Search {
    pub(super) matcher: RegexMatcher,
    pub(super) args: MatchArgs,
    pub(super) places: Places,
    pub(super) look: Look,
}

/// A file.
pub(super) struct Target {
    /// Its path for people.
    pub(super) shown: String,
    pub(super) path: PathText,
    /// Its path as it is.
    pub(super) raw: Box<[u8]>,
    /// It was asked for by name.
    pub(super) named: bool,
}

impl Target {
    pub(super) fn new(path: &[u8], named: bool) -> Self {
        Self { shown: exact(path), path: PathText::new(path), raw: path.into(), named }
    }

    /// That it cannot be searched, and how to do without it.
    pub(super) fn failure(&self, why: &str) -> Failure {
        let failure = Failure::new(Kind::Trouble, format!("searching {}: {why}", self.shown));
        if self.named {
            return failure.with_hint("name other files");
        }
        match std::str::from_utf8(&self.raw) {
            Ok(path) if !path.contains(|letter: char| letter.is_control() || letter == '\'') => failure
                .with_hint(format!("leave it out with -g '!/{}', or large files with --max-filesize", literal(path))),
            _ => failure.with_hint("leave large files out with --max-filesize"),
        }
    }
}

/// A glob that matches `path` alone.
fn literal(path: &str) -> String {
    let mut glob = String::with_capacity(path.len());
    for letter in path.chars() {
        if "*?[]{}\\".contains(letter) {
            glob.push('\\');
        }
        glob.push(letter);
    }
    glob
}

/// Something that was found.
pub(super) enum Piece {
    /// As people read it.
    Text(Vec<u8>),
    /// For programs.
    Lines(Vec<Told>),
}

/// A search that goes on.
pub(super) struct Job {
    /// What it finds; it waits when nobody takes it.
    pub(super) pieces: mpsc::Receiver<Piece>,
    target: Arc<Target>,
    size: u64,
    done: JoinHandle<(Counted, io::Result<()>)>,
}

/// A search that is over.
pub(super) struct Outcome {
    pub(super) target: Arc<Target>,
    /// Bytes of the file.
    pub(super) size: u64,
    /// What was found, perhaps before something failed.
    pub(super) counted: Counted,
    pub(super) result: Result<(), Failure>,
}

impl Job {
    /// How it ended.
    pub(super) async fn outcome(self) -> Outcome {
        let (counted, result) = match self.done.await {
            Ok((counted, result)) => (counted, result),
            Err(error) => (Counted::default(), Err(error.into())),
        };
        let result = result.map_err(|error| {
            // What the searcher says of its limit is about memory.
            if error.to_string().contains("allocation limit") {
                self.target.failure("a line has more than 64 MiB")
            } else {
                self.target.failure(&error.to_string())
            }
        });
        Outcome { target: self.target, size: self.size, counted, result }
    }
}

impl Search {
    pub(super) fn new(matcher: RegexMatcher, args: &MatchArgs, mut look: Look) -> Self {
        look.context = args.around() != (0, 0);
        let places = Places { crosses_lines: args.crosses_lines(&matcher), replacement: look.replacement() };
        Self { matcher, args: args.clone(), places, look }
    }

    /// Searches `content`.
    pub(super) fn begin(self: &Arc<Self>, target: Target, content: Vec<u8>) -> Job {
        let size = content.len() as u64;
        let search = move |searcher: &mut Searcher, matcher: &RegexMatcher, sink: &mut Gather<'_>| {
            // The searcher looks for a NUL byte at the beginning alone, before it tells lines.
            let binary = searcher
                .binary_detection()
                .quit_byte()
                .and_then(|byte| content.iter().position(|found| *found == byte));
            match binary {
                Some(offset) => sink.pass_over(offset as u64),
                None => return searcher.search_slice(matcher, &content, sink),
            }
            Ok(())
        };
        self.spawn(target, size, search, oneshot::channel().0)
    }

    /// Searches what is fed.
    pub(super) fn begin_stream(self: &Arc<Self>, target: Target, size: u64) -> (Feed, Job) {
        let ((feed, chunks), (told, found)) = (mpsc::channel(WAITING), oneshot::channel());
        let fed = Fed { chunks, rest: Bytes::new() };
        let search = move |searcher: &mut Searcher, matcher: &RegexMatcher, sink: &mut Gather<'_>| {
            searcher.search_reader(matcher, fed, sink)
        };
        (Feed { chunks: feed, found }, self.spawn(target, size, search, told))
    }

    fn spawn<F>(self: &Arc<Self>, target: Target, size: u64, search: F, told: oneshot::Sender<bool>) -> Job
    where
        F: FnOnce(&mut Searcher, &RegexMatcher, &mut Gather<'_>) -> io::Result<()> + Send + 'static,
    {
        let (found, pieces) = mpsc::channel(WAITING);
        let (target, this) = (Arc::new(target), Arc::clone(self));
        let searched = Arc::clone(&target);
        let done = tokio::task::spawn_blocking(move || {
            let look = &this.look;
            let mut searcher = this.args.searcher(searched.named, look.shows_lines(), look.one_is_enough());
            let mut sink = Gather::new(&this, &searched, &found);
            let result = search(&mut searcher, &this.matcher, &mut sink);
            // Nobody may be there who wants to know.
            let _ = told.send(sink.found() > 0);
            let (counted, sent) = sink.end();
            (counted, result.and(sent))
        });
        Job { pieces, target, size, done }
    }
}

/// Where a file that is too large for memory is put in.
pub(super) struct Feed {
    chunks: mpsc::Sender<Bytes>,
    /// Whether anything was found, when the search is over.
    found: oneshot::Receiver<bool>,
}

impl Feed {
    /// All of `content`. If the search has seen enough, the rest is read to be verified, unless nothing was found: then the
    /// file is binary, and may be huge.
    pub(super) async fn all(self, mut content: EntryStream) -> Result<(), ReadError> {
        while let Some(chunk) = content.try_next().await? {
            if self.chunks.send(chunk).await.is_err() {
                if self.found.await.unwrap_or(false) {
                    while content.try_next().await?.is_some() {}
                }
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The other end of a [`Feed`].
struct Fed {
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
