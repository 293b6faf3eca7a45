//! Why a bundle is not believed.

use std::error::Error;

use blob_core::Digest;

/// A bundle was not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It is larger than is looked at.
    #[error("the bundle has {got} bytes, more than {limit}")]
    TooLarge {
        /// Bytes at most.
        limit: u64,
        /// Bytes of the bundle.
        got: u64,
    },
    /// It is not a bundle of a known version.
    #[error("the bundle is malformed")]
    Malformed(#[source] Box<dyn Error + Send + Sync>),
    /// A signature, certificate, log entry or time-stamp in it is wrong or missing.
    #[error("the bundle does not verify")]
    NotVerified(#[source] Box<dyn Error + Send + Sync>),
    /// It has no entry of a transparency log, which was asked for.
    #[error("the bundle has no transparency log entry")]
    NoLogEntry,
    /// It is in fewer transparency logs than were asked for.
    #[error("the bundle is in {got} transparency logs, of {wanted}")]
    LogEntries {
        /// Logs asked for.
        wanted: usize,
        /// Logs that it has an entry of.
        got: usize,
    },
    /// An entry of it is proven by nothing, or not by the log that it names.
    #[error("the transparency log entry {at} has no proof or promise by the log that it names")]
    NotProven {
        /// Which of the entries, from 0.
        at: usize,
    },
    /// An entry of it is proven by a log whose time was over, or had not begun.
    #[error("the transparency log entry {at} is proven by a log that did not count when the bundle was signed")]
    LogTime {
        /// Which of the entries, from 0.
        at: usize,
    },
    /// No time-stamp authority says when it was made, which was asked for.
    #[error("the bundle has no time-stamp of an authority")]
    NoTimeStamp,
    /// Fewer time-stamp authorities say when it was made than were asked for.
    #[error("the bundle has time-stamps of {got} authorities, of {wanted}")]
    TimeStamps {
        /// Authorities asked for.
        wanted: usize,
        /// Authorities that stamped it.
        got: usize,
    },
    /// The digest's algorithm cannot be verified without the artifact.
    #[error("{0} cannot be verified without the artifact itself")]
    Algorithm(Digest),
    /// The statement is not about the artifact.
    #[error("the statement is about {found}, not about {expected}")]
    Subject {
        /// The digest of the artifact.
        expected: Digest,
        /// The digests that the statement names; at most eight.
        found: String,
    },
    /// The signed statement is not an in-toto statement of a known version.
    #[error("the signed statement is not understood: {0}")]
    Statement(String),
    /// It was made with a key where a certificate is asked for, or the other way round.
    #[error("the bundle was made with a {got}, not with a {expected}")]
    Kind {
        /// What is asked for.
        expected: &'static str,
        /// What it has.
        got: &'static str,
    },
}

impl BundleError {
    /// The whole chain of causes as one line, for a list of reasons.
    pub fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}
