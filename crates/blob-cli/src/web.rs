//! An archive as a web site, read-only: directories as lists, files with ranges.
//!
//! [`address`] tells what a request means, [`page`] answers with what stands there, [`listing`] writes directories. Nothing is
//! shown that was not verified: what files hold comes from [`Contents`].

mod address;
mod listing;
mod page;

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use blob::Archive;
use blob::core::Entry;
use blob::registry::server::{Server, ServerHandle, ServerLimits, Site, SiteBody};
use http::request::Parts;
use http::{Method, Response, StatusCode, header};

use self::address::Found;
use self::page::{Answer, FilePage};
use crate::contents::{Contents, Unreadable};
use crate::error::Failure;

/// Connections at a time. Browsers have six each.
const MAX_CONNECTIONS: usize = 256;

/// An archive that requests are answered from.
pub(crate) struct Web {
    archive: Archive,
    contents: Contents,
    /// Whether only this machine is meant to reach it.
    is_local: bool,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("archive", self.archive.location()).finish_non_exhaustive()
    }
}

/// Answers requests at `listen` from `archive`, until the server is shut down or dropped.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) async fn serve(archive: Archive, listen: SocketAddr, contents: Contents) -> Result<ServerHandle, Failure> {
    let web = Web { archive, contents, is_local: listen.ip().to_canonical().is_loopback() };
    let mut limits = ServerLimits::default();
    limits.max_connections = MAX_CONNECTIONS;
    let server = Server::site(Arc::new(web)).limits(limits).bind(listen).await;
    server.map_err(|error| {
        let failure = Failure::io(format!("listening on {listen}"), &error);
        match error.kind() {
            ErrorKind::AddrInUse => failure.with_hint("--listen names another port; port 0 takes a free one"),
            _ => failure,
        }
    })
}

#[async_trait]
impl Site for Web {
    async fn answer(&self, request: &Parts) -> Response<SiteBody> {
        let mut response = self.respond(request).await;
        let headers = response.headers_mut();
        page::set(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        // Another archive may be here the next time; what is here has a name of its own.
        page::set(headers, header::CACHE_CONTROL, "no-cache");
        if request.method == Method::HEAD {
            return response.map(|_| SiteBody::default());
        }
        response
    }
}

impl Web {
    async fn respond(&self, request: &Parts) -> Response<SiteBody> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            let mut response = page::message(StatusCode::METHOD_NOT_ALLOWED, "archives are read-only: GET or HEAD");
            page::set(response.headers_mut(), header::ALLOW, "GET, HEAD");
            return response;
        }
        if self.is_local && !is_for_us(request) {
            let text = "this is for this machine alone: ask for localhost or its address";
            return page::message(StatusCode::MISDIRECTED_REQUEST, text);
        }
        match address::find(self.archive.index(), request.uri.path(), request.uri.query()) {
            Found::File(file) => self.file(request, FilePage::new(file), file).await,
            Found::Directory(path, ids) => listing::answer(&self.archive, request.uri.path(), (path, ids)),
            Found::Elsewhere(location) => {
                let mut response = page::message(StatusCode::MOVED_PERMANENTLY, "a directory: with a slash at the end");
                page::set(response.headers_mut(), header::LOCATION, &location);
                response
            }
            Found::Nothing(why) => page::message(StatusCode::NOT_FOUND, why),
        }
    }

    async fn file(&self, request: &Parts, page: FilePage<'_>, file: Entry<'_>) -> Response<SiteBody> {
        let range = match page.judge(request) {
            Answer::Head(response) => return response,
            Answer::Part(range) => Some(range),
            Answer::Whole => None,
        };
        let Some(id) = self.archive.index().id_at(file.path()) else {
            return page::unreadable(Unreadable::Failed);
        };
        match self.contents.read(id).await {
            Ok(content) => page.give(content, range),
            Err(why) => page::unreadable(why),
        }
    }
}

/// Whether the request names this machine as the one it is for.
fn is_for_us(request: &Parts) -> bool {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    // One, as RFC 9112 asks for.
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    host.to_str().is_ok_and(address::is_local)
}
