//! Policies made of policies.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::Digest;

use crate::error::PolicyError;
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
    async fn evaluate(&self, subject: &Subject<'_>) -> Result<Report, PolicyError> {
        let mut all = Report::default();
        for policy in &self.0 {
            all.extend(policy.evaluate(subject).await?);
        }
        Ok(all)
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
        let (mut reasons, mut unclear) = (Vec::new(), None);
        for policy in &self.0 {
            match policy.evaluate(subject).await {
                Ok(mut report) => {
                    report.refused.append(&mut reasons);
                    return Ok(report);
                }
                Err(error @ PolicyError::Rejected { .. }) => reasons.push(error.to_string()),
                Err(error) => unclear = unclear.or(Some(error)),
            }
        }
        Err(unclear.unwrap_or(PolicyError::Rejected { policy: "any of".into(), reasons }))
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
            (vec![Unclear, No], Unclear, Unclear),
        ] {
            let list: Vec<Arc<dyn Policy>> = policies.iter().map(|&says| Arc::new(says) as Arc<dyn Policy>).collect();
            assert_eq!(outcome(&RequireAll::new(list.clone()).unwrap()).await, all, "all of {policies:?}");
            assert_eq!(outcome(&RequireAny::new(list).unwrap()).await, any, "any of {policies:?}");
        }
        assert!(RequireAll::new(vec![]).is_none() && RequireAny::new(vec![]).is_none());
    }
}
