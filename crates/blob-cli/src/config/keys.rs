//! Every key of the configuration, once: its environment variable, its flag, its default, and who may set it.

/// What kind of value a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Number,
    Text,
    Size,
    Time,
    /// Texts, typed with commas between them.
    List,
    /// Rules, which only a file can hold.
    Rules,
    /// A word of a few.
    Word(&'static [&'static str]),
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its place, `outer.inner`. A `*` stands for names that the file gives.
    pub(crate) path: &'static str,
    /// The environment variable that says the same.
    pub(crate) variable: Option<&'static str>,
    /// The option that says the same.
    pub(crate) flag: Option<&'static str>,
    pub(crate) kind: Kind,
    /// As it is shown.
    pub(crate) default: &'static str,
    /// Whether a project's file may set it.
    pub(crate) in_projects: bool,
    pub(crate) about: &'static str,
}

impl Key {
    const fn new(path: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Self {
        Self { path, variable: None, flag: None, kind, default, in_projects: false, about }
    }

    const fn variable(self, name: &'static str) -> Self {
        Self { variable: Some(name), ..self }
    }

    const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }

    const fn in_projects(self) -> Self {
        Self { in_projects: true, ..self }
    }

    /// Whether this is the key of the value at `path`.
    pub(crate) fn matches(&self, path: &[String]) -> bool {
        let own: Vec<&str> = self.path.split('.').collect();
        own.len() == path.len() && own.iter().zip(path).all(|(own, typed)| *own == "*" || own == typed)
    }
}

const WHEN: Kind = Kind::Word(&["auto", "always", "never"]);

/// All keys, in the order in which they are shown.
pub(crate) const KEYS: &[Key] = &[
    Key::new("output", Kind::Word(&["text", "json", "jsonl", "plain", "table"]), "text", "How results are written.")
        .variable("BLOB_OUTPUT")
        .flag("--output")
        .in_projects(),
    Key::new(
        "verbose",
        Kind::Number,
        "0",
        "How much is told on standard error: 1 what happens, 2 every request, 3 everything.",
    )
    .variable("BLOB_VERBOSE")
    .flag("--verbose")
    .in_projects(),
    Key::new("quiet", Kind::Bool, "false", "Leave out what is said besides data.")
        .variable("BLOB_QUIET")
        .flag("--quiet")
        .in_projects(),
    Key::new("color", WHEN, "auto", "When to use colour.").variable("BLOB_COLOR").flag("--color").in_projects(),
    Key::new("no_color", Kind::Bool, "false", "Use no colour, whatever `color` says.")
        .variable("BLOB_NO_COLOR")
        .flag("--no-color")
        .in_projects(),
    Key::new(
        "progress",
        Kind::Word(&["auto", "always", "never", "json"]),
        "auto",
        "When to show progress on standard error; `json` writes a line for programs each second.",
    )
    .variable("BLOB_PROGRESS")
    .flag("--progress")
    .in_projects(),
    Key::new("log_format", Kind::Word(&["text", "json"]), "text", "How `--verbose` and `--trace-file` write.")
        .variable("BLOB_LOG_FORMAT")
        .flag("--log-format")
        .in_projects(),
    Key::new("compression", Kind::Word(&["none", "zstd"]), "zstd", "How `push` stores files.")
        .variable("BLOB_COMPRESSION")
        .flag("--compression")
        .in_projects(),
    Key::new("plain_http", Kind::Bool, "false", "Speak plain HTTP to every registry.")
        .variable("BLOB_PLAIN_HTTP")
        .flag("--plain-http"),
    Key::new("timeout", Kind::Time, "30s", "Give up when no byte has moved for this long, at most a day.")
        .variable("BLOB_TIMEOUT")
        .flag("--timeout")
        .in_projects(),
    Key::new("retries", Kind::Number, "5", "Try failed requests again this many times in a row.")
        .variable("BLOB_RETRIES")
        .flag("--retries")
        .in_projects(),
    Key::new("jobs", Kind::Number, "", "How much is done at a time: threads and requests; by default a thread for each core and 4 requests.")
        .variable("BLOB_JOBS")
        .flag("--jobs")
        .in_projects(),
    Key::new("offline", Kind::Bool, "false", "Send no request: answer from the cache, or say what is missing.")
        .variable("BLOB_OFFLINE")
        .flag("--offline")
        .in_projects(),
    Key::new(
        "require_signed",
        Kind::Bool,
        "false",
        "Open only archives that a policy verified. A project may demand it, not give it up.",
    )
    .variable("BLOB_REQUIRE_SIGNED")
    .flag("--require-signed")
    .in_projects(),
    Key::new("limits.max_index_size", Kind::Size, "256M", "The largest index that is read.")
        .variable("BLOB_MAX_INDEX_SIZE")
        .flag("--max-index-size"),
    Key::new(
        "limits.max_entries",
        Kind::Number,
        "16777216",
        "The most files, links and empty directories of an archive that is opened.",
    )
    .variable("BLOB_MAX_ENTRIES")
    .flag("--max-entries"),
    Key::new("cache.enabled", Kind::Bool, "true", "Keep what was fetched. `false` is --no-cache.")
        .variable("BLOB_CACHE_ENABLED"),
    Key::new("cache.dir", Kind::Text, "$XDG_CACHE_HOME/blob", "Where it is kept; `~/` is the home directory.")
        .variable("BLOB_CACHE_DIR")
        .flag("--cache-dir"),
    Key::new("cache.max_size", Kind::Size, "5G", "The most that the cache holds.")
        .variable("BLOB_CACHE_MAX")
        .flag("--cache-max"),
    Key::new("cache.ref_ttl", Kind::Time, "5m", "How long it is believed what a tag points at.")
        .variable("BLOB_TAG_TTL")
        .flag("--tag-ttl"),
    Key::new("cache.content.enabled", Kind::Bool, "true", "Keep contents of files.")
        .variable("BLOB_CACHE_CONTENT_ENABLED"),
    Key::new("cache.content.max_size", Kind::Size, "", "A lower cap for contents of files.")
        .variable("BLOB_CACHE_CONTENT_MAX_SIZE"),
    Key::new("cache.blocks.enabled", Kind::Bool, "true", "Keep blocks of data that is read in parts.")
        .variable("BLOB_CACHE_BLOCKS_ENABLED"),
    Key::new("cache.blocks.max_size", Kind::Size, "", "A lower cap for blocks.").variable("BLOB_CACHE_BLOCKS_MAX_SIZE"),
    Key::new("cache.refs.enabled", Kind::Bool, "true", "Keep what tags point at.").variable("BLOB_CACHE_REFS_ENABLED"),
    Key::new("cache.refs.max_size", Kind::Size, "", "A lower cap for tags.").variable("BLOB_CACHE_REFS_MAX_SIZE"),
    Key::new("cache.manifests.enabled", Kind::Bool, "true", "Keep manifests.").variable("BLOB_CACHE_MANIFESTS_ENABLED"),
    Key::new("cache.manifests.max_size", Kind::Size, "", "A lower cap for manifests.")
        .variable("BLOB_CACHE_MANIFESTS_MAX_SIZE"),
    Key::new("cache.indexes.enabled", Kind::Bool, "true", "Keep indexes.").variable("BLOB_CACHE_INDEXES_ENABLED"),
    Key::new("cache.indexes.max_size", Kind::Size, "", "A lower cap for indexes.")
        .variable("BLOB_CACHE_INDEXES_MAX_SIZE"),
    Key::new("registries.*.plain_http", Kind::Bool, "", "Speak plain HTTP to this registry."),
    Key::new(
        "registries.*.insecure",
        Kind::Bool,
        "",
        "Accept any certificate: whoever is on the way can read and change everything.",
    ),
    Key::new(
        "registries.*.ca_files",
        Kind::List,
        "",
        "PEM files of certificate authorities to trust; `ca_file` for one.",
    ),
    Key::new("registries.*.system_roots", Kind::Bool, "", "Trust the system's authorities too; they are by default."),
    Key::new("registries.*.client_cert", Kind::Text, "", "A PEM file with the certificate to show to this registry."),
    Key::new("registries.*.client_key", Kind::Text, "", "The PEM file with its key, if that is another one."),
    Key::new("registries.*.mirrors", Kind::List, "", "Where content is looked for first when it is read."),
    Key::new("registries.*.headers.*", Kind::Text, "", "A header of every request to the registry; it is never shown."),
    Key::new("registries.*.proxy", Kind::Text, "", "The URL of the proxy for this registry, or `none`."),
    Key::new("registries.*.user_agent", Kind::Text, "", "The name of the program for this registry."),
    Key::new("registries.*.connect_timeout", Kind::Time, "", "The most time for making a connection."),
    Key::new("registries.*.timeout", Kind::Time, "", "The longest pause in which nothing moves."),
    Key::new(
        "registries.*.token_hosts",
        Kind::List,
        "",
        "Hosts that may issue tokens whatever their address is. They see credentials.",
    ),
    Key::new(
        "registries.*.private_token_services",
        Kind::Bool,
        "",
        "Let addresses of private networks issue tokens. They see credentials.",
    ),
    Key::new(
        "registries.*.clean_referrers",
        Kind::Bool,
        "",
        "On a registry without the referrers API, delete the lists of referrers that newer ones replace.",
    ),
    Key::new("aliases.*", Kind::Text, "", "What a name stands for: see [aliases](cli.md#aliases).").in_projects(),
    Key::new(
        "trust.tuf_url",
        Kind::Text,
        "",
        "The TUF repository of the trust root that signatures are checked by, instead of the built-in one.",
    )
    .variable("BLOB_TUF_URL")
    .flag("--tuf-url"),
    Key::new(
        "trust.tuf_root",
        Kind::Text,
        "",
        "The `root.json` by which that repository is believed; `~/` is the home directory.",
    )
    .variable("BLOB_TUF_ROOT")
    .flag("--tuf-root"),
    Key::new(
        "policies",
        Kind::Rules,
        "",
        "What archives must meet, as in [policy files](trust.md). Those of all files count; a project adds to its user's.",
    )
    .in_projects(),
];

/// The key of the value at `path`.
pub(crate) fn find(path: &[String]) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.matches(path))
}

/// Whether there are keys below `path`, and none at it.
pub(crate) fn is_map(path: &[String]) -> bool {
    let below = |key: &&Key| {
        let own: Vec<&str> = key.path.split('.').collect();
        own.len() > path.len() && own.iter().zip(path).all(|(own, typed)| *own == "*" || own == typed)
    };
    find(path).is_none() && KEYS.iter().any(|key| below(&key))
}

/// Takes `cache.max-size` and `aliases.v1.2` apart: what stands behind a map's name belongs to one name. Hyphens count as
/// underscores but in names.
pub(crate) fn split(typed: &str) -> Vec<String> {
    let plain = |element: &str| element.replace('-', "_");
    match typed.split_once('.') {
        Some(("aliases", name)) => vec!["aliases".into(), name.into()],
        Some(("registries", rest)) => {
            let (host, option) = match rest.split_once(".headers.") {
                Some((host, header)) => (host, vec!["headers".into(), header.into()]),
                None => rest.rsplit_once('.').map_or((rest, Vec::new()), |(host, option)| match plain(option) {
                    // Files may say it of one, too.
                    one if one == "ca_file" => (host, vec!["ca_files".into()]),
                    option => (host, vec![option]),
                }),
            };
            [vec!["registries".into(), host.into()], option].concat()
        }
        _ => typed.split('.').map(plain).collect(),
    }
}

/// A path as it is typed.
pub(crate) fn join(path: &[String]) -> String {
    path.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_dots_and_hyphens() {
        assert_eq!(split("cache.max-size"), ["cache", "max_size"]);
        assert_eq!(split("aliases.my-v1.2"), ["aliases", "my-v1.2"]);
        assert_eq!(split("registries.ghcr.io.ca-files"), ["registries", "ghcr.io", "ca_files"]);
        assert_eq!(split("registries.localhost:5000.ca-file"), ["registries", "localhost:5000", "ca_files"]);
        assert_eq!(
            split("registries.localhost:5000.headers.X-Team"),
            ["registries", "localhost:5000", "headers", "X-Team"]
        );
        assert!(find(&split("aliases.a.b")).is_some() && find(&split("cache.content.max_size")).is_some());
        assert!(find(&split("cache.max_sise")).is_none() && find(&split("cache")).is_none());
        for (typed, expect) in [
            ("cache", true),
            ("cache.refs", true),
            ("aliases", true),
            ("output", false),
            ("cach", false),
            ("aliases.a", false),
        ] {
            assert_eq!(is_map(&split(typed)), expect, "{typed}");
        }
    }

    #[test]
    fn every_key_is_there_once() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(
                KEYS[..at]
                    .iter()
                    .all(|other| other.path != key.path && (key.variable.is_none() || other.variable != key.variable))
            );
            assert!(key.about.ends_with('.'), "{}", key.path);
        }
    }
}
