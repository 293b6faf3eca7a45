//! end-2, end-10: pulling and deleting blobs.

use super::site::{each, fresh};

#[tokio::test]
async fn end_2_a_blob_is_pulled_byte_for_byte() {
    each(async |site| {
        let name = fresh();
        let digest = site.put(&name, b"some bytes").await;
        let answer = site.get(&format!("/v2/{name}/blobs/{digest}")).await.is(&[200]);
        assert_eq!(answer.body, b"some bytes");
        assert_eq!(answer.header("content-length"), Some("10"));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
    })
    .await;
}

#[tokio::test]
async fn end_2_head_says_what_get_would_and_has_no_body() {
    each(async |site| {
        let name = fresh();
        let digest = site.put(&name, b"some bytes").await;
        let answer = site.head(&format!("/v2/{name}/blobs/{digest}")).await.is(&[200]);
        assert_eq!((answer.header("content-length"), answer.body.len()), (Some("10"), 0));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
    })
    .await;
}

#[tokio::test]
async fn end_2_an_unknown_blob_is_404() {
    each(async |site| {
        let name = fresh();
        site.put(&name, b"some bytes").await;
        let path = format!("/v2/{name}/blobs/{}", site.digest(b"others"));
        site.get(&path).await.is(&[404]).says(&["BLOB_UNKNOWN"]);
        site.head(&path).await.is(&[404]);
    })
    .await;
}

#[tokio::test]
async fn end_2_an_empty_blob_is_a_blob() {
    each(async |site| {
        let name = fresh();
        let digest = site.put(&name, b"").await;
        let path = format!("/v2/{name}/blobs/{digest}");
        for answer in [site.get(&path).await, site.head(&path).await] {
            let answer = answer.is(&[200]);
            assert_eq!((answer.header("content-length"), answer.body.len()), (Some("0"), 0));
        }
    })
    .await;
}

#[tokio::test]
async fn end_2_one_range_is_answered_with_its_bytes() {
    each(async |site| {
        let name = fresh();
        let path = format!("/v2/{name}/blobs/{}", site.put(&name, b"0123456789").await);
        for (range, body, content_range) in [
            ("bytes=2-5", "2345", "bytes 2-5/10"),
            ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=-3", "789", "bytes 7-9/10"),
            ("bytes=8-99", "89", "bytes 8-9/10"),
            ("bytes=0-0", "0", "bytes 0-0/10"),
        ] {
            let answer = site.send("GET", &path, &[("Range", range)], b"").await.is(&[206]);
            assert_eq!(answer.body, body.as_bytes(), "{range}");
            assert_eq!(answer.header("content-range"), Some(content_range), "{range}");
        }
    })
    .await;
}

#[tokio::test]
async fn end_2_a_range_outside_of_the_blob_is_416() {
    each(async |site| {
        let name = fresh();
        let path = format!("/v2/{name}/blobs/{}", site.put(&name, b"0123456789").await);
        let answer = site.send("GET", &path, &[("Range", "bytes=10-")], b"").await.is(&[416]);
        assert_eq!(answer.header("content-range"), Some("bytes */10"));
    })
    .await;
}

#[tokio::test]
async fn end_2_a_range_that_ends_before_it_begins_is_416_or_ignored() {
    each(async |site| {
        let name = fresh();
        let path = format!("/v2/{name}/blobs/{}", site.put(&name, b"0123456789").await);
        let answer = site.send("GET", &path, &[("Range", "bytes=5-0")], b"").await;
        // RFC 9110 allows both; the official conformance program counts the second as a missing feature.
        let answer = answer.is(if site.ours { &[416] } else { &[416, 200] });
        match answer.status {
            416 => assert_eq!(answer.header("content-range").unwrap_or("bytes */10"), "bytes */10"),
            _ => assert_eq!(answer.body, b"0123456789"),
        }
    })
    .await;
}

#[tokio::test]
async fn end_2_ranges_that_are_none_are_ignored() {
    each(async |site| {
        let name = fresh();
        let path = format!("/v2/{name}/blobs/{}", site.put(&name, b"0123456789").await);
        for range in ["bytes=x", "pages=1-2"] {
            let answer = site.send("GET", &path, &[("Range", range)], b"").await.is(&[200]);
            assert_eq!(answer.body, b"0123456789", "{range}");
        }
        // Several are answered with several, or with everything.
        let several = site.send("GET", &path, &[("Range", "bytes=0-1,4-5")], b"").await.is(&[200, 206]);
        assert!(several.status == 206 || several.body == b"0123456789");
    })
    .await;
}

#[tokio::test]
async fn end_2_entity_tags_are_honoured() {
    each(async |site| {
        let name = fresh();
        let path = format!("/v2/{name}/blobs/{}", site.put(&name, b"0123456789").await);
        let Some(etag) = site.head(&path).await.header("etag").map(str::to_owned) else { return };
        let same = site.send("GET", &path, &[("If-None-Match", &etag)], b"").await.is(&[304]);
        assert!(same.body.is_empty());
        site.send("GET", &path, &[("If-None-Match", "\"other\"")], b"").await.is(&[200]);
        let headers = [("Range", "bytes=0-1"), ("If-Range", etag.as_str())];
        site.send("GET", &path, &headers, b"").await.is(&[206]);
        let headers = [("Range", "bytes=0-1"), ("If-Range", "\"other\"")];
        site.send("GET", &path, &headers, b"").await.is(&[200]);
    })
    .await;
}

#[tokio::test]
async fn end_10_a_deleted_blob_is_gone() {
    each(async |site| {
        let name = fresh();
        let path = format!("/v2/{name}/blobs/{}", site.put(&name, b"some bytes").await);
        site.send("DELETE", &path, &[], b"").await.is(&[202]);
        site.get(&path).await.is(&[404]);
        site.head(&path).await.is(&[404]);
        site.send("DELETE", &path, &[], b"").await.is(&[404]).says(&["BLOB_UNKNOWN", "NAME_UNKNOWN"]);
    })
    .await;
}

#[tokio::test]
async fn end_10_a_blob_may_come_again() {
    each(async |site| {
        let name = fresh();
        let path = format!("/v2/{name}/blobs/{}", site.put(&name, b"some bytes").await);
        site.send("DELETE", &path, &[], b"").await.is(&[202]);
        site.put(&name, b"some bytes").await;
        assert_eq!(site.get(&path).await.is(&[200]).body, b"some bytes");
    })
    .await;
}
