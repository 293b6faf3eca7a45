//! Whether something can be mounted on a directory, and what to do when it cannot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::Failure;

/// How lines of `/proc/self/mountinfo` name our mounts.
pub(super) const KIND: &str = "fuse.blob";

/// Checks that `directory` is an empty directory, and gives its real path.
pub(super) fn check(directory: &Path) -> Result<PathBuf, Failure> {
    let shown = directory.display();
    let refused = |error: &io::Error| match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOTCONN) => {
            let message = format!("{shown} is still mounted, by a program that is gone");
            Failure::usage(message)
                .with_hint(format!("`fusermount3 -u {shown}` clears it; root can use `umount {shown}`"))
        }
        Some(Errno::NOENT) => {
            Failure::usage(format!("{shown} does not exist")).with_hint(format!("make it first: `mkdir -p {shown}`"))
        }
        Some(Errno::NOTDIR) => Failure::usage(format!("{shown} is not a directory")),
        _ => Failure::io(format!("looking at {shown}"), error),
    };
    let path = fs::canonicalize(directory).map_err(|error| refused(&error))?;
    // What the kernel remembers of a mount it tells without asking; this it asks.
    rustix::fs::statvfs(&path).map_err(|errno| refused(&errno.into()))?;
    if let Some(name) = mounted_on(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), &path) {
        let message = format!("{shown} has {name} mounted on it already");
        return Err(Failure::usage(message).with_hint(format!("`umount {shown}` ends that mount")));
    }
    let mut entries = fs::read_dir(&path).map_err(|error| refused(&error))?;
    if entries.next().is_some() {
        let hint = "what is in it would be hidden: mount on an empty directory";
        return Err(Failure::usage(format!("{shown} is not empty")).with_hint(hint));
    }
    Ok(path)
}

/// The archive that is mounted on `path`, by the lines of `mountinfo`.
fn mounted_on(mountinfo: &str, path: &Path) -> Option<String> {
    let on_path = |line: &&str| line.split(' ').nth(4).is_some_and(|at| Path::new(&unescaped(at)) == path);
    // Of several mounts on one directory the last one is seen.
    let (_, file_system) = mountinfo.lines().rfind(on_path)?.split_once(" - ")?;
    let mut words = file_system.split(' ');
    (words.next() == Some(KIND)).then(|| unescaped(words.next().unwrap_or_default()))
}

/// Spaces, tabs, line breaks and backslashes are written in octal there.
fn unescaped(word: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(word.to_owned(), |word, (octal, letter)| word.replace(octal, letter))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mounts_are_found_among_others() {
        let lines = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     40 22 0:40 / /mnt/a\\040b ro,nosuid - fuse.blob localhost:5000/a/b:v1 ro,user_id=0\n\
                     41 22 0:41 / /mnt/c ro - fuse.blob below ro\n\
                     42 22 0:42 / /mnt/c rw - tmpfs none rw\n";
        assert_eq!(mounted_on(lines, Path::new("/mnt/a b")).as_deref(), Some("localhost:5000/a/b:v1"));
        assert_eq!(mounted_on(lines, Path::new("/mnt/c")), None, "something else is over it");
        assert_eq!(mounted_on(lines, Path::new("/")), None);
        assert_eq!(mounted_on("what is this", Path::new("/")), None);
    }

    #[test]
    fn only_empty_directories_will_do() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(dir.path()).unwrap(), dir.path().canonicalize().unwrap());
        fs::write(dir.path().join("file"), "").unwrap();
        for (path, expected) in [
            (dir.path().to_owned(), "is not empty"),
            (dir.path().join("file"), "is not a directory"),
            (dir.path().join("none"), "does not exist"),
        ] {
            let failure = check(&path).unwrap_err();
            assert!(failure.text().contains(expected), "{}", failure.text());
            assert_eq!(failure.kind.exit_code(), 2);
        }
    }
}
