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
    /// Project files of other users, which are not read.
    pub(crate) skipped: Vec<PathBuf>,
}

impl Places {
    /// `named` is what --config or `BLOB_CONFIG` says.
    pub(crate) fn find(named: Option<&Path>) -> Self {
        let mut skipped = Vec::new();
        let project = std::env::current_dir().ok().and_then(|dir| project_of(&dir, &mut skipped));
        let user = user_file(named, |name| std::env::var_os(name), std::env::home_dir());
        Self { system: cfg!(unix).then(|| SYSTEM.into()), user, project, skipped }
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

/// The nearest project file in `dir` or above it. What is somebody else's is passed over: whoever can write to a common
/// directory could configure everybody who works below it. What is ours and cannot be read, or is no file, is an error
/// when it is read, as is a place that cannot be looked at.
fn project_of(dir: &Path, skipped: &mut Vec<PathBuf>) -> Option<PathBuf> {
    let candidates = dir.ancestors().flat_map(|dir| PROJECT_NAMES.map(|name| dir.join(name)));
    { candidates }.find(|path| match std::fs::symlink_metadata(path) {
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
    fn the_nearest_project_file_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(root.path().join("blob.yaml"), "").unwrap();
        assert_eq!(project_of(&deep, &mut Vec::new()), Some(root.path().join("blob.yaml")));
        std::fs::write(root.path().join(".blob.yaml"), "").unwrap();
        assert_eq!(project_of(&deep, &mut Vec::new()), Some(root.path().join(".blob.yaml")));
        std::fs::write(root.path().join("a/blob.yaml"), "").unwrap();
        assert_eq!(project_of(&deep, &mut Vec::new()), Some(root.path().join("a/blob.yaml")));
        // What is no file is not passed over: reading it says what is wrong.
        std::fs::create_dir(root.path().join("a/.blob.yaml")).unwrap();
        assert_eq!(project_of(&deep, &mut Vec::new()), Some(root.path().join("a/.blob.yaml")));
        std::os::unix::fs::symlink("nowhere", deep.join("blob.yaml")).unwrap();
        assert_eq!(project_of(&deep, &mut Vec::new()), Some(deep.join("blob.yaml")));
    }
}
