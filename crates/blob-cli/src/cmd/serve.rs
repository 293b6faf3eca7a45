//! `blob serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use blob::registry::layout::LayoutStore;
use blob::registry::{MemoryRegistry, Registry, Server};
use clap::Args;
use serde::Serialize;

use crate::args::Format;
use crate::error::Failure;
use crate::session::Session;
use crate::signals::Signals;
use crate::ui::{json, output};

const EXAMPLES: &str = "\
Examples:
  blob serve --listen 127.0.0.1:5000 --root ./registry
  blob serve --listen 127.0.0.1:0                        a free port; everything is gone at the end

There is neither encryption nor a question for credentials: on addresses that others reach, put a proxy in front.
-v logs a line for each request.";

/// Serve a registry over HTTP, from a directory or from memory, until it is interrupted.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Where to listen, ADDRESS:PORT; port 0 takes a free one.
    #[arg(long, env = "BLOB_LISTEN", value_name = "ADDR:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,

    /// The directory that holds the registry; made if it does not exist. In memory without it.
    #[arg(long, env = "BLOB_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,

    /// Refuse everything that writes.
    #[arg(long)]
    read_only: bool,
}

#[derive(Serialize)]
struct Listening {
    url: String,
}

pub(crate) async fn run(args: ServeArgs, session: &Session) -> Result<(), Failure> {
    session.meter.clear();
    let registry = open(&args).await?;
    // Whoever reads where we listen may ask us to end at once.
    let mut signals = Signals::listen()?;
    let server = Server::builder(registry).read_only(args.read_only).bind(args.listen).await;
    let server = server.map_err(|error| Failure::io(format!("listening on {}", args.listen), &error))?;
    let url = format!("http://{}", server.local_addr());
    let ready = match session.options.output {
        Format::Json => json::line(&Listening { url }),
        _ => format!("listening on {url}\n"),
    };
    // Whoever started us may not care where we listen.
    match output::print(ready).await {
        Err(failure) if failure.kind == crate::error::Kind::ClosedOutput => {}
        written => written?,
    }
    // To be asked to end is how a server ends: that is no failure.
    signals.next().await;
    server.shutdown().await;
    Ok(())
}

async fn open(args: &ServeArgs) -> Result<Arc<dyn Registry>, Failure> {
    let Some(root) = &args.root else { return Ok(Arc::new(MemoryRegistry::new())) };
    let opened = LayoutStore::open(root.clone()).await;
    let action = format!("opening the registry in {}", root.display());
    let store = opened.map_err(|source| Failure::from(blob::Error::Registry { action, source }))?;
    Ok(Arc::new(store))
}
