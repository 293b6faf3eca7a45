//! Lists of names: the tags of a repository, the repositories.

use http::{Response, header};
use serde_json::json;

use super::App;
use super::answer::{self, Body, Fault};
use super::auth::Principal;
use super::query::Query;
use crate::filter::catalog::{Verdict, scan};
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
    // Where the next page begins must not tell a name that the user does not see.
    let judge = |name: Repository| if principal.sees(&name) { Verdict::Keep(name) } else { Verdict::Skip };
    let page = scan(app.registry.as_ref(), request.limit, request.after.clone(), judge).await?;
    let names: Vec<&str> = page.items.iter().map(Repository::as_str).collect();
    let mut response = answer::json(&json!({ "repositories": names }));
    if let Some(next) = &page.next {
        response.headers_mut().insert(header::LINK, answer::next_link("/v2/_catalog", request.limit, next, ""));
    }
    Ok(response)
}
