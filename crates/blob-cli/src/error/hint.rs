//! What may help against an error, where that is known.

use std::io;

use blob::Error;
use blob::core::IndexError;
use blob::core::create::{CreateError, LinkProblem};
use blob::core::extract::ExtractError;
use blob::http::HttpError;
use blob::policy::PolicyError;
use blob::registry::{ErrorCode, RegistryError};
use blob::tarball::TarError;

use super::cause::find;

/// What helps where a cache has not seen what is wanted.
pub(super) const FILL_THE_CACHE: &str = "run it once without --offline to fill the cache";

/// What may help against an error, where that is known.
pub(super) fn hint_for(error: &Error) -> Option<String> {
    let hint = match error {
        Error::Create { source: CreateError::Write { source, .. }, .. }
        | Error::Tar { source: TarError::Spool(source) }
            if source.kind() == io::ErrorKind::StorageFull =>
        {
            "choose a directory with more room with --spool-dir"
        }
        Error::NoRoom { .. } => {
            "choose a directory with more room with --spool-dir, or begin all the same with --no-space-check"
        }
        Error::Extract(ExtractError::NoRoom { .. }) => "make room, or begin all the same with --no-space-check",
        Error::Create { source: CreateError::TooLarge { .. }, .. }
        | Error::Tar { source: TarError::TooLarge { .. } } => "raise the limit with --max-size",
        Error::Create { source: CreateError::TooManyFiles { .. }, .. }
        | Error::Tar { source: TarError::TooMany { .. } } => "raise the limit with --max-files",
        Error::Create { source: CreateError::Names { .. }, .. } => "leave these names out with --skip-non-utf8",
        Error::Create { source: CreateError::Link { problem, .. }, .. } => match problem {
            LinkProblem::Outside => {
                "--symlinks follow-outside takes what is elsewhere, too; --exclude leaves the link out"
            }
            LinkProblem::NoDirectory => "`tar -h` stores what links lead to",
            _ => "--exclude leaves it out; --symlinks keep stores links as links",
        },
        Error::Create { source: CreateError::Changed { .. }, .. } => "push again when nothing writes to the directory",
        Error::Create { source: CreateError::Loss { .. }, .. } => "without --strict they are left out and listed",
        Error::Index { source: IndexError::TooLarge { unit: "bytes", .. }, .. } => {
            "raise the limit with --max-index-size"
        }
        Error::Index { source: IndexError::TooLarge { .. }, .. } => "raise the limit with --max-entries",
        Error::Policy { .. } | Error::Evidence { .. } if error.is_offline() => {
            "verify it once without --offline to have its signatures in the cache, or copy the archive and its \
             signatures to a layout with `blob copy`"
        }
        _ if error.is_offline() => FILL_THE_CACHE,
        Error::Incomplete { location, .. } => {
            return Some(format!("`blob tags {location}` lists the tags"));
        }
        Error::Policy { source, .. } => return crate::trust::hint(&reasons(source)).map(Into::into),
        Error::NotVerified { .. } => {
            "name the signer with --repo, --key, or --certificate-identity and its issuer, or pass --policy; leave \
             --require-signed out to open archives that nobody verified"
        }
        _ => return hint_from_causes(error),
    };
    Some(hint.into())
}

/// Everything that a policy said against an archive.
fn reasons(error: &PolicyError) -> Vec<String> {
    let rejected = error.refusals().filter(|one| one.is_rejection());
    rejected.flat_map(PolicyError::reasons).collect()
}

fn hint_from_causes(error: &Error) -> Option<String> {
    if let Some(RegistryError::TooLarge { .. }) = find::<RegistryError>(error) {
        return Some("raise the limit with --max-index-size".into());
    }
    if let Some(RegistryError::Code { status: Some(400), code: ErrorCode::Unknown, .. }) = find::<RegistryError>(error)
        && [" localhost", " 127.", " [::1]"].iter().any(|host| error.to_string().contains(host))
    {
        let hint = "registries on this machine are spoken to over plain HTTP: name the certificate authority of one \
                    that speaks HTTPS with --ca-file";
        return Some(hint.into());
    }
    match find::<HttpError>(error)? {
        HttpError::Tls { .. } => {
            let hint = "name the certificate authority of the registry with --ca-file if it is a private one; use \
                        --plain-http if the registry does not speak HTTPS and the network is trusted";
            Some(hint.into())
        }
        HttpError::Timeout { .. } => Some("allow more time with --timeout".into()),
        HttpError::Connect { target, .. } => {
            let host = target.split_once("://").map_or(&**target, |(_, rest)| rest).split('/').next()?;
            Some(format!("`blob doctor {host}` finds out what is in the way"))
        }
        _ => None,
    }
}
