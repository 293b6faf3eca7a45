//! `blob grep`: lines of files in an archive.
//!
//! Files are read in the order of their paths, small ones that lie together by one request, and searched by several threads;
//! what is found comes out in order. Only what waits to be written is kept.

mod found;
mod pattern;
mod search;
mod sink;
mod text;

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::sync::Arc;

use blob::Archive;
use blob::core::{Entry, Node, path};
use clap::Args;
use futures_util::TryStreamExt as _;

use super::missing;
use crate::args::{Caching, Format};
use crate::error::{Failure, Kind};
use crate::filter::Patterns;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::json;
use crate::ui::output::Output;
use crate::ui::progress::{Stage, Tally};
use crate::ui::size;
use found::{Found, Report, Told};
use pattern::MatchArgs;
use search::{Job, Outcome, Piece, Search, Target};
use text::{Look, ShapeArgs};

const EXAMPLES: &str = "\
Examples:
  blob grep 'TODO|FIXME' localhost:5000/team/assets:v1
  blob grep -i -C2 error localhost:5000/team/assets:v1 logs     in one directory, with two lines around
  blob grep -F -l 'api.example.com' -g '*.yaml' ghcr.io/org/data:1.0
  blob grep -c '^import ' -g '!vendor/' oci:./layout:v1 src/main.py src
  blob grep -o jsonl 'v[0-9]+' oci:./layout:v1 | jq .path

Patterns are regular expressions as ripgrep has them. Only the files that are searched are fetched, near ones by one request. Files that \
hold a NUL byte are taken for binary and passed over, unless they are named, or --text is given.

As with grep(1), the exit code is 0 if something was found, 1 if nothing was, and 2 or more after an error. Files of up to 8 MiB are \
verified before a line of them is written; what is written of larger ones is not to be used if the exit code is 7. A larger binary \
file is given up at its first NUL byte.";

/// How many threads search, at most, where nobody says otherwise.
const MAX_SEARCHES: usize = 8;

/// Files up to this size are searched in memory: 8 MiB, as they are verified there.
const IN_MEMORY: u64 = 8 << 20;

/// Search files of an archive for lines that match a pattern; only files that are searched are fetched.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GrepArgs {
    /// A regular expression; behind `--` it may begin with a hyphen.
    #[arg(value_name = "PATTERN")]
    pattern: String,

    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// Files and directories to search; everything by default.
    #[arg(value_name = "PATH")]
    paths: Vec<String>,

    #[command(flatten)]
    matching: MatchArgs,

    #[command(flatten)]
    shape: ShapeArgs,

    /// Pass over files that are larger, as in 500K or 10M.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    max_filesize: Option<u64>,

    #[command(flatten)]
    patterns: Patterns,

    /// Say on standard error how many requests and bytes it took.
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) async fn run(args: GrepArgs, session: &Session) -> Result<(), Failure> {
    // The exit code 1 says that nothing was found, so what fails must have another.
    grep(args, session).await.map_err(Failure::not_a_difference)
}

async fn grep(args: GrepArgs, session: &Session) -> Result<(), Failure> {
    let matcher = args.matching.matcher(&args.pattern)?;
    let location = session.location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    let targets = targets(&archive, &args)?;
    let look = Look::new(&args.shape, session, !is_alone(&targets, &args.paths));
    let search = Arc::new(Search::new(matcher, &args.matching, look));
    let mut writer = Writer::new(&args, session, Arc::clone(&search));
    writer.search(&archive, targets, session).await?;
    if args.stats {
        session.print_stats(&client, &archive);
    }
    Session::log_traffic(&client);
    writer.end(location.to_string(), session).await
}

/// The files that are searched, by path. Those that were named are searched whatever they hold.
fn targets<'a>(archive: &'a Archive, args: &GrepArgs) -> Result<Vec<(Entry<'a>, bool)>, Failure> {
    let index = archive.index();
    let mut targets: Vec<(Entry<'a>, bool)> = Vec::new();
    if args.paths.is_empty() {
        targets.extend(archive.entries().map(|file| (file, false)));
    }
    for typed in &args.paths {
        let normal = path::normalize(typed.as_bytes());
        // As `cat`, a link that is named is followed; those in directories are not.
        let found = index.follow(&normal).ok();
        match found.ok_or_else(|| missing::failure("path not found in archive", index, typed))? {
            Node::File(file) => targets.push((file, true)),
            Node::Directory(dir) => targets.extend(dir.nodes().filter_map(|node| match node {
                Node::File(file) => Some((file, false)),
                _ => None,
            })),
            Node::EmptyDir(_) | Node::Symlink(_) => {}
        }
    }
    let filter = args.patterns.filter();
    let fits = |file: &Entry<'_>| args.max_filesize.is_none_or(|most| file.original_size() <= most);
    targets.retain(|(file, named)| *named || (fits(file) && filter.takes_whole(file.path(), false)));
    targets.sort_by(|(a, named), (b, other)| a.path().cmp(b.path()).then(other.cmp(named)));
    targets.dedup_by(|(a, _), (b, _)| a.path() == b.path());
    Ok(targets)
}

/// Whether one file alone was asked for, whose path need not be told.
fn is_alone(targets: &[(Entry<'_>, bool)], paths: &[String]) -> bool {
    paths.len() == 1 && matches!(targets, [(_, true)])
}

/// What is found, on its way out.
struct Writer {
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
}

impl Writer {
    fn new(args: &GrepArgs, session: &Session, search: Arc<Search>) -> Self {
        let silent = session.is_terse() && !args.shape.names_files();
        let format = session.options.output;
        Self { search, format, silent, output: Output::new(), begun: false, found: Found::default(), lines: Vec::new() }
    }

    async fn search(
        &mut self,
        archive: &Archive,
        targets: Vec<(Entry<'_>, bool)>,
        session: &Session,
    ) -> Result<(), Failure> {
        session.meter.clear();
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(MAX_SEARCHES);
        let most = session.options.jobs.map_or_else(cores, std::num::NonZero::get);
        let total = targets.iter().map(|(file, _)| file.original_size()).sum();
        let tally = session.meter.tally(Stage::Searching, total, targets.len() as u64);
        let named: Vec<bool> = targets.iter().map(|(_, named)| *named).collect();
        let mut contents = archive.contents(targets.into_iter().map(|(file, _)| file).collect());
        let mut waiting: VecDeque<Job> = VecDeque::new();
        let mut begun = named.into_iter();
        while let Some((file, mut content)) = contents.try_next().await? {
            let target = Target::new(file.path(), begun.next().unwrap_or_default());
            if file.original_size() > IN_MEMORY {
                while let Some(job) = waiting.pop_front() {
                    self.finish(job, &tally).await?;
                }
                let (feed, job) = self.search.begin_stream(target, file.original_size());
                let (fed, finished) = tokio::join!(feed.all(content), self.finish(job, &tally));
                finished?;
                fed?;
            } else {
                let mut whole = Vec::with_capacity(file.original_size() as usize);
                while let Some(chunk) = content.try_next().await? {
                    whole.extend_from_slice(&chunk);
                }
                waiting.push_back(self.search.begin(target, whole));
            }
            if waiting.len() >= most
                && let Some(job) = waiting.pop_front()
            {
                self.finish(job, &tally).await?;
            }
            if self.silent && self.found.matched_files > 0 {
                return Ok(());
            }
        }
        while let Some(job) = waiting.pop_front() {
            self.finish(job, &tally).await?;
        }
        Ok(())
    }

    /// Writes what a search finds, until it is over.
    async fn finish(&mut self, mut job: Job, tally: &Tally) -> Result<(), Failure> {
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
        let Outcome { target, size, counted } = job.outcome().await?;
        self.found.searched_files += 1;
        self.found.searched_size += size;
        tally.set(self.found.searched_size, self.found.searched_files);
        self.found.matched_files += u64::from(counted.lines > 0);
        self.found.matched_lines += counted.lines;
        let look = &self.search.look;
        if !look.names(counted.lines) {
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

    /// Writes what is written at the end, and says by the exit code whether anything was found.
    async fn end(mut self, reference: String, session: &Session) -> Result<(), Failure> {
        self.output.finish().await?;
        let success =
            if self.search.look.wants_names() { self.found.named_files } else { self.found.matched_files } > 0;
        match self.format {
            Format::Text | Format::Jsonl => {}
            _ if self.silent => {}
            Format::Json => {
                let report = Report { r#ref: reference, found: self.found, lines: self.lines };
                session.print(json::document(&report)).await?;
            }
            format => session.print(found::table(&self.lines).render(format)).await?,
        }
        if success { Ok(()) } else { Err(Failure::new(Kind::NotFoundInFiles, "nothing was found")) }
    }
}

/// Whether a terminal is looked at, where what files hold must not control it.
fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Report>("grep"), line::<Told>("grep-line")]
}
