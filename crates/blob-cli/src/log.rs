//! What is told on standard error with `-v`, and written to the file of `--trace-file`.

use std::fs::File;
use std::io::IsTerminal as _;
use std::sync::Mutex;

use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::{Global, LogFormat};
use crate::error::Failure;
use crate::ui::progress::Above;
use crate::ui::style;

/// Sends events to standard error: warnings unless quiet is wanted, more with each `-v`. Credentials are in none: no
/// type that holds one can print it.
pub(crate) fn init(options: &Global) -> Result<(), Failure> {
    let level = match (options.verbose, options.quiet) {
        (0, true) => Level::ERROR,
        (0, false) => Level::WARN,
        (1, _) => Level::INFO,
        (2, _) => Level::DEBUG,
        _ => Level::TRACE,
    };
    let ours = ["blob", "blob_cache", "blob_core", "blob_http", "blob_policy", "blob_registry"];
    let filter =
        |level: Level| Targets::new().with_default(LevelFilter::WARN).with_targets(ours.map(|name| (name, level)));
    let choice = if options.no_color { Some(false) } else { options.color.choice() };
    let colored = style::wanted(choice, |name| std::env::var(name).ok(), std::io::stderr().is_terminal());
    let told = tracing_subscriber::fmt::layer().with_writer(Above::default).with_target(options.verbose > 1);
    let told = match options.log_format {
        LogFormat::Text => told.with_ansi(colored).without_time().boxed(),
        LogFormat::Json => told.json().flatten_event(true).boxed(),
    };
    let traced = trace_file(options)?.map(|file| {
        let traced = tracing_subscriber::fmt::layer().with_writer(Mutex::new(file)).with_ansi(false);
        let traced = match options.log_format {
            LogFormat::Text => traced.boxed(),
            LogFormat::Json => traced.json().flatten_event(true).boxed(),
        };
        traced.with_filter(filter(Level::DEBUG.max(level)))
    });
    tracing_subscriber::registry().with(traced).with(told.with_filter(filter(level))).init();
    Ok(())
}

/// The file of `--trace-file`, made for its owner alone, since it says who was asked for what.
fn trace_file(options: &Global) -> Result<Option<File>, Failure> {
    let Some(path) = &options.trace_file else { return Ok(None) };
    let mut open = File::options();
    open.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    let opened = open.open(path);
    opened.map(Some).map_err(|error| Failure::io(format!("opening the trace file {}", path.display()), &error))
}

/// A line of `--log-format json`, as the library writes it; held against what comes out in the tests.
#[cfg(test)]
#[derive(serde::Serialize, schemars::JsonSchema)]
struct Line {
    /// When it happened, RFC 3339.
    timestamp: String,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    level: String,
    /// The part of the program that tells it; always in the file of `--trace-file`, else from `-vv` on.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// The request's method.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// The request's address, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// How many bytes the answer says that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    /// What else belongs to the event.
    #[serde(flatten)]
    more: std::collections::BTreeMap<String, serde_json::Value>,
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    vec![crate::schemas::line::<Line>("log")]
}
