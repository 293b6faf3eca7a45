//! What is found, on its way out: file by file, in the order of their paths, with what could not be searched.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;

use blob::Archive;
use blob::core::{Entry, EntryStream, ReadError};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::found::{self, Counted, Found, Report, Told};
use super::pattern::MAX_LINE;
use super::search::{Job, Outcome, Piece, Search, Target};
use crate::args::Format;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::ui::json;
use crate::ui::output::Output;
use crate::ui::progress::{Above, Stage, Tally};
use crate::ui::size::{count, human};

/// How many threads search, at most, where nobody says otherwise.
const MAX_SEARCHES: usize = 8;

/// Files up to this size are searched in memory: 8 MiB, as they are verified there.
const IN_MEMORY: u64 = 8 << 20;

/// How much of a file is looked at to tell whether it is binary, where it is not searched: 64 KiB.
const BEGINNING: usize = 64 << 10;

/// What is found, on its way out.
pub(super) struct Writer<'a> {
    session: &'a Session,
    search: Arc<Search>,
    format: Format,
    /// Only whether there is something is asked.
    silent: bool,
    output: Output,
    /// Something was written before.
    begun: bool,
    found: Found,
    /// What is written at the end.
    lines: Vec<Told>,
    /// What is worst of what failed.
    worst: Option<Kind>,
    /// One file alone is searched: that it failed is what the command failed of.
    alone: bool,
    failure: Option<Failure>,
    tally: Tally,
}

/// A file whose turn to be told will come.
enum Turn {
    Search(Job),
    /// It cannot be had.
    Failed(Failure),
}

/// Whether a search may go on.
enum Next {
    Go,
    /// What failed is no single file.
    Stop(Failure),
}

impl<'a> Writer<'a> {
    /// `names_files` says that paths are asked for, which quiet leaves alone.
    pub(super) fn new(names_files: bool, session: &'a Session, search: Arc<Search>) -> Self {
        Self {
            session,
            search,
            format: session.options.output,
            silent: session.is_terse() && !names_files,
            output: Output::new(),
            begun: false,
            found: Found::default(),
            lines: Vec::new(),
            worst: None,
            alone: false,
            failure: None,
            tally: session.meter.tally(Stage::Searching, 0, 0),
        }
    }

    pub(super) async fn search(&mut self, archive: &Archive, targets: Vec<(Entry<'_>, bool)>) -> Result<(), Failure> {
        self.session.meter.clear();
        self.alone = targets.len() == 1;
        let total = targets.iter().map(|(file, _)| file.original_size()).sum();
        self.tally = self.session.meter.tally(Stage::Searching, total, targets.len() as u64);
        let mut waiting: VecDeque<Turn> = VecDeque::new();
        let next = self.search_each(archive, targets, &mut waiting).await?;
        // Also what was found before the whole failed.
        while let Some(turn) = waiting.pop_front() {
            self.finish(turn).await?;
        }
        match next {
            Next::Go => Ok(()),
            Next::Stop(failure) => {
                self.output.finish().await?;
                Err(failure)
            }
        }
    }

    async fn search_each(
        &mut self,
        archive: &Archive,
        targets: Vec<(Entry<'_>, bool)>,
        waiting: &mut VecDeque<Turn>,
    ) -> Result<Next, Failure> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(MAX_SEARCHES);
        let most = self.session.options.jobs.map_or_else(cores, std::num::NonZero::get);
        let whole = self.search.places.crosses_lines;
        let fits = |file: &Entry<'_>| !whole || file.original_size() <= MAX_LINE as u64;
        let mut contents = archive.each_content(targets.iter().map(|(file, _)| *file).filter(fits).collect());
        for (file, named) in targets {
            let (target, size) = (Target::new(file.path(), named), file.original_size());
            // A large one takes the room of all others.
            let others = if size > IN_MEMORY { 0 } else { most - 1 };
            while waiting.len() > others
                && let Some(turn) = waiting.pop_front()
            {
                self.finish(turn).await?;
            }
            if self.silent && self.found.matched_files > 0 {
                return Ok(Next::Go);
            }
            if !fits(&file) {
                if !named && self.search.args.passes_over_binary() {
                    match is_binary(archive, file).await {
                        Ok(true) => continue,
                        Ok(false) => {}
                        Err(error) if error.is_about_one_file() => {}
                        Err(error) => return Ok(Next::Stop(error.into())),
                    }
                }
                let why = format!("it has {}, and --multiline searches files of up to 64 MiB", human(size));
                waiting.push_back(Turn::Failed(target.failure(&why)));
                continue;
            }
            let Some((_, content)) = contents.next().await else { break };
            let read = match content {
                Ok(content) if size > IN_MEMORY && !whole => match self.stream(target, size, content).await? {
                    Next::Go => continue,
                    stop @ Next::Stop(_) => return Ok(stop),
                },
                Ok(content) => collect(content).await,
                Err(error) => Err(error),
            };
            match read {
                Ok(content) => waiting.push_back(Turn::Search(self.search.begin(target, content))),
                Err(error) if error.is_about_one_file() => waiting.push_back(Turn::Failed(error.into())),
                Err(error) => return Ok(Next::Stop(error.into())),
            }
        }
        Ok(Next::Go)
    }

    /// Searches a file while it comes.
    async fn stream(&mut self, target: Target, size: u64, content: EntryStream) -> Result<Next, Failure> {
        let (feed, job) = self.search.begin_stream(target, size);
        let before = self.lines.len();
        let (fed, outcome) = tokio::join!(feed.all(content), self.drain(job));
        let mut outcome = outcome?;
        match fed {
            Ok(()) => {}
            Err(error) if error.is_about_one_file() => {
                // What waits to be written is not of the file that the index means.
                self.lines.truncate(before);
                (outcome.counted, outcome.result) = (Counted::default(), Err(error.into()));
            }
            Err(error) => return Ok(Next::Stop(error.into())),
        }
        self.settle(outcome).await?;
        Ok(Next::Go)
    }

    async fn finish(&mut self, turn: Turn) -> Result<(), Failure> {
        match turn {
            Turn::Search(job) => {
                let outcome = self.drain(job).await?;
                self.settle(outcome).await
            }
            Turn::Failed(failure) => self.fail(failure).await,
        }
    }

    /// Writes what a search finds, until it is over.
    async fn drain(&mut self, mut job: Job) -> Result<Outcome, Failure> {
        let mut first = true;
        while let Some(piece) = job.pieces.recv().await {
            if self.silent {
                continue;
            }
            match piece {
                Piece::Text(text) => {
                    if std::mem::take(&mut first) && self.begun {
                        self.output.write(self.search.look.between_files().as_bytes()).await?;
                    }
                    self.begun = true;
                    self.output.write(&text).await?;
                }
                Piece::Lines(lines) if self.format == Format::Jsonl => {
                    for line in lines {
                        self.output.write(json::line(&line).as_bytes()).await?;
                    }
                }
                Piece::Lines(lines) => self.lines.extend(lines),
            }
        }
        Ok(job.outcome().await)
    }

    /// Takes note of a search that is over.
    async fn settle(&mut self, outcome: Outcome) -> Result<(), Failure> {
        let Outcome { target, size, mut counted, result } = outcome;
        let look = &self.search.look;
        if !look.shows_lines() && counted.binary_offset.is_some() && !target.named {
            // What was counted before the NUL byte is no answer about the file.
            counted.lines = 0;
        }
        let passed_over = counted.binary_offset.is_some() && counted.lines == 0 && !target.named;
        self.found.matched_files += u64::from(counted.lines > 0);
        self.found.matched_lines += counted.lines;
        if let Err(failure) = result {
            return self.fail(failure).await;
        }
        self.found.searched_files += 1;
        self.found.searched_size += size;
        self.tally.set(self.found.searched_size, self.found.searched_files);
        let look = &self.search.look;
        if passed_over || !look.names(counted.lines) {
            return Ok(());
        }
        self.found.named_files += 1;
        match self.format {
            _ if self.silent => Ok(()),
            Format::Text => self.output.write(&look.file(&target, counted.lines)).await,
            Format::Jsonl => self.output.write(json::line(&Told::file(&target.path, counted)).as_bytes()).await,
            _ => {
                self.lines.push(Told::file(&target.path, counted));
                Ok(())
            }
        }
    }

    /// Tells that a file could not be searched.
    async fn fail(&mut self, failure: Failure) -> Result<(), Failure> {
        // What was found before stands before it.
        self.output.finish().await?;
        let failure = failure.not_a_difference();
        self.found.failed_files += 1;
        if self.worst != Some(Kind::HashMismatch) {
            self.worst = Some(failure.kind);
        }
        if self.alone {
            self.failure = Some(failure);
            return Ok(());
        }
        let text = if self.format.is_json() { failure.json() } else { failure.text() };
        // That it cannot be written cannot be told anybody.
        let _ = Above::default().write_all(text.as_bytes());
        Ok(())
    }

    /// Writes what is written at the end, and says by the exit code whether anything was found.
    pub(super) async fn end(mut self, reference: String) -> Result<(), Failure> {
        self.output.finish().await?;
        let success =
            if self.search.look.wants_names() { self.found.named_files } else { self.found.matched_files } > 0;
        let Found { searched_files, failed_files, .. } = self.found;
        match self.format {
            Format::Text | Format::Jsonl => {}
            _ if self.silent => {}
            Format::Json => {
                let report = Report { r#ref: reference, found: self.found, lines: self.lines };
                self.session.print(json::document(&report)).await?;
            }
            format => self.session.print(found::table(&self.lines).render(format)).await?,
        }
        if self.silent && success {
            // The answer is right whatever else there is.
            return Ok(());
        }
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match self.worst {
            Some(kind) => {
                let total = count(searched_files + failed_files, "file");
                Err(Failure::new(kind, format!("{failed_files} of {total} could not be searched")))
            }
            None if success => Ok(()),
            None => Err(Failure::new(Kind::NotFoundInFiles, "nothing was found")),
        }
    }
}

/// Whether a file that is too large to be searched would be passed over: whether a NUL byte is at its beginning.
async fn is_binary(archive: &Archive, file: Entry<'_>) -> Result<bool, ReadError> {
    let mut content = archive.stream(file.path()).await?;
    let mut seen = 0;
    while seen < BEGINNING
        && let Some(chunk) = content.try_next().await?
    {
        if chunk.contains(&0) {
            return Ok(true);
        }
        seen += chunk.len();
    }
    Ok(false)
}

/// The content of a file that is searched as a whole.
async fn collect(mut content: EntryStream) -> Result<Vec<u8>, ReadError> {
    let mut whole = Vec::with_capacity(content.size() as usize);
    while let Some(chunk) = content.try_next().await? {
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}
