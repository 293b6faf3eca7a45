//! `blob download`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use blob::core::{Digest, Hasher};
use blob::registry::{Descriptor, Target};
use blob::{Artifact, ArtifactFile, Client, Location};
use clap::Args;
use serde::Serialize;

use crate::error::{Failure, Kind};
use crate::plan;
use crate::session::Session;
use crate::trust::off_thread;
use crate::ui::escape::{exact, shown};
use crate::ui::output;
use crate::ui::size::{count, human};

/// The most bytes that go to standard output, which gets nothing before it was verified.
const MAX_OUTPUT: u64 = 64 << 20;
/// How many artifacts are named where one has to be chosen.
const NAMED: usize = 5;

const EXAMPLES: &str = "\
Examples:
  blob download --type application/spdx+json ghcr.io/org/data:1.0 sbom.json
  blob download --digest sha256:3f2a ghcr.io/org/data:1.0 ./attached/
  blob download --type text/x-scan --dry-run ghcr.io/org/data:1.0
  blob download ghcr.io/org/data@sha256:…        an artifact by its own digest

A single file goes to exactly DEST, unless DEST is a directory or ends in a slash; - is standard output. `blob referrers` \
lists what there is. The content has the digests of the artifact, which anybody may have attached who can push: \
`blob verify` and `blob verify-bundle` say who signed.";

/// Fetch what is attached to an archive: a bill of materials, a signature's bundle, a report.
///
/// `blob pull` extracts the archive itself.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DownloadArgs {
    /// The archive that it is attached to, or the artifact itself.
    #[arg(value_name = "REF")]
    reference: String,

    /// Where to; - writes a single file to standard output.
    #[arg(value_name = "DEST", default_value = ".")]
    dest: PathBuf,

    /// Fetch what is of this artifact type.
    #[arg(long = "type", visible_alias = "artifact-type", value_name = "TYPE")]
    kind: Option<String>,

    /// Fetch what has this digest, or one that begins like it.
    #[arg(long, value_name = "DIGEST", value_parser = super::find::beginning)]
    digest: Option<String>,

    /// Replace files that exist and differ.
    #[arg(short = 'f', long)]
    overwrite: bool,

    /// The most bytes that the files may have together.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = crate::ui::size::parse)]
    max_size: u64,

    /// Fetch it although --require-signed asks for what is verified, which nobody can say of what is attached.
    #[arg(long)]
    unverified: bool,

    /// Only say what would be written.
    #[arg(long)]
    dry_run: bool,
}

impl DownloadArgs {
    /// Whether content goes to standard output.
    pub(crate) fn is_to_output(&self) -> bool {
        self.dest == Path::new("-")
    }
}

/// What was fetched.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed.
    r#ref: String,
    /// What an alias resolved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_ref: Option<String>,
    /// The digest of the artifact.
    digest: String,
    /// What kind of artifact it is.
    artifact_type: String,
    /// What it is attached to.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// Annotations of the artifact.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// Its files.
    files: Vec<Item>,
    /// Whether nothing was written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

/// A file that was fetched.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Item {
    /// Where it is.
    path: String,
    /// Its digest.
    digest: String,
    /// Bytes.
    size: u64,
    /// Its media type.
    media_type: String,
    /// `create`, `replace`, or `keep` where it stood there already.
    action: &'static str,
}

pub(crate) async fn run(args: DownloadArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    if session.options.require_signed && !args.unverified {
        let message =
            format!("what is attached to {location} is judged by no policy, and only what is verified may be read");
        return Err(Failure::new(Kind::Verification, message).with_hint("--unverified fetches it all the same"));
    }
    let client = session.client(&[&location]).await?;
    let artifact = chosen(&client, &location, &args).await?;
    check(&artifact, args.max_size)?;
    if args.is_to_output() {
        return to_output(&artifact, &args, session).await;
    }
    let targets = targets(&artifact, &args.dest)?;
    let overwrite = args.overwrite;
    let (actions, targets) = off_thread(move || Ok((actions(&targets, overwrite)?, targets))).await?;
    if !args.dry_run {
        save(&artifact, &targets, &actions, session).await?;
    }
    Session::log_traffic(&client);
    let files = targets.iter().zip(&actions).map(|((path, file), action)| Item {
        path: path.display().to_string(),
        digest: file.descriptor.digest.to_string(),
        size: file.descriptor.size,
        media_type: file.descriptor.media_type.clone(),
        action,
    });
    let report = Report {
        resolved_ref: Session::resolved(&args.reference, &location),
        r#ref: args.reference,
        digest: artifact.manifest.digest.to_string(),
        artifact_type: artifact.artifact_type.clone(),
        subject: artifact.subject.as_ref().map(|subject| subject.digest.to_string()),
        annotations: artifact.annotations.clone(),
        files: files.collect(),
        dry_run: args.dry_run,
    };
    session.outcome(args.dry_run, &report, || text(&report)).await
}

/// The artifact that is meant: the only one that fits, or the place itself where that is one.
async fn chosen(client: &Client, location: &Location, args: &DownloadArgs) -> Result<Artifact, Failure> {
    let failed = |error| Failure::at(error, location);
    let itself = client.artifact(location).await.map_err(failed)?;
    let narrowed = args.kind.is_some() || args.digest.is_some();
    if itself.subject.is_some() && !narrowed {
        return Ok(itself);
    }
    let mut found = client.referrers(location, &itself.manifest.digest, args.kind.as_deref()).await.map_err(failed)?;
    if let Some(wanted) = &args.digest {
        found.retain(|one| begins(&one.digest, wanted));
    }
    match found.as_slice() {
        [only] => {
            let at = location.with_target(Target::Digest(only.digest));
            client.artifact(&at).await.map_err(|error| Failure::at(error, &at))
        }
        // An artifact that stands for itself, as oras pushes them.
        [] if !narrowed && itself.artifact_type != blob::ARTIFACT_TYPE && !itself.files.is_empty() => Ok(itself),
        [] => {
            let what = if narrowed { "nothing like that" } else { "nothing" };
            let failure = Failure::not_found(format!("{what} is attached to {location}"));
            let hint = if narrowed {
                format!("`blob referrers {}` lists what there is", args.reference)
            } else {
                format!("`blob pull {}` extracts the archive itself", args.reference)
            };
            Err(failure.with_hint(hint))
        }
        several => Err(ambiguous(several, location)),
    }
}

fn begins(digest: &Digest, wanted: &str) -> bool {
    digest.to_string().starts_with(wanted) || digest.hex().starts_with(wanted)
}

fn ambiguous(found: &[Descriptor], location: &Location) -> Failure {
    let kind = |one: &Descriptor| one.artifact_type.clone().unwrap_or_else(|| one.media_type.clone());
    let named = found.iter().take(NAMED).map(|one| format!("{} ({})", one.digest, exact(kind(one).as_bytes())));
    let more = if found.len() > NAMED { ", …" } else { "" };
    let named = named.collect::<Vec<_>>().join(", ");
    let message = format!("{} fit at {location}: {named}{more}", count(found.len() as u64, "artifact"));
    Failure::usage(message).with_hint("choose one by --digest, of which the beginning is enough, or by --type")
}

/// Refuses what has no files, and more than is wanted.
fn check(artifact: &Artifact, max_size: u64) -> Result<(), Failure> {
    if artifact.files.is_empty() {
        let failure = Failure::not_found(format!("there are no files in {}", artifact.location));
        return Err(failure.with_hint("`blob inspect --raw` shows the manifest"));
    }
    let size = artifact.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.descriptor.size));
    if size > max_size {
        let message = format!("{} has {}, over the limit of {}", artifact.location, human(size), human(max_size));
        return Err(Failure::new(Kind::General, message).with_hint("raise the limit with --max-size"));
    }
    Ok(())
}

async fn to_output(artifact: &Artifact, args: &DownloadArgs, session: &Session) -> Result<(), Failure> {
    let [file] = artifact.files.as_slice() else {
        let several = count(artifact.files.len() as u64, "file");
        let failure =
            Failure::usage(format!("{} has {several}, and one can be written to standard output", args.reference));
        return Err(failure.with_hint("name a directory for them"));
    };
    if file.descriptor.size > MAX_OUTPUT {
        let size = human(file.descriptor.size);
        let message = format!("{} has {size}, and standard output gets at most {}", file.name, human(MAX_OUTPUT));
        return Err(Failure::new(Kind::General, message).with_hint("name a file for it"));
    }
    if args.dry_run {
        return Err(Failure::usage("--dry-run is for files, and standard output is none"));
    }
    let content = artifact.read(file, MAX_OUTPUT).await.map_err(|error| Failure::at(error, &artifact.location))?;
    session.meter.clear();
    output::print(content).await
}

/// Where each file goes; two with one name are refused.
fn targets(artifact: &Artifact, dest: &Path) -> Result<Vec<(PathBuf, ArtifactFile)>, Failure> {
    let is_dir = dest.is_dir() || dest.as_os_str().as_encoded_bytes().ends_with(b"/");
    if let ([file], false) = (artifact.files.as_slice(), is_dir) {
        return Ok(vec![(dest.to_owned(), file.clone())]);
    }
    if dest.exists() && !dest.is_dir() {
        return Err(Failure::usage(format!("destination is not a directory: {}", dest.display())));
    }
    let mut targets: Vec<(PathBuf, ArtifactFile)> = Vec::new();
    for file in &artifact.files {
        let path = dest.join(&file.name);
        if targets.iter().any(|(other, _)| *other == path) {
            let name = shown(file.name.as_bytes());
            return Err(Failure::new(Kind::General, format!("two files of the artifact are called {name}")));
        }
        targets.push((path, file.clone()));
    }
    Ok(targets)
}

/// Refuses a path on which something stands that is no directory, or a directory that takes nothing.
fn check_way(path: &Path) -> Result<(), Failure> {
    let above =
        path.ancestors().skip(1).find(|above| !above.as_os_str().is_empty() && above.symlink_metadata().is_ok());
    let above = above.unwrap_or(Path::new("."));
    if !above.is_dir() {
        return Err(Failure::new(Kind::General, format!("{} is in the way: it is no directory", above.display())));
    }
    plan::takes_files(above).map_err(|error| Failure::io(format!("writing {}", path.display()), &error))
}

/// What becomes of each file; blocks.
fn actions(targets: &[(PathBuf, ArtifactFile)], overwrite: bool) -> Result<Vec<&'static str>, Failure> {
    let (mut actions, mut differing) = (Vec::new(), Vec::new());
    for (path, file) in targets {
        let action = match std::fs::symlink_metadata(path) {
            Err(_) => {
                check_way(path)?;
                "create"
            }
            Ok(found) if found.is_dir() => {
                return Err(Failure::new(Kind::General, format!("{} is a directory", path.display())));
            }
            Ok(found) if !found.is_file() && !found.is_symlink() => {
                let message = format!("{} is neither a file nor a directory", path.display());
                return Err(Failure::usage(message).with_hint("- is standard output, which can be led there"));
            }
            Ok(found) if found.is_file() && found.len() == file.descriptor.size && holds(path, file) => "keep",
            Ok(_) => "replace",
        };
        if action == "replace" && !overwrite {
            differing.push(path.clone());
        }
        actions.push(action);
    }
    if differing.is_empty() { Ok(actions) } else { Err(super::pull::exist(&differing, differing.len() as u64)) }
}

/// Whether the file at `path` has the content already.
fn holds(path: &Path, file: &ArtifactFile) -> bool {
    let hashed = || -> io::Result<Digest> {
        let (mut hasher, mut buffer) = (Hasher::new(file.descriptor.digest.algorithm()), vec![0; 128 << 10]);
        let mut opened = File::open(path)?.take(file.descriptor.size + 1);
        loop {
            match opened.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                read => hasher.update(&buffer[..read]),
            }
        }
    };
    hashed().is_ok_and(|digest| digest == file.descriptor.digest)
}

async fn save(
    artifact: &Artifact,
    targets: &[(PathBuf, ArtifactFile)],
    actions: &[&str],
    session: &Session,
) -> Result<(), Failure> {
    for (done, ((path, file), _)) in targets.iter().zip(actions).filter(|(_, action)| **action != "keep").enumerate() {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made = tokio::fs::create_dir_all(parent).await;
        made.map_err(|error| Failure::io(format!("making the directory {}", parent.display()), &error))?;
        let saved = artifact.save(file, path, Some(session.meter.watcher())).await;
        saved.map_err(|error| match (Failure::at(error, &artifact.location), done) {
            (failure, 0) => failure,
            (failure, _) => failure.after(format!("fetched {done} of {}", count(targets.len() as u64, "file"))),
        })?;
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let verb = if report.dry_run { "Would download" } else { "Downloaded" };
    let mut text = format!("{verb} {} from {}\n", exact(report.artifact_type.as_bytes()), report.r#ref);
    let _ = writeln!(text, "  Digest: {}", report.digest);
    for Item { path, size, action, .. } in &report.files {
        let told = match *action {
            "keep" => ", there already",
            "replace" => ", replaced",
            _ => "",
        };
        let _ = writeln!(text, "  → {} ({}{told})", shown(path.as_bytes()), human(*size));
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("download")]
}
