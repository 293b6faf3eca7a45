//! The lines that differ, as `patch(1)` reads them: `diff --patch`.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use blob::Archive;
use futures_util::TryStreamExt as _;
use similar::TextDiff;

use super::{FileOf, Told};
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
    let (before, after) = told.files;
    let head = head(&told.raw, before, after);
    match (told.letter, before, after) {
        ('m', Some(_), Some(_)) if head.contains("\nold mode ") => return Ok(head),
        ('m', ..) => return Ok(format!("Modes or times of {} and {} differ\n", names.0, names.1)),
        ('A', _, None) => return Ok(format!("Only in b: {path}\n")),
        ('D', None, _) => return Ok(format!("Only in a: {path}\n")),
        ('T', ..) => return Ok(format!("Kinds of {} and {} differ\n", names.0, names.1)),
        (_, None, None) => return Ok(format!("{} and {} differ, and are no files\n", names.0, names.1)),
        _ => {}
    }
    if let Some(file) = before.into_iter().chain(after).find(|file| file.size > LARGEST) {
        let size = human(file.size);
        return Ok(format!("Files {} and {} differ, too large for lines ({size})\n", names.0, names.1));
    }
    let old = if before.is_some() { from.read(&told.raw).await? } else { Vec::new() };
    let new = if after.is_some() { to.read(&told.raw).await? } else { Vec::new() };
    let (Some(old), Some(new)) = (text(&old), text(&new)) else {
        return Ok(format!("Binary files {} and {} differ\n", names.0, names.1));
    };
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    let header =
        |there: Option<FileOf>, side| there.map_or_else(|| "/dev/null".into(), |_| ended(name(side, &told.raw)));
    let (a, b) = (header(before, "a"), header(after, "b"));
    let lines = diff.unified_diff().context_radius(context).header(&a, &b).to_string();
    Ok(head + &lines)
}

/// The lines above those that differ, as git writes them: they say which file is meant, and what becomes of its mode, also
/// where no line differs, as of an empty file that is new.
fn head(path: &[u8], before: Option<FileOf>, after: Option<FileOf>) -> String {
    // The object that an empty file is, and none, shortened as git does.
    const EMPTY: &str = "e69de29";
    const NONE: &str = "0000000";
    let mut head = format!("diff --git {} {}\n", name("a", path), name("b", path));
    // That a file can be executed is all that is known of its mode there.
    let mode = |file: FileOf| if file.mode & 0o111 == 0 { "100644" } else { "100755" };
    let (made, object) = match (before, after) {
        (None, Some(file)) => (format!("new file mode {}\n", mode(file)), (file.size == 0).then_some((NONE, EMPTY))),
        (Some(file), None) => {
            (format!("deleted file mode {}\n", mode(file)), (file.size == 0).then_some((EMPTY, NONE)))
        }
        (Some(old), Some(new)) if mode(old) != mode(new) => {
            (format!("old mode {}\nnew mode {}\n", mode(old), mode(new)), None)
        }
        _ => (String::new(), None),
    };
    head += &made;
    if let Some((old, new)) = object {
        let _ = writeln!(head, "index {old}..{new}");
    }
    head
}

/// A path on a side, `a` or `b`, in quotes with escapes of C where it could be taken for something else.
fn name(side: &str, path: &[u8]) -> String {
    // patch(1) takes white space at the end of a name for what stands between names.
    let is_plain = |text: &str| shown(path) == text && !text.contains(['"', '\\']) && text.trim_end() == text;
    let plain = std::str::from_utf8(path).is_ok_and(is_plain);
    if plain {
        return format!("{side}/{}", String::from_utf8_lossy(path));
    }
    let mut quoted = format!("\"{side}/");
    for &byte in path {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b'\t' => quoted += "\\t",
            b'\n' => quoted += "\\n",
            b'\r' => quoted += "\\r",
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => {
                let _ = write!(quoted, "\\{byte:03o}");
            }
        }
    }
    quoted + "\""
}

/// A name above lines that differ; one with a blank ends where a tab stands.
fn ended(name: String) -> String {
    if name.contains(' ') && !name.starts_with('"') { name + "\t" } else { name }
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
    fn names_are_quoted_where_they_need_it() {
        for (path, expected) in [
            (&b"docs/a b.md"[..], "a/docs/a b.md"),
            ("\u{e4}".as_bytes(), "a/\u{e4}"),
            (b"tab\tname", r#""a/tab\tname""#),
            (b"quo\"te\\", r#""a/quo\"te\\""#),
            (b"esc\x1b\n", r#""a/esc\033\n""#),
            (b"\xff", r#""a/\377""#),
            (b"blank ", r#""a/blank ""#),
            ("blank\u{a0}".as_bytes(), r#""a/blank\302\240""#),
            ("\u{202e}".as_bytes(), r#""a/\342\200\256""#),
        ] {
            assert_eq!(name("a", path), expected);
        }
    }

    #[test]
    fn what_is_text_is_told_from_what_is_not() {
        assert!(text(b"line\n").is_some() && text(b"").is_some() && text("ä".as_bytes()).is_some());
        assert!(text(b"a\0b").is_none() && text(b"\xff").is_none());
        assert_eq!(harmless("+\ta\x1b[1m\n"), "+\ta\\u{1b}[1m\n");
    }
}
