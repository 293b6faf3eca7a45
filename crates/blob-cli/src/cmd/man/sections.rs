//! The parts of a manual page that are not in the definition of the command line: examples, exit codes, variables, files.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

/// What each exit code says.
pub(super) const EXIT_CODES: [(&str, &str); 11] = [
    ("0", "Done; for diff and check: nothing differs."),
    ("1", "Failed; for diff and check: something differs."),
    ("2", "Wrong usage or configuration; for diff any failure that has no other code."),
    ("3", "An archive, tag, file or directory does not exist."),
    ("4", "Credentials are missing, wrong or not enough."),
    ("5", "The network failed, or the registry is overloaded."),
    ("6", "A policy did not admit the archive, or it is not verified."),
    ("7", "Content does not match its hash."),
    ("8", "Done in part: of several tags or references some were, and the message says which were not."),
    ("130", "Interrupted (SIGINT)."),
    ("143", "Terminated (SIGTERM)."),
];

/// Variables that no option has.
pub(super) const VARIABLES: [(&str, &str); 11] = [
    ("BLOB_PASSWORD", "The password for BLOB_USERNAME."),
    ("BLOB_REGISTRY", "The registry that BLOB_USERNAME and BLOB_PASSWORD are for, where a command names several."),
    ("BLOB_VERBOSE", "How much is told on standard error, 0 to 3."),
    ("BLOB_KEY_PASSWORD", "The password of a private key."),
    ("NO_COLOR, CLICOLOR_FORCE", "Whether colour is used, unless an option says so."),
    ("SOURCE_DATE_EPOCH", "The latest time that archives record, in seconds since 1970."),
    ("XDG_CONFIG_HOME, XDG_CACHE_HOME", "Where the configuration and the cache are looked for."),
    ("TMPDIR", "Where archives are assembled, instead of beside the cache."),
    ("DOCKER_CONFIG, REGISTRY_AUTH_FILE", "Where logins are looked for."),
    ("EDITOR, VISUAL", "What opens the configuration in blob config edit."),
    ("HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "The proxy for requests."),
];

/// Files that are read and written.
pub(super) const FILES: [(&str, &str); 6] = [
    ("~/.config/blob/config.yaml", "The user's configuration."),
    (".blob.yaml, blob.yaml", "The project's, in the current directory or above it."),
    ("/etc/blob/config.yaml", "The system's."),
    ("~/.cache/blob", "What was fetched and kept; anything in it can be deleted at any time."),
    ("~/.docker/config.json", "Logins; those of Podman and Skopeo are found as well."),
    (".blobignore", "What a push leaves out, by the rules of .gitignore files."),
];

/// The variables of the options of a command, those of all commands left out unless it is the first.
pub(super) fn variables(command: &Command) -> Vec<(String, String)> {
    let main = command.get_name() == "blob";
    let own = command.get_arguments().filter(|arg| main || !arg.is_global_set());
    let named = own.filter_map(|arg| {
        let variable = arg.get_env()?.to_str()?.to_owned();
        Some((variable, format!("--{}", arg.get_long()?)))
    });
    named.collect()
}

/// How the command is typed: its own options with their values, those of all commands, operands.
pub(super) fn synopsis(command: &Command, name: &str) -> String {
    let main = name == "blob";
    let mut parts = vec![format!("\\fB{}\\fR", escaped(command.get_bin_name().unwrap_or(name)))];
    let own = command.get_arguments().filter(|arg| !main && !arg.is_global_set() && !arg.is_hide_set());
    for arg in own.filter(|arg| !arg.is_positional() && arg.get_id() != "help") {
        parts.push(option(arg));
    }
    parts.push("[\\fIGLOBAL OPTIONS\\fR]".into());
    for arg in command.get_positionals() {
        let more = if matches!(arg.get_action(), ArgAction::Append) { "..." } else { "" };
        let named = format!("\\fI{}\\fR{more}", escaped(&values(arg)));
        parts.push(if arg.is_required_set() { named } else { format!("[{named}]") });
    }
    if command.has_subcommands() {
        parts.push("\\fICOMMAND\\fR [...]".into());
    }
    format!(".SH SYNOPSIS\n{}\n", parts.join("\n"))
}

/// `[-p|--prefix PATH]`.
fn option(arg: &Arg) -> String {
    let dashed = |name: String| format!("\\fB{}\\fR", escaped(&name));
    let short = arg.get_short().map(|letter| dashed(format!("-{letter}")));
    let long = arg.get_long().map(|name| dashed(format!("--{name}")));
    let names = [short, long].into_iter().flatten().collect::<Vec<_>>().join("|");
    let value = format!("\\fI{}\\fR", escaped(&values(arg)));
    let value = match arg.get_num_args() {
        _ if !arg.get_action().takes_values() => String::new(),
        Some(count) if count.min_values() == 0 => format!("[={value}]"),
        _ => format!(" {value}"),
    };
    let more = if matches!(arg.get_action(), ArgAction::Append) { "..." } else { "" };
    if arg.is_required_set() { format!("{names}{value}{more}") } else { format!("[{names}{value}]{more}") }
}

/// What the values of an argument are called.
fn values(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().map(clap::builder::Str::as_str).collect::<Vec<_>>().join(" ")
}

/// The sections behind those of the options.
pub(super) fn of(command: &Command, name: &str) -> String {
    let mut page = String::new();
    if let Some(text) = command.get_after_help() {
        examples(&mut page, &text.to_string());
    }
    let codes = EXIT_CODES.map(|(code, meaning)| (code.to_owned(), meaning.to_owned()));
    list(&mut page, "EXIT STATUS", &codes);
    let mut all: Vec<(String, String)> = variables(command);
    for (_, option) in &mut all {
        *option = format!("The same as {option}.");
    }
    if name == "blob" {
        all.extend(VARIABLES.map(|(variable, meaning)| (variable.to_owned(), meaning.to_owned())));
    }
    if !all.is_empty() {
        list(&mut page, "ENVIRONMENT", &all);
    }
    if name == "blob" {
        list(&mut page, "FILES", &FILES.map(|(file, meaning)| (file.to_owned(), meaning.to_owned())));
    } else {
        let above = name.strip_suffix(command.get_name()).and_then(|above| above.strip_suffix('-')).unwrap_or("blob");
        let _ = write!(page, ".SH \"SEE ALSO\"\n.BR {} (1)\n", escaped(above));
    }
    page
}

/// What stands behind the options in help: lines below a heading that are indented stay lines.
fn examples(page: &mut String, text: &str) {
    page.push_str(".SH EXAMPLES\n");
    let mut verbatim = false;
    for line in text.lines() {
        let indented = line.starts_with("  ");
        if indented != verbatim {
            page.push_str(if indented { ".PP\n.nf\n.RS 4\n" } else { ".RE\n.fi\n" });
            verbatim = indented;
        }
        match line.trim() {
            "" if !verbatim => page.push_str(".PP\n"),
            "" | "Examples:" => {}
            line => page.extend([escaped(line), "\n".into()]),
        }
    }
    if verbatim {
        page.push_str(".RE\n.fi\n");
    }
    // A paragraph that nothing follows is none.
    while let Some(rest) = page.strip_suffix(".PP\n") {
        page.truncate(rest.len());
    }
    *page = page.replace(".PP\n.PP\n", ".PP\n").replace(".SH EXAMPLES\n.PP\n", ".SH EXAMPLES\n");
}

fn list(page: &mut String, heading: &str, items: &[(String, String)]) {
    let _ = writeln!(page, ".SH \"{heading}\"");
    for (name, meaning) in items {
        let _ = write!(page, ".TP\n\\fB{}\\fR\n{}\n", escaped(name), escaped(meaning));
    }
}

/// Text that no line of is taken for a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...").replace('→', "\\(->");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_requests() {
        for (text, expected) in [(".blobignore", "\\&.blobignore"), ("a-b", "a\\-b"), ("\\", "\\e"), ("'x'", "\\&'x'")]
        {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn examples_stay_lines() {
        let mut page = String::new();
        examples(&mut page, "Examples:\n  blob ls a\n  blob ls b\n\nAnd more.");
        assert_eq!(page, ".SH EXAMPLES\n.nf\n.RS 4\nblob ls a\nblob ls b\n.RE\n.fi\n.PP\nAnd more.\n");
    }
}
