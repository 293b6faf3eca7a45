//! Calls that finished code does not make.

use super::{Finding, lexer};
use crate::workspace::Workspace;

const FORBIDDEN: [(&str, &str); 4] = [
    ("todo!(", "is for code that is not finished"),
    ("unimplemented!(", "is for code that is not finished"),
    ("dbg!(", "is for debugging"),
    (".unwrap()", "hides why the value is there; use `?` or `expect(\"because …\")`"),
];

/// Looks for the calls in everything that is not a test.
pub(super) fn forbidden_calls(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, path, text) in workspace.sources().filter(|(_, path, _)| !lexer::is_test_file(path)) {
        if path.ends_with("_generated.rs") {
            continue;
        }
        for (number, line) in lexer::product(text).lines().enumerate() {
            for (call, why) in FORBIDDEN.iter().filter(|(call, _)| contains_call(line, call)) {
                findings.push(Finding::new(path, number + 1, format!("`{}` {why}", call.trim_end_matches('('))));
            }
        }
    }
    findings
}

/// `dbg!(` but not `my_dbg!(`.
fn contains_call(line: &str, call: &str) -> bool {
    line.match_indices(call).any(|(at, _)| {
        call.starts_with('.') || line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_found_outside_of_tests_comments_and_strings() {
        let source = "//! `x.unwrap()` in a comment\nfn a() { x.unwrap(); }\nfn b() { todo!() }\n\
                      fn c() { unimplemented!(\"c\") }\nfn d() { dbg!(1); my_dbg!(1); \"dbg!(\"; }\n\
                      #[cfg(test)]\nmod tests { fn t() { x.unwrap(); } }\n";
        let found = forbidden_calls(&Workspace::of(&[("crates/a/src/a.rs", source)]));
        let lines: Vec<_> = found.iter().map(|f| f.line).collect();
        assert_eq!(lines, [2, 3, 4, 5]);
    }

    #[test]
    fn test_files_may_unwrap() {
        let files = [
            ("crates/a/src/a/tests.rs", "fn t() { x.unwrap() }"),
            ("crates/a/tests/it/main.rs", "fn t() { x.unwrap() }"),
        ];
        assert_eq!(forbidden_calls(&Workspace::of(&files)), []);
    }
}
