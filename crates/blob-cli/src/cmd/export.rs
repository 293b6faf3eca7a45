//! `blob export`.

mod target;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use blob::Archive;
use blob::core::{Node, path};
use blob::tarball::{ExportError, Exported, exported_size};
use blob::zip::{ZipError, check_names};
use clap::{Args, ValueEnum};
use serde::Serialize;
use target::Target;
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
  blob export -f assets.zip localhost:5000/team/assets:v1
  blob export -f docs.tar --dry-run ghcr.io/org/data:1.0 docs
  blob export oci:./layout:v1 | blob push localhost:5000/team/assets:v1 -

The same archive gives the same bytes. Files of up to 8 MiB are verified before they are written; on exit code 7, do not \
use what was written. With --file, nothing has that name until everything is verified.";

/// How what is exported is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A tar stream (POSIX, with PAX records).
    Tar,
    /// A ZIP file.
    Zip,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Tar => "a tar stream",
            Self::Zip => "a ZIP file",
        }
    }
}

/// Write an archive, or a part of it, as a tar stream or a ZIP file.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// Files and directories in the archive; everything by default.
    #[arg(value_name = "PATH")]
    paths: Vec<String>,

    /// Write to this file instead of standard output; - is standard output. A file that is there is replaced.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// What to write [default: zip for a --file whose name ends like that, else tar].
    #[arg(short, long, value_name = "FORM")]
    archive: Option<Form>,

    #[command(flatten)]
    patterns: Patterns,

    /// Only say what would be written; no content is fetched.
    #[arg(long)]
    dry_run: bool,

    /// Say on standard error how many requests and bytes it took.
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

/// What was exported to a file, or would be written.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// The digest of the manifest.
    digest: String,
    /// The file that was written; `-` in a plan is standard output.
    file: String,
    /// Whether nothing was written, only looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// What would become of the file, by a plan: `create`, `replace`, or `write` into what stays what it is, such as a
    /// device or standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    /// Files.
    file_count: u64,
    /// Symbolic links.
    symlink_count: u64,
    /// Empty directories.
    empty_dir_count: u64,
    /// Bytes of the files, uncompressed.
    total_size: u64,
    /// Bytes of the tar stream, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    tar_size: Option<u64>,
    /// Bytes of the ZIP file, if it is one; a plan does not know them.
    #[serde(skip_serializing_if = "Option::is_none")]
    zip_size: Option<u64>,
    /// What was fetched, and what the cache saved.
    traffic: Traffic,
}

impl ExportArgs {
    /// Whether the stream goes to standard output.
    pub(crate) fn is_to_output(&self) -> bool {
        self.named().is_none() && !self.dry_run
    }

    /// The file that is written.
    fn named(&self) -> Option<&Path> {
        self.file.as_deref().filter(|file| *file != Path::new("-"))
    }

    fn form(&self) -> Form {
        let ending = self.file.as_deref().and_then(Path::extension);
        let zip = ending.is_some_and(|ending| ending.eq_ignore_ascii_case("zip"));
        self.archive.unwrap_or(if zip { Form::Zip } else { Form::Tar })
    }
}

pub(crate) async fn run(args: ExportArgs, session: &Session) -> Result<(), Failure> {
    let form = args.form();
    if args.is_to_output() {
        refuse_terminal(form)?;
    }
    let location = session.location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    let nodes = nodes(&archive, &args.paths, &args.patterns)?;
    let target = args.named().map(Target::find).transpose()?;
    if args.dry_run {
        let planned = planned(&nodes, form)?;
        let report = Report::new(&args, &archive, &planned, Traffic::of(&client, [&archive]));
        let report = Report { action: Some(target.map_or("write", |target| target.action())), ..report };
        session.answer(&report, || text(&report, form, planned.bytes)).await?;
    } else if let Some(target) = target {
        let exported = to_file(&archive, &nodes, &target, form, session).await?;
        let report = Report::new(&args, &archive, &exported, Traffic::of(&client, [&archive]));
        session.report(&report, || text(&report, form, exported.bytes)).await?;
    } else {
        to_output(&archive, &nodes, form, session).await?;
        session.meter.clear();
    }
    Session::log_traffic(&client);
    if args.stats {
        session.print_stats(&client, &archive);
    }
    Ok(())
}

impl Report {
    fn new(args: &ExportArgs, archive: &Archive, exported: &Exported, traffic: Traffic) -> Self {
        let bytes = (exported.bytes > 0).then_some(exported.bytes);
        Self {
            r#ref: archive.location().to_string(),
            digest: archive.manifest().digest().to_string(),
            file: args.named().unwrap_or(Path::new("-")).display().to_string(),
            dry_run: args.dry_run,
            action: None,
            file_count: exported.files,
            symlink_count: exported.symlinks,
            empty_dir_count: exported.empty_dirs,
            total_size: exported.content_bytes,
            tar_size: bytes.filter(|_| args.form() == Form::Tar),
            zip_size: bytes.filter(|_| args.form() == Form::Zip),
            traffic,
        }
    }
}

/// What would be written. How large a ZIP file becomes shows only when it is written, and is 0 here.
fn planned(nodes: &[Node<'_>], form: Form) -> Result<Exported, Failure> {
    let mut planned = Exported::default();
    for node in nodes {
        match node {
            Node::File(file) => {
                planned.files += 1;
                planned.content_bytes += file.original_size();
            }
            Node::Symlink(_) => planned.symlinks += 1,
            Node::EmptyDir(_) => planned.empty_dirs += 1,
            Node::Directory(_) => {}
        }
    }
    match form {
        Form::Tar => planned.bytes = exported_size(nodes),
        Form::Zip => check_names(nodes).map_err(|error| unfit(&error))?,
    }
    Ok(planned)
}

/// Neither form is for people.
pub(super) fn refuse_terminal(form: Form) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        let failure = Failure::usage(format!("{} is not written to a terminal", form.name()));
        return Err(failure.with_hint("pass --file, or redirect the output"));
    }
    Ok(())
}

/// What is meant, sorted by path. That --include names nothing is an error: it is a slip more often than not.
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
    if nodes.is_empty() && patterns.includes() {
        return Err(patterns.nothing_of(&archive.location().to_string()));
    }
    Ok(nodes)
}

/// Writes to standard output.
pub(super) async fn to_output(
    archive: &Archive,
    nodes: &[Node<'_>],
    form: Form,
    session: &Session,
) -> Result<Exported, Failure> {
    let out = Counted::new(output::raw(), nodes, form, session);
    write(archive, nodes, form, out).await.map_err(|error| match error {
        Broken::Write(source) => Failure::output(&source),
        other @ Broken::Read(_) => failed(other, "standard output"),
    })
}

/// What went wrong.
enum Broken {
    Write(std::io::Error),
    Read(Failure),
}

async fn write(
    archive: &Archive,
    nodes: &[Node<'_>],
    form: Form,
    out: impl AsyncWrite + Unpin + Send,
) -> Result<Exported, Broken> {
    match form {
        Form::Tar => archive.export(nodes, out).await.map_err(|error| match error {
            ExportError::Write(source) => Broken::Write(source),
            ExportError::Read(error) => Broken::Read(error.into()),
            other => Broken::Read(Failure::new(Kind::General, other.to_string())),
        }),
        Form::Zip => archive.export_zip(nodes, out).await.map_err(|error| match error {
            ZipError::Write(source) => Broken::Write(source),
            ZipError::Read(error) => Broken::Read(error.into()),
            other => Broken::Read(unfit(&other)),
        }),
    }
}

/// What a ZIP file cannot hold.
fn unfit(error: &ZipError) -> Failure {
    Failure::new(Kind::General, error.to_string()).with_hint("leave it out by --exclude, or write a tar stream")
}

/// Writes to a file that gets its name when it is complete, or into something that is no file.
async fn to_file(
    archive: &Archive,
    nodes: &[Node<'_>],
    target: &Target<'_>,
    form: Form,
    session: &Session,
) -> Result<Exported, Failure> {
    let draft = target.draft()?;
    let out = Counted::new(draft.writer()?, nodes, form, session);
    let exported = write(archive, nodes, form, out).await;
    let exported = exported.map_err(|error| failed(error, &target.file().display().to_string()))?;
    draft.keep()?;
    Ok(exported)
}

/// Tells the meter what is written.
struct Counted<W> {
    out: W,
    tally: Tally,
}

impl<W> Counted<W> {
    fn new(out: W, nodes: &[Node<'_>], form: Form, session: &Session) -> Self {
        // How large a ZIP file becomes shows at its end.
        let total = if form == Form::Tar { exported_size(nodes) } else { 0 };
        let tally = session.meter.tally(Stage::Exporting, total, 0);
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

fn failed(error: Broken, to: &str) -> Failure {
    match error {
        Broken::Write(source) => Failure::io(format!("writing {to}"), &source),
        Broken::Read(failure) => failure,
    }
}

fn text(report: &Report, form: Form, written: u64) -> String {
    let (verb, kind) =
        (if report.dry_run { "Would export" } else { "Exported" }, if form == Form::Tar { "tar" } else { "zip" });
    let place = match report.action {
        Some("replace") => " (replaced)",
        Some("write") if report.file == "-" => " (standard output)",
        Some("write") => " (written to as it is)",
        _ => "",
    };
    let file = shown(report.file.as_bytes());
    let size = if written > 0 { format!("{} as {kind}", human(written)) } else { format!("before {kind}") };
    let mut text = format!("{verb} {}\n  File: {file}{place}\n", report.r#ref);
    let _ = writeln!(text, "  Files: {}\n  Size: {} ({size})", report.file_count, human(report.total_size));
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
