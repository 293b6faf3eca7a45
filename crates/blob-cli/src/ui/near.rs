//! Slips of the pen: what was probably meant.

/// Candidates that are compared at most.
const MAX_CANDIDATES: usize = 10_000;

/// The candidate that is most like `typed`, if one is near: a third of its letters may differ, and no more than four. What
/// is `typed` itself was not meant.
pub(crate) fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_bytes(typed.as_bytes(), candidates.into_iter().map(|candidate| (candidate.as_bytes(), candidate)))
}

/// As [`nearest`], for names that need not be text: `(name, what is returned for it)`.
pub(crate) fn nearest_bytes<'a, T>(typed: &[u8], candidates: impl IntoIterator<Item = (&'a [u8], T)>) -> Option<T> {
    let allowed = (typed.len() / 3).min(4);
    let near = candidates.into_iter().take(MAX_CANDIDATES).filter(|(name, _)| *name != typed);
    let near = near.filter_map(|(name, value)| Some((distance(typed, name, allowed)?, value)));
    near.min_by_key(|(distance, _)| *distance).map(|(_, value)| value)
}

/// Whether `typed` is `name` without some of its letters, a third of them at most, but with its first.
pub(crate) fn is_shortened(typed: &str, name: &str) -> bool {
    let mut rest = name.chars();
    let within = typed.chars().all(|letter| rest.any(|other| other == letter));
    let begins = typed.chars().next().is_some() && typed.chars().next() == name.chars().next();
    within && begins && typed != name && typed.len() * 3 >= name.len() * 2
}

/// How many bytes must be added, removed, replaced or swapped with their neighbour to make one name of the other, case
/// apart; `None` for more than `allowed`.
fn distance(left: &[u8], right: &[u8], allowed: usize) -> Option<usize> {
    if left.len().abs_diff(right.len()) > allowed || left.len().max(right.len()) > 255 {
        return None;
    }
    let equal = |a: u8, b: u8| a.eq_ignore_ascii_case(&b);
    let mut rows = [vec![0; right.len() + 1], (0..=right.len()).collect(), vec![0; right.len() + 1]];
    for (at, byte) in left.iter().enumerate() {
        let [before, above, current] = &mut rows;
        current[0] = at + 1;
        for (to, other) in right.iter().enumerate() {
            let replaced = above[to] + usize::from(!equal(*byte, *other));
            current[to + 1] = replaced.min(above[to + 1] + 1).min(current[to] + 1);
            if at > 0 && to > 0 && equal(*byte, right[to - 1]) && equal(left[at - 1], *other) {
                current[to + 1] = current[to + 1].min(before[to - 1] + 1);
            }
        }
        rows.rotate_left(1);
    }
    let distance = rows[1][right.len()];
    (distance <= allowed).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_some_letters_are_known() {
        for (typed, name, expected) in [
            ("aset", "assets", true),
            ("ast", "assets", false),
            ("ssets", "assets", false),
            ("assets", "assets", false),
            ("", "a", false),
        ] {
            assert_eq!(is_shortened(typed, name), expected, "{typed} {name}");
        }
    }

    #[test]
    fn slips_of_the_pen_are_near() {
        for (left, right, expected) in [
            ("readme", "README", Some(0)),
            ("config", "confg", Some(1)),
            ("config", "ocnfig", Some(1)),
            ("abc", "abd", Some(1)),
            ("abc", "xyz", None),
            ("", "a", Some(1)),
            ("abcdef", "a", None),
        ] {
            assert_eq!(distance(left.as_bytes(), right.as_bytes(), 2), expected, "{left} {right}");
        }
    }

    #[test]
    fn the_nearest_wins() {
        assert_eq!(nearest("stbale", ["latest", "stable", "v1"]), Some("stable"));
        assert_eq!(nearest("zzz", ["latest", "stable"]), None);
        assert_eq!(nearest("v1", ["v2", "V1"]), Some("V1"));
        assert_eq!(nearest("v1", ["v1", "v2"]), None);
    }
}
