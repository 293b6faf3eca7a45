//! `blob version`.

use serde::Serialize;

use crate::error::Failure;
use crate::session::Session;

#[derive(Serialize)]
struct Version {
    version: &'static str,
    target: String,
}

pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let version = Version { version: env!("CARGO_PKG_VERSION"), target };
    let text = format!("blob {}\n", version.version);
    session.print(crate::ui::record::render(session.options.output, &version, || text)).await
}
