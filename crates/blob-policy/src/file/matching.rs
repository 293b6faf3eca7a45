//! Which references a rule is for.
//!
//! One registry has many spellings: upper-case hosts, default ports, the aliases of Docker Hub. A rule is for a reference
//! if its pattern is found in *any* spelling, so that another spelling is no way around it.

use std::collections::BTreeSet;
use std::fmt;

use blob_registry::Reference;
use regex::{Regex, RegexBuilder};
use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

use super::list::{checked, with_cause};

/// Bytes that a compiled pattern may take.
const MAX_COMPILED: usize = 1 << 20;

/// The names of Docker Hub; the first is the one that people write.
const DOCKER_HUB: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// A regular expression that is looked for anywhere in a reference; `^` and `$` anchor it.
#[derive(Clone, Debug)]
pub struct ReferencePattern(Regex);

impl ReferencePattern {
    /// Compiles `expression`.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub fn new(expression: &str) -> Result<Self, String> {
        if expression.is_empty() {
            return Err("the pattern of references is empty; write \".\" for all of them".into());
        }
        let compiled = RegexBuilder::new(expression).size_limit(MAX_COMPILED).build();
        compiled.map(Self).map_err(|error| format!("the pattern {expression:?} is not usable: {}", tidy(&error)))
    }

    /// Whether it is found in one of the `spellings` of a reference.
    pub fn matches(&self, spellings: &[String]) -> bool {
        spellings.iter().any(|spelling| self.0.is_match(spelling))
    }
}

/// A regex error on one line.
fn tidy(error: &regex::Error) -> String {
    with_cause(error).split_whitespace().collect::<Vec<_>>().join(" ")
}

impl fmt::Display for ReferencePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl PartialEq for ReferencePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl<'de> Deserialize<'de> for ReferencePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = checked(deserializer, |text| Self::new(text).map(drop))?;
        Self::new(&text).map_err(D::Error::custom)
    }
}

impl Serialize for ReferencePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// Every way to write `reference`: alone, with its tag, with its digest and with both, for each name of its host.
pub fn spellings(reference: &Reference) -> Vec<String> {
    let host = reference.host().to_ascii_lowercase();
    let bare = [":443", ":80"].iter().find_map(|port| host.strip_suffix(port)).unwrap_or(&host).to_owned();
    let mut hosts = BTreeSet::from([reference.host().to_owned(), host.clone(), bare.clone()]);
    // Which of the ports is the usual one depends on how the registry is spoken to.
    if bare.ends_with(']') || !bare.contains(':') {
        hosts.extend([":443", ":80"].map(|port| format!("{bare}{port}")));
    }
    let mut repositories = BTreeSet::from([reference.repository().to_string()]);
    if DOCKER_HUB.contains(&bare.as_str()) {
        hosts.extend(DOCKER_HUB.map(str::to_owned));
        let name = reference.repository().as_str();
        match name.strip_prefix("library/") {
            Some(short) => repositories.insert(short.to_owned()),
            None => !name.contains('/') && repositories.insert(format!("library/{name}")),
        };
    }
    let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = reference.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
    let ends: BTreeSet<String> = [String::new(), tag.clone(), digest.clone(), format!("{tag}{digest}")].into();
    let places = hosts.iter().flat_map(|host| repositories.iter().map(move |name| format!("{host}/{name}")));
    places.flat_map(|place| ends.iter().map(move |end| format!("{place}{end}"))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_spelling_is_a_way_around_a_rule() {
        for (pattern, reference, expect) in [
            ("ghcr.io/acme/", "ghcr.io/acme/app:v1", true),
            ("^ghcr\\.io/acme/", "GHCR.IO/acme/app:v1", true),
            ("^ghcr\\.io/acme/", "ghcr.io:443/acme/app:v1", true),
            ("^ghcr\\.io:443/acme/", "ghcr.io/acme/app:v1", true),
            ("^ghcr\\.io/acme/app$", "ghcr.io/acme/app:v1", true),
            ("^ghcr\\.io/acme/app$", "ghcr.io/acme/app-evil:v1", false),
            (
                "^ghcr\\.io/acme/app:v1$",
                "ghcr.io/acme/app:v1@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
                true,
            ),
            ("^ghcr\\.io/", "evil.example/ghcr.io/acme:v1", false),
            ("^docker\\.io/acme/", "registry-1.docker.io/acme/app:v1", true),
            ("^docker\\.io/acme/", "INDEX.docker.io:443/acme/app:v1", true),
            ("^docker\\.io/library/app", "docker.io/app:v1", true),
            ("^docker\\.io/app", "index.docker.io/library/app:v1", true),
            ("^localhost:5000/", "localhost:5000/a/b:v1", true),
            ("^localhost:80/", "localhost/a/b:v1", true),
            ("^localhost/", "localhost:80/a/b:v1", true),
            ("^127\\.0\\.0\\.1:80/", "127.0.0.1/a/b:v1", true),
            ("^\\[::1\\]:443/", "[::1]/a/b:v1", true),
            ("^\\[::1\\]:80/", "[::1]/a/b:v1", true),
            ("^\\[::1\\]/", "[::1]:80/a/b:v1", true),
            ("^\\[fe80::a\\]/", "[FE80::A]:443/a/b:v1", true),
            ("^\\[::1\\]:80/", "[::1]:5000/a/b:v1", false),
            ("^localhost/", "localhost:5000/a/b:v1", false),
            (".", "h/r:t", true),
        ] {
            let spellings = spellings(&reference.parse().unwrap());
            assert_eq!(ReferencePattern::new(pattern).unwrap().matches(&spellings), expect, "{pattern} on {reference}");
        }
        for bad in ["", "(", "x{1000}{1000}"] {
            assert!(!ReferencePattern::new(bad).unwrap_err().contains('\n'), "{bad}");
        }
    }
}
