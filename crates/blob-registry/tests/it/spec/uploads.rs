//! end-4, end-5, end-6, end-11, end-13, end-14: pushing blobs.

use super::site::{OCTETS, each, fresh, with};

#[tokio::test]
async fn end_4a_a_post_opens_a_session() {
    each(async |site| {
        let name = fresh();
        let answer = site.send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"").await.is(&[202]);
        assert!(!answer.location().is_empty());
    })
    .await;
}

#[tokio::test]
async fn end_4b_a_blob_is_pushed_in_one_post() {
    each(async |site| {
        let (name, digest) = (fresh(), site.digest(b"at once"));
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = site.send("POST", &path, &[OCTETS], b"at once").await.is(&[201, 202]);
        if answer.status == 202 {
            // Registries may decline and open a session.
            site.send("PUT", &with(&answer.location(), &format!("digest={digest}")), &[OCTETS], b"at once")
                .await
                .is(&[201]);
        } else {
            assert_eq!(site.get(&answer.location()).await.is(&[200]).body, b"at once");
        }
        assert_eq!(site.get(&format!("/v2/{name}/blobs/{digest}")).await.is(&[200]).body, b"at once");
    })
    .await;
}

#[tokio::test]
async fn end_4b_a_wrong_digest_is_refused() {
    each(async |site| {
        let (name, digest) = (fresh(), site.digest(b"others"));
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = site.send("POST", &path, &[OCTETS], b"at once").await.is(&[400, 202]);
        if answer.status == 400 {
            answer.says(&["DIGEST_INVALID"]);
        }
        site.head(&format!("/v2/{name}/blobs/{digest}")).await.is(&[404]);
    })
    .await;
}

#[tokio::test]
async fn end_4c_the_algorithm_may_be_announced() {
    each(async |site| {
        let name = fresh();
        let path = format!("/v2/{name}/blobs/uploads/?digest-algorithm={}", site.algorithm.name());
        let session = site.send("POST", &path, &[], b"").await.is(&[202]).location();
        let digest = site.digest(b"announced");
        let answer = site.send("PATCH", &session, &[OCTETS], b"announced").await.is(&[202]);
        site.send("PUT", &with(&answer.location(), &format!("digest={digest}")), &[], b"").await.is(&[201]);
        site.head(&format!("/v2/{name}/blobs/{digest}")).await.is(&[200]);
        if site.ours {
            let path = format!("/v2/{name}/blobs/uploads/?digest-algorithm=md5");
            site.send("POST", &path, &[], b"").await.is(&[400]).says(&["UNSUPPORTED"]);
        }
    })
    .await;
}

#[tokio::test]
async fn end_6_a_blob_is_pushed_by_post_and_put() {
    each(async |site| {
        let (name, digest) = (fresh(), site.digest(b"in two steps"));
        let session = site.session(&name).await;
        let put = with(&session, &format!("digest={digest}"));
        let answer = site.send("PUT", &put, &[OCTETS], b"in two steps").await.is(&[201]);
        assert_eq!(site.get(&answer.location()).await.is(&[200]).body, b"in two steps");
        assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
    })
    .await;
}

#[tokio::test]
async fn end_6_a_wrong_digest_is_refused() {
    each(async |site| {
        let (name, digest) = (fresh(), site.digest(b"others"));
        let put = with(&site.session(&name).await, &format!("digest={digest}"));
        site.send("PUT", &put, &[OCTETS], b"bytes").await.is(&[400]).says(&["DIGEST_INVALID"]);
        site.head(&format!("/v2/{name}/blobs/{digest}")).await.is(&[404]);
        site.head(&format!("/v2/{name}/blobs/{}", site.digest(b"bytes"))).await.is(&[404]);
        for malformed in ["digest=sha256:abc", "digest=md5:00", "digest=", "x=y"] {
            let put = with(&site.session(&name).await, malformed);
            site.send("PUT", &put, &[OCTETS], b"bytes").await.is(&[400]).says(&["DIGEST_INVALID"]);
        }
    })
    .await;
}

/// `Content-Range` of `bytes` at `start`.
fn range(start: usize, bytes: &[u8]) -> String {
    format!("{start}-{}", start + bytes.len() - 1)
}

#[tokio::test]
async fn end_5_chunks_are_put_together() {
    each(async |site| {
        let (name, whole) = (fresh(), b"first second third");
        let mut session = site.session(&name).await;
        for (start, chunk) in [(0, &b"first "[..]), (6, b"second ")] {
            let range = range(start, chunk);
            let headers = [OCTETS, ("Content-Range", range.as_str())];
            let answer = site.send("PATCH", &session, &headers, chunk).await.is(&[202]);
            let end = start + chunk.len() - 1;
            assert_eq!(answer.header("range"), Some(format!("0-{end}").as_str()));
            session = answer.location();
        }
        let digest = site.digest(whole);
        let range = range(13, b"third");
        let headers = [OCTETS, ("Content-Range", range.as_str())];
        let put = with(&session, &format!("digest={digest}"));
        site.send("PUT", &put, &headers, b"third").await.is(&[201]);
        assert_eq!(site.get(&format!("/v2/{name}/blobs/{digest}")).await.is(&[200]).body, whole);
    })
    .await;
}

#[tokio::test]
async fn end_5_a_stream_needs_no_range_and_the_put_no_body() {
    each(async |site| {
        let name = fresh();
        let session = site.session(&name).await;
        let session = site.send("PATCH", &session, &[OCTETS], b"streamed").await.is(&[202]).location();
        let digest = site.digest(b"streamed");
        site.send("PUT", &with(&session, &format!("digest={digest}")), &[], b"").await.is(&[201]);
        assert_eq!(site.get(&format!("/v2/{name}/blobs/{digest}")).await.is(&[200]).body, b"streamed");
    })
    .await;
}

#[tokio::test]
async fn end_5_a_chunk_out_of_order_is_416_and_the_session_goes_on() {
    each(async |site| {
        let name = fresh();
        let session = site.session(&name).await;
        let headers = [OCTETS, ("Content-Range", "3-5")];
        site.send("PATCH", &session, &headers, b"def").await.is(&[416]);
        let headers = [OCTETS, ("Content-Range", "0-2")];
        let session = site.send("PATCH", &session, &headers, b"abc").await.is(&[202]).location();
        // The same again, and one that leaves a gap.
        site.send("PATCH", &session, &headers, b"abc").await.is(&[416]);
        site.send("PATCH", &session, &[OCTETS, ("Content-Range", "4-6")], b"efg").await.is(&[416]);
        let status = site.get(&session).await.is(&[204]);
        assert_eq!(status.header("range"), Some("0-2"));
        let answer =
            site.send("PATCH", &status.location(), &[OCTETS, ("Content-Range", "3-5")], b"def").await.is(&[202]);
        let digest = site.digest(b"abcdef");
        site.send("PUT", &with(&answer.location(), &format!("digest={digest}")), &[], b"").await.is(&[201]);
    })
    .await;
}

#[tokio::test]
async fn end_6_a_last_chunk_out_of_order_is_416() {
    each(async |site| {
        let name = fresh();
        let session = site.session(&name).await;
        let headers = [OCTETS, ("Content-Range", "0-2")];
        let session = site.send("PATCH", &session, &headers, b"abc").await.is(&[202]).location();
        let digest = site.digest(b"abcdef");
        let put = with(&session, &format!("digest={digest}"));
        site.send("PUT", &put, &[OCTETS, ("Content-Range", "4-6")], b"def").await.is(&[416]);
        let session = site.get(&session).await.is(&[204]).location();
        let put = with(&session, &format!("digest={digest}"));
        site.send("PUT", &put, &[OCTETS, ("Content-Range", "3-5")], b"def").await.is(&[201]);
    })
    .await;
}

#[tokio::test]
async fn end_11_a_blob_is_mounted() {
    each(async |site| {
        let (from, to) = (fresh(), fresh());
        let digest = site.put(&from, b"mounted").await;
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        let answer = site.send("POST", &path, &[], b"").await.is(&[201, 202]);
        if site.ours {
            assert_eq!(answer.status, 201);
        }
        if answer.status == 201 {
            assert_eq!(site.get(&answer.location()).await.is(&[200]).body, b"mounted");
            assert_eq!(site.get(&format!("/v2/{to}/blobs/{digest}")).await.is(&[200]).body, b"mounted");
        }
        // What is deleted in one is not in the other.
        site.send("DELETE", &format!("/v2/{from}/blobs/{digest}"), &[], b"").await.is(&[202]);
        if answer.status == 201 {
            site.head(&format!("/v2/{to}/blobs/{digest}")).await.is(&[200]);
        }
    })
    .await;
}

#[tokio::test]
async fn end_11_a_mount_from_anywhere_is_a_mount_or_a_session() {
    each(async |site| {
        let (from, to) = (fresh(), fresh());
        let digest = site.put(&from, b"mounted from anywhere").await;
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}");
        let answer = site.send("POST", &path, &[], b"").await.is(&[201, 202]);
        if site.ours {
            assert_eq!(answer.status, 201);
        }
        assert!(!answer.location().is_empty());
    })
    .await;
}

#[tokio::test]
async fn end_11_a_mount_of_what_is_not_there_is_a_session_that_works() {
    each(async |site| {
        let (from, to) = (fresh(), fresh());
        site.put(&from, b"something else").await;
        let digest = site.digest(b"not there");
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        let session = site.send("POST", &path, &[], b"").await.is(&[202]).location();
        site.send("PUT", &with(&session, &format!("digest={digest}")), &[OCTETS], b"not there").await.is(&[201]);
        site.head(&format!("/v2/{to}/blobs/{digest}")).await.is(&[200]);
    })
    .await;
}

#[tokio::test]
async fn end_13_a_session_tells_where_it_stands() {
    each(async |site| {
        let name = fresh();
        let session = site.session(&name).await;
        assert!(!site.get(&session).await.is(&[204]).location().is_empty());
        let session = site.send("PATCH", &session, &[OCTETS], b"0123456789").await.is(&[202]).location();
        let status = site.get(&session).await.is(&[204]);
        assert_eq!(status.header("range"), Some("0-9"));
        let digest = site.digest(b"0123456789");
        site.send("PUT", &with(&status.location(), &format!("digest={digest}")), &[], b"").await.is(&[201]);
        // A session ends with its blob.
        site.get(&session).await.is(&[404]).says(&["BLOB_UPLOAD_UNKNOWN"]);
    })
    .await;
}

#[tokio::test]
async fn end_14_a_cancelled_session_is_gone() {
    each(async |site| {
        let name = fresh();
        let session = site.session(&name).await;
        let session = site.send("PATCH", &session, &[OCTETS], b"given up").await.is(&[202]).location();
        site.send("DELETE", &session, &[], b"").await.is(&[204]);
        for method in ["GET", "DELETE", "PATCH"] {
            site.send(method, &session, &[], b"").await.is(&[404]).says(&["BLOB_UPLOAD_UNKNOWN"]);
        }
        let put = with(&session, &format!("digest={}", site.digest(b"given up")));
        site.send("PUT", &put, &[], b"").await.is(&[404]);
    })
    .await;
}

#[tokio::test]
async fn end_13_a_session_that_never_was_is_404() {
    each(async |site| {
        let name = fresh();
        let session = site.session(&name).await;
        let other = session.replace(&name, &fresh());
        assert_ne!(session, other);
        for method in ["GET", "PATCH", "DELETE"] {
            let path = format!("/v2/{name}/blobs/uploads/0123456789abcdef");
            site.send(method, &path, &[], b"").await.is(&[404]).says(&["BLOB_UPLOAD_UNKNOWN"]);
            if site.ours {
                site.send(method, &other, &[], b"").await.is(&[404]);
            }
        }
    })
    .await;
}
