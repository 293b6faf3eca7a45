//! `blob tags`.

use blob::registry::{Descriptor, PageRequest, Tag, Target};
use blob::{Client, Location};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use globset::Glob;
use serde::Serialize;

use crate::alias::disk_prefix;
use crate::args::Format;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::ui::json;
use crate::ui::table::{Align, Cell, Table};

/// Tags that are listed at most; a registry that has more, or goes round in circles, is an error.
const MAX_TAGS: usize = 1_000_000;

/// Tags that are resolved at a time.
const AT_A_TIME: usize = 8;

const EXAMPLES: &str = "\
Examples:
  blob tags localhost:5000/team/assets
  blob tags --digests --filter 'v1.*' localhost:5000/team/assets
  blob tags oci:./layout";

/// List the tags of a repository.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TagsArgs {
    /// The repository, HOST/REPOSITORY, oci:DIR or oci-archive:FILE.
    #[arg(value_name = "REPO")]
    repository: String,

    /// List only tags that match; `*` and `?` stand for any characters.
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    filter: Option<Glob>,

    /// Show what each tag points at: a request for each.
    #[arg(long)]
    digests: bool,
}

fn glob(typed: &str) -> Result<Glob, String> {
    Glob::new(typed).map_err(|error| error.to_string())
}

/// The tags of a repository.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The repository.
    repository: String,
    /// The tags.
    tags: Vec<String>,
    /// What they point at, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    digests: Option<Vec<Resolved>>,
}

/// What a tag points at.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Resolved {
    /// The tag.
    tag: String,
    /// The digest of the manifest.
    digest: String,
    /// The media type of the manifest.
    media_type: String,
    /// Bytes of the manifest.
    size: u64,
}

/// A tag for programs that read lines, with what it points at if that was asked for.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Line<'a> {
    /// The tag.
    tag: &'a str,
    /// The digest of the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    /// The media type of the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    /// Bytes of the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

fn lines(tags: &[String], resolved: Option<&[Resolved]>) -> String {
    let bare = |tag: &String| json::line(&Line { tag, digest: None, media_type: None, size: None });
    let whole = |one: &Resolved| {
        let Resolved { tag, digest, media_type, size } = one;
        json::line(&Line { tag, digest: Some(digest), media_type: Some(media_type), size: Some(*size) })
    };
    match resolved {
        None => tags.iter().map(bare).collect(),
        Some(resolved) => resolved.iter().map(whole).collect(),
    }
}

pub(crate) async fn run(args: TagsArgs, session: &Session) -> Result<(), Failure> {
    let host = disk_prefix(&args.repository).is_empty() && !args.repository.contains('/');
    let location = session.repository(&args.repository).map_err(|failure| {
        let hint = || format!("`blob repos {}` lists the repositories of a registry", args.repository);
        if host { failure.with_hint(hint()) } else { failure }
    })?;
    if let Some(typed) = location.target().filter(|_| disk_prefix(&args.repository).is_empty()) {
        let failure =
            Failure::usage(format!("{} names {typed}, and all tags of a repository are listed", args.repository));
        return Err(failure.with_hint("leave it out; `blob inspect` shows what a tag points at"));
    }
    let client = session.client(&[&location]).await?;
    let mut tags = all_tags(&client, &location, &PageRequest::first()).await?;
    if let Some(glob) = &args.filter {
        let matcher = glob.compile_matcher();
        tags.retain(|tag| matcher.is_match(tag.as_str()));
    }
    let resolved = if args.digests { Some(resolve(&client, &location, &tags).await?) } else { None };
    Session::log_traffic(&client);
    let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
    let output = session.options.output;
    let text = if output == Format::Jsonl {
        lines(&tags, resolved.as_deref())
    } else if output == Format::Json {
        json::document(&Report { repository: location.to_string(), tags, digests: resolved })
    } else {
        let table = table(&tags, resolved.as_deref());
        table.render(output)
    };
    session.print(text).await
}

fn table(tags: &[String], resolved: Option<&[Resolved]>) -> Table {
    let Some(resolved) = resolved else {
        let mut table = Table::new(vec![("TAG", Align::Left)]);
        for tag in tags {
            table.row(vec![Cell::new(tag)]);
        }
        return table;
    };
    let mut table = Table::new(vec![("TAG", Align::Left), ("DIGEST", Align::Left)]);
    for one in resolved {
        table.row(vec![Cell::new(&one.tag), Cell::new(&one.digest)]);
    }
    table
}

/// All tags of the repository that `location` is in.
pub(super) async fn all_tags(client: &Client, location: &Location, first: &PageRequest) -> Result<Vec<Tag>, Failure> {
    let (mut tags, mut page): (Vec<Tag>, _) = (Vec::new(), first.clone());
    loop {
        let listed = client.tags(location, &page).await.map_err(|error| Failure::at(error, location))?;
        tags.extend(listed.items);
        if tags.len() > MAX_TAGS {
            let message = format!("listing the tags of {location}: more than {MAX_TAGS} tags");
            return Err(Failure::new(Kind::General, message));
        }
        match listed.next {
            Some(next) => page = PageRequest::first().after(next),
            None => return Ok(tags),
        }
    }
}

async fn resolve(client: &Client, location: &Location, tags: &[Tag]) -> Result<Vec<Resolved>, Failure> {
    let one = |tag: Tag| async move {
        let location = location.with_target(Target::Tag(tag.clone()));
        let found = client.resolve(&location).await.map_err(|error| Failure::at(error, &location))?;
        let Descriptor { digest, media_type, size, .. } = found;
        Ok(Resolved { tag: tag.to_string(), digest: digest.to_string(), media_type, size })
    };
    stream::iter(tags.iter().cloned()).map(one).buffered(AT_A_TIME).try_collect().await
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Report>("tags"), line::<Line<'_>>("tags-line")]
}
