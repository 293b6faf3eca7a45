//! The port that the browser comes back to.
//!
//! Browsers open connections in advance, ask for icons, and pages of others may ask for anything: everything but the one
//! answer is told that nothing is here.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;
use zeroize::Zeroizing;

use super::{LoginError, MAX_TEXT, PATH, SHOWN};

/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 16;
/// Bytes of the head of a request.
const MAX_HEAD: usize = 16 << 10;
/// How long one connection may take to ask.
const IMPATIENCE: Duration = Duration::from_secs(30);

const DONE: &str = "<!doctype html><title>Logged in</title><p>You are logged in. This page can be closed.";
const FAILED: &str = "<!doctype html><title>Not logged in</title><p>The log-in failed; the terminal says why.";

/// The code that comes with `state`, by the `issuer` that was asked if it says who it is by.
pub(super) async fn wait(listener: &TcpListener, state: &str, issuer: &str) -> Result<Zeroizing<String>, LoginError> {
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if asking.len() < MAX_CONNECTIONS => {
                let (stream, _) = accepted.map_err(LoginError::Listen)?;
                asking.spawn(tokio::time::timeout(IMPATIENCE, asked(stream)));
            }
            Some(ended) = asking.join_next() => {
                let Ok(Ok(Ok(Some((mut stream, target))))) = ended else { continue };
                let judged = judge(&target, state, issuer);
                let (status, text) = if judged.is_ok() { ("200 OK", DONE) } else { ("400 Bad Request", FAILED) };
                // The answer was read; whether the browser shows ours changes nothing.
                let _ = reply(&mut stream, status, text).await;
                return judged;
            }
        }
    }
}

/// What a connection asks for, if it is what we wait for; others are answered here.
async fn asked(mut stream: TcpStream) -> io::Result<Option<(TcpStream, String)>> {
    let mut head = Zeroizing::new(Vec::new());
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        let got = stream.read(&mut part).await?;
        if got == 0 || head.len() + got > MAX_HEAD {
            return Ok(None);
        }
        head.extend_from_slice(&part[..got]);
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = std::str::from_utf8(line).unwrap_or_default().split(' ');
    let target = match (words.next(), words.next()) {
        (Some("GET"), Some(target)) if target.split('?').next() == Some(PATH) => target.to_owned(),
        _ => {
            reply(&mut stream, "404 Not Found", "").await?;
            return Ok(None);
        }
    };
    Ok(Some((stream, target)))
}

async fn reply(stream: &mut TcpStream, status: &str, text: &str) -> io::Result<()> {
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {length}\r\n\
         cache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// The code in an answer, whose `state` is looked at before anything else of it is believed, a refusal too.
fn judge(target: &str, state: &str, issuer: &str) -> Result<Zeroizing<String>, LoginError> {
    let url = Url::parse("http://127.0.0.1").and_then(|base| base.join(target));
    let url = url.map_err(|_| LoginError::Answer("is no answer"))?;
    let said = |name: &str| {
        let mut values = url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let first = values.next();
        // Said twice is said unclearly.
        if values.next().is_some() { None } else { first }
    };
    if said("state").as_deref() != Some(state) {
        return Err(LoginError::Answer("belongs to another log-in"));
    }
    if said("iss").is_some_and(|by| by != issuer) {
        return Err(LoginError::Answer("is by another issuer"));
    }
    if let Some(error) = said("error") {
        let text = said("error_description").map_or(error.clone(), |more| format!("{error}: {more}"));
        let clean: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        return Err(LoginError::Denied(clean));
    }
    let code = said("code").filter(|code| !code.is_empty() && code.len() <= MAX_TEXT);
    code.map(Zeroizing::new).ok_or(LoginError::Answer("holds no code"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_are_judged_by_what_was_sent() {
        let issuer = "https://id.example";
        for (query, expect) in [
            ("?code=c&state=s", Ok("c")),
            ("?state=s&code=c%2Fd&iss=https%3A%2F%2Fid.example", Ok("c/d")),
            ("?code=c&state=t", Err("another log-in")),
            ("?code=c", Err("another log-in")),
            ("?code=c&state=s&state=t", Err("another log-in")),
            ("?code=c&code=d&state=s", Err("holds no code")),
            ("?code=&state=s", Err("holds no code")),
            ("?state=s", Err("holds no code")),
            ("?code=c&state=s&iss=https://evil.example", Err("another issuer")),
            ("?error=access_denied&error_description=no%0Aentry&state=s", Err("denied: access_denied: noentry")),
            ("?error=access_denied", Err("another log-in")),
            ("", Err("another log-in")),
        ] {
            let judged = judge(&format!("{PATH}{query}"), "s", issuer);
            match (&judged, expect) {
                (Ok(code), Ok(expected)) => assert_eq!(code.as_str(), expected, "{query}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{query}: {error}"),
                _ => panic!("{query}: {judged:?}"),
            }
        }
        let long = judge(&format!("{PATH}?state=s&error={}", "x".repeat(5000)), "s", issuer).unwrap_err();
        assert!(long.to_string().len() < 300);
    }
}
