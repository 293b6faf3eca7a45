//! Where the cache is.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::args::Global;

/// The directory of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CachePlace {
    pub(crate) dir: PathBuf,
    /// Whether somebody named it.
    pub(crate) chosen: bool,
}

impl CachePlace {
    /// What was typed or `BLOB_CACHE_DIR`, else `$XDG_CACHE_HOME/blob`, else `~/.cache/blob`.
    pub(crate) fn find(options: &Global) -> Option<Self> {
        Self::choose(options.cache_dir.clone(), |name| std::env::var_os(name))
    }

    fn choose(named: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        if let Some(dir) = named.filter(|dir| !dir.as_os_str().is_empty()) {
            return Some(Self { dir, chosen: true });
        }
        // The XDG specification has relative paths ignored.
        let absolute = |name| variable(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        let dir = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        Some(Self { dir: dir.join("blob"), chosen: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_known_is_taken() {
        let all = [("XDG_CACHE_HOME", "/xdg"), ("HOME", "/home/me")];
        for (named, variables, expected) in [
            (Some("here"), &all[..], Some(("here", true))),
            (Some(""), &all[..], Some(("/xdg/blob", false))),
            (None, &all[1..], Some(("/home/me/.cache/blob", false))),
            (None, &[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")], Some(("/h/.cache/blob", false))),
            (None, &[], None),
        ] {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
            let place = CachePlace::choose(named.map(PathBuf::from), variable);
            let expected = expected.map(|(dir, chosen)| CachePlace { dir: dir.into(), chosen });
            assert_eq!(place, expected, "{named:?} {variables:?}");
        }
    }
}
