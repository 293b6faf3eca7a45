//! `blob export`.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use blob::Archive;
use blob::core::{Node, path};
use blob::tarball::{ExportError, Exported, exported_size};
use clap::Args;
use serde::Serialize;
use tokio::io::AsyncWrite;

use super::missing;
use crate::args::Caching;
use crate::error::{Failure, Kind};
use crate::filter::Patterns;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::escape::shown;
use crate::ui::output;
use crate::ui::progress::{Stage, Tally};
use crate::ui::size::{count, human};
use crate::ui::traffic::Traffic;

const EXAMPLES: &str = "\
Examples:
  blob export localhost:5000/team/assets:v1 > assets.tar
  blob export localhost:5000/team/assets:v1 images | tar -x -C ./out
  blob export -f docs.tar --include '*.md' ghcr.io/org/data:1.0
  blob export oci:./layout:v1 | blob push localhost:5000/team/assets:v1 -

The same archive gives the same bytes. Files of up to 8 MiB are verified before they are written; on exit code 7, do not \
use what was written. With --file, nothing has that name until everything is verified.";

/// Write an archive, or a part of it, as a tar stream.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// Files and directories in the archive; everything by default.
    #[arg(value_name = "PATH")]
    paths: Vec<String>,

    /// Write to this file instead of standard output; - is standard output.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    patterns: Patterns,

    /// Say on standard error how many requests and bytes it took.
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

/// What was exported to a file.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// The digest of the manifest.
    digest: String,
    /// The file that was written.
    file: String,
    /// Files.
    file_count: u64,
    /// Symbolic links.
    symlink_count: u64,
    /// Empty directories.
    empty_dir_count: u64,
    /// Bytes of the files, uncompressed.
    total_size: u64,
    /// Bytes of the tar stream.
    tar_size: u64,
    /// What was fetched, and what the cache saved.
    traffic: Traffic,
}

impl ExportArgs {
    /// Whether the stream goes to standard output.
    pub(crate) fn is_to_output(&self) -> bool {
        self.file.as_deref().is_none_or(|file| file == Path::new("-"))
    }
}

pub(crate) async fn run(args: ExportArgs, session: &Session) -> Result<(), Failure> {
    let file = args.file.as_deref().filter(|file| *file != Path::new("-"));
    if file.is_none() {
        refuse_terminal()?;
    }
    let location = session.location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    let nodes = nodes(&archive, &args.paths, &args.patterns)?;
    if nodes.is_empty() && args.patterns.includes() {
        return Err(args.patterns.nothing_of(&args.reference));
    }
    if let Some(file) = file {
        let exported = to_file(&archive, &nodes, file, session).await?;
        let report = Report {
            r#ref: location.to_string(),
            digest: archive.manifest().digest().to_string(),
            file: file.display().to_string(),
            file_count: exported.files,
            symlink_count: exported.symlinks,
            empty_dir_count: exported.empty_dirs,
            total_size: exported.content_bytes,
            tar_size: exported.bytes,
            traffic: Traffic::of(&client, [&archive]),
        };
        session.report(&report, || text(&report)).await?;
    } else {
        to_output(&archive, &nodes, session).await?;
        session.meter.clear();
    }
    Session::log_traffic(&client);
    if args.stats {
        session.print_stats(&client, &archive);
    }
    Ok(())
}

/// Tar streams are not for people.
pub(super) fn refuse_terminal() -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        let failure = Failure::usage("a tar stream is not written to a terminal");
        return Err(failure.with_hint("pass --file, or redirect the output"));
    }
    Ok(())
}

/// What is meant, sorted by path.
pub(super) fn nodes<'a>(archive: &'a Archive, paths: &[String], patterns: &Patterns) -> Result<Vec<Node<'a>>, Failure> {
    let index = archive.index();
    let mut nodes: Vec<Node<'a>> = Vec::new();
    if paths.is_empty() {
        nodes.extend(index.root().nodes());
    }
    for typed in paths {
        let found = index.lookup(path::normalize(typed.as_bytes()));
        match found.ok_or_else(|| missing::failure("path not found in archive", index, typed))? {
            Node::Directory(dir) => nodes.extend(dir.nodes()),
            node => nodes.push(node),
        }
    }
    let filter = patterns.filter();
    nodes.retain(|node| filter.takes_node(node));
    nodes.sort_by(|a, b| a.path().cmp(b.path()));
    nodes.dedup_by(|a, b| a.path() == b.path());
    Ok(nodes)
}

/// Writes to standard output.
pub(super) async fn to_output(archive: &Archive, nodes: &[Node<'_>], session: &Session) -> Result<Exported, Failure> {
    let out = Counted::new(output::raw(), nodes, session);
    archive.export(nodes, out).await.map_err(|error| match error {
        ExportError::Write(source) => Failure::output(&source),
        other => failed(other, "standard output"),
    })
}

/// Writes to a file that gets its name when it is complete.
async fn to_file(archive: &Archive, nodes: &[Node<'_>], file: &Path, session: &Session) -> Result<Exported, Failure> {
    let name = file.display().to_string();
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let io = |error: &std::io::Error| Failure::io(format!("writing {name}"), error);
    // The name that it has until it is complete says nothing to anybody.
    if !dir.is_dir() {
        return Err(Failure::not_found(format!("writing {name}: there is no directory {}", dir.display())));
    }
    let made = tempfile::Builder::new().prefix(".blob-export-").tempfile_in(dir);
    let temporary = made.map_err(|error| io(&std::io::Error::from(error.kind())))?;
    let open = temporary.as_file().try_clone().map_err(|error| io(&error))?;
    let out = Counted::new(tokio::fs::File::from_std(open), nodes, session);
    let exported = archive.export(nodes, out).await.map_err(|error| failed(error, &name))?;
    set_mode(temporary.as_file()).map_err(|error| io(&error))?;
    temporary.persist(file).map_err(|error| io(&error.error))?;
    Ok(exported)
}

/// Tells the meter what is written.
struct Counted<W> {
    out: W,
    tally: Tally,
}

impl<W> Counted<W> {
    fn new(out: W, nodes: &[Node<'_>], session: &Session) -> Self {
        let tally = session.meter.tally(Stage::Exporting, exported_size(nodes), 0);
        Self { out, tally }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Counted<W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.out).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.tally.add(*count as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.out).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.out).poll_shutdown(context)
    }
}

/// Temporary files are for their owner alone; others are not.
fn set_mode(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn failed(error: ExportError, to: &str) -> Failure {
    match error {
        ExportError::Read(error) => error.into(),
        ExportError::Write(source) => Failure::io(format!("writing {to}"), &source),
        other => Failure::new(Kind::General, other.to_string()),
    }
}

fn text(report: &Report) -> String {
    let mut text = format!("Exported {}\n  File: {}\n", report.r#ref, shown(report.file.as_bytes()));
    let _ = writeln!(
        text,
        "  Files: {}\n  Size: {} ({} as tar)",
        report.file_count,
        human(report.total_size),
        human(report.tar_size)
    );
    for (number, what) in [(report.symlink_count, "link"), (report.empty_dir_count, "empty dir")] {
        if number > 0 {
            let _ = writeln!(text, "  And {}", count(number, what));
        }
    }
    if let Some(fetched) = report.traffic.text() {
        let _ = writeln!(text, "  Fetched: {fetched}");
    }
    text
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("export")]
}
