//! How much the cache keeps, what it keeps, and how long tags are believed.

use std::str::FromStr;
use std::time::Duration;

use blob::Layer;
use blob::cache::CacheOptions;
use clap::Args;

use crate::ui::{duration, size};

/// The layers as they are typed and listed, in that order.
pub(crate) const KINDS: [(&str, Layer); 5] = [
    ("content", Layer::Contents),
    ("blocks", Layer::Blocks),
    ("refs", Layer::Tags),
    ("manifests", Layer::Manifests),
    ("indexes", Layer::Indexes),
];

/// What was said of the cache; what was not said has its default.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Global options")]
pub(crate) struct CacheFlags {
    /// The most that the whole cache holds [default: 5G].
    #[arg(long = "cache-max", hide_short_help = true, global = true, env = "BLOB_CACHE_MAX", value_name = "SIZE", value_parser = size::parse)]
    pub(crate) max: Option<u64>,

    /// The most that one kind of entries takes of it, as content=1G; kinds: content, blocks, refs, manifests, indexes.
    #[arg(
        long = "cache-layer-max",
        hide_short_help = true,
        global = true,
        env = "BLOB_CACHE_LAYER_MAX",
        value_name = "KIND=SIZE",
        value_delimiter = ','
    )]
    pub(crate) layer_max: Vec<LayerMax>,

    /// Do without these kinds of entries: content, blocks, refs, manifests, indexes.
    #[arg(long = "cache-without", hide_short_help = true, global = true, env = "BLOB_CACHE_WITHOUT", value_name = "KIND", value_delimiter = ',', value_parser = layer)]
    pub(crate) without: Vec<Layer>,

    /// How long it is believed what a tag names, as 30s, 5m, 2h or 1d; 0 asks the registry each time [default: 5m].
    #[arg(long = "tag-ttl", hide_short_help = true, global = true, env = "BLOB_TAG_TTL", value_name = "TIME", value_parser = duration::parse)]
    pub(crate) tag_ttl: Option<Duration>,
}

/// A cap of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerMax {
    pub(crate) layer: Layer,
    /// In bytes.
    pub(crate) max: u64,
}

impl FromStr for LayerMax {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, max) = text.split_once('=').ok_or_else(|| format!("expected KIND=SIZE, got {text:?}"))?;
        Ok(Self { layer: layer(name)?, max: size::parse(max)? })
    }
}

/// The layer that is called `name`.
pub(crate) fn layer(name: &str) -> Result<Layer, String> {
    let name = name.trim();
    let known = KINDS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer);
    known.ok_or_else(|| format!("{name:?} is none of {}", KINDS.map(|(name, _)| name).join(", ")))
}

impl CacheFlags {
    /// The options of the cache directory. Of several caps for one layer the last counts.
    pub(crate) fn options(&self) -> CacheOptions {
        let mut options = CacheOptions::default();
        options.max_bytes = self.max.unwrap_or(options.max_bytes);
        options.tag_ttl = self.tag_ttl.unwrap_or(options.tag_ttl);
        for cap in &self.layer_max {
            let slot = match cap.layer {
                Layer::Blocks => &mut options.blocks_max_bytes,
                Layer::Tags => &mut options.tags_max_bytes,
                Layer::Manifests => &mut options.manifests_max_bytes,
                Layer::Indexes => &mut options.indexes_max_bytes,
                _ => &mut options.contents_max_bytes,
            };
            *slot = Some(cap.max);
        }
        options
    }

    /// Whether `layer` is used.
    pub(crate) fn uses(&self, layer: Layer) -> bool {
        !self.without.contains(&layer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn caps_and_times_reach_the_cache() {
        let layer_max = ["content=1G", "refs=0", "content=2G"].map(|text| text.parse().unwrap()).to_vec();
        let flags = CacheFlags { max: Some(7), layer_max, without: vec![Layer::Blocks], tag_ttl: Some(Duration::ZERO) };
        let options = flags.options();
        assert_eq!((options.max_bytes, options.tag_ttl), (7, Duration::ZERO));
        assert_eq!((options.contents_max_bytes, options.tags_max_bytes), (Some(2 << 30), Some(0)));
        assert_eq!((flags.uses(Layer::Blocks), flags.uses(Layer::Tags)), (false, true));
        assert_eq!(CacheFlags::default().options(), CacheOptions::default());
    }

    #[test]
    fn wrong_caps_are_explained() {
        for (text, expected) in [("content", "KIND=SIZE"), ("files=1G", "none of content"), ("refs=x", "not a size")] {
            let message = text.parse::<LayerMax>().unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
