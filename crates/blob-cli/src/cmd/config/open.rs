//! `blob config edit`: a copy is edited, and takes the place of the file only if it can be read.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::config::{self, edit};
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::ui::escape::shown;

/// What a new file begins with.
const TEMPLATE: &str = "\
# Configuration of blob. `blob config show` lists all keys with their values.
#
# output: text            # text, json, jsonl, plain, table
# compression: zstd       # none, zstd
# cache:
#   dir: ~/.cache/blob
#   max_size: 5G
#   ref_ttl: 5m
# aliases:
#   assets: ghcr.io/org/team/assets
";

/// A file that was edited.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Edited {
    /// The file.
    path: String,
    /// Whether its content changed.
    changed: bool,
}

pub(super) async fn edit(path: &Path, project: bool, session: &Session) -> Result<(), Failure> {
    session.meter.clear();
    let before = config::read(path)?;
    let text = before.as_deref().unwrap_or(TEMPLATE);
    let failed = |error: &std::io::Error| Failure::io("making a copy of the configuration for the editor", error);
    let copy = tempfile::Builder::new().prefix("blob-config-").suffix(".yaml").tempfile();
    let copy = copy.map_err(|error| failed(&error))?;
    std::fs::write(copy.path(), text).map_err(|error| failed(&error))?;
    run_editor(copy.path())?;
    let after = config::read(copy.path())?.unwrap_or_default();
    let checked = config::parse(path, &after)
        .and_then(|content| if project { config::check_project(path, &content) } else { Ok(()) });
    if let Err(problem) = checked {
        // What was typed is not thrown away.
        let kept = copy.into_temp_path().keep().map_err(|error| failed(&error.error))?;
        let hint = format!("nothing was changed; what you wrote is in {}", kept.display());
        return Err(problem.without_hint().with_hint(hint));
    }
    let changed = before.as_deref() != Some(after.as_str());
    if changed {
        edit::replace(path, &after)?;
    }
    let edited = Edited { path: path.display().to_string(), changed };
    let verb = if changed { "Saved" } else { "Left as it was:" };
    session.report(&edited, || format!("{verb} {}\n", shown(edited.path.as_bytes()))).await
}

/// Runs the editor until its user is done.
fn run_editor(file: &Path) -> Result<(), Failure> {
    let named = ["EDITOR", "VISUAL"].into_iter().filter_map(|name| std::env::var(name).ok());
    let editor = named.into_iter().find(|editor| !editor.trim().is_empty());
    if editor.is_none() && !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        let failure = Failure::usage("there is no terminal for an editor");
        return Err(failure.with_hint("`blob config set KEY VALUE` needs none; EDITOR names one that does not, either"));
    }
    let editor = editor.unwrap_or_else(|| if cfg!(windows) { "notepad" } else { "vi" }.to_owned());
    let mut command = if cfg!(unix) {
        // As git does, so that quotes and arguments in the variable mean what they mean in a shell.
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{editor} \"$@\"")).arg("sh").arg(file);
        shell
    } else {
        let mut words = editor.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("notepad"));
        command.args(words).arg(file);
        command
    };
    let status = command.status().map_err(|error| Failure::io(format!("running the editor {editor}"), &error))?;
    if status.success() {
        return Ok(());
    }
    let message = format!("the editor {editor} failed with {status}; nothing was changed");
    Err(Failure::new(Kind::General, message).with_hint("choose another one with EDITOR"))
}
