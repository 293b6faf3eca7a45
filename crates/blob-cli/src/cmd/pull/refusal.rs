//! What is said when an extraction is refused or fails.

use std::path::{Path, PathBuf};

use blob::core::extract::ExtractError;

use crate::error::{Failure, Kind};

/// What helps where links lead out of the destination.
const OUTSIDE: &str = "--exclude leaves them out; pass --allow-external-symlinks if you trust the archive";

/// The failure that `error` is to people.
pub(in crate::cmd) fn refusal(mut error: ExtractError) -> Failure {
    if let ExtractError::Obstructed { path, .. } = &mut error {
        // A plan looks at the destination as it was typed, an extraction at where that leads.
        *path = real(path);
    }
    if let ExtractError::Exists { paths, total } = &error {
        return exist(paths, *total);
    }
    if let ExtractError::Escapes { paths, total: total @ 2.., .. } = &error {
        let message = format!("{total} symbolic links lead out of the destination; nothing was written");
        let paths: Vec<PathBuf> = paths.iter().map(|path| bytes_path(path)).collect();
        return Failure::new(Kind::General, message).with_paths(&paths, *total).with_hint(OUTSIDE);
    }
    let hint = match &error {
        ExtractError::Escapes { .. } => Some(OUTSIDE),
        ExtractError::Obstructed { .. } => Some("move away what stands there"),
        ExtractError::Collision { .. } => Some("without --flat and --strip-components, paths stay whole"),
        ExtractError::NothingLeft { .. } => Some("`blob tree` shows how deep things are; take fewer names off"),
        _ => None,
    };
    let failure = Failure::from(blob::Error::Extract(error));
    if let Some(hint) = hint { failure.with_hint(hint) } else { failure }
}

/// `path` by the real name of the deepest directory above it that is there.
fn real(path: &Path) -> PathBuf {
    let above = path.ancestors().skip(1).find_map(|above| {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        Some((above.canonicalize().ok()?, path.strip_prefix(above).unwrap_or(path)))
    });
    above.map_or_else(|| path.to_owned(), |(above, rest)| above.join(rest))
}

/// Files that differ from those in the archive.
pub(in crate::cmd) fn exist(paths: &[PathBuf], total: u64) -> Failure {
    let (what, verb) = if total == 1 { ("file", "exists") } else { ("files", "exist") };
    let message = format!("{total} {what} {verb} already and differ from the archive; nothing was written");
    let message = if total == 1 { message.replace("differ ", "differs ") } else { message };
    Failure::new(Kind::General, message).with_paths(paths, total).with_hint("pass --overwrite to replace them")
}

/// A path of an archive, to be listed.
fn bytes_path(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(path)).to_owned()
}
