use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blob_core::Digest;
use blob_registry::server::Auth;
use blob_registry::{MemoryRegistry, Server, ServerHandle};

use super::{blob, start};
use crate::wire::Wire;

async fn guarded(auth: Auth) -> (ServerHandle, Wire, MemoryRegistry) {
    let registry = MemoryRegistry::new();
    let server = Server::builder(Arc::new(registry.clone())).auth(auth).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    (server, wire, registry)
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

async fn status(wire: Wire, method: &str, path: &str, authorization: &str) -> u16 {
    let headers = [("Authorization", authorization)];
    let headers = if authorization.is_empty() { &headers[..0] } else { &headers[..] };
    wire.send(method, path, headers, b"").await.status
}

#[tokio::test]
async fn basic_credentials_separate_readers_from_writers() {
    let (_server, wire, registry) = guarded(Auth::basic("test").user("ann", "a:b").reader("bob", "c")).await;
    let path = format!("/v2/a/blobs/{}", blob(&registry, "a", b"x").await);
    let answer = wire.get("/v2/").await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHORIZED"));
    assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"test\", charset=\"UTF-8\""));
    for (credentials, read, write) in
        [("ann:a:b", 200, 202), ("bob:c", 200, 403), ("ann:c", 401, 401), ("", 401, 401), ("ann:a:b ", 401, 401)]
    {
        let authorization = basic(credentials);
        assert_eq!(status(wire, "GET", &path, &authorization).await, read, "{credentials}");
        assert_eq!(status(wire, "POST", "/v2/a/blobs/uploads/", &authorization).await, write, "{credentials}");
    }
    for malformed in ["Basic", "Basic !", "Bearer x", "basic"] {
        assert_eq!(status(wire, "GET", &path, malformed).await, 401, "{malformed}");
    }
    assert_eq!(status(wire, "GET", "/token?service=test", &basic("ann:a:b")).await, 404);
}

#[tokio::test]
async fn tokens_allow_what_they_were_issued_for() {
    let auth = Auth::bearer("reg").user("ann", "p").reader("bob", "p");
    let (_server, wire, registry) = guarded(auth).await;
    let path = format!("/v2/a/b/blobs/{}", blob(&registry, "a/b", b"x").await);
    let answer = wire.send("POST", "/v2/a/b/blobs/uploads/", &[], b"").await;
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"reg\"", wire.0);
    let expected = format!("{realm},scope=\"repository:a/b:pull,push\"");
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some(expected.as_str())));
    assert_eq!(wire.get("/v2/").await.header("www-authenticate"), Some(realm.as_str()));

    let token = |credentials: &'static str, scope: &'static str| async move {
        let headers = [("Authorization", basic(credentials))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = wire.send("GET", &format!("/token?service=reg&scope={scope}"), &headers, b"").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["expires_in"], 300);
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    };
    let upload = "/v2/a/b/blobs/uploads/";
    let pull = token("ann:p", "repository:a/b:pull").await;
    assert_eq!(status(wire, "GET", &path, &pull).await, 200);
    assert_eq!(status(wire, "POST", upload, &pull).await, 401);
    assert_eq!(status(wire, "GET", "/v2/", &pull).await, 200);
    assert_eq!(status(wire, "GET", "/v2/_catalog", &pull).await, 401);
    let push = token("ann:p", "repository:a/b:pull,push").await;
    assert_eq!(status(wire, "POST", upload, &push).await, 202);
    assert_eq!(status(wire, "POST", "/v2/other/blobs/uploads/", &push).await, 401);
    assert_eq!(status(wire, "DELETE", &path, &push).await, 401);
    let reader = token("bob:p", "repository:a/b:pull,push").await;
    assert_eq!(status(wire, "GET", &path, &reader).await, 200);
    assert_eq!(status(wire, "POST", upload, &reader).await, 401);
    let catalog = token("bob:p", "registry:catalog:*").await;
    assert_eq!(status(wire, "GET", "/v2/_catalog", &catalog).await, 200);

    assert_eq!(status(wire, "GET", "/token?service=reg", &basic("ann:wrong")).await, 401);
    assert_eq!(status(wire, "GET", "/token?service=reg", "").await, 401);
    assert_eq!(status(wire, "GET", "/token?service=other", &basic("ann:p")).await, 400);
    for wrong in ["Bearer x", "Bearer", &basic("ann:p")] {
        assert_eq!(status(wire, "GET", &path, wrong).await, 401, "{wrong}");
    }
}

#[tokio::test]
async fn a_mount_does_not_tell_what_one_may_not_read() {
    let (_server, wire, registry) = guarded(Auth::bearer("reg").user("ann", "p")).await;
    let digest = blob(&registry, "secret", b"x").await;
    for (scope, query, expected) in [
        ("repository:a:pull,push", format!("mount={digest}&from=secret"), 202),
        ("repository:a:pull,push", format!("mount={digest}"), 202),
        ("repository:a:pull,push&scope=repository:secret:pull", format!("mount={digest}&from=secret"), 201),
    ] {
        let authorization = basic("ann:p");
        let answer =
            wire.send("GET", &format!("/token?scope={scope}"), &[("Authorization", &authorization)], b"").await;
        let token = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
        let path = format!("/v2/a/blobs/uploads/?{query}");
        assert_eq!(status(wire, "POST", &path, &token).await, expected, "{scope} {query}");
    }
}

#[tokio::test]
async fn tokens_expire_and_anonymous_readers_need_one() {
    let auth = Auth::bearer("reg").anonymous_pull().token_lifetime(Duration::ZERO);
    let (_server, wire, registry) = guarded(auth).await;
    let path = format!("/v2/a/blobs/{}", blob(&registry, "a", b"x").await);
    let answer = wire.get("/token?scope=repository:a:pull").await;
    let expired = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
    assert_eq!(status(wire, "GET", &path, &expired).await, 401);
    let (_server, wire, registry) = guarded(Auth::bearer("reg").anonymous_pull()).await;
    blob(&registry, "a", b"x").await;
    let answer = wire.get("/token?scope=repository:a:pull,push").await;
    let token = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
    assert_eq!(status(wire, "GET", &path, &token).await, 200);
    assert_eq!(status(wire, "POST", "/v2/a/blobs/uploads/", &token).await, 401);
}

#[tokio::test]
async fn a_read_only_server_changes_nothing() {
    let (_open, _, registry) = start().await;
    let path = format!("/v2/a/blobs/{}", blob(&registry, "a", b"x").await);
    let server = Server::builder(Arc::new(registry)).read_only(true).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    let upload = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256_of(b""));
    for (method, path) in [("DELETE", path.as_str()), ("POST", &upload), ("PUT", "/v2/a/manifests/x")] {
        let answer = wire.send(method, path, &[], b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "UNSUPPORTED"), "{method}");
    }
    assert_eq!(wire.get(&path).await.status, 200);
}
