//! `blob web`.

use std::time::Duration;

use blob::{Archive, Client};
use clap::Args;
use serde::Serialize;

use super::serve::listen;
use crate::args::{Caching, Format};
use crate::contents::{Contents, RoomArgs};
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::signals::{Asked, Signals};
use crate::trust::TrustArgs;
use crate::ui::json;
use crate::web;

const EXAMPLES: &str = "\
Examples:
  blob web localhost:5000/team/site:v3
  blob web --listen 127.0.0.1:0 ghcr.io/org/report:latest      a free port
  blob web --listen :8080 --require-signed assets:v1            for everybody who reaches this machine
  curl -r 0-99 http://127.0.0.1:8080/data/large.bin             parts of files

Only what is asked for is fetched, and nothing is sent before it was verified: a file of up to 8 MiB in memory, a larger one in a \
temporary file, whole, at its first request. A directory with an index.html shows that; ?list shows its list. \
Whoever reaches the address can read everything: it is this machine's alone unless --listen says otherwise. What is shown stays as \
it was when the tag was looked up.";

/// How long somebody waits for room that slower readers have.
const PATIENCE: Duration = Duration::from_secs(30);

/// The port where none is named.
const PORT: u16 = 8080;

/// Show an archive to browsers: a read-only web site, until it is interrupted.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WebArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// Where to listen: an address or a name, a port, or both; :8080 is all addresses of IPv4, [::]:8080 all of both, port 0 takes a free one
    /// [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,

    #[command(flatten)]
    room: RoomArgs,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

/// A line that says that requests are answered.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Shown {
    /// The archive.
    r#ref: String,
    /// The digest of its manifest.
    digest: String,
    /// Where.
    url: String,
    /// Whether a policy admitted it.
    verified: bool,
}

pub(crate) async fn run(args: WebArgs, session: &Session) -> Result<(), Failure> {
    // Whoever reads where we listen may ask us to end at once.
    let mut signals = Signals::listen()?;
    let (archive, client, contents) = {
        let mut opened = std::pin::pin!(open(&args, session));
        loop {
            tokio::select! {
                biased;
                asked = signals.next() => match asked {
                    Asked::End(kind) => return Err(Failure::new(kind, kind.name())),
                    Asked::Progress => session.meter.tell(),
                },
                opened = &mut opened => break opened?,
            }
        }
    };
    let listen = listen::find(args.listen.as_deref().unwrap_or("127.0.0.1"), PORT).await?;
    let server = web::serve(archive.clone(), listen, contents).await?;
    session.meter.clear();
    let announced = announce(&archive, format!("http://{}/", server.local_addr()), session).await;
    if announced.is_ok() {
        // To be asked to end is how a server ends: that is no failure.
        while signals.next().await == Asked::Progress {}
    }
    server.shutdown().await;
    Session::log_traffic(&client);
    announced
}

/// Opens the archive, which policies judge; nobody can ask for anything yet.
async fn open(args: &WebArgs, session: &Session) -> Result<(Archive, Client, Contents), Failure> {
    let location = session.location(&args.reference)?;
    let spool_dir = args.room.spool_dir(session)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    let contents = Contents::new(archive.clone(), args.room.bounds(Some(PATIENCE)), spool_dir);
    Ok((archive, client, contents))
}

/// Says where the archive is shown. Whoever started us may not care.
async fn announce(archive: &Archive, url: String, session: &Session) -> Result<(), Failure> {
    let location = archive.location();
    let written = match session.options.output {
        Format::Json | Format::Jsonl => {
            let (digest, verified) = (archive.manifest().digest().to_string(), archive.manifest().is_verified());
            session.print(json::line(&Shown { r#ref: location.to_string(), digest, url, verified })).await
        }
        _ if session.is_terse() => session.print(format!("{url}\n")).await,
        _ => session.print(format!("showing {location} on {url}\n")).await,
    };
    match written {
        Err(failure) if failure.kind == Kind::ClosedOutput => Ok(()),
        written => written,
    }
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::line;
    vec![line::<Shown>("web")]
}
