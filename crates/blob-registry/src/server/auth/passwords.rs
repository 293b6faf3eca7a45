//! Where passwords are checked.

use std::fmt;

use async_trait::async_trait;
use blob_core::Digest;

/// Knows users by their passwords: an htpasswd file, a directory service, a database.
#[async_trait]
pub trait Passwords: fmt::Debug + Send + Sync {
    /// Whether `user` has this password. It should take the same time whether the user is unknown or the password is
    /// wrong, and must not block the thread. A service that cannot answer answers no, and logs why.
    async fn verify(&self, user: &str, password: &str) -> bool;

    /// Something that changes when the password of `user` does, and is gone with the user: refresh tokens hold no longer
    /// than it stays the same. `None`, which is the default, also if that cannot be told: such users get none. It is
    /// compared only, and must not tell the password to whoever sees it.
    async fn standing(&self, user: &str) -> Option<Digest> {
        let _ = user;
        None
    }
}

/// Users in memory.
#[derive(Default)]
pub(super) struct InMemory {
    /// Names, and digests of `name:password`: comparing digests takes the same time wherever they differ.
    credentials: Vec<(String, Digest)>,
}

impl InMemory {
    pub(super) fn add(&mut self, user: &str, password: &str) {
        self.credentials.push((user.to_owned(), digest(user, password)));
    }

    pub(super) fn len(&self) -> usize {
        self.credentials.len()
    }

    /// Every user is compared, so that the time does not tell which one matched.
    pub(super) fn verify(&self, user: &str, password: &str) -> bool {
        let given = digest(user, password);
        let equal = |own: &Digest| {
            own.as_bytes().iter().zip(given.as_bytes()).fold(0_u8, |sum, (one, other)| sum | (one ^ other)) == 0
        };
        self.credentials.iter().fold(false, |found, (_, own)| equal(own) | found)
    }

    /// As [`Passwords::standing`].
    pub(super) fn standing(&self, user: &str) -> Option<Digest> {
        self.credentials.iter().find(|(name, _)| name == user).map(|(_, digest)| *digest)
    }
}

/// Names hold no colon, so that no two users share a digest.
fn digest(user: &str, password: &str) -> Digest {
    Digest::sha256_of(format!("{user}:{password}").as_bytes())
}
