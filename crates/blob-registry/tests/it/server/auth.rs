use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blob_core::Digest;
use blob_registry::server::{Action, Auth, Rule, Who};
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

/// A token of `user`, whose password is `p`.
async fn token(wire: Wire, user: &str, scopes: &[&str]) -> String {
    let query: Vec<String> = scopes.iter().map(|scope| format!("scope={scope}")).collect();
    let authorization = basic(&format!("{user}:p"));
    let path = format!("/token?{}", query.join("&"));
    let answer = wire.send("GET", &path, &[("Authorization", &authorization)], b"").await;
    assert_eq!(answer.status, 200, "{user} {scopes:?}");
    format!("Bearer {}", answer.json()["token"].as_str().unwrap())
}

fn rule(user: &str, repositories: &[&str], actions: &[Action]) -> Rule {
    let repositories = repositories.iter().map(ToString::to_string).collect();
    Rule { who: Who::Named(vec![user.into()]), repositories, actions: actions.to_vec() }
}

#[tokio::test]
async fn a_mount_does_not_tell_what_one_may_not_read() {
    let rules = [
        rule("ann", &["a", "secret"], &[Action::Pull, Action::Push]),
        rule("bob", &["a"], &[Action::Pull, Action::Push]),
        rule("root", &["*"], &[Action::Pull, Action::Push]),
    ];
    let users = |auth: Auth| auth.user("ann", "p").user("bob", "p").user("root", "p").rules(rules.clone());
    let (_server, wire, registry) = guarded(users(Auth::bearer("reg"))).await;
    let digest = blob(&registry, "secret", b"x").await;
    let (to, from) = ("repository:a:pull,push", "repository:secret:pull");
    for (user, scopes, query, expected) in [
        ("ann", &[to][..], format!("mount={digest}&from=secret"), 401),
        ("ann", &[to, from], format!("mount={digest}&from=secret"), 201),
        ("ann", &[to], format!("mount={digest}"), 202),
        ("bob", &[to], format!("mount={digest}&from=secret"), 202),
        ("bob", &[to, from], format!("mount={digest}&from=secret"), 202),
        ("bob", &[to], format!("mount={digest}"), 202),
        ("root", &[to], format!("mount={digest}"), 201),
    ] {
        let path = format!("/v2/a/blobs/uploads/?{query}");
        let token = token(wire, user, scopes).await;
        let answer = wire.send("POST", &path, &[("Authorization", &token)], b"").await;
        assert_eq!(answer.status, expected, "{user} {scopes:?} {query}");
        if expected == 401 {
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.contains(&format!("scope=\"{to} {from}\"")), "{challenge}");
        }
    }
    // Credentials need no second round.
    let (_server, wire, registry) = guarded(users(Auth::basic("reg"))).await;
    let digest = blob(&registry, "secret", b"x").await;
    for (user, expected) in [("ann", 201), ("bob", 202)] {
        let path = format!("/v2/a/blobs/uploads/?mount={digest}&from=secret");
        assert_eq!(status(wire, "POST", &path, &basic(&format!("{user}:p"))).await, expected, "{user}");
    }
}

#[tokio::test]
async fn rules_hold_for_every_request_and_for_the_catalog() {
    let everybody = Rule { who: Who::Anybody, repositories: vec!["public/*".into()], actions: vec![Action::Pull] };
    let rules = [everybody, rule("ann", &["team/*"], &[Action::Pull, Action::Push])];
    let (_server, wire, registry) = guarded(Auth::basic("reg").user("ann", "p").user("bob", "p").rules(rules)).await;
    let paths = [blob(&registry, "public/a", b"x").await, blob(&registry, "team/b", b"x").await];
    blob(&registry, "secret/plans", b"x").await;
    blob(&registry, "zoo/b", b"x").await;
    let paths = [format!("/v2/public/a/blobs/{}", paths[0]), format!("/v2/team/b/blobs/{}", paths[1])];
    for (credentials, method, path, expected) in [
        ("", "GET", &paths[0], 200),
        ("", "DELETE", &paths[0], 401),
        ("", "GET", &paths[1], 401),
        ("ann:p", "GET", &paths[1], 200),
        ("ann:p", "DELETE", &paths[1], 403),
        ("bob:p", "GET", &paths[1], 403),
    ] {
        let authorization = if credentials.is_empty() { String::new() } else { basic(credentials) };
        assert_eq!(status(wire, method, path, &authorization).await, expected, "{credentials} {method} {path}");
    }
    for (credentials, expected) in
        [("ann:p", serde_json::json!(["public/a", "team/b"])), ("bob:p", serde_json::json!(["public/a"]))]
    {
        let answer = wire.send("GET", "/v2/_catalog", &[("Authorization", &basic(credentials))], b"").await;
        assert_eq!(answer.json()["repositories"], expected, "{credentials}");
        let mut seen = Vec::new();
        let mut next = Some("/v2/_catalog?n=1".to_owned());
        while let Some(path) = next.take() {
            let page = wire.send("GET", &path, &[("Authorization", &basic(credentials))], b"").await;
            seen.extend(page.json()["repositories"].as_array().unwrap().clone());
            let link = page.header("link").unwrap_or_default();
            assert!(!link.contains("secret") && !link.contains("zoo"), "a link tells no name that is hidden: {link}");
            next = link.split_once('>').map(|(path, _)| path.trim_start_matches('<').to_owned());
        }
        assert_eq!(serde_json::Value::from(seen), expected, "{credentials}");
    }
}

#[tokio::test]
async fn refresh_tokens_and_forms_get_tokens_too() {
    let (_server, wire, registry) = guarded(Auth::bearer("reg").user("ann", "p")).await;
    let path = format!("/v2/a/blobs/{}", blob(&registry, "a", b"x").await);
    let form = async |body: &str| {
        wire.send("POST", "/token", &[("Content-Type", "application/x-www-form-urlencoded")], body.as_bytes()).await
    };
    let first = form(
        "grant_type=password&service=reg&client_id=t&username=ann&password=p&access_type=offline\
         &scope=repository%3Aa%3Apull",
    );
    let first = first.await.json();
    assert_eq!(first["scope"], "repository:a:pull");
    let token = format!("Bearer {}", first["access_token"].as_str().unwrap());
    assert_eq!(status(wire, "GET", &path, &token).await, 200);
    assert!(first["issued_at"].as_str().unwrap().ends_with('Z'), "{first}");
    let refresh = first["refresh_token"].as_str().unwrap();
    let again = form(&format!("grant_type=refresh_token&refresh_token={refresh}&scope=repository:a:*")).await.json();
    assert_eq!(again["scope"], "repository:a:pull,push,delete");
    assert!(again.get("refresh_token").is_none(), "{again}");
    // A refresh token is no access token, and the other way round.
    assert_eq!(status(wire, "GET", &path, &format!("Bearer {refresh}")).await, 401);
    let access = first["access_token"].as_str().unwrap();
    for (body, expected) in [
        (format!("grant_type=refresh_token&refresh_token={access}"), 401),
        ("grant_type=password&username=ann&password=x".to_owned(), 401),
        ("grant_type=other".to_owned(), 400),
        ("service=other&grant_type=password&username=ann&password=p".to_owned(), 400),
        ("x".repeat(70_000), 413),
    ] {
        assert_eq!(form(&body).await.status, expected, "{}", &body[..body.len().min(80)]);
    }
    let answer = wire.send("GET", "/token?offline_token=true", &[("Authorization", &basic("ann:p"))], b"").await;
    assert!(answer.json()["refresh_token"].is_string());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
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
