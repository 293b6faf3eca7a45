//! A temporary directory that goes away with its owner, whatever happens.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A fresh directory; removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below `parent`.
    pub(crate) fn new(parent: &Path, purpose: &str) -> Result<Self, String> {
        for attempt in 0..100 {
            let path = parent.join(format!("blob-{purpose}-{}-{attempt}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
        Err(format!("{}: no free name for a temporary directory", parent.display()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}

/// Copies a tree with modes, modification times and links; what `skip` says by name is left out.
pub(crate) fn copy_tree(from: &Path, to: &Path, skip: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let fail = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path}: {error}")
    };
    fs::create_dir_all(to).map_err(fail(to))?;
    for entry in fs::read_dir(from).map_err(fail(from))? {
        let entry = entry.map_err(fail(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if skip(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let kind = entry.file_type().map_err(fail(&source))?;
        if kind.is_dir() {
            copy_tree(&source, &target, skip)?;
        } else if kind.is_symlink() {
            let points_at = fs::read_link(&source).map_err(fail(&source))?;
            symlink(points_at, &target).map_err(fail(&target))?;
        } else {
            fs::copy(&source, &target).map_err(fail(&source))?;
            let modified = entry.metadata().and_then(|m| m.modified()).map_err(fail(&source))?;
            let file = fs::File::open(&target).map_err(fail(&target))?;
            file.set_modified(modified).map_err(fail(&target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::differences;

    #[test]
    fn a_copy_equals_its_source_and_goes_away_with_its_owner() {
        let scratch = Scratch::new(&std::env::temp_dir(), "scratch-test").expect("a temporary directory");
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        fs::create_dir_all(from.join("sub/empty")).expect("a directory");
        fs::write(from.join("sub/file"), "text").expect("a file");
        fs::write(from.join("left-out"), "text").expect("a file");
        symlink("sub/file", from.join("link")).expect("a link");
        copy_tree(&from, &to, &|name| name == "left-out").expect("a copy");
        fs::remove_file(from.join("left-out")).expect("removed");
        assert_eq!(differences(&from, &to).expect("compared"), Vec::<String>::new());
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
}
