//! Variables in the place of options that were not typed.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::refusal::{Leaf, leaf};
use crate::config::value::truth;
use crate::error::Failure;

/// Options that lower what is asked for have no variables: they are to be seen where a command is typed.
pub(super) const LOWERING: [&str; 3] = ["no_default_policy", "insecure_ignore_tlog", "unverified"];
/// Options that ask for more each time they are given: the variable of one must not vanish behind what is typed.
const ADDING: [&str; 2] = ["policy", "policy_rego"];

/// Refuses what is asked for by a variable and by an option at once, of which only one would count.
pub(super) fn check_adding(command: &Command, matches: &ArgMatches) -> Result<(), Failure> {
    for arg in command.get_arguments().filter(|arg| ADDING.contains(&arg.get_id().as_str())) {
        let typed = matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        let variable = arg.get_env().filter(|name| typed && std::env::var_os(name).is_some_and(|it| !it.is_empty()));
        if let (Some(variable), Some(option)) = (variable, arg.get_long()) {
            let message =
                format!("{} and --{option} both ask for something, and one would be lost", variable.display());
            return Err(Failure::usage(message).with_hint("unset the variable, or name everything by options"));
        }
    }
    match matches.subcommand() {
        Some((name, below)) => command.find_subcommand(name).map_or(Ok(()), |command| check_adding(command, below)),
        None => Ok(()),
    }
}

/// Gives every option of `command` and of what is below it a variable.
pub(super) fn add_variables(command: &mut Command, prefix: &str) {
    let with_variable = |arg: Arg| {
        // What is set to nothing is not set.
        let empty = arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
        if empty {
            return arg.env(None::<&str>);
        }
        let known = arg.get_env().is_some() || matches!(arg.get_action(), ArgAction::Count);
        if known || arg.is_positional() || arg.is_hide_set() || LOWERING.contains(&arg.get_id().as_str()) {
            return arg;
        }
        let own = arg.get_long().unwrap_or(arg.get_id().as_str());
        let name = format!("{prefix}_{}", own.replace('-', "_").to_ascii_uppercase());
        if std::env::var_os(&name).is_some_and(|value| value.is_empty()) {
            return arg;
        }
        let flag = matches!(arg.get_action(), ArgAction::SetTrue);
        let arg = arg.env(clap::builder::Str::from(name)).hide_env(true);
        if flag { arg.value_parser(truth) } else { arg }
    };
    *command = std::mem::take(command).mut_args(with_variable);
    for below in command.get_subcommands_mut() {
        let prefix = format!("{prefix}_{}", below.get_name().replace('-', "_").to_ascii_uppercase());
        add_variables(below, &prefix);
    }
}

/// `words` with an option for each line of the variables of options that may be repeated and were not typed. One line is
/// read as all variables are.
pub(super) fn spread(command: &Command, words: &[OsString]) -> Vec<OsString> {
    let mut words = words.to_vec();
    if !several(command) {
        return words;
    }
    let Some(Leaf { command, matches }) = leaf(command, &words) else { return words };
    let mut more = Vec::new();
    // What asks for more is held against what is typed, and so stays a variable.
    let taken = |arg: &&Arg| matches!(arg.get_action(), ArgAction::Append) && !ADDING.contains(&arg.get_id().as_str());
    for arg in command.get_arguments().filter(taken) {
        let typed = matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        let (Some(long), Some(lines)) = (arg.get_long(), lines(arg).filter(|_| !typed)) else { continue };
        more.extend(lines.lines().filter(|line| !line.is_empty()).map(|line| format!("--{long}={line}").into()));
    }
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    words.splice(end..end, more);
    words
}

/// Whether any variable of an option that may be repeated has several lines.
fn several(command: &Command) -> bool {
    command.get_arguments().any(|arg| matches!(arg.get_action(), ArgAction::Append) && lines(arg).is_some())
        || command.get_subcommands().any(several)
}

/// What the variable of an option says, if that is more than one line.
fn lines(arg: &Arg) -> Option<String> {
    std::env::var(arg.get_env()?).ok().filter(|text| text.contains('\n'))
}

/// The command without the variables of options that cannot be used together with those that were typed.
pub(super) fn give_way(command: &Command, words: &[OsString]) -> Command {
    let Some(Leaf { command: typed, matches }) = leaf(command, words) else { return command.clone() };
    let by_hand = |arg: &&Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let hands: Vec<&Arg> = typed.get_arguments().filter(by_hand).collect();
    let mut silent: HashSet<String> = HashSet::new();
    for arg in typed.get_arguments().filter(|arg| arg.get_env().is_some() && !by_hand(arg)) {
        let conflicts = |one: &Arg, other: &Arg| {
            typed.get_arg_conflicts_with(one).iter().any(|conflict| conflict.get_id() == other.get_id())
        };
        if hands.iter().any(|hand| conflicts(hand, arg) || conflicts(arg, hand)) {
            silent.insert(arg.get_id().to_string());
        }
    }
    let path = typed.get_bin_name().unwrap_or_default().to_owned();
    let mut command = command.clone();
    without(&mut command, path.split(' ').skip(1), &silent);
    command
}

fn without<'a>(command: &mut Command, mut path: impl Iterator<Item = &'a str>, silent: &HashSet<String>) {
    if let Some(below) = path.next().and_then(|name| command.find_subcommand_mut(name)) {
        return without(below, path, silent);
    }
    let quiet = |arg: Arg| if silent.contains(arg.get_id().as_str()) { arg.env(None::<&str>) } else { arg };
    *command = std::mem::take(command).mut_args(quiet);
}
