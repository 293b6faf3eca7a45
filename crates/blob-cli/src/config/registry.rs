//! What a file can say about one registry.

use std::collections::BTreeMap;
use std::path::PathBuf;

use blob::RegistryOptions;
use blob::http::Proxy;
use blob::{ClientCertificate, Mirror};
use serde::{Deserialize, Serialize};

use super::value::Duration;

/// How one registry is reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RegistrySettings {
    #[serde(alias = "plain-http", skip_serializing_if = "Option::is_none")]
    plain_http: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    insecure: Option<bool>,
    #[serde(alias = "ca-files", alias = "ca_file", alias = "ca-file", skip_serializing_if = "Option::is_none")]
    ca_files: Option<OneOrMore>,
    #[serde(alias = "system-roots", skip_serializing_if = "Option::is_none")]
    system_roots: Option<bool>,
    #[serde(alias = "client-cert", skip_serializing_if = "Option::is_none")]
    client_cert: Option<PathBuf>,
    #[serde(alias = "client-key", skip_serializing_if = "Option::is_none")]
    client_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirrors: Option<OneOrMore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    #[serde(alias = "user-agent", skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(alias = "connect-timeout", skip_serializing_if = "Option::is_none")]
    connect_timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
    #[serde(alias = "token-hosts", skip_serializing_if = "Option::is_none")]
    token_hosts: Option<OneOrMore>,
    #[serde(alias = "private-token-services", skip_serializing_if = "Option::is_none")]
    private_token_services: Option<bool>,
    #[serde(alias = "clean-referrers", skip_serializing_if = "Option::is_none")]
    clean_referrers: Option<bool>,
}

/// A text, or a list of texts.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum OneOrMore {
    More(Vec<String>),
    One(String),
}

impl OneOrMore {
    fn items(list: Option<&Self>) -> &[String] {
        match list {
            Some(Self::More(items)) => items,
            Some(Self::One(item)) => std::slice::from_ref(item),
            None => &[],
        }
    }
}

impl RegistrySettings {
    /// The same in the library's words.
    ///
    /// # Errors
    /// What cannot be meant.
    pub(crate) fn options(&self) -> Result<RegistryOptions, String> {
        let mut options = RegistryOptions::default();
        options.plain_http = self.plain_http;
        options.danger_accept_invalid_certs = self.insecure.unwrap_or_default();
        options.ca_files = OneOrMore::items(self.ca_files.as_ref()).iter().map(PathBuf::from).collect();
        options.system_roots = self.system_roots.unwrap_or(options.system_roots);
        options.client_certificate = match (&self.client_cert, &self.client_key) {
            // One file may hold both.
            (Some(chain), key) => {
                Some(ClientCertificate { chain: chain.clone(), key: key.as_ref().unwrap_or(chain).clone() })
            }
            (None, Some(_)) => return Err("client_key: there is no client_cert that belongs to it".into()),
            (None, None) => None,
        };
        for mirror in OneOrMore::items(self.mirrors.as_ref()) {
            options = options.with_mirror(Mirror::parse(mirror).map_err(|error| format!("mirrors: {error}"))?);
        }
        for (name, value) in self.headers.iter().flatten() {
            options = options.with_header(name, value);
        }
        options.proxy = self.proxy.as_deref().map(|url| if url == "none" { Proxy::None } else { Proxy::explicit(url) });
        options.user_agent.clone_from(&self.user_agent);
        options.connect_timeout = self.connect_timeout.map(|time| time.0);
        options.idle_timeout = self.timeout.map(|time| time.0);
        options.token_hosts = OneOrMore::items(self.token_hosts.as_ref()).to_vec();
        options.private_token_services = self.private_token_services.unwrap_or_default();
        options.clean_referrers = self.clean_referrers.unwrap_or_default();
        Ok(options)
    }
}

/// Whether `host` names a registry.
///
/// # Errors
/// What is expected instead.
pub(crate) fn check_host(host: &str) -> Result<(), String> {
    match format!("{host}/x").parse::<blob::registry::Reference>() {
        Ok(reference) if reference.host() == host => Ok(()),
        _ => Err("expected the name of a registry, such as ghcr.io or localhost:5000".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_become_options() {
        let text = "ca_file: ca.pem\nclient-cert: both.pem\nmirrors: [https://mirror.example/ghcr]\nproxy: none\n\
                    headers:\n  X-Team: assets\ntimeout: 90s\ninsecure: true\n";
        let options = yaml_serde::from_str::<RegistrySettings>(text).unwrap().options().unwrap();
        assert_eq!(options.ca_files, [PathBuf::from("ca.pem")]);
        assert_eq!(options.client_certificate.unwrap().key, PathBuf::from("both.pem"));
        assert_eq!((options.mirrors.len(), options.headers.len()), (1, 1));
        assert!(options.danger_accept_invalid_certs && options.proxy == Some(Proxy::None));
        assert_eq!(options.idle_timeout.unwrap().as_secs(), 90);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in ["client_key: k.pem\n", "mirrors: ['not a mirror']\n"] {
            assert!(yaml_serde::from_str::<RegistrySettings>(text).unwrap().options().is_err(), "{text}");
        }
        assert!(check_host("localhost:5000").is_ok() && check_host("ghcr.io").is_ok());
        for host in ["", "a/b", "https://ghcr.io", "a b"] {
            assert!(check_host(host).is_err(), "{host}");
        }
    }
}
