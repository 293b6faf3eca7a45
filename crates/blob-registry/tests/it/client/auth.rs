//! Challenges, tokens, credentials: who gets to see them, and how often they are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use blob_core::{Digest, MemorySource};
use blob_registry::client::{Admission, Credential, Credentials, CredentialsError, RegistryClient, Static};
use blob_registry::{
    ErrorCode, ImageManifest, PushBlob, PushManifest, Registry, RegistryError, Repository, media_type,
};
use futures_util::future::join_all;

use super::{builder, by_tag, client, repository};
use blob_testkit::hostile::{Reply, Script, Seen};

const NAME: &str = "team/app";

fn manifest() -> Reply {
    let bytes = ImageManifest::artifact("a/b", vec![]).to_bytes();
    Reply::new(200).header("Content-Type", media_type::IMAGE_MANIFEST).body(bytes)
}

fn login(client: &Script) -> Static {
    Static::new().with(client.addr.to_string(), Credential::basic("user", "password"))
}

async fn read(client: &RegistryClient) -> Result<(), RegistryError> {
    client.manifest(&repository(NAME), &by_tag("v1")).await.map(drop)
}

/// A registry with a token service at `/token`; tokens are `t0`, `t1`, … and `accept` says which are good.
async fn registry(accept: impl Fn(usize) -> bool + Send + Sync + 'static, life: &'static str) -> Script {
    let issued = AtomicUsize::new(0);
    Script::start(move |seen| {
        if seen.path == "/token" {
            let serial = issued.fetch_add(1, Ordering::SeqCst);
            return Reply::new(200).json(format!(r#"{{"token":"t{serial}"{life}}}"#));
        }
        let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer t"));
        match token.map(|serial| serial.parse().unwrap()) {
            Some(serial) if accept(serial) => manifest(),
            _ => challenge(seen),
        }
    })
    .await
}

fn challenge(seen: &Seen) -> Reply {
    let host = seen.header("host").unwrap();
    let value = format!(r#"Bearer realm="http://{host}/token",service="s",scope="repository:{NAME}:pull""#);
    Reply::new(401).header("WWW-Authenticate", "Negotiate").header("WWW-Authenticate", value)
}

#[tokio::test]
async fn a_token_is_fetched_once_for_many_requests_at_once() {
    let server = registry(|_| true, "").await;
    let client = builder(server.addr).credentials(login(&server)).build().unwrap();
    let results = join_all((0..16).map(|_| read(&client))).await;
    assert!(results.iter().all(Result::is_ok));
    let tokens: Vec<_> = server.seen().into_iter().filter(|seen| seen.path == "/token").collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].query, "service=s&scope=repository%3Ateam%2Fapp%3Apull");
    assert!(tokens[0].header("authorization").unwrap().starts_with("Basic "));
    // Now that the realm is known, another repository costs a token and no refusal.
    let before = server.seen().len();
    client.resolve(&repository("other"), &by_tag("v1")).await.unwrap();
    let after: Vec<_> = server.log().split_off(before);
    assert_eq!(after[0], "GET /token");
    assert_eq!(after[1], "HEAD /v2/other/manifests/v1");
}

#[tokio::test]
async fn a_push_asks_for_its_whole_scope_at_once() {
    let host = |seen: &Seen| seen.header("host").unwrap().to_owned();
    let server = Script::start(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
        (_, "/token") => Reply::new(200).json(r#"{"access_token":"t"}"#),
        _ if seen.header("authorization").is_none() => challenge(seen),
        ("HEAD", _) => Reply::new(404),
        ("POST", _) if seen.query.contains("digest=") => Reply::new(201),
        ("PUT", _) => Reply::new(201),
        _ => Reply::new(202).header("Location", format!("http://{}/x", host(seen))),
    })
    .await;
    let client = client(server.addr);
    let push = PushBlob::new(Digest::sha256_of(b"x"), Arc::new(MemorySource::new(&b"x"[..])));
    client.push_blob(&repository(NAME), push).await.unwrap();
    let bytes = ImageManifest::artifact("a/b", vec![]).to_bytes();
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, bytes).with_tags([super::tag("v1")]);
    client.push_manifest(&repository(NAME), push).await.unwrap();
    assert_eq!(server.count("GET", "/token"), 1, "{:?}", server.log());
    assert_eq!(server.seen().len(), 5, "refusal, token, HEAD, POST, PUT: {:?}", server.log());
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    // The first token is refused from its second use on.
    let uses = AtomicUsize::new(0);
    let server = registry(move |serial| serial > 0 || uses.fetch_add(1, Ordering::SeqCst) == 0, "").await;
    let client = builder(server.addr).credentials(login(&server)).build().unwrap();
    read(&client).await.unwrap();
    read(&client).await.unwrap();
    assert_eq!(server.count("GET", "/token"), 2);
    assert_eq!(server.seen().len(), 6, "{:?}", server.log());
}

#[tokio::test]
async fn a_second_refusal_is_an_error_with_advice() {
    let server = registry(|_| false, "").await;
    let client = builder(server.addr).credentials(login(&server)).build().unwrap();
    let error = read(&client).await.unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::Unauthorized);
    assert!(error.to_string().contains("log in"), "{error}");
    assert_eq!(server.seen().len(), 3, "{:?}", server.log());
}

#[tokio::test]
async fn a_403_for_an_old_token_gets_one_new_token() {
    let calls = AtomicUsize::new(0);
    let server = Script::start(move |seen| match seen.path.as_str() {
        "/token" => Reply::new(200).json(r#"{"token":"t"}"#),
        _ if seen.header("authorization").is_none() => challenge(seen),
        path if path.ends_with("never") => Reply::new(403),
        _ if calls.fetch_add(1, Ordering::SeqCst) == 1 => Reply::new(403),
        _ => manifest(),
    })
    .await;
    let client = client(server.addr);
    read(&client).await.unwrap();
    read(&client).await.unwrap();
    assert_eq!(server.count("GET", "/token"), 2);
    let before = server.seen().len();
    let error = client.manifest(&repository(NAME), &by_tag("never")).await.unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::Denied);
    assert_eq!(server.seen().len() - before, 3, "one new token and one more try");
}

#[tokio::test]
async fn a_token_about_to_expire_is_not_used() {
    let server = registry(|_| true, r#","expires_in":0.000001"#).await;
    let client = client(server.addr);
    read(&client).await.unwrap();
    read(&client).await.unwrap();
    let log = server.log();
    assert_eq!(server.count("GET", "/token"), 2);
    assert_eq!(log.len(), 5, "renewed before the registry had to say so: {log:?}");
}

#[tokio::test]
async fn an_identity_token_is_exchanged_and_never_shown_to_the_registry() {
    for oauth in [true, false] {
        let server = Script::start(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
            ("POST", "/token") if oauth => Reply::new(200).json(r#"{"access_token":"t","expires_in":300}"#),
            ("POST", "/token") => Reply::new(405),
            ("GET", "/token") => Reply::new(200).json(r#"{"token":"t"}"#),
            _ if seen.header("authorization") == Some("Bearer t") => manifest(),
            _ => challenge(seen),
        })
        .await;
        let credentials = Static::new().with(server.addr.to_string(), Credential::identity_token("refresh-me"));
        let client = builder(server.addr).credentials(credentials).build().unwrap();
        read(&client).await.unwrap();
        let seen = server.seen();
        let post = seen.iter().find(|seen| seen.method == "POST").unwrap();
        let form = String::from_utf8(post.body.clone()).unwrap();
        assert!(form.contains("grant_type=refresh_token") && form.contains("refresh_token=refresh-me"), "{form}");
        assert!(form.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{form}");
        assert_eq!(server.count("GET", "/token"), usize::from(!oauth));
        for seen in seen.iter().filter(|seen| seen.path != "/token") {
            assert!(seen.header("authorization").is_none_or(|value| value == "Bearer t"));
        }
    }
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    let server = Script::start(|seen| match seen.header("authorization") {
        Some("Bearer given") => manifest(),
        _ => challenge(seen),
    })
    .await;
    let credentials = Static::new().with(server.addr.to_string(), Credential::registry_token("given"));
    let client = builder(server.addr).credentials(credentials).build().unwrap();
    read(&client).await.unwrap();
    read(&client).await.unwrap();
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn bearer_comes_before_basic_and_passwords_stay_with_the_realm() {
    let server = Script::start(|seen| match (seen.path.as_str(), seen.header("authorization")) {
        ("/token", Some(_)) => Reply::new(200).json(r#"{"token":"t"}"#),
        (_, Some("Bearer t")) => manifest(),
        _ => {
            let host = seen.header("host").unwrap();
            let both = format!(r#"Basic realm="r", Bearer realm="http://{host}/token",service="s""#);
            Reply::new(401).header("WWW-Authenticate", both)
        }
    })
    .await;
    let client = builder(server.addr).credentials(login(&server)).build().unwrap();
    read(&client).await.unwrap();
    let basic = |seen: &&Seen| seen.header("authorization").is_some_and(|value| value.starts_with("Basic"));
    assert!(server.seen().iter().filter(basic).all(|seen| seen.path == "/token"));
}

#[tokio::test]
async fn realms_that_must_not_be_are_refused_before_anything_is_sent() {
    for realm in [
        "http://169.254.169.254/latest/meta-data",
        "http://metadata.google.internal/token",
        "http://10.0.0.1/token",
        "ftp://127.0.0.1/token",
        "not a url",
    ] {
        let server =
            Script::start(move |_| Reply::new(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\"")))
                .await;
        let client = builder(server.addr).credentials(login(&server)).build().unwrap();
        let error = read(&client).await.unwrap_err();
        assert!(matches!(error, RegistryError::Credentials { .. }), "{realm}: {error:?}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_token_service_cannot_pass_the_password_on() {
    let thief = Script::start(|_| Reply::new(200).json(r#"{"token":"t"}"#)).await;
    let to = thief.addr;
    let server = Script::start(move |seen| match seen.path.as_str() {
        "/token" => Reply::new(307).header("Location", format!("http://{to}/token")),
        _ => challenge(seen),
    })
    .await;
    let client = builder(server.addr).credentials(login(&server)).build().unwrap();
    assert!(read(&client).await.is_err());
    assert!(thief.seen().is_empty());
}

#[tokio::test]
async fn token_services_that_refuse_or_babble_are_named() {
    for (reply, code) in [
        (Reply::new(401).json(r#"{"errors":[{"message":"wrong password password"}]}"#), ErrorCode::Unauthorized),
        (Reply::new(403), ErrorCode::Denied),
        (Reply::new(200).json("{}"), ErrorCode::Unauthorized),
        (Reply::new(200).body("<html>"), ErrorCode::Unauthorized),
        (Reply::new(200).json(format!(r#"{{"token":"{}"}}"#, "x".repeat(200_000))), ErrorCode::SizeInvalid),
    ] {
        let server = Script::start(move |seen| match seen.path.as_str() {
            "/token" => reply.clone(),
            _ => challenge(seen),
        })
        .await;
        let client = builder(server.addr).credentials(login(&server)).build().unwrap();
        let error = read(&client).await.unwrap_err();
        assert_eq!(error.error_code(), code, "{error}");
        assert!(!error.to_string().contains("wrong password password"), "{error}");
    }
}

/// A helper that is broken.
#[derive(Debug)]
struct Broken;

#[async_trait]
impl Credentials for Broken {
    async fn lookup(&self, _: &str, _: Option<&Repository>) -> Result<Option<Credential>, CredentialsError> {
        Err(CredentialsError::Other("the helper is broken".into()))
    }
}

#[tokio::test]
async fn what_anybody_may_read_is_read_without_a_working_helper() {
    let server = registry(|_| true, "").await;
    let client = builder(server.addr).credentials(Broken).build().unwrap();
    read(&client).await.unwrap();
    let error = client.delete_tag(&repository(NAME), &super::tag("v1")).await.unwrap_err();
    assert!(error.to_string().contains("the helper is broken"), "{error}");
    let closed = Script::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=r")).await;
    let client = builder(closed.addr).credentials(Broken).build().unwrap();
    let error = read(&client).await.unwrap_err();
    assert!(error.is_unauthorized() && error.to_string().contains("the helper is broken"), "{error}");
}

#[tokio::test]
async fn a_token_that_ends_inside_a_transfer_is_replaced() {
    let content = super::noise(100_000);
    let digest = Digest::sha256_of(&content);
    let (bytes, tokens) = (content.clone(), AtomicUsize::new(0));
    let server = Script::start(move |seen| {
        if seen.path == "/token" {
            let serial = tokens.fetch_add(1, Ordering::SeqCst);
            return Reply::new(200).json(format!(r#"{{"token":"t{serial}"}}"#));
        }
        match (seen.header("authorization"), seen.range()) {
            (Some("Bearer t0"), None) => Reply::content(seen, &bytes).cut(40_000),
            (Some("Bearer t1"), Some(range)) if range.start == 40_000 => Reply::content(seen, &bytes),
            _ => challenge(seen),
        }
    })
    .await;
    let reader = client(server.addr).read_blob(&repository(NAME), &digest, None).await.unwrap();
    assert!(super::whole(reader).await.unwrap() == content);
    assert_eq!(server.count("GET", "/token"), 2);
}

#[tokio::test]
async fn who_will_push_reads_with_the_same_token() {
    let server = registry(|_| true, "").await;
    let client = builder(server.addr).credentials(login(&server)).build().unwrap();
    client.will_push(&repository(NAME));
    read(&client).await.unwrap();
    let tokens: Vec<_> = server.seen().into_iter().filter(|seen| seen.path == "/token").collect();
    assert_eq!(tokens[0].query, "service=s&scope=repository%3Ateam%2Fapp%3Apull%2Cpush");
}

#[tokio::test]
async fn a_thousand_small_blobs_ask_for_one_token() {
    let server = Script::start(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
        (_, "/token") => Reply::new(200).json(r#"{"access_token":"t","expires_in":300}"#),
        _ if seen.header("authorization").is_none() => challenge(seen),
        ("HEAD", _) => Reply::new(404),
        ("POST", _) => Reply::new(201),
        _ => Reply::new(500),
    })
    .await;
    let client = client(server.addr);
    let name = repository(NAME);
    for group in 0..50_u32 {
        let pushes = (0..20_u32).map(|number| {
            let bytes = (group * 20 + number).to_le_bytes().to_vec();
            client.push_blob(&name, PushBlob::new(Digest::sha256_of(&bytes), Arc::new(MemorySource::new(bytes))))
        });
        assert!(join_all(pushes).await.iter().all(Result::is_ok));
    }
    assert_eq!(server.count("GET", "/token"), 1);
    assert_eq!(server.count("POST", "/blobs/uploads/"), 1000);
}

#[tokio::test]
async fn an_admission_is_asked_for_and_told() {
    let server = registry(|serial| serial > 0, "").await;
    let refused = client(server.addr).authenticate().await.unwrap_err();
    assert_eq!(refused.error_code(), ErrorCode::Unauthorized, "the first token is not good");
    assert_eq!(client(server.addr).authenticate().await.unwrap(), Admission::Admitted);
    for (reply, expected) in
        [(Reply::new(200), Some(Admission::Open)), (Reply::new(404), None), (Reply::new(500), None)]
    {
        let server = Script::start(move |_| reply.clone()).await;
        assert_eq!(client(server.addr).authenticate().await.ok(), expected);
        assert!(server.log().iter().all(|line| line == "GET /v2/"), "{:?}", server.log());
    }
}

/// A token service that is down for a moment is waited for; one that stays down is an error that names it and no secret.
#[tokio::test]
async fn token_services_that_fail_are_waited_for_and_told() {
    let token = || Reply::new(200).json(r#"{"token":"t0"}"#);
    let passing: [(&str, Reply); 6] = [
        ("500", Reply::new(500)),
        ("503 and when", Reply::new(503).header("Retry-After", 0)),
        ("429 and when", Reply::new(429).header("Retry-After", 0)),
        ("504", Reply::new(504)),
        ("cut before the body", token().cut(0)),
        ("cut inside the body", token().cut(5)),
    ];
    for (what, failure) in passing {
        let calls = AtomicUsize::new(0);
        let server = Script::start(move |seen| match (seen.path.as_str(), seen.header("authorization")) {
            ("/token", _) if calls.fetch_add(1, Ordering::SeqCst) < 2 => failure.clone(),
            ("/token", _) => token(),
            (_, Some("Bearer t0")) => manifest(),
            _ => challenge(seen),
        })
        .await;
        let client = builder(server.addr).credentials(login(&server)).build().unwrap();
        read(&client).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(server.count("GET", "/token") + server.count("POST", "/token"), 3, "{what}");
    }
    for (what, failure) in [("500", Reply::new(500)), ("cut", token().cut(3)), ("429", Reply::new(429))] {
        let server = Script::start(move |seen| match seen.path.as_str() {
            "/token" => failure.clone(),
            _ => challenge(seen),
        })
        .await;
        let client = builder(server.addr).credentials(login(&server)).build().unwrap();
        let error = read(&client).await.unwrap_err();
        assert!(error.is_transient(), "{what}: {error:?}");
        let text = super::everything(&error);
        assert!(text.contains("token"), "{what}: {text}");
        assert!(!text.contains("password"), "{what}: {text}");
        assert!(server.seen().len() < 12, "{what}: {:?}", server.log());
    }
    // Nobody listens there.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let realm = format!(r#"Bearer realm="http://{closed}/token",service="s""#);
    let server = Script::start(move |_| Reply::new(401).header("WWW-Authenticate", &realm)).await;
    let client = builder(server.addr).credentials(login(&server)).build().unwrap();
    let error = read(&client).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(!super::everything(&error).contains("password"), "{error:?}");
}
