//! `blob alias`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::args::Format;
use crate::config::edit::{self, Edit};
use crate::config::place::Layer;
use crate::error::Failure;
use crate::session::Session;
use crate::ui::escape::{exact, shown};
use crate::ui::json;
use crate::ui::table::{Align, Cell, Table};

const EXAMPLES: &str = "\
Examples:
  blob alias add assets ghcr.io/org/team/assets     assets, assets:v1 and assets@sha256:… are references now
  blob alias add prod ghcr.io/org/production        prod/web:v1 is ghcr.io/org/production/web:v1
  blob alias rm assets

A name without tag or digest means the tag of the alias, else `latest`. Names as a whole come before names that a \
reference begins with; of those, the longest counts. Aliases are kept in the configuration: see `blob config path`.";

const ADD_EXAMPLES: &str = "\
Examples:
  blob alias add assets ghcr.io/org/team/assets
  blob alias add stable ghcr.io/org/team/assets:stable    the tag is part of it
  blob alias add prod ghcr.io/org                         what references begin with";

/// Give repositories short names.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AliasArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a name, or let it mean something else.
    #[command(visible_alias = "set", after_help = ADD_EXAMPLES)]
    Add {
        /// The name: letters, digits, dots, hyphens, underscores and slashes.
        #[arg(value_name = "NAME")]
        name: String,
        /// A repository, with a tag if one is always meant, or what references begin with.
        #[arg(value_name = "REF")]
        target: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget a name.
    #[command(visible_alias = "remove", alias = "unset", after_help = "Examples:\n  blob alias rm assets")]
    Rm {
        /// The name.
        #[arg(value_name = "NAME")]
        name: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// List all names.
    #[command(visible_alias = "ls", after_help = "Examples:\n  blob alias list\n  blob alias list -o json")]
    List,
}

/// A name that was made, changed or removed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Changed<'a> {
    /// `created`, `updated` or `removed`.
    action: &'static str,
    /// The name.
    name: &'a str,
    /// What the name means.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    /// Whether nothing was changed, only looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

pub(crate) async fn run(args: AliasArgs, session: &Session) -> Result<(), Failure> {
    match args.action {
        Action::Add { name, target, dry_run } => add(&name, &target, dry_run, session).await,
        Action::Rm { name, dry_run } => remove(&name, dry_run, session).await,
        Action::List => list(session).await,
    }
}

fn key(name: &str) -> Vec<String> {
    vec!["aliases".into(), name.into()]
}

async fn add(name: &str, target: &str, dry_run: bool, session: &Session) -> Result<(), Failure> {
    crate::alias::check(name, target).map_err(Failure::usage)?;
    let path = session.config.places.user()?;
    let existed = edit_file(dry_run)(path, false, &key(name), &Edit::Set(target.into()))?;
    let (action, verb) = match (existed, dry_run) {
        (true, false) => ("updated", "Updated"),
        (false, false) => ("created", "Created"),
        (true, true) => ("updated", "Would update"),
        (false, true) => ("created", "Would create"),
    };
    let changed = Changed { action, name, target: Some(target), dry_run };
    session.outcome(dry_run, &changed, || format!("{verb} alias \"{name}\" -> {target}\n")).await
}

/// Edits a file, or finds out what that would do.
pub(super) fn edit_file(dry_run: bool) -> fn(&Path, bool, &[String], &Edit) -> Result<bool, Failure> {
    if dry_run { edit::preview } else { edit::apply }
}

async fn remove(name: &str, dry_run: bool, session: &Session) -> Result<(), Failure> {
    let path = session.config.places.user()?;
    if !edit_file(dry_run)(path, false, &key(name), &Edit::Unset)? {
        return Err(unknown(name, session));
    }
    let changed = Changed { action: "removed", name, target: None, dry_run };
    let verb = if dry_run { "Would remove" } else { "Removed" };
    session.outcome(dry_run, &changed, || format!("{verb} alias \"{name}\"\n")).await
}

/// There is no such name, at least not where it could be removed.
fn unknown(name: &str, session: &Session) -> Failure {
    let entries = session.config.entries();
    let elsewhere = entries.iter().find(|entry| entry.path == key(name) && entry.origin.layer != Layer::User);
    let failure = Failure::not_found(format!("alias {name:?} not found"));
    let place = elsewhere.and_then(|entry| entry.origin.place.as_ref());
    match (place, session.config.aliases().similar(name)) {
        (Some(place), _) => failure.with_hint(format!("it is configured in {place}, which is edited by hand")),
        (None, Some(similar)) => failure.with_hint(format!("did you mean `{similar}`?")),
        (None, None) => failure.with_hint("`blob alias list` lists all"),
    }
}

/// All names.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Names<'a> {
    /// What each name means.
    aliases: BTreeMap<&'a str, &'a str>,
}

/// One name.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Name<'a> {
    /// The name.
    name: &'a str,
    /// What it means.
    r#ref: &'a str,
}

async fn list(session: &Session) -> Result<(), Failure> {
    let aliases = session.config.aliases();
    let text = match session.options.output {
        Format::Json => json::document(&Names { aliases: aliases.iter().collect() }),
        Format::Jsonl => aliases.iter().map(|(name, target)| json::line(&Name { name, r#ref: target })).collect(),
        Format::Text => text(&aliases.iter().collect::<Vec<_>>()),
        output @ (Format::Table | Format::Plain | Format::Csv) => {
            let mut table = Table::new(vec![("NAME", Align::Left), ("REFERENCE", Align::Left)]);
            for (name, target) in aliases.iter() {
                table.row(vec![Cell::new(exact(name.as_bytes())), Cell::new(exact(target.as_bytes()))]);
            }
            table.render(output)
        }
    };
    session.print(text).await
}

fn text(aliases: &[(&str, &str)]) -> String {
    if aliases.is_empty() {
        return "No aliases configured.\n".into();
    }
    let width = aliases.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = format!("Aliases\n{}\n", "-".repeat(50));
    for (name, target) in aliases {
        let _ = writeln!(text, "{name:width$}  -> {}", shown(target.as_bytes()));
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![
        document::<Changed<'_>>("alias-add"),
        document::<Changed<'_>>("alias-rm"),
        document::<Names<'_>>("alias-list"),
        line::<Name<'_>>("alias-list-line"),
    ]
}
