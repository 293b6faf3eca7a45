//! What is said when a command fails: one sentence with its causes, what may help, and the exit code.

mod cause;
mod hint;
mod kind;
mod missing;
mod say;

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use blob::{Error, ErrorKind, Location};

pub(crate) use kind::Kind;
use missing::Missing;
#[cfg(test)]
pub(crate) use say::schemas;

use crate::ui::escape::PathText;

/// A command that did not do what it was told.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    message: String,
    causes: Vec<String>,
    /// Files that the failure is about, the first of `path_count`.
    paths: Vec<PathText>,
    path_count: u64,
    /// The place that the command was about.
    reference: Option<String>,
    hint: Option<String>,
    /// The place whose tag or repository is not there.
    absent: Option<Box<Location>>,
    /// It comes of a tag that was believed for too long: another try may go well. Whether the cache forgot the tag.
    outdated: Option<bool>,
}

/// Paths that are listed to people.
const LISTED: usize = 20;

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            paths: Vec::new(),
            path_count: 0,
            reference: None,
            hint: None,
            absent: None,
            outdated: None,
        }
    }

    /// If the cache sent the command to what is gone: whether it forgot that since.
    pub(crate) fn outdated(&self) -> Option<bool> {
        self.outdated
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something that was named, such as a policy or a key, cannot be used.
    pub(crate) fn from_chain(error: &(dyn StdError + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self { causes, ..Self::usage(error.to_string()) }
    }

    /// Of several things some were done before, or besides, what these failures are about: `message` says how many. A
    /// single failure's hint is that of the whole.
    pub(crate) fn partial(message: String, failures: &[Self]) -> Self {
        let causes = failures.iter().take(LISTED).map(Self::sentence).collect();
        // What is not to be trusted matters more than that the rest was done.
        let untrusted = failures.iter().any(|failure| failure.kind == Kind::Verification);
        let kind = if untrusted { Kind::Verification } else { Kind::Partial };
        let hint = match failures {
            [only] => only.hint.clone(),
            _ => None,
        };
        Self { causes, hint, ..Self::new(kind, message) }
    }

    /// The same, with what the system says of it.
    pub(crate) fn because(mut self, error: &io::Error) -> Self {
        self.causes.push(error.to_string());
        self
    }

    /// The same, of another kind.
    pub(crate) fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The same, when some of what was asked for is done already, as `done` says. What a policy refuses stays a refusal.
    pub(crate) fn after(self, done: impl Into<String>) -> Self {
        let kind = if self.kind == Kind::Verification { self.kind } else { Kind::Partial };
        let causes = std::iter::once(self.message).chain(self.causes).collect();
        Self { kind, message: done.into(), causes, ..self }
    }

    /// What is configured makes no sense.
    pub(crate) fn configuration(action: impl Into<String>, problem: &str) -> Self {
        Self { causes: vec![problem.to_owned()], ..Self::new(Kind::Usage, action) }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The operating system refused `action`.
    pub(crate) fn io(action: impl Into<String>, source: &io::Error) -> Self {
        let kind = if source.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::General };
        Self { causes: vec![source.to_string()], ..Self::new(kind, action) }
    }

    /// Standard output could not be written. A reader that has gone away is not an error.
    pub(crate) fn output(source: &io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::ClosedOutput, ""),
            _ => Self { kind: Kind::General, ..Self::io("writing to standard output", source) },
        }
    }

    /// Says what may help, unless that is known already.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The place whose tag or repository is not there, if that is what failed: others may be like it.
    pub(crate) fn absent(&self) -> Option<&Location> {
        self.absent.as_deref()
    }

    /// The place that it is about.
    pub(crate) fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// What may help.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Forgets what may help, for something that helps more.
    pub(crate) fn without_hint(mut self) -> Self {
        self.hint = None;
        self
    }

    /// Lists files, the first of `total`.
    pub(crate) fn with_paths(mut self, paths: &[PathBuf], total: u64) -> Self {
        self.paths = paths.iter().map(|path| PathText::new(path.as_os_str().as_encoded_bytes())).collect();
        self.path_count = total;
        self
    }

    /// As [`From<Error>`], in the light of the place that the command was about.
    pub(crate) fn at(error: Error, location: &Location) -> Self {
        let missing = match &error {
            Error::Registry { source, .. } if error.kind() == ErrorKind::NotFound => {
                Some((Missing::of(source), cause::registry_cause(source)))
            }
            _ => None,
        };
        let gone = missing.as_ref().and_then(|_| missing::of_layout(location, &error));
        let unauthorized = error.is_unauthorized();
        let frozen = cause::is_about_a_tag_that_stays(&error);
        let mut failure = Self::from(error);
        failure.reference = Some(location.to_string());
        if let Some(gone) = gone {
            (failure.message, failure.causes) = (gone, Vec::new());
        } else if let Some((missing, cause)) = missing {
            failure.message = format!("{}: {location}", missing.what());
            if !cause.is_empty() {
                failure.causes = vec![cause];
            }
            failure.hint = location.reference().map(|reference| missing.hint(reference));
            let has_like = missing == Missing::Repository || missing == Missing::Archive && location.tag().is_some();
            failure.absent = has_like.then(|| Box::new(location.clone()));
        }
        if frozen {
            failure.hint = Some("tags are set once in this repository: another tag is free".into());
        } else if let (true, Some(reference)) = (unauthorized, location.reference()) {
            let host = reference.host();
            failure.hint = Some(format!("log in with `blob login {host}`, or set BLOB_USERNAME and BLOB_PASSWORD"));
        }
        failure
    }

    /// As [`at`](Self::at), for an operation between two places: a missing archive is the first one's.
    pub(crate) fn between(error: Error, from: &Location, to: &Location) -> Self {
        // Which of two registries refuses is in the causes alone.
        let host = |place: &Location| place.reference().map(|reference| reference.host().to_owned());
        let place = match (host(from), host(to)) {
            (None, Some(_)) if error.is_unauthorized() => to,
            (Some(source), Some(dest)) if error.is_unauthorized() && source != dest => return Self::from(error),
            _ if from == to || missing::of_layout(to, &error).is_some() => to,
            _ => from,
        };
        Self::at(error, place)
    }

    /// For commands whose exit code 1 says that there is a difference.
    pub(crate) fn not_a_difference(self) -> Self {
        let kind = if self.kind == Kind::General { Kind::Trouble } else { self.kind };
        Self { kind, ..self }
    }

    /// Whether it is about what cannot be had with `--offline`.
    pub(crate) fn is_offline(&self) -> bool {
        self.hint.as_deref() == Some(hint::FILL_THE_CACHE)
    }

    /// Whether the exit code says it all.
    pub(crate) fn is_silent(&self) -> bool {
        let of_command = matches!(self.kind, Kind::Command(_)) && self.message.is_empty();
        of_command || matches!(self.kind, Kind::ClosedOutput | Kind::Different | Kind::NotFoundInFiles)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blob::registry::{ErrorCode, RegistryError};

    use super::*;

    #[test]
    fn a_missing_archive_says_which_and_where_to_look() {
        let source = RegistryError::detailed("reading", ErrorCode::ManifestUnknown, "no such tag");
        let error = Error::Registry { action: "reading the manifest".into(), source };
        let location = "localhost:5000/a/b:v1".parse().unwrap();
        let expected = "error: archive not found: localhost:5000/a/b:v1: MANIFEST_UNKNOWN: no such tag\n\
                        hint: `blob tags localhost:5000/a/b` lists the tags\n";
        assert_eq!(Failure::at(error, &location).text(), expected);
    }

    #[test]
    fn a_closed_pipe_is_a_success() {
        assert_eq!(Failure::output(&io::ErrorKind::BrokenPipe.into()).kind.exit_code(), 0);
        assert_eq!(Failure::output(&io::ErrorKind::StorageFull.into()).kind.exit_code(), 1);
    }
}
