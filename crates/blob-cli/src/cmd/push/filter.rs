//! `--include` and `--exclude`.

use blob::core::create::EntryKind;

/// A predicate over paths and kinds; `None` without patterns.
pub(super) fn filter(
    include: &[String],
    exclude: &[String],
) -> Option<impl Fn(&[u8], EntryKind) -> bool + Send + Sync + use<>> {
    if include.is_empty() && exclude.is_empty() {
        return None;
    }
    let patterns = |typed: &[String]| typed.iter().map(|pattern| Pattern::new(pattern)).collect::<Vec<_>>();
    let (include, exclude) = (patterns(include), patterns(exclude));
    Some(move |path: &[u8], kind: EntryKind| {
        let is_dir = kind == EntryKind::Directory;
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(path, is_dir));
        // Directories must be entered to find what is in them.
        !any(&exclude) && (is_dir || include.is_empty() || any(&include))
    })
}

/// A pattern as people know it from ignore files, without negation and character classes.
#[derive(Debug)]
struct Pattern {
    glob: Vec<u8>,
    /// It matches whole paths, not names at any depth.
    anchored: bool,
    dirs_only: bool,
}

impl Pattern {
    fn new(typed: &str) -> Self {
        let dirs_only = typed.ends_with('/');
        let trimmed = typed.trim_end_matches('/');
        Self { glob: trimmed.trim_start_matches('/').into(), anchored: trimmed.contains('/'), dirs_only }
    }

    fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        if self.dirs_only && !is_dir {
            return false;
        }
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        matches(&self.glob, if self.anchored { path } else { name })
    }
}

/// Whether `glob` matches all of `text`: `?` is a byte and `*` any number of them but `/`, `**` any number, and `**/`
/// also nothing. Only the last star of each kind is ever taken back, so there is no exponential blow-up.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    // Where to go on in the pattern, and where in the text the star's match ended when it was last tried.
    let mut star: Option<(usize, usize)> = None;
    let mut stars = star;
    loop {
        if glob[g..].starts_with(b"**") {
            g += if glob[g..].starts_with(b"**/") { 3 } else { 2 };
            (star, stars) = (None, Some((g, t)));
            continue;
        }
        match (glob.get(g), text.get(t)) {
            (Some(b'*'), _) => {
                g += 1;
                star = Some((g, t));
                continue;
            }
            (Some(b'?'), Some(byte)) if *byte != b'/' => {
                (g, t) = (g + 1, t + 1);
                continue;
            }
            (Some(wanted), Some(byte)) if wanted == byte => {
                (g, t) = (g + 1, t + 1);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match (star, stars) {
            (Some((after, from)), _) if text.get(from).is_some_and(|byte| *byte != b'/') => {
                (g, t) = (after, from + 1);
                star = Some((after, from + 1));
            }
            (_, Some((after, from))) if from < text.len() => {
                // `**/` ends where an element ends.
                let whole = glob[..after].ends_with(b"**/");
                let next = (from + 1..=text.len()).find(|at| !whole || text[at - 1] == b'/');
                let Some(next) = next else { return false };
                (g, t) = (after, next);
                (star, stars) = (None, Some((after, next)));
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_people_expect() {
        for (glob, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("*.log", "x.log", true),
            ("*.log", ".log", true),
            ("*.log", "x.log.gz", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyyb", false),
            ("?", "a", true),
            ("?", "/", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("**/x", "a/bx", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/bz", false),
            ("a/*/z", "a/b/z", true),
            ("a/*/z", "a/b/c/z", false),
            ("**/*.rs", "src/a/b.rs", true),
            ("", "", true),
            ("", "a", false),
            ("***", "a/b", true),
        ] {
            assert_eq!(matches(glob.as_bytes(), text.as_bytes()), expected, "{glob} {text}");
        }
    }

    #[test]
    fn hostile_globs_take_no_time() {
        let glob = "a*".repeat(2_000) + "b";
        assert!(!matches(glob.as_bytes(), &[b'a'; 10_000]));
    }

    #[test]
    fn exclusion_wins_and_directories_are_entered() {
        use EntryKind::{Directory, File};
        let typed = |patterns: &str| patterns.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (include, exclude, path, kind, expected) in [
            ("", "", "a", File, true),
            ("", "*.log", "d/x.log", File, false),
            ("", "/x.log", "x.log", File, false),
            ("", "/x.log", "d/x.log", File, true),
            ("*.rs", "", "src/a.rs", File, true),
            ("*.rs", "", "src/a.md", File, false),
            ("*.rs", "", "src", Directory, true),
            ("*.rs", "target/", "target", Directory, false),
            ("*.rs", "target/", "target", File, false),
            ("", "target/", "target", File, true),
            ("*.rs", "a.*", "a.rs", File, false),
        ] {
            let takes = filter(&typed(include), &typed(exclude)).is_none_or(|filter| filter(path.as_bytes(), kind));
            assert_eq!(takes, expected, "{include:?} {exclude:?} {path}");
        }
    }
}
