//! Credential helpers: programs named `docker-credential-<name>` that print a credential as JSON.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::{Credential, CredentialsError};
use crate::client::answer::printable;

/// How long a helper may take: some ask the user.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// More output than this is not read.
const MAX_OUTPUT: u64 = 64 << 10;

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Whether `name` may be part of a program's name: it comes from a file and must not become a path or an option.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Asks the helper `name` for the credential of `server`; `None` if it has none.
///
/// Dropping the future kills the program.
pub(super) async fn get(name: &str, server: &str) -> Result<Option<Credential>, CredentialsError> {
    get_from(&program(name, server)?, server).await
}

/// Has the helper `name` keep `credential` for `server`.
pub(super) async fn store(name: &str, server: &str, credential: &Credential) -> Result<(), CredentialsError> {
    store_with(&program(name, server)?, server, credential).await
}

/// Has the helper `name` forget the credential of `server`; whether it had one.
pub(super) async fn erase(name: &str, server: &str) -> Result<bool, CredentialsError> {
    let program = program(name, server)?;
    Ok(ask(&program, "erase", server, server).await?.is_some())
}

/// The program of the helper `name`.
fn program(name: &str, server: &str) -> Result<String, CredentialsError> {
    let program = format!("docker-credential-{name}");
    if is_name(name) {
        return Ok(program);
    }
    let detail = "its name is not made of letters, digits and . _ -".into();
    Err(CredentialsError::Helper { helper: program, server: server.into(), detail })
}

fn failed(program: &str, server: &str, detail: impl Into<String>) -> CredentialsError {
    CredentialsError::Helper { helper: program.into(), server: server.into(), detail: detail.into() }
}

async fn get_from(program: &str, server: &str) -> Result<Option<Credential>, CredentialsError> {
    let Some(answer) = ask(program, "get", server, server).await? else { return Ok(None) };
    credential(&answer).ok_or_else(|| failed(program, server, "its answer is not the expected JSON"))
}

async fn store_with(program: &str, server: &str, credential: &Credential) -> Result<(), CredentialsError> {
    let (user, secret) = match credential {
        Credential::Basic { user, password } => (user.as_str(), password),
        Credential::IdentityToken(token) => ("<token>", token),
        Credential::RegistryToken(_) => {
            return Err(failed(program, server, "helpers keep passwords and identity tokens, no access tokens"));
        }
    };
    let login = serde_json::json!({ "ServerURL": server, "Username": user, "Secret": secret.expose() });
    match ask(program, "store", &login.to_string(), server).await? {
        Some(_) => Ok(()),
        None => Err(failed(program, server, "it does not keep credentials")),
    }
}

/// What the program, which is found in `PATH` unless it is a path itself, prints when it is told `input`; `None` if it
/// says that it knows nothing of the server.
async fn ask(program: &str, verb: &str, input: &str, server: &str) -> Result<Option<Vec<u8>>, CredentialsError> {
    let fail = |detail: String| failed(program, server, detail);
    match tokio::time::timeout(TIME_LIMIT, run(program, verb, input)).await {
        Err(_) => Err(fail(format!("it did not answer within {} seconds", TIME_LIMIT.as_secs()))),
        Ok(Err(error)) => Err(fail(error.to_string())),
        Ok(Ok((true, stdout, _))) => Ok(Some(stdout)),
        Ok(Ok((false, stdout, _))) if is_not_found(&stdout) => Ok(None),
        Ok(Ok((false, stdout, stderr))) => {
            // Helpers print their messages to standard output; it holds no credential when they fail.
            let words = if stdout.trim_ascii().is_empty() { stderr } else { stdout };
            Err(fail(printable(&String::from_utf8_lossy(words.trim_ascii()), 300)))
        }
    }
}

type Outcome = (bool, Vec<u8>, Vec<u8>);

async fn run(program: &str, verb: &str, text: &str) -> std::io::Result<Outcome> {
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let input = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut input) = input {
            // A helper that does not read its input may still answer: only its answer counts.
            let _ = input.write_all(text.as_bytes()).await;
        }
    };
    let ((), stdout, stderr) = tokio::join!(write, bounded(stdout), bounded(stderr));
    let (stdout, stderr) = (stdout?, stderr?);
    let status = child.wait().await?;
    Ok((status.success(), stdout, stderr))
}

/// Reads to the end, or fails when there is too much.
async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > MAX_OUTPUT {
        return Err(std::io::Error::other(format!("it printed more than {MAX_OUTPUT} bytes")));
    }
    Ok(bytes)
}

/// The credential in a helper's answer: `Some(None)` if it is empty, `None` if it is no answer.
#[expect(clippy::option_option, reason = "no answer and an empty answer are different things")]
fn credential(stdout: &[u8]) -> Option<Option<Credential>> {
    let answer: Answer = serde_json::from_slice(stdout).ok()?;
    Some(match (answer.username.as_str(), answer.secret) {
        (_, secret) if secret.is_empty() => None,
        ("<token>", secret) => Some(Credential::identity_token(secret)),
        (user, secret) => Some(Credential::basic(user, secret)),
    })
}

/// The words by which all helpers say that they know nothing.
fn is_not_found(stdout: &[u8]) -> bool {
    let words = stdout.trim_ascii();
    words == b"credentials not found in native keychain" || words.starts_with(b"no credentials server URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let read = |text: &str| credential(text.as_bytes());
        assert_eq!(read(r#"{"ServerURL":"s","Username":"u","Secret":"p"}"#), Some(Some(Credential::basic("u", "p"))));
        assert_eq!(read(r#"{"Username":"<token>","Secret":"t"}"#), Some(Some(Credential::identity_token("t"))));
        assert_eq!(read(r#"{"Username":"u","Secret":""}"#), Some(None));
        assert_eq!(read("u:p"), None);
    }

    #[test]
    fn names_cannot_leave_the_path() {
        for bad in ["", "../x", "a/b", "a b", "a;b", "a\0", "$(x)"] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_name("ecr-login") && is_name("osx_keychain.1"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn programs_are_asked_and_their_failures_told() {
        use std::os::unix::fs::PermissionsExt as _;
        const SCRIPT: &str = "#!/bin/sh\n\
            case \"$1 $(cat)\" in\n\
            'get good') echo '{\"Username\":\"u\",\"Secret\":\"p\"}';;\n\
            'get none') echo 'credentials not found in native keychain'; exit 1;;\n\
            'get much') head -c 100000 /dev/zero;;\n\
            'get odd') echo canary;;\n\
            'erase good') ;;\n\
            'erase none') echo 'credentials not found in native keychain'; exit 1;;\n\
            'store {\"Secret\":\"p\",\"ServerURL\":\"good\",\"Username\":\"u\"}') ;;\n\
            *) echo 'the keychain is locked'; exit 1;;\n\
            esac\n";
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("docker-credential-test");
        // Written by a child, so that no copy of a writing descriptor is open anywhere when it is started.
        let quoted = SCRIPT.replace('\'', "'\\''");
        let write = format!("printf '%s' '{quoted}' > '{}'", path.display());
        assert!(std::process::Command::new("sh").args(["-c", &write]).status().expect("a shell").success());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let program = path.to_str().expect("a plain path");
        assert_eq!(get_from(program, "good").await.expect("a credential"), Some(Credential::basic("u", "p")));
        assert_eq!(get_from(program, "none").await.expect("an answer"), None);
        assert!(ask(program, "erase", "good", "good").await.expect("an answer").is_some());
        assert!(ask(program, "erase", "none", "none").await.expect("an answer").is_none());
        store_with(program, "good", &Credential::basic("u", "p")).await.expect("it is kept");
        let error = store_with(program, "good", &Credential::basic("u", "canary")).await.expect_err("another password");
        assert!(error.to_string().contains("the keychain is locked"), "{error}");
        assert!(store_with(program, "good", &Credential::registry_token("canary")).await.is_err());
        for (server, words) in
            [("much", "more than"), ("odd", "not the expected JSON"), ("x", "the keychain is locked")]
        {
            let error = get_from(program, server).await.expect_err(server).to_string();
            assert!(error.contains(words) && !error.contains("canary"), "{error}");
        }
        let error = get("name-that-nobody-has", "x").await.expect_err("no such program");
        assert!(error.to_string().contains("docker-credential-name-that-nobody-has"), "{error}");
    }
}
