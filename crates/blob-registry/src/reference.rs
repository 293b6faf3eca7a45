//! References: `host[:port]/repository[:tag][@digest]`.
//!
//! The grammar is the OCI distribution specification's ("Pulling manifests") with a host in front, which is never
//! guessed: `alpine` alone is not a reference.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use blob_core::{Digest, DigestError};

/// The name of a repository in a registry: `[a-z0-9]` words joined by `.`, `_`, `__`, `-…` and `/`, 255 bytes at most.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(Box<str>);

impl Repository {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`ReferenceError::Repository`].
    pub fn new(name: &str) -> Result<Self, ReferenceError> {
        let fits = name.len() <= 255 && name.split('/').all(is_path_component);
        fits.then(|| Self(name.into())).ok_or_else(|| ReferenceError::Repository(shorten(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let length = rest.iter().take_while(|&&byte| word(byte)).count();
        if length == 0 {
            return false;
        }
        rest = &rest[length..];
        if rest.is_empty() {
            return true;
        }
        let separator = match rest {
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
            _ => rest.iter().take_while(|&&byte| byte == b'-').count(),
        };
        if separator == 0 {
            return false;
        }
        rest = &rest[separator..];
    }
}

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// Checks `tag`.
    ///
    /// # Errors
    /// [`ReferenceError::Tag`].
    pub fn new(tag: &str) -> Result<Self, ReferenceError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let fits = match tag.as_bytes() {
            [first, rest @ ..] => {
                word(*first) && rest.len() <= 127 && rest.iter().all(|&byte| word(byte) || matches!(byte, b'.' | b'-'))
            }
            [] => false,
        };
        fits.then(|| Self(tag.into())).ok_or_else(|| ReferenceError::Tag(shorten(tag)))
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $type {
            type Err = ReferenceError;
            fn from_str(text: &str) -> Result<Self, ReferenceError> {
                Self::new(text)
            }
        }
    };
}
text!(Repository);
text!(Tag);

/// What names a manifest within a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Whatever the tag points at now.
    Tag(Tag),
    /// Exactly this content.
    Digest(Digest),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, "{tag}"),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

impl From<Digest> for Target {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl From<Tag> for Target {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

/// A whole reference.
///
/// ```
/// use blob_registry::Reference;
///
/// let reference: Reference = "localhost:5000/team/assets:v1".parse()?;
/// assert_eq!(reference.host(), "localhost:5000");
/// assert_eq!(reference.repository().as_str(), "team/assets");
/// assert_eq!(reference.tag().map(|tag| tag.as_str()), Some("v1"));
/// assert!("assets:v1".parse::<Reference>().is_err());
/// # Ok::<(), blob_registry::ReferenceError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    host: Box<str>,
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Puts a reference together. `host` is checked as in parsing.
    ///
    /// # Errors
    /// [`ReferenceError::Host`].
    pub fn new(
        host: &str,
        repository: Repository,
        tag: Option<Tag>,
        digest: Option<Digest>,
    ) -> Result<Self, ReferenceError> {
        if !is_host(host) {
            return Err(ReferenceError::Host(shorten(host)));
        }
        Ok(Self { host: host.into(), repository, tag, digest })
    }

    /// The registry: `host` or `host:port`, as it was written.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub fn target(&self) -> Option<Target> {
        self.digest.map(Target::Digest).or_else(|| self.tag.clone().map(Target::Tag))
    }

    /// The same repository with another tag and no digest.
    #[must_use]
    pub fn with_tag(&self, tag: Tag) -> Self {
        Self { tag: Some(tag), digest: None, ..self.clone() }
    }

    /// The same repository and tag, pinned to `digest`.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

/// Whether a URL takes `name` for an IPv4 address (WHATWG URL, "ends in a number").
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    match last.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Whether `address` is another spelling of an IPv4 address, mapped (`::ffff:1.2.3.4`) or compatible (`::1.2.3.4`).
fn is_ipv4(address: Ipv6Addr) -> bool {
    !address.is_loopback() && address.to_ipv4().is_some()
}

/// `host`, `host:port`, `1.2.3.4:port`, `[v6]:port`; each in one spelling, but for capitals. The addresses that stand for
/// any address (`0.0.0.0`, `[::]`) are none of a registry: they would be one more spelling of this machine.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => (&host[..colon], Some(&host[colon + 1..])),
        _ => (host, None),
    };
    let port_fits = port.is_none_or(|port| {
        // One spelling for each port: rules about references compare texts.
        port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0') && port.parse::<u16>().is_ok()
    });
    let name_fits = if let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        inner.parse::<Ipv6Addr>().is_ok_and(|address| {
            address.to_string() == inner.to_ascii_lowercase() && !is_ipv4(address) && !address.is_unspecified()
        })
    } else if ends_in_a_number(name) {
        // URLs know many spellings of an address, of which this is one.
        name.parse::<Ipv4Addr>().is_ok_and(|address| !address.is_unspecified())
    } else {
        !name.is_empty()
            && name.len() <= 253
            && name.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            })
    };
    port_fits && name_fits
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains("://") {
            return Err(ReferenceError::Scheme(shorten(text)));
        }
        let Some((host, rest)) = text.split_once('/') else {
            return Err(ReferenceError::NoHost(shorten(text)));
        };
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (rest, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) => (name, Some(Tag::new(tag)?)),
            None => (rest, None),
        };
        Self::new(host, Repository::new(name)?, tag, digest)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a reference. Texts are shown cut to 300 characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// There is a scheme in front.
    #[error("invalid reference {0:?}: leave out the scheme and write host/repository:tag")]
    Scheme(String),
    /// There is no `/`.
    #[error("invalid reference {0:?}: expected host/repository:tag, such as localhost:5000/assets:v1")]
    NoHost(String),
    /// A place on disk without a path.
    #[error("{prefix}: names no {what}, as in {form}")]
    NoPath {
        /// What such places begin with, without the colon.
        prefix: String,
        /// "directory" or "file".
        what: &'static str,
        /// How it is written.
        form: String,
    },
    /// The part before the first `/` is not a host.
    #[error("invalid registry host {0:?}: expected a name or address with an optional port")]
    Host(String),
    /// The repository breaks the grammar.
    #[error("invalid repository name {0:?}: expected lower-case letters, digits and . _ - between them, joined by /")]
    Repository(String),
    /// The tag breaks the grammar.
    #[error("invalid tag {0:?}: expected up to 128 letters, digits and _ . -, not beginning with . or -")]
    Tag(String),
    /// The digest is none.
    #[error("invalid reference: {0}")]
    Digest(#[from] DigestError),
}

fn shorten(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn good_references_survive_a_round_trip() {
        for text in [
            "localhost/a",
            "localhost:5000/a/b__c/d-e--f:v1.0",
            "ghcr.io/org/repo:latest",
            "127.0.0.1:80/x:_T",
            "[::1]:5000/x:1",
            "[2001:db8::ffff:0]/x:1",
            "foo/bar:1",
            "my_host/x",
        ] {
            assert_eq!(text.parse::<Reference>().expect(text).to_string(), text);
        }
        let both = format!("h/r:t@{DIGEST}");
        let reference: Reference = both.parse().expect("tag and digest");
        assert_eq!(reference.to_string(), both);
        assert_eq!(reference.target(), Some(Target::Digest(DIGEST.parse().expect("digest"))));
    }

    #[test]
    fn bad_references_are_refused() {
        for text in [
            "",
            "alpine",
            "alpine:latest",
            "not-a-valid-ref",
            "://missing-scheme",
            "https://host/repo:tag",
            "/repo:tag",
            "host/",
            "host/Repo",
            "host/a..b",
            "host/a_-b",
            "host/a___b",
            "host/-a",
            "host/a/",
            "host/a//b",
            "host/../b",
            "host/a:",
            "host/a:.x",
            "host/a:-x",
            "host/a@sha256:abc",
            "host/a@md5:0123",
            "host:0/a",
            "host:99999/a",
            "host:x/a",
            "ho st/a",
            "host?x/a",
            "user@host/a",
            "[::1/a",
            "[::ffff:127.0.0.1]:5000/a",
            "[::ffff:7f00:1]/a",
            "[::127.0.0.1]/a",
            "[::7f00:1]/a",
            "[::]:5000/a",
            "0.0.0.0:5000/a",
            "[zz]/a",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        assert!(format!("h/{}", "a".repeat(256)).parse::<Reference>().is_err());
        assert!(format!("h/a:{}", "t".repeat(129)).parse::<Reference>().is_err());
    }
}
