//! `blob doctor`.

use std::fmt::Write as _;
use std::time::Duration;

use blob::Location;
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

use crate::alias::disk_prefix;
use crate::args::{Format, Global};
use crate::config;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::ui::escape::{exact, shown};
use crate::ui::json;
use crate::ui::size::count;
use crate::ui::table::{Align, Cell, Table};

mod network;
mod registry;

const EXAMPLES: &str = "\
Examples:
  blob doctor                                    this machine: configuration and cache
  blob doctor ghcr.io                            and the way to a registry
  blob doctor localhost:5000/team/assets:v1      and what it answers about an archive";

/// Find out what is in the way: configuration, cache, network, log-in, what the registry can do.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// An archive, or a registry.
    #[arg(value_name = "REF|HOST")]
    target: Option<String>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// It works, and something about it should be known.
    Warning,
    Failed,
    /// Something before it failed, or it does not apply.
    Skipped,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Check {
    /// What was looked at.
    name: &'static str,
    /// How it came out.
    status: Status,
    /// What was found.
    detail: String,
    /// What may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    kind: Kind,
}

impl Check {
    fn new(name: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { name, status, detail: detail.into(), hint: None, kind: Kind::General }
    }

    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, detail)
    }

    fn skipped(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Skipped, detail)
    }

    fn warning(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Warning, detail)
    }

    fn failed(name: &'static str, failure: &Failure) -> Self {
        // Who asks the doctor needs not be sent there.
        let hint = failure.hint().filter(|hint| !hint.starts_with("`blob doctor")).map(str::to_owned);
        Self { hint, kind: failure.kind, ..Self::new(name, Status::Failed, failure.sentence()) }
    }

    fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn is_failed(&self) -> bool {
        self.status == Status::Failed
    }
}

/// What was looked at.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report<'a> {
    /// What was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    /// Whether no check failed.
    healthy: bool,
    /// The checks, in their order.
    checks: &'a [Check],
}

/// How long a connection may stand still, unless somebody said so: who asks the doctor wants to know soon.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options for who wants to know soon, unless they were given.
pub(crate) fn hurry(options: &mut Global) {
    options.timeout.get_or_insert(config::value::Duration(PATIENCE));
    options.retries.get_or_insert(1);
}

/// What was looked at so far. Whoever waits is told of each check when it is done.
struct Checks {
    done: Vec<Check>,
    format: Format,
    lines: UnboundedSender<String>,
}

impl Checks {
    fn push(&mut self, check: Check) {
        let line = match self.format {
            Format::Text => Some(text(&check)),
            Format::Jsonl => Some(json::line(&check)),
            Format::Plain => Some(table([&check]).tabbed()),
            // Documents and columns need all of it.
            Format::Json | Format::Table | Format::Csv => None,
        };
        // A reader who has gone away ends the command elsewhere.
        line.map(|line| self.lines.send(line));
        self.done.push(check);
    }
}

pub(crate) async fn run(args: DoctorArgs, session: &Session) -> Result<(), Failure> {
    let (lines, mut told) = tokio::sync::mpsc::unbounded_channel();
    let printing = async {
        while let Some(line) = told.recv().await {
            session.print(line).await?;
        }
        Ok(())
    };
    let looking = async {
        let mut checks = Checks { done: Vec::new(), format: session.options.output, lines };
        checks.push(configuration(session));
        checks.push(cache(session));
        if let Some(target) = &args.target {
            // As `login`: what people copy from browsers.
            let bare = target.strip_prefix("https://").or_else(|| target.strip_prefix("http://"));
            let target = bare.map_or(&**target, |bare| bare.trim_end_matches('/'));
            examine(target, session, &mut checks).await?;
        }
        Ok::<_, Failure>(checks.done)
    };
    let (checks, ()) = tokio::try_join!(looking, printing)?;
    let failed: Vec<&Check> = checks.iter().filter(|check| check.is_failed()).collect();
    let report = Report { target: args.target.as_deref(), healthy: failed.is_empty(), checks: &checks };
    match session.options.output {
        Format::Json => session.print(json::document(&report)).await?,
        output @ (Format::Table | Format::Csv) => session.print(table(&checks).render(output)).await?,
        _ => {}
    }
    match failed.first() {
        None => Ok(()),
        Some(first) => {
            let message = format!("{} of {} failed", failed.len(), count(checks.len() as u64, "check"));
            Err(Failure::new(first.kind, message))
        }
    }
}

/// A place is examined with all that it can be asked, a host without repository as far as it goes.
async fn examine(target: &str, session: &Session, checks: &mut Checks) -> Result<(), Failure> {
    let host_alone = !target.contains('/') && disk_prefix(target).is_empty() && session.location(target).is_err();
    let location: Location = if host_alone {
        // The repository stands for none: only the host of it is looked at.
        let named = format!("{target}/x").parse();
        named.map_err(|_| Failure::usage(format!("{target:?} is neither a reference nor the name of a registry")))?
    } else {
        session.location(target)?
    };
    if let Some(reference) = location.reference() {
        network::examine(reference.host(), session, checks).await;
    }
    if host_alone {
        return Ok(());
    }
    if session.options.offline && location.reference().is_some() {
        checks.push(Check::skipped("archive", "nothing is sent with --offline"));
        return Ok(());
    }
    if checks.done.iter().any(|check| check.is_failed() && check.kind == Kind::Network) {
        checks.push(Check::skipped("archive", "the registry cannot be reached"));
        return Ok(());
    }
    if location.target().is_none() {
        let missing = format!("{target} names no tag or digest: with one, the archive would be looked at, too");
        checks.push(Check::skipped("archive", &missing));
        return Ok(());
    }
    registry::examine(&location, session, checks).await;
    Ok(())
}

fn configuration(session: &Session) -> Check {
    let config = &session.config;
    if let Some(problem) = config.problems.first() {
        return Check::failed("configuration", problem);
    }
    let places = &config.places;
    let files = [places.system.as_deref(), places.user().ok(), places.project.as_deref()];
    let files = files.into_iter().chain(places.above.iter().map(|path| Some(path.as_path())));
    let read = files.into_iter().flatten().filter(|path| path.exists());
    let read: Vec<String> = read.map(|path| path.display().to_string()).collect();
    Check::ok("configuration", if read.is_empty() { "no file, all defaults".into() } else { read.join(", ") })
}

fn cache(session: &Session) -> Check {
    use blob::cache::{CacheDir, CacheOptions};

    use crate::cache_place::CachePlace;
    if session.options.no_cache {
        return Check::skipped("cache", "it is not used");
    }
    let Some(place) = CachePlace::find(&session.options) else {
        return Check::warning("cache", "neither XDG_CACHE_HOME nor HOME says where it is")
            .with_hint("pass --cache-dir");
    };
    let dir = place.dir.display().to_string();
    match CacheDir::open(&place.dir, CacheOptions::default()) {
        Ok(_) => Check::ok("cache", dir),
        Err(source) => Check::failed("cache", &blob::Error::Cache { dir: place.dir, source }.into()),
    }
}

fn table<'a>(checks: impl IntoIterator<Item = &'a Check>) -> Table {
    let mut table = Table::new(vec![("CHECK", Align::Left), ("STATUS", Align::Left), ("DETAIL", Align::Left)]);
    for check in checks {
        let detail = exact(check.detail.as_bytes());
        table.row([check.name.to_owned(), word(check.status).to_owned(), detail].map(Cell::new).into());
    }
    table
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Failed => "failed",
        Status::Skipped => "skipped",
    }
}

fn text(check: &Check) -> String {
    let mut text = format!("{:<14} {:<8} {}\n", check.name, word(check.status), shown(check.detail.as_bytes()));
    if let Some(hint) = &check.hint {
        let _ = writeln!(text, "{:<23} hint: {}", "", shown(hint.as_bytes()));
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Report<'_>>("doctor"), line::<Check>("doctor-line")]
}
