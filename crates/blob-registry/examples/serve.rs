//! Serves a directory of image layouts as a registry: `serve DIRECTORY [ADDRESS]`, until Ctrl-C.
//!
//! `skopeo copy --dest-tls-verify=false oci:layout:v1 docker://127.0.0.1:5000/team/assets:v1` pushes to it.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::Arc;

use blob_registry::{LayoutStore, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: serve DIRECTORY [ADDRESS]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:5000".into());
    let store = LayoutStore::open(directory).await?;
    let server = Server::builder(Arc::new(store)).bind(address).await?;
    println!("http://{}/v2/", server.local_addr());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
