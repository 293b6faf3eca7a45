//! `blob login` and `blob logout`.

mod ask;

use std::path::PathBuf;

use blob::registry::{Reference, Repository};
use blob::{Admission, Credential, CredentialStore, Saved};
use clap::Args;
use serde::Serialize;

use crate::error::{Failure, Kind};
use crate::session::Session;

const LOGIN_EXAMPLES: &str = "\
Examples:
  blob login ghcr.io -u ann                               asks for the password
  echo \"$TOKEN\" | blob login ghcr.io -u ann --password-stdin
  blob login localhost:5000 -u ann --registry-config ./logins.json
  blob login registry.example -u ann --ca-file company.pem

The login is kept in the file that Docker, Podman and Skopeo share: the one that REGISTRY_AUTH_FILE names, else \
config.json in DOCKER_CONFIG, else in ~/.docker. If that file names a credential helper, the helper keeps it.";

/// Log in to a registry, and keep the login for other commands.
#[derive(Args, Debug)]
#[command(after_help = LOGIN_EXAMPLES)]
pub(crate) struct LoginArgs {
    /// The registry: HOST or HOST:PORT.
    #[arg(value_name = "REGISTRY")]
    registry: String,

    /// The user; asked for on a terminal if it is not given.
    #[arg(short = 'u', value_name = "USER")]
    user: Option<String>,

    /// Read an identity token (an OAuth2 refresh token) from standard input instead of a password.
    #[arg(long, conflicts_with_all = ["user", "password_stdin"])]
    identity_token_stdin: bool,

    /// Keep the login without asking the registry whether it is right.
    #[arg(long)]
    no_check: bool,

    /// Only say where the login would be kept; the registry is asked whether it is right.
    #[arg(long)]
    dry_run: bool,
}

/// Forget the login for a registry.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  blob logout ghcr.io")]
pub(crate) struct LogoutArgs {
    /// The registry: HOST or HOST:PORT.
    #[arg(value_name = "REGISTRY")]
    registry: String,

    /// Only say whether there is a login to forget.
    #[arg(long)]
    dry_run: bool,
}

/// A login that is kept.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LoggedIn {
    /// The registry, HOST or HOST:PORT.
    registry: String,
    /// The user; none for identity tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// Whether the registry let the credential in; false if it lets everyone in, or was not asked.
    verified: bool,
    /// The file that keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    /// The credential helper that keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    helper: Option<String>,
    /// Whether this only says what would be done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

/// A login that is forgotten.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LoggedOut {
    /// The registry, HOST or HOST:PORT.
    registry: String,
    /// Whether there was one.
    removed: bool,
    /// Whether this only says what would be done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

pub(crate) async fn login(args: LoginArgs, session: &Session) -> Result<(), Failure> {
    let host = host(&args.registry)?;
    let store = store(session)?;
    let (user, credential) = credential(&args, session).await?;
    let verified = if args.no_check { false } else { check(session, &host, &credential).await? };
    let saved = if args.dry_run { store.place_for(&host) } else { store.save(&host, &credential).await };
    let saved = saved.map_err(|error| Failure::from(blob::Error::Credentials(error)))?;
    let (file, helper) = match saved {
        Saved::File(path) => (Some(path), None),
        Saved::Helper(name) => (None, Some(name)),
        _ => (None, None),
    };
    let report = LoggedIn { registry: host, username: user, verified, file, helper, dry_run: args.dry_run };
    session.outcome(args.dry_run, &report, || text(&report)).await
}

fn text(report: &LoggedIn) -> String {
    let user = report.username.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
    let place = match (&report.helper, &report.file) {
        (Some(helper), _) => format!("with the credential helper {helper}"),
        (None, Some(file)) => format!("in {}", file.display()),
        (None, None) => String::new(),
    };
    let (verb, kept) = match (report.verified, report.dry_run) {
        (true, false) => ("Logged in to", "is kept"),
        (false, false) => ("Keeping an unchecked login for", "is kept"),
        (true, true) => ("Would log in to", "would be kept"),
        (false, true) => ("Would keep an unchecked login for", "would be kept"),
    };
    format!("{verb} {}{user}; the login {kept} {place}\n", report.registry)
}

/// Asks the registry to let the credential in.
async fn check(session: &Session, host: &str, credential: &Credential) -> Result<bool, Failure> {
    let client = session.builder().credential(host, credential.clone()).build()?;
    match client.authenticate(host).await {
        Ok(Admission::Admitted) => Ok(true),
        Ok(_) => {
            tracing::warn!(registry = host, "the registry lets everyone in, so the credentials could not be tried");
            Ok(false)
        }
        Err(error) if error.is_unauthorized() => {
            let hint =
                "check the user and the password; many registries want an access token in the place of a password";
            Err(Failure::from(error).with_hint(hint))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn logout(args: LogoutArgs, session: &Session) -> Result<(), Failure> {
    let registry = host(&args.registry)?;
    let store = store(session)?;
    let removed = if args.dry_run { store.holds(&registry).await } else { store.remove(&registry).await };
    let removed = removed.map_err(|error| Failure::from(blob::Error::Credentials(error)))?;
    let report = LoggedOut { registry, removed, dry_run: args.dry_run };
    session
        .outcome(args.dry_run, &report, || {
            let LoggedOut { registry, removed, dry_run } = &report;
            let done = match (removed, dry_run) {
                (true, false) => "Logged out of",
                (true, true) => "Would log out of",
                (false, _) => "There was no login for",
            };
            format!("{done} {registry}\n")
        })
        .await
}

/// The file that keeps logins.
fn store(session: &Session) -> Result<CredentialStore, Failure> {
    match &session.options.registry_config {
        Some(path) => Ok(CredentialStore::new(path)),
        None => CredentialStore::from_env().map_err(|error| {
            Failure::new(Kind::Usage, error.to_string()).with_hint("name a file with --registry-config")
        }),
    }
}

/// The host that was typed; the decoration that people copy from browsers is taken off.
fn host(typed: &str) -> Result<String, Failure> {
    let bare = typed.strip_prefix("https://").or_else(|| typed.strip_prefix("http://")).unwrap_or(typed);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let probe = Repository::new("x").map_err(|error| Failure::usage(error.to_string()))?;
    match Reference::new(bare, probe, None, None) {
        Ok(reference) => Ok(reference.host().to_owned()),
        Err(_) if bare.contains('/') => {
            let host = bare.split('/').next().unwrap_or_default();
            Err(Failure::usage(format!("{typed:?} is more than a registry"))
                .with_hint(format!("a login is for a whole registry: `blob login {host}`")))
        }
        Err(error) => Err(Failure::usage(format!("{typed:?} is no registry: {error}"))),
    }
}

/// Who logs in, and with what; asked for on a terminal where it was not given.
async fn credential(args: &LoginArgs, session: &Session) -> Result<(Option<String>, Credential), Failure> {
    if args.identity_token_stdin {
        let token = ask::line("the identity token").await?;
        return Ok((None, Credential::identity_token(token)));
    }
    let user = match args.user.as_ref().or(session.options.username.as_ref()) {
        Some(user) => user.clone(),
        None if session.options.password_stdin => {
            return Err(
                Failure::usage("--password-stdin gives the password of no user").with_hint("name the user with -u")
            );
        }
        None => ask::user().await?,
    };
    let password = match session.password() {
        Some(password) => password.to_owned(),
        None => ask::password(&user).await?,
    };
    if user.is_empty() || password.is_empty() {
        return Err(Failure::usage("a login needs a user and a password, neither of them empty"));
    }
    Ok((Some(user.clone()), Credential::basic(user, password)))
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<LoggedIn>("login"), document::<LoggedOut>("logout")]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn registries_are_hosts() {
        for (typed, expected) in [
            ("ghcr.io", "ghcr.io"),
            ("localhost:5000", "localhost:5000"),
            ("https://ghcr.io/", "ghcr.io"),
            ("http://[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(host(typed).unwrap(), expected);
        }
        for bad in ["", "ghcr.io/team", "a b", "user@host", "host:99999", "oci:dir"] {
            assert_eq!(host(bad).unwrap_err().kind, Kind::Usage, "{bad}");
        }
    }
}
