//! What a source can be told.

use blob_core::SourceId;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::redirect::RedirectPolicy;
use crate::retry::RetryPolicy;

/// Settings of an [`HttpSource`](super::HttpSource); begin with `default()`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpSourceOptions {
    /// Sent with every request, to the origin of the URL only. Values are secret: they do not print.
    pub headers: HeaderMap,
    /// What the bytes are, if the caller knows better than the server: it must pin them for ever.
    pub id: Option<SourceId>,
    /// How often and how patiently reads are tried again.
    pub retry: RetryPolicy,
    /// How many redirects are followed.
    pub redirects: RedirectPolicy,
    /// How many bytes the opening request asks for and keeps: 64 KiB.
    pub first: u64,
    /// The largest whole, in bytes, that opening keeps when the server does not answer ranges: 8 MiB.
    pub max_spool: u64,
}

impl Default for HttpSourceOptions {
    fn default() -> Self {
        Self {
            headers: HeaderMap::new(),
            id: None,
            retry: RetryPolicy::default(),
            redirects: RedirectPolicy::default(),
            first: 64 << 10,
            max_spool: 8 << 20,
        }
    }
}

impl HttpSourceOptions {
    /// Sends a header with every request to the origin of the URL. Its value is taken for a secret: it does not print
    /// and is not shown to other origins. `Range`, `If-Range` and `Accept-Encoding` belong to the source.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.headers.append(name, value);
        self
    }

    /// Says what the bytes are: `id` must pin them for ever.
    #[must_use]
    pub fn with_id(mut self, id: SourceId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets how often and how patiently reads are tried again.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how many redirects are followed.
    #[must_use]
    pub fn with_redirects(mut self, redirects: RedirectPolicy) -> Self {
        self.redirects = redirects;
        self
    }

    /// Sets how many bytes the opening request asks for (at least one) and keeps.
    #[must_use]
    pub fn with_first(mut self, first: u64) -> Self {
        self.first = first.max(1);
        self
    }

    /// Sets the largest whole, in bytes, that opening keeps when the server does not answer ranges.
    #[must_use]
    pub fn with_max_spool(mut self, max_spool: u64) -> Self {
        self.max_spool = max_spool;
        self
    }
}
