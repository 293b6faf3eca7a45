//! Lists of several registries as one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use futures_util::future;

use super::read::merged as worse;
use super::{Descriptor, Page, PageRequest, Registry, RegistryError, Result, Shared};

/// A registry that needs more requests than this for one page does not come to an end.
const MAX_REQUESTS: usize = 10_000;

/// More referrers of one subject than this are not listed.
const MAX_REFERRERS: usize = 10_000;

/// What a registry that cannot be asked means for a list of all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gaps {
    /// It is left out, which the log says.
    Told,
    /// There is no list: what is missing from it would be taken for what is not there, such as a signature.
    Refused,
}

impl Shared {
    /// One page of lists that are in byte order, merged.
    ///
    /// One page of each registry is in memory. What is behind the end of one of them waits for the next page, since
    /// that registry may have something before it.
    pub(super) async fn merged<T: Ord + Display + Send, F>(
        &self,
        action: String,
        page: &PageRequest,
        call: impl Fn(Arc<dyn Registry>, PageRequest) -> F + Send + Sync,
    ) -> Result<Page<T>>
    where
        F: Future<Output = Result<Page<T>>> + Send,
    {
        let (action_ref, call) = (&action, &call);
        let pages =
            self.ask(action_ref, Gaps::Told, move |registry| filled_page(action_ref, registry, page, call)).await?;
        let more = pages.iter().any(|page| page.next.is_some());
        let ends = pages.iter().filter(|page| page.next.is_some()).filter_map(|page| page.items.last());
        let horizon = ends.map(ToString::to_string).min();
        let within = |name: &str| {
            horizon.as_deref().is_none_or(|horizon| name <= horizon)
                && page.after.as_deref().is_none_or(|after| name > after)
        };
        let all: BTreeSet<T> =
            pages.into_iter().flat_map(|page| page.items).filter(|item| within(&item.to_string())).collect();
        let total = all.len();
        let items: Vec<T> = all.into_iter().take(page.limit.unwrap_or(usize::MAX)).collect();
        let more = more || items.len() < total;
        let next = items.last().filter(|_| more).map(ToString::to_string);
        if more && next.is_none() && page.limit != Some(0) {
            let detail = "expected names in byte order behind those of the page before, got others".into();
            return Err(RegistryError::Protocol { action, detail });
        }
        Ok(Page::new(items, next))
    }

    /// One page of referrers. They come in no order, so all are read and put in one: by digest.
    pub(super) async fn referrers<F>(
        &self,
        action: String,
        page: &PageRequest,
        call: impl Fn(Arc<dyn Registry>, PageRequest) -> F + Send + Sync,
    ) -> Result<Page<Descriptor>>
    where
        F: Future<Output = Result<Page<Descriptor>>> + Send,
    {
        let (action, call) = (&action, &call);
        let lists = self.ask(action, Gaps::Refused, move |registry| every_page(action, registry, call)).await?;
        let mut all: BTreeMap<String, Descriptor> = BTreeMap::new();
        for entry in lists.into_iter().flatten() {
            all.entry(entry.digest.to_string()).or_insert(entry);
        }
        let behind = |digest: &str| page.after.as_deref().is_none_or(|after| digest > after);
        let mut rest = all.into_iter().filter(|(digest, _)| behind(digest));
        let limit = page.limit.unwrap_or(usize::MAX);
        let chosen: Vec<(String, Descriptor)> = rest.by_ref().take(limit).collect();
        let more = rest.next().is_some();
        let next = chosen.last().filter(|_| more).map(|(digest, _)| digest.clone());
        Ok(Page::new(chosen.into_iter().map(|(_, entry)| entry).collect(), next))
    }

    /// The answers of all registries that have one; an error if none has, or if one cannot be asked and gaps are refused.
    async fn ask<T, F>(&self, action: &str, gaps: Gaps, call: impl Fn(Arc<dyn Registry>) -> F) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let calls = self.members.iter().map(|member| call(Arc::clone(&member.registry)));
        let (mut answers, mut failure) = (Vec::new(), None);
        for (at, answer) in future::join_all(calls).await.into_iter().enumerate() {
            self.members[at].health.note(&answer);
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    if !error.is_not_found() && !error.is_unsupported() {
                        if gaps == Gaps::Refused {
                            return Err(error);
                        }
                        tracing::warn!(action, registry = at, %error, "a registry is left out of a list");
                    }
                    failure = Some(worse(failure, error));
                }
            }
        }
        if answers.is_empty() {
            return Err(failure.unwrap_or_else(|| RegistryError::unsupported(action)));
        }
        Ok(answers)
    }
}

fn endless(action: &str) -> RegistryError {
    RegistryError::Protocol { action: action.into(), detail: format!("{MAX_REQUESTS} pages and no end") }
}

/// A page of one registry that has items, unless there are no more.
async fn filled_page<T, F>(
    action: &str,
    registry: Arc<dyn Registry>,
    page: &PageRequest,
    call: &(impl Fn(Arc<dyn Registry>, PageRequest) -> F + Sync),
) -> Result<Page<T>>
where
    F: Future<Output = Result<Page<T>>> + Send,
{
    let mut request = page.clone();
    for _ in 0..MAX_REQUESTS {
        let answer = call(Arc::clone(&registry), request.clone()).await?;
        if !answer.items.is_empty() || answer.next.is_none() || page.limit == Some(0) {
            return Ok(answer);
        }
        request.after = answer.next;
    }
    Err(endless(action))
}

/// All pages of one registry's referrers.
async fn every_page<F>(
    action: &str,
    registry: Arc<dyn Registry>,
    call: &(impl Fn(Arc<dyn Registry>, PageRequest) -> F + Sync),
) -> Result<Vec<Descriptor>>
where
    F: Future<Output = Result<Page<Descriptor>>> + Send,
{
    let (mut all, mut request) = (Vec::new(), PageRequest::first());
    for _ in 0..MAX_REQUESTS {
        let page = call(Arc::clone(&registry), request.clone()).await?;
        all.extend(page.items);
        if all.len() > MAX_REFERRERS {
            let detail = format!("expected at most {MAX_REFERRERS} referrers, got more");
            return Err(RegistryError::Protocol { action: action.into(), detail });
        }
        let Some(next) = page.next else { return Ok(all) };
        request.after = Some(next);
    }
    Err(endless(action))
}
