//! `blob version`.

use clap::Args;
use serde::Serialize;

use crate::error::Failure;
use crate::session::Session;

/// Print the version, and what was built.
#[derive(Args, Clone, Copy, Debug)]
#[command(after_help = "Examples:\n  blob version\n  blob version --short    the number alone")]
pub(crate) struct VersionArgs {
    /// The number alone.
    #[arg(long)]
    short: bool,
}

/// What was built.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Built {
    /// The version.
    version: &'static str,
    /// The commit that was built, where the build was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'static str>,
    /// The target triple.
    target: &'static str,
    /// `debug` or `release`.
    profile: &'static str,
    /// Optional parts that are in it.
    features: Vec<&'static str>,
}

pub(crate) async fn run(args: VersionArgs, session: &Session) -> Result<(), Failure> {
    let version = Built {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("BLOB_BUILD_COMMIT"),
        target: env!("BLOB_BUILD_TARGET"),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        features: if cfg!(feature = "tui") { vec!["tui"] } else { Vec::new() },
    };
    let text = || {
        if args.short {
            return format!("{}\n", version.version);
        }
        let commit = version.commit.map(|commit| format!("  commit: {commit}\n")).unwrap_or_default();
        format!("blob {}\n{commit}  target: {}\n", version.version, version.target)
    };
    session.print(crate::ui::record::render(session.options.output, &version, text)).await
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Built>("version")]
}
