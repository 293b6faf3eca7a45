//! Which locations of uploads are believed when they come back from outside, as part of an id.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use url::Url;

use crate::reference::Repository;

/// How many locations are remembered.
const MOST: usize = 256;

/// Locations of uploads that registries gave, where they are not to be expected. The oldest are forgotten.
#[derive(Debug, Default)]
pub(super) struct Given(Mutex<VecDeque<Url>>);

impl Given {
    /// A registry at `origin` gave this location.
    pub(super) fn note(&self, origin: &Url, repository: &Repository, location: &Url) {
        if is_usual(origin, repository, location) {
            return;
        }
        let mut given = self.locked();
        if given.contains(location) {
            return;
        }
        if given.len() == MOST {
            given.pop_front();
        }
        given.push_back(location.clone());
    }

    /// Whether `location` is an upload of `repository` at the registry at `origin`, or was given by it.
    pub(super) fn admits(&self, origin: &Url, repository: &Repository, location: &Url) -> bool {
        is_usual(origin, repository, location) || self.locked().contains(location)
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Url>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `location` is where registries that keep to the specification have the uploads of `repository`.
fn is_usual(origin: &Url, repository: &Repository, location: &Url) -> bool {
    let uploads = format!("/v2/{repository}/blobs/uploads");
    let rest = location.path().strip_prefix(&uploads);
    // Who decodes before looking at the path sees another one.
    let plain = |rest: &str| !["%2f", "%5c"].iter().any(|sign| rest.to_ascii_lowercase().contains(sign));
    let below = |rest: &str| rest.is_empty() || (rest.starts_with('/') && plain(rest));
    location.origin() == origin.origin() && rest.is_some_and(below)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_uploads_of_the_repository_are_believed_unless_they_were_given() {
        let origin = Url::parse("https://r.example/").unwrap();
        let name = Repository::new("team/app").unwrap();
        let given = Given::default();
        for (location, expect) in [
            ("https://r.example/v2/team/app/blobs/uploads/1?_state=x", true),
            ("https://r.example/v2/team/app/blobs/uploads?nonce=x", true),
            ("https://r.example/v2/team/app/blobs/uploads/..%2f..%2Fmanifests/v1", false),
            ("https://r.example/v2/team/app/blobs/uploads/..%5C..%5cmanifests/v1", false),
            ("https://r.example/v2/team/app/blobs/uploads/../../manifests/v1", false),
            ("https://r.example/v2/team/app/blobs/uploads/%2e%2e/%2E%2e/manifests/v1", false),
            ("https://r.example/v2/team/other/blobs/uploads/1", false),
            ("https://r.example/v2/team/app/blobs/uploadsx", false),
            ("https://r.example/v2/team/app/manifests/v1", false),
            ("https://r.example:444/v2/team/app/blobs/uploads/1", false),
            ("http://r.example/v2/team/app/blobs/uploads/1", false),
            ("http://169.254.169.254/v2/team/app/blobs/uploads/1", false),
        ] {
            let location = Url::parse(location).unwrap();
            assert_eq!(given.admits(&origin, &name, &location), expect, "{location}");
        }
        let elsewhere = |number: usize| Url::parse(&format!("https://storage.example/{number}")).unwrap();
        for number in 0..=MOST {
            given.note(&origin, &name, &elsewhere(number));
            given.note(&origin, &name, &elsewhere(number));
        }
        assert!(given.admits(&origin, &name, &elsewhere(MOST)) && given.admits(&origin, &name, &elsewhere(1)));
        assert!(!given.admits(&origin, &name, &elsewhere(0)), "the oldest is forgotten");
        assert_eq!(given.locked().len(), MOST);
    }
}
