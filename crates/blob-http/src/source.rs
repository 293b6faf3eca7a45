//! A resource of a web server as a [`ByteSource`].

mod fetch;
mod first;
mod options;
mod read;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use blob_core::source::check_range;
use blob_core::{ByteSource, ByteStream, Local, SourceError, SourceId};
use bytes::Bytes;
use url::Url;

use crate::error::HttpError;
use crate::range::Entity;
use crate::redact;
use crate::transport::{Transport, request_uri};

pub use options::HttpSourceOptions;

/// Bytes behind an http or https URL, read in ranges.
///
/// Every read is one closed-range request whose answer is compared with what was asked for, down to each number of
/// `Content-Range`. A read that breaks goes on at the byte it reached. A resource that changes while it is open is an
/// error and never a mixture; that it changed is seen by its entity tag (asked for with `If-Range`), else by the time of
/// its last change, else by its size.
///
/// The URL that redirects led to is remembered and asked first; when it fails, the original is asked again.
///
/// # Servers without ranges
/// A server that answers a range with the whole (200) is read from the beginning, and what precedes the range is thrown
/// away: right but slow. Opening keeps the whole when it is not larger than [`HttpSourceOptions::max_spool`], so that
/// later reads cost nothing.
///
/// Clones share what is known about the resource.
#[derive(Clone)]
pub struct HttpSource {
    shared: Arc<Shared>,
}

/// What all reads of a source share.
struct Shared {
    remote: Remote,
    id: SourceId,
    size: u64,
    /// The first bytes, which the opening request brought.
    head: Bytes,
}

/// A resource before anything is known about its content.
struct Remote {
    transport: Transport,
    url: Url,
    options: HttpSourceOptions,
    /// What the first answer said about the content.
    entity: OnceLock<Entity>,
    /// Where redirects led to, as long as that works.
    place: Mutex<Option<fetch::Place>>,
}

impl HttpSource {
    /// Opens `url` with one request, whose bytes are kept: it asks for the first [`HttpSourceOptions::first`] bytes and
    /// learns the size from the answer.
    ///
    /// # Errors
    /// [`HttpError`]: transient ones after the retries that the options allow; [`HttpError::SizeUnknown`] when the server
    /// neither answers ranges nor says a size.
    ///
    /// # Cancellation
    /// Dropping the future ends the exchange.
    pub async fn open(transport: Transport, url: Url, options: HttpSourceOptions) -> Result<Self, HttpError> {
        let remote = Remote::new(transport, url, options)?;
        let first = first::fetch(&remote).await?;
        let entity = remote.entity.get_or_init(|| first.entity);
        let id = remote.options.id.clone().unwrap_or_else(|| first::id(&remote.url, entity, first.size));
        Ok(Self { shared: Arc::new(Shared { remote, id, size: first.size, head: first.head }) })
    }

    /// A source whose size, in bytes, and identity are known already. No request is made.
    ///
    /// # Errors
    /// [`HttpError::InvalidUrl`].
    pub fn with_size(
        transport: Transport,
        url: Url,
        size: u64,
        id: SourceId,
        options: HttpSourceOptions,
    ) -> Result<Self, HttpError> {
        let remote = Remote::new(transport, url, options)?;
        Ok(Self { shared: Arc::new(Shared { remote, id, size, head: Bytes::new() }) })
    }

    /// The URL it was opened with; it may hold secrets.
    pub fn url(&self) -> &Url {
        &self.shared.remote.url
    }
}

impl Remote {
    fn new(transport: Transport, url: Url, options: HttpSourceOptions) -> Result<Self, HttpError> {
        request_uri(&url)?;
        Ok(Self { transport, url, options, entity: OnceLock::new(), place: Mutex::new(None) })
    }
}

#[async_trait]
impl ByteSource for HttpSource {
    fn id(&self) -> &SourceId {
        &self.shared.id
    }

    fn size(&self) -> u64 {
        self.shared.size
    }

    fn local(&self) -> Option<Local<'_>> {
        (self.shared.head.len() as u64 == self.shared.size).then_some(Local::Bytes(&self.shared.head))
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        check_range(&self.shared.id, &range, self.shared.size)?;
        read::open(Arc::clone(&self.shared), range).await
    }
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource")
            .field("url", &redact::url(&self.shared.remote.url))
            .field("id", &self.shared.id)
            .field("size", &self.shared.size)
            .finish_non_exhaustive()
    }
}
