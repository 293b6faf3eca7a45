//! How deeply brackets are nested in a module, before it is parsed.

/// The deepest nesting of `(`, `[` and `{` outside of strings and comments. Brackets that never close count as open. A
/// string that goes over the end of its line is no Rego, and leaves it open where it ends: that counts as bottomless.
pub(super) fn depth(text: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '(' | '[' | '{' => {
                open += 1;
                deepest = deepest.max(open);
            }
            ')' | ']' | '}' => open = open.saturating_sub(1),
            '#' => while rest.next().is_some_and(|c| !matches!(c, '\n' | '\r')) {},
            '`' => while rest.next().is_some_and(|c| c != '`') {},
            '"' if !skip_string(&mut rest) => return usize::MAX,
            _ => {}
        }
    }
    deepest
}

/// Whether the string is closed within its line.
fn skip_string(rest: &mut std::str::Chars<'_>) -> bool {
    while let Some(c) = rest.next() {
        match c {
            '"' => return true,
            '\n' => return false,
            '\\' if rest.next() == Some('\n') => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_outside_of_strings_and_comments() {
        for (text, expect) in [
            ("", 0),
            ("a := [1]", 1),
            ("a := f([{1}])", 3),
            ("a := [1] b := [2]", 1),
            (r#"a := "[[[" "#, 0),
            (r#"a := "\"[[[" "#, 0),
            ("a := `[[\"` [", 1),
            ("# [[[\n[", 1),
            ("]]][[", 2),
            ("\"\n\"[[", usize::MAX),
            ("\"\\\n\"[[", usize::MAX),
            ("\"", usize::MAX),
        ] {
            assert_eq!(depth(text), expect, "{text}");
        }
    }
}
