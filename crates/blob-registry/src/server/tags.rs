//! Lists of names: the tags of a repository, the repositories.

use http::{Response, header};
use serde_json::json;

use super::App;
use super::answer::{self, Body, Fault};
use super::auth::Principal;
use super::query::Query;
use crate::reference::{Repository, Tag};

/// Answers `GET …/tags/list`.
pub(super) async fn list(app: &App, query: &Query, repository: &Repository) -> Result<Response<Body>, Fault> {
    let request = query.page(app.limits.max_page)?;
    let page = app.registry.tags(repository, &request).await?;
    let names: Vec<&str> = page.items.iter().map(Tag::as_str).collect();
    let mut response = answer::json(&json!({ "name": repository.as_str(), "tags": names }));
    if let Some(next) = &page.next {
        let path = format!("{}/tags/list", answer::base(repository));
        response.headers_mut().insert(header::LINK, answer::next_link(&path, request.limit, next, ""));
    }
    Ok(response)
}

/// Answers `GET /v2/_catalog`.
pub(super) async fn catalog(app: &App, principal: &Principal, query: &Query) -> Result<Response<Body>, Fault> {
    let request = query.page(app.limits.max_page)?;
    let page = app.registry.repositories(&request).await?;
    // A page may be short for it: clients go on as long as there is a next one.
    let seen = page.items.iter().filter(|name| principal.sees(name));
    let names: Vec<&str> = seen.map(Repository::as_str).collect();
    let mut response = answer::json(&json!({ "repositories": names }));
    if let Some(next) = &page.next {
        response.headers_mut().insert(header::LINK, answer::next_link("/v2/_catalog", request.limit, next, ""));
    }
    Ok(response)
}
