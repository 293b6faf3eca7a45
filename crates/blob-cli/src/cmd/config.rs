//! `blob config`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::alias::edit_file;
use crate::args::Format;
use crate::config::edit::Edit;
use crate::config::keys::{self, KEYS, Key};
use crate::config::{self, Config};
use crate::error::Failure;
use crate::session::Session;
use crate::ui::escape::shown;
use crate::ui::near;

mod open;
mod show;

const EXAMPLES: &str = "\
Examples:
  blob config show --origin             what is configured, and where
  blob config set cache.max_size 20G
  blob config get cache.dir
  blob config unset output
  blob config edit                      in $EDITOR; what is wrong is not saved

Flags come before BLOB_* variables, those before the project's file (.blob.yaml or blob.yaml, here or above), that \
before the user's, and that before /etc/blob/config.yaml.";

const SET_EXAMPLES: &str = "\
Examples:
  blob config set cache.max_size 20G
  blob config set --project output json            in the project's file
  blob config set registries.r.example.timeout 2m  of one registry";

/// Look at the configuration, and change it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what is configured, flags and variables included.
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  blob config show --origin    and what each value is from"
    )]
    Show {
        /// Say where each value is from.
        #[arg(long, visible_alias = "show-origin")]
        origin: bool,
    },
    /// Print one value.
    #[command(after_help = "Examples:\n  blob config get cache.max_size")]
    Get {
        /// The key, such as cache.max_size.
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Set one value in a file; everything else in it stays as it is.
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// The key.
        #[arg(value_name = "KEY")]
        key: String,
        /// The value.
        #[arg(value_name = "VALUE")]
        value: String,
        /// Only say what would be done; a value that is refused is.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        scope: Scope,
    },
    /// Take one value out of a file.
    #[command(after_help = "Examples:\n  blob config unset cache.max_size\n  blob config unset --project output")]
    Unset {
        /// The key.
        #[arg(value_name = "KEY")]
        key: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        scope: Scope,
    },
    /// Open a file in an editor ($EDITOR, else $VISUAL); what is wrong is not saved.
    #[command(after_help = "Examples:\n  blob config edit\n  EDITOR=nano blob config edit --project")]
    Edit {
        #[command(flatten)]
        scope: Scope,
    },
    /// Print where the user's file is.
    #[command(after_help = "Examples:\n  cat \"$(blob config path)\"\n  blob config path --project")]
    Path {
        #[command(flatten)]
        scope: Scope,
    },
    /// Check all files.
    #[command(after_help = "Examples:\n  blob config validate")]
    Validate,
    /// Print the table of keys in Markdown.
    #[command(hide = true)]
    Reference,
}

/// Which file is meant.
#[derive(Args, Clone, Copy, Debug)]
struct Scope {
    /// The file of the project, rather than the user's.
    #[arg(long)]
    project: bool,
}

impl Scope {
    fn path(self, session: &Session) -> Result<PathBuf, Failure> {
        let places = &session.config.places;
        match (self.project, &places.project) {
            (false, _) => Ok(places.user()?.to_owned()),
            (true, Some(found)) => Ok(found.clone()),
            (true, None) => Ok(config::place::PROJECT_NAMES[0].into()),
        }
    }
}

impl ConfigArgs {
    /// Whether this helps to mend a configuration that is broken.
    pub(crate) fn is_tolerant(&self) -> bool {
        matches!(self.action, Action::Show { .. } | Action::Edit { .. } | Action::Path { .. } | Action::Validate)
    }
}

pub(crate) async fn run(args: ConfigArgs, session: &Session) -> Result<(), Failure> {
    match args.action {
        Action::Show { origin } => show::show(origin, session).await,
        Action::Get { key } => get(&key, session).await,
        Action::Set { key, value, dry_run, scope } => set((&key, &value), dry_run, scope, session).await,
        Action::Unset { key, dry_run, scope } => unset(&key, dry_run, scope, session).await,
        Action::Edit { scope } => open::edit(&scope.path(session)?, scope.project, session).await,
        Action::Path { scope } => path(&scope.path(session)?, session).await,
        Action::Validate => validate(&session.config, session).await,
        Action::Reference => session.print(config::reference::markdown()).await,
    }
}

/// The key that is most like `typed`: among those in the same place where there are any, by their own names.
fn nearest(typed: &str) -> Option<&'static str> {
    let all = || KEYS.iter().map(|key| key.path);
    let (above, name) = typed.rsplit_once('.').unwrap_or(("", typed));
    let name_of = |path: &'static str| Some((path.strip_prefix(above)?.strip_prefix('.')?, path));
    let beside: Vec<(&str, &str)> = all().filter_map(name_of).filter(|(last, _)| !last.contains('.')).collect();
    if beside.is_empty() {
        return near::nearest(typed, all());
    }
    let names = beside.iter().map(|(last, path)| (last.as_bytes(), *path));
    near::nearest_bytes(name.as_bytes(), names).or_else(|| {
        // The only one that begins with the same three letters.
        let mut alike = beside.iter().filter(|(last, _)| name.get(..3).is_some_and(|begins| last.starts_with(begins)));
        alike.next().filter(|_| alike.next().is_none()).map(|(_, path)| *path)
    })
}

/// The key that was typed, taken apart.
fn key(typed: &str) -> Result<(Vec<String>, &'static Key), Failure> {
    let path = keys::split(typed);
    if let Some(key) = keys::find(&path) {
        return Ok((path, key));
    }
    let known = |above: &str| {
        let inner = KEYS.iter().map(|key| key.path).filter(|known| known.starts_with(&format!("{above}.")));
        inner.collect::<Vec<_>>().join(", ")
    };
    let beside = typed.rsplit_once('.').map_or(String::new(), |(above, _)| known(above));
    let failure = Failure::usage(format!("unknown key {typed:?}"));
    let similar = nearest(&keys::join(&path)).map(str::to_owned).or_else(|| config::similar(path.last()?, ""));
    Err(match (known(typed), similar) {
        (below, _) if !below.is_empty() => failure.with_hint(format!("it holds {below}")),
        (_, Some(similar)) => failure.with_hint(format!("did you mean `{similar}`?")),
        _ if !beside.is_empty() => failure.with_hint(format!("there are {beside}")),
        _ => failure.with_hint("`blob config show` lists the keys"),
    })
}

/// The value of a key.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Got {
    /// The key, elements separated by dots.
    key: String,
    /// The value; of a key that others are below, what has a value below it.
    value: serde_json::Value,
    /// Where the value is from; absent for several.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<show::Origin>,
}

async fn get(typed: &str, session: &Session) -> Result<(), Failure> {
    let outer = keys::split(typed);
    if keys::is_map(&outer) {
        return show::below(&outer, session).await;
    }
    let (path, key) = key(typed)?;
    let mut found = show::effective(session);
    found.retain(|shown| shown.path == path && !shown.value.is_null());
    let Some((value, origin)) = show::joined(found) else {
        if key.path.contains('*') {
            return Err(Failure::not_found(format!("{typed} is not set")));
        }
        return session.print("").await;
    };
    let got = Got { key: keys::join(&path), value, origin };
    // One value is what scripts want, however tables look to people.
    let text = || show::text_of(&got.value) + "\n";
    let format = if session.options.output.is_json() { session.options.output } else { Format::Text };
    session.print(crate::ui::record::render(format, &got, text)).await
}

/// A key that was set or unset.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Changed<'a> {
    /// `created`, `updated` or `removed`.
    action: &'static str,
    /// The key, elements separated by dots.
    key: String,
    /// The new value, as it was typed; hidden if it may be a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    /// The file that was edited.
    file: String,
    /// Whether nothing was changed, only looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

async fn set((typed, value): (&str, &str), dry_run: bool, scope: Scope, session: &Session) -> Result<(), Failure> {
    let (path, key) = key(typed)?;
    let file = scope.path(session)?;
    let typed_value = config::typed(key.kind, value);
    let shown_value = if show::is_secret(&path, Some(value)) { show::HIDDEN } else { value };
    // What is wrong is what was typed, not the file.
    let origin = config::Origin { layer: config::place::Layer::Flag, place: None };
    let entry = config::Entry { path: path.clone(), value: typed_value.clone(), origin };
    config::check_value(&entry).map_err(|problem| {
        let message = format!("{shown_value:?} cannot be the value of {}", keys::join(&path));
        // A secret is not repeated in the problem either.
        if shown_value == value { Failure::configuration(message, &problem) } else { Failure::usage(message) }
    })?;
    let edit = Edit::Set(typed_value);
    let existed = edit_file(dry_run)(&file, scope.project, &path, &edit)?;
    let action = if existed { "updated" } else { "created" };
    let changed =
        Changed { action, key: keys::join(&path), value: Some(shown_value), file: file.display().to_string(), dry_run };
    let verb = if dry_run { "Would set" } else { "Set" };
    let text = || {
        format!("{verb} {} to {} in {}\n", changed.key, shown(shown_value.as_bytes()), shown(changed.file.as_bytes()))
    };
    session.outcome(dry_run, &changed, text).await
}

async fn unset(typed: &str, dry_run: bool, scope: Scope, session: &Session) -> Result<(), Failure> {
    let (path, _) = key(typed)?;
    let file = scope.path(session)?;
    if !edit_file(dry_run)(&file, scope.project, &path, &Edit::Unset)? {
        return Err(Failure::not_found(format!("{} is not set in {}", keys::join(&path), file.display())));
    }
    let changed =
        Changed { action: "removed", key: keys::join(&path), value: None, file: file.display().to_string(), dry_run };
    let verb = if dry_run { "Would unset" } else { "Unset" };
    session
        .outcome(dry_run, &changed, || format!("{verb} {} in {}\n", changed.key, shown(changed.file.as_bytes())))
        .await
}

/// Where a file is.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Place {
    /// The file.
    path: String,
    /// Whether it exists.
    exists: bool,
}

async fn path(path: &Path, session: &Session) -> Result<(), Failure> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let place = Place { path: whole.display().to_string(), exists: path.exists() };
    let text = || format!("{}\n", place.path);
    session.print(crate::ui::record::render(session.options.output, &place, text)).await
}

/// Files that can be used.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Valid {
    /// Always true; what is wrong is an error.
    valid: bool,
    /// The files that exist.
    files: Vec<String>,
}

async fn validate(config: &Config, session: &Session) -> Result<(), Failure> {
    if let Some(problem) = config.problems.first() {
        return Err(problem.clone());
    }
    let places = &config.places;
    let files = [places.system.as_deref(), places.user().ok(), places.project.as_deref()];
    let files = files.into_iter().chain(places.above.iter().map(|path| Some(path.as_path())));
    let files = files.into_iter().flatten().filter(|path| path.exists());
    let valid = Valid { valid: true, files: files.map(|path| path.display().to_string()).collect() };
    let text = || match valid.files.as_slice() {
        [] => "There is no configuration file.\n".into(),
        files => files.iter().map(|file| shown(file.as_bytes()) + " is valid\n").collect(),
    };
    session.report(&valid, text).await
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![
        document::<Got>("config-get"),
        document::<Changed<'_>>("config-set"),
        document::<Changed<'_>>("config-unset"),
        document::<open::Edited>("config-edit"),
        document::<Place>("config-path"),
        document::<Valid>("config-validate"),
        document::<show::Document>("config-show"),
        line::<show::Line<'_>>("config-show-line"),
    ]
}
