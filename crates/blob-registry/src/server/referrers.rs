//! The manifests that say something about another one.

use blob_core::Digest;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::App;
use super::answer::{self, Body, Fault};
use super::query::Query;
use crate::descriptor::{Descriptor, media_type};
use crate::manifest::ImageIndex;
use crate::reference::Repository;

/// A page is cut where it would be longer: clients refuse lists above the size of a manifest, 4 MiB. The rest is for
/// what is around the entries.
const PAGE_BYTES: usize = (4 << 20) - (4 << 10);

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Answers `GET …/referrers/<digest>` with an image index.
pub(super) async fn list(
    app: &App,
    query: &Query,
    repository: &Repository,
    subject: &Digest,
) -> Result<Response<Body>, Fault> {
    let kind = query.first("artifactType").filter(|kind| !kind.is_empty());
    let request = query.page(app.limits.max_page)?;
    let mut page = app.registry.referrers(repository, subject, kind, &request).await?;
    shorten(&mut page.items);
    let fitting = fitting(&page.items);
    if fitting < page.items.len() {
        // Where the next page begins is for the registry to say.
        page = app.registry.referrers(repository, subject, kind, &request.clone().limit(fitting)).await?;
        shorten(&mut page.items);
    }
    let index = ImageIndex::new(page.items);
    let mut response = answer::full(StatusCode::OK, media_type::IMAGE_INDEX, index.to_bytes());
    let headers = response.headers_mut();
    if kind.is_some() {
        headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(next) = &page.next {
        let path = format!("{}/referrers/{subject}", answer::base(repository));
        let extra = kind
            .map(|kind| percent_encoding::utf8_percent_encode(kind, percent_encoding::NON_ALPHANUMERIC).to_string())
            .map(|kind| format!("&artifactType={kind}"))
            .unwrap_or_default();
        headers.insert(header::LINK, answer::next_link(&path, request.limit, next, &extra));
    }
    Ok(response)
}

/// How many of `items` make a page that is not too long: at least one.
fn fitting(items: &[Descriptor]) -> usize {
    let mut left = PAGE_BYTES;
    let fits = |item: &&Descriptor| {
        let rest = left.checked_sub(length(item));
        left = rest.unwrap_or_default();
        rest.is_some()
    };
    items.iter().take_while(fits).count().max(1)
}

/// Takes the annotations off entries that would not fit a page alone, or nobody could read the list. The manifests
/// have them.
fn shorten(items: &mut [Descriptor]) {
    for item in items.iter_mut().filter(|item| length(item) > PAGE_BYTES) {
        item.annotations.clear();
    }
}

/// Bytes of an entry in a list.
fn length(item: &Descriptor) -> usize {
    serde_json::to_vec(item).map_or(0, |bytes| bytes.len() + 1)
}
