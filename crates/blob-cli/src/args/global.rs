//! Options of every command, and the words that they know.

use std::io::IsTerminal as _;
use std::num::NonZero;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::cache_flags::CacheFlags;
use crate::config::value::{Duration, truth};
use crate::error::Failure;
use crate::schemas;
use crate::ui::style::{self, Style};
use crate::ui::template::{Sample, Template, cut};

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
            let message = format!(
                "--format {:?} is neither a template, as '{{{{.digest}}}}', nor the name of a format",
                cut(&text)
            );
            return Err(Failure::usage(message).with_hint("the formats are text, json, jsonl, plain, table and csv"));
        }
        let wrong = |problem: String| Failure::usage(format!("--format {:?}: {problem}", cut(&text)));
        let mut template = Template::parse(&text).map_err(wrong)?;
        self.output = Format::Json;
        if let Some(sample) = self.sample() {
            template.check(&sample).map_err(wrong)?;
        }
        Ok(Some(template))
    }

    /// A document that has all that those of the command may have; none where that is not known.
    fn sample(&self) -> Option<Sample> {
        // Their plans are documents of their own.
        let plan = ["pull", "cp"].contains(&self.words.as_str()).then(|| schemas::find("plan"));
        let schemas: Vec<&str> = std::iter::once(schemas::find(&self.words)?).chain(plan.flatten()).collect();
        Sample::of(&schemas)
    }

    /// The style for standard output.
    pub(crate) fn style(&self) -> Style {
        let choice = if self.no_color { Some(false) } else { self.color.choice() };
        let text = self.output == Format::Text || self.output == Format::Table;
        let variable = |name: &str| std::env::var(name).ok();
        Style { colored: text && style::wanted(choice, variable, std::io::stdout().is_terminal()) }
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
