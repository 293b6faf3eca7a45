//! `blob check`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use blob::Archive;
use blob::core::index::{Difference, diff};
use blob::core::{Entry, ReadError};
use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::local;
use crate::args::Caching;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::escape::{PathText, shown};
use crate::ui::progress::Stage;
use crate::ui::size::{count, human};

/// Damaged files that are named.
const NAMED: usize = 1000;

const EXAMPLES: &str = "\
Examples:
  blob check localhost:5000/team/assets:v1                     manifest, index, and that the data is there
  blob check --read-data localhost:5000/team/assets:v1         every byte
  blob check --read-data=5% localhost:5000/team/assets:v1      a random part of the files
  blob check localhost:5000/team/assets:v1 ./assets            whether a directory holds what the archive does

Nothing is taken from the cache, and nothing is kept. The exit code is 7 if anything is damaged, and 1 if the directory \
differs.";

/// Check that an archive is whole, or that a directory is what the archive says.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// A directory to compare with the archive.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Read the files and compare them with their digests: all of them, or a random part, as in 5%.
    #[arg(long, value_name = "N%|all", num_args = 0..=1, require_equals = true, default_missing_value = "all", value_parser = portion)]
    read_data: Option<f64>,

    /// Compare modes and modification times of the directory as well.
    #[arg(short, long, requires = "dir")]
    metadata: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

/// Which part of the files is read: `all` or `5%`, as a number up to 1.
fn portion(typed: &str) -> Result<f64, String> {
    let wrong = || format!("{typed:?} is no part: expected all, or a percentage as in 5%");
    if typed == "all" {
        return Ok(1.0);
    }
    let percent: f64 = typed.strip_suffix('%').and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    if percent > 0.0 && percent <= 100.0 { Ok(percent / 100.0) } else { Err(wrong()) }
}

/// How an archive was found.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// The digest of the manifest.
    digest: String,
    /// Whether a policy admitted it.
    verified: bool,
    /// Files in the index.
    files: usize,
    /// Bytes of the data.
    data_size: u64,
    /// Files that were read and compared with their digests.
    read_files: u64,
    /// Their bytes.
    read_size: u64,
    /// Whether nothing was damaged.
    whole: bool,
    /// What was damaged, the first 1000.
    damaged: Vec<Damage>,
    /// How a directory compares.
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<Compared>,
}

/// A damaged file.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Damage {
    #[serde(flatten)]
    path: PathText,
    /// What is wrong with it.
    problem: String,
    #[serde(skip)]
    raw: Vec<u8>,
}

/// A directory held against the archive.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Compared {
    /// The directory.
    path: String,
    /// Whether it holds what the archive does.
    identical: bool,
    /// What only the archive has.
    missing: Vec<PathText>,
    /// What only the directory has.
    extra: Vec<PathText>,
    /// What differs.
    changed: Vec<PathText>,
}

pub(crate) async fn run(args: CheckArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    if let Some(dir) = args.dir.as_ref().filter(|dir| !dir.is_dir()) {
        return Err(Failure::not_found(format!("there is no directory {}", dir.display())));
    }
    let client = session.reading(&[&location], &args.trust).await?;
    // Opening checks the manifest against its digest, and the index against the manifest.
    let archive = session.open(&client, &location, Caching { skip_cache: true }).await?;
    // A mirror may have what the registry lost.
    let (registry, repository) = client.registry_without_mirrors(&location).await?;
    let data = archive.manifest().data().clone();
    let found = registry.stat_blob(&repository, &data.digest).await;
    let action = || format!("looking for the data of {location}");
    let size = found.map_err(|source| Failure::at(blob::Error::Registry { action: action(), source }, &location))?;
    if size != data.size {
        let message = format!("the data of {location} has {size} bytes, expected {}", data.size);
        return Err(Failure::new(Kind::HashMismatch, message));
    }
    let mut reading = Reading::default();
    if let Some(portion) = args.read_data {
        reading.read(&archive, portion, session).await?;
    }
    let directory = match &args.dir {
        Some(dir) => Some(compare(&archive, dir, args.metadata, session).await?),
        None => None,
    };
    Session::log_traffic(&client);
    let report = Report {
        r#ref: location.to_string(),
        digest: archive.manifest().digest().to_string(),
        verified: archive.manifest().is_verified(),
        files: archive.len(),
        data_size: data.size,
        read_files: reading.files,
        read_size: reading.bytes,
        whole: reading.damaged.is_empty(),
        damaged: reading.damaged,
        directory,
    };
    session.report(&report, || text(&report, args.read_data)).await?;
    verdict(&report)
}

/// What was read, and what was wrong with it.
#[derive(Default)]
struct Reading {
    files: u64,
    bytes: u64,
    damaged: Vec<Damage>,
}

impl Reading {
    /// Reads a part of the files, each content once, in the order of the data.
    async fn read(&mut self, archive: &Archive, portion: f64, session: &Session) -> Result<(), Failure> {
        let mut files: Vec<Entry<'_>> = archive.entries().collect();
        files.sort_by_key(|file| (file.range().start, file.range().end, file.digest().to_string()));
        files.dedup_by(|a, b| a.range() == b.range() && a.digest() == b.digest());
        if portion < 1.0 {
            let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
            let chosen = |at: usize| mixed(seed.wrapping_add(at as u64)) < portion;
            let mut at = 0;
            files.retain(|_| {
                at += 1;
                chosen(at)
            });
        }
        let total = files.iter().map(Entry::original_size).sum();
        let tally = session.meter.tally(Stage::Checking, total, files.len() as u64);
        let mut contents = archive.each_content(files);
        while let Some((file, content)) = contents.next().await {
            let count = async |chunk: Bytes| {
                tally.add(chunk.len() as u64);
                Ok(())
            };
            let read = match content {
                Ok(content) => content.try_for_each(count).await,
                Err(error) => Err(error),
            };
            match read {
                Ok(()) => (self.files, self.bytes) = (self.files + 1, self.bytes + file.original_size()),
                Err(ReadError::Decode { path, source }) => {
                    let problem = source.to_string();
                    self.damaged.push(Damage { path: PathText::new(&path), problem, raw: path.to_vec() });
                }
                Err(error) => return Err(error.into()),
            }
            tally.set(self.bytes, self.files);
            if self.damaged.len() >= NAMED {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A number from 0 to 1 that looks like chance.
fn mixed(seed: u64) -> f64 {
    // The finaliser of SplitMix64.
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((seed ^ (seed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

async fn compare(
    archive: &Archive,
    dir: &std::path::Path,
    metadata: bool,
    session: &Session,
) -> Result<Compared, Failure> {
    let (index, _) = local::index_of(dir, true, session).await?;
    let (mut missing, mut extra, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for difference in diff(archive.index(), &index, metadata) {
        let path = PathText::new(difference.path());
        match difference {
            Difference::Added(_) => extra.push(path),
            Difference::Removed(_) => missing.push(path),
            _ => changed.push(path),
        }
    }
    let identical = missing.is_empty() && extra.is_empty() && changed.is_empty();
    Ok(Compared { path: dir.display().to_string(), identical, missing, extra, changed })
}

fn verdict(report: &Report) -> Result<(), Failure> {
    if !report.damaged.is_empty() {
        let total = report.damaged.len() as u64;
        let message = format!("{} of {} damaged", count(total, "file"), report.r#ref);
        return Err(
            Failure::new(Kind::HashMismatch, message).with_hint("push the archive again, or copy it from elsewhere")
        );
    }
    match &report.directory {
        Some(compared) if !compared.identical => Err(Failure::new(Kind::Different, "the directory differs")),
        _ => Ok(()),
    }
}

fn text(report: &Report, read: Option<f64>) -> String {
    let mut text = format!("Checked {}\n  Digest: {}\n", report.r#ref, report.digest);
    let _ = writeln!(text, "  Index: {}", count(report.files as u64, "file"));
    let _ = writeln!(text, "  Data: {} there", human(report.data_size));
    if read.is_some() {
        let _ = writeln!(text, "  Read: {} ({})", count(report.read_files, "file"), human(report.read_size));
    }
    for damage in &report.damaged {
        let _ = writeln!(text, "  Damaged: {}: {}", shown(&damage.raw), shown(damage.problem.as_bytes()));
    }
    let Some(compared) = &report.directory else { return text };
    let verdict = if compared.identical { "the same" } else { "different" };
    let _ = writeln!(text, "  {}: {verdict}", shown(compared.path.as_bytes()));
    for (letter, paths) in [("missing", &compared.missing), ("extra", &compared.extra), ("changed", &compared.changed)]
    {
        for path in paths {
            let _ = writeln!(text, "    {letter}: {}", shown(path.path.as_bytes()));
        }
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("check")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_percentages() {
        for (typed, expected) in [
            ("all", Some(1.0)),
            ("5%", Some(0.05)),
            ("100%", Some(1.0)),
            ("0%", None),
            ("101%", None),
            ("5", None),
            ("x%", None),
        ] {
            assert_eq!(portion(typed).ok(), expected, "{typed}");
        }
    }

    #[test]
    fn chance_is_even() {
        let chosen = (0..10_000).filter(|seed| mixed(*seed) < 0.1).count();
        assert!((800..1200).contains(&chosen), "{chosen}");
    }
}
