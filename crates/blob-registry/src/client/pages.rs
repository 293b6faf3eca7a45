//! Lists in pages: tags, repositories, and the `Link` header (RFC 8288) that leads from page to page.
//!
//! A continuation token is the path and query of the next page with the number of the page behind it, so it works for
//! registries that put more than a name into their links, and a registry whose pages never end is noticed. A name works
//! as a token too: it becomes the `last` parameter.

use std::fmt;

use blob_http::redirect::same_origin;
use http::header::LINK;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::Core;
use super::answer::protocol;
use super::call::{Call, Document, Fetched};
use super::scope::Scope;
use crate::error::{Object, RegistryError};
use crate::reference::{Repository, Tag};
use crate::registry::{Page, PageRequest};

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Path and query of the page.
    pub(super) target: String,
    /// How many pages came before.
    pub(super) page: u32,
    /// How many items of the page were handed out already.
    pub(super) skip: usize,
}

impl Cursor {
    /// Reads a token; `None` if it is a name.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let (target, place) = token.rsplit_once('#')?;
        let (page, skip) = place.split_once('.')?;
        target.starts_with('/').then_some(())?;
        Some(Self { target: target.into(), page: page.parse().ok()?, skip: skip.parse().ok()? })
    }

    /// The URL of the page, which lies below `base`: a token is the caller's, but it may have come a long way.
    pub(super) fn url(&self, base: &Url, action: &str) -> Result<Url, RegistryError> {
        let url = base.join(&self.target).ok();
        let fits = |url: &Url| same_origin(url, base) && url.path() == base.path();
        url.filter(fits).ok_or_else(|| protocol(action, "the continuation token is not one of this list"))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}.{}", self.target, self.page, self.skip)
    }
}

/// The cursor behind a page at `url`, which was the `page`th: where its `Link` leads.
///
/// # Errors
/// [`RegistryError::Protocol`] for links to another origin or list, to the page itself, and beyond `limit` pages.
pub(super) fn next(
    headers: &HeaderMap,
    url: &Url,
    page: u32,
    limit: u32,
    action: &str,
) -> Result<Option<Cursor>, RegistryError> {
    let Some(link) = next_link(headers) else { return Ok(None) };
    let next = url.join(&link).map_err(|_| protocol(action, "the link to the next page is not a URL"))?;
    if !same_origin(&next, url) {
        return Err(protocol(action, "the link to the next page leads to another origin"));
    }
    if next.path() != url.path() {
        return Err(protocol(action, "the link to the next page leads to another list"));
    }
    if next.query() == url.query() {
        return Err(protocol(action, "the link to the next page leads to the page itself"));
    }
    if page + 1 >= limit {
        return Err(protocol(action, format!("the list has more than {limit} pages")));
    }
    let target = next.query().map_or_else(|| next.path().to_owned(), |query| format!("{}?{query}", next.path()));
    Ok(Some(Cursor { target, page: page + 1, skip: 0 }))
}

/// The target of the first link whose relation is `next`.
fn next_link(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(links).find(|(_, next)| *next).map(|(target, _)| target)
}

/// The links of one header value: target, and whether its relation is `next`. Stops at what it does not understand.
fn links(value: &str) -> Vec<(String, bool)> {
    let mut links = Vec::new();
    let mut rest = value;
    while let Some((target, behind)) =
        rest.trim_start_matches([' ', '\t', ',']).strip_prefix('<').and_then(|r| r.split_once('>'))
    {
        let end = end_of_parameters(behind);
        let is_next = behind[..end].split(';').any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                let relations = value.trim().trim_matches('"');
                name.trim().eq_ignore_ascii_case("rel")
                    && relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
            })
        });
        links.push((target.to_owned(), is_next));
        rest = &behind[end..];
    }
    links
}

/// Where the comma is that ends the parameters of a link, quoted ones aside.
fn end_of_parameters(text: &str) -> usize {
    let mut quoted = false;
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return position,
            _ => {}
        }
    }
    text.len()
}

impl Core {
    pub(super) async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>, RegistryError> {
        #[derive(Deserialize)]
        struct List {
            /// Some registries say `null` for none.
            tags: Option<Vec<String>>,
        }
        let action = format!("listing the tags of {}/{repository}", self.host);
        let url = self.url(repository, "tags/list");
        let call = Call::new(Method::GET, url, repository, action, Object::Repository);
        let read = |bytes: &[u8]| serde_json::from_slice::<List>(bytes).ok().map(|list| list.tags.unwrap_or_default());
        self.list(call, page, read, |name| Tag::new(name).ok()).await
    }

    pub(super) async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>, RegistryError> {
        #[derive(Deserialize)]
        struct List {
            repositories: Option<Vec<String>>,
        }
        let action = format!("listing the repositories of {}", self.host);
        let mut url = self.origin.clone();
        url.set_path("/v2/_catalog");
        let none = Repository::new("none").expect("because it is a word");
        let mut call = Call::new(Method::GET, url, &none, action, Object::Repository).with_scope(Scope::catalog());
        call.repository = None;
        let read =
            |bytes: &[u8]| serde_json::from_slice::<List>(bytes).ok().map(|list| list.repositories.unwrap_or_default());
        match self.list(call, page, read, |name| Repository::new(name).ok()).await {
            // Registries without a catalogue answer as if it were a repository.
            Err(RegistryError::Code { action, status: Some(404), .. }) => Err(RegistryError::unsupported(action)),
            other => other,
        }
    }

    /// One page of names; names that break the grammar are left out, since nothing could be done with them.
    async fn list<T>(
        &self,
        mut call: Call,
        page: &PageRequest,
        read: impl Fn(&[u8]) -> Option<Vec<String>>,
        name: impl Fn(&str) -> Option<T>,
    ) -> Result<Page<T>, RegistryError> {
        let cursor = page.after.as_deref().and_then(Cursor::parse);
        let after = page.after.as_deref().filter(|_| cursor.is_none());
        match &cursor {
            Some(cursor) => call.url = cursor.url(&call.url, &call.action)?,
            None => ask(&mut call.url, page.limit, after),
        }
        let document = match self.fetch(&call, self.limits.page_bytes).await? {
            Fetched::Whole(document) if document.status == StatusCode::OK => document,
            Fetched::Whole(_) => return Err(protocol(&call.action, "the answer is no list")),
            Fetched::Refused(answer) => return Err(answer.refuse(&call).await),
        };
        let Document { headers, url, bytes, .. } = document;
        let mut names = read(&bytes).ok_or_else(|| protocol(&call.action, "the answer is not the expected JSON"))?;
        names.retain(|text| name(text).is_some());
        let number = cursor.as_ref().map_or(0, |cursor| cursor.page);
        let next = next(&headers, &url, number, self.limits.pages, &call.action)?;
        let Page { items, next } = self.cut(names, next, page.limit, after);
        Ok(Page::new(items.iter().filter_map(|text| name(text)).collect(), next))
    }

    /// Makes a page of what came. Some registries answer every request with the whole list; there, the pages are cut
    /// here.
    fn cut(
        &self,
        mut names: Vec<String>,
        next: Option<Cursor>,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Page<String> {
        names.sort_unstable();
        names.dedup();
        let too_many = limit.is_some_and(|limit| names.len() > limit);
        let repeats = after.is_some_and(|after| names.iter().any(|name| name == after));
        if next.is_none() && (too_many || repeats) {
            self.profile.paging_ignored.set();
        }
        if self.profile.paging_ignored.is_set()
            && next.is_none()
            && let Some(after) = after
        {
            names.retain(|name| name.as_str() > after);
        }
        match limit.filter(|&limit| limit > 0 && names.len() > limit) {
            Some(limit) => {
                names.truncate(limit);
                let last = names.last().cloned();
                Page::new(names, last)
            }
            None => Page::new(names, next.map(|cursor| cursor.to_string())),
        }
    }
}

/// Adds what the caller wants to the URL of a list.
fn ask(url: &mut Url, limit: Option<usize>, after: Option<&str>) {
    // An empty query would still print its question mark.
    if let Some(limit) = limit.filter(|&limit| limit > 0) {
        url.query_pairs_mut().append_pair("n", &limit.to_string());
    }
    if let Some(after) = after {
        url.query_pairs_mut().append_pair("last", after);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn follow(values: &[&str]) -> Result<Option<String>, RegistryError> {
        let headers: HeaderMap =
            values.iter().map(|value| (LINK, HeaderValue::from_str(value).unwrap())).collect::<HeaderMap>();
        let url = Url::parse("https://h/v2/a/tags/list?n=2").unwrap();
        Ok(next(&headers, &url, 0, 10, "listing")?.map(|cursor| cursor.to_string()))
    }

    #[test]
    fn links_are_followed_within_the_list() {
        let next = |text: &str| Some(text.to_owned());
        let target = "/v2/a/tags/list?n=2&last=b#1.0";
        assert_eq!(follow(&["</v2/a/tags/list?n=2&last=b>; rel=\"next\""]).unwrap(), next(target));
        assert_eq!(follow(&["<https://h:443/v2/a/tags/list?n=2&last=b>;REL=next"]).unwrap(), next(target));
        assert_eq!(follow(&["<list?n=2&last=b>; title=\"a,b\"; rel=\"prev next\""]).unwrap(), next(target));
        assert_eq!(follow(&["</x>; rel=prev, <list?n=2&last=b>; rel=next"]).unwrap(), next(target));
        assert_eq!(follow(&["</x>; rel=prev", "<list?n=2&last=b>; rel=next"]).unwrap(), next(target));
        for none in ["", "</x>; rel=prev", "rel=next", "<x", "</x>"] {
            assert_eq!(follow(&[none]).unwrap(), None, "{none}");
        }
    }

    #[test]
    fn links_that_lead_astray_are_refused() {
        for bad in [
            "<https://evil/v2/a/tags/list?last=b>; rel=next",
            "<http://h/v2/a/tags/list?last=b>; rel=next",
            "<https://h:8443/v2/a/tags/list?last=b>; rel=next",
            "<//evil/v2/a/tags/list?last=b>; rel=next",
            "</v2/other/tags/list?last=b>; rel=next",
            "</v2/a/tags/list?n=2>; rel=next",
            "<http://[>; rel=next",
        ] {
            assert!(follow(&[bad]).is_err(), "{bad}");
        }
        let headers = HeaderMap::from_iter([(LINK, HeaderValue::from_static("<?last=z>; rel=next"))]);
        let url = Url::parse("https://h/v2/a/tags/list").unwrap();
        assert!(next(&headers, &url, 9, 10, "listing").is_err());
    }

    #[test]
    fn tokens_stay_in_their_list() {
        let base = Url::parse("https://h/v2/a/tags/list").unwrap();
        let url = |token: &str| Cursor::parse(token).unwrap().url(&base, "listing");
        assert_eq!(url("/v2/a/tags/list?last=b#1.0").unwrap().query(), Some("last=b"));
        assert!(url("//evil/v2/a/tags/list#1.0").is_err());
        assert!(url("/v2/b/tags/list#1.0").is_err());
        assert!(url("/v2/a/x/../../b#1.0").is_err());
        for name in ["v1", "", "#", "a#1.0", "/x", "/x#1", "/x#-1.0"] {
            assert!(Cursor::parse(name).is_none(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_link_is_survived(text in "[<>;,=\"a-z /?#]{0,60}") {
            let _ = follow(&[&text]);
        }
    }
}
