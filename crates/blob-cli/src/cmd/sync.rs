//! `pull --sync --delete`: what a destination holds beyond the archive, and when it may be deleted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob::Archive;
use blob::core::extract::{ExtractError, Selection, SetAside, Surplus, SurplusOptions, SurplusReport, remove_surplus};

use super::pull::refusal;
use crate::error::{Failure, Kind};
use crate::filter::Patterns;
use crate::ui::size::count;

/// Everything at `dest`, below the path `prefix` in it, that the archive does not have, as far as `patterns` mean it.
/// Unless `forced`, places that look like a mistake are refused.
pub(super) async fn surplus(
    archive: &Archive,
    (selection, prefix): (Selection, &[u8]),
    dest: &Path,
    patterns: &Patterns,
    forced: bool,
) -> Result<Vec<Surplus>, Failure> {
    let (filter, prefix) = (patterns.filter(), prefix.to_vec());
    let considered = move |path: &[u8], is_dir: bool| {
        let (below, above) = (is_below(path, &prefix), is_dir && is_below(&prefix, path));
        (below || above) && filter.takes(path, is_dir)
    };
    // A directory may hold what patterns leave alone, so with patterns none goes as a whole.
    let how = SurplusOptions { considered: Arc::new(considered), whole_dirs: patterns.is_empty() };
    let found = archive.surplus(selection, dest, how).await.map_err(refusal)?;
    if !forced {
        check(dest, std::env::home_dir(), &found)?;
    }
    Ok(found.surplus)
}

/// Everything at `dest` that a replacement by the archive takes away. Unless `forced`, places that look like a mistake are
/// refused.
pub(super) async fn replaced(
    archive: &Archive,
    selection: Selection,
    dest: &Path,
    forced: bool,
) -> Result<Vec<Surplus>, Failure> {
    let how = SurplusOptions { considered: Arc::new(|_, _| true), whole_dirs: true };
    let found = archive.surplus(selection, dest, how).await.map_err(refusal)?;
    if !forced {
        check(dest, std::env::home_dir(), &found)?;
        let (real, here) = (dest.canonicalize(), std::env::current_dir());
        if let (Ok(real), Ok(here)) = (real, here)
            && here.starts_with(&real)
        {
            return Err(refused(dest, &found, "the current directory is in it"));
        }
    }
    Ok(found.surplus)
}

/// Whether `path` is `dir` or lies in it; the empty path is the root.
fn is_below(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Refuses places that nobody means to empty.
fn check(dest: &Path, home: Option<PathBuf>, found: &SurplusReport) -> Result<(), Failure> {
    if found.surplus.is_empty() {
        return Ok(());
    }
    let refused = |why| Err(refused(dest, found, why));
    let real = dest.canonicalize().unwrap_or_else(|_| dest.to_owned());
    let home = home.and_then(|home| home.canonicalize().ok());
    if real.parent().is_none() {
        return refused("it is the root of the file system");
    }
    if home.as_ref().is_some_and(|home| home.starts_with(&real)) {
        return refused("it is your home directory, or one above it");
    }
    if found.common == 0 {
        return refused("it has nothing in common with the archive");
    }
    Ok(())
}

fn refused(dest: &Path, found: &SurplusReport, why: &str) -> Failure {
    let things = count(found.surplus.len() as u64, "thing");
    let message = format!("refusing to delete {things} in {}: {why}", dest.display());
    Failure::new(Kind::General, message)
        .with_hint("--dry-run shows what would go; pass --force-delete if that is meant")
}

/// Gives `obstacles` at `dest` other names; dropped, the answer gives them back what they had.
pub(super) async fn set_aside(dest: &Path, obstacles: Vec<Surplus>) -> Result<SetAside, Failure> {
    let dest = dest.to_owned();
    waiting(move || SetAside::begin(&dest, &obstacles)).await
}

/// Removes what was in the way, and the rest of what the archive does not have, once everything else is done.
pub(super) async fn remove(dest: &Path, aside: SetAside, rest: Vec<Surplus>) -> Result<u64, Failure> {
    if aside.is_empty() && rest.is_empty() {
        return Ok(0);
    }
    let dest = dest.to_owned();
    waiting(move || Ok(aside.remove()? + remove_surplus(&dest, &rest)?)).await
}

/// Does `work` on a thread that may wait.
async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExtractError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(refusal),
        Err(_) => Err(Failure::new(Kind::General, "deleting: a thread failed")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_that_look_like_a_mistake_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir_all(home.join("inside")).unwrap();
        let surplus = vec![Surplus { path: (*b"x").into(), is_dir: false, obstructs: false }];
        let report = |common| {
            let mut report = SurplusReport::default();
            (report.surplus, report.common) = (surplus.clone(), common);
            report
        };
        for (dest, common, fine) in [
            (Path::new("/"), 5, false),
            (home.as_path(), 5, false),
            (dir.path(), 5, false),
            (&home.join("inside"), 5, true),
            (&home.join("inside"), 0, false),
        ] {
            let checked = check(dest, Some(home.clone()), &report(common));
            assert_eq!(checked.is_ok(), fine, "{} {common}", dest.display());
        }
        assert!(check(Path::new("/"), None, &SurplusReport::default()).is_ok());
    }
}
