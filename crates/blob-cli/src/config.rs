//! The configuration: files of the machine, the user and the project, the environment, and where each value is from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use blob::policy::file::PolicyRule;
use blob::policy::sigstore::TrustRoot;
use clap::ArgMatches;
use clap::parser::ValueSource;
use yaml_serde::Value;

use crate::alias::Aliases;
use crate::args::Global;
use crate::cache_flags::{CacheFlags, KINDS, LayerMax};
use crate::error::Failure;
use crate::trust::{Rules, context};

pub(crate) mod edit;
mod explain;
mod file;
pub(crate) mod keys;
pub(crate) mod place;
pub(crate) mod reference;
mod registry;
#[cfg(test)]
pub(crate) mod schema;
pub(crate) mod settings;
pub(crate) mod value;

use keys::{KEYS, Kind};
use place::{Layer, Places};
use settings::{CacheSettings, Settings};

pub(crate) use file::{Content, parse, read, similar};

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) layer: Layer,
    /// The file, variable or flag.
    pub(crate) place: Option<String>,
}

/// A value, and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<String>,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// The policies of a file.
#[derive(Clone, Debug)]
struct Asked {
    layer: Layer,
    /// What paths in it are relative to.
    dir: PathBuf,
    rules: Vec<PolicyRule>,
}

/// What is configured besides flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub(crate) places: Places,
    /// What all of it amounts to.
    pub(crate) settings: Settings,
    entries: Vec<Entry>,
    /// What archives must meet. No file takes away what another asks.
    policies: Vec<Asked>,
    /// Why files could not be used; the settings are those of the others.
    pub(crate) problems: Vec<Failure>,
}

impl Config {
    /// Reads everything. `named` is what --config or `BLOB_CONFIG` says.
    pub(crate) fn load(named: Option<&Path>) -> Self {
        let mut config = Self { places: Places::find(named), ..Self::default() };
        let places = config.places.clone();
        if let Some(why) = &places.lost {
            // What a project asks for would be left out without a word.
            let problem = format!("the working directory cannot be told, and with it what its project asks for: {why}");
            config.problems.push(Failure::usage(problem).with_hint("go to a directory that is there"));
        }
        let user = places.user.map(|(path, named)| (Layer::User, path, named));
        let files = places.system.map(|path| (Layer::System, path, false)).into_iter().chain(user);
        let nearest = places.project.clone();
        // From the farthest to the nearest.
        let projects = places.above.into_iter().rev().chain(places.project).map(|path| (Layer::Project, path, false));
        for (layer, path, named) in files.chain(projects) {
            match layer_of(layer, &path, named) {
                Ok((mut entries, policies)) => {
                    if layer == Layer::Project && nearest.as_ref() != Some(&path) {
                        // What the nearest file does not ask for is asked for all the same; the rest is its own affair.
                        entries.retain(|entry| demands(&entry.path));
                    }
                    config.add(entries);
                    let dir = path.parent().unwrap_or(Path::new("")).to_path_buf();
                    config.policies.extend(policies.map(|rules| Asked { layer, dir, rules }));
                }
                Err(problem) => config.problems.push(problem),
            }
        }
        match variables(|name| std::env::var(name).ok()) {
            Ok(entries) => config.add(entries),
            Err(problem) => config.problems.push(problem),
        }
        let tree = tree_of(&config.entries);
        config.settings = yaml_serde::from_value(tree).expect("each layer is valid, and so is what they have together");
        config
    }

    fn add(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            match self.entries.iter_mut().find(|known| known.path == entry.path) {
                // A project that is worked on cannot make a name of its user's mean something else.
                Some(known)
                    if is_alias(&entry.path)
                        && (known.origin.layer != Layer::System || entry.origin.layer == Layer::Project) => {}
                // All of them count.
                Some(_) if entry.path == ["policies"] => self.entries.push(entry),
                Some(known) => *known = entry,
                None => self.entries.push(entry),
            }
        }
    }

    /// What is configured, defaults left out, in the order of the table of keys.
    pub(crate) fn entries(&self) -> Vec<&Entry> {
        let place = |entry: &&Entry| KEYS.iter().position(|key| key.matches(&entry.path));
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| (place(a), &a.path).cmp(&(place(b), &b.path)));
        entries
    }

    /// The aliases.
    pub(crate) fn aliases(&self) -> Aliases {
        let of_project = self.entries.iter().filter(|entry| entry.origin.layer == Layer::Project);
        let of_project =
            of_project.filter(|entry| is_alias(&entry.path)).filter_map(|entry| entry.path.get(1).cloned());
        Aliases::new(self.settings.aliases.clone().unwrap_or_default(), of_project.collect())
    }

    /// What archives must meet; signatures are checked against `root`, or else the embedded one. A project, which comes
    /// from whoever wrote it, has no files read that are outside of it.
    pub(crate) fn rules(&self, root: Option<&TrustRoot>) -> Vec<Rules> {
        let rules = |asked: &Asked| {
            let context = context(&asked.dir, root);
            let context = if asked.layer == Layer::Project { context.confined() } else { context };
            Rules { rules: asked.rules.clone(), context }
        };
        self.policies.iter().map(rules).collect()
    }

    /// Whether archives must meet anything.
    pub(crate) fn has_rules(&self) -> bool {
        self.policies.iter().any(|asked| !asked.rules.is_empty())
    }

    /// The TUF repository that publishes the trust root, and the file that says how far it is believed.
    pub(crate) fn tuf(&self) -> Option<(String, Option<PathBuf>)> {
        let trust = self.settings.trust.as_ref()?;
        Some((trust.tuf_url.clone()?, trust.tuf_root.clone().map(below_home)))
    }

    /// Fills in what nobody typed.
    pub(crate) fn apply(&self, matches: &ArgMatches, global: &mut Global) {
        let settings = &self.settings;
        // An empty variable says nothing; taken for "no" it would switch off what the files ask for.
        let empty = |id: &str| {
            let raw = matches.try_get_raw(id).ok().flatten();
            raw.is_some_and(|mut values| values.all(std::ffi::OsStr::is_empty))
        };
        let typed = |id: &str| match matches.value_source(id) {
            Some(ValueSource::CommandLine) => true,
            Some(ValueSource::EnvVariable) => !empty(id),
            _ => false,
        };
        let (cache, limits) = (settings.cache(), settings.limits());
        // Who typed --color has said everything about colour.
        if !typed("color") {
            fill(typed("no_color"), &mut global.no_color, settings.no_color);
        }
        fill(typed("output"), &mut global.output, settings.output);
        fill(matches.value_source("verbose") == Some(ValueSource::CommandLine), &mut global.verbose, settings.verbose);
        fill(typed("quiet"), &mut global.quiet, settings.quiet);
        fill(typed("color"), &mut global.color, settings.color);
        fill(typed("progress"), &mut global.progress, settings.progress);
        fill(typed("log_format"), &mut global.log_format, settings.log_format);
        fill(typed("plain_http"), &mut global.plain_http, settings.plain_http);
        fill(typed("timeout"), &mut global.timeout, settings.timeout.map(Some));
        fill(typed("retries"), &mut global.retries, settings.retries.map(Some));
        fill(typed("jobs"), &mut global.jobs, settings.jobs.map(Some));
        fill(typed("offline"), &mut global.offline, settings.offline);
        fill(typed("require_signed"), &mut global.require_signed, settings.require_signed);
        fill(typed("max_index_size"), &mut global.max_index_size, limits.max_index_size.map(|size| Some(size.0)));
        fill(typed("max_entries"), &mut global.max_entries, limits.max_entries.map(Some));
        apply_cache(&cache, typed, &mut global.cache);
        fill(typed("no_cache"), &mut global.no_cache, cache.enabled.map(|enabled| !enabled));
        fill(typed("cache_dir"), &mut global.cache_dir, cache.dir.map(|dir| Some(below_home(dir))));
    }
}

/// Fills in what nobody typed about the cache. Caps of single layers add up: those that were typed come last, and count.
fn apply_cache(cache: &CacheSettings, typed: impl Fn(&str) -> bool, flags: &mut CacheFlags) {
    fill(typed("max"), &mut flags.max, cache.max_size.map(|size| Some(size.0)));
    fill(typed("tag_ttl"), &mut flags.tag_ttl, cache.ref_ttl.map(|time| Some(time.0)));
    let layers = [&cache.content, &cache.blocks, &cache.refs, &cache.manifests, &cache.indexes];
    let layers =
        || KINDS.into_iter().zip(layers).filter_map(|((_, layer), settings)| Some((layer, settings.as_ref()?)));
    let caps = layers().filter_map(|(layer, settings)| Some(LayerMax { layer, max: settings.max_size?.0 }));
    flags.layer_max.splice(0..0, caps);
    let off = layers().filter(|(_, settings)| settings.enabled == Some(false)).map(|(layer, _)| layer);
    fill(typed("without"), &mut flags.without, Some(off.collect()));
}

fn fill<T>(typed: bool, slot: &mut T, configured: Option<T>) {
    if let (false, Some(value)) = (typed, configured) {
        *slot = value;
    }
}

/// `~/` at the beginning is the home directory.
fn below_home(dir: PathBuf) -> PathBuf {
    match (dir.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => dir,
    }
}

fn is_alias(path: &[String]) -> bool {
    path.first().is_some_and(|first| first == "aliases")
}

/// Whether a key only ever asks for more.
fn demands(path: &[String]) -> bool {
    path == ["policies"] || path == ["require_signed"]
}

/// The values of a file, and its policies.
fn layer_of(layer: Layer, path: &Path, named: bool) -> Result<(Vec<Entry>, Option<Vec<PolicyRule>>), Failure> {
    let Some(text) = read(path)? else {
        if named {
            let message = format!("reading the configuration {}", path.display());
            let failure = Failure::configuration(message, "there is no such file");
            return Err(failure.with_hint("`blob config edit` makes it"));
        }
        return Ok((Vec::new(), None));
    };
    let content = parse(path, &text)?;
    if layer == Layer::Project {
        check_project(path, &content)?;
    }
    let origin = Origin { layer, place: Some(path.display().to_string()) };
    let values = leaves(&content.tree).into_iter();
    let entries = values.map(|(path, value)| Entry { path, value, origin: origin.clone() }).collect();
    Ok((entries, content.settings.policies))
}

/// A project's file comes with the project, from whoever wrote it: it cannot lower what protects its user.
pub(crate) fn check_project(path: &Path, content: &Content) -> Result<(), Failure> {
    let refused = |key: &[String], problem: String| {
        let place = content.place(path, key);
        let failure = Failure::configuration(format!("the configuration {place} is wrong"), &problem);
        Err(failure.with_hint("set it in the user's configuration: `blob config path` says where that is"))
    };
    for (key, _) in leaves(&content.tree) {
        if keys::find(&key).is_none_or(|key| !key.in_projects) {
            return refused(&key, format!("`{}` cannot be set by a project", keys::join(&key)));
        }
    }
    for name in content.settings.aliases.iter().flatten().map(|(name, _)| name) {
        if let Err(problem) = crate::alias::check_of_project(name) {
            return refused(&["aliases".into(), name.clone()], problem);
        }
    }
    if content.settings.require_signed == Some(false) {
        return refused(&["require_signed".into()], "a project cannot set `require_signed` to false".into());
    }
    Ok(())
}

/// What the environment says.
fn variables(variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for key in KEYS {
        let Some(name) = key.variable else { continue };
        let Some(text) = variable(name).filter(|text| !text.is_empty()) else { continue };
        let path = keys::split(key.path);
        let value = typed(key.kind, &text);
        let entry = Entry { path, value, origin: Origin { layer: Layer::Variable, place: Some(name.into()) } };
        check_value(&entry).map_err(|problem| Failure::configuration(format!("{name} is {text:?}"), &problem))?;
        entries.push(entry);
    }
    Ok(entries)
}

/// Whether a value can be that of its key, whatever else is configured.
pub(crate) fn check_value(entry: &Entry) -> Result<(), String> {
    let settings = yaml_serde::from_value::<Settings>(tree_of(std::slice::from_ref(entry)));
    // Trees that were parsed before do not say which key it was, files do.
    let key = keys::join(&entry.path);
    let settings = settings.map_err(|error| explain::problem_at(&key, &error.to_string()))?;
    file::check(&settings).map_err(|wrong| wrong.problem)
}

/// A text as the value of a key.
pub(crate) fn typed(kind: Kind, text: &str) -> Value {
    match kind {
        // What is no truth value is refused as the text that it is.
        Kind::Bool => value::truth(text).map_or_else(|_| text.into(), Value::Bool),
        Kind::Number => text.trim().parse::<u64>().map_or_else(|_| text.into(), Value::from),
        Kind::List => Value::Sequence(text.split(',').map(|item| item.trim().into()).collect()),
        Kind::Text | Kind::Size | Kind::Time | Kind::Rules | Kind::Word(_) => text.into(),
    }
}

/// The values of a tree with their paths; maps are not values, everything else is.
pub(crate) fn leaves(tree: &Value) -> Vec<(Vec<String>, Value)> {
    let Value::Mapping(members) = tree else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in members {
        let key = key.as_str().unwrap_or_default().to_owned();
        match value {
            Value::Mapping(_) => found.extend(leaves(value).into_iter().map(|(mut path, value)| {
                path.insert(0, key.clone());
                (path, value)
            })),
            Value::Null => {}
            _ => found.push((vec![key], value.clone())),
        }
    }
    found
}

/// The tree of which these are the values.
pub(crate) fn tree_of(entries: &[Entry]) -> Value {
    let mut tree: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    let mut mapping = yaml_serde::Mapping::new();
    for entry in entries {
        match entry.path.as_slice() {
            [] => {}
            [key] => drop(mapping.insert(key.as_str().into(), entry.value.clone())),
            [key, rest @ ..] => {
                tree.entry(key.clone()).or_default().push(Entry { path: rest.to_vec(), ..entry.clone() });
            }
        }
    }
    for (key, below) in tree {
        mapping.insert(key.into(), tree_of(&below));
    }
    Value::Mapping(mapping)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tree_is_made_of_its_values() {
        let tree: Value =
            yaml_serde::from_str("cache:\n  dir: a\n  refs:\n    enabled: false\noutput: json\n").unwrap();
        let origin = Origin { layer: Layer::User, place: None };
        let entries: Vec<Entry> =
            leaves(&tree).into_iter().map(|(path, value)| Entry { path, value, origin: origin.clone() }).collect();
        assert_eq!(entries.len(), 3);
        assert_eq!(tree_of(&entries), tree);
    }

    #[test]
    fn variables_are_checked_one_by_one() {
        let one = |name: &'static str, text: &'static str| variables(move |asked| (asked == name).then(|| text.into()));
        let entries = one("BLOB_CACHE_MAX", "2G").unwrap();
        assert_eq!(entries[0].path, ["cache", "max_size"]);
        assert_eq!(one("BLOB_CACHE_REFS_ENABLED", "off").unwrap()[0].value, Value::Bool(false));
        assert_eq!(one("BLOB_VERBOSE", "2").unwrap()[0].value, Value::from(2_u64));
        assert!(one("BLOB_CACHE_MAX", "").unwrap().is_empty());
        for (name, text) in [
            ("BLOB_CACHE_MAX", "lots"),
            ("BLOB_VERBOSE", "much"),
            ("BLOB_TAG_TTL", "x"),
            ("BLOB_PLAIN_HTTP", "nope"),
            ("BLOB_CACHE_ENABLED", "flase"),
        ] {
            let said = one(name, text).unwrap_err().text();
            assert!(said.starts_with(&format!("error: {name} is {text:?}: ")), "{said}");
        }
    }

    #[test]
    fn projects_cannot_lower_what_protects() {
        let path = Path::new(".blob.yaml");
        for (text, allowed) in [
            ("output: json\ncompression: none\naliases:\n  a: ghcr.io/x\n", true),
            ("aliases:\n  registry/acme/app: oci:here\n", false),
            ("require_signed: true\n", true),
            ("require_signed: false\n", false),
            ("plain_http: true\n", false),
            ("cache:\n  dir: /etc\n", false),
            ("limits:\n  max_entries: 1\n", false),
        ] {
            assert_eq!(check_project(path, &parse(path, text).unwrap()).is_ok(), allowed, "{text}");
        }
    }

    #[test]
    fn every_setting_has_its_key() {
        let text = include_str!("config/complete.yaml");
        let content = parse(Path::new("complete.yaml"), text).unwrap();
        let mut found: Vec<&str> = Vec::new();
        for (path, _) in leaves(&content.tree) {
            found.push(keys::find(&path).unwrap_or_else(|| panic!("{path:?} is no key")).path);
        }
        for key in KEYS {
            assert!(found.contains(&key.path), "{} is not in complete.yaml", key.path);
        }
    }
}
