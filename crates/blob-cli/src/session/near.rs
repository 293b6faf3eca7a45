//! What was probably meant by what is not there.

use blob::registry::{PageRequest, Repository, Tag};
use blob::{Client, Location};

use super::Session;
use crate::error::{Failure, Kind};
use crate::ui::near::nearest;

/// Tags of a repository that are named where another one was asked for; more of them are listed by a command.
const NAMED_TAGS: usize = 6;

/// What places on disk begin with, if that is nearly what `typed` does.
pub(super) fn scheme(typed: &str) -> Option<&'static str> {
    nearest(typed.split_once(':')?.0, ["oci", "oci-archive", "pair"])
}

impl Session {
    /// `failure` with what was probably meant: an alias in the place of a host that nobody knows, or a tag of the repository
    /// or a repository of the registry, which costs a request or two.
    pub(crate) async fn with_near(&self, failure: Failure) -> Failure {
        let unknown = failure.reference().filter(|_| failure.kind == Kind::Network);
        if let Some(alias) = unknown.and_then(|reference| self.aliases.similar_to_host(reference)) {
            let hint = format!("did you mean the alias `{alias}`?");
            return failure.without_hint().with_hint(hint);
        }
        self.with_near_tag(failure).await
    }

    async fn with_near_tag(&self, failure: Failure) -> Failure {
        let Some(location) = failure.absent().cloned() else { return failure };
        let Ok(client) = self.client(&[&location]).await else { return failure };
        let listed = match client.tags(&location, &PageRequest::first()).await {
            Ok(listed) => listed,
            Err(error) if error.is_not_found() => return with_near_repository(&client, &location, failure).await,
            Err(_) => return failure,
        };
        let Some(tag) = location.tag() else { return failure };
        if listed.items.contains(&tag) {
            let hint = "the tag is there, and what it names is not: push it again, or copy it from where it is whole";
            return failure.without_hint().with_hint(hint);
        }
        let near = nearest(tag.as_str(), listed.items.iter().map(Tag::as_str));
        let all = failure.hint().map_or_else(String::new, |hint| format!(" {hint}"));
        match near {
            Some(near) => failure.without_hint().with_hint(format!("did you mean the tag {near}?{all}")),
            None if (1..=NAMED_TAGS).contains(&listed.items.len()) => {
                let tags: Vec<&str> = listed.items.iter().map(Tag::as_str).collect();
                let there = if tags.len() == 1 { "there is only the tag" } else { "there are only the tags" };
                failure.without_hint().with_hint(format!("{there} {}", tags.join(", ")))
            }
            None => failure,
        }
    }
}

/// `failure` with the repository of the registry that is most like the one that it does not have, if it lists them.
async fn with_near_repository(client: &Client, location: &Location, failure: Failure) -> Failure {
    let Some(reference) = location.reference() else { return failure };
    let (host, repository) = (reference.host(), reference.repository());
    let listed = client.repositories(host, &PageRequest::first()).await;
    let listed = listed.map(|page| page.items).unwrap_or_default();
    let hint = match nearest(repository.as_str(), listed.iter().map(Repository::as_str)) {
        Some(near) => format!("did you mean {host}/{near}?"),
        None => format!("{host} has no repository {repository}, or does not show it without a log-in"),
    };
    failure.without_hint().with_hint(hint)
}
