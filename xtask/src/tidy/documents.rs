//! What must be written down: module documentation, READMEs, the map of the crates.

use super::Finding;
use crate::workspace::Workspace;

/// Every source file opens with `//!`.
pub(super) fn modules(workspace: &Workspace) -> Vec<Finding> {
    let silent = workspace.sources().filter(|(_, _, text)| !text.trim_start().starts_with("//! "));
    silent.map(|(_, path, _)| Finding::new(path, 1, "the module has no `//!` documentation at its top")).collect()
}

/// ARCHITECTURE.md names every crate.
pub(super) fn architecture(workspace: &Workspace) -> Vec<Finding> {
    const FILE: &str = "ARCHITECTURE.md";
    let Some(text) = workspace.text(FILE) else { return vec![Finding::new(FILE, 1, "the file is missing")] };
    let names = workspace.crates().into_iter().chain(["xtask"]);
    let missing = names.filter(|name| !text.contains(&format!("`{name}`")));
    missing.map(|name| Finding::new(FILE, 1, format!("does not name the crate `{name}`"))).collect()
}

/// Every crate has a README of more than a title, and a library shows it as its documentation.
pub(super) fn readmes(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in workspace.crates() {
        let path = format!("crates/{name}/README.md");
        match workspace.text(&path) {
            None => findings.push(Finding::new(&path, 1, "the file is missing")),
            Some(text) if text.lines().filter(|line| !line.trim().is_empty()).count() < 2 => {
                findings.push(Finding::new(&path, 1, "has nothing but a title"));
            }
            Some(_) => {}
        }
        let library = format!("crates/{name}/src/lib.rs");
        if workspace.text(&library).is_some_and(|text| !text.contains("#![doc = include_str!(\"../README.md\")]")) {
            findings.push(Finding::new(&library, 1, "does not include README.md as documentation"));
        }
    }
    findings
}

/// Modules are `foo.rs` beside `foo/`.
pub(super) fn no_mod_rs(workspace: &Workspace) -> Vec<Finding> {
    workspace
        .files("", "/mod.rs")
        .map(|(path, _)| Finding::new(path, 1, "`mod.rs` is not used here; name the file after its folder"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_documentation_is_found() {
        let files = [
            ("crates/a/src/lib.rs", "//! Good.\n"),
            ("crates/a/src/b.rs", "use x;\n//! Late.\n"),
            ("xtask/src/main.rs", "/// Not of the module.\nfn main() {}\n"),
            ("crates/a/tests/it/main.rs", "fn outside() {}\n"),
        ];
        let found: Vec<_> = modules(&Workspace::of(&files)).into_iter().map(|f| f.path).collect();
        assert_eq!(found, ["crates/a/src/b.rs", "xtask/src/main.rs"]);
    }

    #[test]
    fn a_crate_missing_from_the_architecture_is_found() {
        let manifest = ("crates/blob-core/Cargo.toml", "");
        let without = [manifest, ("ARCHITECTURE.md", "blob-core without ticks, `xtask`")];
        assert_eq!(architecture(&Workspace::of(&without)).len(), 1);
        let with = [manifest, ("ARCHITECTURE.md", "`blob-core` and `xtask`")];
        assert!(architecture(&Workspace::of(&with)).is_empty());
        assert_eq!(architecture(&Workspace::of(&[manifest])).len(), 1, "an absent file is a finding");
    }

    #[test]
    fn a_readme_must_exist_say_something_and_be_included() {
        let manifest = ("crates/a/Cargo.toml", "");
        let cases: [(&[(&str, &str)], usize); 4] = [
            (&[manifest], 1),
            (&[manifest, ("crates/a/README.md", "# a\n")], 1),
            (&[manifest, ("crates/a/README.md", "# a\n\nText.\n"), ("crates/a/src/lib.rs", "//! A.\n")], 1),
            (&[manifest, ("crates/a/README.md", "# a\n\nText.\n"), ("crates/a/src/main.rs", "//! A.\n")], 0),
        ];
        for (files, expect) in cases {
            assert_eq!(readmes(&Workspace::of(files)).len(), expect, "{files:?}");
        }
    }

    #[test]
    fn mod_rs_is_found() {
        let files = [("crates/a/src/b/mod.rs", ""), ("crates/a/tests/it/mod.rs", ""), ("crates/a/src/remod.rs", "")];
        assert_eq!(no_mod_rs(&Workspace::of(&files)).len(), 2);
    }
}
