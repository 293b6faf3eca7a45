//! Policies with the references that they are for.

use std::sync::Arc;

use super::build::PolicyContext;
use super::error::PolicyFileError;
use super::matching::ReferencePattern;
use super::spec::PolicyRule;
use crate::policy::Policy;

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

    /// Builds those of `rules` that are for one of `references` (each a list of its spellings) and adds them; the others
    /// are left out, and their keys are not read.
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
            if rule.pattern.as_ref().is_none_or(wanted) {
                for policy in rule.build(context)? {
                    self.add(rule.pattern.clone(), policy);
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
