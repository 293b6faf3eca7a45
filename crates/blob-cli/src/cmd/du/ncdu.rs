//! `blob du --ncdu`: sizes as ncdu exports and reads them, version 1.2 of its format.
//!
//! A directory is a list of what it is itself and of what is in it. What ncdu calls disk usage is the stored size, where
//! content that several files have counts once; its apparent size is that of the files.

use std::collections::HashSet;

use blob::core::Node;
use blob::core::index::Directory;
use serde::Serialize;

use crate::filter::Patterns;

/// One thing, in ncdu's words. Directories have no sizes of their own.
#[derive(Serialize)]
struct Info<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    asize: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dsize: Option<u64>,
    /// Neither a file nor a directory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    notreg: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<u64>,
}

/// The document for what `patterns` take of `top`, which is shown as `title`. It says nothing of when it was written, so that
/// the same archive gives the same bytes.
pub(super) fn document(title: &str, top: &Directory<'_>, patterns: &Patterns) -> String {
    let filter = patterns.filter();
    let mut nodes: Vec<Node<'_>> = top.nodes().filter(|node| filter.takes_node(node)).collect();
    // What is in a directory stands together then.
    nodes.sort_by(|a, b| a.path().cmp(b.path()));
    let mut text = format!("[1,2,{{\"progname\":\"blob\",\"progver\":\"{}\"}},\n", env!("CARGO_PKG_VERSION"));
    begin(&mut text, &directory(title, None));
    // Where the names of the directories that are open end, in the path of what comes.
    let mut open: Vec<&[u8]> = Vec::new();
    let mut seen = HashSet::new();
    for node in &nodes {
        let below = &node.path()[top.path().len()..];
        let below = below.strip_prefix(b"/").filter(|_| !top.path().is_empty()).unwrap_or(below);
        let mut names: Vec<&[u8]> = below.split(|byte| *byte == b'/').collect();
        let name = names.pop().unwrap_or_default();
        let same = open.iter().zip(&names).take_while(|(a, b)| a == b).count();
        text.extend(std::iter::repeat_n("]", open.len() - same));
        open.truncate(same);
        for dir in &names[same..] {
            text.push_str(",\n");
            begin(&mut text, &directory(&String::from_utf8_lossy(dir), None));
            open.push(dir);
        }
        text.push_str(",\n");
        let name = String::from_utf8_lossy(name);
        match node {
            Node::File(file) => {
                let stored = if seen.insert((file.range(), file.digest())) { file.data_size() } else { 0 };
                let mtime = u64::try_from(file.mtime_ns() / 1_000_000_000).ok();
                let mode = Some(0o100_000 | file.mode() & 0o7777);
                let (asize, dsize) = (Some(file.original_size()), Some(stored));
                write(&mut text, &Info { name: &name, asize, dsize, notreg: false, mode, mtime });
            }
            Node::Symlink(link) => {
                let mtime = u64::try_from(link.mtime_ns() / 1_000_000_000).ok();
                let asize = Some(link.target().len() as u64);
                write(
                    &mut text,
                    &Info { name: &name, asize, dsize: Some(0), notreg: true, mode: Some(0o120_777), mtime },
                );
            }
            Node::EmptyDir(_) | Node::Directory(_) => {
                let mode = if let Node::EmptyDir(dir) = node { Some(dir.mode()) } else { None };
                begin(&mut text, &directory(&name, mode));
                text.push(']');
            }
        }
    }
    text.extend(std::iter::repeat_n("]", open.len()));
    text.push_str("]]\n");
    text
}

fn directory(name: &str, mode: Option<u32>) -> Info<'_> {
    let mode = mode.map(|mode| 0o040_000 | mode & 0o7777);
    Info { name, asize: None, dsize: None, notreg: false, mode, mtime: None }
}

fn begin(text: &mut String, info: &Info<'_>) {
    text.push('[');
    write(text, info);
}

fn write(text: &mut String, info: &Info<'_>) {
    text.push_str(&serde_json::to_string(info).expect("because names and numbers are always JSON"));
}
