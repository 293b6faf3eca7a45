//! With what things are signed, as the command line says.

mod browser;
mod plan;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob::policy::sign::{
    AmbientToken, IdentityToken, KeyError, KeyedSigner, KeylessSigner, LocalKey, LogVersion, LoginOptions, Services,
    Signer, TokenSource,
};
use blob::policy::sigstore::TrustRoot;
use clap::Args;

use self::browser::Desktop;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::trust::{RootArgs, off_thread};
use crate::ui::ask::hidden;

pub(crate) use plan::{Planned, ServiceReport, SignerReport};

/// Where people log in, unless the signing configuration says otherwise.
const PUBLIC_ISSUER: &str = "https://oauth2.sigstore.dev/auth";

/// With what to sign.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Signing options")]
pub(crate) struct SigningArgs {
    /// Sign with this private key. The password of an encrypted one is in BLOB_KEY_PASSWORD, else it is asked for. Without a
    /// key, sign as whoever an identity token is for.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// The identity token, or `@FILE` to read it; otherwise that of the CI job, or a login with a browser.
    #[arg(long, value_name = "TOKEN", hide_env_values = true, conflicts_with = "key")]
    identity_token: Option<String>,

    /// The authority that gives certificates (Fulcio), instead of that of the public-good instance.
    #[arg(long, value_name = "URL", conflicts_with_all = ["key", "signing_config"])]
    fulcio_url: Option<String>,

    /// The log to enter signatures in (Rekor). With a key there is none by default.
    #[arg(long, value_name = "URL", conflicts_with = "signing_config")]
    rekor_url: Option<String>,

    /// The version of that log's interface: 1 or 2.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=2), requires = "rekor_url")]
    rekor_version: u8,

    /// The authority that stamps signatures with the time (RFC 3161).
    #[arg(long, value_name = "URL", conflicts_with = "signing_config")]
    tsa_url: Option<String>,

    /// Use the services that this signing_config.json names.
    #[arg(long, value_name = "FILE")]
    signing_config: Option<PathBuf>,

    #[command(flatten)]
    root: RootArgs,
}

impl SigningArgs {
    /// Whether something is said about signing without a key.
    pub(crate) fn is_given(&self) -> bool {
        let texts = [&self.identity_token, &self.fulcio_url, &self.rekor_url, &self.tsa_url];
        texts.into_iter().any(Option::is_some) || self.signing_config.is_some() || self.root.is_given()
    }

    /// Who signs.
    pub(crate) async fn signer(&self, session: &Session) -> Result<Arc<dyn Signer>, Failure> {
        let services = self.services().await?;
        if let Some(path) = self.key.clone() {
            return self.keyed(private_key(path).await?, services, session).await;
        }
        let services = match services {
            Some(services) => services,
            None => self.usual_services(session).await?,
        };
        let token = self.token(&services).await?;
        self.keyless(token, services, session).await
    }

    async fn keyed(
        &self,
        key: LocalKey,
        services: Option<Services>,
        session: &Session,
    ) -> Result<Arc<dyn Signer>, Failure> {
        let signer = KeyedSigner::new(Arc::new(key));
        Ok(Arc::new(match services {
            Some(services) => signer.with_services(services, self.root(session).await?),
            None => signer,
        }))
    }

    async fn keyless(
        &self,
        token: IdentityToken,
        services: Services,
        session: &Session,
    ) -> Result<Arc<dyn Signer>, Failure> {
        let signer = KeylessSigner::new(services, self.root(session).await?, Arc::new(token));
        Ok(Arc::new(signer.map_err(|error| Failure::from_chain(&error))?))
    }

    /// The services that were named, if any were.
    async fn services(&self) -> Result<Option<Services>, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| Failure::from_chain(error);
        if let Some(path) = self.signing_config.clone() {
            let read = off_thread(move || Ok(Services::from_signing_config_file(&path, None))).await?;
            return read.map(Some).map_err(|error| failed(&error));
        }
        if self.fulcio_url.is_none() && self.rekor_url.is_none() && self.tsa_url.is_none() {
            return Ok(None);
        }
        let mut services = Services::new();
        if let Some(url) = &self.fulcio_url {
            services = services.certificate_authority(url).map_err(|error| failed(&error))?;
        }
        if let Some(url) = &self.rekor_url {
            let version = if self.rekor_version == 1 { LogVersion::V1 } else { LogVersion::V2 };
            services = services.log(url, version).map_err(|error| failed(&error))?;
        }
        if let Some(url) = &self.tsa_url {
            services = services.time_stamp_authority(url).map_err(|error| failed(&error))?;
        }
        Ok(Some(services))
    }

    /// The services of the instance whose trust root counts.
    async fn usual_services(&self, session: &Session) -> Result<Services, Failure> {
        let Some(source) = self.root.source(session).await? else {
            return Services::production().map_err(|error| Failure::from_chain(&error));
        };
        let config = source.signing_config().await.map_err(|error| {
            let failure = Failure::from_chain(&error).of_kind(Kind::Network);
            failure
                .with_hint("name the services with --signing-config, or with --fulcio-url, --rekor-url and --tsa-url")
        })?;
        Services::from_signing_config(&config, None).map_err(|error| Failure::from_chain(&error))
    }

    async fn root(&self, session: &Session) -> Result<TrustRoot, Failure> {
        match self.root.find(session).await? {
            Some(root) => Ok(root),
            None => TrustRoot::production().map_err(|error| Failure::from_chain(&error)),
        }
    }

    /// The token that was given, that of the job, or one that somebody logs in for.
    async fn token(&self, services: &Services) -> Result<IdentityToken, Failure> {
        if let Some(token) = self.token_at_hand(services).await? {
            return Ok(token);
        }
        let issuer = services.issuer().unwrap_or(PUBLIC_ISSUER).to_owned();
        let (browser, options) = (Desktop::from_environment(), LoginOptions::default());
        let token = IdentityToken::interactive(&issuer, services, &browser, options).await;
        token.map_err(|error| no_token(&error))
    }

    /// The token that was given, or that of the job; `None` where somebody is there to log in.
    async fn token_at_hand(&self, services: &Services) -> Result<Option<IdentityToken>, Failure> {
        if let Some(given) = &self.identity_token {
            let token = match given.strip_prefix('@').map(PathBuf::from) {
                Some(path) => off_thread(move || Ok(IdentityToken::from_file(&path))).await?,
                None => IdentityToken::new(given),
            };
            return token.map(Some).map_err(|error| no_token(&error));
        }
        match AmbientToken::from_environment(services).token().await {
            Ok(token) => Ok(Some(token)),
            Err(_) if std::io::stdin().is_terminal() => Ok(None),
            Err(error) => Err(no_token(&error)),
        }
    }
}

/// Nobody says who signs.
fn no_token(error: &(dyn std::error::Error + 'static)) -> Failure {
    let failure = Failure::from_chain(error).of_kind(Kind::Authentication);
    failure.with_hint("name a private key with --key, or a token with --identity-token")
}

/// Reads a private key; a password is asked for where one is needed and somebody is there.
async fn private_key(path: PathBuf) -> Result<LocalKey, Failure> {
    if let Some(key) = key_at_hand(path.clone()).await? {
        return Ok(key);
    }
    if !std::io::stdin().is_terminal() {
        return Err(refused_key(&path, &KeyError::PasswordRequired));
    }
    let typed = hidden(format!("Password of {}: ", path.display())).await?;
    read_key(path.clone(), Some(typed)).await?.map_err(|error| refused_key(&path, &error))
}

/// Reads a private key with the password of the environment; `None` where one is needed and not there.
async fn key_at_hand(path: PathBuf) -> Result<Option<LocalKey>, Failure> {
    match read_key(path.clone(), std::env::var("BLOB_KEY_PASSWORD").ok()).await? {
        Ok(key) => Ok(Some(key)),
        Err(KeyError::PasswordRequired) => Ok(None),
        Err(error) => Err(refused_key(&path, &error)),
    }
}

/// Elsewhere, also for the time that makes passwords hard to guess.
async fn read_key(path: PathBuf, password: Option<String>) -> Result<Result<LocalKey, KeyError>, Failure> {
    off_thread(move || Ok(LocalKey::from_file(&path, password.as_deref().map(str::as_bytes)))).await
}

/// A key that cannot be used, by the name of its file.
fn refused_key(path: &Path, error: &KeyError) -> Failure {
    if let KeyError::Read { .. } = error {
        return Failure::from_chain(error);
    }
    let mut problem = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        problem = format!("{problem}: {cause}");
        next = cause.source();
    }
    let failure = Failure::configuration(format!("the private key {} cannot be used", path.display()), &problem);
    match error {
        KeyError::PasswordRequired => failure.with_hint("set BLOB_KEY_PASSWORD"),
        _ => failure,
    }
}
