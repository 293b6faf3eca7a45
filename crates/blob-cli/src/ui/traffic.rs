//! What a command fetched, and what its caches saved.

use blob::{Archive, Client};
use serde::Serialize;

use super::size::{count, human};

/// What was moved over the network, and what the caches gave instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Traffic {
    /// Requests that were sent, each attempt for itself.
    requests: u64,
    /// Bytes that were received, without headers.
    received_bytes: u64,
    /// Bytes of everything that belongs to the archives: manifests, indexes and data.
    archive_bytes: u64,
    /// How many times the cache had a file, a block of data, a manifest or an index.
    cache_hits: u64,
    /// Bytes that came from the cache.
    cached_bytes: u64,
}

/// What `--stats` says to programs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Line {
    /// What was moved, and what the caches gave instead.
    stats: Traffic,
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    vec![crate::schemas::line::<Line>("stats")]
}

impl Traffic {
    /// What `client` did so far for `archives`.
    pub(crate) fn of<'a>(client: &Client, archives: impl IntoIterator<Item = &'a Archive>) -> Self {
        let (traffic, used) = (client.traffic(), client.cache_use());
        let sizes = archives.into_iter().map(|archive| {
            let manifest = archive.manifest();
            manifest.as_bytes().len() as u64 + manifest.index().size + manifest.data().size
        });
        Self {
            requests: traffic.requests,
            received_bytes: traffic.received,
            archive_bytes: sizes.sum(),
            cache_hits: used.hits,
            cached_bytes: used.bytes,
        }
    }

    /// `2.1K of 8.4M in 3 requests, 512 from the cache`; nothing if everything was on this machine anyway.
    pub(crate) fn text(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.requests > 0 {
            // Signatures and what else was asked for are no part of the archives.
            let whole = format!(" of {}", human(self.archive_bytes));
            let whole = if self.received_bytes > self.archive_bytes { "" } else { &whole };
            let received = human(self.received_bytes);
            parts.push(format!("{received}{whole} in {}", count(self.requests, "request")));
        } else if self.cache_hits > 0 {
            parts.push("nothing".into());
        }
        parts.extend(self.cached());
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// A line for programs: `{"stats":{…}}`.
    pub(crate) fn line(self) -> String {
        super::json::line(&Line { stats: self })
    }

    /// `512 from the cache`, if anything was.
    pub(crate) fn cached(&self) -> Option<String> {
        (self.cache_hits > 0).then(|| format!("{} from the cache", human(self.cached_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_said() {
        let text = |requests, received_bytes, cache_hits, cached_bytes| {
            Traffic { requests, received_bytes, archive_bytes: 4096, cache_hits, cached_bytes }.text()
        };
        for (told, expected) in [
            (text(0, 0, 0, 0), None),
            (text(2, 1024, 0, 0), Some("1.0K of 4.0K in 2 requests")),
            (text(1, 10, 3, 2048), Some("10 of 4.0K in 1 request, 2.0K from the cache")),
            (text(0, 0, 1, 5), Some("nothing, 5 from the cache")),
            (text(4, 8192, 0, 0), Some("8.0K in 4 requests")),
        ] {
            assert_eq!(told.as_deref(), expected);
        }
    }
}
