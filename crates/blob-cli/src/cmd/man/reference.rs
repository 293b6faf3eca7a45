//! All commands and options in Markdown, for the documentation.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::sections::{EXIT_CODES, FILES, VARIABLES};

/// The whole reference.
pub(super) fn markdown(command: &Command) -> String {
    let mut page = String::from(
        "# Reference\n\nEvery command and option, as `blob man --markdown` writes them. An option is given on the command \
         line, else by its\nvariable, else by the [configuration](configuration.md), else by default.\n\n## Global \
         options\n\nThey stand before or behind the command.\n\n",
    );
    options(&mut page, command, true);
    below(&mut page, command, "blob");
    table(&mut page, "Exit codes", ("Code", "Meaning"), &EXIT_CODES);
    page.push_str("Options apart, these variables are read:\n\n");
    table(&mut page, "Environment", ("Variable", "Meaning"), &VARIABLES);
    table(&mut page, "Files", ("File", "Meaning"), &FILES);
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// The commands below `command`, which is called `name`.
fn below(page: &mut String, command: &Command, name: &str) {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("{name} {}", command.get_name());
        let _ = write!(page, "## `{name}`\n\n{}\n\n", about(command));
        let aliases: Vec<String> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
        if !aliases.is_empty() {
            let _ = write!(page, "Also called {}.\n\n", aliases.join(", "));
        }
        let positionals: Vec<&Arg> = command.get_positionals().collect();
        if !positionals.is_empty() {
            page.push_str("| Operand | Meaning |\n|---|---|\n");
            for arg in positionals {
                let _ = writeln!(page, "| `{}` | {} |", value(arg), cell(arg));
            }
            page.push('\n');
        }
        options(page, command, false);
        below(page, command, &name);
    }
}

fn about(command: &Command) -> String {
    let text = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    if text.ends_with(['.', ':']) { text } else { text + "." }
}

/// The options of a command: those of all commands, or those of this one.
fn options(page: &mut String, command: &Command, global: bool) {
    let wanted = |arg: &&Arg| {
        !arg.is_positional() && !arg.is_hide_set() && arg.is_global_set() == global && arg.get_id() != "help"
    };
    let options: Vec<&Arg> = command.get_arguments().filter(wanted).collect();
    if options.is_empty() {
        return;
    }
    page.push_str("| Option | Variable | Meaning |\n|---|---|---|\n");
    for arg in options {
        let short = arg.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
        let Some(long) = arg.get_long() else { continue };
        let optional = arg.is_require_equals_set();
        let value = match value(arg) {
            _ if !arg.get_action().takes_values() => String::new(),
            value if optional => format!("[={value}]"),
            value => format!(" {value}"),
        };
        let variable = match arg.get_env().and_then(|name| name.to_str()) {
            Some(name) => format!("`{name}`"),
            None if long == "verbose" => "`BLOB_VERBOSE`".into(),
            None => String::new(),
        };
        let _ = writeln!(page, "| {short}`--{long}{value}` | {variable} | {} |", cell(arg));
    }
    page.push('\n');
}

fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    // A bar would end the cell.
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ").replace('|', "/")
}

/// What an argument is for, in one cell of a table.
fn cell(arg: &Arg) -> String {
    let text = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let words: Vec<String> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let hidden = arg.is_hide_possible_values_set() || !arg.get_action().takes_values();
    let text = if hidden || words.is_empty() { text } else { format!("{text} One of {}.", words.join(", ")) };
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn table<const N: usize>(page: &mut String, heading: &str, (left, right): (&str, &str), rows: &[(&str, &str); N]) {
    let _ = write!(page, "## {heading}\n\n| {left} | {right} |\n|---|---|\n");
    for (name, meaning) in rows {
        let names: Vec<String> = name.split(", ").map(|name| format!("`{name}`")).collect();
        let _ = writeln!(page, "| {} | {meaning} |", names.join(", "));
    }
    page.push('\n');
}
