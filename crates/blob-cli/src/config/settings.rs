//! What a configuration file can say.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;

use blob::policy::file::PolicyRule;
use serde::{Deserialize, Serialize};

use super::registry::RegistrySettings;
use super::value::{Duration, Size};
use crate::args::{Format, LogFormat, ProgressMode, When};

/// The content of a file. Everything may be left out; what is not here is refused. Keys may be written with hyphens, as
/// in files of the Go program, and run together, as that program wrote them itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Format>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verbose: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quiet: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) color: Option<When>,
    #[serde(alias = "no-color", alias = "nocolor", skip_serializing_if = "Option::is_none")]
    pub(crate) no_color: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<ProgressMode>,
    #[serde(alias = "log-format", skip_serializing_if = "Option::is_none")]
    pub(crate) log_format: Option<LogFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compression: Option<CompressionName>,
    #[serde(alias = "plain-http", alias = "plainhttp", skip_serializing_if = "Option::is_none")]
    pub(crate) plain_http: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jobs: Option<NonZero<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offline: Option<bool>,
    #[serde(alias = "require-signed", skip_serializing_if = "Option::is_none")]
    pub(crate) require_signed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<LimitSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<CacheSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) registries: Option<BTreeMap<String, RegistrySettings>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aliases: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trust: Option<TrustSettings>,
    /// As in policy files.
    #[serde(deserialize_with = "listed", skip_serializing_if = "Option::is_none")]
    pub(crate) policies: Option<Vec<PolicyRule>>,
}

/// A key without a value is no list: somebody meant to ask for something.
fn listed<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<PolicyRule>>, D::Error> {
    Vec::deserialize(from).map(Some)
}

/// Whom signatures are checked by.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TrustSettings {
    #[serde(alias = "tuf-url", skip_serializing_if = "Option::is_none")]
    pub(crate) tuf_url: Option<String>,
    #[serde(alias = "tuf-root", skip_serializing_if = "Option::is_none")]
    pub(crate) tuf_root: Option<PathBuf>,
}

/// How files are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CompressionName {
    None,
    Zstd,
}

/// How much is taken on from outside.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitSettings {
    #[serde(alias = "max-index-size", skip_serializing_if = "Option::is_none")]
    pub(crate) max_index_size: Option<Size>,
    #[serde(alias = "max-entries", skip_serializing_if = "Option::is_none")]
    pub(crate) max_entries: Option<NonZero<usize>>,
}

/// The cache as a whole.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CacheSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<PathBuf>,
    #[serde(alias = "max-size", alias = "maxsize", skip_serializing_if = "Option::is_none")]
    pub(crate) max_size: Option<Size>,
    #[serde(alias = "ref-ttl", alias = "refttl", skip_serializing_if = "Option::is_none")]
    pub(crate) ref_ttl: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<LayerSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocks: Option<LayerSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refs: Option<LayerSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) manifests: Option<LayerSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) indexes: Option<LayerSettings>,
}

/// One kind of cached things.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LayerSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enabled: Option<bool>,
    #[serde(alias = "max-size", alias = "maxsize", skip_serializing_if = "Option::is_none")]
    pub(crate) max_size: Option<Size>,
}

impl Settings {
    /// The settings of the cache, empty if there are none.
    pub(crate) fn cache(&self) -> CacheSettings {
        self.cache.clone().unwrap_or_default()
    }

    /// The limits, empty if there are none.
    pub(crate) fn limits(&self) -> LimitSettings {
        self.limits.clone().unwrap_or_default()
    }
}
