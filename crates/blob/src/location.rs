//! Where an archive is: in a registry, or in an OCI image layout on disk.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use blob_registry::{Reference, ReferenceError, Tag, Target};

/// The place of an archive: `host[:port]/repository[:tag][@digest]`, or `oci:DIR[:tag][@digest]` for a layout on disk.
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
}

impl Location {
    /// The reference, if this is a place in a registry.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            Self::Layout { .. } => None,
        }
    }

    /// What names the manifest: the digest if there is one, else the tag.
    pub fn target(&self) -> Option<Target> {
        match self {
            Self::Registry(reference) => reference.target(),
            Self::Layout { target, .. } => target.clone(),
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
        }
    }

    /// Whether both are in the same repository or layout.
    pub fn same_repository(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Registry(a), Self::Registry(b)) => a.host() == b.host() && a.repository() == b.repository(),
            (Self::Layout { dir: a, .. }, Self::Layout { dir: b, .. }) => a == b,
            _ => false,
        }
    }
}

impl FromStr for Location {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, crate::Error> {
        let parsed = match text.strip_prefix("oci:") {
            Some(rest) => layout(rest),
            None => text.parse().map(Self::Registry),
        };
        parsed.map_err(|source| crate::Error::InvalidReference { reference: shorten(text), source })
    }
}

/// `DIR[:tag][@digest]`: a colon belongs to a tag only behind the last slash.
fn layout(text: &str) -> Result<Location, ReferenceError> {
    let empty = || ReferenceError::NoHost("oci: names no directory, as in oci:DIR:TAG".into());
    let (rest, digest) = match text.rsplit_once('@') {
        Some((rest, digest)) if digest.starts_with("sha") => (rest, Some(digest.parse()?)),
        _ => (text, None),
    };
    let name = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (dir, tag) = match rest[name..].rfind(':') {
        Some(colon) => (&rest[..name + colon], Some(Tag::new(&rest[name + colon + 1..])?)),
        None => (rest, None),
    };
    if dir.is_empty() {
        return Err(empty());
    }
    let target = digest.map(Target::Digest).or(tag.map(Target::Tag));
    Ok(Location::Layout { dir: Path::new(dir).to_owned(), target })
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
            Self::Layout { dir, target } => {
                write!(f, "oci:{}", dir.display())?;
                match target {
                    Some(Target::Tag(tag)) => write!(f, ":{tag}"),
                    Some(Target::Digest(digest)) => write!(f, "@{digest}"),
                    None => Ok(()),
                }
            }
        }
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
}
