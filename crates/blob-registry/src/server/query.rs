//! The query of a request.

use percent_encoding::percent_decode_str;

use super::answer::Fault;
use crate::error::ErrorCode;
use crate::registry::PageRequest;

/// Members of a query, decoded, in order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `query`, without its question mark. What is not UTF-8 becomes U+FFFD and then matches nothing.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let members = query.unwrap_or_default().split('&').filter(|member| !member.is_empty());
        Self(
            members
                .map(|member| {
                    let (name, value) = member.split_once('=').unwrap_or((member, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of `name`.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `n` and `last`, with at most `max` items.
    pub(super) fn page(&self, max: usize) -> Result<PageRequest, Fault> {
        let limit = match self.first("n") {
            None => max,
            Some(text) => {
                let bad = |_| Fault::plain(400, ErrorCode::Unsupported, "n is not a number of items");
                text.parse::<u32>().map_err(bad).map(|n| max.min(n as usize))?
            }
        };
        let page = PageRequest::first().limit(limit);
        Ok(match self.first("last") {
            Some(last) if !last.is_empty() => page.after(last),
            _ => page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let query = Query::parse(Some("tag=a&tag=b%2Bc&x&digest=sha256%3Aab&&y=1+2"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b+c"]);
        assert_eq!(query.first("digest"), Some("sha256:ab"));
        assert_eq!((query.first("x"), query.first("y"), query.first("z")), (Some(""), Some("1 2"), None));
        assert!(Query::parse(Some("n=-1")).page(5).is_err());
        assert_eq!(Query::parse(Some("n=9")).page(5).map(|page| page.limit).ok(), Some(Some(5)));
    }
}
