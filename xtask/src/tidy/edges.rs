//! Which crate may use which, and which room of `blob-core` which other.

use super::{Finding, lexer};
use crate::workspace::Workspace;

/// What each crate may depend on, beside itself and the test kit in tests.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("blob-core", &[]),
    ("blob-http", &["blob-core"]),
    ("blob-cache", &["blob-core"]),
    ("blob-registry", &["blob-core", "blob-http"]),
    ("blob-policy", &["blob-core", "blob-registry"]),
    ("blob", &["blob-core", "blob-cache", "blob-http", "blob-registry", "blob-policy"]),
    ("blob-cli", &["blob"]),
    ("blob-testkit", &["blob-core", "blob-registry"]),
    ("xtask", &[]),
];

/// The rooms of `blob-core`, lowest floor first; a room uses its own floor and those below.
const FLOORS_OF_CORE: [&[&str]; 3] = [
    &["digest", "source", "range", "path", "cache", "progress"],
    &["entry", "index", "codec"],
    &["create", "archive", "extract"],
];

/// A crate depends only on what lies below it.
pub(super) fn crates(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, name, text) in manifests(workspace) {
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            findings.push(Finding::new(
                path,
                1,
                format!("the crate `{name}` has no row in the table of allowed edges"),
            ));
            continue;
        };
        for dependency in dependencies(text) {
            let ours = ALLOWED.iter().any(|(known, _)| *known == dependency.name);
            let in_tests = dependency.dev && (dependency.name == name || dependency.name == "blob-testkit");
            if ours && !in_tests && !allowed.contains(&dependency.name.as_str()) {
                let message = format!("`{name}` must not depend on `{}`", dependency.name);
                findings.push(Finding::new(path, dependency.line, message));
            }
        }
    }
    findings
}

/// The test kit and this program stay out of the registry.
pub(super) fn not_published(workspace: &Workspace) -> Vec<Finding> {
    let private = manifests(workspace).filter(|(_, name, _)| ["blob-testkit", "xtask"].contains(name));
    let open = private.filter(|(_, _, text)| !text.lines().any(|line| line.trim() == "publish = false"));
    open.map(|(path, ..)| Finding::new(path, 1, "`publish = false` is missing")).collect()
}

/// Every crate takes the lints of the workspace.
pub(super) fn lints(workspace: &Workspace) -> Vec<Finding> {
    let inherits = |text: &str| {
        text.split_once("[lints]").is_some_and(|(_, rest)| rest.trim_start().starts_with("workspace = true"))
    };
    let own = manifests(workspace).filter(|(_, name, text)| *name != "xtask" && !inherits(text));
    own.map(|(path, ..)| Finding::new(path, 1, "`[lints] workspace = true` is missing")).collect()
}

fn manifests(workspace: &Workspace) -> impl Iterator<Item = (&str, &str, &str)> {
    workspace.files("", "/Cargo.toml").filter_map(|(path, text)| {
        let folder = path.strip_suffix("/Cargo.toml")?;
        let name = folder.strip_prefix("crates/").unwrap_or(folder);
        (!name.contains('/')).then_some((path, name, text))
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Dependency {
    name: String,
    line: usize,
    dev: bool,
}

/// The dependencies that a manifest names, by the name of the package.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut section = String::new();
    for (number, line) in manifest.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            // `[dependencies.name]`: the table is the dependency.
            if let Some((table, name)) = section.rsplit_once("dependencies.") {
                found.push(Dependency { name: name.to_owned(), line: number + 1, dev: table.ends_with("dev-") });
            }
            continue;
        }
        if !section.ends_with("dependencies") {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.trim().split('.').next().unwrap_or_default().trim_matches('"');
        let renamed = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
        found.push(Dependency {
            name: renamed.unwrap_or(key).to_owned(),
            line: number + 1,
            dev: section.ends_with("dev-dependencies"),
        });
    }
    found
}

/// Inside `blob-core`, bytes know nothing of the format, and the format nothing of the verbs.
pub(super) fn rooms_of_core(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in workspace.files("crates/blob-core/src/", ".rs") {
        let inside = path.trim_start_matches("crates/blob-core/src/");
        let room = inside.split(['/', '.']).next().unwrap_or_default();
        let Some(floor) = floor_of(room) else { continue };
        for (line, used) in rooms_used(&lexer::product(text)) {
            if floor_of(&used).is_some_and(|other| other > floor) {
                let message = format!("the room `{room}` must not use `{used}`, which lies above it");
                findings.push(Finding::new(path, line, message));
            }
        }
    }
    findings
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS_OF_CORE.iter().position(|rooms| rooms.contains(&room))
}

/// The first path elements behind `crate::`, also in groups, with their lines.
fn rooms_used(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, mark) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + mark.len()..];
        if rest.starts_with('{') {
            let group = &rest[1..lexer::block_end(rest).max(2) - 1];
            found.extend(top_level(group).into_iter().map(|name| (line, name)));
        } else {
            found.push((line, word(rest)));
        }
    }
    found
}

/// The first word of each part of `a::b, c::{d, e}`.
fn top_level(group: &str) -> Vec<String> {
    let mut depth = 0usize;
    let mut words = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => words.push(String::new()),
            _ => words.last_mut().expect("because it starts with one and only grows").push(c),
        }
    }
    words.iter().map(|text| word(text.trim())).filter(|name| !name.is_empty()).collect()
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, manifest: &str, expect: &[(usize, &str)]) {
        let path = if name == "xtask" { "xtask/Cargo.toml".into() } else { format!("crates/{name}/Cargo.toml") };
        let found = crates(&Workspace::of(&[(&path, manifest)]));
        let found: Vec<_> = found.iter().map(|f| (f.line, f.message.as_str())).collect();
        assert_eq!(found, expect, "{manifest}");
    }

    #[test]
    fn allowed_edges_pass() {
        check(
            "blob-registry",
            "[dependencies]\nblob-core.workspace = true\nblob-http = { workspace = true, optional = true }",
            &[],
        );
        check("blob-core", "[dev-dependencies]\nblob-core = { path = \".\" }\nblob-testkit.workspace = true", &[]);
        check("blob-cli", "[dependencies]\nserde = \"1\" # not blob-core = 1", &[]);
    }

    #[test]
    fn forbidden_edges_are_found_however_they_are_written() {
        let message = "`blob-core` must not depend on `blob-http`";
        check("blob-core", "[dependencies]\nblob-http.workspace = true", &[(2, message)]);
        check("blob-core", "[dependencies.blob-http]\nworkspace = true", &[(1, message)]);
        check("blob-core", "[dev-dependencies]\nblob-http = { path = \"..\" }", &[(2, message)]);
        check(
            "blob-core",
            "[target.'cfg(unix)'.dependencies]\nx = { package = \"blob-http\", version = \"1\" }",
            &[(2, message)],
        );
        check(
            "blob-http",
            "[dependencies]\nblob-testkit.workspace = true",
            &[(2, "`blob-http` must not depend on `blob-testkit`")],
        );
        check(
            "blob-cli",
            "[dependencies]\nblob-core.workspace = true",
            &[(2, "`blob-cli` must not depend on `blob-core`")],
        );
        check("xtask", "[build-dependencies]\nblob.workspace = true", &[(2, "`xtask` must not depend on `blob`")]);
        check("blob-new", "", &[(1, "the crate `blob-new` has no row in the table of allowed edges")]);
    }

    #[test]
    fn rooms_of_core_use_only_what_lies_below() {
        let files = [
            ("crates/blob-core/src/digest.rs", "use crate::{path::X, archive::{Y}};\nfn f() { crate::codec::z() }"),
            (
                "crates/blob-core/src/index/view.rs",
                "use crate::path::X;\n#[cfg(test)]\nmod t { use crate::create::Y; }",
            ),
            ("crates/blob-core/src/lib.rs", "pub use crate::archive::Archive;"),
        ];
        let found: Vec<_> = rooms_of_core(&Workspace::of(&files)).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "crates/blob-core/src/digest.rs:1: the room `digest` must not use `archive`, which lies above it",
                "crates/blob-core/src/digest.rs:2: the room `digest` must not use `codec`, which lies above it",
            ]
        );
    }

    #[test]
    fn private_crates_and_lints_are_checked() {
        let files = [("crates/blob-testkit/Cargo.toml", "[package]\n"), ("xtask/Cargo.toml", "publish = false\n")];
        assert_eq!(not_published(&Workspace::of(&files)).len(), 1);
        assert_eq!(lints(&Workspace::of(&files)).len(), 1);
        let good = [("crates/blob-testkit/Cargo.toml", "publish = false\n[lints]\nworkspace = true\n")];
        assert!(not_published(&Workspace::of(&good)).is_empty());
        assert!(lints(&Workspace::of(&good)).is_empty());
    }
}
