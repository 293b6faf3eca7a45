//! `blob open`.

use std::io::IsTerminal as _;

use clap::Args;

use crate::args::Caching;
use crate::browse;
use crate::error::Failure;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::progress::Question;

const EXAMPLES: &str = "\
Examples:
  blob open localhost:5000/team/assets:v1
  blob open oci:./layout:v1

Only what is looked at is fetched: the index, and files on which the cursor rests. Press ? for the keys.";

/// Browse an archive in the terminal.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct OpenArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) async fn run(args: OpenArgs, session: &Session) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let hint = "`blob tree` and `blob ls` list an archive anywhere";
        return Err(Failure::usage("open needs a terminal on standard input and output").with_hint(hint));
    }
    if std::env::var("TERM").as_deref() == Ok("dumb") {
        let hint = "`blob tree` and `blob ls` list an archive anywhere";
        return Err(Failure::usage("open needs a terminal whose cursor it can move: TERM is dumb").with_hint(hint));
    }
    let location = session.location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    session.meter.clear();
    // Nothing else is written while the browser has the terminal.
    let _terminal = Question::begin();
    browse::run(archive, client.clone(), session.style.colored).await?;
    Session::log_traffic(&client);
    Ok(())
}
