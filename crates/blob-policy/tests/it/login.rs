//! Logging in as a person at an issuer on this machine, with a stand-in for the browser.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use blob_policy::sign::{Browser, IdentityToken, LoginError, LoginOptions, Services, TokenError};
use blob_testkit::sigstore::{Fault, Instance, LoginFault};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the person does with the page.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Logs in, after things that browsers do of themselves.
    LogsIn,
    /// Has no browser on this machine, and types the code.
    Types,
    /// Has none, and types nothing.
    TypesNothing,
    /// Has none, and nobody is there.
    IsAway,
    /// Looks at the page for ever.
    Waits,
}

#[derive(Debug)]
struct Stand {
    does: Does,
    seen: Mutex<Vec<String>>,
}

impl Stand {
    fn new(does: Does) -> Self {
        Self { does, seen: Mutex::default() }
    }
}

/// What `http://host/path` answers, head and body.
async fn get(url: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let ask = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with(name)).unwrap();
    line.split_once(": ").unwrap().1
}

#[async_trait]
impl Browser for Stand {
    async fn open(&self, url: &str) -> bool {
        self.seen.lock().unwrap().push(url.to_owned());
        match self.does {
            Does::LogsIn => {}
            Does::Waits => return true,
            _ => return false,
        }
        let url = url.to_owned();
        // A browser is a process of its own.
        tokio::spawn(async move {
            let answer = get(&url).await;
            let back = header(&answer, "location").to_owned();
            let here = back.split("/auth/callback").next().unwrap().to_owned();
            // A connection in advance, which asks nothing; an icon; a page of somebody else; and only then the answer.
            let _idle = TcpStream::connect(here.strip_prefix("http://").unwrap()).await.unwrap();
            assert!(get(&format!("{here}/favicon.ico")).await.starts_with("HTTP/1.1 404"));
            assert!(get(&format!("{here}/auth/callback/other?code=x")).await.starts_with("HTTP/1.1 404"));
            let shown = get(&back).await;
            assert!(shown.starts_with("HTTP/1.1 200") || shown.starts_with("HTTP/1.1 400"), "{shown}");
            assert!(header(&shown, "cache-control").contains("no-store"), "{shown}");
        });
        true
    }

    async fn code(&self, url: &str) -> io::Result<String> {
        self.seen.lock().unwrap().push(url.to_owned());
        match self.does {
            Does::TypesNothing => Ok("\n".into()),
            Does::IsAway => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {
                let answer = get(url).await;
                Ok(format!(" {} \n", answer.rsplit("\r\n").next().unwrap().trim_matches('"')))
            }
        }
    }
}

async fn log_in(instance: &Instance, stand: &Stand, patience: Duration) -> Result<IdentityToken, TokenError> {
    let mut options = LoginOptions::default();
    options.patience = patience;
    let services = Services::new().attempts(1);
    IdentityToken::interactive(&instance.login_url(), &services, stand, options).await
}

/// As long as a loaded machine may need.
const LONG: Duration = Duration::from_mins(2);

fn asked(url: &str, name: &str) -> String {
    let query = url.split_once('?').unwrap().1;
    let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    pair.unwrap_or_else(|| panic!("{name} in {url}")).to_owned()
}

#[tokio::test]
async fn somebody_logs_in_with_a_browser_and_without() {
    let instance = Instance::start().unwrap();
    let mut before: Option<String> = None;
    for does in [Does::LogsIn, Does::Types, Does::LogsIn] {
        let stand = Stand::new(does);
        let token = log_in(&instance, &stand, LONG).await.unwrap();
        assert_eq!((token.identity(), token.issuer()), ("ann@example.com", instance.login_url().as_str()));
        let url = stand.seen.lock().unwrap().last().unwrap().clone();
        assert_eq!(asked(&url, "code_challenge_method"), "S256");
        let by_hand = asked(&url, "redirect_uri").starts_with("urn");
        assert_eq!(by_hand, does == Does::Types, "{url}");
        // Nothing is used twice, and the secret of the proof is in no address.
        for name in ["state", "nonce", "code_challenge"] {
            let value = asked(&url, name);
            assert_eq!(value.len(), 43, "{name}");
            assert!(!before.as_deref().unwrap_or_default().contains(&value), "{name}");
        }
        assert!(!url.contains("code_verifier"));
        before = Some(url);
    }
}

#[tokio::test]
async fn answers_that_are_not_ours_log_nobody_in() {
    let instance = Instance::start().unwrap();
    for (fault, expect) in [
        (LoginFault::Impostor, "says that it is \"https://elsewhere.test\""),
        (LoginFault::State, "belongs to another log-in"),
        (LoginFault::Denied, "it was denied: access_denied: not today"),
        (LoginFault::Refused, "asking the issuer"),
        (LoginFault::NoToken, "is not there"),
        (LoginFault::Nonce, "was given for another log-in"),
        (LoginFault::Audience, "is for another program"),
        (LoginFault::Issuer, "is by another issuer"),
    ] {
        instance.set(Some(Fault::Login(fault)));
        let error = log_in(&instance, &Stand::new(Does::LogsIn), LONG).await.unwrap_err();
        let TokenError::Login { source, issuer } = error else { panic!("{fault:?}: {error}") };
        assert_eq!(issuer, instance.login_url());
        assert!(source.to_string().contains(expect), "{fault:?}: {source}");
    }
    for fault in [Fault::Status(500), Fault::Junk, Fault::Huge] {
        instance.set(Some(fault));
        let error = log_in(&instance, &Stand::new(Does::LogsIn), LONG).await.unwrap_err();
        assert!(matches!(error, TokenError::Login { source: LoginError::Issuer(_), .. }), "{fault:?}: {error:?}");
    }
}

#[tokio::test]
async fn nobody_is_waited_for_for_ever() {
    let instance = Instance::start().unwrap();
    for (does, patience, expect) in [
        (Does::Waits, Duration::from_millis(50), "nobody logged in within"),
        (Does::TypesNothing, LONG, "is no code"),
        (Does::IsAway, LONG, "asking for the code"),
    ] {
        let error = log_in(&instance, &Stand::new(does), patience).await.unwrap_err();
        let TokenError::Login { source, .. } = error else { panic!("{does:?}: {error}") };
        assert!(source.to_string().contains(expect), "{does:?}: {source}");
    }
    // An issuer that others could read along with is not asked.
    let options = LoginOptions::default();
    let stand = Stand::new(Does::LogsIn);
    let error = IdentityToken::interactive("http://id.example", &Services::new(), &stand, options).await.unwrap_err();
    assert!(matches!(error, TokenError::Login { source: LoginError::Issuer(_), .. }), "{error:?}");
    assert!(stand.seen.lock().unwrap().is_empty());
}
