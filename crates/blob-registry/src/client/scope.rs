//! What a token allows: `repository:<name>:pull,push` and the algebra of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::reference::Repository;

/// A set of actions on resources. Printing is canonical: equal scopes have equal texts.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope(BTreeMap<Resource, BTreeSet<String>>);

/// `repository:library/x`, `registry:catalog`; a word that is no triple stands for itself with no name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Resource {
    kind: String,
    name: Option<String>,
}

impl Scope {
    /// Reading from `repository`.
    pub(super) fn pull(repository: &Repository) -> Self {
        Self::of("repository", repository.as_str(), &["pull"])
    }

    /// Reading and writing `repository`: asked for in one go, so that the first write costs no second token.
    pub(super) fn push(repository: &Repository) -> Self {
        Self::of("repository", repository.as_str(), &["pull", "push"])
    }

    /// Deleting from `repository`; registries differ in whether they call it `delete` or take it for a push.
    pub(super) fn delete(repository: &Repository) -> Self {
        Self::of("repository", repository.as_str(), &["delete", "pull", "push"])
    }

    /// Listing the repositories.
    pub(super) fn catalog() -> Self {
        Self::of("registry", "catalog", &["*"])
    }

    fn of(kind: &str, name: &str, actions: &[&str]) -> Self {
        let resource = Resource { kind: kind.into(), name: Some(name.into()) };
        Self(BTreeMap::from([(resource, actions.iter().map(|&action| action.to_owned()).collect())]))
    }

    /// Reads the text of a challenge: words parted by spaces. At most 64 words are taken.
    pub(super) fn parse(text: &str) -> Self {
        let mut scope = Self::default();
        for word in text.split_ascii_whitespace().take(64) {
            let triple = word.split_once(':').and_then(|(kind, rest)| rest.rsplit_once(':').map(|tail| (kind, tail)));
            let (resource, actions) = match triple {
                Some((kind, (name, actions))) => (Resource { kind: kind.into(), name: Some(name.into()) }, actions),
                None => (Resource { kind: word.into(), name: None }, ""),
            };
            let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned);
            scope.0.entry(resource).or_default().extend(actions);
        }
        scope
    }

    /// Everything that either allows.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        for (resource, actions) in &other.0 {
            union.0.entry(resource.clone()).or_default().extend(actions.iter().cloned());
        }
        union
    }

    /// Whether everything that `other` allows is allowed here.
    pub(super) fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|(resource, wanted)| {
            self.0.get(resource).is_some_and(|held| held.contains("*") || wanted.is_subset(held))
        })
    }

    /// Whether nothing but reading is asked for.
    pub(super) fn is_read_only(&self) -> bool {
        self.0.values().flatten().all(|action| action == "pull")
    }

    /// The words, one for each resource.
    pub(super) fn words(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(resource, actions)| match &resource.name {
            Some(name) => {
                let actions: Vec<_> = actions.iter().map(String::as_str).collect();
                format!("{}:{name}:{}", resource.kind, actions.join(","))
            }
            None => resource.kind.clone(),
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_canonical() {
        let scope = Scope::parse("  repository:b:push,pull repository:a:pull repository:b:pull aws  ");
        assert_eq!(scope.to_string(), "aws repository:a:pull repository:b:pull,push");
        assert_eq!(Scope::parse("repository:host:5000/x:pull").to_string(), "repository:host:5000/x:pull");
        assert_eq!(Scope::parse(&Scope::catalog().to_string()), Scope::catalog());
    }

    #[test]
    fn containment_follows_actions() {
        let repository = Repository::new("a/b").unwrap();
        assert!(Scope::push(&repository).contains(&Scope::pull(&repository)));
        assert!(!Scope::pull(&repository).contains(&Scope::push(&repository)));
        assert!(Scope::parse("repository:a/b:*").contains(&Scope::delete(&repository)));
        assert!(!Scope::push(&repository).contains(&Scope::pull(&Repository::new("a").unwrap())));
        assert!(Scope::pull(&repository).is_read_only() && !Scope::push(&repository).is_read_only());
    }

    fn scopes() -> impl Strategy<Value = Scope> {
        "((repository|registry):[a-c]:(pull|push|\\*|pull,push) |aws ){0,4}".prop_map(|text| Scope::parse(&text))
    }

    proptest! {
        #[test]
        fn the_algebra_holds(a in scopes(), b in scopes()) {
            let union = a.union(&b);
            prop_assert!(union.contains(&a) && union.contains(&b));
            prop_assert_eq!(&union, &b.union(&a));
            prop_assert_eq!(Scope::parse(&union.to_string()), union);
            if a.contains(&b) && !a.to_string().contains('*') {
                prop_assert_eq!(a.union(&b), a);
            }
        }

        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let scope = Scope::parse(&text);
            prop_assert_eq!(Scope::parse(&scope.to_string()), scope);
        }
    }
}
