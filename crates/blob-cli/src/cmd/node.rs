//! Things of an archive as commands show them: kind, size, mode, time, digest.

use blob::core::{Digest, Node};
use serde::Serialize;

use crate::ui::escape::{PathText, exact};
use crate::ui::mode;
use crate::ui::style::Style;
use crate::ui::table::Cell;
use crate::ui::time;

/// The size in bytes: of a link that of its target, of a directory nothing.
pub(super) fn size(node: &Node<'_>) -> u64 {
    match node {
        Node::File(file) => file.original_size(),
        Node::Symlink(link) => link.target().len() as u64,
        Node::Directory(_) | Node::EmptyDir(_) => 0,
    }
}

/// The modification time. Archives record none for directories that hold something.
pub(super) fn mtime_ns(node: &Node<'_>) -> Option<i64> {
    match node {
        Node::File(file) => Some(file.mtime_ns()),
        Node::Symlink(link) => Some(link.mtime_ns()),
        Node::EmptyDir(dir) => Some(dir.mtime_ns()),
        Node::Directory(_) => None,
    }
}

/// The digest of a file.
pub(super) fn digest(node: &Node<'_>) -> Option<Digest> {
    if let Node::File(file) = node { Some(file.digest()) } else { None }
}

/// `-rw-r--r--`.
pub(super) fn mode_text(node: &Node<'_>) -> String {
    match node {
        Node::File(file) => mode::text('-', file.mode()),
        Node::Symlink(_) => mode::text('l', 0o777),
        Node::EmptyDir(dir) => mode::text('d', dir.mode()),
        Node::Directory(_) => mode::text('d', 0o755),
    }
}

/// What it is, in a word.
pub(super) fn kind(node: &Node<'_>) -> &'static str {
    match node {
        Node::File(_) => "file",
        Node::Symlink(_) => "symlink",
        Node::Directory(_) | Node::EmptyDir(_) => "directory",
    }
}

/// What a link points at.
pub(super) fn target(node: &Node<'_>) -> Option<String> {
    if let Node::Symlink(link) = node { Some(String::from_utf8_lossy(link.target()).into_owned()) } else { None }
}

/// `name`, with a slash behind directories, painted by kind.
pub(super) fn cell(name: &[u8], node: &Node<'_>, style: Style) -> Cell {
    let name = exact(name);
    match node {
        Node::Directory(_) | Node::EmptyDir(_) => Cell::painted(&format!("{name}/"), |name| style.directory(name)),
        Node::Symlink(_) => Cell::painted(&name, |name| style.link(name)),
        Node::File(file) if file.mode() & 0o111 != 0 => Cell::painted(&name, |name| style.executable(name)),
        Node::File(_) => Cell::new(name),
    }
}

/// `sha256:` and 12 digits.
pub(super) fn short_digest(digest: Digest) -> String {
    digest.to_string().chars().take(19).collect()
}

/// Everything that is recorded about one thing, for programs.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Facts {
    #[serde(flatten)]
    pub(super) path: PathText,
    /// `file`, `directory` or `symlink`.
    pub(super) r#type: &'static str,
    /// Kind and permissions, as `-rw-r--r--`.
    pub(super) mode: String,
    /// Bytes; of a link those of its target, of a directory 0 unless it says otherwise.
    pub(super) size: u64,
    /// The modification time, RFC 3339; archives record none for directories that hold something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mod_time: Option<String>,
    /// The digest of the content of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    /// What a symbolic link points at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
}

impl Facts {
    pub(super) fn of(node: &Node<'_>) -> Self {
        Self {
            path: PathText::new(node.path()),
            r#type: kind(node),
            mode: mode_text(node),
            size: size(node),
            mod_time: mtime_ns(node).map(time::rfc3339),
            digest: digest(node).map(|digest| digest.to_string()),
            target: target(node),
        }
    }
}
