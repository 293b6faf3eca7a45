//! One configuration file, read strictly.

use std::io::ErrorKind;
use std::path::Path;

use blob::core::plain;
use yaml_serde::Value;

use super::explain::{self, Wrong};
use super::keys::{self, KEYS};
use super::settings::Settings;
use super::{edit, registry};
use crate::alias;
use crate::error::Failure;
use crate::ui::near;

/// The most that a file may hold: far more than anybody writes by hand.
const MAX_BYTES: u64 = 1 << 20;

/// What is in a file: as settings, and as the tree of its canonical keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Content {
    pub(crate) settings: Settings,
    pub(crate) tree: Value,
    /// As it is written.
    text: String,
}

impl Content {
    /// `path`, with the line and column of the key at `key`, or of what it is in, as far as that can be told.
    pub(crate) fn place(&self, path: &Path, key: &[String]) -> String {
        placed(path, nearest_place(&self.text, key))
    }
}

fn nearest_place(text: &str, key: &[String]) -> Option<(usize, usize)> {
    (1..=key.len()).rev().find_map(|depth| edit::place_of(text, &key[..depth]))
}

fn placed(path: &Path, at: Option<(usize, usize)>) -> String {
    match at {
        Some((line, column)) => format!("{}:{line}:{column}", path.display()),
        None => path.display().to_string(),
    }
}

/// Reads a file; `None` if there is none. A link to what is not there is not nothing: what it was to say is missing.
///
/// # Errors
/// The file cannot be read, or says something that cannot be meant.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Failure> {
    let action = || format!("reading the configuration {}", path.display());
    let refused = |problem: &str| Err(Failure::configuration(action(), problem));
    match plain::read(path, MAX_BYTES) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let at = explain::position(&String::from_utf8_lossy(good), good.len());
            let action = format!("the configuration {} is wrong", placed(path, Some(at)));
            Failure::configuration(action, "it is not UTF-8 text")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => match dangling(path) {
            Some(link) => refused(&format!("the link {} leads to nothing", link.display())),
            None => Ok(None),
        },
        Err(error) if error.kind() == ErrorKind::FileTooLarge => refused("it is larger than 1 MiB"),
        Err(error) => refused(&error.to_string()),
    }
}

/// The link to nothing, `path` itself or a directory that it should be in, because of which there is no file.
fn dangling(path: &Path) -> Option<&Path> {
    let nearest = path.ancestors().find(|part| part.symlink_metadata().is_ok())?;
    nearest.metadata().is_err().then_some(nearest)
}

/// Takes the text of the file at `path` apart.
///
/// # Errors
/// It is not YAML, a key is unknown or there twice, or a value is not what its key needs. The line and column are named.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Content, Failure> {
    let refused = |error: &yaml_serde::Error| refusal((path, text), error);
    // As a tree first, in which a key that is there twice is noticed at every level.
    yaml_serde::from_str::<Value>(text).map_err(|error| refused(&error))?;
    let settings: Option<Settings> = yaml_serde::from_str(text).map_err(|error| refused(&error))?;
    let settings = settings.unwrap_or_default();
    check(&settings).map_err(|wrong| {
        let place = placed(path, nearest_place(text, &wrong.key));
        Failure::configuration(format!("the configuration {place} is wrong"), &wrong.to_string())
    })?;
    let tree = yaml_serde::to_value(&settings).expect("settings are strings, numbers and maps");
    Ok(Content { settings, tree, text: text.to_owned() })
}

/// What types alone cannot say.
pub(crate) fn check(settings: &Settings) -> Result<(), Wrong> {
    for (name, target) in settings.aliases.iter().flatten() {
        alias::check(name, target).map_err(|problem| Wrong::new(&["aliases", name], problem))?;
    }
    for (host, registry) in settings.registries.iter().flatten() {
        let checked = registry::check_host(host).and_then(|()| registry.options().map(drop));
        checked.map_err(|problem| Wrong::new(&["registries", host], problem))?;
    }
    if settings.policies.as_ref().is_some_and(Vec::is_empty) {
        return Err(Wrong::new(&["policies"], "an empty list asks for nothing; leave the key out to say so"));
    }
    if settings.timeout.is_some_and(|timeout| timeout.0.is_zero() || timeout.seconds() > 86_400) {
        return Err(Wrong::new(&["timeout"], "expected between 1 second and a day"));
    }
    if settings.retries.is_some_and(|retries| retries > 1000) {
        return Err(Wrong::new(&["retries"], "expected at most 1000"));
    }
    if settings.jobs.is_some_and(|jobs| jobs.get() > crate::args::MAX_JOBS) {
        return Err(Wrong::new(&["jobs"], format!("expected at most {}", crate::args::MAX_JOBS)));
    }
    Ok(())
}

/// What the parser found wrong, in our words.
fn refusal((path, content): (&Path, &str), error: &yaml_serde::Error) -> Failure {
    let at = error.location().map(|at| (at.line(), at.column()));
    let text = error.to_string();
    // The place is in front already.
    let problem = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
    let twice = twice(problem);
    let at = match &twice {
        // The parser knows where the map begins.
        Some(key) => at.and_then(|at| edit::second_place(content, at, key)).or(at),
        None if problem.contains("more than one document") => explain::second_document(content).or(at),
        None => at,
    };
    let place = placed(path, at);
    let unknown = unknown_key(problem);
    let problem = match (&unknown, &twice) {
        (Some((key, _)), _) => format!("unknown key `{key}`"),
        (None, Some(key)) => format!("duplicate entry: `{key}` is there twice"),
        (None, None) => explain::problem(problem),
    };
    let failure = Failure::configuration(format!("the configuration {place} is wrong"), &problem);
    let known = || "`blob config show` lists the keys".to_owned();
    let similar =
        unknown.map(|(key, outer)| similar(&key, &outer).map_or_else(known, |near| format!("did you mean `{near}`?")));
    match similar {
        Some(hint) => failure.with_hint(hint),
        None => failure.with_hint("`blob config edit` opens it in an editor"),
    }
}

/// The key that is there twice, if that is the problem.
fn twice(problem: &str) -> Option<String> {
    let (_, key) = problem.split_once("duplicate entry with key ")?;
    Some(key.trim_matches('"').to_owned())
}

/// The unknown key that a problem is about, and the path of what it is in.
fn unknown_key(problem: &str) -> Option<(String, String)> {
    let (before, rest) = problem.split_once("unknown field `")?;
    let (key, _) = rest.split_once('`')?;
    let outer = before.trim_end_matches(": ").to_owned();
    Some((key.to_owned(), outer))
}

/// The known key at the same level that is most like `key`, else one of that name elsewhere.
pub(crate) fn similar(key: &str, outer: &str) -> Option<String> {
    let prefix = match outer {
        "" => String::new(),
        _ if outer.starts_with("registries.") => "registries.*.".into(),
        _ => format!("{outer}."),
    };
    let level = KEYS
        .iter()
        .filter_map(|known| known.path.strip_prefix(prefix.as_str()))
        .filter_map(|rest| rest.split('.').next());
    if let Some(found) = near::nearest(key, level) {
        return Some(found.to_owned());
    }
    let plain = key.replace('-', "_");
    let last = |known: &&keys::Key| known.path.rsplit('.').next() == Some(&plain);
    KEYS.iter().find(last).map(|known| known.path.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(text: &str) -> String {
        let failure = parse(Path::new("c.yaml"), text).unwrap_err();
        assert_eq!(failure.kind.exit_code(), 2);
        failure.text()
    }

    #[test]
    fn files_of_the_go_program_are_understood() {
        let text = "output: json\nno-color: true\nplain-http: true\ncompression: none\nverbose: 1\nquiet: false\n\
                    cache:\n  enabled: true\n  dir: ./c\n  ref_ttl: 5m\n  max_size: 5GB\n  indexes:\n    enabled: false\n\
                    aliases:\n  foo: ghcr.io/acme/foo\n  v1.2: ghcr.io/acme/bar:stable\n";
        let read = parse(Path::new("c.yaml"), text).unwrap().settings;
        assert_eq!((read.no_color, read.plain_http), (Some(true), Some(true)));
        assert_eq!(read.cache().max_size.unwrap().0, 5 << 30);
        assert_eq!(read.aliases.unwrap().len(), 2);
        assert_eq!(parse(Path::new("c.yaml"), "").unwrap().settings, Settings::default());
        assert_eq!(parse(Path::new("c.yaml"), "# nothing\n").unwrap().settings, Settings::default());
        assert!(parse(Path::new("c.yaml"), "cache:\naliases:\n").is_ok());
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_its_place() {
        for (text, wanted) in [
            ("outptu: json\n", "c.yaml:1:1 is wrong: unknown key `outptu`\nhint: did you mean `output`?"),
            ("cache:\n  max_sise: 5G\n", "c.yaml:2:3 is wrong: unknown key `max_sise`\nhint: did you mean `max_size`?"),
            ("ref_ttl: 5m\n", "unknown key `ref_ttl`\nhint: did you mean `cache.ref_ttl`?"),
            ("zzz: 1\n", "hint: `blob config show` lists the keys"),
            ("output: xml\n", "c.yaml:1:9 is wrong: output: \"xml\" is not known, expected one of text, json,"),
            ("output: json\noutput: text\n", "c.yaml:2:1 is wrong: duplicate entry: `output` is there twice"),
            ("cache:\n  dir: a\n\n  # b\n  dir: b\n", "c.yaml:5:3 is wrong: duplicate entry"),
            ("aliases:\n  a: h/r\n  b: h/t\n  \"a\": h/s\n", "c.yaml:4:3 is wrong: duplicate entry"),
            ("aliases: {a: h/r, a: h/s}\n", "duplicate entry: `a`"),
            ("cache: [1]\n", "c.yaml:1:8 is wrong: cache: it is a list, expected keys such as enabled, dir,"),
            ("aliases: {a: 5}\n", "c.yaml:1:1 is wrong: aliases.a: "),
            ("quiet: true\naliases:\n  a: 5\n", "c.yaml:3:3 is wrong: aliases.a: "),
            ("quiet: true\ntimeout: 2d\n", "c.yaml:2:1 is wrong: timeout: "),
            ("quiet: true\npolicies: []\n", "c.yaml:2:1 is wrong: policies: "),
            ("cache:\n  max_size: lots\n", "c.yaml:2:13 is wrong"),
            ("output: 'json\n", "c.yaml:"),
            ("\toutput: json\n", "c.yaml:1:1 is wrong"),
            ("aliases:\n  oci: h/r\n", "aliases.oci: "),
            ("timeout: 0\n", "timeout: expected between 1 second and a day"),
            ("retries: 1001\n", "retries: expected at most 1000"),
            ("jobs: 257\n", "jobs: expected at most 256"),
            ("- a\n", "c.yaml:1:1 is wrong"),
            ("--- 1\n--- 2\n", "c.yaml:2:1 is wrong: "),
            ("output: json\n---\noutput: text\n", "c.yaml:2:1 is wrong: "),
        ] {
            let said = refused(text);
            assert!(said.contains(wanted), "{text:?}: {said}");
        }
    }
}
