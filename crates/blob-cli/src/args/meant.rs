//! What was probably meant by a command, an option or a value that is none: by what other tools call it, else by its
//! letters.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::refusal::Leaf;
use crate::ui::near::nearest;

/// What other tools call a command: the words that lead to where it was typed, its names there, and what to do here.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("blob", "delete remove del untag unlink erase", "`blob rm` deletes tags and archives"),
    ("blob", "info show describe manifest", "`blob inspect` shows what an archive is made of"),
    ("blob", "digest resolve", "`blob inspect --format '{{.digest}}' REF` prints the digest"),
    ("blob", "list dir ll", "`blob ls` lists files, `blob tags` the tags of a repository"),
    ("blob", "extract fetch get restore clone checkout", "`blob pull` extracts an archive"),
    ("blob", "upload put backup publish create add", "`blob push` stores a directory as an archive"),
    ("blob", "init", "nothing needs to be prepared: `blob push` makes the repository"),
    ("blob", "discover", "`blob referrers` lists what refers to an archive"),
    ("blob", "sbom", "`blob attach` attaches a bill of materials, `blob download` fetches one"),
    ("blob", "umount unmount", "`umount DIR` ends a mount, and so does Ctrl-C at its `blob mount`"),
    ("blob", "auth signin", "`blob login` keeps a login, `blob logout` forgets it"),
    ("blob", "signout", "`blob logout` forgets a login"),
    (
        "blob",
        "sync",
        "`blob pull --sync --delete` makes a directory as an archive is, `blob copy` copies between registries",
    ),
    ("blob", "mirror clone-repo promote", "`blob copy` copies between registries and layouts"),
    ("blob", "mv move rename", "`blob tag` gives an archive another name, `blob rm` takes the old one away"),
    ("blob", "browse tui ui", "`blob open` browses an archive"),
    ("blob", "search locate", "`blob find` looks for files by name, size and time, `blob grep` in their contents"),
    ("blob", "rg ripgrep egrep", "`blob grep` searches the contents of files"),
    ("blob", "size df", "`blob du` adds up sizes, `blob cache status` says how full the cache is"),
    ("blob", "view print type head tail less", "`blob cat` writes a file to standard output"),
    ("blob", "tar zip archive", "`blob export` writes a tar stream or a ZIP file, `blob push REF -` reads tar"),
    ("blob", "fsck validate", "`blob check` checks an archive, `blob cache verify` the cache"),
    (
        "blob",
        "prune forget cleanup clean purge",
        "`blob cache prune` makes room in the cache, `blob gc` in a layout or the directory of a registry",
    ),
    ("blob", "keygen gen-key genkey generate-key", "`blob generate-key-pair` makes keys"),
    ("blob", "hash sha256sum checksum", "`blob stat` shows the hash of a file"),
    ("blob", "http https httpd website www webdav", "`blob web` shows an archive to browsers"),
    ("blob", "daemon registry server start", "`blob serve` is a registry"),
    ("blob", "settings setup configure", "`blob config` shows and changes the configuration"),
    ("blob", "repo repository repositories catalog", "`blob repos` lists repositories, `blob tags` the tags of one"),
    ("blob", "status", "`blob cache status` says how full the cache is, `blob doctor` what is in the way"),
    ("blob", "unset", "`blob alias rm` and `blob config unset` take names and settings away"),
    ("blob cache", "info show list ls size du stat", "`blob cache status` says how full the cache is"),
    ("blob cache", "rm remove delete clean purge reset empty", "`blob cache clear` empties it"),
    ("blob cache", "gc trim", "`blob cache prune` makes room"),
    ("blob cache", "check fsck", "`blob cache verify` checks it"),
    ("blob cache", "dir where", "`blob cache path` says where it is"),
    ("blob config", "ls dump view print", "`blob config show` lists what is in force"),
    ("blob config", "rm remove delete del", "`blob config unset` takes a setting away"),
    ("blob config", "add put", "`blob config set` changes a setting"),
    ("blob config", "check verify lint", "`blob config validate` checks the files"),
    ("blob alias", "show get", "`blob alias list` lists the names"),
    ("blob alias", "delete del", "`blob alias rm` forgets a name"),
    ("blob alias", "create new", "`blob alias add` makes a name"),
    ("blob policy", "explain why", "`blob verify --explain REF` says what each policy looked at"),
    ("blob policy", "new create generate template", "`blob policy init` writes a policy file to begin with"),
    ("blob policy", "validate lint verify", "`blob policy check` reads policy files, `blob policy test` tries them"),
];

/// What other tools call an option: the command that it was typed for, or any, its names, and what to do here.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("blob login", "-p --password", "--password-stdin reads it from standard input, and BLOB_PASSWORD holds it"),
    ("", "--password", "--password-stdin reads it from standard input, and BLOB_PASSWORD holds it"),
    (
        "",
        "--insecure --tls-verify --src-tls-verify --dest-tls-verify --insecure-skip-tls-verify --skip-tls-verify -k",
        "--ca-file names the certificate authority of a registry, --plain-http speaks without TLS",
    ),
    ("", "--cacert --ca --ca-cert --tls-ca", "did you mean `--ca-file`?"),
    ("", "--concurrency --parallel --parallelism --threads --transfers --max-concurrent", "did you mean `--jobs`?"),
    ("", "--json", "did you mean `--output json`?"),
    ("", "--no-progress", "did you mean `--progress never`?"),
    ("", "--silent", "did you mean `--quiet`?"),
    ("", "--debug --trace", "`-vv` tells every request"),
    ("", "--config-file", "did you mean `--config`?"),
    ("", "--cache-only", "did you mean `--offline`?"),
    ("", "--authfile --auth-file", "did you mean `--registry-config`?"),
    ("", "--digestfile --iidfile", "did you mean `--digest-file`?"),
    ("", "--dryrun -n --simulate --what-if", "did you mean `--dry-run`?"),
    ("", "--retry --max-retries", "did you mean `--retries`?"),
    ("", "--connect-timeout --max-time", "did you mean `--timeout`?"),
    ("", "--yes --assume-yes", "did you mean `--force`?"),
    ("", "--filter --only", "did you mean `--include`?"),
    ("", "--ignore --skip", "did you mean `--exclude`?"),
    ("", "--label", "did you mean `--annotation`?"),
    ("", "--max-depth", "did you mean `--level`?"),
    ("blob attach", "--media-type", "the media type of a file stands behind it, as in sbom.json:application/spdx+json"),
    ("blob referrers", "--download -d", "`blob download --digest DIGEST REF` fetches one"),
    (
        "blob attach",
        "--file --sbom --predicate",
        "files are operands, behind the archive; `blob attest` signs predicates",
    ),
    ("blob load", "-i --input", "the file is the first operand"),
    ("blob download", "-d --directory --dest --output-dir", "the destination is the last operand"),
    ("blob cp", "-t --target-directory", "the directory is the last operand"),
    ("blob cp", "--strip --flatten", "--strip-components N takes the first names off, --flat all but the last"),
    ("blob ls", "--ncdu", "`blob du --ncdu` writes what ncdu reads"),
    ("blob pull", "--strip --strip-path", "did you mean `--strip-components`?"),
    ("blob grep", "-b --byte-offset --column --vimgrep", "`-o jsonl` has the places of matches"),
    ("blob rm", "-f --force", "did you mean `--yes`?"),
    ("blob export", "--zip", "`-a zip` writes a ZIP file"),
    ("blob export", "--tar", "a tar stream is what it writes anyway"),
    ("blob cp", "-r -R --recursive", "directories are copied with all that is in them"),
    (
        "blob grep",
        "-P --perl-regexp --pcre2",
        "patterns have no look-around and no back-references here; leave it out for all others",
    ),
    (
        "blob grep",
        "-E --extended-regexp -G --basic-regexp",
        "patterns are extended regular expressions in any case: leave it out",
    ),
    ("blob grep", "-L", "did you mean `--files-without-match`?"),
    (
        "blob grep",
        "-z --null-data --search-zip",
        "-U searches across lines; what is compressed within an archive is searched as it is",
    ),
    (
        "blob grep",
        "--hidden --no-ignore -u --unrestricted",
        "every file of an archive is searched in any case: leave it out",
    ),
    ("blob grep", "-t --type -T --type-not", "-g '*.rs' takes files by their names"),
    ("blob grep", "-s --no-messages", "2>/dev/null leaves errors out; the exit code tells"),
    ("blob push", "-C --workdir --directory --cwd", "the directory is the last operand"),
    ("blob pull", "-C --directory --dest --destination --target --to", "the directory is the last operand"),
];

/// What was probably meant.
pub(super) fn meant(root: &Command, leaf: Option<&Leaf>, words: &[OsString], error: &clap::Error) -> Option<String> {
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(one)) => Some(one.as_str()),
        _ => None,
    };
    let command = leaf.map_or(root, |leaf| &leaf.command);
    let above = command.get_bin_name().unwrap_or_else(|| command.get_name());
    match error.kind() {
        ErrorKind::InvalidSubcommand if is_second_topic(words, said(ContextKind::InvalidSubcommand)?) => {
            Some(format!("`blob help {}` is the help of one command", words[2].to_string_lossy()))
        }
        ErrorKind::InvalidSubcommand => subcommand(command, above, said(ContextKind::InvalidSubcommand)?),
        ErrorKind::UnknownArgument => option(command, above, said(ContextKind::InvalidArg)?),
        ErrorKind::InvalidValue => {
            let Some(ContextValue::Strings(known)) = error.get(ContextKind::ValidValue) else { return None };
            nearest(said(ContextKind::InvalidValue)?, known.iter().map(String::as_str)).map(asked)
        }
        _ => None,
    }
}

/// Whether `typed` is the second command that somebody wants help about, at once.
fn is_second_topic(words: &[OsString], typed: &str) -> bool {
    words.get(1).is_some_and(|word| word == "help") && words.iter().skip(3).any(|word| word == typed)
}

fn asked(name: &str) -> String {
    format!("did you mean `{name}`?")
}

/// The sentence for `typed`, where a table has it.
fn known(table: &[(&str, &str, &'static str)], above: &str, typed: &str) -> Option<&'static str> {
    let here = |of: &str| of.is_empty() || of == above;
    table.iter().find(|(of, names, _)| here(of) && names.split(' ').any(|name| name == typed)).map(|found| found.2)
}

fn subcommand(command: &Command, above: &str, typed: &str) -> Option<String> {
    if let Some(sentence) = known(COMMANDS, above, typed) {
        return Some(sentence.into());
    }
    let visible = command.get_subcommands().filter(|below| !below.is_hide_set());
    nearest(typed, visible.flat_map(Command::get_name_and_visible_aliases)).map(asked)
}

fn option(command: &Command, above: &str, typed: &str) -> Option<String> {
    let name = typed.split('=').next().unwrap_or(typed);
    let options: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    // `did you mean` is for commands that have what is meant.
    let there = |sentence: &str| {
        let Some((_, meant)) = sentence.split_once("did you mean `--") else { return true };
        let long = meant.split([' ', '`']).next();
        options.iter().any(|arg| arg.get_long().is_some() && arg.get_long() == long)
    };
    if let Some(sentence) = known(OPTIONS, above, name).filter(|sentence| there(sentence)) {
        return Some(sentence.into());
    }
    let names = options.iter().flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default());
    nearest(name.strip_prefix("--")?, names).map(|near| asked(&format!("--{near}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The command at the end of `words`, which begin with its program.
    fn at(words: &str) -> Command {
        let mut command = super::super::command();
        for word in words.split(' ').skip(1) {
            let found = command.find_subcommand(word);
            command = found.unwrap_or_else(|| panic!("{words} is no command")).clone();
        }
        command
    }

    #[test]
    fn what_other_tools_say_is_none_of_our_words_and_leads_to_them() {
        let mut seen = BTreeSet::new();
        for (above, names, sentence) in COMMANDS {
            let command = at(above);
            for name in names.split(' ') {
                assert!(seen.insert((above, name)), "{above} {name} is there twice");
                assert!(command.find_subcommand(name).is_none(), "{above} {name} exists");
            }
            let named = sentence.split('`').skip(1).step_by(2);
            for words in named {
                let words: Vec<&str> = words
                    .split(' ')
                    .take_while(|word| {
                        word.chars().all(|it| it.is_ascii_lowercase() || it == '-') && !word.starts_with('-')
                    })
                    .collect();
                at(&words.join(" "));
            }
        }
    }

    #[test]
    fn options_that_are_meant_exist() {
        let mut all = BTreeSet::new();
        let mut open = vec![super::super::command()];
        while let Some(command) = open.pop() {
            all.extend(command.get_arguments().filter_map(Arg::get_long).map(str::to_owned));
            open.extend(command.get_subcommands().cloned());
        }
        for (above, _, sentence) in OPTIONS {
            if !above.is_empty() {
                at(above);
            }
            for word in sentence.split([' ', '`', ',', '?']).filter_map(|word| word.strip_prefix("--")) {
                assert!(all.contains(word), "--{word} of {sentence:?}");
            }
        }
    }
}
