//! `blob pack` and `blob unpack`: archives as files, index and data side by side, and no registry.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use blob::Location;
use blob::pair::{self, PackOptions};
use clap::Args;
use serde::Serialize;

use super::pull::{self, ExtractArgs};
use super::push::create::{CreateArgs, Noted};
use super::push::report::{Contents, contents, contents_text};
use super::push::{NOTHING_LEFT, below, check_source};
use crate::error::Failure;
use crate::plan;
use crate::session::Session;
use crate::ui::escape::shown;

const PACK_EXAMPLES: &str = "\
Examples:
  blob pack ./assets ./packed
  blob pack --reproducible --exclude '*.log' ./build ./packed
  blob ls pair:./packed                                   whatever reads archives reads it
  blob copy pair:./packed localhost:5000/team/assets:v1   and this pushes it

Written are index.blob, data.blob and manifest.json, under their names only when all of them are complete. The digest that is \
printed is the manifest's: pair:./packed@sha256:… opens that archive and no other.";

/// Store a directory as an archive in files: index, data and manifest.
#[derive(Args, Debug)]
#[command(after_help = PACK_EXAMPLES)]
pub(crate) struct PackArgs {
    /// The directory.
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// The directory for the files; made if it does not exist.
    #[arg(value_name = "OUTDIR")]
    dest: PathBuf,

    #[command(flatten)]
    create: CreateArgs,

    /// An annotation of the manifest; may be repeated.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = plan::annotation)]
    annotation: Vec<(String, String)>,

    /// Replace an archive that is there, once the new one is complete.
    #[arg(short = 'f', long, visible_alias = "force")]
    overwrite: bool,

    /// Only say what would be packed. The directory is read and compressed.
    #[arg(long)]
    dry_run: bool,
}

/// What was packed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The archive, for other commands.
    r#ref: String,
    /// The directory that was packed.
    source: String,
    /// `success`, or `dry_run`.
    status: &'static str,
    /// Whether this only says what would be done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// The digest of the manifest.
    digest: String,
    /// The archive with the digest, which never means anything else.
    digest_ref: String,
    /// The file that lists the files.
    index: Part,
    /// The file that holds them.
    data: Part,
    #[serde(flatten)]
    contents: Contents,
}

/// A file of the archive.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Part {
    /// Its path.
    path: String,
    /// Its digest.
    digest: String,
    /// Bytes.
    size: u64,
}

pub(crate) async fn pack(args: PackArgs, session: &Session) -> Result<(), Failure> {
    check_source(&args.dir).map_err(Failure::without_hint)?;
    let noted = Noted::default();
    let mut options = PackOptions::default();
    (options.create, options.created) =
        args.create.options((Some(&args.dir), below(&args.dir, &args.dest)), session, &noted)?;
    options.annotations = args.annotation.iter().cloned().collect();
    options.overwrite = args.overwrite;
    options.create.refuse_empty = args.create.wants_a_part();
    options.dry_run = args.dry_run;
    options.progress = Some(noted.watching(session.meter.watcher()));
    let packed = pair::pack(&args.dir, &args.dest, &options).await;
    noted.problem()?;
    let packed = packed.map_err(|error| match error {
        error @ blob::Error::Empty { .. } => Failure::from(error).with_hint(NOTHING_LEFT),
        blob::Error::PairExists { paths } => exists(&paths),
        error => Failure::from(error),
    })?;
    let location = Location::Pair { dir: args.dest.clone(), digest: None };
    let digest = *packed.manifest.digest();
    let pinned = Location::Pair { dir: args.dest.clone(), digest: Some(digest) }.to_string();
    if session.is_terse() && !args.dry_run {
        return session.print(format!("{pinned}\n")).await;
    }
    let part = |name: &str, descriptor: &blob::registry::Descriptor| Part {
        path: args.dest.join(name).display().to_string(),
        digest: descriptor.digest.to_string(),
        size: descriptor.size,
    };
    let filtered = noted.left_out.load(Ordering::Relaxed);
    let report = Report {
        r#ref: location.to_string(),
        source: args.dir.display().to_string(),
        status: if args.dry_run { "dry_run" } else { "success" },
        dry_run: args.dry_run,
        digest: digest.to_string(),
        digest_ref: pinned,
        index: part(pair::INDEX_NAME, packed.manifest.index()),
        data: part(pair::DATA_NAME, packed.manifest.data()),
        contents: contents(&packed.report, args.create.follows(), filtered),
    };
    let verb = if args.dry_run { "Would pack" } else { "Packed" };
    let text = || {
        let (source, dest) = (shown(report.source.as_bytes()), shown(args.dest.display().to_string().as_bytes()));
        format!("{verb} {source} to {dest}\n  Digest: {digest}\n") + &contents_text(&packed.report, filtered)
    };
    session.outcome(args.dry_run, &report, text).await
}

/// An archive is in the way.
fn exists(paths: &[PathBuf]) -> Failure {
    let names: Vec<_> = paths.iter().filter_map(|path| path.file_name()).map(Path::new).collect();
    let names: Vec<String> = names.iter().map(|name| name.display().to_string()).collect();
    let dir = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("."));
    let verb = if names.len() == 1 { "exists" } else { "exist" };
    let message = format!("{} {verb} in {} already; nothing was written", names.join(", "), dir.display());
    Failure::new(crate::error::Kind::General, message).with_hint("pass --overwrite to replace them")
}

const UNPACK_EXAMPLES: &str = "\
Examples:
  blob unpack ./packed ./assets
  blob unpack --require-manifest ./packed ./assets
  blob unpack -p docs ./packed ./out                only docs/, as ./out/docs/

The files are those that `blob pack` writes, or index.blob and data.blob of other programs, which write no manifest: then every \
file is checked against the index, and nobody says that the index is the right one. `blob pull pair:PAIRDIR DEST` does the same.";

/// Extract an archive from files that `pack` wrote.
#[derive(Args, Debug)]
#[command(after_help = UNPACK_EXAMPLES)]
pub(crate) struct UnpackArgs {
    /// The directory with the files of the archive.
    #[arg(value_name = "PAIRDIR")]
    dir: String,

    /// The directory to extract to; made if it does not exist.
    #[arg(value_name = "DEST")]
    dest: PathBuf,

    /// Refuse an archive that has no manifest above its index.
    #[arg(long)]
    require_manifest: bool,

    #[command(flatten)]
    extract: ExtractArgs,
}

pub(crate) async fn unpack(args: UnpackArgs, session: &Session) -> Result<(), Failure> {
    let typed = if args.dir.starts_with("pair:") { args.dir } else { format!("pair:{}", args.dir) };
    let location = session.location(&typed)?;
    if let (Location::Pair { dir, .. }, true) = (&location, args.require_manifest)
        && dir.join(pair::INDEX_NAME).exists()
        && !pair::has_manifest(dir)
    {
        let message =
            format!("{} has no {}: nobody says that its index is the right one", dir.display(), pair::MANIFEST_NAME);
        let failure = Failure::new(crate::error::Kind::Verification, message);
        return Err(failure.with_hint("without --require-manifest, files are checked against the index alone"));
    }
    pull::extract(("Unpacked", &typed), args.dest, args.extract, session).await
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("pack")]
}
