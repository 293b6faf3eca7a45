//! `blob serve`.

pub(super) mod listen;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use blob::serve::{self, AuthConfig, AuthScheme, ServeConfig, ServeError, TlsConfig};
use clap::Args;
use serde::Serialize;

use crate::args::Format;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::signals::{Asked, Signals};
use crate::trust::bounded;
use crate::ui::{json, output};

const EXAMPLES: &str = "\
Examples:
  blob serve --listen 127.0.0.1:5000 --root ./registry
  blob serve --listen 127.0.0.1:0                        a free port; everything is gone at the end
  blob serve --listen 0.0.0.0:5000 --root ./registry \\
    --tls-cert cert.pem --tls-key key.pem --htpasswd ./htpasswd
  blob serve --file registry.yaml                        with mirrors and rules, see docs/registry.md

The htpasswd file is written with `htpasswd -B`. Files of users and certificates are read again when they change. \
-v logs a line for each request.";

/// The port where none is named.
const PORT: u16 = 5000;

/// Larger descriptions are refused, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Serve a registry over HTTP, from a directory or from memory, until it is interrupted.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Where to listen: an address or a name, a port, or both; :5000 is all addresses of IPv4, [::]:5000 all of both, port 0 takes a free one
    /// [default: 127.0.0.1:5000].
    #[arg(long, env = "BLOB_LISTEN", value_name = "ADDR:PORT")]
    listen: Option<String>,

    /// The directory that holds the registry; made if it does not exist. In memory without it.
    #[arg(long, env = "BLOB_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,

    /// Describes the registry in YAML; the other options win over it.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Refuse everything that writes.
    #[arg(long)]
    read_only: bool,

    /// Set each tag once, and delete nothing.
    #[arg(long)]
    immutable_tags: bool,

    /// Take manifests whose blobs are not here, as a mirror of a part does.
    #[arg(long)]
    sparse: bool,

    /// Hash blobs when they are first read, and take damaged ones out of their place, so that a push mends them.
    #[arg(long)]
    verify: bool,

    /// Speak TLS with this certificate chain, in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of the certificate, in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Let only clients in whose certificate is from an authority in this file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// Let only users of this file in, who may do everything.
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,

    /// Let anybody read, and only the users write.
    #[arg(long)]
    anonymous_pull: bool,

    /// Hand out tokens for the passwords, as large registries do.
    #[arg(long)]
    tokens: bool,
}

/// A line that says that requests are answered.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Listening {
    /// Where.
    url: String,
}

pub(crate) async fn run(args: ServeArgs, session: &Session) -> Result<(), Failure> {
    session.meter.clear();
    let listen = match &args.listen {
        Some(typed) => Some(listen::find(typed, PORT).await?),
        None => None,
    };
    let config = config(args, listen)?;
    if config.auth.is_none() && !config.read_only && !config.listen.ip().is_loopback() {
        tracing::warn!("whoever reaches {} can read, write and delete: --htpasswd asks for passwords", config.listen);
    } else if config.auth.is_some() && config.tls.is_none() && !config.listen.ip().is_loopback() {
        tracing::warn!("passwords cross the network in clear: use --tls-cert, or a proxy that speaks TLS");
    }
    // Whoever reads where we listen may ask us to end at once.
    let mut signals = Signals::listen()?;
    let server = serve::start(&config).await.map_err(|error| failure(&error))?;
    let url = server.url();
    let ready = match session.options.output {
        Format::Json | Format::Jsonl => json::line(&Listening { url }),
        _ => format!("listening on {url}\n"),
    };
    // Whoever started us may not care where we listen.
    match output::print(ready).await {
        Err(failure) if failure.kind == Kind::ClosedOutput => {}
        written => written?,
    }
    // To be asked to end is how a server ends: that is no failure.
    while signals.next().await == Asked::Progress {}
    server.shutdown().await;
    Ok(())
}

/// What the file says, and the options over it.
fn config(args: ServeArgs, listen: Option<SocketAddr>) -> Result<ServeConfig, Failure> {
    let mut config = args.file.as_deref().map(read).transpose()?.unwrap_or_default();
    config.listen = listen.unwrap_or(config.listen);
    config.directory = args.root.or(config.directory);
    config.read_only |= args.read_only;
    config.immutable_tags |= args.immutable_tags;
    config.sparse |= args.sparse;
    config.verify |= args.verify;
    if let (Some(certificate), Some(key)) = (args.tls_cert, args.tls_key) {
        config.tls = Some(TlsConfig { certificate, key, client_ca: args.tls_client_ca });
    }
    if args.htpasswd.is_some() || args.anonymous_pull || args.tokens {
        let auth = config.auth.get_or_insert_with(AuthConfig::default);
        auth.htpasswd = args.htpasswd.or(auth.htpasswd.take());
        auth.anonymous_pull |= args.anonymous_pull;
        if args.tokens {
            auth.scheme = AuthScheme::Bearer;
        }
    }
    Ok(config)
}

fn read(path: &Path) -> Result<ServeConfig, Failure> {
    let bytes = bounded(path, MAX_FILE, "the configuration").map_err(|failure| failure.of_kind(Kind::Usage))?;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Failure::usage(format!("{} is not UTF-8 text", path.display())))?;
    // A file with nothing but comments describes the defaults.
    let config: Result<Option<ServeConfig>, _> = yaml_serde::from_str(&text);
    let config = config.map_err(|error| refusal(path, &text, &error))?;
    let mut config = config.unwrap_or_default();
    config.resolve_paths(path.parent().unwrap_or(Path::new("")));
    Ok(config)
}

/// What the parser found wrong, and where.
fn refusal(path: &Path, text: &str, error: &yaml_serde::Error) -> Failure {
    let said = error.to_string();
    let problem = said.rsplit_once(" at line ").map_or(said.as_str(), |(problem, _)| problem);
    // Of a key that is unknown the parser knows the name alone.
    let key = problem.split_once("unknown field `").and_then(|(_, rest)| rest.split_once('`')).map(|(key, _)| key);
    let at_key = || {
        let is_key = |line: &str| {
            line.trim_start_matches(['-', ' ']).strip_prefix(key?)?.trim_start().strip_prefix(':').map(drop)
        };
        let (number, line) = text.lines().enumerate().find(|(_, line)| is_key(line).is_some())?;
        Some((number + 1, line.len() - line.trim_start_matches(['-', ' ']).len() + 1))
    };
    let place = at_key().or_else(|| error.location().map(|at| (at.line(), at.column())));
    let place = place.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
    Failure::usage(format!("{}{place}: {problem}", path.display())).with_hint("docs/registry.md describes the keys")
}

fn failure(error: &ServeError) -> Failure {
    let kind = match error {
        ServeError::Config(_) | ServeError::Users(_) | ServeError::Tls(_) => Kind::Usage,
        _ => Kind::General,
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Failure::new(kind, text)
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::line;
    vec![line::<Listening>("serve")]
}
