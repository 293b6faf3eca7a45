//! The lines that differ, as `patch(1)` reads them: `diff --patch`.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use blob::Archive;
use futures_util::TryStreamExt as _;
use similar::TextDiff;

use super::Told;
use crate::error::Failure;
use crate::ui::escape::{exact, shown};
use crate::ui::output::Output;
use crate::ui::size::human;

/// Larger files are named and not compared by lines: 1 MiB.
const LARGEST: u64 = 1 << 20;

/// What takes longer to compare is shown by fewer, larger changes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the contents of a side are.
pub(super) enum Contents {
    Archive(Box<Archive>),
    Directory(PathBuf),
}

impl Contents {
    /// A file of at most [`LARGEST`] bytes. Those of an archive are verified; one of a directory may be another than when
    /// the directory was listed, and is given as it is now.
    async fn read(&self, path: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Archive(archive) => {
                let mut bytes = Vec::new();
                let mut chunks = archive.stream(path).await?;
                while let Some(chunk) = chunks.try_next().await? {
                    bytes.extend_from_slice(&chunk);
                }
                Ok(bytes)
            }
            Self::Directory(dir) => {
                let file = dir.join(Path::new(super::local::os_str(path)));
                let shown = file.display().to_string();
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = Vec::new();
                    std::fs::File::open(file)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
                    Ok(bytes)
                });
                let read = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
                read.map_err(|error: std::io::Error| Failure::io(format!("reading {shown}"), &error))
            }
        }
    }
}

/// Writes a patch for each of `told`, with so many lines around what differs.
pub(super) async fn write(told: &[Told], from: &Contents, to: &Contents, context: usize) -> Result<(), Failure> {
    let (mut output, terminal) = (Output::new(), std::io::stdout().is_terminal());
    // What stands in the way of something new goes first.
    let (gone, others): (Vec<_>, Vec<_>) = told.iter().partition(|one| one.letter == 'D');
    for one in gone.into_iter().chain(others) {
        let text = patch(one, from, to, context).await?;
        output.write(if terminal { harmless(&text) } else { text }.as_bytes()).await?;
    }
    output.finish().await
}

async fn patch(told: &Told, from: &Contents, to: &Contents, context: usize) -> Result<String, Failure> {
    let path = exact(&told.raw);
    let names = (format!("a/{path}"), format!("b/{path}"));
    let (before, after) = told.sizes;
    if told.letter == 'm' {
        return Ok(format!("Modes or times of {} and {} differ\n", names.0, names.1));
    }
    if before.is_none() && after.is_none() {
        return Ok(match told.letter {
            'A' => format!("Only in b: {path}\n"),
            'D' => format!("Only in a: {path}\n"),
            _ => format!("{} and {} differ, and are no files\n", names.0, names.1),
        });
    }
    if told.raw.iter().any(|byte| byte.is_ascii_control() || matches!(byte, b'"' | b'\\')) {
        return Ok(format!("Files {} and {} differ, whose name no patch can have\n", names.0, names.1));
    }
    if let Some(size) = before.into_iter().chain(after).find(|size| *size > LARGEST) {
        return Ok(format!("Files {} and {} differ, too large for lines ({})\n", names.0, names.1, human(size)));
    }
    let old = if before.is_some() { from.read(&told.raw).await? } else { Vec::new() };
    let new = if after.is_some() { to.read(&told.raw).await? } else { Vec::new() };
    let (Some(old), Some(new)) = (text(&old), text(&new)) else {
        return Ok(format!("Binary files {} and {} differ\n", names.0, names.1));
    };
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    // A name with a blank ends where a tab stands.
    let end = if path.contains(' ') { "\t" } else { "" };
    let header = |there: Option<u64>, name: String| there.map_or_else(|| "/dev/null".into(), |_| name + end);
    let (a, b) = (header(before, names.0), header(after, names.1));
    let mut unified = diff.unified_diff();
    let text = unified.context_radius(context).header(&a, &b).to_string();
    // An empty file that is new or gone has no lines, and headers without any would be taken for those of the next file.
    Ok(match (text.is_empty(), before) {
        (false, _) => text,
        (true, None) => format!("Only in b: {path} (empty)\n"),
        (true, Some(_)) => format!("Only in a: {path} (empty)\n"),
    })
}

/// Content that has lines.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// The same without what could control a terminal.
fn harmless(text: &str) -> String {
    let line = |line: &str| line.split('\t').map(|part| shown(part.as_bytes())).collect::<Vec<_>>().join("\t") + "\n";
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_text_is_told_from_what_is_not() {
        assert!(text(b"line\n").is_some() && text(b"").is_some() && text("ä".as_bytes()).is_some());
        assert!(text(b"a\0b").is_none() && text(b"\xff").is_none());
        assert_eq!(harmless("+\ta\x1b[1m\n"), "+\ta\\u{1b}[1m\n");
    }
}
