//! The marker that makes a directory ours, and what follows when it is missing.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use crate::error::OpenError;
use crate::files::{create_dirs, discard, make_dirs, open_regular, unique_name};
use crate::layout::{BESIDE, Bucket, CACHEDIR_TAG, CACHEDIR_TAG_TEXT, LOCK, MARKER, TMP, USAGE, VERSION};
use crate::usage;

/// How every tag begins.
const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n";

/// More than any marker has, in bytes.
const LONGEST: u64 = 4096;

/// Makes sure that `root` is a cache of ours, making one of nothing or of an empty directory.
pub(crate) fn ensure(root: &Path) -> Result<(), OpenError> {
    if version(root)?.is_some() {
        restore_tag(root);
        return Ok(());
    }
    create_dirs(root).map_err(|error| OpenError::io("creating the cache directory", root, error))?;
    if !is_unfinished(root).map_err(|error| OpenError::io("looking at", root, error))? {
        // Another process may have made the cache while this one looked. The marker is there before anything else that a
        // cache has at its root, but for what counts as unfinished.
        return match version(root)? {
            Some(_) => Ok(()),
            None => Err(OpenError::Foreign { root: root.to_owned() }),
        };
    }
    create(root).map_err(|error| OpenError::io("making a cache of", root, error))?;
    version(root).map(drop)
}

/// Whether all that `root` holds is what making a cache leaves before the marker is there: another process may be making
/// the same cache, or died while it did. A cache that lost its marker is known by our text in its `CACHEDIR.TAG`; a
/// directory that merely has a `tmp` in it, say, is somebody else's. What others keep beside a cache may be there before it.
fn is_unfinished(root: &Path) -> io::Result<bool> {
    let tagged = is_tagged(root)?;
    for entry in std::fs::read_dir(root)? {
        let name = entry?.file_name();
        let ours = match name.to_str() {
            Some(USAGE) => tagged || holds(&root.join(USAGE), usage::is_beginning)?,
            Some(name) if name.starts_with(MARKER) => tagged || !root.join(name).is_dir(),
            Some(name) if BESIDE.contains(&name) => tagged || is_kept_beside(root, name)?,
            // Desktops leave files in directories that they show.
            Some(name) => tagged && (is_ours(name) || name.starts_with('.')),
            None => false,
        };
        if !ours {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_tagged(root: &Path) -> io::Result<bool> {
    holds(&root.join(CACHEDIR_TAG), |text| text == CACHEDIR_TAG_TEXT.as_bytes())
}

/// Writes the tag anew if it was lost: it tells that the directory is ours when the marker is lost, too.
fn restore_tag(root: &Path) {
    let (path, tmp) = (root.join(CACHEDIR_TAG), root.join(TMP));
    // Another version may say more in it.
    if holds(&path, |text| text.starts_with(SIGNATURE)).is_ok_and(|whole| !whole) {
        let written = make_dirs(&tmp, &tmp)
            .and_then(|()| discard(&path, &tmp))
            .and_then(|_| std::fs::write(&path, CACHEDIR_TAG_TEXT));
        if let Err(error) = written {
            tracing::debug!(path = %path.display(), %error, "the tag of the cache directory stays as it is");
        }
    }
}

/// Whether the directory `name` holds nothing but what is kept beside a cache under that name, and something of it where
/// the name alone says little.
fn is_kept_beside(root: &Path, name: &str) -> io::Result<bool> {
    let path = root.join(name);
    if !std::fs::symlink_metadata(&path)?.is_dir() {
        return Ok(false);
    }
    let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_ours = |entry: &str| match (name, entry.split_once('.')) {
        ("uploads-v1", Some((stem, "json" | "lock"))) => is_hex(stem, 64),
        ("uploads-v1", Some((stem, rest))) => is_hex(stem, 64) && rest.rsplit('.').next() == Some("new"),
        ("verdicts-v1", None) => is_hex(entry, 2),
        ("tuf-v1", None) => is_hex(entry, 64),
        ("locks", Some((stem, "lock"))) => is_hex(stem, 2),
        _ => false,
    };
    let mut any = name != "locks";
    for entry in std::fs::read_dir(&path)? {
        if !entry?.file_name().to_str().is_some_and(is_ours) {
            return Ok(false);
        }
        any = true;
    }
    Ok(any)
}

/// Whether a regular file is at `path` whose first bytes please `check`.
fn holds(path: &Path, check: impl FnOnce(&[u8]) -> bool) -> io::Result<bool> {
    let file = match open_regular(path) {
        Ok(Some((file, _))) => file,
        Ok(None) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(check(&bytes))
}

/// Whether `name` is one that a cache has at its root.
fn is_ours(name: &str) -> bool {
    [CACHEDIR_TAG, TMP, LOCK, USAGE].contains(&name) || Bucket::ALL.iter().any(|bucket| bucket.name() == name)
}

/// Whether `root` bears our marker now.
///
/// # Errors
/// `PermissionDenied` with [`OpenError`] inside if it does not.
pub(crate) fn require(root: &Path) -> io::Result<()> {
    match version(root) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => {
            let foreign = OpenError::Foreign { root: root.to_owned() };
            Err(io::Error::new(io::ErrorKind::PermissionDenied, foreign))
        }
        Err(error) => Err(io::Error::new(io::ErrorKind::PermissionDenied, error)),
    }
}

/// The version in the marker; `None` when there is no marker that is ours.
fn version(root: &Path) -> Result<Option<u32>, OpenError> {
    let path = root.join(MARKER);
    let file = match open_regular(&path) {
        Ok(Some((file, _))) => file,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("opening", &path, error)),
    };
    let mut text = String::new();
    match file.take(LONGEST).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        Err(error) => return Err(OpenError::io("reading", &path, error)),
    }
    match parse(&text) {
        Some(found) if found > VERSION => Err(OpenError::Version { root: root.to_owned(), found, supported: VERSION }),
        other => Ok(other),
    }
}

/// Reads `{"format":"blob-cache","version":N}`, the only form that is ever written.
fn parse(text: &str) -> Option<u32> {
    let rest = text.trim_end().strip_prefix(r#"{"format":"blob-cache","version":"#)?;
    rest.strip_suffix('}')?.parse().ok()
}

/// Writes the files at the root. The marker comes last but one and is flushed: it is the licence to delete.
fn create(root: &Path) -> io::Result<()> {
    // What stands in the place of one of ours goes: all that is here was found to be ours.
    let tmp = root.join(TMP);
    if std::fs::symlink_metadata(&tmp).is_ok_and(|meta| !meta.is_dir()) {
        std::fs::remove_file(&tmp)?;
    }
    if std::fs::symlink_metadata(root.join(USAGE)).is_ok_and(|meta| !meta.is_file()) {
        discard(&root.join(USAGE), &tmp)?;
    }
    // The counter starts at nothing in a new cache; a damaged or old one is put right by the next store.
    match usage::update(&root.join(USAGE), |ledger| ledger.or(Some(fresh()))) {
        // Somebody else makes the cache, or uses it already, and is slow.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let temporary = root.join(format!("{MARKER}.{}", unique_name()));
    let outcome = write_marker(&temporary).and_then(|()| publish(&temporary, root));
    let _ = std::fs::remove_file(&temporary);
    outcome?;
    std::fs::write(root.join(CACHEDIR_TAG), CACHEDIR_TAG_TEXT)?;
    create_dirs(&root.join(TMP))
}

/// Gives the marker at `temporary` its name. One that is there already stays, unless it is damaged: another process may
/// have made the cache meanwhile, and be newer than this one.
fn publish(temporary: &Path, root: &Path) -> io::Result<()> {
    let marker = root.join(MARKER);
    match std::fs::hard_link(temporary, &marker) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match version(root) {
            Ok(None) => {
                if std::fs::symlink_metadata(&marker).is_ok_and(|meta| meta.is_dir()) && is_tagged(root)? {
                    discard(&marker, &root.join(TMP))?;
                }
                std::fs::rename(temporary, marker)
            }
            // What is there may be newer than this program, as will be found when it is read.
            _ => Ok(()),
        },
        // A file system without hard links.
        Err(_) => std::fs::rename(temporary, marker),
    }
}

fn write_marker(path: &Path) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    writeln!(file, r#"{{"format":"blob-cache","version":{VERSION}}}"#)?;
    file.sync_all()
}

fn fresh() -> usage::Ledger {
    usage::Ledger { reconciled_at: crate::evict::unix_now(), ..usage::Ledger::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_marker_tells_its_version() {
        for (text, expect) in [
            ("{\"format\":\"blob-cache\",\"version\":1}\n", Some(1)),
            ("{\"format\":\"blob-cache\",\"version\":20}", Some(20)),
            ("{\"format\":\"other\",\"version\":1}", None),
            ("{\"format\":\"blob-cache\",\"version\":}", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expect, "{text}");
        }
    }

    #[test]
    fn foreign_and_newer_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(matches!(ensure(dir.path()), Err(OpenError::Foreign { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::write(dir.path().join(MARKER), "{\"format\":\"blob-cache\",\"version\":2}").unwrap();
        assert!(matches!(ensure(dir.path()), Err(OpenError::Version { found: 2, supported: 1, .. })));
    }

    #[test]
    fn names_alone_do_not_make_a_directory_ours() {
        for name in [TMP, LOCK, USAGE, CACHEDIR_TAG, Bucket::Contents.name()] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("thesis"), "x").unwrap();
            assert!(matches!(ensure(dir.path()), Err(OpenError::Foreign { .. })), "{name}");
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), "somebody else's").unwrap();
            assert!(matches!(ensure(dir.path()), Err(OpenError::Foreign { .. })), "{name}");
        }
    }

    #[test]
    fn a_cache_that_lost_its_marker_gets_another() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join(Bucket::Contents.name())).unwrap();
        std::fs::remove_file(dir.path().join(MARKER)).unwrap();
        ensure(dir.path()).unwrap();
        require(dir.path()).unwrap();
    }

    #[test]
    fn those_who_make_the_same_cache_at_once_all_have_it() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..200 {
            let root = dir.path().join(round.to_string());
            let start = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        ensure(&root).unwrap();
                        require(&root).unwrap();
                    });
                }
            });
        }
    }

    #[test]
    fn what_is_kept_beside_a_cache_may_be_there_first_and_stays() {
        let digest = "0a".repeat(32);
        for (beside, name) in
            [("uploads-v1", format!("{digest}.json")), ("verdicts-v1", "6b".into()), ("tuf-v1", digest)]
        {
            let dir = tempfile::tempdir().unwrap();
            let kept = dir.path().join(beside).join(name);
            create_dirs(&kept).unwrap();
            ensure(dir.path()).unwrap();
            require(dir.path()).unwrap();
            for damage in [MARKER, CACHEDIR_TAG, MARKER] {
                std::fs::write(dir.path().join(damage), "x").unwrap();
                ensure(dir.path()).unwrap();
                require(dir.path()).unwrap();
                assert!(is_tagged(dir.path()).unwrap(), "{damage}");
            }
            assert!(kept.exists());
        }
        let dir = tempfile::tempdir().unwrap();
        create_dirs(&dir.path().join("locks/thesis")).unwrap();
        assert!(matches!(ensure(dir.path()), Err(OpenError::Foreign { .. })));
        for names in [&["ba.be"][..], &["face.jpg"], &["cafe"], &[], &["0a.lock", "thesis"]] {
            let dir = tempfile::tempdir().unwrap();
            create_dirs(&dir.path().join("locks")).unwrap();
            for name in names {
                std::fs::write(dir.path().join("locks").join(name), "x").unwrap();
            }
            assert!(matches!(ensure(dir.path()), Err(OpenError::Foreign { .. })), "{names:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        create_dirs(&dir.path().join("locks")).unwrap();
        std::fs::write(dir.path().join("locks/0a.lock"), "").unwrap();
        ensure(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_in_place_of_the_marker_goes() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path()).unwrap();
        std::fs::remove_file(dir.path().join(MARKER)).unwrap();
        create_dirs(&dir.path().join(MARKER).join("x")).unwrap();
        ensure(dir.path()).unwrap();
        require(dir.path()).unwrap();
    }

    #[test]
    fn a_marker_that_came_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let newer = "{\"format\":\"blob-cache\",\"version\":2}";
        std::fs::write(dir.path().join(MARKER), newer).unwrap();
        // As if it had come after the first look.
        create(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(MARKER)).unwrap(), newer);
        assert!(matches!(version(dir.path()), Err(OpenError::Version { found: 2, .. })));
        let left = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.as_encoded_bytes().starts_with(MARKER.as_bytes())).collect();
        assert_eq!(left, [MARKER], "no temporary file stays");
    }

    #[test]
    fn a_counter_that_somebody_holds_does_not_keep_a_cache_from_being_made() {
        let dir = tempfile::tempdir().unwrap();
        let held = crate::lock::FileLock::acquire(&dir.path().join(USAGE), std::time::Duration::ZERO).unwrap();
        ensure(dir.path()).unwrap();
        require(dir.path()).unwrap();
        drop(held);
    }

    #[test]
    fn a_cache_whose_making_was_interrupted_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(format!("{MARKER}.0-0")), "{").unwrap();
        std::fs::write(dir.path().join(MARKER), "").unwrap();
        ensure(dir.path()).unwrap();
        require(dir.path()).unwrap();
    }
}
