//! Help as wide as the terminal: what stands behind the options is a text of paragraphs and of examples with remarks, and
//! a remark that finds no room beside its example goes below it.

use std::ffi::OsString;
use std::io::IsTerminal as _;

use clap::Command;

use super::refusal::leaf;
use crate::error::Kind;
use crate::ui::output::complain;

/// The widest that help is set.
const WIDEST: usize = 110;

/// How wide it is where nobody says how wide the terminal is.
const USUAL: usize = 100;

/// Asks for help once more, for how wide the terminal is. Does not come back if that is help.
pub(super) fn show(command: &mut Command, words: &[OsString]) {
    let width = width();
    let narrow = std::mem::take(command).term_width(width);
    *command = narrow;
    set(command, width);
    if let Err(help) = command.try_get_matches_from_mut(words) {
        help.exit();
    }
}

/// As [`show`], for who typed too little to say what is wanted: what is needed most of the time, on standard error.
pub(super) fn show_short(command: &mut Command, words: &[OsString]) {
    let width = width();
    let narrow = std::mem::take(command).term_width(width);
    *command = narrow;
    set(command, width);
    if let Some(mut leaf) = leaf(command, words) {
        let help = leaf.command.render_help();
        let text = if std::io::stderr().is_terminal() { help.ansi().to_string() } else { help.to_string() };
        complain(&text);
        std::process::exit(i32::from(Kind::Usage.exit_code()));
    }
}

fn width() -> usize {
    let named = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = terminal().or_else(named).filter(|width| *width > 0);
    width.unwrap_or(USUAL).min(WIDEST)
}

#[cfg(unix)]
fn terminal() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col))
}

#[cfg(not(unix))]
fn terminal() -> Option<usize> {
    None
}

fn set(command: &mut Command, width: usize) {
    if let Some(text) = command.get_after_help().map(ToString::to_string) {
        *command = std::mem::take(command).after_help(laid_out(&text, width));
    }
    command.get_subcommands_mut().for_each(|below| set(below, width));
}

/// `text` without lines of examples that are wider than `width` because of their remarks.
fn laid_out(text: &str, width: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let blocks = lines.chunk_by(|one, other| one.starts_with("  ") == other.starts_with("  "));
    let set = blocks.flat_map(|block| {
        let is_wide = |line: &&str| line.starts_with("  ") && line.chars().count() > width;
        let below = block.iter().any(is_wide);
        block.iter().map(move |line| match remark(line).filter(|_| below) {
            Some((example, remark)) => format!("{example}\n      {remark}"),
            None => (*line).to_owned(),
        })
    });
    set.collect::<Vec<_>>().join("\n")
}

/// An example and what stands beside it, two spaces or more away.
fn remark(line: &str) -> Option<(&str, &str)> {
    let start = line.len() - line.trim_start().len();
    let (example, remark) = line[start..].split_once("  ")?;
    Some((&line[..start + example.len()], remark.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_go_where_there_is_room() {
        let text =
            "Examples:\n  blob ls a    lists\n  blob cat a b\n\nA paragraph  that is wrapped elsewhere, however long.";
        assert_eq!(laid_out(text, 40), text);
        let narrow = "Examples:\n  blob ls a\n      lists\n  blob cat a b\n\nA paragraph  that is wrapped elsewhere, however long.";
        assert_eq!(laid_out(text, 19), narrow);
    }

    /// What stands behind options, of every command.
    fn texts(command: &Command) -> Vec<(String, String)> {
        let own = command.get_after_help().map(|text| (command.get_name().to_owned(), text.to_string()));
        own.into_iter().chain(command.get_subcommands().flat_map(texts)).collect()
    }

    #[test]
    fn examples_fit_on_any_terminal() {
        for (name, text) in texts(&super::super::command()) {
            for line in laid_out(&text, 80).lines().filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
            // A paragraph that is broken by hand is broken twice on a terminal that is less wide.
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.windows(2) {
                let is_text = |line: &str| !line.is_empty() && !line.starts_with("  ");
                assert!(!is_text(pair[0]) || !is_text(pair[1]), "{name}: {} | {}", pair[0], pair[1]);
            }
        }
    }
}
