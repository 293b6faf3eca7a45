//! Where configuration files are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Failure;

/// The file of the whole machine.
const SYSTEM: &str = "/etc/blob/config.yaml";

/// Names of a project's file, in the order in which they are looked for.
pub(crate) const PROJECT_NAMES: [&str; 2] = [".blob.yaml", "blob.yaml"];

/// Whose settings something is; each overrides those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    Default,
    System,
    User,
    Project,
    Variable,
    Flag,
}

impl Layer {
    /// The name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::System => "system",
            Self::User => "user",
            Self::Project => "project",
            Self::Variable => "environment",
            Self::Flag => "flag",
        }
    }
}

/// The files that settings come from, whether they exist or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) system: Option<PathBuf>,
    /// The user's, and whether somebody named it.
    pub(crate) user: Option<(PathBuf, bool)>,
    pub(crate) project: Option<PathBuf>,
    /// The project files beside and above that one, the nearest first: they demand, and set nothing.
    pub(crate) above: Vec<PathBuf>,
    /// Project files of other users, which are not read.
    pub(crate) skipped: Vec<PathBuf>,
    /// Why nobody knows in which project this is.
    pub(crate) lost: Option<String>,
}

impl Places {
    /// `named` is what --config or `BLOB_CONFIG` says.
    pub(crate) fn find(named: Option<&Path>) -> Self {
        let mut skipped = Vec::new();
        let (dir, lost) = match std::env::current_dir() {
            Ok(dir) => (Some(dir), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let projects = dir.map(|dir| projects_of(&dir, &mut skipped)).unwrap_or_default();
        let mut projects = projects.into_iter();
        let (project, above) = (projects.next(), projects.collect());
        let user = user_file(named, |name| std::env::var_os(name), std::env::home_dir());
        Self { system: cfg!(unix).then(|| SYSTEM.into()), user, project, above, skipped, lost }
    }

    /// The user's file.
    pub(crate) fn user(&self) -> Result<&Path, Failure> {
        let missing = || {
            let message = "no configuration file: neither XDG_CONFIG_HOME nor HOME says where it is";
            Failure::usage(message).with_hint("name it with --config")
        };
        self.user.as_ref().map(|(path, _)| path.as_path()).ok_or_else(missing)
    }
}

/// What is named, else `$XDG_CONFIG_HOME/blob/config.yaml`, else `~/.config/blob/config.yaml`. Without HOME, as services
/// are started, the home directory is what the system knows: what a user asks for counts there too.
fn user_file(
    named: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Option<(PathBuf, bool)> {
    if let Some(named) = named.filter(|named| !named.as_os_str().is_empty()) {
        return Some((named.to_owned(), true));
    }
    // The XDG specification has relative paths ignored.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || absolute("HOME").or_else(|| home.filter(|dir| dir.is_absolute()));
    let dir = absolute("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")))?;
    Some((dir.join("blob").join("config.yaml"), false))
}

/// The project files in `dir` and above it, the nearest first, up to the root of the file system: a directory that calls
/// itself the root of a repository may be part of what was unpacked below another. What is somebody else's is passed over:
/// whoever can write to a common directory could configure everybody who works below it. What is ours and cannot be read, or
/// is no file, is an error when it is read, as is a place that cannot be looked at.
fn projects_of(dir: &Path, skipped: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let candidates = dir.ancestors().flat_map(|dir| PROJECT_NAMES.map(|name| dir.join(name)));
    { candidates }
        .filter(|path| match std::fs::symlink_metadata(path) {
            Ok(found) => {
                // A link is somebody's, and so is what it leads to.
                let ours = is_ours(&found) && std::fs::metadata(path).map_or(true, |target| is_ours(&target));
                if !ours {
                    skipped.push(path.clone());
                }
                ours
            }
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        })
        .collect()
}

#[cfg(unix)]
fn is_ours(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let owner = found.uid();
    owner == 0 || owner == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_ours(_: &std::fs::Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_place_that_is_known_is_taken() {
        let all = [("XDG_CONFIG_HOME", "/xdg"), ("HOME", "/home/me")];
        for (named, variables, expected) in [
            (Some("here"), &all[..], Some(("here", true))),
            (Some(""), &all[..], Some(("/xdg/blob/config.yaml", false))),
            (None, &all[1..], Some(("/home/me/.config/blob/config.yaml", false))),
            (None, &[], None),
        ] {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
            let expected = expected.map(|(path, named)| (PathBuf::from(path), named));
            assert_eq!(user_file(named.map(Path::new), variable, None), expected);
        }
        for (home, expected) in [("/passwd", Some("/passwd/.config/blob/config.yaml")), ("", None)] {
            let found = user_file(None, |_| None, Some(home.into()));
            assert_eq!(found.map(|(path, _)| path), expected.map(PathBuf::from), "{home:?}");
        }
    }

    #[test]
    fn the_nearest_project_file_comes_first_and_those_above_it_follow() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let mut expected = Vec::new();
        let mut add = |path: &str| {
            let path = root.path().join(path);
            expected.insert(0, path.clone());
            let found = projects_of(&deep, &mut Vec::new());
            // Whoever runs this may have files of their own above.
            let found: Vec<_> = found.into_iter().filter(|found| found.starts_with(root.path())).collect();
            assert!(found == expected || !path.exists(), "{found:?}");
            path
        };
        for path in ["blob.yaml", ".blob.yaml", "a/blob.yaml"] {
            std::fs::write(root.path().join(path), "").unwrap();
            add(path);
        }
        // What is no file is not passed over: reading it says what is wrong.
        std::fs::create_dir(root.path().join("a/.blob.yaml")).unwrap();
        add("a/.blob.yaml");
        // Nor does a repository of its own end the search.
        std::fs::create_dir(deep.join(".git")).unwrap();
        std::os::unix::fs::symlink("nowhere", deep.join("blob.yaml")).unwrap();
        add("a/b/blob.yaml");
        assert_eq!(projects_of(&deep, &mut Vec::new())[0], deep.join("blob.yaml"));
    }
}
