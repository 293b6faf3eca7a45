//! `blob config show`: every key with its value, and where that is from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::Format;
use crate::cache_place::CachePlace;
use crate::config::keys::{self, KEYS};
use crate::config::place::Layer;
use crate::config::{self, Entry, typed};
use crate::error::Failure;
use crate::session::Session;
use crate::ui::escape::shown;
use crate::ui::json;
use crate::ui::output::complain;
use crate::ui::table::{Align, Cell, Table};

/// Where a value is from.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Origin {
    /// `flag`, `environment`, `project`, `user`, `system` or `default`.
    pub(super) layer: &'static str,
    /// The file, variable or flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<String>,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Effective {
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// The value of a key: that of the one place which sets it, or, of a list, what several add up to. That is from nowhere in
/// particular.
pub(super) fn joined(mut found: Vec<Effective>) -> Option<(Value, Option<Origin>)> {
    if found.len() < 2 {
        return found.pop().map(|one| (one.value, Some(one.origin)));
    }
    let items = |one: Effective| match one.value {
        Value::Array(items) => items,
        value => vec![value],
    };
    Some((found.into_iter().flat_map(items).collect(), None))
}

/// Every key with what it amounts to: flags, variables, files, defaults.
pub(super) fn effective(session: &Session) -> Vec<Effective> {
    let entries = session.config.entries();
    let mut all = Vec::new();
    for key in KEYS {
        let flag = key.flag.filter(|flag| session.flags.contains(&id_of(flag)));
        let configured = entries.iter().filter(|entry| key.matches(&entry.path));
        if let (Some(flag), Some(value)) = (flag, typed_value(key.path, session)) {
            let origin = Origin { layer: Layer::Flag.name(), place: Some(flag.to_owned()) };
            all.push(Effective { path: keys::split(key.path), value, origin });
            continue;
        }
        let before = all.len();
        all.extend(configured.map(|entry| Effective {
            path: entry.path.clone(),
            value: public(entry),
            origin: Origin { layer: entry.origin.layer.name(), place: entry.origin.place.clone() },
        }));
        if all.len() == before && !key.path.contains('*') {
            let default = (!key.default.is_empty()).then(|| typed(key.kind, key.default));
            let value = default.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_default();
            let origin = Origin { layer: Layer::Default.name(), place: None };
            all.push(Effective { path: keys::split(key.path), value, origin });
        }
    }
    all
}

/// What is shown in the place of a secret.
pub(super) const HIDDEN: &str = "(hidden)";

/// Whether a value may not be shown: headers and addresses of proxies can hold passwords.
pub(super) fn is_secret(path: &[String], value: Option<&str>) -> bool {
    match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["registries", _, "headers", _] => true,
        ["registries", _, "proxy"] => value.is_some_and(|url| url.contains('@')),
        _ => false,
    }
}

/// A value as it may be shown.
fn public(entry: &Entry) -> Value {
    let hidden = is_secret(&entry.path, entry.value.as_str());
    if hidden { HIDDEN.into() } else { serde_json::to_value(&entry.value).unwrap_or_default() }
}

/// What an option is called within the program.
fn id_of(flag: &str) -> String {
    let name = flag.trim_start_matches("--");
    if name == "cache-max" { "max".into() } else { name.replace('-', "_") }
}

/// What was typed for a key that has a global flag.
fn typed_value(path: &str, session: &Session) -> Option<Value> {
    let options = &session.options;
    let word = |value: serde_json::Result<Value>| value.ok();
    match path {
        "output" => word(serde_json::to_value(options.output)),
        "verbose" => Some(options.verbose.into()),
        "quiet" => Some(options.quiet.into()),
        "color" => word(serde_json::to_value(options.color)),
        "no_color" => Some(options.no_color.into()),
        "progress" => word(serde_json::to_value(options.progress)),
        "log_format" => word(serde_json::to_value(options.log_format)),
        "plain_http" => Some(options.plain_http.into()),
        "timeout" => options.timeout.map(|time| time.to_string().into()),
        "retries" => options.retries.map(Value::from),
        "jobs" => options.jobs.map(|jobs| jobs.get().into()),
        "offline" => Some(options.offline.into()),
        "require_signed" => Some(options.require_signed.into()),
        "limits.max_index_size" => options.max_index_size.map(|size| size.to_string().into()),
        "limits.max_entries" => options.max_entries.map(|most| most.get().into()),
        "cache.max_size" => options.cache.max.map(|size| size.to_string().into()),
        "cache.ref_ttl" => options.cache.tag_ttl.map(|time| config::value::Duration(time).to_string().into()),
        "cache.dir" => CachePlace::find(options).map(|place| place.dir.display().to_string().into()),
        _ => None,
    }
}

/// A value as it is typed.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => shown(text.as_bytes()),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

pub(super) async fn show(origin: bool, session: &Session) -> Result<(), Failure> {
    // What cannot be used is not shown; that is said, and is no reason to show nothing.
    for problem in &session.config.problems {
        complain(&if session.options.output.is_json() { problem.json() } else { problem.text() });
    }
    let all = effective(session);
    let text = match session.options.output {
        Format::Json => json::document(&document(&all, origin)),
        Format::Jsonl => all.iter().filter(|one| !one.value.is_null()).map(line).collect(),
        Format::Text => text(&all, origin),
        output @ (Format::Table | Format::Plain | Format::Csv) => table(&all).render(output),
    };
    session.print(text).await
}

/// Everything that has a value below a key.
pub(super) async fn below(outer: &[String], session: &Session) -> Result<(), Failure> {
    let found: Vec<Effective> = effective(session).into_iter().filter(|one| one.path.starts_with(outer)).collect();
    let mut value: Value = document(&found, false).into();
    for part in outer {
        value = value.get_mut(part).map_or_else(|| Map::new().into(), Value::take);
    }
    let got = super::Got { key: keys::join(outer), value, origin: None };
    let format = if session.options.output.is_json() { session.options.output } else { Format::Text };
    session.print(crate::ui::record::render(format, &got, || values(&found, false))).await
}

/// One key.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Line<'a> {
    /// The key, elements separated by dots.
    key: String,
    /// The value.
    value: &'a Value,
    /// Where the value is from.
    origin: &'a Origin,
}

/// One key for programs that read lines.
fn line(one: &Effective) -> String {
    json::line(&Line { key: keys::join(&one.path), value: &one.value, origin: &one.origin })
}

/// The values as a file would have them, and their origins by key.
fn document(all: &[Effective], origin: bool) -> Map<String, Value> {
    let mut document = Map::new();
    // The caps that are not set have no value.
    for one in all.iter().filter(|one| !one.value.is_null()) {
        put(&mut document, &one.path, &one.value);
    }
    document.entry("aliases").or_insert_with(|| Map::new().into());
    if origin {
        let origins: BTreeMap<String, &Origin> = all.iter().map(|one| (keys::join(&one.path), &one.origin)).collect();
        document.insert("origins".into(), serde_json::to_value(origins).unwrap_or_default());
    }
    document
}

/// Puts a value where `path` leads; what is in the way is no map and stays.
fn put(document: &mut Map<String, Value>, path: &[String], value: &Value) {
    match path {
        [] => {}
        // Rules of several files add up.
        [last] => match (document.get_mut(last), value) {
            (Some(Value::Array(known)), Value::Array(more)) if last == "policies" => known.extend(more.iter().cloned()),
            _ => drop(document.insert(last.clone(), value.clone())),
        },
        [first, rest @ ..] => {
            if let Value::Object(inner) = document.entry(first.as_str()).or_insert_with(|| Map::new().into()) {
                put(inner, rest, value);
            }
        }
    }
}

fn place(origin: &Origin) -> String {
    match &origin.place {
        Some(place) => format!("{} {}", origin.layer, shown(place.as_bytes())),
        None => origin.layer.to_owned(),
    }
}

fn table(all: &[Effective]) -> Table {
    let mut table = Table::new(vec![("KEY", Align::Left), ("VALUE", Align::Left), ("ORIGIN", Align::Left)]);
    for one in all {
        table.row([keys::join(&one.path), text_of(&one.value), place(&one.origin)].map(Cell::new).into());
    }
    table
}

fn text(all: &[Effective], origin: bool) -> String {
    format!("Configuration\n{}\n{}", "-".repeat(50), values(all, origin))
}

/// As YAML that could be a file: what is in a map is indented below its name.
fn values(all: &[Effective], origin: bool) -> String {
    let mut text = String::new();
    let mut before: Vec<String> = Vec::new();
    let mut listed = false;
    for one in all.iter().filter(|one| !one.value.is_null()) {
        let (last, outer) = one.path.split_last().expect("a key has a name");
        let common = before.iter().zip(outer).take_while(|(a, b)| a == b).count();
        for (depth, element) in outer.iter().enumerate().skip(common) {
            let _ = writeln!(text, "{:width$}{element}:", "", width = 2 * depth);
        }
        before = outer.to_vec();
        if let Value::Array(rules) = &one.value
            && one.path == ["policies"]
        {
            text.push_str(if std::mem::replace(&mut listed, true) { "" } else { "policies:\n" });
            if origin {
                let _ = writeln!(text, "  # {}", place(&one.origin));
            }
            for rule in rules {
                add_item(&mut text, rule);
            }
            continue;
        }
        let mut line = format!("{:width$}{last}: {}", "", text_of(&one.value), width = 2 * outer.len());
        if origin {
            let _ = write!(line, "  # {}", place(&one.origin));
        }
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Adds a rule as an item of a list.
fn add_item(text: &mut String, rule: &Value) {
    for (at, line) in yaml_serde::to_string(rule).unwrap_or_default().lines().enumerate() {
        let _ = writeln!(text, "  {} {}", if at == 0 { '-' } else { ' ' }, shown(line.as_bytes()));
    }
}

/// What [`document`] writes, for its schema.
#[cfg(test)]
#[derive(Serialize, schemars::JsonSchema)]
pub(super) struct Document {
    /// What each alias means.
    aliases: BTreeMap<String, String>,
    /// Where each value is from, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    origins: Option<BTreeMap<String, Origin>>,
    /// Every key that has a value, as in a file.
    #[serde(flatten)]
    settings: BTreeMap<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::Kind;

    #[test]
    fn defaults_are_values_of_their_keys() {
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            if let Kind::Word(words) = key.kind {
                assert!(words.contains(&key.default), "{}", key.path);
            }
            assert!(!typed(key.kind, key.default).is_null(), "{}", key.path);
        }
    }
}
