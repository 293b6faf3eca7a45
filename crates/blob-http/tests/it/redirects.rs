//! Redirects: who may be followed, what goes along, and what is remembered.

use blob_core::ByteSource as _;
use blob_http::{HttpError, HttpSource, HttpSourceOptions, RedirectError, RedirectPolicy};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::server::honest;
use crate::{content, read, source_options, transport};
use blob_testkit::hostile::{Reply, Seen, Server};

fn secrets() -> HttpSourceOptions {
    source_options()
        .with_header(AUTHORIZATION, HeaderValue::from_static("Bearer canary"))
        .with_header(HeaderName::from_static("x-token"), HeaderValue::from_static("canary"))
}

fn has_secrets(seen: &Seen) -> bool {
    seen.headers.values().any(|value| value.to_str().unwrap().contains("canary"))
}

/// A mirror of `bytes`, and an origin that sends everybody there.
async fn mirrored(bytes: &Bytes, refuse: fn(usize) -> Option<u16>) -> (Server, Server) {
    let mirror = {
        let bytes = bytes.clone();
        Server::start(move |number, seen| match refuse(number) {
            Some(status) => Reply::new(status),
            None => honest(&bytes, seen),
        })
        .await
    };
    let to = mirror.url.clone();
    let origin = Server::start(move |number, _| {
        let status = [301, 302, 303, 307, 308][number % 5];
        Reply::new(status).header("location", format!("{to}?signature={number}"))
    })
    .await;
    (origin, mirror)
}

#[tokio::test]
async fn secrets_stay_with_their_origin_and_the_place_is_remembered() {
    let bytes = content(1000);
    let (origin, mirror) = mirrored(&bytes, |_| None).await;
    let source = HttpSource::open(transport(), origin.url.clone(), secrets()).await.unwrap();
    assert_eq!(read(&source, 100, 200).await.unwrap(), bytes.slice(100..200));
    assert_eq!(read(&source, 300, 400).await.unwrap(), bytes.slice(300..400));
    assert_eq!((origin.requests(), mirror.requests()), (1, 3), "reads go straight to the place");
    assert!(origin.seen().iter().all(has_secrets));
    assert!(!mirror.seen().iter().any(has_secrets), "{:?}", mirror.seen());
    assert!(mirror.seen().iter().all(|seen| seen.header("accept-encoding") == Some("identity")));
    assert_eq!(mirror.seen()[1].range(), Some(100..200));
}

/// Also those that were put in without [`HttpSourceOptions::with_header`], which says that they are secret.
#[tokio::test]
async fn headers_that_nobody_called_secret_stay_with_their_origin_too() {
    let bytes = content(1000);
    let (origin, mirror) = mirrored(&bytes, |_| None).await;
    let mut options = source_options();
    options.headers.insert("x-api-key", HeaderValue::from_static("canary"));
    let source = HttpSource::open(transport(), origin.url.clone(), options).await.unwrap();
    assert_eq!(read(&source, 100, 200).await.unwrap(), bytes.slice(100..200));
    assert!(origin.seen().iter().all(has_secrets));
    assert!(!mirror.seen().iter().any(has_secrets), "{:?}", mirror.seen());
    assert!(!format!("{source:?}").contains("canary"));
}

#[tokio::test]
async fn a_place_that_expired_is_asked_for_again() {
    for status in [400_u16, 401, 403, 404, 410] {
        let bytes = content(1000);
        // Functions, not closures: the table of statuses is the script.
        let refuse: fn(usize) -> Option<u16> = match status {
            400 => |number| (number == 1).then_some(400),
            401 => |number| (number == 1).then_some(401),
            403 => |number| (number == 1).then_some(403),
            404 => |number| (number == 1).then_some(404),
            _ => |number| (number == 1).then_some(410),
        };
        let (origin, mirror) = mirrored(&bytes, refuse).await;
        let source = HttpSource::open(transport(), origin.url.clone(), secrets()).await.unwrap();
        assert_eq!(read(&source, 100, 200).await.unwrap(), bytes.slice(100..200), "{status}");
        assert_eq!((origin.requests(), mirror.requests()), (2, 3));
        assert_eq!(mirror.seen()[2].uri.query(), Some("signature=1"), "the new place is used");
        assert!(!mirror.seen().iter().any(has_secrets));
    }
}

#[tokio::test]
async fn a_refusal_that_lasts_is_an_error_at_once() {
    let bytes = content(1000);
    let (origin, mirror) = mirrored(&bytes, |number| (number > 0).then_some(403)).await;
    let source = HttpSource::open(transport(), origin.url.clone(), secrets()).await.unwrap();
    let error = read(&source, 100, 200).await.unwrap_err();
    assert_eq!(error.kind(), blob_core::FailureKind::Denied);
    assert_eq!((origin.requests(), mirror.requests()), (2, 3));
}

#[tokio::test]
async fn secrets_do_not_come_back() {
    let bytes = content(1000);
    // origin/file -> elsewhere -> origin/back: the redirect back was chosen by somebody else.
    let back = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let elsewhere = {
        let back = std::sync::Arc::clone(&back);
        Server::start(move |_, _| Reply::new(302).header("location", back.get().unwrap())).await
    };
    let to = elsewhere.url.clone();
    let origin = Server::start(move |_, seen| match seen.uri.path() {
        "/file" => Reply::new(302).header("location", to.as_str()),
        _ => honest(&bytes, seen),
    })
    .await;
    back.set(origin.url.join("/back").unwrap().into()).unwrap();
    let source = HttpSource::open(transport(), origin.url.clone(), secrets()).await.unwrap();
    read(&source, 100, 200).await.unwrap();
    let with: Vec<_> = origin.seen().iter().map(|seen| (seen.uri.path().to_owned(), has_secrets(seen))).collect();
    assert_eq!(with, [("/file".to_owned(), true), ("/back".to_owned(), false), ("/back".to_owned(), false)]);
}

#[tokio::test]
async fn within_an_origin_secrets_go_along() {
    let bytes = content(1000);
    let server = Server::start(move |_, seen| match seen.uri.path() {
        "/file" => Reply::new(307).header("location", "/other"),
        _ => honest(&bytes, seen),
    })
    .await;
    let source = HttpSource::open(transport(), server.url.clone(), secrets()).await.unwrap();
    read(&source, 100, 200).await.unwrap();
    assert_eq!(source.size(), 1000);
    assert!(server.seen().iter().all(has_secrets));
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn loops_end() {
    let server = Server::start(|_, _| Reply::new(302).header("location", "/file")).await;
    for max in [0, 3, 10] {
        let before = server.requests();
        let options = source_options().with_redirects(RedirectPolicy::new(max));
        let error = HttpSource::open(transport(), server.url.clone(), options).await.unwrap_err();
        let expect = RedirectError::TooMany { max };
        assert!(matches!(&error, HttpError::Redirect { source, .. } if *source == expect), "{error:?}");
        assert_eq!(server.requests() - before, max + 1, "and it is not tried again");
    }
}
