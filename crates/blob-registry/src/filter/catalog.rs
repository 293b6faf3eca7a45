//! Paging through the repositories of a registry when only some of them count.

use super::prelude::*;

/// Fewer are never asked for at a time: where most are left out, short pages would cost a request for each.
const MIN_PAGE: usize = 100;

/// A registry that needs more requests than this for one page does not come to an end.
const MAX_REQUESTS: usize = 10_000;

/// What becomes of a repository in a list.
pub(crate) enum Verdict {
    /// It is listed, under this name.
    Keep(Repository),
    /// It is left out.
    Skip,
    /// It is left out, and so is everything behind it.
    Stop,
}

/// One page of what `judge` keeps of the repositories of `inner` behind `after`, at most `limit`, at least one unless
/// there are no more.
///
/// Pages go on behind the last name that was kept: a token never tells a name that was left out.
pub(crate) async fn scan(
    inner: &dyn Registry,
    limit: Option<usize>,
    after: Option<String>,
    judge: impl Fn(Repository) -> Verdict + Send,
) -> Result<Page<Repository>> {
    let mut items: Vec<Repository> = Vec::new();
    if limit == Some(0) {
        return Ok(Page::new(items, None));
    }
    let wanted = limit.unwrap_or(1);
    let mut request = PageRequest::first();
    (request.limit, request.after) = (limit.map(|limit| limit.max(MIN_PAGE)), after);
    for _ in 0..MAX_REQUESTS {
        let page = inner.repositories(&request).await?;
        let mut stopped = false;
        for repository in page.items {
            match judge(repository) {
                Verdict::Keep(name) if limit.is_none_or(|limit| items.len() < limit) => items.push(name),
                Verdict::Keep(_) => {
                    let next = items.last().map(ToString::to_string);
                    return Ok(Page::new(items, next));
                }
                Verdict::Skip => {}
                Verdict::Stop => {
                    stopped = true;
                    break;
                }
            }
        }
        match page.next {
            Some(next) if !stopped => request.after = Some(next),
            _ => return Ok(Page::new(items, None)),
        }
        if items.len() >= wanted {
            let next = items.last().map(ToString::to_string);
            return Ok(Page::new(items, next));
        }
    }
    let detail = format!("{MAX_REQUESTS} pages and no end");
    Err(RegistryError::Protocol { action: "listing repositories".into(), detail })
}
