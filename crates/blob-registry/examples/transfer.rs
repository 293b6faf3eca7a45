//! One blob up or down, as fast as it goes: `transfer put HOST/REPOSITORY FILE [JOURNAL]` sends it, hashes it meanwhile and
//! prints its digest, `transfer send HOST/REPOSITORY@DIGEST FILE [JOURNAL]` sends what was hashed before, `transfer get
//! HOST/REPOSITORY@DIGEST SIZE FILE` fetches it. Interrupted, they go on when they are run again, sending with a journal.
//!
//! `transfer floor-get HOST/REPOSITORY@DIGEST SIZE FILE` is the least that a program can do on one connection: it reads, writes
//! and hashes on two threads, and knows nothing of errors.
//!
//! With the feature `oci-client`, `peer-put HOST/REPOSITORY FILE DIGEST` and `peer-get HOST/REPOSITORY@DIGEST SIZE FILE` do
//! the same through that crate, for comparisons.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use blob_core::source::FileSource;
use blob_registry::client::RegistryClient;
use blob_registry::{Descriptor, DownloadOptions, Place, PushBlob, Reference, Registry as _, Target, download};

const USAGE: &str = "usage: transfer put HOST/REPOSITORY FILE [JOURNAL] | send HOST/REPOSITORY@DIGEST FILE [JOURNAL] | \
                     get HOST/REPOSITORY@DIGEST SIZE FILE";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["put", place, file] => put(place, file, None).await,
        ["put", place, file, journal] => put(place, file, Some(journal)).await,
        ["send", place, file] => send(&place.parse()?, file, None).await,
        ["send", place, file, journal] => send(&place.parse()?, file, Some(journal)).await,
        ["get", place, size, file] => get(place, size.parse()?, file).await,
        ["floor-get", place, size, file] => floor::get(&place.parse()?, size.parse()?, file),
        #[cfg(feature = "oci-client")]
        ["peer-put", place, file, digest] => peer::put(place, file, digest).await,
        #[cfg(feature = "oci-client")]
        ["peer-get", place, size, file] => peer::get(place, size.parse()?, file).await,
        _ => Err(USAGE.into()),
    }
}

async fn put(place: &str, file: &str, journal: Option<&str>) -> Result<(), Box<dyn Error>> {
    let place: Reference = place.parse()?;
    let client = client(&place, journal)?;
    let (digest, pushed) = client.push_file(place.repository(), Path::new(file), None).await?;
    println!("{digest} {pushed:?}");
    Ok(())
}

fn client(place: &Reference, journal: Option<&str>) -> Result<RegistryClient, Box<dyn Error>> {
    let builder = RegistryClient::builder(place.host());
    Ok(match journal {
        Some(journal) => builder.upload_journal(journal).build()?,
        None => builder.build()?,
    })
}

async fn send(place: &Reference, file: &str, journal: Option<&str>) -> Result<(), Box<dyn Error>> {
    let Some(Target::Digest(digest)) = place.target() else { return Err(USAGE.into()) };
    let client = client(place, journal)?;
    let source = Arc::new(FileSource::open(file)?);
    let pushed = client.push_blob(place.repository(), PushBlob::new(digest, source)).await?;
    println!("{digest} {pushed:?}");
    Ok(())
}

async fn get(place: &str, size: u64, file: &str) -> Result<(), Box<dyn Error>> {
    let place: Reference = place.parse()?;
    let Some(Target::Digest(digest)) = place.target() else { return Err(USAGE.into()) };
    let client = client(&place, None)?;
    let blob = Descriptor::new("application/octet-stream".to_owned(), digest, size);
    let from = Place::new(Arc::new(client), place.repository().clone());
    let done = download(&from, &blob, Path::new(file), &DownloadOptions::default()).await?;
    println!("{done:?}");
    Ok(())
}

mod floor {
    use std::error::Error;
    use std::fs::File;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::mpsc::sync_channel;

    use blob_core::Hasher;
    use blob_registry::{Reference, Target};

    /// How much is read at a time.
    const STEP: usize = 1 << 20;

    pub(super) fn get(place: &Reference, size: u64, file: &str) -> Result<(), Box<dyn Error>> {
        let Some(Target::Digest(digest)) = place.target() else { return Err(super::USAGE.into()) };
        let mut stream = BufReader::with_capacity(STEP, TcpStream::connect(place.host())?);
        let request = format!("GET /v2/{}/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n", place.repository());
        stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line)?;
        }
        let mut file = File::create(file)?;
        let (send, take) = sync_channel::<Vec<u8>>(4);
        let (give_back, spare) = sync_channel::<Vec<u8>>(8);
        let hashing = std::thread::spawn(move || {
            let mut hasher = Hasher::sha256();
            for bytes in take {
                hasher.update(&bytes);
                // The reader may have ended.
                let _ = give_back.try_send(bytes);
            }
            hasher.finish()
        });
        let mut left = size;
        while left > 0 {
            let mut bytes = spare.try_recv().unwrap_or_default();
            bytes.resize(left.min(STEP as u64) as usize, 0);
            stream.read_exact(&mut bytes)?;
            file.write_all(&bytes)?;
            left -= bytes.len() as u64;
            send.send(bytes)?;
        }
        drop(send);
        let got = hashing.join().map_err(|_| "hashing failed")?;
        if got == digest { Ok(()) } else { Err(format!("expected {digest}, got {got}").into()) }
    }
}

#[cfg(feature = "oci-client")]
mod peer {
    use std::error::Error;

    use futures_util::TryStreamExt as _;
    use oci_client::client::{Client, ClientConfig, ClientProtocol};
    use oci_client::manifest::OciDescriptor;
    use oci_client::secrets::RegistryAuth;
    use oci_client::{Reference, RegistryOperation};

    fn client() -> Client {
        Client::new(ClientConfig {
            protocol: ClientProtocol::Http,
            use_monolithic_push: true,
            ..ClientConfig::default()
        })
    }

    pub(super) async fn put(place: &str, file: &str, digest: &str) -> Result<(), Box<dyn Error>> {
        let (client, place): (_, Reference) = (client(), place.parse()?);
        client.auth(&place, &RegistryAuth::Anonymous, RegistryOperation::Push).await?;
        let size = std::fs::metadata(file)?.len();
        let source = blob_core::source::FileSource::open(file)?;
        let stream = blob_core::ByteSource::open(&source, 0..size).await?;
        let failed = |error: blob_core::SourceError| {
            oci_client::errors::OciDistributionError::GenericError(Some(error.to_string()))
        };
        client.push_blob_stream(&place, stream.map_err(failed), digest, Some(size)).await?;
        Ok(())
    }

    pub(super) async fn get(place: &str, size: i64, file: &str) -> Result<(), Box<dyn Error>> {
        let (client, place): (_, Reference) = (client(), place.parse()?);
        client.auth(&place, &RegistryAuth::Anonymous, RegistryOperation::Pull).await?;
        let digest = place.digest().ok_or(super::USAGE)?.to_owned();
        let blob = OciDescriptor { digest, size, ..OciDescriptor::default() };
        let mut output = tokio::fs::File::create(file).await?;
        client.pull_blob(&place, &blob, &mut output).await?;
        tokio::io::AsyncWriteExt::flush(&mut output).await?;
        Ok(())
    }
}
