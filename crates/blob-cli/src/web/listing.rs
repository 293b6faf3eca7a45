//! Directories as HTML, written piece by piece, so that memory does not grow with them.

use std::fmt::Write as _;

use blob::Archive;
use blob::core::{Node, NodeId};
use blob::registry::server::{BoxError, SiteBody};
use bytes::Bytes;
use futures_util::stream;
use http::{Response, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::page::{pieces, set};
use crate::ui::escape::shown;
use crate::ui::size::human;
use crate::ui::time::short;

/// Names that are written at a time.
const ROWS: usize = 256;

/// What stays as it is in a reference: the unreserved characters of RFC 3986.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Nothing but this page's own style: names in archives are not ours.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:14px/1.5 ui-monospace,monospace;margin:2em auto;max-width:60em;padding:0 1em}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.1em 1em .1em 0;white-space:pre}\
td:nth-child(2),th:nth-child(2){text-align:right}a{text-decoration:none}a:hover{text-decoration:underline}\
h1{font-size:1.2em}footer{margin-top:2em;opacity:.7}";

/// The list of the directory at `path` in the archive, which holds `ids`, as it was asked for by `address`.
pub(super) fn answer(archive: &Archive, address: &str, (path, ids): (&[u8], Vec<NodeId>)) -> Response<SiteBody> {
    let (head, foot) = (head(archive, address), foot(archive));
    let rows = Rows { archive: archive.clone(), ids, at: 0, skip: if path.is_empty() { 0 } else { path.len() + 1 } };
    let body = stream::unfold((Some(head), rows, Some(foot)), |(mut head, mut rows, mut foot)| async move {
        let piece = head.take().or_else(|| rows.next()).or_else(|| foot.take())?;
        Some((Ok::<_, BoxError>(Bytes::from(piece)), (head, rows, foot)))
    });
    let mut response = Response::new(pieces(body));
    let headers = response.headers_mut();
    set(headers, header::CONTENT_TYPE, "text/html; charset=utf-8");
    set(headers, header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

struct Rows {
    archive: Archive,
    ids: Vec<NodeId>,
    at: usize,
    /// Bytes of paths before the name.
    skip: usize,
}

impl Rows {
    fn next(&mut self) -> Option<String> {
        let ids = self.ids.get(self.at..).filter(|ids| !ids.is_empty())?;
        let ids = &ids[..ids.len().min(ROWS)];
        self.at += ids.len();
        let index = self.archive.index();
        let nodes = ids.iter().filter_map(|id| index.by_id(*id));
        let mut text = String::new();
        nodes.for_each(|node| row(&mut text, &node, self.skip));
        Some(text)
    }
}

fn row(text: &mut String, node: &Node<'_>, skip: usize) {
    let name = node.path().get(skip..).unwrap_or_default();
    let slash = if node.is_dir() { "/" } else { "" };
    let (size, time, target) = match node {
        Node::File(file) => (human(file.original_size()), short(file.mtime_ns()), String::new()),
        Node::Symlink(link) => (String::new(), short(link.mtime_ns()), format!(" → {}", escaped(link.target()))),
        Node::EmptyDir(dir) => (String::new(), short(dir.mtime_ns()), String::new()),
        Node::Directory(_) => (String::new(), String::new(), String::new()),
    };
    let (href, name) = (percent_encode(name, KEPT), escaped(name));
    // The dot keeps a colon in a name from making a scheme of what is before it.
    let _ = writeln!(text, "<tr><td><a href=\"./{href}{slash}\">{name}{slash}</a>{target}<td>{size}<td>{time}");
}

/// A name as text of HTML, without what could control a terminal or turn text around.
fn escaped(name: &[u8]) -> String {
    shown(name).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn head(archive: &Archive, address: &str) -> String {
    // Links may lead elsewhere in the archive: the way back is the way that was taken.
    let parts: Vec<Vec<u8>> = address.split('/').map(|part| percent_decode_str(part).collect()).collect();
    let parts = parts.get(1..parts.len() - 1).unwrap_or_default();
    let location = escaped(archive.location().to_string().as_bytes());
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>/{} – {location}</title>\n<style>{STYLE}</style>\n\
         <h1>",
        escaped(&parts.join(&b'/'))
    );
    // Relative, so that it holds behind a proxy that puts something in front.
    let up = |levels: usize| if levels == 0 { "./".to_owned() } else { "../".repeat(levels) };
    let _ = write!(text, "<a href=\"{}?list\">{location}</a> /", up(parts.len()));
    for (at, part) in parts.iter().enumerate() {
        let _ = write!(text, " <a href=\"{}?list\">{}</a> /", up(parts.len() - 1 - at), escaped(part));
    }
    text.push_str("</h1>\n<table>\n<tr><th>Name<th>Size<th>Modified (UTC)\n");
    if !parts.is_empty() {
        text.push_str("<tr><td><a href=\"../?list\">../</a><td><td>\n");
    }
    text
}

fn foot(archive: &Archive) -> String {
    let manifest = archive.manifest();
    let verified = if manifest.is_verified() { "verified by policy" } else { "verified by no policy" };
    format!("</table>\n<footer>{} · {verified}</footer>\n</html>\n", manifest.digest())
}
