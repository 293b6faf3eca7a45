//! What was typed.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::num::NonZero;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::cache_flags::CacheFlags;
use crate::cmd;
use crate::error::{Failure, Kind};
use crate::ui::style::{self, Style};

const EXAMPLES: &str = "\
Examples:
  blob push localhost:5000/team/assets:v1 ./assets      push a directory
  blob ls -lh localhost:5000/team/assets:v1 /images     list a directory of the archive
  blob cat localhost:5000/team/assets:v1 docs/intro.md  read one file; only its bytes are fetched
  blob cp localhost:5000/team/assets:v1:/images ./out   copy a directory out
  blob pull localhost:5000/team/assets:v1 ./copy        extract everything
  blob serve --listen 127.0.0.1:5000 --root ./registry  be the registry

References:
  HOST[:PORT]/REPOSITORY:TAG, HOST[:PORT]/REPOSITORY@sha256:…, or oci:DIR:TAG for an OCI image layout on disk.
  Registries on this machine are spoken to over plain HTTP; others need --plain-http for that.

Exit codes:
  0 done   1 failed   2 wrong usage   3 not found   4 authentication   5 network
  6 verification   7 content does not match its hash   130 interrupted   143 terminated";

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
    Serve(cmd::serve::ServeArgs),
    /// Print the version.
    Version,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
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
    /// Aligned columns with headings.
    Table,
}

impl Format {
    /// Whether programs are spoken to in JSON.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }
}

/// When to do something that suits terminals alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
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

/// Options of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// How results are written.
    #[arg(short, long, global = true, env = "BLOB_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,

    /// Tell more on standard error: -v what happens, -vv every request, -vvv everything.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Leave out what is said besides data; push prints the digest reference alone.
    #[arg(short, long, global = true, env = "BLOB_QUIET", value_parser = FalseyValueParser::new())]
    pub(crate) quiet: bool,

    /// When to use colour. NO_COLOR and CLICOLOR_FORCE are heeded.
    #[arg(
        long,
        global = true,
        env = "BLOB_COLOR",
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) color: When,

    /// Use no colour: --color never.
    #[arg(long, global = true, env = "BLOB_NO_COLOR", value_parser = FalseyValueParser::new())]
    pub(crate) no_color: bool,

    /// When to show progress on standard error [possible values: auto, always, never].
    #[arg(
        long,
        global = true,
        env = "BLOB_PROGRESS",
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) progress: When,

    /// Speak plain HTTP to every registry: whoever is on the way can read and change what is sent.
    #[arg(long, global = true, env = "BLOB_PLAIN_HTTP", value_parser = FalseyValueParser::new())]
    pub(crate) plain_http: bool,

    /// Give up when no byte has moved for this many seconds [default: 30].
    #[arg(long, global = true, env = "BLOB_TIMEOUT", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) timeout: Option<u32>,

    /// Try failed requests again this many times in a row [default: 5].
    #[arg(long, global = true, env = "BLOB_RETRIES", value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) retries: Option<u32>,

    /// The user for the registry that the command names; otherwise the logins are asked. Where a command names several
    /// registries, BLOB_REGISTRY says which one it is for.
    #[arg(long, global = true, env = "BLOB_USERNAME", value_name = "USER", hide_env_values = true)]
    pub(crate) username: Option<String>,

    /// Read the password from standard input; otherwise it is in BLOB_PASSWORD.
    #[arg(long, global = true)]
    pub(crate) password_stdin: bool,

    /// Keep logins in this file alone, and look for them nowhere else [default: REGISTRY_AUTH_FILE, else the files of
    /// Docker, Podman and Skopeo].
    #[arg(long, global = true, env = "BLOB_REGISTRY_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub(crate) registry_config: Option<PathBuf>,

    /// Keep what was fetched in this directory [default: $XDG_CACHE_HOME/blob, else ~/.cache/blob].
    #[arg(long, global = true, env = "BLOB_CACHE_DIR", value_name = "DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Use no cache, and keep nothing.
    #[arg(long, global = true, env = "BLOB_NO_CACHE", value_parser = FalseyValueParser::new())]
    pub(crate) no_cache: bool,

    #[command(flatten)]
    pub(crate) cache: CacheFlags,

    /// Send no request: answer from the cache, or say what is missing.
    #[arg(long, global = true, env = "BLOB_OFFLINE", value_parser = FalseyValueParser::new())]
    pub(crate) offline: bool,

    /// Open only archives that a policy verified.
    #[arg(long, global = true, env = "BLOB_REQUIRE_SIGNED", value_parser = FalseyValueParser::new())]
    pub(crate) require_signed: bool,

    /// The largest index that is read [default: 256M].
    #[arg(long, global = true, env = "BLOB_MAX_INDEX_SIZE", value_name = "SIZE", value_parser = crate::ui::size::parse)]
    pub(crate) max_index_size: Option<u64>,

    /// The most files, links and empty directories of an archive that is opened [default: 16777216].
    #[arg(long, global = true, env = "BLOB_MAX_ENTRIES", value_name = "N")]
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
    /// The style for standard output.
    pub(crate) fn style(&self) -> Style {
        let choice = if self.no_color { Some(false) } else { self.color.choice() };
        let text = self.output == Format::Text || self.output == Format::Table;
        let variable = |name: &str| std::env::var(name).ok();
        Style { colored: text && style::wanted(choice, variable, std::io::stdout().is_terminal()) }
    }
}

/// Reads the command line. Help and version are written by clap, which is asked to exit then.
///
/// # Errors
/// What was typed makes no sense; and whether JSON was asked for, as far as that can be told.
pub(crate) fn parse(words: &[OsString]) -> Result<Cli, (Failure, Format)> {
    let command = Cli::command();
    let parsed = command.clone().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        if matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        ) {
            error.exit();
        }
        (refusal(command, words, &error), format_of(words))
    })
}

/// What clap found wrong, in our words; with the number of operands where some are missing.
fn refusal(command: clap::Command, words: &[OsString], error: &clap::Error) -> Failure {
    let rendered = error.render().to_string();
    // The first paragraph says what is wrong, the others how it is done.
    let first = rendered.split("\n\n").next().unwrap_or_default().trim();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let mut message = first.split_whitespace().collect::<Vec<_>>().join(" ");
    if error.kind() == ErrorKind::MissingRequiredArgument
        && let Some(arity) = arity(command, words)
    {
        message = format!("{arity}; {message}");
    }
    let mut hint: Vec<String> = similar(error).into_iter().collect();
    let usage = rendered.lines().find_map(|line| line.strip_prefix("Usage: "));
    hint.push(usage.map_or_else(|| "see `blob --help`".into(), |usage| format!("usage: {usage}")));
    Failure::new(Kind::Usage, message).with_hint(hint.join("; "))
}

/// What was probably meant.
fn similar(error: &clap::Error) -> Option<String> {
    let kinds = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    match kinds.into_iter().find_map(|kind| error.get(kind))? {
        ContextValue::String(one) => Some(format!("did you mean `{one}`?")),
        ContextValue::Strings(several) => Some(format!("did you mean `{}`?", several.join("` or `"))),
        _ => None,
    }
}

/// `accepts 2 arg(s), received 0`: how many operands the sub-command takes and how many were typed.
fn arity(command: clap::Command, words: &[OsString]) -> Option<String> {
    let verbs = command.clone();
    let matches = command.ignore_errors(true).try_get_matches_from(words).ok()?;
    let (name, typed) = matches.subcommand()?;
    let (mut required, mut most, mut received) = (0, Some(0), 0);
    for operand in verbs.find_subcommand(name)?.get_positionals() {
        required += usize::from(operand.is_required_set());
        let many = matches!(operand.get_action(), ArgAction::Append);
        most = if many { None } else { most.map(|most| most + 1) };
        let id = operand.get_id().as_str();
        if typed.value_source(id) == Some(ValueSource::CommandLine) {
            received += typed.get_raw(id).map_or(0, Iterator::count);
        }
    }
    Some(match most {
        Some(most) if most == required => format!("accepts {required} arg(s), received {received}"),
        Some(most) => format!("accepts between {required} and {most} arg(s), received {received}"),
        None => format!("requires at least {required} arg(s), only received {received}"),
    })
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
    if named.as_deref() == Some("json") { Format::Json } else { Format::Text }
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

    #[test]
    fn missing_operands_are_counted() {
        for (line, expected) in [
            ("blob push", "accepts 2 arg(s), received 0;"),
            ("blob push -q h/r:t", "accepts 2 arg(s), received 1;"),
            ("blob pull", "accepts between 1 and 2 arg(s), received 0;"),
            ("blob cat h/r:t", "requires at least 2 arg(s), only received 1;"),
            ("blob cp --flat x", "requires at least 2 arg(s), only received 1;"),
            ("blob inspect", "accepts 1 arg(s), received 0;"),
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
        assert!(refused("blob inspect a b").contains("unexpected argument 'b'"));
    }

    #[test]
    fn options_stand_anywhere() {
        let before = parse(&words("blob --output json -vv ls -lh x")).unwrap();
        let after = parse(&words("blob ls x -lh -o json --verbose -v")).unwrap();
        for cli in [before, after] {
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
