//! A directory tree, as lines and as JSON. Archives may be deep, so nothing here recurses.

use blob::core::Node;
use blob::core::index::{DirEntry, Directory};

use super::escape::{PathText, exact, shown};
use super::json;
use super::style::Style;

/// Which part of a tree is shown, and in which order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// Levels below the root; `None` for all.
    pub(crate) levels: Option<usize>,
    /// Directories before everything else.
    pub(crate) dirs_first: bool,
    /// Nothing but directories.
    pub(crate) dirs_only: bool,
}

impl Shape {
    fn children<'a>(self, directory: &Directory<'a>, depth: usize) -> Vec<DirEntry<'a>> {
        if self.levels.is_some_and(|levels| depth >= levels) {
            return Vec::new();
        }
        let mut children = directory.entries();
        if self.dirs_only {
            children.retain(|child| child.node.is_dir());
        }
        if self.dirs_first {
            children.sort_by_key(|child| !child.node.is_dir());
        }
        children
    }
}

/// How many of each are shown; the root does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) directories: u64,
    pub(crate) files: u64,
    pub(crate) links: u64,
}

impl Counts {
    fn add(&mut self, node: &Node<'_>) {
        match node {
            Node::File(_) => self.files += 1,
            Node::Symlink(_) => self.links += 1,
            Node::Directory(_) | Node::EmptyDir(_) => self.directories += 1,
        }
    }
}

/// A step of the walk: a child is entered, with whether it is the last of its directory, or a directory is left.
enum Step<'a> {
    Enter { child: DirEntry<'a>, path: &'a [u8], last: bool, holds: bool },
    Leave,
}

/// Visits everything below `root`, depth first.
fn walk<'a>(root: Directory<'a>, shape: Shape, mut visit: impl FnMut(Step<'a>)) {
    let mut open = vec![shape.children(&root, 0).into_iter()];
    while let Some(level) = open.last_mut() {
        let Some(child) = level.next() else {
            open.pop();
            if !open.is_empty() {
                visit(Step::Leave);
            }
            continue;
        };
        let last = level.len() == 0;
        let below = match &child.node {
            Node::Directory(directory) => shape.children(directory, open.len()),
            _ => Vec::new(),
        };
        let path = match child.node {
            Node::File(file) => file.path(),
            Node::Symlink(link) => link.path(),
            Node::EmptyDir(directory) => directory.path(),
            Node::Directory(directory) => directory.path(),
        };
        visit(Step::Enter { child, path, last, holds: !below.is_empty() });
        if !below.is_empty() {
            open.push(below.into_iter());
        }
    }
}

/// Lines with branches, below a line for the root.
pub(crate) fn lines(root: Directory<'_>, shape: Shape, style: Style) -> (String, Counts) {
    let base = root.path().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let base = if base.is_empty() { ".".to_owned() } else { shown(base) };
    let mut text = style.directory(&format!("{base}/")) + "\n";
    let (mut counts, mut indent) = (Counts::default(), String::new());
    walk(root, shape, |step| match step {
        Step::Enter { child, last, holds, .. } => {
            counts.add(&child.node);
            let branch = if last { "└── " } else { "├── " };
            text.extend([indent.as_str(), branch, &name(&child, style), "\n"]);
            if holds {
                indent.push_str(if last { "    " } else { "│   " });
            }
        }
        // Four characters, which differ in their length in bytes.
        Step::Leave => {
            let kept = indent.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
            indent.truncate(kept);
        }
    });
    (text, counts)
}

/// One path on a line, directories with a slash.
pub(crate) fn paths(root: Directory<'_>, shape: Shape) -> String {
    let mut text = String::new();
    walk(root, shape, |step| {
        if let Step::Enter { child, path, .. } = step {
            text.extend([exact(path).as_str(), if child.node.is_dir() { "/\n" } else { "\n" }]);
        }
    });
    text
}

/// A name with what tells its kind: `dir/`, `link -> target`.
pub(crate) fn name(entry: &DirEntry<'_>, style: Style) -> String {
    let name = exact(entry.name);
    match &entry.node {
        Node::Directory(_) | Node::EmptyDir(_) => style.directory(&format!("{name}/")),
        Node::Symlink(link) => format!("{} -> {}", style.link(&name), exact(link.target())),
        Node::File(file) if file.mode() & 0o111 != 0 => style.executable(&name),
        Node::File(_) => name,
    }
}

/// The nodes as JSON, `children` within `children`.
pub(crate) fn nested(root: Directory<'_>, shape: Shape) -> (String, Counts) {
    let base = root.path().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let base = if base.is_empty() { &b"."[..] } else { base };
    let mut counts = Counts::default();
    let mut out = Nested { text: String::new(), depth: 0, first: true };
    let children = !shape.children(&root, 0).is_empty();
    out.open(base, root.path(), &Node::Directory(root), children);
    walk(root, shape, |step| match step {
        Step::Enter { child, path, holds, .. } => {
            counts.add(&child.node);
            out.open(child.name, path, &child.node, holds);
        }
        Step::Leave => out.close(),
    });
    if children {
        out.close();
    }
    (out.text, counts)
}

/// JSON as it is written.
struct Nested {
    text: String,
    depth: usize,
    first: bool,
}

impl Nested {
    /// Deeper than this there is no indentation, which would grow with the square of the depth.
    const MAX_INDENT: usize = 64;

    fn indent(&mut self, more: usize) {
        let depth = (1 + 2 * self.depth + more).min(Self::MAX_INDENT);
        self.text.extend(std::iter::repeat_n("  ", depth));
    }

    /// Writes a node, and leaves it open if it has children.
    fn open(&mut self, name: &[u8], path: &[u8], node: &Node<'_>, children: bool) {
        if self.depth > 0 {
            self.text.push_str(if self.first { "\n" } else { ",\n" });
            self.indent(0);
        }
        self.text.push('{');
        let kind = match node {
            Node::File(_) => "file",
            Node::Symlink(_) => "symlink",
            Node::Directory(_) | Node::EmptyDir(_) => "directory",
        };
        let PathText { path, path_base64 } = PathText::new(path);
        self.member("name", &json::string(&String::from_utf8_lossy(name)), true);
        self.member("path", &json::string(&path), false);
        if let Some(bytes) = path_base64 {
            self.member("path_base64", &json::string(&bytes), false);
        }
        self.member("is_dir", if node.is_dir() { "true" } else { "false" }, false);
        self.member("type", &json::string(kind), false);
        match node {
            Node::Symlink(link) => {
                self.member("target", &json::string(&String::from_utf8_lossy(link.target())), false);
            }
            Node::File(file) => self.member("size", &file.original_size().to_string(), false),
            Node::Directory(_) | Node::EmptyDir(_) => {}
        }
        if children {
            self.member("children", "[", false);
            self.depth += 1;
            self.first = true;
        } else {
            self.end();
        }
    }

    fn member(&mut self, key: &str, value: &str, first: bool) {
        self.text.push_str(if first { "\n" } else { ",\n" });
        self.indent(1);
        self.text.extend(["\"", key, "\": ", value]);
    }

    /// Ends a list of children and the node that has them.
    fn close(&mut self) {
        self.depth -= 1;
        self.text.push('\n');
        self.indent(1);
        self.text.push(']');
        self.end();
    }

    fn end(&mut self) {
        self.text.push('\n');
        self.indent(0);
        self.text.push('}');
        self.first = false;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blob::core::{ArchiveIndex, ArchivePath, Compression, Digest, IndexBuilder, NewDirectory, NewFile, NewSymlink};

    use super::*;

    fn index(files: &[&str]) -> ArchiveIndex {
        let mut builder = IndexBuilder::new();
        for path in files {
            builder.file(NewFile {
                path: ArchivePath::new(path).unwrap(),
                data_offset: 0,
                data_size: 0,
                original_size: 0,
                hash: *Digest::sha256_of(b"").as_bytes().first_chunk().unwrap(),
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime_ns: 0,
                compression: Compression::None,
            });
        }
        builder.symlink(NewSymlink { path: ArchivePath::new("z").unwrap(), target: b"a/b".into(), mtime_ns: 0 });
        builder.empty_dir(NewDirectory { path: ArchivePath::new("e").unwrap(), mode: 0o755, mtime_ns: 0 });
        builder.finish(0, &Digest::sha256_of(b"")).unwrap()
    }

    #[test]
    fn trees_are_drawn_with_branches() {
        let index = index(&["a/b/c", "a/d", "f\n"]);
        let (text, counts) = lines(index.root(), Shape::default(), Style::default());
        let expected = "./\n├── a/\n│   ├── b/\n│   │   └── c\n│   └── d\n├── e/\n├── f\\n\n└── z -> a/b\n";
        assert_eq!(text, expected);
        assert_eq!(counts, Counts { directories: 3, files: 3, links: 1 });

        let shape = Shape { levels: Some(1), dirs_first: true, dirs_only: true };
        let (text, counts) = lines(index.root(), shape, Style::default());
        assert_eq!((text.as_str(), counts.directories), ("./\n├── a/\n└── e/\n", 2));
        let below = lines(index.directory("a/b").unwrap(), Shape::default(), Style::default());
        assert_eq!(below.0, "b/\n└── c\n");
        assert_eq!(paths(index.root(), Shape { levels: Some(1), ..Shape::default() }), "a/\ne/\nf\\n\nz\n");
    }

    #[test]
    fn json_nests_children() {
        let (text, _) = nested(index(&["a/b/c", "f"]).root(), Shape::default());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["children"][0]["children"][0]["children"][0]["path"], "a/b/c");
        assert_eq!(value["children"][3]["target"], "a/b");
        assert_eq!(value["children"][1]["is_dir"], true);
        let empty = IndexBuilder::new().finish(0, &Digest::sha256_of(b"")).unwrap();
        let (text, counts) = nested(empty.root(), Shape::default());
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        assert_eq!(counts, Counts::default());
    }

    #[test]
    fn a_very_deep_archive_needs_no_stack() {
        let deep = vec!["d"; 4096].join("/");
        let index = index(&[&deep]);
        let (_, counts) = nested(index.root(), Shape::default());
        assert_eq!(counts.directories, 4096);
        let (text, _) = lines(index.root(), Shape { levels: Some(3), ..Shape::default() }, Style::default());
        assert_eq!(text.lines().count(), 6);
    }
}
