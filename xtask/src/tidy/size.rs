//! How long files and functions may be. Tests do not count.

use super::{Finding, lexer};
use crate::workspace::Workspace;

/// No file has more lines of product code.
const FILE_MAX: usize = 800;
/// At most one file in twenty has more.
const FILE_LONG: usize = 500;
/// No function has more lines, its signature included.
const FUNCTION_MAX: usize = 100;

/// Files stay readable in one sitting.
pub(super) fn files(workspace: &Workspace) -> Vec<Finding> {
    let sizes: Vec<(&str, usize)> = product_files(workspace).map(|(path, text)| (path, product_lines(text))).collect();
    let long: Vec<_> = sizes.iter().filter(|(_, lines)| *lines > FILE_LONG).collect();
    let mut findings: Vec<_> = sizes
        .iter()
        .filter(|(_, lines)| *lines > FILE_MAX)
        .map(|(path, lines)| {
            Finding::new(path, 1, format!("{lines} lines without tests, at most {FILE_MAX} are allowed"))
        })
        .collect();
    if long.len() * 20 > sizes.len() {
        let message = |lines| {
            format!(
                "{lines} lines without tests; only one file in twenty may have more than {FILE_LONG}, {} of {} have",
                long.len(),
                sizes.len()
            )
        };
        findings.extend(long.iter().map(|(path, lines)| Finding::new(path, 1, message(lines))));
    }
    findings
}

/// Functions stay readable on one screen, or two.
pub(super) fn functions(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in product_files(workspace) {
        for function in functions_of(&lexer::product(text)) {
            if function.lines > FUNCTION_MAX {
                let message =
                    format!("`fn {}` has {} lines, at most {FUNCTION_MAX} are allowed", function.name, function.lines);
                findings.push(Finding::new(path, function.line, message));
            }
        }
    }
    findings
}

fn product_files(workspace: &Workspace) -> impl Iterator<Item = (&str, &str)> {
    let files = workspace.sources().map(|(_, path, text)| (path, text));
    files.filter(|(path, _)| !path.ends_with("_generated.rs") && !lexer::is_test_file(path))
}

/// Lines of the file, those of test items left out; comments and blank lines count.
fn product_lines(text: &str) -> usize {
    let code = lexer::code_only(text);
    let product = lexer::without_tests(&code);
    let of_tests = code.lines().zip(product.lines()).filter(|(with, without)| with != without).count();
    text.lines().count() - of_tests
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

fn functions_of(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts_word = code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !starts_word || name.is_empty() {
            continue;
        }
        let Some(open) = code[at..].find(['{', ';']) else { continue };
        if code.as_bytes()[at + open] == b';' {
            continue;
        }
        let end = at + open + lexer::block_end(&code[at + open..]);
        found.push(Function {
            name,
            line: code[..at].matches('\n').count() + 1,
            lines: code[at..end].matches('\n').count() + 1,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: usize) -> String {
        "// line\n".repeat(lines)
    }

    #[test]
    fn a_file_over_the_limit_is_found_and_tests_do_not_count() {
        let long = file(801);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", file(400), "fn x() {}\n".repeat(900));
        let files = [("crates/a/src/long.rs", long.as_str()), ("crates/a/src/tested.rs", tested.as_str())];
        let found = files_of(&files);
        assert_eq!(found.len(), 2, "the long one breaks both rules: {found:?}");
        assert!(found.iter().all(|f| f.path == "crates/a/src/long.rs"));
        assert_eq!(product_lines(&tested), 400);
    }

    fn files_of(list: &[(&str, &str)]) -> Vec<Finding> {
        files(&Workspace::of(list))
    }

    #[test]
    fn one_file_in_twenty_may_be_long() {
        let (short, long) = (file(10), file(501));
        let names: Vec<String> = (0..20).map(|i| format!("crates/a/src/f{i}.rs")).collect();
        let mut list: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), short.as_str())).collect();
        list[0].1 = &long;
        assert_eq!(files_of(&list), []);
        list[1].1 = &long;
        assert_eq!(files_of(&list).len(), 2);
        list[1].1 = &short;
        list.truncate(19);
        assert_eq!(files_of(&list).len(), 1, "one in nineteen is more than five in a hundred");
    }

    #[test]
    fn a_long_function_is_found() {
        let body = "    step();\n".repeat(99);
        let source =
            format!("//! Doc.\nfn fits() {{\n{}}}\nasync fn grew(\n) {{\n{body}}}\n", "    step();\n".repeat(98));
        let found = functions(&Workspace::of(&[("crates/a/src/a.rs", &source)]));
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["crates/a/src/a.rs:102: `fn grew` has 102 lines, at most 100 are allowed"]);
    }
}
