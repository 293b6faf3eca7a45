//! `blob save` and `blob load`: copies to a tar file and back, by the words that people know from docker.

use std::path::{Path, PathBuf};

use blob::registry::{PageRequest, Tag, Target};
use blob::{Client, Location};
use clap::Args;

use super::super::tags::all_tags;
use super::{How, Report, Work, every, one, tell};
use crate::error::{Failure, Kind};
use crate::plan;
use crate::session::Session;
use crate::ui::size::count;

const SAVE_EXAMPLES: &str = "\
Examples:
  blob save ghcr.io/org/data:1.0 data.tar
  blob save -t stable ghcr.io/org/data:1.0 data.tar         found in the file as `stable`
  blob save ghcr.io/org/data:1.0 localhost:5000/team/assets:v1 all.tar

The file is an OCI image layout in a tar file: `blob ls oci-archive:data.tar:1.0` reads it as it is, and so do skopeo and \
podman. Signatures are saved, too. What the file had stays; it is replaced as a whole at the end. `blob copy REF \
oci-archive:FILE` does the same.";

/// Options may stand between the operands, so that these are one list to the parser.
pub(crate) const USAGE: &str = "blob save [OPTIONS] <REF>... <FILE>";

/// Save archives with their signatures in a tar file.
#[derive(Args, Debug)]
#[command(after_help = SAVE_EXAMPLES, override_usage = USAGE)]
pub(crate) struct SaveArgs {
    /// The archives, each with a tag of its own, by which it is found in the file; then the file.
    #[arg(value_name = "REF", required = true)]
    words: Vec<String>,

    /// The tag in the file, of a single archive [default: its own].
    #[arg(short, long, value_name = "TAG", value_parser = plan::tag)]
    tag: Option<Tag>,

    #[command(flatten)]
    how: How,
}

const LOAD_EXAMPLES: &str = "\
Examples:
  blob load data.tar localhost:5000/team/data       every tag of the file
  blob load data.tar localhost:5000/team/data:2.0   the only one, under this tag
  blob load data.tar oci:./layout

The file is what `blob save` writes, or any other OCI image layout in a tar file. `blob copy oci-archive:FILE:TAG DST` copies one \
of several tags.";

/// Load the archives of a tar file, with their signatures, into a repository or layout.
#[derive(Args, Debug)]
#[command(after_help = LOAD_EXAMPLES)]
pub(crate) struct LoadArgs {
    /// The tar file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The repository or layout; with a tag where the file has one archive.
    #[arg(value_name = "DST")]
    dest: String,

    #[command(flatten)]
    how: How,
}

impl SaveArgs {
    /// What was typed besides options.
    pub(crate) fn operands(&self) -> usize {
        self.words.len()
    }
}

/// The layout in `file`, which may have the prefix that it has elsewhere.
fn layout(file: &Path) -> Result<Location, Failure> {
    if file == Path::new("-") {
        let failure = Failure::usage("a layout in a tar file is no stream: it is read and written in parts");
        return Err(
            failure.with_hint("name a file; `blob export` and `blob push REF -` have tar streams of the files alone")
        );
    }
    if file.to_str().is_some_and(|name| ["oci:", "pair:"].iter().any(|prefix| name.starts_with(prefix))) {
        let failure = Failure::usage(format!("{} is no name of a tar file", file.display()));
        return Err(failure.with_hint("`blob copy` copies to layouts in directories, `blob pack` makes pairs of files"));
    }
    let file = file.to_str().and_then(|name| name.strip_prefix("oci-archive:")).map_or(file, Path::new);
    Ok(Location::LayoutFile { file: file.to_owned(), target: None })
}

pub(crate) async fn save(args: SaveArgs, session: &Session) -> Result<(), Failure> {
    let Some((file, references)) = args.words.split_last() else {
        return Err(Failure::usage("nothing to save"));
    };
    let to = layout(Path::new(file))?;
    if args.tag.is_some() && references.len() > 1 {
        return Err(Failure::usage("--tag names one archive, and several are saved"));
    }
    let mut places: Vec<(Location, Location)> = Vec::new();
    for typed in references {
        let from = session.location(typed)?;
        let Some(tag) = args.tag.clone().or(from.tag()) else {
            let failure = Failure::usage(format!("{typed} has no tag, by which it would be found in the file"));
            return Err(failure.with_hint("--tag gives it one"));
        };
        let place = to.with_target(Target::Tag(tag.clone()));
        if places.iter().any(|(_, taken)| *taken == place) {
            let failure = Failure::usage(format!("two archives with the tag {tag} have no place in one file"));
            return Err(failure.with_hint("save them one after the other, the second one with --tag"));
        }
        places.push((from, place));
    }
    let work = Work { options: args.how.options(session), how: &args.how, session };
    let (copies, failures) = every(&work, &places, &to).await?;
    let sources: Vec<String> = places.iter().map(|(from, _)| from.to_string()).collect();
    let report = Report::new(sources.join(" "), to.to_string(), args.how.dry_run, copies);
    tell(&report, (&failures, places.len(), "archive"), session).await
}

pub(crate) async fn load(args: LoadArgs, session: &Session) -> Result<(), Failure> {
    let (from, to) = (layout(&args.file)?, session.repository(&args.dest)?);
    plan::not_a_pair(&to)?;
    let client = session.client(&[&from, &to]).await?;
    let tags = tags(&client, &from).await?;
    let work = Work { options: args.how.options(session), how: &args.how, session };
    let (copies, failures, of) = if let Some(target) = to.target() {
        let [tag] = &*tags else {
            let failure =
                Failure::usage(format!("{from} has {}, and {target} is one", count(tags.len() as u64, "tag")));
            let hint = "name the repository alone to load all, or copy one with `blob copy oci-archive:FILE:TAG DST`";
            return Err(failure.with_hint(hint));
        };
        let from = from.with_target(Target::Tag(tag.clone()));
        let client = session.copying(&[&from], &[&to], &args.how.trust).await?;
        (vec![one(&client, (&from, &to), &work.options).await?], Vec::new(), 1)
    } else {
        let at = |tag: &Tag| (from.with_target(Target::Tag(tag.clone())), to.with_target(Target::Tag(tag.clone())));
        let places: Vec<_> = tags.iter().map(at).collect();
        let (copies, failures) = every(&work, &places, &to).await?;
        (copies, failures, places.len())
    };
    let report = Report::new(from.to_string(), to.to_string(), args.how.dry_run, copies);
    tell(&report, (&failures, of, "tag"), session).await
}

/// The tags in the file; it has one at least.
async fn tags(client: &Client, file: &Location) -> Result<Vec<Tag>, Failure> {
    let tags = all_tags(client, file, &PageRequest::first()).await?;
    if tags.is_empty() {
        let failure = Failure::new(Kind::NotFound, format!("{file} has no tags"));
        return Err(failure.with_hint(format!("`blob copy {file}@DIGEST DST` copies what has none")));
    }
    Ok(tags)
}
