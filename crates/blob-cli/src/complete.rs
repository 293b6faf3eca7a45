//! Completion in shells: the shell asks this program what could come next, so that aliases, keys, tags that were seen and
//! paths in archives that were opened are known. It answers from what is on this machine alone: never with a request, and
//! without a word where it does not know.

mod archive;
mod script;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Write as _;

use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::CompleteEnv;

use crate::alias::disk_prefix;
use crate::args;
use crate::cache_flags::KINDS;
use crate::config::Config;
use crate::config::keys::{KEYS, Kind};
use crate::schemas::SCHEMAS;

pub(crate) use script::registration;

/// The variable by which a shell says that it asks, and in whose language the answer is to be.
const VARIABLE: &str = "BLOB_COMPLETE";

/// Answers a shell, and exits, if one asks.
pub(crate) fn answer() {
    // A look at one variable is all that other runs pay.
    let Some(shell) = std::env::var_os(VARIABLE) else { return };
    // A variable that was left over answers no command: one that verifies something must not end well without a look.
    if std::env::args_os().nth(1).is_some_and(|first| first != "--") {
        return;
    }
    let mut words = std::env::args_os();
    if shell == "fish" && words.nth(1).is_some_and(|word| word == "--") {
        let found = candidates(words.collect());
        // A shell that is gone needs no answer.
        let _ = std::io::stdout().write_all(found.as_bytes());
        std::process::exit(0);
    }
    CompleteEnv::with_factory(command).var(VARIABLE).bin("blob").complete();
}

/// What could stand in place of the last of `words`, one a line with what it is behind a tab. Options are told to who
/// begins one, or where there is nothing else.
fn candidates(words: Vec<OsString>) -> String {
    let Some(last) = words.len().checked_sub(1) else { return String::new() };
    let nothing_typed = words[last].is_empty();
    let dir = std::env::current_dir().ok();
    let found = clap_complete::engine::complete(&mut command(), words, last, dir.as_deref()).unwrap_or_default();
    let is_option = |found: &CompletionCandidate| found.get_value().as_encoded_bytes().starts_with(b"-");
    let only_options = found.iter().all(is_option);
    let mut lines = String::new();
    for candidate in found.iter().filter(|found| only_options || !nothing_typed || !is_option(found)) {
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let tab = if help.is_empty() { "" } else { "\t" };
        let value = candidate.get_value().to_string_lossy();
        // Nothing here may end a line before its time.
        if !value.contains(['\n', '\t']) {
            let _ = writeln!(lines, "{value}{tab}{}", help.lines().next().unwrap_or_default());
        }
    }
    lines
}

/// The command line, with what is known only when it is run.
fn command() -> Command {
    let mut command = args::command();
    attach(&mut command);
    command
}

/// Arguments are told by their command and by what their values are called in help.
fn attach(command: &mut Command) {
    let of = command.get_name().to_owned();
    let completer = |arg: &Arg| -> Option<fn(&OsStr) -> Vec<CompletionCandidate>> {
        match arg.get_value_names()?.first()?.as_str() {
            "PATTERN" if of == "grep" && arg.is_positional() => {
                Some(|typed| if gives_patterns(std::env::args()) { references(typed) } else { Vec::new() })
            }
            "REF" if of == "grep" => {
                Some(|typed| if gives_patterns(std::env::args()) { paths(typed) } else { references(typed) })
            }
            "REF" | "SRC" | "DST" | "TAG|REF" | "REF|DIR" | "REF|HOST" => Some(references),
            "REPO" => Some(repositories),
            "TYPE" if of == "clear" => Some(|typed| words(typed, KINDS.iter().map(|(name, _)| *name).chain(["all"]))),
            "SHELL" => Some(|typed| words(typed, script::SHELLS)),
            "VALUE" if of == "set" => Some(|typed| values(typed, std::env::args())),
            "COMMAND" if of == "schema" => Some(|typed| schemas(typed, std::env::args())),
            "COMMAND" if of == "man" => Some(|typed| pages(typed, std::env::args())),
            "REF:/PATH" => Some(sources),
            // Of the archive that stands before it on the line.
            "PATH" if arg.is_positional() => Some(paths),
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

/// Names, with what they stand for; places that the cache knows, and those in layouts on disk.
fn references(typed: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = names(typed);
    found.extend(typed.to_str().map(archive::references).unwrap_or_default());
    for (prefix, help) in [
        ("oci:", "an OCI image layout on disk"),
        ("oci-archive:", "one in a tar file"),
        ("pair:", "index and data in two files"),
    ] {
        if typed.to_str().is_some_and(|typed| prefix.starts_with(typed)) {
            found.push(CompletionCandidate::new(prefix).help(Some(help.into())));
        }
    }
    found
}

/// As [`references`], and behind `:/` paths in the archive.
fn sources(typed: &OsStr) -> Vec<CompletionCandidate> {
    match typed.to_str().map(archive::sources) {
        Some(found) if !found.is_empty() => found,
        _ => references(typed),
    }
}

/// Paths in the archive that an earlier word names.
fn paths(typed: &OsStr) -> Vec<CompletionCandidate> {
    typed.to_str().map(|typed| archive::paths(typed, std::env::args())).unwrap_or_default()
}

fn names(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let aliases = Config::load(None).aliases();
    let fitting = aliases.iter().filter(|(name, _)| name.starts_with(typed));
    fitting.map(|(name, target)| CompletionCandidate::new(name).help(Some(target.to_owned().into()))).collect()
}

/// Those of `all` that begin with what was typed.
fn words(typed: &OsStr, all: impl IntoIterator<Item = &'static str>) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    all.into_iter().filter(|word| word.starts_with(typed)).map(CompletionCandidate::new).collect()
}

/// Repositories, as [`references`] knows them.
fn repositories(typed: &OsStr) -> Vec<CompletionCandidate> {
    let without_tag = |found: CompletionCandidate| {
        let value = found.get_value().to_str()?.to_owned();
        let name_at = value.rfind('/').map_or(0, |slash| slash + 1);
        match value[name_at..].find(':') {
            Some(colon) if disk_prefix(&value).is_empty() => Some(CompletionCandidate::new(&value[..name_at + colon])),
            _ => Some(found),
        }
    };
    let mut found: Vec<_> = references(typed).into_iter().filter_map(without_tag).collect();
    found.dedup_by(|one, other| one.get_value() == other.get_value());
    found
}

/// The words behind `command` on the line that a shell passed on, without options and without the one that is typed.
fn behind(command: &str, line: impl Iterator<Item = String>) -> Vec<String> {
    let mut words: Vec<String> = line.skip_while(|word| word != "--").skip(2).collect();
    words.pop();
    let behind = words.into_iter().skip_while(|word| word != command).skip(1);
    behind.filter(|word| !word.starts_with('-')).collect()
}

/// Whether `grep` has its patterns from options on the line, so that its operands begin with the archive.
fn gives_patterns(line: impl Iterator<Item = String>) -> bool {
    let mut words = line.skip_while(|word| word != "--").skip_while(|word| word != "grep").skip(1);
    words.any(|word| match word.strip_prefix("--") {
        Some(long) => ["regexp", "file"].contains(&long.split('=').next().unwrap_or_default()),
        // Letters behind one that takes a value are that value.
        None => word.strip_prefix('-').is_some_and(|letters| {
            let takes = letters.find(|letter| "efgABCmojd".contains(letter));
            takes.is_some_and(|at| letters[at..].starts_with(['e', 'f']))
        }),
    })
}

/// Values of the key that stands before.
fn values(typed: &OsStr, line: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let Some(key) = behind("set", line).first().cloned() else { return Vec::new() };
    let key: Vec<String> = key.replace('-', "_").split('.').map(str::to_owned).collect();
    match KEYS.iter().find(|known| known.matches(&key)).map(|known| known.kind) {
        Some(Kind::Word(known)) => words(typed, known.iter().copied()),
        Some(Kind::Bool) => words(typed, ["true", "false"]),
        _ => Vec::new(),
    }
}

/// The next word of the name of a schema.
fn schemas(typed: &OsStr, line: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let before: String = behind("schema", line).into_iter().map(|word| word + "-").collect();
    let names = SCHEMAS.iter().map(|(name, _)| *name).filter(|name| !name.ends_with("-line"));
    words(typed, names.filter_map(|name| name.strip_prefix(before.as_str())))
}

/// The next word of a command.
fn pages(typed: &OsStr, line: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let main = args::command();
    let above = behind("man", line).iter().try_fold(&main, |above, word| above.find_subcommand(word));
    let Some((above, typed)) = above.zip(typed.to_str()) else { return Vec::new() };
    let fitting = above.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name().starts_with(typed));
    fitting.map(|below| CompletionCandidate::new(below.get_name()).help(below.get_about().cloned())).collect()
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
        for shell in script::SHELLS {
            let script = registration(shell, "/opt/blob").unwrap_or_else(|error| panic!("{shell}: {error}"));
            let script = String::from_utf8_lossy(&script).into_owned();
            assert!(script.contains("/opt/blob") && script.contains(VARIABLE), "{shell}: {script}");
        }
        assert!(registration("csh", "blob").is_err_and(|known| known.contains("bash")));
    }

    #[test]
    fn where_options_give_patterns_the_archive_comes_first() {
        for (line, expected) in [
            ("blob -- blob grep x", false),
            ("blob -- blob grep -i -e x", true),
            ("blob -- blob grep -ne x", true),
            ("blob -- blob grep --regexp=x", true),
            ("blob -- blob grep -F --file words", true),
            ("blob -- blob grep -g fe x", false),
            ("blob -- blob grep -gfe x", false),
            ("blob -- blob grep --ignore-case x", false),
            ("blob -- blob -e grep x", false),
        ] {
            assert_eq!(gives_patterns(line.split(' ').map(str::to_owned)), expected, "{line}");
        }
    }

    #[test]
    fn references_and_keys_are_completed() {
        command().debug_assert();
        assert_eq!(keys(OsStr::new("cache.max")).len(), 1);
        assert_eq!(references(OsStr::new("oci-")).len(), 1);
        assert_eq!(references(OsStr::new("oc")).len(), 2);
    }
}
