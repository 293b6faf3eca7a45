//! What the path of a request means.

use blob::core::index::FollowError;
use blob::core::{ArchiveIndex, Entry, Node, NodeId};
use percent_encoding::percent_decode_str;

/// What is shown of a directory by itself, unless its list is asked for.
const INDEX: &[u8] = b"index.html";

/// The query that asks for a list.
const LIST: &str = "list";

/// What stands where a request leads.
pub(super) enum Found<'a> {
    /// A file.
    File(Entry<'a>),
    /// A directory: its path in the archive, and what it holds, sorted by name.
    Directory(&'a [u8], Vec<NodeId>),
    /// The same with a slash at the end: names in a directory are relative to it.
    Elsewhere(String),
    /// Nothing, and why.
    Nothing(&'static str),
}

/// What `path` of a request, with `query`, leads to in `index`. Links are followed within the archive.
pub(super) fn find<'a>(index: &'a ArchiveIndex, path: &str, query: Option<&str>) -> Found<'a> {
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    // As the client sees it, for which a slash that is written otherwise is part of a name.
    let is_directory = path.ends_with('/');
    let node = match index.follow(&decoded) {
        Ok(node) => node,
        Err(FollowError::Outside) => return Found::Nothing("a symbolic link on the way leads out of the archive"),
        Err(FollowError::TooManyLinks) => return Found::Nothing("there are too many symbolic links on the way"),
        Err(_) => return Found::Nothing("nothing in the archive stands there"),
    };
    match node {
        Node::File(_) if is_directory => Found::Nothing("a file stands there, not a directory"),
        Node::File(file) => Found::File(file),
        Node::Directory(_) | Node::EmptyDir(_) if !is_directory => Found::Elsewhere(with_slash(path, query)),
        Node::Directory(directory) => {
            let page = [directory.path(), b"/", INDEX].concat();
            match index.follow(page) {
                Ok(Node::File(file)) if query != Some(LIST) => Found::File(file),
                _ => Found::Directory(directory.path(), directory.child_ids()),
            }
        }
        Node::EmptyDir(directory) => Found::Directory(directory.path(), Vec::new()),
        // Links are followed to their end.
        Node::Symlink(_) => Found::Nothing("nothing in the archive stands there"),
    }
}

/// The last part of `path` with a slash behind it, as a reference that cannot lead to another host.
fn with_slash(path: &str, query: Option<&str>) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("./{name}/{query}")
}

/// Whether `host`, of a request's header, means this machine. What other names lead here may be a trick of the page that
/// asks: its own name, which it had point here (DNS rebinding).
pub(super) fn is_local(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use blob::core::{ArchivePath, Compression, Digest, IndexBuilder, NewDirectory, NewFile, NewSymlink};

    fn index() -> ArchiveIndex {
        let mut builder = IndexBuilder::new();
        let path = |text: &str| ArchivePath::new(text.as_bytes()).unwrap();
        for name in ["a b.txt", "site/index.html", "site/page.html", "deep/x/y"] {
            let (hash, compression) = (*Digest::sha256_of(b"").as_bytes().first_chunk().unwrap(), Compression::None);
            let (path, data_offset, data_size, original_size) = (path(name), 0, 0, 0);
            let (mode, uid, gid, mtime_ns) = (0o644, 0, 0, 0);
            let file =
                NewFile { path, data_offset, data_size, original_size, hash, mode, uid, gid, mtime_ns, compression };
            builder.file(file);
        }
        for (name, target) in [("link", "site"), ("out", "/etc/passwd"), ("up", "../x"), ("loop", "loop")] {
            builder.symlink(NewSymlink { path: path(name), target: target.into(), mtime_ns: 0 });
        }
        builder.empty_dir(NewDirectory { path: path("empty"), mode: 0o755, mtime_ns: 0 });
        builder.finish(0, &Digest::sha256_of(b"")).unwrap()
    }

    #[test]
    fn paths_lead_to_what_stands_there() {
        let index = index();
        for (path, query, expected) in [
            ("/", None, "list of "),
            ("/a%20b.txt", None, "a b.txt"),
            ("/a%20b.txt/", None, "a file stands there, not a directory"),
            ("/site", None, "./site/"),
            ("/site", Some("list"), "./site/?list"),
            ("/site/", None, "site/index.html"),
            ("/site/", Some("list"), "list of site"),
            ("/site/", Some("x=1"), "site/index.html"),
            ("/link/page.html", None, "site/page.html"),
            ("/link", None, "./link/"),
            ("/deep/x/", None, "list of deep/x"),
            ("//deep//x/", None, "list of deep/x"),
            ("/deep%2fx/", None, "list of deep/x"),
            ("/deep%2f", None, "./deep%2f/"),
            ("//deep", None, "./deep/"),
            ("/empty", None, "./empty/"),
            ("/empty/", None, "list of empty"),
            ("/none", None, "nothing in the archive stands there"),
            ("/../a%20b.txt", None, "a symbolic link on the way leads out of the archive"),
            ("/%00", None, "nothing in the archive stands there"),
            ("/out", None, "a symbolic link on the way leads out of the archive"),
            ("/up", None, "a symbolic link on the way leads out of the archive"),
            ("/loop", None, "there are too many symbolic links on the way"),
        ] {
            let found = match find(&index, path, query) {
                Found::File(file) => String::from_utf8(file.path().to_vec()).unwrap(),
                Found::Directory(path, _) => format!("list of {}", String::from_utf8(path.to_vec()).unwrap()),
                Found::Elsewhere(location) => location,
                Found::Nothing(why) => why.to_owned(),
            };
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn names_of_this_machine_are_known() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "127.3.2.1",
            "[::1]",
            "[::1]:80",
            "a.localhost:1",
            "localhost.",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "", "[::2]", "[", ":80"]
        {
            assert!(!is_local(host), "{host}");
        }
    }
}
