//! Operands of `blob cp` that mean what another command does.

use std::path::Path;

use blob::Location;

use crate::alias::disk_prefix;
use crate::error::Failure;
use crate::plan::CopySource;
use crate::session::Session;

/// Refuses destinations that would not become what was meant.
pub(super) fn check_dest(dest: &Path, session: &Session) -> Result<(), Failure> {
    let text = dest.to_string_lossy();
    if !dest.exists() && CopySource::parse(&text, |reference| session.location(reference)).is_ok() {
        return Err(
            Failure::usage(format!("{text} is in an archive, and archives never change")).with_hint(NEW_ARCHIVE)
        );
    }
    if !dest.exists() && names_registry(&text) {
        let failure = Failure::usage(format!("{text} is a place in a registry, and files are copied to directories"));
        return Err(failure.with_hint("`blob copy` copies archives between registries; ./ before it makes it a path"));
    }
    if !disk_prefix(&text).is_empty() {
        let failure = Failure::usage(format!("{text} is a place in a layout, and files are copied to directories"));
        return Err(failure
            .with_hint("`blob copy` copies archives between registries and layouts; ./ before it makes it a path"));
    }
    match std::fs::metadata(dest) {
        // A device would be replaced by a file.
        Ok(found) if !found.is_file() && !found.is_dir() => {
            let failure = Failure::usage(format!("{text} is neither a file nor a directory"));
            Err(failure.with_hint(format!("- is standard output, as in `blob cp REF:/PATH - > {text}`")))
        }
        _ => Ok(()),
    }
}

/// What changes what is in an archive.
const NEW_ARCHIVE: &str = "`blob push REF DIR` stores a directory as an archive of its own";

/// Whether `typed` is a whole reference to a registry, rather than a path.
fn names_registry(typed: &str) -> bool {
    let host = typed.split('/').next().unwrap_or_default();
    let is_host = typed.contains('/') && (host.contains(':') || host == "localhost" || host.contains('.'));
    let named = |location: &Location| location.target().is_some();
    is_host && !host.starts_with('.') && typed.parse().is_ok_and(|location| named(&location))
}

/// Says which command does what was typed, if `cp` does not: archives are copied as a whole, or made of a directory.
pub(super) fn with_other_command(failure: Failure, (first, dest): (&str, &Path), session: &Session) -> Failure {
    let whole = |typed: &str| !typed.contains(":/") && session.location(typed).is_ok();
    let dest = dest.to_string_lossy();
    if Path::new(first).exists() {
        return failure.with_hint(NEW_ARCHIVE);
    }
    if whole(first) && whole(&dest) {
        return failure.with_hint(format!("`blob copy {first} {dest}` copies archives"));
    }
    if whole(first) {
        return failure.with_hint(format!("{first}:/ is all of the archive, and `blob pull` extracts it"));
    }
    failure
}
