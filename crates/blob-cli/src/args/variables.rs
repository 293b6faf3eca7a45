//! Variables in the place of options that were not typed.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command};

use super::refusal::{Leaf, leaf};

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
    let taken =
        |arg: &&Arg| matches!(arg.get_action(), ArgAction::Append) && !super::ADDING.contains(&arg.get_id().as_str());
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
