//! What was typed.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::mem::ManuallyDrop;
use std::num::NonZero;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

mod alone;
mod help;
mod meant;
mod refusal;
mod variables;

use crate::cache_flags::CacheFlags;
use crate::cmd;
use crate::config::value::{Duration, truth};
use crate::error::Failure;
use crate::schemas;
use crate::ui::style::{self, Style};
use crate::ui::template::Template;

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
    Cat(cmd::cat::CatArgs),
    Ls(cmd::ls::LsArgs),
    Tree(cmd::tree::TreeArgs),
    Cp(cmd::cp::CpArgs),
    Inspect(cmd::inspect::InspectArgs),
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
    Rm(cmd::rm::RmArgs),
    Referrers(cmd::referrers::ReferrersArgs),
    Diff(cmd::diff::DiffArgs),
    Check(cmd::check::CheckArgs),
    Export(cmd::export::ExportArgs),
    Find(cmd::find::FindArgs),
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
                | Self::Rm(_)
                | Self::Referrers(_)
                | Self::Check(_)
                | Self::Sign(_)
                | Self::Attest(_)
                | Self::Login(_)
        )
    }

    /// Whether what it writes to standard output is no document, so that templates have nothing to act on.
    fn writes_content(&self) -> bool {
        match self {
            Self::Cat(_) | Self::Completion(_) => true,
            #[cfg(feature = "tui")]
            Self::Open(_) => true,
            Self::Export(args) => args.is_to_output(),
            _ => false,
        }
    }
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document; errors are JSON too, on standard error.
    Json,
    /// JSON on one line, lists with a line for each item; errors are JSON too.
    Jsonl,
    /// Tab-separated values without headings.
    Plain,
    /// Values with commas between, under headings, for spreadsheets.
    Csv,
    /// Aligned columns with headings.
    Table,
}

impl Format {
    /// Whether programs are spoken to in JSON.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }
}

/// When to show progress, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProgressMode {
    /// A bar on a terminal; elsewhere a line every ten seconds.
    #[default]
    Auto,
    /// As on a terminal; where there is none, a line every second.
    Always,
    /// Not at all.
    Never,
    /// A line of JSON every second.
    Json,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object on each line.
    Json,
}

/// When to do something that suits terminals alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    /// On a terminal.
    #[default]
    Auto,
    /// Whatever the output is.
    Always,
    /// Not at all.
    Never,
}

impl When {
    /// `None` where the circumstances decide.
    pub(crate) fn choice(self) -> Option<bool> {
        match self {
            Self::Auto => None,
            Self::Always => Some(true),
            Self::Never => Some(false),
        }
    }
}

/// More at a time than this helps nobody.
pub(crate) const MAX_JOBS: usize = 256;

/// Options of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The user's configuration file [default: $XDG_CONFIG_HOME/blob/config.yaml, else ~/.config/blob/config.yaml].
    #[arg(
        long,
        hide_short_help = true,
        global = true,
        env = "BLOB_CONFIG",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,

    /// How results are written.
    #[arg(short, long, global = true, env = "BLOB_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,

    /// The words of the command, with hyphens between them.
    #[arg(skip)]
    pub(crate) words: String,

    /// Write results by a template as of docker and oras, such as '{{.digest}}', over what -o json has.
    #[arg(long, global = true, env = "BLOB_FORMAT", value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,

    /// Tell more on standard error: -v what happens, -vv every request, -vvv everything [env: BLOB_VERBOSE=].
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// How the log of -v and --trace-file is written: text or json.
    #[arg(
        long,
        hide_short_help = true,
        global = true,
        env = "BLOB_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub(crate) log_format: LogFormat,

    /// Write a log of every request to this file, whatever -v says.
    #[arg(
        long,
        hide_short_help = true,
        global = true,
        env = "BLOB_TRACE_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub(crate) trace_file: Option<PathBuf>,

    /// Leave out what is said besides data; push prints the digest reference alone.
    #[arg(short, long, global = true, env = "BLOB_QUIET", value_parser = truth)]
    pub(crate) quiet: bool,

    /// When to use colour. NO_COLOR and CLICOLOR_FORCE are heeded.
    #[arg(
        long,
        hide_short_help = true,
        global = true,
        env = "BLOB_COLOR",
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) color: When,

    /// Use no colour: --color never.
    #[arg(long, hide_short_help = true, global = true, env = "BLOB_NO_COLOR", value_parser = truth)]
    pub(crate) no_color: bool,

    /// When to show progress on standard error [possible values: auto, always, never, json].
    #[arg(
        long,
        hide_short_help = true,
        global = true,
        env = "BLOB_PROGRESS",
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) progress: ProgressMode,

    /// Speak plain HTTP to every registry: whoever is on the way can read and change what is sent.
    #[arg(long, hide_short_help = true, global = true, env = "BLOB_PLAIN_HTTP", value_parser = truth)]
    pub(crate) plain_http: bool,

    /// Trust the certificate authorities in this PEM file too, and speak HTTPS to registries on this machine as well.
    #[arg(
        long,
        hide_short_help = true,
        global = true,
        env = "BLOB_CA_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) ca_file: Option<PathBuf>,

    /// Give up when no byte has moved for this long: seconds, or 90s, 5m [default: 30].
    #[arg(long, hide_short_help = true, global = true, env = "BLOB_TIMEOUT", value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,

    /// Move at most so many bytes a second, both directions together, as in 500K or 10M.
    #[arg(long, global = true, env = "BLOB_BWLIMIT", value_name = "RATE", value_parser = rate)]
    pub(crate) bwlimit: Option<NonZero<u64>>,

    /// Try failed requests again this many times in a row [default: 5].
    #[arg(long, hide_short_help = true, global = true, env = "BLOB_RETRIES", value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) retries: Option<u32>,

    /// How much is done at a time: threads that compress, decode and write, and requests; for tags of `copy --all-tags`,
    /// too [default: a thread for each core, 4 requests].
    #[arg(short, long, hide_short_help = true, global = true, env = "BLOB_JOBS", value_name = "N", value_parser = jobs)]
    pub(crate) jobs: Option<NonZero<usize>>,

    /// The user for the registry that the command names; otherwise the logins are asked. Where a command names several
    /// registries, BLOB_REGISTRY says which one it is for.
    #[arg(
        long,
        hide_short_help = true,
        global = true,
        env = "BLOB_USERNAME",
        value_name = "USER",
        hide_env_values = true
    )]
    pub(crate) username: Option<String>,

    /// Read the password from standard input; otherwise it is in BLOB_PASSWORD.
    #[arg(long, hide_short_help = true, global = true)]
    pub(crate) password_stdin: bool,

    /// Keep logins in this file alone, and look for them nowhere else [default: REGISTRY_AUTH_FILE, else the files of
    /// Docker, Podman and Skopeo].
    #[arg(
        long,
        hide_short_help = true,
        global = true,
        env = "BLOB_REGISTRY_CONFIG",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub(crate) registry_config: Option<PathBuf>,

    /// Keep what was fetched in this directory [default: $XDG_CACHE_HOME/blob, else ~/.cache/blob].
    #[arg(
        long,
        hide_short_help = true,
        global = true,
        env = "BLOB_CACHE_DIR",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Use no cache, and keep nothing.
    #[arg(long, hide_short_help = true, global = true, env = "BLOB_NO_CACHE", value_parser = truth)]
    pub(crate) no_cache: bool,

    #[command(flatten)]
    pub(crate) cache: CacheFlags,

    /// Send no request: answer from the cache, or say what is missing.
    #[arg(long, hide_short_help = true, global = true, env = "BLOB_OFFLINE", value_parser = truth)]
    pub(crate) offline: bool,

    /// Open only archives that a policy verified.
    #[arg(long, hide_short_help = true, global = true, env = "BLOB_REQUIRE_SIGNED", value_parser = truth)]
    pub(crate) require_signed: bool,

    /// The largest index that is read [default: 256M].
    #[arg(long, hide_short_help = true, global = true, env = "BLOB_MAX_INDEX_SIZE", value_name = "SIZE", value_parser = crate::ui::size::parse)]
    pub(crate) max_index_size: Option<u64>,

    /// The most files, links and empty directories of an archive that is opened [default: 16777216].
    #[arg(long, hide_short_help = true, global = true, env = "BLOB_MAX_ENTRIES", value_name = "N")]
    pub(crate) max_entries: Option<NonZero<usize>>,
}

/// The option of commands that open archives.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Caching {
    /// Ask the registry whatever the cache says, and keep no contents; what the tag names now is remembered.
    #[arg(long)]
    pub(crate) skip_cache: bool,
}

impl Global {
    /// What `--format` says: a template over JSON, or, as with other tools, the name of a format.
    ///
    /// # Errors
    /// The template is not understood.
    pub(crate) fn template(&mut self) -> Result<Option<Template>, Failure> {
        let Some(text) = self.format.take().filter(|text| !text.is_empty()) else { return Ok(None) };
        if let Ok(format) = Format::from_str(&text, true) {
            self.output = format;
            return Ok(None);
        }
        if !text.contains("{{") {
            let message =
                format!("--format {text:?} is neither a template, as '{{{{.digest}}}}', nor the name of a format");
            return Err(Failure::usage(message).with_hint("the formats are text, json, jsonl, plain, table and csv"));
        }
        let understood = Template::parse(&text);
        let wrong = |problem: String| Failure::usage(format!("--format {text:?}: {problem}"));
        let template = understood.map_err(wrong)?;
        self.output = Format::Json;
        let members = self.members();
        if !members.is_empty() {
            template.check(&members).map_err(wrong)?;
        }
        Ok(Some(template))
    }

    /// What the documents of the command may have; nothing where that is not known.
    pub(crate) fn members(&self) -> Vec<String> {
        let mut members = schemas::members(&self.words).unwrap_or_default();
        // Their plans are documents of their own.
        if !members.is_empty() && ["pull", "cp"].contains(&self.words.as_str()) {
            members.extend(schemas::members("plan").unwrap_or_default());
        }
        members
    }

    /// The style for standard output.
    pub(crate) fn style(&self) -> Style {
        let choice = if self.no_color { Some(false) } else { self.color.choice() };
        let text = self.output == Format::Text || self.output == Format::Table;
        let variable = |name: &str| std::env::var(name).ok();
        Style { colored: text && style::wanted(choice, variable, std::io::stdout().is_terminal()) }
    }
}

/// The command line, in which every option has a variable. Those that have no name of their own are called after their
/// command and themselves: `BLOB_PULL_OVERWRITE`, `BLOB_CACHE_PRUNE_MAX`.
pub(crate) fn command() -> clap::Command {
    let mut command = Cli::command();
    add_variables(&mut command, "BLOB");
    command
}

/// Options that lower what is asked for have no variables: they are to be seen where a command is typed.
const LOWERING: [&str; 2] = ["no_default_policy", "insecure_ignore_tlog"];
/// Options that ask for more each time they are given: the variable of one must not vanish behind what is typed.
const ADDING: [&str; 2] = ["policy", "policy_rego"];

/// Refuses what is asked for by a variable and by an option at once, of which only one would count.
fn check_adding(command: &clap::Command, matches: &ArgMatches) -> Result<(), Failure> {
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

/// Refuses a template that was typed where there is nothing to fill it with.
fn check_format(cli: &Cli, matches: &ArgMatches) -> Result<(), Failure> {
    let typed = matches.value_source("format") == Some(ValueSource::CommandLine);
    if !typed || !cli.command.writes_content() {
        return Ok(());
    }
    let message = "--format is a template over JSON, and this command writes content";
    let failure = Failure::usage(message);
    Err(if matches!(cli.command, Command::Export(_)) {
        failure.with_hint("what export writes is a tar stream; --file keeps it, and then there is a result to format")
    } else {
        failure.with_hint("leave --format out")
    })
}

fn add_variables(command: &mut clap::Command, prefix: &str) {
    let with_variable = |arg: clap::Arg| {
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

/// `--timeout`.
fn timeout(typed: &str) -> Result<Duration, String> {
    let read = Duration::read(typed)?;
    let fits = !read.0.is_zero() && read.seconds() <= 86_400;
    if fits { Ok(read) } else { Err("expected between 1 second and a day".into()) }
}

/// `--bwlimit`.
fn rate(typed: &str) -> Result<NonZero<u64>, String> {
    let bytes = crate::ui::size::parse(typed.trim_end_matches("/s"))?;
    NonZero::new(bytes).ok_or_else(|| "expected at least one byte a second".into())
}

/// `--jobs`.
fn jobs(typed: &str) -> Result<NonZero<usize>, String> {
    let number = typed.parse().ok().filter(|jobs: &NonZero<usize>| jobs.get() <= MAX_JOBS);
    number.ok_or_else(|| format!("expected a number from 1 to {MAX_JOBS}"))
}

/// Reads the command line. Help and version are written by clap, which is asked to exit then.
///
/// # Errors
/// What was typed makes no sense; and whether JSON was asked for, as far as that can be told.
pub(crate) fn parse(words: &[OsString]) -> Result<(Cli, ArgMatches), (Failure, Format)> {
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
        let checked = check_adding(&known, matches).and_then(|()| check_format(cli, matches));
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
    check_adding(&command, &matches).and_then(|()| check_format(&cli, &matches)).ok()?;
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
    fn json_is_recognised_in_a_wrong_command_line() {
        for line in ["blob -o json", "blob push --output=json x", "blob -ojson push"] {
            assert_eq!(format_of(&words(line)), Format::Json, "{line}");
        }
        assert_eq!(format_of(&words("blob ls -o table -- -o json")), Format::Text);
    }
}
