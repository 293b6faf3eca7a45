//! Every way to write a place, so that another spelling is no way around a rule.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

use blob_registry::Target;

use crate::location::Location;

/// Every way to write `location`, for the patterns of policy files: a rule is for it if its pattern is found in any.
///
/// A layout on disk is where its directory really is, with links followed; from the current directory; and as it was
/// typed. So a pattern for its real path is for it whatever was typed. Looks at the file system then, and blocks.
pub fn spellings(location: &Location) -> Vec<String> {
    match location {
        Location::Registry(reference) => blob_policy::file::spellings(reference),
        Location::Layout { dir, target } => of_path("oci", dir, target.as_ref()),
        Location::LayoutFile { file, target } => of_path("oci-archive", file, target.as_ref()),
        Location::Pair { dir, digest } => of_path("pair", dir, digest.map(Target::Digest).as_ref()),
    }
}

fn of_path(prefix: &str, dir: &Path, target: Option<&Target>) -> Vec<String> {
    let end = match target {
        Some(Target::Tag(tag)) => format!(":{tag}"),
        Some(Target::Digest(digest)) => format!("@{digest}"),
        None => String::new(),
    };
    let ends = BTreeSet::from([String::new(), "/".to_owned(), end]);
    let dirs = directories(dir);
    dirs.iter().flat_map(|dir| ends.iter().map(move |end| format!("{prefix}:{}{end}", dir.display()))).collect()
}

/// The names of one directory.
fn directories(typed: &Path) -> BTreeSet<PathBuf> {
    let plain = |path: &Path| path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
    let mut names = BTreeSet::from([typed.to_owned(), plain(typed)]);
    names.extend(std::path::absolute(typed).map(|path| plain(&path)));
    if let Ok(real) = resolved(typed) {
        if let Ok(here) = std::env::current_dir().and_then(std::fs::canonicalize) {
            let relative = from(&here, &real);
            names.insert(Path::new(".").join(&relative));
            names.insert(relative);
        }
        names.insert(real);
    }
    // What is empty is the current directory.
    names.remove(Path::new(""));
    names
}

/// Where `path` really is. What does not exist yet will be where the directory above it is.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (above, name) = (path.parent(), path.file_name());
            let (Some(above), Some(name)) = (above, name) else { return Err(error) };
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            Ok(resolved(above)?.join(name))
        }
        done => done,
    }
}

/// The way from the directory `here` to `there`, both without links.
fn from(here: &Path, there: &Path) -> PathBuf {
    let common = here.components().zip(there.components()).take_while(|(a, b)| a == b).count();
    let up = here.components().skip(common).map(|_| Component::ParentDir);
    up.chain(there.components().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blob_policy::file::ReferencePattern;

    use super::*;

    #[test]
    fn a_layout_is_found_by_its_real_path_however_it_is_typed() {
        let root = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(root.path()).unwrap();
        std::fs::create_dir_all(real.join("data/layout")).unwrap();
        std::os::unix::fs::symlink(real.join("data"), real.join("link")).unwrap();
        std::os::unix::fs::symlink("layout", real.join("data/other")).unwrap();
        let here = std::fs::canonicalize(std::env::current_dir().unwrap()).unwrap();
        let near = from(&here, &real.join("data/layout")).display().to_string();
        let at = |path: &str| format!("{}/{path}", real.display());
        let pattern = format!("^oci:{}/data/layout(:|@|$)", real.display());
        let pattern = ReferencePattern::new(&pattern).unwrap();
        for (typed, expect) in [
            (at("data/layout"), true),
            (at("data/layout/"), true),
            (at("data/./layout"), true),
            (at("data//layout"), true),
            (at("data/../data/layout"), true),
            (at("link/layout"), true),
            (at("data/other"), true),
            (at("link/../data/other"), true),
            (near.clone(), true),
            (format!("./{near}"), true),
            (at("data/layout2"), false),
            (at("data"), false),
        ] {
            for end in ["", ":v1", "@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"] {
                let location: Location = format!("oci:{typed}{end}").parse().unwrap();
                assert_eq!(pattern.matches(&spellings(&location)), expect, "{location}");
            }
        }
        // One that is not there yet is where it will be.
        let absent: Location = format!("oci:{}:v1", at("link/new/one")).parse().unwrap();
        let pattern = ReferencePattern::new(&format!("^oci:{}$", at("data/new/one:v1"))).unwrap();
        assert!(pattern.matches(&spellings(&absent)));
        // A rule may name it from here, too.
        let typed: Location = format!("oci:{}", at("data/layout")).parse().unwrap();
        assert!(spellings(&typed).contains(&format!("oci:{near}")));
    }
}
