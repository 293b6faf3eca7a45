//! What is told on standard error with `-v`.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::Global;
use crate::ui::style;

/// Sends events to standard error: warnings unless quiet is wanted, more with each `-v`. Credentials are in none: no
/// type that holds one can print it.
pub(crate) fn init(options: &Global) {
    let level = match (options.verbose, options.quiet) {
        (0, true) => Level::ERROR,
        (0, false) => Level::WARN,
        (1, _) => Level::INFO,
        (2, _) => Level::DEBUG,
        _ => Level::TRACE,
    };
    let ours = ["blob", "blob_cache", "blob_core", "blob_http", "blob_policy", "blob_registry"];
    let filter = Targets::new().with_default(LevelFilter::WARN).with_targets(ours.map(|name| (name, level)));
    let choice = if options.no_color { Some(false) } else { options.color.choice() };
    let colored = style::wanted(choice, |name| std::env::var(name).ok(), std::io::stderr().is_terminal());
    let events = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colored)
        .with_target(options.verbose > 1)
        .without_time();
    tracing_subscriber::registry().with(filter).with(events).init();
}
