//! `blob schema`.

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::args::Format;
use crate::error::Failure;
use crate::schemas::{SCHEMAS, find};
use crate::session::Session;
use crate::ui::json;
use crate::ui::near::nearest;
use crate::ui::table::{Align, Cell, Table};

const EXAMPLES: &str = "\
Examples:
  blob schema                       what there is a schema for
  blob schema pull > pull.json      of what `blob pull -o json` writes
  blob schema ls --lines            of a line of `blob ls -o jsonl`
  blob schema cache status
  blob schema error                 of what is written to standard error
  blob schema config                of a configuration file, for editors

The schemas have the version that `schema_version` in the documents says. Members may be added without a new version.";

/// Print the JSON Schema of what a command writes for programs.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SchemaArgs {
    /// The words of the command; or `error`, `plan` (of --dry-run), `progress` or `config` (the configuration file).
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,

    /// Of the lines that -o jsonl writes, where they are not documents.
    #[arg(long, requires = "command")]
    lines: bool,
}

/// What there is a schema for.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct List {
    /// The schemas, by name.
    schemas: Vec<Named>,
}

/// One schema.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Named {
    /// What it is called; `-line` at the end is for lines.
    name: &'static str,
    /// What it describes.
    title: String,
}

pub(crate) async fn run(args: SchemaArgs, session: &Session) -> Result<(), Failure> {
    if args.command.is_empty() {
        return list(session).await;
    }
    let lines = if args.lines { "-line" } else { "" };
    let name = args.command.join("-") + lines;
    let schema = find(&name).ok_or_else(|| unknown(&args, &name))?;
    session.print(schema).await
}

fn unknown(args: &SchemaArgs, name: &str) -> Failure {
    let failure = Failure::usage(format!("there is no schema for {}", name.replace('-', " ")));
    let hint = match nearest(name, SCHEMAS.iter().map(|(known, _)| *known)) {
        _ if args.lines && find(&args.command.join("-")).is_some() => {
            "what -o jsonl writes for it is the document, on one line: leave --lines out".into()
        }
        Some(near) => format!("did you mean `{near}`?"),
        None => "`blob schema` lists them".into(),
    };
    failure.with_hint(hint)
}

async fn list(session: &Session) -> Result<(), Failure> {
    let named = |(name, text): &(&'static str, &str)| {
        let schema: Value = serde_json::from_str(text).unwrap_or_default();
        Named { name, title: schema["title"].as_str().unwrap_or_default().to_owned() }
    };
    let list = List { schemas: SCHEMAS.iter().map(named).collect() };
    let output = session.options.output;
    let text = match output {
        Format::Json => json::document(&list),
        Format::Jsonl => list.schemas.iter().map(json::line).collect(),
        _ => {
            let mut table = Table::new(vec![("NAME", Align::Left), ("DESCRIBES", Align::Left)]);
            for schema in &list.schemas {
                table.row(vec![Cell::new(schema.name), Cell::new(&schema.title)]);
            }
            table.render(output)
        }
    };
    session.print(text).await
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<List>("schema"), line::<Named>("schema-line")]
}
