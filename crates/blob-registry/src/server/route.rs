//! From a request path to the object it names.
//!
//! Repository names hold slashes and may hold the words of the API (`a/blobs/tags` is a fine name), so a path is read
//! from its end: the last `blobs`, `manifests`, `tags/list` or `referrers` decides.

use blob_core::Digest;
use percent_encoding::percent_decode_str;

use super::answer::Fault;
use crate::error::ErrorCode;
use crate::reference::{Repository, Tag, Target};
use crate::registry::UploadId;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/token`
    Token,
    /// `/v2/<name>/blobs/<digest>`
    Blob(Repository, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Repository),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(Repository, UploadId),
    /// `/v2/<name>/manifests/<reference>`; a reference that cannot be one names nothing.
    Manifest(Repository, Option<Target>),
    /// `/v2/<name>/tags/list`
    Tags(Repository),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(Repository, Digest),
}

impl Route {
    /// Reads the path of a request, percent-encoded as it came.
    pub(super) fn parse(path: &str) -> Result<Self, Fault> {
        let elements = decode(path).ok_or_else(|| Fault::plain(404, ErrorCode::Unknown, "no such path"))?;
        let elements: Vec<&str> = elements.iter().map(String::as_str).collect();
        let rest = match elements.as_slice() {
            ["token"] => return Ok(Self::Token),
            ["v2"] | ["v2", ""] => return Ok(Self::Base),
            ["v2", "_catalog"] => return Ok(Self::Catalog),
            ["v2", rest @ ..] => rest,
            _ => return Err(Fault::plain(404, ErrorCode::Unknown, "no such path")),
        };
        match rest {
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "blobs", "uploads" | "uploads/"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads(repository(name)?))
            }
            [name @ .., "blobs", "uploads", id] => Ok(Self::Upload(repository(name)?, upload_id(id)?)),
            [name @ .., "blobs", digest] => Ok(Self::Blob(repository(name)?, parse_digest(digest)?)),
            [name @ .., "manifests", reference] => Ok(Self::Manifest(repository(name)?, target(reference)?)),
            [name @ .., "referrers", digest] => Ok(Self::Referrers(repository(name)?, parse_digest(digest)?)),
            _ => Err(Fault::plain(404, ErrorCode::Unknown, "no such path")),
        }
    }

    /// What kind of route it is, in one word.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Token => "token",
            Self::Blob(..) => "blob",
            Self::Uploads(_) | Self::Upload(..) => "upload",
            Self::Manifest(..) => "manifest",
            Self::Tags(_) => "tags",
            Self::Referrers(..) => "referrers",
        }
    }

    /// The same route with its repository below `namespace`. What is too long to be named there stays what it is.
    pub(super) fn below(self, namespace: &Repository) -> Self {
        let below = |name: Repository| Repository::new(&format!("{namespace}/{name}")).unwrap_or(name);
        match self {
            Self::Blob(name, digest) => Self::Blob(below(name), digest),
            Self::Manifest(name, target) => Self::Manifest(below(name), target),
            Self::Tags(name) => Self::Tags(below(name)),
            Self::Referrers(name, digest) => Self::Referrers(below(name), digest),
            other => other,
        }
    }

    /// The repository, if the route is within one.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Base | Self::Catalog | Self::Token => None,
            Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Manifest(name, _)
            | Self::Tags(name)
            | Self::Referrers(name, _) => Some(name),
        }
    }
}

/// The decoded elements of a path. `None` for everything that is read differently by different programs: empty
/// elements but for the last, `.` and `..`, and encoded slashes and NULs.
fn decode(path: &str) -> Option<Vec<String>> {
    let raw: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let last = raw.len() - 1;
    let mut elements = Vec::with_capacity(raw.len());
    for (position, element) in raw.into_iter().enumerate() {
        if !percent_signs_are_whole(element) {
            return None;
        }
        let element = percent_decode_str(element).decode_utf8().ok()?.into_owned();
        let empty = element.is_empty() && position != last;
        if empty || element == "." || element == ".." || element.contains(['/', '\\', '\0']) {
            return None;
        }
        elements.push(element);
    }
    Some(elements)
}

/// Whether every `%` begins an escape.
fn percent_signs_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

pub(super) fn repository(name: &[&str]) -> Result<Repository, Fault> {
    Repository::new(&name.join("/")).map_err(|error| Fault::of(ErrorCode::NameInvalid, error.to_string()))
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, Fault> {
    text.parse().map_err(|error: blob_core::DigestError| Fault::of(ErrorCode::DigestInvalid, error.to_string()))
}

fn target(reference: &str) -> Result<Option<Target>, Fault> {
    if reference.contains(':') {
        return Ok(Some(Target::Digest(parse_digest(reference)?)));
    }
    Ok(Tag::new(reference).ok().map(Target::Tag))
}

/// Session ids of any registry behind this server, in characters that need no escape.
pub(super) fn upload_text(id: &UploadId) -> String {
    URL_SAFE_NO_PAD.encode(id.as_str())
}

fn upload_id(text: &str) -> Result<UploadId, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    bytes.map(UploadId::new).ok_or_else(|| Fault::of(ErrorCode::BlobUploadUnknown, "no such upload session"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(text: &str) -> Repository {
        Repository::new(text).unwrap()
    }

    #[test]
    fn the_last_keyword_decides() {
        let tag = |text| Some(Target::Tag(Tag::new(text).unwrap()));
        let digest = Digest::sha256_of(b"");
        for (path, route) in [
            ("/v2/".to_owned(), Route::Base),
            ("/v2".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/tags/list".to_owned(), Route::Tags(name("a"))),
            ("/v2/a/b/tags/list/tags/list".to_owned(), Route::Tags(name("a/b/tags/list"))),
            ("/v2/a/manifests/tags/list".to_owned(), Route::Tags(name("a/manifests"))),
            ("/v2/a/tags/manifests/list".to_owned(), Route::Manifest(name("a/tags"), tag("list"))),
            ("/v2/a/blobs/uploads/manifests/v1".to_owned(), Route::Manifest(name("a/blobs/uploads"), tag("v1"))),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/aWQ".to_owned(), Route::Upload(name("a"), UploadId::new("id"))),
            (format!("/v2/a/blobs/{digest}"), Route::Blob(name("a"), digest)),
            (format!("/v2/a/blobs/blobs/{digest}").replace(':', "%3A"), Route::Blob(name("a/blobs"), digest)),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers(name("a"), digest)),
            (format!("/v2/a/manifests/{digest}"), Route::Manifest(name("a"), Some(digest.into()))),
            ("/v2/a/manifests/.hidden".to_owned(), Route::Manifest(name("a"), None)),
        ] {
            assert_eq!(Route::parse(&path).unwrap(), route, "{path}");
        }
    }

    #[test]
    fn tricks_lead_nowhere() {
        for path in [
            "",
            "/",
            "*",
            "/v1/",
            "/v2//",
            "/v2//a/tags/list",
            "/v2/a//tags/list",
            "/v2/../v2/a/tags/list",
            "/v2/a/../b/tags/list",
            "/v2/a/%2e%2e/tags/list",
            "/v2/a%2fb/tags/list",
            "/v2/a%2Fb/tags/list",
            "/v2/a%00/tags/list",
            "/v2/a%5cb/tags/list",
            "/v2/a%/tags/list",
            "/v2/a%zz/tags/list",
            "/v2/%ff/tags/list",
            "/v2/A/tags/list",
            "/v2/_layout/tags/list",
            "/v2/a/_layout/tags/list",
            "/v2/tags/list",
            "/v2/manifests/x",
            "/v2/a/blobs/sha256:abc",
            "/v2/a/blobs/sha256:%2e%2e%2f",
            "/v2/a/blobs/md5:00",
            "/v2/a/referrers/x",
            "/v2/a/blobs/uploads/%20",
            "/v2/a/manifests/sha256:..",
            "/v2/a/manifests/x/y",
            "/v2/a/tags/list/",
        ] {
            assert!(Route::parse(path).is_err(), "{path} is {:?}", Route::parse(path));
        }
    }
}
