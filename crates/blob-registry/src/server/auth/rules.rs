//! Which user may do what to which repository.

use crate::reference::Repository;

/// What a request does to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Reads content, tags and referrers.
    Pull,
    /// Uploads, mounts, tags.
    Push,
    /// Deletes manifests, tags or blobs.
    Delete,
}

impl Action {
    /// The word for it in the scope of a token.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Who {
    /// Everybody, with credentials or without.
    Anybody,
    /// Everybody with valid credentials.
    Users,
    /// These users.
    Named(Vec<String>),
}

impl Who {
    fn is(&self, user: Option<&str>) -> bool {
        match (self, user) {
            (Self::Anybody, _) | (Self::Users, Some(_)) => true,
            (Self::Named(names), Some(user)) => names.iter().any(|name| name == user),
            (Self::Users | Self::Named(_), None) => false,
        }
    }
}

/// Allows something. Rules only ever allow: what no rule allows is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whom it is about.
    pub who: Who,
    /// The repositories: a name; or what names begin with, and a `*`: `team/*` is everything below `team`, `*` is all.
    pub repositories: Vec<String>,
    /// What it allows there.
    pub actions: Vec<Action>,
}

impl Rule {
    fn covers(&self, repository: &Repository) -> bool {
        self.repositories.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => repository.as_str().starts_with(beginning),
            None => repository.as_str() == pattern,
        })
    }
}

/// The rights of all users.
#[derive(Debug, Default)]
pub(super) struct Rights {
    /// With none, every user does everything.
    pub(super) rules: Vec<Rule>,
    /// Users who may only read, where there are no rules.
    pub(super) readers: Vec<String>,
    pub(super) anonymous_pull: bool,
}

impl Rights {
    /// Whether `user`, or somebody without credentials, may do `action` to `repository`.
    pub(super) fn allow(&self, user: Option<&str>, action: Action, repository: &Repository) -> bool {
        self.judge(user, action, |rule| rule.covers(repository))
    }

    /// Whether `user` may do `action` to every repository there is or will be.
    pub(super) fn allow_everywhere(&self, user: Option<&str>, action: Action) -> bool {
        self.judge(user, action, |rule| rule.repositories.iter().any(|pattern| pattern == "*"))
    }

    /// Whether somebody without credentials may do anything at all.
    pub(super) fn know_anonymous(&self) -> bool {
        self.anonymous_pull || self.rules.iter().any(|rule| rule.who == Who::Anybody)
    }

    fn judge(&self, user: Option<&str>, action: Action, covers: impl Fn(&Rule) -> bool) -> bool {
        if self.anonymous_pull && action == Action::Pull {
            return true;
        }
        if self.rules.is_empty() {
            return user.is_some_and(|user| action == Action::Pull || !self.readers.iter().any(|name| name == user));
        }
        self.rules.iter().any(|rule| rule.who.is(user) && rule.actions.contains(&action) && covers(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_allow_and_nothing_else_does() {
        let rule = |who, repositories: &[&str], actions: &[Action]| Rule {
            who,
            repositories: repositories.iter().map(ToString::to_string).collect(),
            actions: actions.to_vec(),
        };
        let rules = vec![
            rule(Who::Anybody, &["public/*"], &[Action::Pull]),
            rule(Who::Users, &["shared"], &[Action::Pull, Action::Push]),
            rule(Who::Named(vec!["root".into()]), &["*"], &[Action::Pull, Action::Push, Action::Delete]),
        ];
        let rights = Rights { rules, ..Rights::default() };
        let may = |user, action, name: &str| rights.allow(user, action, &Repository::new(name).expect("name"));
        for (user, action, name, expected) in [
            (None, Action::Pull, "public/a", true),
            (None, Action::Pull, "public", false),
            (None, Action::Push, "public/a", false),
            (None, Action::Pull, "shared", false),
            (Some("ann"), Action::Push, "shared", true),
            (Some("ann"), Action::Push, "shared/x", false),
            (Some("ann"), Action::Delete, "shared", false),
            (Some("root"), Action::Delete, "x/y", true),
        ] {
            assert_eq!(may(user, action, name), expected, "{user:?} {action:?} {name}");
        }
        assert!(rights.allow_everywhere(Some("root"), Action::Pull));
        assert!(!rights.allow_everywhere(Some("ann"), Action::Pull) && rights.know_anonymous());
    }

    #[test]
    fn without_rules_users_do_everything_and_readers_read() {
        let rights = Rights { readers: vec!["bob".into()], ..Rights::default() };
        let name = Repository::new("a").expect("name");
        assert!(rights.allow(Some("ann"), Action::Delete, &name));
        assert!(rights.allow(Some("bob"), Action::Pull, &name) && !rights.allow(Some("bob"), Action::Push, &name));
        assert!(!rights.allow(None, Action::Pull, &name) && !rights.know_anonymous());
        let rights = Rights { anonymous_pull: true, ..rights };
        assert!(rights.allow(None, Action::Pull, &name) && !rights.allow(None, Action::Push, &name));
    }
}
