//! Names that a file system takes for one: `README` and `Readme`, or one letter written with different code points.

use std::collections::HashMap;

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) dev: u64,
    pub(super) ino: u64,
}

/// Which of the names that are `there`, and that nobody knows, are others for names that are `missing` in the list of
/// their directory. A missing name that leads somewhere all the same leads to one of those: they are kept, for taking
/// one away would take away what is written under the other.
pub(super) fn aliases<'a>(
    there: impl Iterator<Item = &'a [u8]>,
    missing: impl Iterator<Item = &'a [u8]>,
    stat: impl Fn(&[u8]) -> Option<Name>,
) -> HashMap<Vec<u8>, Vec<u8>> {
    // Where names are taken as they are, this is all that is done: nothing stands under any of them.
    let reached: HashMap<Name, &[u8]> = missing.filter_map(|name| Some((stat(name)?, name))).collect();
    if reached.is_empty() {
        return HashMap::new();
    }
    let of = |name: &'a [u8]| Some((name.to_vec(), (*reached.get(&stat(name)?)?).to_vec()));
    there.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The names that are there, on a file system that folds case or does not.
    fn check(there: &[&str], missing: &[&str], folds: bool) -> Vec<(String, String)> {
        let stat = |name: &[u8]| {
            let same =
                |known: &&str| known.as_bytes() == name || (folds && known.as_bytes().eq_ignore_ascii_case(name));
            there.iter().position(same).map(|at| Name { dev: 1, ino: at as u64 })
        };
        let (there, missing) = (there.iter().map(|name| name.as_bytes()), missing.iter().map(|name| name.as_bytes()));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let mut found: Vec<_> = aliases(there, missing, stat).into_iter().map(|(a, b)| (text(a), text(b))).collect();
        found.sort();
        found
    }

    #[test]
    fn only_names_that_lead_to_one_thing_are_one() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(check(&["Readme", "mine"], &["README", "new"], true), [pair("Readme", "README")]);
        assert_eq!(check(&["Readme", "mine"], &["README", "new"], false), []);
        assert_eq!(check(&[], &["README"], true), []);
        assert_eq!(check(&["A", "B"], &["a", "b"], true), [pair("A", "a"), pair("B", "b")]);
    }
}
