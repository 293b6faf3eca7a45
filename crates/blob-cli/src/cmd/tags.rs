//! `blob tags`.

use blob::registry::{PageRequest, Tag};
use clap::Args;
use serde::Serialize;

use crate::args::Format;
use crate::error::Failure;
use crate::plan;
use crate::session::Session;
use crate::ui::json;
use crate::ui::table::{Align, Cell, Table};

/// Tags that are listed at most; a registry that has more, or goes round in circles, is an error.
const MAX_TAGS: usize = 1_000_000;

const EXAMPLES: &str = "\
Examples:
  blob tags localhost:5000/team/assets
  blob tags oci:./layout";

/// List the tags of a repository.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TagsArgs {
    /// The repository, HOST/REPOSITORY or oci:DIR.
    #[arg(value_name = "REPO")]
    repository: String,
}

#[derive(Serialize)]
struct Report {
    repository: String,
    tags: Vec<String>,
}

pub(crate) async fn run(args: TagsArgs, session: &Session) -> Result<(), Failure> {
    let location = plan::location(&args.repository)?;
    let client = session.client(&[&location])?;
    let (mut tags, mut page): (Vec<Tag>, _) = (Vec::new(), PageRequest::first());
    loop {
        let listed = client.tags(&location, &page).await.map_err(|error| Failure::at(error, &location))?;
        tags.extend(listed.items);
        if tags.len() > MAX_TAGS {
            let message = format!("listing the tags of {location}: more than {MAX_TAGS} tags");
            return Err(Failure::new(crate::error::Kind::General, message));
        }
        match listed.next {
            Some(next) => page = PageRequest::first().after(next),
            None => break,
        }
    }
    Session::log_traffic(&client);
    let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
    let text = if session.options.output == Format::Json {
        json::document(&Report { repository: location.to_string(), tags })
    } else {
        let mut table = Table::new(vec![("TAG", Align::Left)]);
        for tag in tags {
            table.row(vec![Cell::new(tag)]);
        }
        table.aligned(session.options.output == Format::Table)
    };
    session.print(text).await
}
