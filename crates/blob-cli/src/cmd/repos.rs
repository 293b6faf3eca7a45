//! `blob repos`.

use blob::registry::{PageRequest, Repository};
use clap::Args;
use globset::Glob;
use serde::Serialize;

use crate::alias::disk_prefix;
use crate::args::Format;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::ui::json;
use crate::ui::table::{Align, Cell, Table};

/// Repositories that are listed at most; a registry that has more, or goes round in circles, is an error.
const MAX_REPOSITORIES: usize = 1_000_000;

const EXAMPLES: &str = "\
Examples:
  blob repos localhost:5000
  blob repos --filter 'team/**' -o jsonl registry.example.com

Many public registries keep their list to themselves, or show what one may read.";

/// List the repositories of a registry.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReposArgs {
    /// The registry, HOST[:PORT].
    #[arg(value_name = "HOST")]
    host: String,

    /// List only repositories that match; `*` and `?` match within an element, `**` across them.
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    filter: Option<Glob>,
}

fn glob(typed: &str) -> Result<Glob, String> {
    let built = globset::GlobBuilder::new(typed).literal_separator(true).build();
    built.map_err(|error| error.to_string())
}

/// The repositories of a registry.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The registry.
    registry: String,
    /// The repositories, as it lists them.
    repositories: Vec<String>,
}

/// A repository for programs that read lines.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Line<'a> {
    /// The repository.
    repository: &'a str,
    /// The reference without a tag, for other commands.
    r#ref: String,
}

pub(crate) async fn run(args: ReposArgs, session: &Session) -> Result<(), Failure> {
    if !disk_prefix(&args.host).is_empty() {
        let failure = Failure::usage(format!("{} is a layout, and only registries have repositories", args.host));
        return Err(failure.with_hint(format!("`blob tags {}` lists the tags of a layout", args.host)));
    }
    // The repository stands for none: only the host of it counts.
    let named = format!("{}/x", args.host).parse().ok().filter(|_| !args.host.contains('/'));
    let location: blob::Location = named.ok_or_else(|| {
        let failure = Failure::usage(format!("{:?} is no registry: expected HOST or HOST:PORT", args.host));
        failure.with_hint(format!("`blob tags {}` lists the tags of a repository", args.host))
    })?;
    let client = session.client(&[&location]).await?;
    let matcher = args.filter.as_ref().map(Glob::compile_matcher);
    let (mut found, mut page, mut listed) = (Vec::new(), PageRequest::first(), 0);
    loop {
        let answer = client.repositories(&args.host, &page).await.map_err(|error| Failure::at(error, &location))?;
        listed += answer.items.len();
        let wanted = |repository: &Repository| matcher.as_ref().is_none_or(|glob| glob.is_match(repository.as_str()));
        found.extend(answer.items.into_iter().filter(wanted).map(|repository| repository.to_string()));
        if listed > MAX_REPOSITORIES {
            let message = format!("listing the repositories of {}: more than {MAX_REPOSITORIES}", args.host);
            return Err(Failure::new(Kind::General, message));
        }
        match answer.next {
            Some(next) => page = PageRequest::first().after(next),
            None => break,
        }
    }
    Session::log_traffic(&client);
    let text = match session.options.output {
        Format::Json => json::document(&Report { registry: args.host, repositories: found }),
        Format::Jsonl => {
            let line = |name: &String| json::line(&Line { repository: name, r#ref: format!("{}/{name}", args.host) });
            found.iter().map(line).collect()
        }
        output => {
            let mut table = Table::new(vec![("REPOSITORY", Align::Left)]);
            for name in &found {
                table.row(vec![Cell::new(name)]);
            }
            table.render(output)
        }
    };
    session.print(text).await
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Report>("repos"), line::<Line<'_>>("repos-line")]
}
