//! Where an archive is: in a registry, in an OCI image layout on disk, as a directory or in a tar file, or in a pair of files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use blob_core::Digest;
use blob_registry::{Reference, ReferenceError, Tag, Target};

use crate::pair::pair_tag;

/// The place of an archive: `host[:port]/repository[:tag][@digest]`, `oci:DIR[:tag][@digest]` for a layout on disk,
/// `oci-archive:FILE[:tag][@digest]` for one in a tar file, or `pair:DIR[@digest]` for index and data in two files.
///
/// ```
/// use blob::Location;
///
/// let remote: Location = "localhost:5000/team/assets:v1".parse()?;
/// assert!(remote.reference().is_some());
/// let local: Location = "oci:./layout:v1".parse()?;
/// assert_eq!(local.to_string(), "oci:./layout:v1");
/// assert_eq!(local.target().map(|target| target.to_string()), Some("v1".into()));
/// # Ok::<(), blob::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A repository of a registry.
    Registry(Reference),
    /// An OCI image layout.
    Layout {
        /// The directory of the layout.
        dir: PathBuf,
        /// The tag or digest within it, if one was given.
        target: Option<Target>,
    },
    /// An OCI image layout in a tar file, which is read where it is. Pushes and copies to it replace the file as a whole,
    /// with what it had; nothing in it can be deleted or tagged anew.
    LayoutFile {
        /// The file.
        file: PathBuf,
        /// The tag or digest within it, if one was given.
        target: Option<Target>,
    },
    /// An archive as a pair of files, index and data, with its manifest beside them or without: `pair:DIR`. It can be read
    /// alone; its one tag is `latest`.
    Pair {
        /// The directory of the files.
        dir: PathBuf,
        /// The digest that its manifest must have, if one was given.
        digest: Option<Digest>,
    },
}

impl Location {
    /// The reference, if this is a place in a registry.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            Self::Layout { .. } | Self::LayoutFile { .. } | Self::Pair { .. } => None,
        }
    }

    /// What names the manifest: the digest if there is one, else the tag.
    pub fn target(&self) -> Option<Target> {
        match self {
            Self::Registry(reference) => reference.target(),
            Self::Layout { target, .. } | Self::LayoutFile { target, .. } => target.clone(),
            Self::Pair { digest, .. } => Some(digest.map_or_else(|| Target::Tag(pair_tag()), Target::Digest)),
        }
    }

    /// The tag, if there is one and no digest overrides it.
    pub fn tag(&self) -> Option<Tag> {
        match self.target() {
            Some(Target::Tag(tag)) => Some(tag),
            _ => None,
        }
    }

    /// The same repository or layout under another tag or digest.
    #[must_use]
    pub fn with_target(&self, target: Target) -> Self {
        match (self, target) {
            (Self::Registry(reference), Target::Tag(tag)) => Self::Registry(reference.with_tag(tag)),
            (Self::Registry(reference), Target::Digest(digest)) => Self::Registry(reference.with_digest(digest)),
            (Self::Layout { dir, .. }, target) => Self::Layout { dir: dir.clone(), target: Some(target) },
            (Self::LayoutFile { file, .. }, target) => Self::LayoutFile { file: file.clone(), target: Some(target) },
            (Self::Pair { dir, .. }, Target::Tag(_)) => Self::Pair { dir: dir.clone(), digest: None },
            (Self::Pair { dir, .. }, Target::Digest(digest)) => Self::Pair { dir: dir.clone(), digest: Some(digest) },
        }
    }

    /// Whether both are in the same repository or layout.
    pub fn same_repository(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Registry(a), Self::Registry(b)) => a.host() == b.host() && a.repository() == b.repository(),
            (Self::Layout { dir: a, .. }, Self::Layout { dir: b, .. })
            | (Self::LayoutFile { file: a, .. }, Self::LayoutFile { file: b, .. })
            | (Self::Pair { dir: a, .. }, Self::Pair { dir: b, .. }) => a == b,
            _ => false,
        }
    }
}

impl FromStr for Location {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, crate::Error> {
        let parsed = if let Some(rest) = text.strip_prefix("oci:") {
            on_disk(rest, "oci:DIR:TAG").map(|(dir, target)| Self::Layout { dir, target })
        } else if let Some(rest) = text.strip_prefix("oci-archive:") {
            on_disk(rest, "oci-archive:FILE:TAG").map(|(file, target)| Self::LayoutFile { file, target })
        } else if let Some(rest) = text.strip_prefix("pair:") {
            pair(rest)
        } else {
            text.parse().map(Self::Registry)
        };
        parsed.map_err(|source| crate::Error::InvalidReference { reference: shorten(text), source })
    }
}

/// `DIR[@digest]`: there are no tags, so a colon belongs to the directory.
fn pair(text: &str) -> Result<Location, ReferenceError> {
    let (dir, digest) = match text.rsplit_once('@') {
        Some((dir, digest)) if digest.starts_with("sha") => (dir, Some(digest.parse()?)),
        _ => (text, None),
    };
    if dir.is_empty() {
        return Err(ReferenceError::NoPath { prefix: "pair".into(), what: "directory", form: "pair:DIR".into() });
    }
    Ok(Location::Pair { dir: dir.into(), digest })
}

/// `PATH[:tag][@digest]`: a colon belongs to a tag only behind the last slash.
fn on_disk(text: &str, form: &str) -> Result<(PathBuf, Option<Target>), ReferenceError> {
    let (rest, digest) = match text.rsplit_once('@') {
        Some((rest, digest)) if digest.starts_with("sha") => (rest, Some(digest.parse()?)),
        _ => (text, None),
    };
    let name = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match rest[name..].rfind(':') {
        Some(colon) => (&rest[..name + colon], Some(Tag::new(&rest[name + colon + 1..])?)),
        None => (rest, None),
    };
    if path.is_empty() {
        let (prefix, _) = form.split_once(':').unwrap_or((form, ""));
        let what = if prefix == "oci" { "directory" } else { "file" };
        return Err(ReferenceError::NoPath { prefix: prefix.to_owned(), what, form: form.to_owned() });
    }
    Ok((Path::new(path).to_owned(), digest.map(Target::Digest).or(tag.map(Target::Tag))))
}

fn shorten(text: &str) -> String {
    text.chars().take(300).collect()
}

impl From<Reference> for Location {
    fn from(reference: Reference) -> Self {
        Self::Registry(reference)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout { dir, target } => show(f, "oci", dir, target.as_ref()),
            Self::LayoutFile { file, target } => show(f, "oci-archive", file, target.as_ref()),
            Self::Pair { dir, digest } => show(f, "pair", dir, digest.map(Target::Digest).as_ref()),
        }
    }
}

fn show(f: &mut fmt::Formatter<'_>, prefix: &str, path: &Path, target: Option<&Target>) -> fmt::Result {
    write!(f, "{prefix}:{}", path.display())?;
    match target {
        Some(Target::Tag(tag)) => write!(f, ":{tag}"),
        Some(Target::Digest(digest)) => write!(f, "@{digest}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, dir: &str, target: Option<&str>) {
        let Ok(Location::Layout { dir: got, target: got_target }) = text.parse() else { panic!("{text}") };
        assert_eq!((got.as_path(), got_target.map(|t| t.to_string()).as_deref()), (Path::new(dir), target), "{text}");
    }

    #[test]
    fn layouts_are_split_behind_the_last_slash() {
        check("oci:dir", "dir", None);
        check("oci:dir:v1", "dir", Some("v1"));
        check("oci:/a:b/c:v1", "/a:b/c", Some("v1"));
        check("oci:/a:b/c", "/a:b/c", None);
        check("oci:./x/:v1", "./x/", Some("v1"));
        let digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        check(&format!("oci:d@{digest}"), "d", Some(digest));
        check(&format!("oci:d:v1@{digest}"), "d", Some(digest));
        for bad in ["oci:", "oci::v1", "oci:d:", "oci:d:.x", "oci:d@sha256:12"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }

    #[test]
    fn layouts_in_files_are_written_as_directories_are() {
        for text in ["oci-archive:x.tar", "oci-archive:/a:b/x.tar:v1", "oci-archive:x:y"] {
            let Ok(location) = text.parse::<Location>() else { panic!("{text}") };
            assert!(matches!(&location, Location::LayoutFile { .. }), "{text}");
            assert_eq!(location.to_string(), text);
        }
        for bad in ["oci-archive:", "oci-archive::v1", "oci-archive:x.tar:"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }
}
