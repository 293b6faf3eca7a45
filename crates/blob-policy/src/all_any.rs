//! Policies made of policies.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::Digest;

use crate::error::{MAX_REFUSALS, PolicyError};
use crate::policy::{Policy, Report, Subject};

/// Admits what every one of its policies admits; there is at least one.
#[derive(Clone, Debug)]
pub struct RequireAll(Vec<Arc<dyn Policy>>);

/// Admits what one of its policies admits; there is at least one.
#[derive(Clone, Debug)]
pub struct RequireAny(Vec<Arc<dyn Policy>>);

impl RequireAll {
    /// All of `policies`, in this order; `None` for an empty list, which would admit everything.
    pub fn new(policies: Vec<Arc<dyn Policy>>) -> Option<Self> {
        (!policies.is_empty()).then_some(Self(policies))
    }
}

impl RequireAny {
    /// One of `policies`, tried in this order; `None` for an empty list, which would admit nothing.
    pub fn new(policies: Vec<Arc<dyn Policy>>) -> Option<Self> {
        (!policies.is_empty()).then_some(Self(policies))
    }
}

#[async_trait]
impl Policy for RequireAll {
    /// Asks on after a refusal, so that every reason is known: one that rejects decides, also after one that cannot tell.
    async fn evaluate(&self, subject: &Subject<'_>) -> Result<Report, PolicyError> {
        let (mut all, mut refusals) = (Report::default(), Vec::new());
        for policy in &self.0 {
            match policy.evaluate(subject).await {
                Ok(report) => all.extend(report),
                Err(error) => refusals.push(error),
            }
            // A list that is longer than anybody reads costs no further work.
            if refusals.len() >= MAX_REFUSALS {
                break;
            }
        }
        PolicyError::all_of(refusals).map_or(Ok(all), Err)
    }

    fn name(&self) -> String {
        names(&self.0, " and ")
    }

    fn fingerprint(&self) -> Option<Digest> {
        combined("all of", &self.0)
    }
}

#[async_trait]
impl Policy for RequireAny {
    /// When none admits, a policy that cannot tell outranks those that reject: it might have admitted.
    async fn evaluate(&self, subject: &Subject<'_>) -> Result<Report, PolicyError> {
        let mut refusals = Vec::new();
        for policy in &self.0 {
            match policy.evaluate(subject).await {
                Ok(mut report) => {
                    report.refused.extend(refusals.iter().take(MAX_REFUSALS).map(PolicyError::explanation));
                    return Ok(report);
                }
                Err(error) => refusals.push(error),
            }
        }
        Err(PolicyError::any_of(refusals).expect("because there is a policy, and none admitted"))
    }

    fn name(&self) -> String {
        names(&self.0, " or ")
    }

    fn fingerprint(&self) -> Option<Digest> {
        combined("any of", &self.0)
    }
}

fn names(policies: &[Arc<dyn Policy>], between: &str) -> String {
    policies.iter().map(Policy::name).collect::<Vec<_>>().join(between)
}

/// One fingerprint of several; none if one of them has none.
fn combined(how: &str, policies: &[Arc<dyn Policy>]) -> Option<Digest> {
    let mut text = how.to_owned();
    for policy in policies {
        let _ = write!(text, " {}", policy.fingerprint()?);
    }
    Some(Digest::sha256_of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::evidence::NoEvidence;
    use blob_registry::{Descriptor, media_type};

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Says {
        Yes,
        No,
        Unclear,
    }

    #[async_trait]
    impl Policy for Says {
        async fn evaluate(&self, _: &Subject<'_>) -> Result<Report, PolicyError> {
            match self {
                Self::Yes => Ok(Report::admitted("yes", "always")),
                Self::No => Err(PolicyError::rejected("no", "never")),
                Self::Unclear => Err(PolicyError::cannot_tell("unclear", "the network is down")),
            }
        }
    }

    async fn outcome(policy: &dyn Policy) -> Says {
        let bytes = bytes::Bytes::from_static(b"{}");
        let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
        match policy.evaluate(&Subject::new(&descriptor, &bytes, &NoEvidence).unwrap()).await {
            Ok(report) => {
                assert!(!report.checks.is_empty());
                Says::Yes
            }
            Err(error) if error.is_rejection() => Says::No,
            Err(_) => Says::Unclear,
        }
    }

    #[tokio::test]
    async fn no_reason_is_lost() {
        use Says::{No, Unclear, Yes};
        let list: Vec<Arc<dyn Policy>> = [No, Unclear, No].map(|says| Arc::new(says) as Arc<dyn Policy>).into();
        let bytes = bytes::Bytes::from_static(b"{}");
        let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
        let subject = Subject::new(&descriptor, &bytes, &NoEvidence).unwrap();
        let all = RequireAll::new(list.clone()).unwrap().evaluate(&subject).await.unwrap_err();
        let any = RequireAny::new(list.clone()).unwrap().evaluate(&subject).await.unwrap_err();
        for error in [&all, &any] {
            assert_eq!(error.reasons(), ["never", "the network is down", "never"], "{error}");
        }
        let then = list.into_iter().chain([Arc::new(Yes) as Arc<dyn Policy>]).collect();
        let admitted = RequireAny::new(then).unwrap().evaluate(&subject).await.unwrap();
        let refused = ["no: rejected: never", "unclear: cannot tell: the network is down", "no: rejected: never"];
        assert_eq!(admitted.refused, refused);
        let many = RequireAll::new((0..100).map(|_| Arc::new(No) as Arc<dyn Policy>).collect()).unwrap();
        assert_eq!(many.evaluate(&subject).await.unwrap_err().refusals().count(), MAX_REFUSALS);
    }

    #[tokio::test]
    async fn truth_tables() {
        use Says::{No, Unclear, Yes};
        for (policies, all, any) in [
            (vec![Yes], Yes, Yes),
            (vec![No], No, No),
            (vec![Unclear], Unclear, Unclear),
            (vec![Yes, No], No, Yes),
            (vec![No, Yes], No, Yes),
            (vec![Yes, Unclear], Unclear, Yes),
            (vec![Unclear, Yes], Unclear, Yes),
            (vec![No, Unclear], No, Unclear),
            (vec![Unclear, No], No, Unclear),
            (vec![Yes, Unclear, No], No, Yes),
            (vec![Unclear, Unclear], Unclear, Unclear),
        ] {
            let list: Vec<Arc<dyn Policy>> = policies.iter().map(|&says| Arc::new(says) as Arc<dyn Policy>).collect();
            assert_eq!(outcome(&RequireAll::new(list.clone()).unwrap()).await, all, "all of {policies:?}");
            assert_eq!(outcome(&RequireAny::new(list).unwrap()).await, any, "any of {policies:?}");
        }
        assert!(RequireAll::new(vec![]).is_none() && RequireAny::new(vec![]).is_none());
    }
}
