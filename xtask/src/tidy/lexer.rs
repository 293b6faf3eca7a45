//! Enough of Rust's lexical structure to tell code from comments, literals and tests.

/// The text with comments, string and character literals replaced by blanks; line breaks stay, so that lines still match.
pub(super) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => comment_end(&chars, at),
            '"' => string_end(&chars, at),
            'r' if !follows_word(&chars, at) => raw_string_end(&chars, at + 1).unwrap_or(at),
            'b' | 'c' if chars.get(at + 1) == Some(&'r') && !follows_word(&chars, at) => {
                raw_string_end(&chars, at + 2).unwrap_or(at)
            }
            '\'' => char_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn line_end(chars: &[char], at: usize) -> usize {
    (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len())
}

fn comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => {
                depth += 1;
                i += 2;
            }
            ('*', '/') => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// `at` is behind the `r`; `None` when this is no raw string.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars.get(at..)?.iter().take_while(|c| **c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let closes = |i: usize| chars[i] == '"' && (1..=hashes).all(|k| chars.get(i + k) == Some(&'#'));
    let end = (at + hashes + 1..chars.len()).find(|i| closes(*i));
    Some(end.map_or(chars.len(), |i| i + hashes + 1))
}

/// `None` when the quote begins a lifetime.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        // The character behind the backslash may be a quote itself.
        let close = (at + 3..chars.len()).find(|i| chars[*i] == '\'')?;
        return Some(close + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

/// Blanks out every item that carries `#[cfg(test)]`. Takes the result of [`code_only`].
pub(super) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        out.push_str(&rest[..start]);
        let end = start + MARK.len() + item_end(&rest[start + MARK.len()..]);
        out.extend(rest[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// Where the item that begins here ends: behind its `;` or its closing brace.
fn item_end(code: &str) -> usize {
    match code.find(['{', ';']) {
        None => code.len(),
        Some(at) if code.as_bytes()[at] == b';' => at + 1,
        Some(at) => at + block_end(&code[at..]),
    }
}

/// The length of the block that begins with the brace at the start of `code`.
pub(super) fn block_end(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Product code: what is neither comment nor literal nor test.
pub(super) fn product(source: &str) -> String {
    without_tests(&code_only(source))
}

/// Whether a file is test code as a whole.
pub(super) fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/src/conformance")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let cases = [
            ("a // b.unwrap()\nc", "a              \nc"),
            ("a /* x /* y */ z */ b", "a                   b"),
            (r#"f("{\"") + g"#, "f(     ) + g"),
            (r###"f(r#"a"b"#) + g"###, "f(        ) + g"),
            ("let c = '{'; let d = '\\''; x::<'a>()", "let c =    ; let d =     ; x::<'a>()"),
            ("for r in 0..1 { br(r) }", "for r in 0..1 { br(r) }"),
        ];
        for (source, expect) in cases {
            assert_eq!(code_only(source), expect, "{source}");
        }
    }

    #[test]
    fn items_of_tests_are_blanked_and_what_follows_stays() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod t {\n fn x() { {} }\n}\nfn b() {}\n";
        let left = without_tests(source);
        assert_eq!(left.split_whitespace().collect::<Vec<_>>().join(" "), "fn a() {} fn b() {}");
        assert_eq!(left.lines().count(), source.lines().count());
    }
}
