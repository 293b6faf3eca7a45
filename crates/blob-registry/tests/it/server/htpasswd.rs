//! Users in an htpasswd file.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blob_registry::server::{Auth, Htpasswd, HtpasswdError};
use blob_registry::{MemoryRegistry, Server};

use crate::wire::Wire;

/// A line for `user`; cost 4 is the least there is.
fn line(user: &str, password: &str) -> String {
    format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap().replace("$2b$", "$2y$"))
}

async fn ask(wire: Wire, path: &str, credentials: &str) -> u16 {
    let authorization = format!("Basic {}", STANDARD.encode(credentials));
    wire.send("GET", path, &[("Authorization", &authorization)], b"").await.status
}

async fn status(wire: Wire, credentials: &str) -> u16 {
    ask(wire, "/v2/", credentials).await
}

async fn token(wire: Wire, credentials: &str) -> u16 {
    ask(wire, "/token?service=test", credentials).await
}

#[tokio::test]
async fn its_users_are_known_and_others_are_not() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("htpasswd");
    fs::write(&path, format!("# users\n\n{}{}", line("ann", "päss:word"), line("bob", "b"))).unwrap();
    let auth = Auth::basic("test").passwords(Htpasswd::open(&path).unwrap());
    let server = Server::builder(Arc::new(MemoryRegistry::new())).auth(auth).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    for (credentials, expected) in
        [("ann:päss:word", 200), ("ann:päss:word", 200), ("bob:b", 200), ("bob:päss:word", 401), ("bob:", 401)]
    {
        assert_eq!(status(wire, credentials).await, expected, "{credentials}");
    }
    for unknown in ["eve:b", ":b", "bob", "", "bob:b\0"] {
        assert_eq!(status(wire, unknown).await, 401, "{unknown:?}");
    }
}

/// Sets the content of a file that is watched.
fn change(path: &Path, content: &str, seconds: u64) {
    fs::write(path, content).unwrap();
    let later = SystemTime::now() + Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
}

#[tokio::test]
async fn a_refresh_token_ends_with_its_user_and_with_its_password() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("htpasswd");
    let (ann, bob) = (line("ann", "a"), line("bob", "b"));
    fs::write(&path, format!("{ann}{bob}")).unwrap();
    let auth = Auth::bearer("test").passwords(Htpasswd::open(&path).unwrap());
    let server = Server::builder(Arc::new(MemoryRegistry::new())).auth(auth).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    let form = async |text: String| {
        let typed = [("Content-Type", "application/x-www-form-urlencoded")];
        wire.send("POST", "/token", &typed, text.as_bytes()).await
    };
    let refresh = async |user: &str, password: &str| {
        let asked = format!("grant_type=password&username={user}&password={password}&access_type=offline");
        form(asked).await.json()["refresh_token"].as_str().unwrap().to_owned()
    };
    let use_it = async |token: &str| form(format!("grant_type=refresh_token&refresh_token={token}")).await.status;
    let (of_ann, of_bob) = (refresh("ann", "a").await, refresh("bob", "b").await);
    assert_eq!((use_it(&of_ann).await, use_it(&of_bob).await), (200, 200));
    // A comment and another user change nothing for those who stay as they were.
    let changed = format!("# now\n{ann}{}{}", line("bob", "new"), line("eve", "e"));
    // What was taken back does not come back with the password.
    let without_ann = format!("{bob}{}", line("eve", "other"));
    for (content, eve, expected) in [(changed, "eve:e", (200, 401)), (without_ann, "eve:other", (401, 401))] {
        change(&path, &content, 10 + content.len() as u64);
        let begun = std::time::Instant::now();
        while token(wire, eve).await != 200 {
            assert!(begun.elapsed() < Duration::from_secs(30), "the file is not read again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!((use_it(&of_ann).await, use_it(&of_bob).await), expected, "{content}");
    }
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("htpasswd");
    fs::write(&path, line("ann", "old")).unwrap();
    let auth = Auth::basic("test").passwords(Htpasswd::open(&path).unwrap());
    let server = Server::builder(Arc::new(MemoryRegistry::new())).auth(auth).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    assert_eq!(status(wire, "ann:old").await, 200);
    let change = |content: &str, seconds: u64| change(&path, content, seconds);
    change(&line("ann", "new"), 10);
    let begun = std::time::Instant::now();
    while status(wire, "ann:new").await != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the file is not read again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status(wire, "ann:old").await, 401, "what was remembered is forgotten with the file");
    change("ann:plain text\n", 20);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(status(wire, "ann:new").await, 200);
}

#[test]
fn files_that_hold_no_bcrypt_are_refused_without_showing_them() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("htpasswd");
    let good = line("ann", "p");
    for (content, number) in [
        (format!("{good}bob:{{SHA}}c2VjcmV0\n"), 2),
        ("bob:secret".to_owned(), 1),
        ("secret".to_owned(), 1),
        (format!("{good}\n{good}"), 3),
    ] {
        fs::write(&path, &content).unwrap();
        let error = Htpasswd::open(&path).unwrap_err();
        assert!(matches!(error, HtpasswdError::Line { line, .. } if line == number), "{error:?}");
        assert!(!error.to_string().contains("secret") && !error.to_string().contains("c2Vj"), "{error}");
    }
    assert!(matches!(Htpasswd::open(place.path().join("absent")).unwrap_err(), HtpasswdError::Io { .. }));
}
