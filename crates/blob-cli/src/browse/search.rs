//! Finding paths.

use blob::core::ArchiveIndex;

/// What is looked for in paths: lower case matches either, as in `less`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needle {
    text: Vec<u8>,
    any_case: bool,
}

impl Needle {
    /// `None` for nothing.
    pub(super) fn new(typed: &str) -> Option<Self> {
        let any_case = !typed.chars().any(char::is_uppercase);
        (!typed.is_empty()).then(|| Self { text: typed.as_bytes().to_vec(), any_case })
    }

    /// Whether it is in `path`.
    pub(super) fn is_in(&self, path: &[u8]) -> bool {
        let same = |window: &[u8]| {
            if self.any_case { window.eq_ignore_ascii_case(&self.text) } else { window == self.text.as_slice() }
        };
        path.windows(self.text.len()).any(same)
    }

    /// The next path with it after `from`, or before it when going `back`; from the other end if there is none.
    pub(super) fn next(&self, index: &ArchiveIndex, from: &[u8], back: bool) -> Option<Vec<u8>> {
        let found = |beyond: &dyn Fn(&[u8]) -> bool| {
            let mut best: Option<&[u8]> = None;
            let paths = index.entries().map(|entry| entry.path());
            let links = index.root().symlinks().map(|link| link.path());
            let empty = index.root().empty_dirs().map(|dir| dir.path());
            for path in paths.chain(links).chain(empty) {
                let better = best.is_none_or(|best| if back { path > best } else { path < best });
                if better && beyond(path) && self.is_in(path) {
                    best = Some(path);
                }
            }
            best.map(<[u8]>::to_vec)
        };
        let beyond = found(&|path| if back { path < from } else { path > from });
        beyond.or_else(|| found(&|_| true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_count_only_where_they_were_typed() {
        for (typed, path, expected) in [
            ("read", "docs/README.md", true),
            ("READ", "docs/README.md", true),
            ("Read", "docs/README.md", false),
            ("docs/r", "docs/README.md", true),
            ("x", "docs/README.md", false),
            ("much longer than that", "short", false),
        ] {
            let needle = Needle::new(typed).expect("something was typed");
            assert_eq!(needle.is_in(path.as_bytes()), expected, "{typed} in {path}");
        }
        assert_eq!(Needle::new(""), None);
    }
}
