//! `blob grep`: lines of files in an archive.
//!
//! Files are read in the order of their paths, small ones that lie together by one request, and searched by several threads;
//! what is found comes out in order. Only what waits to be written is kept. A file that cannot be searched is told in its
//! place, and the others follow.

mod found;
mod operands;
mod pattern;
mod place;
mod search;
mod sink;
mod text;
mod writer;

use std::sync::Arc;

use blob::Archive;
use blob::core::{Entry, Node, path};
use clap::Args;

use super::missing;
use crate::args::Caching;
use crate::error::Failure;
use crate::filter::Patterns;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::size;
use operands::Operands;
use pattern::{MatchArgs, PatternArgs};
use search::Search;
use text::{Look, ShapeArgs};
use writer::Writer;

const EXAMPLES: &str = "\
Examples:
  blob grep 'TODO|FIXME' localhost:5000/team/assets:v1
  blob grep -i -C2 error localhost:5000/team/assets:v1 logs     in one directory, with two lines around
  blob grep -F -l 'api.example.com' -g '*.yaml' ghcr.io/org/data:1.0
  blob grep -c '^import ' -g '!vendor/' oci:./layout:v1 src/main.py src
  blob grep -e '^port' -e '^host' oci:./layout:v1 config         lines that match one of several
  blob grep -F -f words.txt oci:./layout:v1                     every line of a file is a pattern
  blob grep -U '(?s)BEGIN.*?END' oci:./layout:v1                across lines
  blob grep --replace '$2=$1' '([a-z]+): (.*)' oci:./layout:v1 app.yaml
  blob grep -o jsonl 'v[0-9]+' oci:./layout:v1 | jq .path

Patterns are regular expressions as ripgrep has them. Only the files that are searched are fetched, near ones by one request. Files that \
hold a NUL byte are taken for binary and passed over, unless they are named, or --text is given.

As with grep(1), the exit code is 0 if something was found, 1 if nothing was, and 2 or more after an error. Files of up to 8 MiB are \
verified before a line of them is written; what is written of larger ones is not to be used if the exit code is 7. A larger binary \
file is given up at its first NUL byte. A file that cannot be searched, as it is damaged or has a line of more than 64 MiB, is \
told on standard error, the others are searched, and the exit code is 7 if one was damaged, else 2.";

/// Search files of an archive for lines that match a pattern; only files that are searched are fetched.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, override_usage = "blob grep [OPTIONS] <PATTERN|-e PATTERN|-f FILE> <REF> [PATH]...")]
pub(crate) struct GrepArgs {
    #[command(flatten)]
    operands: Operands,

    #[command(flatten)]
    wanted: PatternArgs,

    #[command(flatten)]
    matching: MatchArgs,

    #[command(flatten)]
    shape: ShapeArgs,

    /// Pass over files that are larger, as in 500K or 10M, unless they are named.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    max_filesize: Option<u64>,

    /// Go no deeper than N directories below what is searched: 1 are the files in it.
    #[arg(long, value_name = "N")]
    max_depth: Option<usize>,

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

async fn grep(mut args: GrepArgs, session: &Session) -> Result<(), Failure> {
    args.operands.shift(args.wanted.is_given())?;
    let patterns = args.wanted.all(args.operands.pattern.as_deref())?;
    let matcher = args.matching.matcher(&patterns)?;
    let location = args.operands.location(session)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    let targets = targets(&archive, &args)?;
    let look = Look::new(&args.shape, session, !is_alone(&targets, &args.operands.paths));
    let search = Arc::new(Search::new(matcher, &args.matching, look));
    let mut writer = Writer::new(args.shape.names_files(), session, Arc::clone(&search));
    writer.search(&archive, targets).await?;
    if args.stats {
        session.print_stats(&client, &archive);
    }
    Session::log_traffic(&client);
    writer.end(location.to_string()).await
}

/// The files that are searched, by path. Those that were named are searched whatever they hold.
fn targets<'a>(archive: &'a Archive, args: &GrepArgs) -> Result<Vec<(Entry<'a>, bool)>, Failure> {
    let index = archive.index();
    let mut targets: Vec<(Entry<'a>, bool)> = Vec::new();
    let near = |above: &[u8], file: &Entry<'_>| {
        let below = &file.path()[above.len()..];
        let depth = below.split(|byte| *byte == b'/').filter(|element| !element.is_empty()).count();
        args.max_depth.is_none_or(|most| depth <= most)
    };
    if args.operands.paths.is_empty() {
        targets.extend(archive.entries().filter(|file| near(b"", file)).map(|file| (file, false)));
    }
    for typed in &args.operands.paths {
        let normal = path::normalize(typed.as_bytes());
        // As `cat`, a link that is named is followed; those in directories are not.
        let found = index.follow(&normal).ok();
        match found.ok_or_else(|| missing::failure("path not found in archive", index, typed))? {
            Node::File(file) => targets.push((file, true)),
            Node::Directory(dir) => targets.extend(dir.nodes().filter_map(|node| match node {
                Node::File(file) if near(dir.path(), &file) => Some((file, false)),
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

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<found::Report>("grep"), line::<found::Told>("grep-line")]
}
