//! Nothing that prints holds a secret.

use std::error::Error;
use std::fmt::Write as _;

use blob_core::ByteSource as _;
use blob_http::{HttpError, HttpSource};
use http::header::{AUTHORIZATION, HeaderValue};

use crate::server::honest;
use crate::{content, read, source_options, transport};
use blob_testkit::hostile::{Reply, Server};

/// Everything that an error shows, with its causes.
fn shown(error: &dyn Error) -> String {
    let mut text = format!("{error:?}");
    let mut next = Some(error);
    while let Some(error) = next {
        write!(text, " {error}").unwrap();
        next = error.source();
    }
    text
}

#[tokio::test]
async fn errors_ids_and_debug_output_hide_queries_and_headers() {
    let bytes = content(1000);
    let server = Server::start(move |number, seen| match number {
        0 => honest(&bytes, seen),
        1 => Reply::new(403),
        2 => Reply::new(302).header("location", "ftp://elsewhere/?sig=canary"),
        _ => honest(&bytes, seen).without("content-range"),
    })
    .await;
    let mut url = server.url.clone();
    url.set_query(Some("sig=canary"));
    let options = source_options().with_header(AUTHORIZATION, HeaderValue::from_static("Bearer canary"));
    let mut text = format!("{options:?}");
    let source = HttpSource::open(transport(), url.clone(), options).await.unwrap();
    write!(text, "{source:?} {} {:?}", source.id(), transport()).unwrap();
    for _ in 0..3 {
        text += &shown(&read(&source, 100, 200).await.unwrap_err());
    }
    url.set_password(Some("canary")).unwrap();
    let refused = HttpSource::open(transport(), url, source_options()).await.unwrap_err();
    assert!(matches!(refused, HttpError::InvalidUrl { .. }));
    text += &shown(&refused);
    assert!(!text.contains("canary"), "{text}");
}
