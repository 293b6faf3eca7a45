//! What typed words mean: places of archives, sources of copies, and what plans ask before.

use std::io;
use std::path::Path;

use blob::registry::{Repository, Tag, Target};
use blob::{Location, core::path};
use rustix::fs::Access;

use crate::alias::disk_prefix;
use crate::error::{Failure, Kind};

/// Refuses a layout in a tar file where something in it would be changed, before anything is planned.
///
/// # Errors
/// What to do instead.
pub(crate) fn changeable(location: &Location) -> Result<(), Failure> {
    if let Location::Pair { dir, .. } = location {
        let text = format!("the pair of files in {} holds one archive, and nothing else", dir.display());
        return Err(Failure::new(Kind::General, text)
            .with_hint(format!("`blob copy {location} oci:DIR:TAG` puts it in a layout")));
    }
    let Location::LayoutFile { file, .. } = location else { return Ok(()) };
    let text = format!("the layout in {} is written as a whole", file.display());
    Err(Failure::new(Kind::General, text).with_hint("copy it to a directory, change it there, and copy it back"))
}

/// Refuses a pair of files as a place to store something in.
///
/// # Errors
/// How pairs are made.
pub(crate) fn not_a_pair(location: &Location) -> Result<(), Failure> {
    let Location::Pair { .. } = location else { return Ok(()) };
    let failure = Failure::usage(format!("{location} is an archive in files, and can only be read"));
    Err(failure.with_hint("`blob pack DIR OUTDIR` makes one"))
}

/// Whether `dir` takes new files, for plans of what would be written there.
///
/// # Errors
/// What the system would say to who tried.
pub(crate) fn takes_files(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// The source of a copy: an archive, and a path in it as archives write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopySource {
    pub(crate) location: Location,
    /// Empty for the root.
    pub(crate) path: String,
}

impl CopySource {
    /// Reads `REF:/PATH`, in which `location` reads `REF`. The prefix `oci:` or `oci-archive:` is
    /// taken off first, so that an absolute path behind it is not the path in the archive; then the last `:/` splits.
    pub(crate) fn parse(
        typed: &str,
        location: impl FnOnce(&str) -> Result<Location, Failure>,
    ) -> Result<Self, Failure> {
        let refused = |problem: &str| Failure::usage(format!("invalid source format {typed:?}: {problem}"));
        let expected = "expected <ref>:<path> (path must start with /)";
        let (prefix, rest) = typed.split_at(disk_prefix(typed).len());
        let (reference, path) = rest.rsplit_once(":/").ok_or_else(|| refused(expected))?;
        if reference.is_empty() {
            return Err(refused("reference cannot be empty"));
        }
        let location = location(&format!("{prefix}{reference}"))?;
        let path = String::from_utf8_lossy(&path::normalize(path.as_bytes())).into_owned();
        Ok(Self { location, path })
    }

    /// As it is shown: `REF:/PATH`.
    pub(crate) fn shown(&self) -> String {
        format!("{}:/{}", self.location, self.path)
    }
}

/// The tag that `typed` means for an archive at `source`: a bare tag, or a whole reference of the same repository.
pub(crate) fn new_tag(
    source: &Location,
    typed: &str,
    location: impl FnOnce(&str) -> Result<Location, Failure>,
) -> Result<Tag, Failure> {
    let whole = typed.contains(['/', '@', ':']);
    if !whole {
        return Tag::new(typed).map_err(|error| Failure::usage(error.to_string()));
    }
    let target = location(typed)?;
    if !target.same_repository(source) {
        let message = format!("cannot tag {source} as {target}: a tag points within its own repository");
        return Err(Failure::usage(message).with_hint(format!("`blob copy {source} {target}` takes it there")));
    }
    match target.target() {
        Some(Target::Tag(tag)) => Ok(tag),
        _ => Err(Failure::usage(format!("cannot tag {source} as {target}: expected a tag"))),
    }
}

/// `key=value` of an annotation; the value may be empty or hold more `=`.
pub(crate) fn annotation(typed: &str) -> Result<(String, String), String> {
    match typed.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("invalid annotation {typed:?}: must be key=value")),
    }
}

/// A tag of an option.
pub(crate) fn tag(typed: &str) -> Result<Tag, String> {
    Tag::new(typed).map_err(|error| error.to_string())
}

/// A repository of an option.
pub(crate) fn mount(typed: &str) -> Result<Repository, String> {
    Repository::new(typed).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn location(typed: &str) -> Result<Location, Failure> {
        Ok(typed.parse()?)
    }

    #[test]
    fn copy_sources_are_split_at_the_last_colon_slash() {
        for (typed, reference, path) in [
            ("localhost:5000/a/b:v1:/config/app.yaml", "localhost:5000/a/b:v1", "config/app.yaml"),
            ("h/r:t:/", "h/r:t", ""),
            ("h/r:t:/config/", "h/r:t", "config"),
            ("h/r:t://a//b", "h/r:t", "a/b"),
            ("oci:dir:v1:/a", "oci:dir:v1", "a"),
            ("oci:/abs/dir:v1:/a", "oci:/abs/dir:v1", "a"),
            ("oci:/a:/b:v1:/c", "oci:/a:/b:v1", "c"),
            ("oci-archive:/a/b.tar:v1:/c/d", "oci-archive:/a/b.tar:v1", "c/d"),
        ] {
            let source = CopySource::parse(typed, location).unwrap();
            assert_eq!((source.location.to_string().as_str(), source.path.as_str()), (reference, path), "{typed}");
        }
    }

    #[test]
    fn what_is_no_copy_source_says_what_is_expected() {
        for (typed, expected) in [
            ("h/r:t", "invalid source format \"h/r:t\": expected <ref>:<path> (path must start with /)"),
            ("h/r:t:a", "expected <ref>:<path> (path must start with /)"),
            ("oci:/abs/dir", "expected <ref>:<path> (path must start with /)"),
            (":/a", "reference cannot be empty"),
            ("alpine:/a", "invalid reference"),
        ] {
            let failure = CopySource::parse(typed, location).unwrap_err();
            assert!(failure.text().contains(expected), "{typed}: {}", failure.text());
            assert_eq!(failure.kind.exit_code(), 2);
        }
    }

    #[test]
    fn tags_are_bare_or_of_the_same_repository() {
        let source = location("localhost:5000/a/b:v1").unwrap();
        for (typed, expected) in [
            ("latest", Some("latest")),
            ("localhost:5000/a/b:v2", Some("v2")),
            ("localhost:5000/a/c:v2", None),
            ("localhost:5000/a/b", None),
            (".x", None),
            ("a b", None),
        ] {
            let tag = new_tag(&source, typed, location).ok();
            assert_eq!(tag.as_ref().map(Tag::as_str), expected, "{typed}");
        }
    }

    #[test]
    fn annotations_have_a_key() {
        assert_eq!(annotation("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert_eq!(annotation("a=").unwrap(), ("a".into(), String::new()));
        assert_eq!(annotation("x").unwrap_err(), "invalid annotation \"x\": must be key=value");
        assert!(annotation("=x").is_err());
    }
}
