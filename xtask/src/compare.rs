//! Two directories, side by side: names, kinds, contents, link targets, modes and times of files.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// One sentence for each difference, sorted by path.
pub(crate) fn differences(left: &Path, right: &Path) -> Result<Vec<String>, String> {
    let (in_left, in_right) = (listing(left)?, listing(right)?);
    let mut found = Vec::new();
    for path in in_left.keys().filter(|path| !in_right.contains_key(*path)) {
        found.push(format!("{}: only in {}", path.display(), left.display()));
    }
    for (path, there) in &in_right {
        let Some(here) = in_left.get(path) else {
            found.push(format!("{}: only in {}", path.display(), right.display()));
            continue;
        };
        let differs = difference((&left.join(path), here), (&right.join(path), there))
            .map_err(|error| format!("comparing {}: {error}", path.display()))?;
        found.extend(differs.map(|what| format!("{}: {what}", path.display())));
    }
    found.sort();
    Ok(found)
}

/// Number of regular files and their bytes below `root`.
pub(crate) fn totals(root: &Path) -> Result<(usize, u64), String> {
    let listing = listing(root)?;
    let files = listing.values().filter(|metadata| metadata.is_file());
    Ok(files.fold((0, 0), |(count, bytes), metadata| (count + 1, bytes + metadata.len())))
}

fn listing(root: &Path) -> Result<BTreeMap<PathBuf, Metadata>, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        let path = root.join(&directory);
        let fail = |error| format!("{}: {error}", path.display());
        for entry in fs::read_dir(&path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let metadata = entry.metadata().map_err(fail)?;
            let relative = directory.join(entry.file_name());
            if metadata.is_dir() {
                open.push(relative.clone());
            }
            found.insert(relative, metadata);
        }
    }
    Ok(found)
}

fn difference(left: (&Path, &Metadata), right: (&Path, &Metadata)) -> io::Result<Option<String>> {
    let (here, there) = (left.1, right.1);
    if here.file_type() != there.file_type() {
        return Ok(Some("of another kind".into()));
    }
    if here.is_symlink() {
        let (from, to) = (fs::read_link(left.0)?, fs::read_link(right.0)?);
        return Ok((from != to).then(|| format!("points at {} and at {}", from.display(), to.display())));
    }
    if here.is_dir() {
        return Ok(None);
    }
    if here.len() != there.len() || !same_content(left.0, right.0)? {
        return Ok(Some(format!("contents differ ({} and {} bytes)", here.len(), there.len())));
    }
    let mode = |metadata: &Metadata| metadata.mode() & 0o7777;
    if mode(here) != mode(there) {
        return Ok(Some(format!("mode {:04o} and {:04o}", mode(here), mode(there))));
    }
    let time = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
    Ok((time(here) != time(there)).then(|| format!("modified at {:?} and {:?}", time(here), time(there))))
}

fn same_content(left: &Path, right: &Path) -> io::Result<bool> {
    let (mut left, mut right) = (BufReader::new(File::open(left)?), BufReader::new(File::open(right)?));
    let (mut here, mut there) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let (a, b) = (fill(&mut left, &mut here)?, fill(&mut right, &mut there)?);
        if here[..a] != there[..b] {
            return Ok(false);
        }
        if a == 0 {
            return Ok(true);
        }
    }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::scratch::{Scratch, copy_tree};

    #[test]
    fn every_kind_of_difference_is_seen() {
        let scratch = Scratch::new(&std::env::temp_dir(), "compare-test").expect("a temporary directory");
        let (left, right) = (scratch.path().join("left"), scratch.path().join("right"));
        fs::create_dir_all(left.join("empty")).expect("a directory");
        for name in ["content", "gone", "mode", "time"] {
            fs::write(left.join(name), "text").expect("a file");
        }
        symlink("content", left.join("link")).expect("a link");
        copy_tree(&left, &right, &|_| false).expect("a copy");
        assert_eq!(differences(&left, &right).expect("compared"), Vec::<String>::new());
        assert_eq!(totals(&left), Ok((4, 16)));

        fs::write(right.join("content"), "tExt").expect("written");
        fs::remove_file(right.join("gone")).expect("removed");
        fs::set_permissions(right.join("mode"), fs::Permissions::from_mode(0o755)).expect("mode set");
        File::open(right.join("time")).expect("open").set_modified(std::time::UNIX_EPOCH).expect("time set");
        fs::remove_file(right.join("link")).expect("removed");
        symlink("mode", right.join("link")).expect("a link");
        fs::remove_dir(right.join("empty")).expect("removed");
        fs::write(right.join("new"), "").expect("a file");
        let found = differences(&left, &right).expect("compared");
        let names: Vec<_> = found.iter().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(names, ["content", "empty", "gone", "link", "mode", "new", "time"]);
    }
}
