//! What a registry keeps of uploads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Reply, Seen};

/// Upload sessions on the far side, and the blobs that came of them, for one repository: an honest registry as far as uploads
/// go, whose answers a script can take or leave.
///
/// Locations carry a state, as those of many registries do, and whoever leaves it out is told so.
#[derive(Debug)]
pub struct Sessions {
    repository: String,
    digest: fn(&[u8]) -> String,
    /// What each session holds.
    held: Mutex<Vec<Vec<u8>>>,
    blobs: Mutex<Vec<Vec<u8>>>,
}

/// The query of every location.
const STATE: &str = "_state=canary";

impl Sessions {
    /// No sessions and no blobs. `digest` says how content is called, such as `sha256:…`.
    #[must_use]
    pub fn new(repository: &str, digest: fn(&[u8]) -> String) -> Self {
        Self { repository: repository.to_owned(), digest, held: Mutex::default(), blobs: Mutex::default() }
    }

    /// Where session `number` is, from 0.
    #[must_use]
    pub fn location(&self, number: usize) -> String {
        format!("/v2/{}/blobs/uploads/{number}?{STATE}", self.repository)
    }

    /// What each session holds, committed or not.
    pub fn held(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blobs, in the order in which they were committed.
    pub fn blobs(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A registry's answers; bytes are taken whatever becomes of the request.
    pub fn answer(&self, seen: &Seen) -> Reply {
        let mut held = self.held();
        if seen.method == "HEAD" {
            let blobs = self.blobs();
            let found = blobs.iter().find(|bytes| seen.path.ends_with(&(self.digest)(bytes)));
            return found
                .map_or_else(|| Reply::new(404), |bytes| Reply::new(200).header("Content-Length", bytes.len()));
        }
        if seen.method == "POST" {
            held.push(Vec::new());
            return Reply::new(202).header("Location", self.location(held.len() - 1));
        }
        let number: Option<usize> = seen.path.rsplit('/').next().and_then(|text| text.parse().ok());
        let Some((number, session)) = number.and_then(|number| Some((number, held.get_mut(number)?))) else {
            return Reply::new(404).json(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#);
        };
        assert!(seen.query.starts_with(STATE), "the location is kept whole: {}", seen.query);
        if let Some(range) = seen.header("content-range") {
            let first = range.split('-').next().and_then(|text| text.parse().ok());
            if first != Some(session.len()) {
                return self.stands(416, number, session.len());
            }
        }
        session.extend_from_slice(&seen.body);
        match seen.method.as_str() {
            "PUT" if says(&seen.query, &(self.digest)(session)) => {
                self.blobs().push(session.clone());
                Reply::new(201)
            }
            "PUT" => Reply::new(400).json(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#),
            "GET" => self.stands(204, number, session.len()),
            _ => self.stands(202, number, session.len()),
        }
    }

    /// The answer that session `number` stands at so many bytes.
    #[must_use]
    pub fn stands(&self, status: u16, number: usize, bytes: usize) -> Reply {
        let last = bytes.saturating_sub(1);
        Reply::new(status).header("Location", self.location(number)).header("Range", format!("0-{last}"))
    }
}

/// Whether a query names a digest, whose colon may be escaped.
fn says(query: &str, digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(_, hex)| query.contains(hex))
}
