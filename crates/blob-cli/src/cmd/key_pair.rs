//! `blob generate-key-pair`.

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use blob::policy::sign::{KeyKind, KeySigner as _, LocalKey};
use clap::Args;
use serde::Serialize;

use crate::error::Failure;
use crate::plan;
use crate::session::Session;
use crate::trust::off_thread;
use crate::ui::ask::hidden;

const EXAMPLES: &str = "\
Examples:
  blob generate-key-pair release      writes release.key, for whoever signs, and release.pub, for everybody
  blob generate-key-pair --dry-run release

The private key is encrypted with the password in BLOB_KEY_PASSWORD, else one that is asked for; cosign reads it too.";

/// Make a key pair to sign with: ECDSA over P-256.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct KeyPairArgs {
    /// The name of the files, without .key and .pub.
    #[arg(value_name = "NAME", default_value = "blob")]
    name: PathBuf,

    /// Only say which files would be written; no key is made, and nobody is asked for a password.
    #[arg(long)]
    dry_run: bool,
}

/// A key pair that was made.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The file with the private key.
    private_key: String,
    /// The file with the public key.
    public_key: String,
    /// The identifier of the public key; none by a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Whether no key was made, only the names looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

pub(crate) async fn run(args: KeyPairArgs, session: &Session) -> Result<(), Failure> {
    let file = |extension: &str| {
        let mut name = args.name.clone().into_os_string();
        name.push(extension);
        PathBuf::from(name)
    };
    let (private, public) = (file(".key"), file(".pub"));
    // Nobody is to think of a password for nothing.
    if let Some(there) = [&private, &public].into_iter().find(|file| file.exists()) {
        let failure = Failure::usage(format!("{} exists, and a key is never overwritten", there.display()));
        return Err(failure.with_hint("choose another NAME, or move the old key away"));
    }
    directory(&private)?;
    let report = if args.dry_run {
        Report::new(&private, &public, None)
    } else {
        let password = password().await?;
        off_thread(move || make(&private, &public, &password)).await?
    };
    let text = || {
        let verb = if args.dry_run { "Would write\n" } else { "" };
        format!("{verb}Private key: {}\nPublic key: {}\n", report.private_key, report.public_key)
    };
    session.outcome(args.dry_run, &report, text).await
}

/// Whether there is a directory for the files.
fn directory(file: &Path) -> Result<(), Failure> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if dir.is_dir() {
        return plan::takes_files(dir).map_err(|error| Failure::io(format!("writing {}", file.display()), &error));
    }
    let message = format!("writing {}: there is no directory {}", file.display(), dir.display());
    Err(Failure::not_found(message).with_hint("make it first, readable for whoever signs alone"))
}

impl Report {
    fn new(private: &Path, public: &Path, id: Option<String>) -> Self {
        let (private_key, public_key) = (private.display().to_string(), public.display().to_string());
        Self { private_key, public_key, dry_run: id.is_none(), id }
    }
}

/// Makes the two files. Blocks: encrypting with a password takes time on purpose.
fn make(private: &Path, public: &Path, password: &str) -> Result<Report, Failure> {
    let key = LocalKey::generate(KeyKind::EcdsaP256).map_err(|error| Failure::from_chain(&error))?;
    let encrypted = key.to_encrypted_pem(password.as_bytes()).map_err(|error| Failure::from_chain(&error))?;
    write(private, encrypted.as_bytes(), 0o600)?;
    write(public, key.public_key().to_pem().as_bytes(), 0o644)?;
    Ok(Report::new(private, public, Some(key.public_key().id().to_owned())))
}

/// The password of the new key, typed twice unless it is in the environment.
async fn password() -> Result<String, Failure> {
    if let Ok(given) = std::env::var("BLOB_KEY_PASSWORD") {
        return Ok(given);
    }
    if !std::io::stdin().is_terminal() {
        let message = "the new key needs a password, and nobody is there to ask";
        return Err(Failure::usage(message).with_hint("set BLOB_KEY_PASSWORD; empty is allowed, and protects nothing"));
    }
    let password = hidden("Password for the new key: ".into()).await?;
    if hidden("Again: ".into()).await? == password { Ok(password) } else { Err(Failure::usage("the passwords differ")) }
}

/// Writes a file that is not there yet: an older key is never overwritten.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io(format!("writing {}", path.display()), &error);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report>("generate-key-pair")]
}
