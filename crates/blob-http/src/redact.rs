//! What may be shown of a URL, and a wrapper for what may never be shown.
//!
//! Signed URLs carry their signature in the query, upload sessions their token, and some people put passwords before
//! the host. None of them belongs in a log or an error.

use std::fmt;

use http::Uri;
use url::Url;

/// `url` without user name, password, query and fragment.
pub fn url(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // Both fail only for URLs that cannot have a host, and those have no credentials either.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.into()
}

/// `uri` without user name, password and query.
pub fn uri(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let scheme = uri.scheme_str().unwrap_or("http");
    match uri.port_u16() {
        Some(port) => format!("{scheme}://{host}:{port}{}", uri.path()),
        None => format!("{scheme}://{host}{}", uri.path()),
    }
}

/// A value that is never printed: its `Debug` is `…` and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that sends it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keeps_what_names_and_hides_what_authorises() {
        let cases = [
            ("https://u:p@example.com:8443/a/b?X-Sig=canary#f", "https://example.com:8443/a/b"),
            ("http://example.com/", "http://example.com/"),
            ("https://canary@[::1]:5000/v2/?token=canary", "https://[::1]:5000/v2/"),
        ];
        for (raw, expect) in cases {
            assert_eq!(url(&raw.parse().unwrap()), expect);
            let without_fragment = raw.split('#').next().unwrap();
            assert_eq!(uri(&without_fragment.parse().unwrap()), expect);
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Some(Secret::new("canary"))), "Some(…)");
        assert_eq!(*Secret::new("canary").expose(), "canary");
    }
}
