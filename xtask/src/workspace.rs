//! The files of this repository, read once, as text.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf)
}

/// Text files by their path relative to the root, with `/`.
///
/// The checks see only this, so that each can be tested with a few lines of text.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    files: BTreeMap<String, String>,
}

impl Workspace {
    /// Reads what the checks look at: sources, manifests, lock files, schemas, documents and workflows.
    pub(crate) fn load(root: &Path) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        for directory in ["", ".github", "actions", "crates", "xtask", "docs"] {
            let deep = !directory.is_empty();
            read_into(&mut files, root, &root.join(directory), deep)?;
        }
        Ok(Self { files })
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Every file whose path begins and ends as given.
    pub(crate) fn files<'w>(&'w self, start: &'w str, end: &'w str) -> impl Iterator<Item = (&'w str, &'w str)> {
        let matching = self.files.iter().filter(move |(path, _)| path.starts_with(start) && path.ends_with(end));
        matching.map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The folders below `crates/` that hold a manifest, which are named like their packages.
    pub(crate) fn crates(&self) -> Vec<&str> {
        let manifests = self.files("crates/", "/Cargo.toml");
        manifests
            .filter_map(|(path, _)| path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"))
            .filter(|name| !name.contains('/'))
            .collect()
    }

    /// Source files of the crates and of this program, with the name of the crate; tests, examples and benches are not in it.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.files("", ".rs").filter_map(|(path, text)| {
            let (name, inside) = match path.strip_prefix("crates/") {
                Some(rest) => rest.split_once('/')?,
                None => path.split_once('/')?,
            };
            inside.starts_with("src/").then_some((name, path, text))
        })
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }
}

fn read_into(files: &mut BTreeMap<String, String>, root: &Path, dir: &Path, deep: bool) -> Result<(), String> {
    let fail = |error| format!("{}: {error}", dir.display());
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_dir() {
            if deep && path.file_name().is_some_and(|name| name != "target" && name != "fixtures") {
                read_into(files, root, &path, deep)?;
            }
            continue;
        }
        let wanted =
            path.extension().is_some_and(|end| ["rs", "toml", "md", "lock", "fbs", "yml"].iter().any(|e| end == *e));
        if wanted {
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.insert(name, text);
        }
    }
    Ok(())
}
