//! Completion in shells: the shell asks this program what could come next, so that aliases and keys are known.

use std::ffi::OsStr;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, EnvCompleter, Shells};

use crate::args::Cli;
use crate::config::Config;
use crate::config::keys::KEYS;

/// The variable by which a shell says that it asks, and in whose language the answer is to be.
const VARIABLE: &str = "BLOB_COMPLETE";

/// Answers a shell, and exits, if one asks.
pub(crate) fn answer() {
    // A look at one variable is all that other runs pay.
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(command).var(VARIABLE).bin("blob").complete();
    }
}

/// What a shell reads to know whom to ask; `program` is who is asked.
///
/// # Errors
/// The names of the shells that are known, if this is none of them.
pub(crate) fn registration(shell: &str, program: &str) -> Result<Vec<u8>, String> {
    let shells = Shells::builtins();
    let known: Option<&dyn EnvCompleter> = shells.completer(shell);
    let known = known.ok_or_else(|| shells.names().collect::<Vec<_>>().join(", "))?;
    let mut script = Vec::new();
    known.write_registration(VARIABLE, "blob", "blob", program, &mut script).map_err(|error| error.to_string())?;
    Ok(script)
}

/// The command line, with what is known only when it is run.
fn command() -> Command {
    let mut command = Cli::command();
    attach(&mut command);
    command
}

/// Arguments are told by what their values are called in help.
fn attach(command: &mut Command) {
    let completer = |arg: &Arg| -> Option<fn(&OsStr) -> Vec<CompletionCandidate>> {
        match arg.get_value_names()?.first()?.as_str() {
            "REF" | "SRC" | "DST" | "REPO" | "REF:/PATH" | "TAG|REF" | "A" | "B" | "REF|HOST" => Some(references),
            "KEY" if arg.is_positional() => Some(keys),
            "NAME" if arg.is_positional() => Some(names),
            _ => None,
        }
    };
    // In their order, which is that of positional arguments.
    *command = std::mem::take(command).mut_args(|arg| match completer(&arg) {
        Some(complete) => arg.add(ArgValueCompleter::new(complete)),
        None => arg,
    });
    command.get_subcommands_mut().for_each(attach);
}

/// Names, with what they stand for; and what may stand behind them is not known.
fn references(typed: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = names(typed);
    if typed.to_str().is_some_and(|typed| "oci:".starts_with(typed)) {
        found.push(CompletionCandidate::new("oci:").help(Some("an OCI image layout on disk".into())));
    }
    found
}

fn names(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let aliases = Config::load(None).aliases();
    let fitting = aliases.iter().filter(|(name, _)| name.starts_with(typed));
    fitting.map(|(name, target)| CompletionCandidate::new(name).help(Some(target.to_owned().into()))).collect()
}

fn keys(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let fitting = KEYS.iter().filter(|key| !key.path.contains('*') && key.path.starts_with(typed));
    fitting.map(|key| CompletionCandidate::new(key.path).help(Some(key.about.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script_that_asks_this_program() {
        for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
            let script = registration(shell, "/opt/blob").unwrap_or_else(|error| panic!("{shell}: {error}"));
            let script = String::from_utf8_lossy(&script).into_owned();
            assert!(script.contains("/opt/blob") && script.contains(VARIABLE), "{shell}: {script}");
        }
        assert!(registration("csh", "blob").is_err_and(|known| known.contains("bash")));
    }

    #[test]
    fn references_and_keys_are_completed() {
        command().debug_assert();
        assert_eq!(keys(OsStr::new("cache.max")).len(), 1);
        assert_eq!(references(OsStr::new("oc")).len(), 1);
    }
}
