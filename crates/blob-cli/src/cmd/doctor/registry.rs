//! What a registry, or a layout, answers about an archive.

use blob::registry::{PageRequest, Registry, Repository};
use blob::{Client, Inspection, Location, PullOptions};
use futures_util::TryStreamExt as _;

use super::{Check, Checks};
use crate::error::Failure;
use crate::session::Session;
use crate::ui::size::{count, human};

/// A smaller blob travels whole in the time of one answer, so that nothing can be told from its size.
const TELLING: u64 = 8 << 10;

pub(super) async fn examine(location: &Location, session: &Session, checks: &mut Checks) {
    if let Err(failure) = look(location, session, checks).await {
        checks.push(Check::failed("archive", &failure));
    }
}

async fn look(location: &Location, session: &Session, checks: &mut Checks) -> Result<(), Failure> {
    let client = session.client(&[location]).await?;
    // What is remembered says nothing about the registry.
    let mut options = PullOptions::default();
    options.skip_cache = true;
    let inspected = client.inspect(location, &options).await.map_err(|error| Failure::at(error, location))?;
    let (files, size) = (inspected.file_count() as u64, inspected.manifest().data().size);
    checks.push(Check::ok("archive", format!("{}, {} of data", count(files, "file"), human(size))));
    let registry = client.registry(location).await.map_err(|error| Failure::at(error, location))?;
    checks.push(ranges(&client, &registry, &inspected).await);
    checks.push(referrers(&client, &registry, &inspected).await);
    Ok(())
}

/// Reads the last byte of the data: a registry that sends everything for it does not answer ranges.
async fn ranges(client: &Client, found: &(std::sync::Arc<dyn Registry>, Repository), archive: &Inspection) -> Check {
    let (registry, repository) = found;
    let data = archive.manifest().data();
    if data.size == 0 {
        return Check::skipped("ranges", "the archive has no data");
    }
    let before = client.traffic().received;
    let read = async {
        let reader = registry.read_blob(repository, &data.digest, Some(data.size - 1..data.size)).await;
        let reader = reader.map_err(|source| blob::Error::Registry { action: "reading one byte".into(), source })?;
        let chunks: Vec<_> = reader.stream.try_collect().await?;
        Ok::<_, Failure>(chunks.len())
    };
    match read.await {
        Err(failure) => Check::failed("ranges", &failure),
        Ok(_) if data.size < TELLING => Check::ok("ranges", "one byte was read; the archive is too small to tell more"),
        Ok(_) => {
            let received = client.traffic().received - before;
            if received >= data.size / 2 {
                let detail = format!("{} came for one byte", human(received));
                Check::warning("ranges", detail).with_hint("reading single files fetches whole archives there")
            } else {
                Check::ok("ranges", format!("one byte of {} was read alone", human(data.size)))
            }
        }
    }
}

/// One request is the API; more are the way round it.
async fn referrers(client: &Client, found: &(std::sync::Arc<dyn Registry>, Repository), archive: &Inspection) -> Check {
    let (registry, repository) = found;
    let before = client.traffic().requests;
    let listed = registry.referrers(repository, archive.manifest().digest(), None, &PageRequest::first()).await;
    match listed {
        Ok(page) => {
            let found = count(page.items.len() as u64, "referrer");
            if client.traffic().requests - before > 1 {
                let detail = format!("{found}; the registry has no referrers API, tags stand in for it");
                Check::warning("referrers", detail)
            } else {
                Check::ok("referrers", found)
            }
        }
        Err(source) => {
            let error = blob::Error::Registry { action: "listing referrers".into(), source };
            Check::failed("referrers", &error.into())
        }
    }
}
