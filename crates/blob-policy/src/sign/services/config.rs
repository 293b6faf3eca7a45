//! Signing configurations: the file in which an instance names its services.

use std::error::Error;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use blob_core::plain;
use sigstore_trust_root::{
    SIGSTORE_PRODUCTION_SIGNING_CONFIG, ServiceConfiguration, ServiceEndpoint, ServiceSelector, SigningConfig,
};

use super::http::{ServiceError, address};
use super::{LogService, Services};

/// The largest signing configuration that is read: 1 MiB.
pub const MAX_SIGNING_CONFIG_BYTES: u64 = 1 << 20;

/// The interface of a transparency log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogVersion {
    /// Rekor v1: entries of many kinds, a promise and a time with each.
    V1,
    /// Rekor v2: entries in tiles, without a time, so that a time-stamp authority is needed.
    V2,
}

/// A signing configuration could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningConfigError {
    /// The file could not be read.
    #[error("reading the signing configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is larger than is looked at.
    #[error("the signing configuration has more than {MAX_SIGNING_CONFIG_BYTES} bytes")]
    TooLarge,
    /// It is not one of version 0.2.
    #[error("the signing configuration is malformed")]
    Malformed(#[source] Box<dyn Error + Send + Sync>),
    /// It asks for more services of a kind than it names, or says not how many.
    #[error("the signing configuration asks for {wanted} of the {named} {what} that it names and that can be used")]
    Selection {
        /// What it asks for.
        wanted: String,
        /// How many there are.
        named: usize,
        /// Of what.
        what: &'static str,
    },
    /// A service in it cannot be asked.
    #[error("the signing configuration names a service that cannot be asked")]
    Service(#[source] ServiceError),
}

impl Services {
    /// The services of the public-good instance, as they were when this crate was built. Logs change once or twice a year:
    /// a configuration that is fetched is better.
    ///
    /// # Errors
    /// [`SigningConfigError::Selection`] when the services have been retired since.
    pub fn production() -> Result<Self, SigningConfigError> {
        Self::from_signing_config(SIGSTORE_PRODUCTION_SIGNING_CONFIG.as_bytes(), None)
    }

    /// The services that a `signing_config.json` of version 0.2 asks for; logs of `version` alone, if that is given, else
    /// of the newest.
    ///
    /// # Errors
    /// [`SigningConfigError`].
    pub fn from_signing_config(json: &[u8], version: Option<LogVersion>) -> Result<Self, SigningConfigError> {
        fn malformed(source: impl Into<Box<dyn Error + Send + Sync>>) -> SigningConfigError {
            SigningConfigError::Malformed(source.into())
        }
        if json.len() as u64 > MAX_SIGNING_CONFIG_BYTES {
            return Err(SigningConfigError::TooLarge);
        }
        let config = SigningConfig::from_json(std::str::from_utf8(json).map_err(malformed)?).map_err(malformed)?;
        let url = |endpoint: &ServiceEndpoint| address(&endpoint.url).map_err(SigningConfigError::Service);
        let mut services = Self::new();
        services.fulcio = config.fulcio_url().map(url).transpose()?;
        services.issuer = config.oidc_url().map(url).transpose()?;
        let major = version.map(|version| if version == LogVersion::V1 { 1 } else { 2 });
        let logs = config.eligible_rekor_urls(major);
        for endpoint in select(&logs, &config.rekor_tlog_config, "logs")? {
            let version = if endpoint.major_api_version == 1 { LogVersion::V1 } else { LogVersion::V2 };
            services.logs.push(LogService { url: url(endpoint)?, version });
        }
        for endpoint in select(&config.eligible_tsa_urls(), &config.tsa_config, "time-stamp authorities")? {
            services.stamps.push(url(endpoint)?);
        }
        Ok(services)
    }

    /// Reads the file at `path` as [`from_signing_config`](Self::from_signing_config) does; blocks.
    ///
    /// # Errors
    /// [`SigningConfigError`].
    pub fn from_signing_config_file(path: &Path, version: Option<LogVersion>) -> Result<Self, SigningConfigError> {
        let read = |source| SigningConfigError::Read { path: path.to_owned(), source };
        let mut json = Vec::new();
        let file = plain::open(path).map_err(read)?;
        file.take(MAX_SIGNING_CONFIG_BYTES + 1).read_to_end(&mut json).map_err(read)?;
        Self::from_signing_config(&json, version)
    }
}

/// As many services as are asked for, each of another operator. None are asked for where none are named.
fn select<'a>(
    named: &[&'a ServiceEndpoint],
    wanted: &ServiceConfiguration,
    what: &'static str,
) -> Result<Vec<&'a ServiceEndpoint>, SigningConfigError> {
    let mut distinct: Vec<&ServiceEndpoint> = Vec::new();
    for endpoint in named {
        let known = |other: &&ServiceEndpoint| endpoint.operator.is_some() && other.operator == endpoint.operator;
        if !distinct.iter().any(known) {
            distinct.push(endpoint);
        }
    }
    let fail = |wanted: String| SigningConfigError::Selection { wanted, named: distinct.len(), what };
    let count = match (wanted.selector, wanted.count) {
        (ServiceSelector::Any, _) => distinct.len().min(1),
        (ServiceSelector::All, _) => distinct.len(),
        (ServiceSelector::Exact, Some(count)) => count as usize,
        (other, _) => return Err(fail(format!("{other:?}"))),
    };
    if count > distinct.len() || count > super::MAX_EACH {
        return Err(fail(count.to_string()));
    }
    distinct.truncate(count);
    Ok(distinct)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn config(logs: &Value, selection: &Value) -> Vec<u8> {
        json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "rekorTlogUrls": logs,
            "rekorTlogConfig": selection,
        })
        .to_string()
        .into_bytes()
    }

    fn log(operator: &str, version: u32) -> Value {
        let start = json!({"start": "2020-01-01T00:00:00Z"});
        let url = format!("https://{operator}{version}.example.com");
        json!({"url": url, "majorApiVersion": version, "operator": operator, "validFor": start})
    }

    #[test]
    fn services_are_chosen_as_is_asked() {
        let logs = json!([log("a", 1), log("a", 2), log("b", 1), log("c", 9)]);
        for (selection, version, expect) in [
            (json!({"selector": "ANY"}), None, Some(vec!["https://a2.example.com/"])),
            (json!({"selector": "ANY"}), Some(LogVersion::V1), Some(vec!["https://a1.example.com/"])),
            (json!({"selector": "ALL"}), None, Some(vec!["https://a2.example.com/", "https://b1.example.com/"])),
            (
                json!({"selector": "EXACT", "count": 2}),
                None,
                Some(vec!["https://a2.example.com/", "https://b1.example.com/"]),
            ),
            (json!({"selector": "EXACT", "count": 3}), None, None),
            (json!({"selector": "EXACT"}), None, None),
            (json!({"selector": "SERVICE_SELECTOR_UNDEFINED"}), None, None),
        ] {
            let read = Services::from_signing_config(&config(&logs, &selection), version);
            let urls = read.ok().map(|s| s.logs.iter().map(|log| log.url.to_string()).collect::<Vec<_>>());
            assert_eq!(urls, expect.map(|urls| urls.into_iter().map(str::to_owned).collect()), "{selection}");
        }
    }

    #[test]
    fn configurations_that_cannot_be_used_are_refused() {
        let plain = json!([{"url": "http://log.example.com", "majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z"}}]);
        let read = Services::from_signing_config(&config(&plain, &json!({"selector": "ANY"})), None);
        assert!(matches!(read, Err(SigningConfigError::Service(_))));
        assert!(matches!(Services::from_signing_config(b"{}", None), Err(SigningConfigError::Malformed(_))));
        let huge = vec![b' '; (1 << 20) + 1];
        assert!(matches!(Services::from_signing_config(&huge, None), Err(SigningConfigError::TooLarge)));
        assert!(Services::production().unwrap().has_certificate_authority());
    }
}
