//! What is said when a command fails: one sentence with its causes, what may help, and the exit code.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use blob::core::create::CreateError;
use blob::core::extract::ExtractError;
use blob::core::path::Shown;
use blob::core::{IndexError, ReadError, SourceError};
use blob::http::HttpError;
use blob::policy::PolicyError;
use blob::registry::{ErrorCode, Reference, RegistryError};
use blob::tarball::TarError;
use blob::{Error, ErrorKind, Location};
use serde::Serialize;

use crate::ui::escape::PathText;

/// What a failure is about. Each kind has a name for programs and an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    General,
    Usage,
    NotFound,
    Authentication,
    Network,
    Verification,
    HashMismatch,
    /// Some of what was asked for was done, and then something failed.
    Partial,
    Interrupted,
    Terminated,
    /// What was compared is not the same, as `diff` says by its exit code.
    Different,
    /// As `General`, where the exit code 1 has another meaning.
    Trouble,
    /// Whoever read our output has had enough, which is not a failure.
    ClosedOutput,
}

impl Kind {
    /// Kind, name in JSON, exit code.
    const TABLE: [(Self, &'static str, u8); 13] = [
        (Self::General, "general", 1),
        (Self::Usage, "usage", 2),
        (Self::NotFound, "not_found", 3),
        (Self::Authentication, "authentication", 4),
        (Self::Network, "network", 5),
        (Self::Verification, "verification", 6),
        (Self::HashMismatch, "hash_mismatch", 7),
        (Self::Partial, "partial", 8),
        (Self::Interrupted, "interrupted", 130),
        (Self::Terminated, "terminated", 143),
        (Self::Different, "different", 1),
        (Self::Trouble, "general", 2),
        (Self::ClosedOutput, "closed_output", 0),
    ];

    fn row(self) -> (Self, &'static str, u8) {
        Self::TABLE.into_iter().find(|row| row.0 == self).unwrap_or(Self::TABLE[0])
    }

    /// The name for programs.
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    /// The exit code.
    pub(crate) fn exit_code(self) -> u8 {
        self.row().2
    }
}

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
    /// The place whose tag is not there.
    absent: Option<Box<Location>>,
}

/// Paths that are listed to people.
const LISTED: usize = 20;

/// What a registry does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Archive,
    Repository,
    /// The manifest is there, so the archive is damaged rather than absent.
    Blob,
}

impl Missing {
    fn of(error: &RegistryError) -> Self {
        match error {
            RegistryError::Code { code: ErrorCode::NameUnknown, .. } => Self::Repository,
            RegistryError::Code { code: ErrorCode::BlobUnknown, .. } => Self::Blob,
            _ => Self::Archive,
        }
    }

    fn what(self) -> &'static str {
        match self {
            // To whom it is not shown, a repository is one that does not exist.
            Self::Archive | Self::Repository => "archive not found",
            Self::Blob => "a blob of the archive is missing",
        }
    }

    fn hint(self, reference: &Reference) -> String {
        let (host, repository) = (reference.host(), reference.repository());
        match self {
            Self::Archive => format!("`blob tags {host}/{repository}` lists the tags"),
            Self::Repository => format!("{host} has no repository {repository}, or does not show it without a log-in"),
            Self::Blob => "push the archive again, or copy it from where it is whole".into(),
        }
    }
}

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
        }
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

    /// The place whose tag is not there, if that is what failed: others of its repository may be like it.
    pub(crate) fn absent(&self) -> Option<&Location> {
        self.absent.as_deref()
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
                Some((Missing::of(source), registry_cause(source)))
            }
            _ => None,
        };
        let unauthorized = error.is_unauthorized();
        let mut failure = Self::from(error);
        failure.reference = Some(location.to_string());
        if let Some((missing, cause)) = missing {
            failure.message = format!("{}: {location}", missing.what());
            failure.causes = vec![cause];
            failure.hint = location.reference().map(|reference| missing.hint(reference));
            let is_tag = missing == Missing::Archive && location.tag().is_some();
            failure.absent = is_tag.then(|| Box::new(location.clone()));
        }
        if let (true, Some(reference)) = (unauthorized, location.reference()) {
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
            _ if from == to => to,
            _ => from,
        };
        Self::at(error, place)
    }

    /// For commands whose exit code 1 says that there is a difference.
    pub(crate) fn not_a_difference(self) -> Self {
        let kind = if self.kind == Kind::General { Kind::Trouble } else { self.kind };
        Self { kind, ..self }
    }

    /// Whether the exit code says it all.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.kind, Kind::ClosedOutput | Kind::Different)
    }

    /// The message and its causes, joined, safe to print to a terminal.
    pub(crate) fn sentence(&self) -> String {
        let whole = std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect::<Vec<_>>();
        shown(&without_passwords(&whole.join(": ")))
    }

    /// What is printed to standard error.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.sentence());
        for listed in self.paths.iter().take(LISTED) {
            let _ = writeln!(text, "  {}", shown(&listed.path));
        }
        let listed = self.paths.len().min(LISTED) as u64;
        if self.path_count > listed {
            let _ = writeln!(text, "  and {} more", self.path_count - listed);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {}", shown(&without_passwords(hint)));
        }
        text
    }

    /// The same for programs, on one line.
    pub(crate) fn json(&self) -> String {
        let said = Said {
            code: self.kind.exit_code(),
            kind: self.kind.name(),
            message: without_passwords(&self.message),
            reference: self.reference.as_deref(),
            causes: self.causes.iter().map(|cause| without_passwords(cause)).collect(),
            paths: &self.paths,
            hint: self.hint.as_deref().map(without_passwords),
        };
        crate::ui::json::record(&Whole { error: said })
    }
}

/// An error for programs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Whole<'a> {
    /// What went wrong.
    error: Said<'a>,
}

/// What went wrong.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Said<'a> {
    /// The exit code.
    code: u8,
    /// The name of the exit code, as `not_found`.
    kind: &'static str,
    /// What was being done, to what, and what came of it.
    message: String,
    /// The place that the command was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    /// Why, outermost first.
    causes: Vec<String>,
    /// Files that it is about; perhaps only the first of them.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    paths: &'a [PathText],
    /// What may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    vec![crate::schemas::document::<Whole<'_>>("error")]
}

/// `text` without the passwords of addresses: `ann:secret@host` becomes `ann:***@host`. Somebody may type one where it does
/// not belong, and errors repeat what was typed.
fn without_passwords(text: &str) -> String {
    let (mut safe, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, behind)) = rest.split_once('@') {
        let word =
            before.rfind(|letter: char| letter.is_whitespace() || "/\"'`(=".contains(letter)).map_or(0, |at| at + 1);
        let is_digest = ["sha256:", "sha512:"].iter().any(|algorithm| behind.starts_with(algorithm));
        match before[word..].find(':') {
            Some(colon) if !is_digest => safe.extend([&before[..=word + colon], "***@"]),
            _ => safe.extend([before, "@"]),
        }
        rest = behind;
    }
    safe + rest
}

/// Escapes what could control a terminal.
fn shown(text: &str) -> String {
    Shown(text.as_bytes()).to_string()
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Usage => Kind::Usage,
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::Authentication => Kind::Authentication,
            ErrorKind::Network => Kind::Network,
            ErrorKind::Verification => Kind::Verification,
            ErrorKind::HashMismatch => Kind::HashMismatch,
            ErrorKind::Cancelled => Kind::Interrupted,
            _ if find::<HttpError>(&error).is_some_and(is_about_the_network) => Kind::Network,
            _ => Kind::General,
        };
        let message = match &error {
            // A disagreement between an index and its manifest reads best from the cause alone.
            Error::InvalidReference { source, .. } => source.to_string(),
            _ => error.to_string(),
        };
        let causes = match &error {
            Error::InvalidReference { .. } => Vec::new(),
            _ => causes_of(&error),
        };
        Self { causes, hint: hint_for(&error), ..Self::new(kind, message) }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Error::from(error).into()
    }
}

/// Whether the connection, and not what came over it, is what failed.
fn is_about_the_network(error: &HttpError) -> bool {
    use HttpError::{Body, Connect, Offline, Protocol, Send, Timeout, Tls};
    matches!(
        error,
        Offline { .. } | Connect { .. } | Tls { .. } | Timeout { .. } | Send { .. } | Body { .. } | Protocol { .. }
    )
}

/// The texts of all causes, outermost first, without what the one before says already.
fn causes_of(error: &Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.downcast_ref::<RegistryError>().map_or_else(|| cause.to_string(), registry_cause);
        if !text.is_empty() && !said.contains(&text) {
            said.clone_from(&text);
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

/// What a registry said, without what we were doing: that is in the sentence already. Empty where the cause says more.
fn registry_cause(error: &RegistryError) -> String {
    match error {
        RegistryError::Code { code, detail: Some(detail), .. } if !detail.contains(code.name()) => {
            format!("{code}: {detail}")
        }
        RegistryError::Code { detail: Some(detail), .. } => detail.clone(),
        RegistryError::Code { code, .. } => code.to_string(),
        RegistryError::Io { .. } | RegistryError::Source { .. } => String::new(),
        other => other.to_string(),
    }
}

/// The first cause of type `E`, the error itself included.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        next = current.source();
    }
    None
}

/// What may help against an error, where that is known.
fn hint_for(error: &Error) -> Option<String> {
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
        Error::Create { source: CreateError::Changed { .. }, .. } => "push again when nothing writes to the directory",
        Error::Create { source: CreateError::Loss { .. }, .. } => "without --strict they are left out and listed",
        Error::Index { source: IndexError::TooLarge { unit: "bytes", .. }, .. } => {
            "raise the limit with --max-index-size"
        }
        Error::Index { source: IndexError::TooLarge { .. }, .. } => "raise the limit with --max-entries",
        _ if error.is_offline() => "run it once without --offline to fill the cache",
        Error::Policy { source, .. } => return crate::trust::hint(&reasons(source)).map(Into::into),
        Error::NotVerified { .. } => "leave --require-signed out to open archives that nobody verified",
        _ => return hint_from_causes(error),
    };
    Some(hint.into())
}

/// Everything that a policy said against an archive.
fn reasons(error: &PolicyError) -> String {
    match error {
        PolicyError::Rejected { reasons, .. } => reasons.join("; "),
        _ => String::new(),
    }
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

/// A source's failure while whole archives are read.
impl From<SourceError> for Failure {
    fn from(source: SourceError) -> Self {
        Error::Source { action: "reading the archive".into(), source }.into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        let registry = |source| Error::Registry { action: "reading the manifest of h/r:t".into(), source };
        let code = |code| registry(RegistryError::code("x", code));
        let decode = |digest: &[u8]| {
            let expected = blob::core::Digest::sha256_of(digest);
            Error::Read(ReadError::DataMismatch { expected, got: blob::core::Digest::sha256_of(b"other") })
        };
        let refused = HttpError::Connect { target: "http://h/".into(), source: "refused".into() };
        let tls = HttpError::Tls { target: "https://h/".into(), source: "bad certificate".into() };
        let io = |transient, source: HttpError| {
            registry(RegistryError::Io { action: "x".into(), transient, source: Box::new(source) })
        };
        for (error, expected) in [
            ("nonsense".parse::<Location>().unwrap_err(), 2),
            (Error::Options("x".into()), 2),
            (code(ErrorCode::ManifestUnknown), 3),
            (code(ErrorCode::NameUnknown), 3),
            (Error::Read(ReadError::NotFound { path: (*b"x").into() }), 3),
            (code(ErrorCode::Unauthorized), 4),
            (code(ErrorCode::Denied), 4),
            (io(true, refused), 5),
            (io(false, tls), 5),
            (code(ErrorCode::TooManyRequests), 5),
            (Error::Offline { location: "h/r:t".into(), missing: "index" }, 5),
            (Error::NotVerified { location: "h/r:t".into() }, 6),
            (decode(b"x"), 7),
            (code(ErrorCode::ManifestInvalid), 1),
        ] {
            let text = error.to_string();
            assert_eq!(Failure::from(error).kind.exit_code(), expected, "{text}");
        }
    }

    #[test]
    fn what_a_registry_says_cannot_control_the_terminal() {
        let source = RegistryError::detailed("x", ErrorCode::Denied, "\x1b[2Jgone\nerror: nothing");
        let failure = Failure::from(Error::Registry { action: "reading".into(), source });
        assert_eq!(failure.text(), "error: reading: DENIED: \\u{1b}[2Jgone\\nerror: nothing\n");
        assert!(serde_json::from_str::<serde_json::Value>(&failure.json()).is_ok());
    }

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
    fn passwords_that_were_typed_are_not_repeated() {
        for (text, expected) in [
            ("\"https://ann:secret@h/r:t\": leave out the scheme", "\"https://ann:***@h/r:t\": leave out the scheme"),
            ("ann:secret@h/r:t", "ann:***@h/r:t"),
            ("a ann:se:cret@h and b:c@h", "a ann:***@h and b:***@h"),
            ("h:5000/r:t@sha256:00", "h:5000/r:t@sha256:00"),
            ("alias:v1@sha512:00", "alias:v1@sha512:00"),
            ("ann@example.com: x", "ann@example.com: x"),
            ("@", "@"),
        ] {
            assert_eq!(without_passwords(text), expected);
        }
    }

    #[test]
    fn a_closed_pipe_is_a_success() {
        assert_eq!(Failure::output(&io::ErrorKind::BrokenPipe.into()).kind.exit_code(), 0);
        assert_eq!(Failure::output(&io::ErrorKind::StorageFull.into()).kind.exit_code(), 1);
    }
}
