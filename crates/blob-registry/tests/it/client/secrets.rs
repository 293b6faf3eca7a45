//! A canary in every place a secret can stand: it must not come up in any error or log.

use std::io::Write;
use std::sync::{Arc, Mutex};

use blob_core::{Digest, MemorySource};
use blob_registry::client::{Credential, RegistryClient, Static};
use blob_registry::{PageRequest, PushBlob, Registry};
use tracing_subscriber::fmt::MakeWriter;

use super::{builder, by_tag, everything, noise, repository, whole};
use blob_testkit::hostile::{Reply, Script};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Does one of everything and gathers what a user could see of it.
async fn shown(client: &RegistryClient) -> String {
    let name = repository("team/app");
    let mut shown = format!("{client:?}");
    let mut note = |error: &blob_registry::RegistryError| shown.push_str(&everything(error));
    client.manifest(&name, &by_tag("v1")).await.inspect_err(&mut note).ok();
    let push = PushBlob::new(Digest::sha256_of(b"x"), Arc::new(MemorySource::new(noise(300_000))));
    client.push_blob(&name, push).await.inspect_err(&mut note).ok();
    client.tags(&name, &PageRequest::first()).await.inspect_err(&mut note).ok();
    if let Err(error) = client.start_upload(&name).await {
        note(&error);
    }
    match client.read_blob(&name, &Digest::sha256_of(b"blob"), None).await {
        Err(error) => note(&error),
        Ok(reader) => {
            if let Err(error) = whole(reader).await {
                shown = format!("{shown} {error} {error:?}");
            }
        }
    }
    shown
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(log.clone()).finish());
    let store = Script::start(|_| Reply::new(200).body("0123456789").cut(5)).await;
    let to = store.addr;
    let registry = Script::start(move |seen| {
        let host = seen.header("host").unwrap().to_owned();
        if seen.path == "/token" {
            return Reply::new(200).json(r#"{"token":"canary-token"}"#);
        }
        let Some(sent) = seen.header("authorization") else {
            let realm = format!(r#"Bearer realm="http://{host}/token?key=canary-realm",service="s""#);
            return Reply::new(401).header("WWW-Authenticate", realm);
        };
        // The registry is so kind as to repeat everything it got.
        let echo =
            serde_json::json!({"errors":[{"code":"DENIED","message":format!("{sent} {}?{}", seen.path, seen.query)}]});
        match (seen.method.as_str(), seen.path.contains("/blobs/sha256:")) {
            ("GET", true) => Reply::new(307).header("Location", format!("http://{to}/b?X-Signature=canary-signature")),
            ("POST", _) => Reply::new(202).header("Location", "/upload/1?_state=canary-state"),
            ("HEAD", _) => Reply::new(404),
            ("PUT", _) => Reply::new(400).json(echo.to_string()),
            _ => Reply::new(418).json(echo.to_string()),
        }
    })
    .await;
    for credential in [
        Credential::basic("user", "canary-password"),
        Credential::identity_token("canary-identity"),
        Credential::registry_token("canary-registry-token"),
    ] {
        let credentials = Static::new().with(registry.addr.to_string(), credential);
        let client = builder(registry.addr).credentials(credentials).build().unwrap();
        let shown = shown(&client).await;
        assert!(shown.contains("team/app"), "there is something to see");
        assert!(!shown.contains("canary"), "{shown}");
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    // Connections are logged by libraries below us at TRACE; what they say is checked all the same.
    assert!(!logged.is_empty());
    let lines: Vec<_> = logged.lines().filter(|line| line.contains("canary")).collect();
    assert!(lines.is_empty(), "{lines:#?}");
}

/// What a registry warns of is told once, and repeats no secret.
#[tokio::test]
async fn warnings_of_registries_are_passed_on_once() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN);
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(log.clone()).finish());
    let registry = Script::start(|seen| {
        let sent = seen.header("authorization").unwrap_or("nothing").to_owned();
        if sent == "nothing" {
            return Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\"");
        }
        let echo = format!("299 - \"you sent {sent}\", 299 - \"moving on Friday\"");
        Reply::new(200).header("Warning", echo).json(r#"{"name":"a","tags":["v1"]}"#)
    })
    .await;
    let credentials = Static::new().with(registry.addr.to_string(), Credential::basic("user", "canary"));
    let client = builder(registry.addr).credentials(credentials).build().unwrap();
    for _ in 0..3 {
        client.tags(&repository("a"), &PageRequest::first()).await.unwrap();
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(logged.matches("the registry warns: moving on Friday").count(), 1, "{logged}");
    assert_eq!(logged.matches("you sent").count(), 1, "{logged}");
    assert!(!logged.contains("canary") && !logged.contains("dXNlcjpjYW5hcnk"), "{logged}");
}
