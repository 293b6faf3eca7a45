//! What real registries put before their content: a token service and a redirect to another origin.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use super::count::Origin;

/// Path of the token service on the main origin.
const TOKEN_PATH: &str = "/token";

/// What is asked of a client before it gets content. The default lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    /// Requests below `/v2/` need `Authorization: Bearer` with this token; others are answered 401 with a challenge that
    /// names `/token` of this proxy, which hands the token out to anybody. The header is not passed on.
    pub token: Option<String>,
    /// `GET` of a blob is answered 307 to the second origin, which serves it and wants no token.
    pub redirect_blobs: bool,
}

impl Gate {
    /// The answer that the gate gives itself, or `None` to let the request through.
    pub(super) fn answer(&self, origin: Origin, parts: &Parts, urls: &Urls) -> Option<Response<Bytes>> {
        if origin == Origin::Second {
            return None;
        }
        let path = parts.uri.path();
        if let Some(token) = &self.token {
            if path == TOKEN_PATH {
                let body = format!("{{\"token\":\"{token}\",\"expires_in\":300}}");
                return Some(answer(StatusCode::OK, (CONTENT_TYPE, "application/json"), body));
            }
            let expected = format!("Bearer {token}");
            let given = parts.headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
            if path.starts_with("/v2/") && given != Some(expected.as_bytes()) {
                let challenge = format!(
                    "Bearer realm=\"{}{TOKEN_PATH}\",service=\"testkit\",scope=\"{}\"",
                    urls.main,
                    scope(path, &parts.method)
                );
                let body = "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}";
                return Some(answer(StatusCode::UNAUTHORIZED, (WWW_AUTHENTICATE, &challenge), body.into()));
            }
        }
        if self.redirect_blobs && parts.method == Method::GET && is_blob(path) {
            let target = format!("{}{path}", urls.second);
            return Some(answer(StatusCode::TEMPORARY_REDIRECT, (LOCATION, &target), String::new()));
        }
        None
    }
}

/// The two origins of a proxy, as URLs without a trailing slash.
#[derive(Debug)]
pub(super) struct Urls {
    pub(super) main: String,
    pub(super) second: String,
}

fn answer(status: StatusCode, header: (http::HeaderName, &str), body: String) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header(header.0, header.1)
        .body(Bytes::from(body))
        .expect("because every part is a valid header value")
}

fn is_blob(path: &str) -> bool {
    path.rsplit_once("/blobs/").is_some_and(|(_, rest)| !rest.contains('/'))
}

fn scope(path: &str, method: &Method) -> String {
    let rest = path.trim_start_matches("/v2/");
    let name = ["/blobs/", "/manifests/", "/tags/", "/referrers/"]
        .iter()
        .find_map(|part| rest.split_once(part))
        .map_or("", |(name, _)| name);
    if name.is_empty() {
        return String::new();
    }
    let actions = if matches!(*method, Method::GET | Method::HEAD) { "pull" } else { "pull,push" };
    format!("repository:{name}:{actions}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_name_the_repository_and_the_action() {
        assert_eq!(scope("/v2/a/b/manifests/v1", &Method::GET), "repository:a/b:pull");
        assert_eq!(scope("/v2/a/blobs/uploads/", &Method::POST), "repository:a:pull,push");
        assert_eq!(scope("/v2/", &Method::GET), "");
    }

    #[test]
    fn only_blobs_are_redirected() {
        assert!(is_blob("/v2/a/blobs/sha256:00"));
        assert!(!is_blob("/v2/a/blobs/uploads/1"));
        assert!(!is_blob("/v2/a/manifests/v1"));
    }
}
