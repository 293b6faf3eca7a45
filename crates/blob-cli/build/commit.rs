//! The commit of a source tree, as its repository or its package says: read from their files, so that nothing needs to be
//! installed, and a build knows when to look again.

use std::fs;
use std::path::{Path, PathBuf};

/// A commit, and the files that said so.
pub(crate) struct Found {
    /// 40 or 64 hexadecimal digits.
    pub(crate) commit: String,
    pub(crate) files: Vec<PathBuf>,
}

/// The commit of the crate at `dir`, which is `crates/NAME` of a clone, or a package on its own.
pub(crate) fn find(dir: &Path) -> Option<Found> {
    of_package(dir).or_else(|| of_clone(dir.parent()?.parent()?))
}

/// What `cargo package` writes down.
fn of_package(dir: &Path) -> Option<Found> {
    let file = dir.join(".cargo_vcs_info.json");
    let text = fs::read_to_string(&file).ok()?;
    let (_, behind) = text.split_once("\"sha1\"")?;
    let commit = checked(behind.split('"').nth(1)?)?;
    Some(Found { commit, files: vec![file] })
}

fn of_clone(root: &Path) -> Option<Found> {
    let git = git_dir(&root.join(".git"))?;
    // Of a working tree beside others, branches are where the first one has them.
    let common = fs::read_to_string(git.join("commondir")).map_or_else(|_| git.clone(), |to| git.join(to.trim()));
    let head = git.join("HEAD");
    let text = fs::read_to_string(&head).ok()?;
    let Some(name) = text.trim().strip_prefix("ref: ") else {
        return Some(Found { commit: checked(text.trim())?, files: vec![head] });
    };
    let (loose, packed) = (common.join(name), common.join("packed-refs"));
    if let Ok(commit) = fs::read_to_string(&loose) {
        return Some(Found { commit: checked(commit.trim())?, files: vec![head, loose] });
    }
    let refs = fs::read_to_string(&packed).ok()?;
    let line = refs.lines().find(|line| line.split(' ').nth(1) == Some(name))?;
    Some(Found { commit: checked(line.split(' ').next()?)?, files: vec![head, packed] })
}

/// The directory of a repository; in a working tree beside others, `.git` is a file that names it.
fn git_dir(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let text = fs::read_to_string(path).ok()?;
    Some(path.parent()?.join(text.trim().strip_prefix("gitdir: ")?))
}

fn checked(text: &str) -> Option<String> {
    let fits = [40, 64].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| text.to_owned())
}
