//! Users in an htpasswd file.

use std::fs;
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

async fn status(wire: Wire, credentials: &str) -> u16 {
    let authorization = format!("Basic {}", STANDARD.encode(credentials));
    wire.send("GET", "/v2/", &[("Authorization", &authorization)], b"").await.status
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

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("htpasswd");
    fs::write(&path, line("ann", "old")).unwrap();
    let auth = Auth::basic("test").passwords(Htpasswd::open(&path).unwrap());
    let server = Server::builder(Arc::new(MemoryRegistry::new())).auth(auth).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    assert_eq!(status(wire, "ann:old").await, 200);
    let change = |content: &str, seconds: u64| {
        fs::write(&path, content).unwrap();
        let later = SystemTime::now() + Duration::from_secs(seconds);
        fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    };
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
