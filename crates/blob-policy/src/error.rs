//! Why something is not trusted: it was judged and found wanting, or it could not be judged.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use blob_core::Digest;
use blob_registry::RegistryError;

/// Reasons of one policy that its text lists.
const LISTED: usize = 64;
/// Characters of one reason that a text shows.
const SHOWN: usize = 1000;
/// Refusals of several policies that are kept.
pub(crate) const MAX_REFUSALS: usize = 32;

/// A policy did not admit its subject.
#[derive(Debug)]
#[non_exhaustive]
pub enum PolicyError {
    /// The evidence was judged, and does not suffice.
    Rejected {
        /// The policy.
        policy: String,
        /// Every reason, with the evidence that was tried.
        reasons: Vec<String>,
    },
    /// The evidence could not be had or understood; trying again, or with other credentials, may help.
    CannotTell {
        /// The policy.
        policy: String,
        /// What was found out all the same: evidence that was tried, and why it does not suffice.
        reasons: Vec<String>,
        /// What failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Several policies did not admit it; made by [`all_of`](PolicyError::all_of) and [`any_of`](PolicyError::any_of).
    Several(Refusals),
}

/// What several policies said against one subject: at least two.
#[derive(Debug)]
pub struct Refusals {
    each: Vec<PolicyError>,
    rejected: bool,
}

impl PolicyError {
    /// A rejection for one reason.
    pub fn rejected(policy: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Rejected { policy: policy.into(), reasons: vec![reason.into()] }
    }

    /// A policy that could not be evaluated.
    pub fn cannot_tell(policy: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::CannotTell { policy: policy.into(), reasons: Vec::new(), source: source.into() }
    }

    /// What policies said of which every one must admit: one that rejects decides, whatever the others could not tell.
    /// `None` for no refusal at all. The first 32 are kept, and one that rejects is among them if there is any.
    pub fn all_of(refusals: Vec<Self>) -> Option<Self> {
        let rejected = refusals.iter().any(Self::is_rejection);
        Self::several(refusals, rejected)
    }

    /// What policies said of which one would have sufficed: it is rejected if all reject. `None` for no refusal at all. The
    /// first 32 are kept, and one that cannot tell is among them if there is any.
    pub fn any_of(refusals: Vec<Self>) -> Option<Self> {
        let rejected = refusals.iter().all(Self::is_rejection);
        Self::several(refusals, rejected)
    }

    fn several(refusals: Vec<Self>, rejected: bool) -> Option<Self> {
        let mut each = Vec::new();
        for refusal in refusals {
            match refusal {
                Self::Several(inner) => each.extend(inner.each),
                one => each.push(one),
            }
        }
        if each.len() > MAX_REFUSALS {
            // What decides is never cut off.
            let decides = each.iter().position(|one| one.is_rejection() == rejected).unwrap_or(0);
            if decides >= MAX_REFUSALS {
                each.swap(decides, MAX_REFUSALS - 1);
            }
            each.truncate(MAX_REFUSALS);
        }
        if each.len() < 2 { each.pop() } else { Some(Self::Several(Refusals { each, rejected })) }
    }

    /// Whether the subject was judged, and found wanting.
    pub fn is_rejection(&self) -> bool {
        match self {
            Self::Rejected { .. } => true,
            Self::CannotTell { .. } => false,
            Self::Several(refusals) => refusals.rejected,
        }
    }

    /// What each policy said, in the order in which they were asked: this error itself, unless it is
    /// [`Several`](Self::Several).
    pub fn refusals(&self) -> impl Iterator<Item = &Self> {
        match self {
            Self::Several(refusals) => refusals.each.as_slice(),
            one => std::slice::from_ref(one),
        }
        .iter()
    }

    /// Every reason of every policy, with the evidence that was tried; and for a policy that cannot tell what failed, with
    /// its causes.
    pub fn reasons(&self) -> Vec<String> {
        self.refusals().flat_map(Self::own_reasons).collect()
    }

    fn own_reasons(&self) -> Vec<String> {
        match self {
            Self::Rejected { reasons, .. } => reasons.clone(),
            Self::CannotTell { reasons, source, .. } => {
                std::iter::once(chain(source.as_ref())).chain(reasons.iter().cloned()).collect()
            }
            Self::Several(_) => self.reasons(),
        }
    }

    /// What the policies said, in one text with every cause: for logs and lists, not beside [`Error::source`]. It shows the
    /// first 64 reasons of each policy, of each at most 1,000 characters.
    pub fn explanation(&self) -> String {
        let each = self.refusals().map(|one| match one {
            Self::Rejected { .. } | Self::Several(_) => one.to_string(),
            Self::CannotTell { policy, .. } => format!("{policy}: cannot tell: {}", Reasons(&one.own_reasons())),
        });
        each.collect::<Vec<_>>().join("; ")
    }

    /// The registry's error behind a policy that cannot tell, if that is what it was. A rejection has none: it would be one
    /// whatever the registry said.
    pub fn registry_error(&self) -> Option<&RegistryError> {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}

impl fmt::Display for PolicyError {
    /// Says everything but the causes that [`Error::source`] gives.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { policy, reasons } => write!(f, "{policy}: rejected: {}", Reasons(reasons)),
            Self::CannotTell { policy, reasons, .. } if reasons.is_empty() => write!(f, "{policy}: cannot tell"),
            Self::CannotTell { policy, reasons, .. } => {
                write!(f, "{policy}: cannot tell (and {})", Reasons(reasons))
            }
            Self::Several(refusals) => {
                let told = refusals.told();
                for (at, one) in refusals.each.iter().enumerate() {
                    let text = if told == Some(at) { one.to_string() } else { one.explanation() };
                    write!(f, "{}{text}", if at == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

impl Error for PolicyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rejected { .. } => None,
            Self::CannotTell { source, .. } => Some(source.as_ref()),
            Self::Several(refusals) => refusals.each[refusals.told()?].source(),
        }
    }
}

impl Refusals {
    /// Whose cause is that of them all: the first that cannot tell, if that is what it came to.
    fn told(&self) -> Option<usize> {
        self.each.iter().position(|one| !one.is_rejection()).filter(|_| !self.rejected)
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Joins reasons with semicolons, as many and as much of each as people read.
struct Reasons<'a>(&'a [String]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, reason) in self.0.iter().take(LISTED).enumerate() {
            let cut = reason.char_indices().nth(SHOWN).map_or(reason.as_str(), |(end, _)| &reason[..end]);
            let more = if cut.len() < reason.len() { "…" } else { "" };
            write!(f, "{}{cut}{more}", if at == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// A manifest was not admitted, or is not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError<E: Error + 'static> {
    /// A policy did not admit it.
    #[error("policy violation")]
    Policy(#[source] PolicyError),
    /// It was admitted, but cannot be read as what was asked for.
    #[error(transparent)]
    Manifest(E),
}

/// Evidence could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The registry failed.
    #[error("reading the evidence about {subject}")]
    Registry {
        /// The manifest that the evidence is about.
        subject: Digest,
        /// The cause.
        source: RegistryError,
    },
    /// There is more evidence than is looked at.
    #[error("the evidence about {subject} is over the limit: {what}")]
    Limit {
        /// The manifest that the evidence is about.
        subject: Digest,
        /// Which limit, and how large it is.
        what: String,
    },
    /// Nobody can be asked, and the cache lacks it.
    #[error("offline, and the cache does not have the {missing} about {subject}")]
    Offline {
        /// The manifest that the evidence is about.
        subject: Digest,
        /// What is missing: "list of referrers", or the digest of a manifest or bundle.
        missing: String,
    },
    /// What several policies about one subject are told, where asking failed once.
    #[error(transparent)]
    Shared(Arc<EvidenceError>),
    /// A file with evidence could not be read.
    #[error("reading the evidence in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The bytes given for a subject do not have its size.
    #[error("{subject} is said to have {expected} bytes, and has {got}")]
    SubjectSize {
        /// The digest of descriptor and bytes.
        subject: Digest,
        /// Bytes, as the descriptor says.
        expected: u64,
        /// Bytes given.
        got: u64,
    },
    /// The bytes given for a subject do not have its digest.
    #[error("the bytes given for {expected} have the digest {got}")]
    Subject {
        /// The digest of the descriptor.
        expected: Digest,
        /// The digest of the bytes.
        got: Digest,
    },
}

impl EvidenceError {
    /// Whether nobody can be asked, and the cache lacks what was wanted.
    pub fn is_offline(&self) -> bool {
        match self {
            Self::Offline { .. } => true,
            Self::Shared(inner) => inner.is_offline(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unclear(policy: &str, cause: &str) -> PolicyError {
        let source = EvidenceError::Limit { subject: Digest::sha256_of(b"x"), what: cause.into() };
        PolicyError::cannot_tell(policy, source)
    }

    fn whole(error: &PolicyError) -> String {
        chain(error)
    }

    #[test]
    fn every_reason_is_told_once() {
        let two = || vec![PolicyError::rejected("a", "never"), unclear("b", "first"), unclear("c", "second")];
        let any = PolicyError::any_of(two()).expect("three refusals");
        assert!(!any.is_rejection());
        let all = PolicyError::all_of(two()).expect("three refusals");
        assert!(all.is_rejection() && all.source().is_none());
        for error in [&any, &all] {
            for part in ["a: rejected: never", "b: cannot tell", "first", "c: cannot tell", "second"] {
                assert_eq!(whole(error).matches(part).count(), 1, "{part}: {}", whole(error));
                assert_eq!(error.explanation().matches(part).count(), 1, "{part}: {}", error.explanation());
            }
            assert_eq!(error.reasons().len(), 3);
        }
        let (rejected, one) = (PolicyError::rejected("a", "never"), PolicyError::any_of(vec![unclear("b", "x")]));
        assert!(matches!(PolicyError::all_of(vec![rejected]), Some(PolicyError::Rejected { .. })));
        assert!(matches!(one, Some(PolicyError::CannotTell { .. })));
        assert!(PolicyError::all_of(Vec::new()).is_none() && PolicyError::any_of(Vec::new()).is_none());
        let nested = PolicyError::all_of(vec![any, PolicyError::rejected("d", "no")]).expect("four refusals");
        assert!(nested.is_rejection() && nested.refusals().count() == 4);
    }

    #[test]
    fn texts_are_bounded_and_what_decides_is_kept() {
        let long = PolicyError::Rejected { policy: "p".into(), reasons: vec!["é".repeat(5000); 100] };
        let text = long.to_string();
        assert!(text.chars().count() < 70_000 && text.ends_with("; and 36 more"), "{}", text.len());
        let mut many: Vec<_> = (0..100).map(|at| unclear(&at.to_string(), "x")).collect();
        many.push(PolicyError::rejected("last", "no"));
        let all = PolicyError::all_of(many).expect("there are many");
        assert!(all.is_rejection() && all.refusals().count() == MAX_REFUSALS);
        assert!(all.to_string().contains("last: rejected: no"));
        let mut many: Vec<_> = (0..100).map(|at| PolicyError::rejected(at.to_string(), "no")).collect();
        many.push(unclear("last", "x"));
        let any = PolicyError::any_of(many).expect("there are many");
        assert!(!any.is_rejection() && any.to_string().contains("last: cannot tell"));
    }

    #[test]
    fn a_rejection_is_one_whatever_the_registry_said() {
        let failed = || {
            let source = RegistryError::unsupported("x");
            PolicyError::cannot_tell("b", EvidenceError::Registry { subject: Digest::sha256_of(b"x"), source })
        };
        let refusals = || vec![PolicyError::rejected("a", "never"), failed()];
        assert!(PolicyError::all_of(refusals()).is_some_and(|all| all.registry_error().is_none()));
        assert!(PolicyError::any_of(refusals()).is_some_and(|any| any.registry_error().is_some()));
    }
}
