//! The manifests that say something about another one.

use blob_core::Digest;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::App;
use super::answer::{self, Body, Fault};
use super::query::Query;
use crate::descriptor::media_type;
use crate::manifest::ImageIndex;
use crate::reference::Repository;

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
    let page = app.registry.referrers(repository, subject, kind, &request).await?;
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
