//! With what things are signed, as the command line says.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob::policy::sign::{KeyError, KeyedSigner, LocalKey, Signer};
use clap::Args;

use crate::error::Failure;

/// With what to sign.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Signing options")]
pub(crate) struct SigningArgs {
    /// Sign with this private key. The password of an encrypted one is in BLOB_KEY_PASSWORD, else it is asked for.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

impl SigningArgs {
    /// Who signs.
    pub(crate) fn signer(&self) -> Result<Arc<dyn Signer>, Failure> {
        let Some(path) = &self.key else {
            return Err(Failure::usage("nothing to sign with").with_hint("name a private key with --key"));
        };
        Ok(Arc::new(KeyedSigner::new(Arc::new(private_key(path)?))))
    }
}

/// Reads a private key; a password is asked for where one is needed and somebody is there.
fn private_key(path: &Path) -> Result<LocalKey, Failure> {
    let given = std::env::var("BLOB_KEY_PASSWORD").ok();
    let read = LocalKey::from_file(path, given.as_deref().map(str::as_bytes));
    let refused = |error: &KeyError| {
        let failure = Failure::from_chain(error);
        match error {
            KeyError::PasswordRequired => failure.with_hint("set BLOB_KEY_PASSWORD"),
            _ => failure,
        }
    };
    match read {
        Err(KeyError::PasswordRequired) if std::io::stdin().is_terminal() => {
            let prompt = format!("Password of {}: ", path.display());
            let typed = rpassword::prompt_password(prompt);
            let typed = typed.map_err(|error| Failure::io("reading the password", &error))?;
            LocalKey::from_file(path, Some(typed.as_bytes())).map_err(|error| refused(&error))
        }
        read => read.map_err(|error| refused(&error)),
    }
}
