//! What was typed.

use std::ffi::OsString;
use std::mem::ManuallyDrop;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

mod alone;
mod global;
mod help;
mod meant;
mod refusal;
mod variables;

pub(crate) use self::global::{Caching, Format, Global, LogFormat, MAX_JOBS, ProgressMode, When};
use self::variables::{add_variables, check_adding};
use crate::cmd;
use crate::error::Failure;

const EXAMPLES: &str = "\
Examples:
  blob push localhost:5000/team/assets:v1 ./assets      push a directory
  blob ls -lh localhost:5000/team/assets:v1 /images     list a directory of the archive
  blob cat localhost:5000/team/assets:v1 docs/intro.md  read one file; only its bytes are fetched
  blob cp localhost:5000/team/assets:v1:/images ./out   copy a directory out
  blob pull localhost:5000/team/assets:v1 ./copy        extract everything
  blob serve --listen 127.0.0.1:5000 --root ./registry  be the registry

References:
  HOST[:PORT]/REPOSITORY:TAG
  HOST[:PORT]/REPOSITORY@sha256:…
  oci:DIR:TAG                      an OCI image layout on disk
  oci-archive:FILE:TAG             one in a tar file

Registries on this machine are spoken to over plain HTTP; others need --plain-http for that.

Exit codes:
  0 done              1 failed            2 wrong usage       3 not found
  4 authentication    5 network           6 verification      7 wrong hash
  8 done in part      130 interrupted     143 terminated

Every option has a variable: BLOB_OUTPUT is --output, and BLOB_PULL_OVERWRITE is --overwrite of `blob pull`. Options that \
may be repeated have a value on each line of theirs.";

/// Store directories as archives in OCI registries, and read single files of them without fetching the rest.
#[derive(Debug, Parser)]
#[command(name = "blob", version, max_term_width = 110, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(subcommand_required = true, infer_long_args = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Push(cmd::push::PushArgs),
    Pull(cmd::pull::PullArgs),
    Pack(cmd::pack::PackArgs),
    Unpack(cmd::pack::UnpackArgs),
    Cat(cmd::cat::CatArgs),
    Ls(cmd::ls::LsArgs),
    Tree(cmd::tree::TreeArgs),
    Cp(cmd::cp::CpArgs),
    Inspect(cmd::inspect::InspectArgs),
    #[cfg(all(feature = "fuse", target_os = "linux"))]
    Mount(cmd::mount::MountArgs),
    Web(cmd::web::WebArgs),
    #[cfg(feature = "tui")]
    Open(cmd::open::OpenArgs),
    Sign(cmd::sign::SignArgs),
    Attest(cmd::sign::AttestArgs),
    GenerateKeyPair(cmd::key_pair::KeyPairArgs),
    Verify(cmd::verify::VerifyArgs),
    VerifyBundle(cmd::verify_bundle::VerifyBundleArgs),
    Policy(cmd::policy::PolicyArgs),
    Tag(cmd::tag::TagArgs),
    Tags(cmd::tags::TagsArgs),
    Repos(cmd::repos::ReposArgs),
    Copy(cmd::copy::CopyArgs),
    Save(cmd::copy::saved::SaveArgs),
    Load(cmd::copy::saved::LoadArgs),
    Rm(cmd::rm::RmArgs),
    Referrers(cmd::referrers::ReferrersArgs),
    Attach(cmd::attach::AttachArgs),
    Download(cmd::download::DownloadArgs),
    Diff(cmd::diff::DiffArgs),
    Check(cmd::check::CheckArgs),
    Export(cmd::export::ExportArgs),
    Find(cmd::find::FindArgs),
    Grep(cmd::grep::GrepArgs),
    Du(cmd::du::DuArgs),
    Stat(cmd::stat::StatArgs),
    Cache(cmd::cache::CacheArgs),
    Gc(cmd::gc::GcArgs),
    Login(cmd::login::LoginArgs),
    Logout(cmd::login::LogoutArgs),
    Alias(cmd::alias::AliasArgs),
    Config(cmd::config::ConfigArgs),
    Doctor(cmd::doctor::DoctorArgs),
    Serve(cmd::serve::ServeArgs),
    #[command(visible_alias = "completions")]
    Completion(cmd::completion::CompletionArgs),
    Man(cmd::man::ManArgs),
    Schema(cmd::schema::SchemaArgs),
    Version(cmd::version::VersionArgs),
}

impl Command {
    /// Whether no cache can stand in for the registry.
    pub(crate) fn asks_the_registry(&self) -> bool {
        matches!(
            self,
            Self::Push(_)
                | Self::Tag(_)
                | Self::Tags(_)
                | Self::Copy(_)
                | Self::Save(_)
                | Self::Load(_)
                | Self::Rm(_)
                | Self::Referrers(_)
                | Self::Attach(_)
                | Self::Download(_)
                | Self::Check(_)
                | Self::Sign(_)
                | Self::Attest(_)
                | Self::Login(_)
        )
    }

    /// Whether it goes on until somebody ends it, and then has done what it should.
    pub(crate) fn stays(&self) -> bool {
        match self {
            Self::Serve(_) | Self::Web(_) => true,
            #[cfg(all(feature = "fuse", target_os = "linux"))]
            Self::Mount(_) => true,
            _ => false,
        }
    }

    /// Whether what it writes to standard output is no document, so that templates have nothing to act on.
    fn writes_content(&self) -> bool {
        match self {
            Self::Cat(_) | Self::Completion(_) => true,
            #[cfg(feature = "tui")]
            Self::Open(_) => true,
            Self::Export(args) => args.is_to_output(),
            Self::Inspect(args) => args.is_raw(),
            Self::Du(args) => args.is_for_ncdu(),
            Self::Policy(args) => args.writes_content(),
            Self::Download(args) => args.is_to_output(),
            _ => false,
        }
    }
}

/// The command line, in which every option has a variable. Those that have no name of their own are called after their
/// command and themselves: `BLOB_PULL_OVERWRITE`, `BLOB_CACHE_PRUNE_MAX`.
pub(crate) fn command() -> clap::Command {
    let mut command = Cli::command();
    add_variables(&mut command, "BLOB");
    command
}

/// Refuses a template that was typed where there is nothing to fill it with.
fn check_format(cli: &Cli, matches: &ArgMatches) -> Result<(), Failure> {
    let typed = matches.value_source("format") == Some(ValueSource::CommandLine);
    if !typed || !cli.command.writes_content() {
        return Ok(());
    }
    let message = "--format is a template over JSON, and this command writes content";
    let failure = Failure::usage(message);
    Err(failure.with_hint(match cli.command {
        Command::Export(_) if matches!(cli.global.format.as_deref(), Some("zip" | "tar")) => {
            "how an archive is written is said by --archive tar or zip"
        }
        Command::Export(_) => "what export writes is an archive; --file keeps it, and then there is a result to format",
        Command::Inspect(_) => "--raw writes the manifest as it is: leave out one of the two",
        _ => "leave --format out",
    }))
}

/// Refuses a list of operands that has no last one of another kind.
fn check_operands(cli: &Cli) -> Result<(), Failure> {
    let (operands, missing, usage) = match &cli.command {
        Command::Cp(args) => (args.operands(), "<DEST>", cmd::cp::USAGE),
        Command::Save(args) => (args.operands(), "<FILE>", cmd::copy::saved::USAGE),
        _ => return Ok(()),
    };
    if operands > 1 {
        return Ok(());
    }
    let message = format!("requires at least 2 arg(s), only received {operands}: missing {missing}");
    Err(Failure::usage(message).with_hint(format!("usage: {}", usage.replacen(" [OPTIONS]", "", 1))))
}

/// Reads the command line. Help and version are written by clap, which is asked to exit then.
///
/// # Errors
/// What was typed makes no sense; and whether JSON was asked for, as far as that can be told.
pub(crate) fn parse(words: &[OsString]) -> Result<(Cli, ArgMatches), (Failure, Format)> {
    let words = &joined(words)[..];
    if let Some(read) = alone::alone(words).and_then(|command| read_alone(command, words)) {
        return Ok(read);
    }
    // It holds a thousand options, and taking it apart takes longer than reading them. The process ends soon.
    let mut known = ManuallyDrop::new(command());
    let words = variables::spread(&known, words);
    let read = |command: &mut clap::Command| {
        let matches = command.try_get_matches_from_mut(&words)?;
        Ok::<_, clap::Error>((read_matches(&matches)?, matches))
    };
    let parsed = read(&mut known).or_else(|error| match error.kind() {
        // What was typed comes before what the environment says.
        ErrorKind::ArgumentConflict => read(&mut variables::give_way(&command(), &words)),
        _ => Err(error),
    });
    if let Ok((cli, matches)) = &parsed {
        let checked =
            check_adding(&known, matches).and_then(|()| check_format(cli, matches)).and_then(|()| check_operands(cli));
        checked.map_err(|failure| (failure, format_of(&words)))?;
    }
    parsed.map_err(|error| {
        if matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        ) {
            if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                help::show_short(&mut command(), &words);
            } else if error.kind() != ErrorKind::DisplayVersion {
                help::show(&mut command(), &words);
            }
            error.exit();
        }
        (refusal::refusal(&command(), &words, &error), format_of(&words))
    })
}

/// `words` with `-U5` and `-U 5` of `diff` as `-U=5`: the number may be left out, and as every other program that knows the
/// option has it, a number behind it is its own.
fn joined(words: &[OsString]) -> Vec<OsString> {
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let mut words = words.to_vec();
    if !words.iter().any(|word| word == "diff") {
        return words;
    }
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    for at in (1..end).rev() {
        let Some(behind) = words[at].to_str().and_then(|word| word.strip_prefix("-U")) else { continue };
        let next = words[at + 1..end].first().and_then(|word| word.to_str());
        if is_number(behind) {
            words[at] = format!("-U={behind}").into();
        } else if let Some(number) = next.filter(|word| behind.is_empty() && is_number(word)) {
            words[at] = format!("-U={number}").into();
            words.remove(at + 1);
        }
    }
    words
}

/// What was typed, with the words of its command.
fn read_matches(matches: &ArgMatches) -> Result<Cli, clap::Error> {
    let mut cli = Cli::from_arg_matches(matches)?;
    let mut next = matches.subcommand();
    let mut words = Vec::new();
    while let Some((name, below)) = next {
        words.push(name);
        next = below.subcommand();
    }
    cli.global.words = words.join("-");
    Ok(cli)
}

/// What `words` say to a command line of one sub-command, if it understands them; else the whole finds out what is wrong.
fn read_alone(command: clap::Command, words: &[OsString]) -> Option<(Cli, ArgMatches)> {
    // As below: the process ends soon.
    let mut command = ManuallyDrop::new(command);
    let words = variables::spread(&command, words);
    let matches = command.try_get_matches_from_mut(&words).ok()?;
    let cli = read_matches(&matches).ok()?;
    check_adding(&command, &matches)
        .and_then(|()| check_format(&cli, &matches))
        .and_then(|()| check_operands(&cli))
        .ok()?;
    Some((cli, matches))
}

/// The ids of the options that were typed, rather than set in the environment or by default.
pub(crate) fn flags(matches: &ArgMatches) -> Vec<String> {
    let typed = matches.ids().filter(|id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine));
    typed.map(ToString::to_string).collect()
}

/// The format of errors about the command line itself.
fn format_of(words: &[OsString]) -> Format {
    let mut words = words.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    let mut named = std::env::var("BLOB_OUTPUT").ok();
    while let Some(word) = words.next() {
        if word == "-o" || word == "--output" {
            named = words.next().map(std::borrow::Cow::into_owned);
        } else if let Some(value) = word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o")) {
            named = Some(value.trim_start_matches('=').to_owned());
        }
    }
    if matches!(named.as_deref(), Some("json" | "jsonl")) { Format::Json } else { Format::Text }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::variables::LOWERING;
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn refused(line: &str) -> String {
        parse(&words(line)).unwrap_err().0.text()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every option of every command, with the words that lead to it.
    fn options(command: &clap::Command, above: &str) -> Vec<(String, clap::Arg)> {
        let own = command.get_arguments().filter(|arg| !arg.is_positional()).map(|arg| (above.to_owned(), arg.clone()));
        let below =
            command.get_subcommands().flat_map(|below| options(below, &format!("{above} {}", below.get_name())));
        own.chain(below).collect()
    }

    /// Commands that change nothing that stays, or are watched by whoever changes it.
    const READING: &str = "cat, ls, tree, inspect, open, mount, verify, verify-bundle, policy check, policy test, tags, repos, \
        referrers, diff, check, find, grep, du, stat, cache status, cache path, alias list, config show, config get, \
        config edit, config path, config validate, config reference, doctor, serve, web, completion, schema, version, help";

    #[test]
    fn whatever_writes_has_a_plan() {
        fn walk(command: &clap::Command, above: &str, without: &mut Vec<String>) {
            for below in command.get_subcommands() {
                let name = format!("{above}{}", below.get_name());
                if below.has_subcommands() {
                    walk(below, &format!("{name} "), without);
                } else if below.get_arguments().all(|arg| arg.get_long() != Some("dry-run")) {
                    without.push(name);
                }
            }
        }
        let mut without = Vec::new();
        walk(&command(), "", &mut without);
        let known: Vec<&str> = READING.split(", ").collect();
        let writing: Vec<_> = without.iter().filter(|name| !known.contains(&name.as_str())).collect();
        assert!(writing.is_empty(), "these have no --dry-run, and are not known to write nothing: {writing:?}");
    }

    #[test]
    fn every_option_has_a_variable_of_its_own() {
        let all = options(&command(), "blob");
        assert!(all.len() > 150, "{}", all.len());
        let mut seen = std::collections::BTreeMap::new();
        for (words, arg) in all {
            // `BLOB_VERBOSE` is a number, which the configuration reads.
            if arg.get_id() == "verbose" || arg.is_hide_set() || LOWERING.contains(&arg.get_id().as_str()) {
                continue;
            }
            let name =
                arg.get_env().and_then(|name| name.to_str()).unwrap_or_else(|| panic!("{words} {}", arg.get_id()));
            assert!(name.starts_with("BLOB_"), "{words} {}: {name}", arg.get_id());
            // Options with one name of their own for several commands mean the same in each.
            let other = seen.insert(name.to_owned(), arg.get_long().map(str::to_owned));
            assert!(other.is_none_or(|other| other.as_deref() == arg.get_long()), "{words} {}: {name}", arg.get_id());
        }
        for name in
            ["BLOB_PULL_OVERWRITE", "BLOB_CACHE_PRUNE_MAX", "BLOB_JOBS", "BLOB_PASSWORD_STDIN", "BLOB_COPY_ALL_TAGS"]
        {
            assert!(seen.contains_key(name), "{name}: {seen:?}");
        }
    }

    #[test]
    fn missing_operands_are_counted() {
        for (line, expected) in [
            ("blob push", "accepts 2 arg(s), received 0: missing <"),
            ("blob push -q h/r:t", "accepts 2 arg(s), received 1: missing <"),
            ("blob pull", "accepts between 1 and 2 arg(s), received 0: missing <"),
            ("blob cat h/r:t", "requires at least 2 arg(s), only received 1: missing <"),
            ("blob cp --flat x", "requires at least 2 arg(s), only received 1: missing <"),
            ("blob inspect", "accepts 1 arg(s), received 0: missing <"),
            ("blob config set timeout", "accepts 2 arg(s), received 1: missing <"),
            ("blob alias add x", "accepts 2 arg(s), received 1: missing <"),
            ("blob push a b c", "accepts 2 arg(s), received 3: what is \"c\"?"),
            ("blob pull a b c -q", "accepts between 1 and 2 arg(s), received 3: what is \"c\"?"),
            ("blob pull --delete a b", "missing --sync"),
        ] {
            let text = refused(line);
            assert!(text.starts_with(&format!("error: {expected}")), "{line}: {text}");
            assert!(text.contains("hint: usage: blob "), "{text}");
        }
    }

    #[test]
    fn slips_are_pointed_out() {
        assert!(refused("blob pusj a b").contains("did you mean `push`?"), "{}", refused("blob pusj a b"));
        assert!(refused("blob push --anotation a=b x y").contains("--annotation"));
        assert!(refused("blob ls x -o xml").contains("xml"));
        for (line, expected) in [
            ("blob ls x -o jsno", "did you mean `json`?"),
            ("blob remove x", "hint: `blob rm` deletes tags and archives; see `blob --help`"),
            ("blob auth login", "`blob login` keeps a login"),
            ("blob cache info", "`blob cache status` says"),
            ("blob login h -p x", "--password-stdin"),
            ("blob pull --parallel 3 a b", "did you mean `--jobs`?"),
            ("blob ls -h", "--help is the help"),
        ] {
            assert!(refused(line).contains(expected), "{line}: {}", refused(line));
        }
        // Nothing is better than something that is not alike.
        for line in ["blob diff --brief a b", "blob cp --range=1 a b", "blob xyzzy", "blob ls -o toml x"] {
            assert!(!refused(line).contains("did you mean"), "{line}: {}", refused(line));
        }
        assert!(refused("blob pusj a b").starts_with("error: unknown command \"pusj\" for \"blob\""));
        assert!(refused("blob ls --humann x").starts_with("error: unknown flag: --humann"));
        assert!(
            refused("blob tree -L x y").starts_with("error: invalid value 'x' for '--level <N>': expected a number\n")
        );
        assert!(
            refused("blob tree -L x y").contains("hint: usage: blob tree <REF>"),
            "{}",
            refused("blob tree -L x y")
        );
        assert!(refused("blob pull --overwrite if-changed a b").contains("write --overwrite=if-changed"));
    }

    #[test]
    fn options_stand_anywhere() {
        let before = parse(&words("blob --output json -vv ls -lh x")).unwrap();
        let after = parse(&words("blob ls x -lh -o json --verbose -v")).unwrap();
        for (cli, _) in [before, after] {
            assert_eq!((cli.global.output, cli.global.verbose), (Format::Json, 2));
        }
    }

    #[test]
    fn lines_around_a_difference_are_asked_for_as_everywhere() {
        for (line, expected) in [
            ("blob diff -U5 a b", "blob diff -U=5 a b"),
            ("blob diff -U 5 a b", "blob diff -U=5 a b"),
            ("blob diff a b -U12", "blob diff a b -U=12"),
            ("blob diff -U a b", "blob diff -U a b"),
            ("blob diff a b -U", "blob diff a b -U"),
            ("blob diff -U=0 5 6", "blob diff -U=0 5 6"),
            ("blob diff a -- -U5", "blob diff a -- -U5"),
            ("blob ls -U5 a", "blob ls -U5 a"),
        ] {
            assert_eq!(joined(&words(line)), words(expected), "{line}");
        }
        assert!(parse(&words("blob diff -U5 a b")).is_ok() && parse(&words("blob diff -U 5 a b")).is_ok());
    }

    #[test]
    fn json_is_recognised_in_a_wrong_command_line() {
        for line in ["blob -o json", "blob push --output=json x", "blob -ojson push"] {
            assert_eq!(format_of(&words(line)), Format::Json, "{line}");
        }
        assert_eq!(format_of(&words("blob ls -o table -- -o json")), Format::Text);
    }
}
