//! Policies with the references that they are for.

use std::sync::Arc;

use async_trait::async_trait;

use super::build::PolicyContext;
use super::error::PolicyFileError;
use super::matching::ReferencePattern;
use super::spec::PolicyRule;
use crate::error::PolicyError;
use crate::policy::{Policy, Report, Subject};

/// Policies, each for the references that its pattern is found in. A reference is admitted if every policy that is for
/// it admits.
#[derive(Clone, Debug, Default)]
pub struct PolicySet(Vec<(Option<ReferencePattern>, Arc<dyn Policy>)>);

impl PolicySet {
    /// No policies: nothing is verified.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a policy, for the references that `pattern` is found in, or for all.
    pub fn add(&mut self, pattern: Option<ReferencePattern>, policy: Arc<dyn Policy>) {
        self.0.push((pattern, policy));
    }

    /// Builds those of `rules` that are for one of `references` (each a list of its spellings) and adds them. The keys of
    /// the others are not read: of a reference that such a rule is for after all nobody can tell whether it may be
    /// opened, and so it is not.
    ///
    /// # Errors
    /// [`PolicyFileError`]; nothing of the failing rule is added.
    pub fn add_rules(
        &mut self,
        rules: &[PolicyRule],
        context: &PolicyContext,
        references: &[Vec<String>],
    ) -> Result<(), PolicyFileError> {
        for rule in rules {
            let wanted = |pattern: &ReferencePattern| references.iter().any(|spellings| pattern.matches(spellings));
            match &rule.pattern {
                Some(pattern) if !wanted(pattern) => self.add(rule.pattern.clone(), Arc::new(NotRead(pattern.clone()))),
                pattern => {
                    for policy in rule.build(context)? {
                        self.add(pattern.clone(), policy);
                    }
                }
            }
        }
        Ok(())
    }

    /// The policies for a reference, by its [`spellings`](super::spellings).
    pub fn policies_for(&self, spellings: &[String]) -> Vec<Arc<dyn Policy>> {
        let fits = |pattern: &Option<ReferencePattern>| pattern.as_ref().is_none_or(|p| p.matches(spellings));
        self.0.iter().filter(|(pattern, _)| fits(pattern)).map(|(_, policy)| Arc::clone(policy)).collect()
    }

    /// Whether there is no policy at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Stands for a rule that was for none of the references that somebody named when the rules were read.
#[derive(Debug)]
struct NotRead(ReferencePattern);

#[async_trait]
impl Policy for NotRead {
    async fn evaluate(&self, _: &Subject<'_>) -> Result<Report, PolicyError> {
        let why = format!(
            "the rule for {:?} was not read, since nobody named a reference that it is for",
            self.0.to_string()
        );
        Err(PolicyError::cannot_tell(self.name(), why))
    }

    fn name(&self) -> String {
        format!("the rule for {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blob_registry::{Descriptor, media_type};
    use bytes::Bytes;

    use super::*;
    use crate::file::PolicyFile;
    use crate::{NoEvidence, RequireAll};

    #[tokio::test]
    async fn a_rule_that_was_not_read_is_not_forgotten() {
        let text = "policies: [{match: ^ghcr, policy: {signature: {key: {path: missing.pub}}}}]";
        let file = PolicyFile::parse(text, "p.yaml".as_ref()).unwrap();
        let mut set = PolicySet::new();
        let (named, other) = ("docker.io/a:v1".to_owned(), "ghcr.io/a:v1".to_owned());
        let context = PolicyContext::within("".as_ref());
        set.add_rules(&file.rules, &context, &[vec![named.clone()]]).unwrap();
        assert!(set.policies_for(&[named]).is_empty());
        let bytes = Bytes::from_static(b"{}");
        let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
        let subject = Subject::new(&descriptor, &bytes, &NoEvidence).unwrap();
        let policies = RequireAll::new(set.policies_for(&[other])).unwrap();
        let error = policies.evaluate(&subject).await.unwrap_err();
        assert!(!error.is_rejection(), "nobody can tell: {error}");
    }
}
