//! Where dependencies come from.

use super::Finding;
use crate::workspace::Workspace;

const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Every locked package is ours or from crates.io.
pub(super) fn sources(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in workspace.files("", "Cargo.lock") {
        for (number, line) in text.lines().enumerate() {
            let Some(source) = line.strip_prefix("source = ") else { continue };
            if source.trim_matches('"') != SOURCE {
                findings.push(Finding::new(
                    path,
                    number + 1,
                    format!("a package comes from {source}, not from crates.io"),
                ));
            }
        }
    }
    if workspace.text("Cargo.lock").is_none() {
        findings.push(Finding::new("Cargo.lock", 1, "the file is missing"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_sources_are_found() {
        let good = format!("[[package]]\nname = \"a\"\nsource = \"{SOURCE}\"\n[[package]]\nname = \"ours\"\n");
        assert_eq!(sources(&Workspace::of(&[("Cargo.lock", &good)])), []);
        for bad in [
            "git+https://example.org/a",
            "registry+https://mirror.example.org/index",
            "sparse+https://index.crates.io/",
        ] {
            let text = format!("{good}source = \"{bad}\"\n");
            let found = sources(&Workspace::of(&[("Cargo.lock", &good), ("xtask/flatc/Cargo.lock", &text)]));
            assert_eq!(found.len(), 1, "{bad}");
            assert_eq!((found[0].path.as_str(), found[0].line), ("xtask/flatc/Cargo.lock", 6));
        }
        assert_eq!(sources(&Workspace::of(&[])).len(), 1);
    }
}
