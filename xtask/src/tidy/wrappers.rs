//! Wrappers of a trait must forward every method, those with a provided body too.

use super::{Finding, lexer};
use crate::workspace::Workspace;

const LINT: &str = "deny(clippy::missing_trait_methods)";

/// In a folder `filter/`, every implementation of `Registry` carries the lint that finds a method it forgot.
///
/// Without it a method with a provided body, added later, would answer "unsupported" behind the wrapper and not in front.
pub(super) fn deny_missing_methods(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, path, text) in workspace.sources().filter(|(_, path, _)| path.contains("/filter/")) {
        let code = lexer::product(text);
        if code.contains(&format!("#![{LINT}]")) {
            continue;
        }
        let lines: Vec<&str> = code.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| implements_registry(line)) {
            let attributes =
                lines[..number].iter().rev().take_while(|above| above.starts_with('#') || above.is_empty());
            if !attributes.into_iter().any(|attribute| attribute.contains(LINT)) {
                findings.push(Finding::new(path, number + 1, format!("`{line}` lacks `#[{LINT}]`")));
            }
        }
    }
    findings
}

fn implements_registry(line: &str) -> bool {
    line.starts_with("impl") && (line.contains(" Registry for ") || line.contains("::Registry for "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, source: &str, expect: usize) {
        assert_eq!(deny_missing_methods(&Workspace::of(&[(path, source)])).len(), expect, "{source}");
    }

    #[test]
    fn a_wrapper_without_the_lint_is_found() {
        let file = "crates/blob-registry/src/filter/log.rs";
        check(file, "#[async_trait]\nimpl Registry for Log {}\n", 1);
        check(file, "// #[deny(clippy::missing_trait_methods)]\nimpl<R> crate::Registry for Log<R> {}\n", 1);
        check(
            file,
            "#[deny(clippy::missing_trait_methods)]\n#[async_trait]\nimpl<R: Registry> Registry for Log<R> {}\n",
            0,
        );
        check(file, "#![deny(clippy::missing_trait_methods)]\nimpl Registry for Log {}\n", 0);
        check(file, "impl Display for Log {}\n", 0);
        check("crates/blob-registry/src/memory.rs", "impl Registry for Memory {}\n", 0);
    }
}
