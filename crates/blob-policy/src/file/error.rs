//! Why a policy file cannot be used.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::MAX_POLICY_BYTES;

/// A policy file, or something that it names, cannot be used. Nothing is ever verified by the rest of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFileError {
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file that policies may not name, since it is outside of the directory that they come from.
    #[error("{} is outside of {}, where the files of its policies must be", path.display(), dir.display())]
    Outside {
        /// The file.
        path: PathBuf,
        /// The directory.
        dir: PathBuf,
    },
    /// A file is larger than is looked at.
    #[error("{} has more than {MAX_POLICY_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file is not UTF-8.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A file has nothing in it, or rules without a rule among them.
    #[error("{} holds no policy: an empty policy would verify nothing", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Not YAML, or not a policy.
    #[error("{}:{line}:{column}: {problem}{}", path.display(), hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
        /// What is wrong.
        problem: String,
        /// What was probably meant.
        hint: Option<String>,
    },
    /// A policy that is well written, but cannot be.
    #[error("{what}")]
    Unusable {
        /// What cannot be used.
        what: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A policy that says too little, or contradicts itself.
    #[error("{0}")]
    Meaning(String),
}

impl PolicyFileError {
    pub(super) fn unusable(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unusable { what: what.into(), source: source.into() }
    }
}
