//! Aliases: short names for repositories and for what they have in common.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use blob::Location;

use crate::ui::near;

/// The longest name.
const MAX_NAME: usize = 128;

/// What a reference without tag or digest becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// An archive: `latest` is meant.
    Archive,
    /// A repository.
    Repository,
}

/// The aliases that are configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aliases {
    all: BTreeMap<String, String>,
    of_project: BTreeSet<String>,
}

impl Aliases {
    /// All aliases, and which of them are a project's: those stand for one repository, and never for the beginning of a
    /// reference. `registry/app` may be an app of the host `registry`, and whoever wrote the project has no say in that.
    pub(crate) fn new(all: BTreeMap<String, String>, of_project: BTreeSet<String>) -> Self {
        Self { all, of_project }
    }

    /// Names and what they stand for, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all.iter().map(|(name, target)| (name.as_str(), target.as_str()))
    }

    /// What `typed` means: `name`, `name:tag` and `name@digest` for a name as a whole, else `name/rest` for the longest
    /// name that fits, else `typed` itself.
    ///
    /// A tag or digest that was typed replaces that of the alias.
    pub(crate) fn expand<'a>(&self, typed: &'a str, wanted: Wanted) -> Cow<'a, str> {
        if !disk_prefix(typed).is_empty() {
            return Cow::Borrowed(typed);
        }
        let (base, suffix) = split(typed);
        let (stem, own) = match self.all.get(base) {
            Some(target) if names_repository(target) => split(target),
            _ => match self.below(base) {
                Some((target, rest)) => return Cow::Owned(suffixed(&format!("{target}/{rest}"), suffix, "", wanted)),
                None => return Cow::Borrowed(typed),
            },
        };
        Cow::Owned(suffixed(stem, suffix, own, wanted))
    }

    /// The target of the longest name that is a directory of `base`, and what is left.
    fn below<'a, 'b>(&'a self, base: &'b str) -> Option<(&'a str, &'b str)> {
        let usable = |(name, _): &(&str, &str)| !is_host(name) && !self.of_project.contains(*name);
        let fitting = self.iter().filter(usable).filter_map(|(name, target)| {
            let rest = base.strip_prefix(name)?.strip_prefix('/')?;
            Some((name.len(), (stem(target), rest)))
        });
        fitting.max_by_key(|(length, _)| *length).map(|(_, found)| found)
    }

    /// The alias that is most like the host of a reference, if that could be a name: it has neither dot nor port.
    pub(crate) fn similar_to_host(&self, reference: &str) -> Option<&str> {
        let host = reference.split_once('/')?.0;
        if is_host(host) || host.contains(':') {
            return None;
        }
        near::nearest(host, self.all.keys().map(String::as_str))
    }

    /// The alias that is most like what was typed.
    pub(crate) fn similar(&self, typed: &str) -> Option<&str> {
        let typed = split(typed).0;
        let shortened = |name: &&str| near::is_shortened(typed, name);
        let all = || self.all.keys().map(String::as_str);
        near::nearest(typed, all()).or_else(|| all().find(shortened))
    }
}

/// `stem` with the first of: what was typed, what the alias has, `latest` where an archive is wanted.
fn suffixed(stem: &str, typed: &str, own: &str, wanted: Wanted) -> String {
    let suffix = match (typed, own, wanted) {
        ("", _, Wanted::Repository) => "",
        ("", "", Wanted::Archive) => ":latest",
        ("", own, Wanted::Archive) => own,
        (typed, ..) => typed,
    };
    format!("{stem}{suffix}")
}

/// What places on disk begin with, if `text` does: `oci:` for a directory, `oci-archive:` for a file, `pair:` for two.
pub(crate) fn disk_prefix(text: &str) -> &str {
    let known = ["oci:", "oci-archive:", "pair:"].into_iter().find(|prefix| text.starts_with(prefix));
    &text[..known.map_or(0, str::len)]
}

/// `repository` and `:tag@digest`.
fn split(text: &str) -> (&str, &str) {
    let named = &text[..text.find('@').unwrap_or(text.len())];
    let name = named.rfind('/').map_or(0, |slash| slash + 1);
    // Without a slash the colon of `oci:` is no tag's, and behind `oci:DIR` the next one is.
    let name = name.max(disk_prefix(text).len());
    let end = named[name..].rfind(':').map_or(named.len(), |colon| name + colon);
    text.split_at(end)
}

/// Whether `target` is more than a host.
fn names_repository(target: &str) -> bool {
    !disk_prefix(target).is_empty() || target.trim_end_matches('/').contains('/')
}

/// `target` without tag, digest and slash at the end.
fn stem(target: &str) -> &str {
    let target = target.trim_end_matches('/');
    if names_repository(target) { split(target).0 } else { target }
}

/// Whether the first element of a reference would be taken for a host that exists.
fn is_host(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    first.contains('.') || first == "localhost"
}

/// Whether a project may have `name` for an alias: it must be nothing that a reference could be.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_of_project(name: &str) -> Result<(), String> {
    if name.contains('/') {
        return Err(format!(
            "the alias {name:?} of a project could be a repository of a registry: leave out the slash"
        ));
    }
    Ok(())
}

/// Whether `name` can stand for `target`.
///
/// # Errors
/// What is wrong with which of the two.
pub(crate) fn check(name: &str, target: &str) -> Result<(), String> {
    check_name(name)?;
    let bare = target.trim_end_matches('/');
    match bare {
        "oci:" => return Err(format!("{target:?} names no directory, as in oci:DIR")),
        "pair:" => return Err(format!("{target:?} names no directory, as in pair:DIR")),
        "oci-archive:" => return Err(format!("{target:?} names no file, as in oci-archive:FILE")),
        _ => {}
    }
    // A word alone would be a host that only a local network could know, or another alias, which are not looked up twice.
    let is_host = !bare.contains('/') && (is_host(bare) || bare.contains(':'));
    let usable = bare.parse::<Location>().is_ok() || (is_host && format!("{bare}/x").parse::<Location>().is_ok());
    if usable { Ok(()) } else { Err(format!("{target:?} is neither a repository nor what references begin with")) }
}

fn check_name(name: &str) -> Result<(), String> {
    let wrong = |problem: &str| Err(format!("{name:?} cannot be the name of an alias: {problem}"));
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
    if ["oci", "oci-archive", "pair"].contains(&name.split('/').next().unwrap_or_default()) {
        return wrong("oci: and oci-archive: stand for image layouts, pair: for pairs of files");
    }
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
        return wrong("expected up to 128 letters, digits, dots, hyphens, underscores and slashes");
    }
    if name.split('/').any(|element| !element.starts_with(|letter: char| letter.is_ascii_alphanumeric())) {
        return wrong("every part of it begins with a letter or digit");
    }
    if name.contains('/') && is_host(name) {
        return wrong("it looks like a repository of a registry");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases() -> Aliases {
        let pairs = [
            ("foo", "ghcr.io/acme/foo"),
            ("stable", "ghcr.io/acme/foo:stable"),
            ("pinned", "ghcr.io/acme/foo@sha256:0123"),
            ("prod", "ghcr.io/org/production"),
            ("prod/eu", "eu.gcr.io/org:ignored"),
            ("gh", "ghcr.io/"),
            ("lo", "localhost:5000"),
            ("v1.2", "ghcr.io/acme/old:1.2"),
            ("layout", "oci:./dir"),
            ("tagged", "oci:dir:v1"),
            ("packed", "oci-archive:a.tar:v1"),
            ("theirs", "ghcr.io/project/app"),
        ];
        let all = pairs.iter().map(|(name, target)| ((*name).into(), (*target).into())).collect();
        Aliases::new(all, BTreeSet::from(["theirs".into()]))
    }

    #[test]
    fn names_stand_for_what_they_stand_for() {
        let aliases = aliases();
        for (typed, archive, repository) in [
            ("foo", "ghcr.io/acme/foo:latest", "ghcr.io/acme/foo"),
            ("foo:v1", "ghcr.io/acme/foo:v1", "ghcr.io/acme/foo:v1"),
            ("foo@sha256:abc", "ghcr.io/acme/foo@sha256:abc", "ghcr.io/acme/foo@sha256:abc"),
            ("foo:v1@sha256:abc", "ghcr.io/acme/foo:v1@sha256:abc", "ghcr.io/acme/foo:v1@sha256:abc"),
            ("stable", "ghcr.io/acme/foo:stable", "ghcr.io/acme/foo"),
            ("stable:v2", "ghcr.io/acme/foo:v2", "ghcr.io/acme/foo:v2"),
            ("pinned", "ghcr.io/acme/foo@sha256:0123", "ghcr.io/acme/foo"),
            ("prod/assets:v1", "ghcr.io/org/production/assets:v1", "ghcr.io/org/production/assets:v1"),
            ("prod/assets", "ghcr.io/org/production/assets:latest", "ghcr.io/org/production/assets"),
            ("prod/eu/assets:v1", "eu.gcr.io/org/assets:v1", "eu.gcr.io/org/assets:v1"),
            ("prod/europe:v1", "ghcr.io/org/production/europe:v1", "ghcr.io/org/production/europe:v1"),
            ("gh/org/data:1", "ghcr.io/org/data:1", "ghcr.io/org/data:1"),
            ("lo/data:1", "localhost:5000/data:1", "localhost:5000/data:1"),
            ("v1.2", "ghcr.io/acme/old:1.2", "ghcr.io/acme/old"),
            ("layout:v1", "oci:./dir:v1", "oci:./dir:v1"),
            ("layout", "oci:./dir:latest", "oci:./dir"),
            ("tagged", "oci:dir:v1", "oci:dir"),
            ("tagged:v2", "oci:dir:v2", "oci:dir:v2"),
            ("packed", "oci-archive:a.tar:v1", "oci-archive:a.tar"),
            ("theirs:v2", "ghcr.io/project/app:v2", "ghcr.io/project/app:v2"),
            // This may be a host of that name.
            ("theirs/app:v2", "theirs/app:v2", "theirs/app:v2"),
        ] {
            assert_eq!(aliases.expand(typed, Wanted::Archive), archive, "{typed}");
            assert_eq!(aliases.expand(typed, Wanted::Repository), repository, "{typed}");
        }
        for typed in ["localhost:5000/repo:v1", "oci:foo:v1", "bar", "foobar:v1", "gh", "v1.2/x:1", "product/x:1", ""] {
            assert_eq!(aliases.expand(typed, Wanted::Archive), typed);
        }
    }

    #[test]
    fn names_and_targets_are_checked() {
        for name in ["foo", "Foo", "v1.2", "a-b_c", "prod/eu", "ghcr.io", "0"] {
            assert_eq!(check(name, "ghcr.io/acme/foo"), Ok(()), "{name}");
        }
        for name in [
            "",
            "oci",
            "oci/x",
            "oci-archive",
            "pair",
            "a:b",
            "a@b",
            "a b",
            "-a",
            "a//b",
            "/a",
            "a/",
            "../a",
            "ghcr.io/x",
            "localhost/x",
            "ä",
        ] {
            assert!(check(name, "ghcr.io/acme/foo").is_err(), "{name}");
        }
        for target in
            ["ghcr.io", "ghcr.io/", "localhost:5000", "ghcr.io/a/b", "ghcr.io/a:v1", "oci:./dir", "ghcr.io/a/"]
        {
            assert_eq!(check("x", target), Ok(()), "{target}");
        }
        for target in ["", "/", "x", "foo", "https://ghcr.io/a", "ghcr.io/A", "a b", "ghcr.io/a:b:c", "oci:"] {
            assert!(check("x", target).is_err(), "{target}");
        }
    }

    #[test]
    fn slips_are_recognised() {
        assert_eq!(aliases().similar("stabel:v1"), Some("stable"));
        assert_eq!(aliases().similar("nothing-like-it"), None);
        assert_eq!(aliases().similar_to_host("prodd/project:v1"), Some("prod"));
        for reference in ["prod.io/project:v1", "prodd:5000/project:v1", "nothing/like:it"] {
            assert_eq!(aliases().similar_to_host(reference), None, "{reference}");
        }
    }
}
