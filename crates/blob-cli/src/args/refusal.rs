//! What is said of a command line that makes no sense.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::meant;
use crate::error::{Failure, Kind};

/// A sub-command that was typed, as far as it can be told.
pub(super) struct Leaf {
    /// With the words that lead to it as its name.
    pub(super) command: Command,
    pub(super) matches: ArgMatches,
}

/// The innermost sub-command of `words`.
pub(super) fn leaf(command: &Command, words: &[OsString]) -> Option<Leaf> {
    let mut matches = command.clone().ignore_errors(true).try_get_matches_from(words).ok()?;
    let (mut found, mut name) = (command.clone(), command.get_name().to_owned());
    // With the options of all commands in each of them.
    found.build();
    while let Some((next, below)) = matches.remove_subcommand() {
        found = found.find_subcommand(&next)?.clone();
        name = format!("{name} {next}");
        matches = below;
    }
    Some(Leaf { command: found.bin_name(name), matches })
}

/// What clap found wrong, in our words; with the number of operands where some are missing or too many.
pub(super) fn refusal(command: &Command, words: &[OsString], error: &clap::Error) -> Failure {
    let rendered = error.render().to_string();
    // The first paragraph says what is wrong, the others how it is done.
    let first = rendered.split("\n\n").next().unwrap_or_default().trim();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let text = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let leaf = leaf(command, words);
    let message = message(command, leaf.as_ref(), error, &text);
    let mut hint: Vec<String> = meant::meant(command, leaf.as_ref(), words, error).into_iter().collect();
    hint.extend(leaf.as_ref().and_then(|leaf| glued(&leaf.command, words)));
    // Where `-h` is an option of the command, whoever typed nothing else wanted to be helped.
    if error.kind() == ErrorKind::MissingRequiredArgument && words.last().is_some_and(|word| word == "-h") {
        hint.push("--help is the help, and -h stands for human sizes here".into());
    }
    hint.push(match leaf {
        Some(mut leaf) if leaf.command.get_name() != command.get_name() => usage(&mut leaf.command),
        _ => "see `blob --help`".into(),
    });
    Failure::new(Kind::Usage, message).with_hint(hint.join("; "))
}

fn usage(command: &mut Command) -> String {
    let usage = command.render_usage().to_string();
    usage.trim().replacen("Usage:", "usage:", 1).replace(" [OPTIONS]", "")
}

fn message(command: &Command, leaf: Option<&Leaf>, error: &clap::Error, text: &str) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(one)) => Some(one.clone()),
        _ => None,
    };
    match (error.kind(), context(ContextKind::InvalidArg), leaf) {
        (ErrorKind::MissingRequiredArgument, _, Some(leaf)) => {
            let missing = text.rsplit_once(": ").map_or("", |(_, missing)| missing);
            // Operands are named like <THIS>, options are not.
            if missing.starts_with('<') {
                format!("{}: missing {missing}", arity(leaf, missing.matches('<').count(), 0))
            } else {
                format!("missing {missing}, which what was typed needs")
            }
        }
        (ErrorKind::UnknownArgument, Some(flag), _) if flag.starts_with('-') => format!("unknown flag: {flag}"),
        (ErrorKind::UnknownArgument, Some(word), Some(leaf)) => format!("{}: what is {word:?}?", arity(leaf, 0, 1)),
        (ErrorKind::InvalidSubcommand, ..) => {
            let typed = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let above = leaf.and_then(|leaf| leaf.command.get_bin_name()).unwrap_or_else(|| command.get_name());
            format!("unknown command {typed:?} for {above:?}")
        }
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(option), leaf) => {
            let text = in_words(text);
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let blamed = leaf.and_then(|leaf| variable(leaf, &option, &value));
            match (blamed, text.split_once("': ")) {
                (Some(name), Some((_, why))) => format!("{name} is {value:?}: {why}"),
                (Some(name), None) => format!("{name} is {value:?}: {text}"),
                _ => text,
            }
        }
        _ => text.to_owned(),
    }
}

/// What the standard library says of numbers, as people would.
fn in_words(text: &str) -> String {
    let known = [
        ("invalid digit found in string", "expected a number"),
        ("cannot parse integer from empty string", "expected a number"),
        ("number would be zero for non-zero type", "expected at least 1"),
    ];
    known.into_iter().fold(text.to_owned(), |text, (said, meant)| text.replace(said, meant))
}

/// The variable that gave `option`, as in `--level <N>`, its `value`, if it was not typed.
fn variable(leaf: &Leaf, option: &str, value: &str) -> Option<String> {
    let long = option.strip_prefix("--")?.split([' ', '[', '=']).next()?;
    let arg = leaf.command.get_arguments().find(|arg| arg.get_long() == Some(long));
    let name = match arg {
        Some(arg) => arg.get_env()?.to_str()?.to_owned(),
        // Those of all commands stand at the top.
        None => format!("BLOB_{}", long.replace('-', "_").to_ascii_uppercase()),
    };
    (std::env::var(&name).ok()? == value).then_some(name)
}

/// `--overwrite=always` for `--overwrite always`, where the value has to be joined to the option.
fn glued(command: &Command, words: &[OsString]) -> Option<String> {
    words.windows(2).find_map(|pair| {
        let (option, value) = (pair[0].to_str()?, pair[1].to_str()?);
        let joined = |arg: &&Arg| {
            Some(option.strip_prefix("--")?).filter(|long| arg.get_long() == Some(*long))?;
            arg.is_require_equals_set().then_some(())?;
            arg.get_possible_values().iter().any(|known| known.matches(value, false)).then_some(())
        };
        command.get_arguments().find(|arg| joined(arg).is_some())?;
        Some(format!("write {option}={value}"))
    })
}

/// `accepts 2 arg(s), received 0`: how many operands the sub-command takes and how many were typed, and `more` that were
/// not understood; `missing` are known to be.
fn arity(leaf: &Leaf, missing: usize, more: usize) -> String {
    let (mut required, mut most, mut received) = (0, Some(0), more);
    for operand in leaf.command.get_positionals() {
        required += usize::from(operand.is_required_set());
        let many = matches!(operand.get_action(), ArgAction::Append);
        most = if many { None } else { most.map(|most| most + 1) };
        let id = operand.get_id().as_str();
        if leaf.matches.value_source(id) == Some(ValueSource::CommandLine) {
            received += leaf.matches.get_raw(id).map_or(0, Iterator::count);
        }
    }
    // Some are required in the light of others alone.
    let required = if missing > 0 { required.max(missing + received) } else { required };
    match most {
        Some(most) if most == required => format!("accepts {required} arg(s), received {received}"),
        Some(most) => format!("accepts between {required} and {most} arg(s), received {received}"),
        None => format!("requires at least {required} arg(s), only received {received}"),
    }
}
