//! The JSON Schemas of what programs are told. They are made from the types that are written, checked in under
//! `docs/schemas`, and carried by the program, so that they are at hand offline.
//!
//! They are open: a member that is added later is no error to who has an older one. The tests close them before they hold
//! what the program writes against them, so that no member comes in without its schema.

/// Name and text of the schemas of the files that are named.
macro_rules! carried {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/", $name, ".json"))),)*]
    };
}

/// Name and text of every schema, by name. `config` is of files that people write; what ends in `-line` is for the lines of `-o jsonl`, everything else for the
/// documents of `-o json`, `serve`, `mount`, `web`, `progress`, `stats` and `log` for the lines that they write.
pub(crate) const SCHEMAS: &[(&str, &str)] = carried![
    "alias-add"
    "alias-list"
    "alias-list-line"
    "alias-rm"
    "attach"
    "attest"
    "cache-clear"
    "cache-path"
    "cache-prune"
    "cache-status"
    "cache-verify"
    "check"
    "config"
    "config-edit"
    "config-get"
    "config-path"
    "config-set"
    "config-show"
    "config-show-line"
    "config-unset"
    "config-validate"
    "copy"
    "cp"
    "diff"
    "diff-line"
    "doctor"
    "doctor-line"
    "download"
    "du"
    "du-line"
    "error"
    "export"
    "find"
    "find-line"
    "gc"
    "generate-key-pair"
    "grep"
    "grep-line"
    "inspect"
    "load"
    "log"
    "login"
    "logout"
    "ls"
    "ls-line"
    "man"
    "mount"
    "pack"
    "plan"
    "plan-line"
    "policy-check"
    "policy-init"
    "policy-test"
    "progress"
    "pull"
    "push"
    "referrers"
    "referrers-line"
    "repos"
    "repos-line"
    "rm"
    "save"
    "schema"
    "schema-line"
    "serve"
    "sign"
    "stat"
    "stat-line"
    "stats"
    "tag"
    "tags"
    "tags-line"
    "tree"
    "verify"
    "verify-bundle"
    "version"
    "web"
];

/// The schema of this name.
pub(crate) fn find(name: &str) -> Option<&'static str> {
    SCHEMAS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
pub(crate) use making::{Made, document, line};

#[cfg(test)]
mod making {
    #![allow(clippy::unwrap_used)]
    use schemars::JsonSchema;
    use schemars::generate::SchemaSettings;
    use serde_json::{Map, Value, json};

    use crate::ui::json::SCHEMA_VERSION;

    /// A schema that was made from a type.
    pub(crate) struct Made {
        pub(crate) name: &'static str,
        pub(crate) schema: Value,
    }

    /// The schema of a document, which carries its version.
    pub(crate) fn document<T: JsonSchema>(name: &'static str) -> Made {
        let about = "The version of the schemas. It changes when a member goes away or comes to mean something else.";
        let mut made = line::<T>(name);
        let members = made.schema.as_object_mut().unwrap();
        let version = json!({"const": SCHEMA_VERSION, "description": about});
        members["properties"].as_object_mut().unwrap().insert("schema_version".into(), version);
        let required = members.entry("required").or_insert_with(|| json!([]));
        required.as_array_mut().unwrap().insert(0, "schema_version".into());
        made
    }

    /// The schema of a line, which stands for itself.
    pub(crate) fn line<T: JsonSchema>(name: &'static str) -> Made {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
        tidy(&mut schema);
        let members = schema.as_object_mut().unwrap();
        members.insert("$id".into(), format!("urn:blob:schema:{SCHEMA_VERSION}:{name}").into());
        members.insert("title".into(), title(name).into());
        Made { name, schema }
    }

    /// What writes it.
    fn title(name: &str) -> String {
        match (name, name.strip_suffix("-line")) {
            ("error", _) => "What is written to standard error when a command with -o json or jsonl fails".into(),
            ("progress", _) => "A line of --progress=json, on standard error".into(),
            ("stats", _) => "The line of --stats with -o json, on standard error".into(),
            ("log", _) => "A line of --log-format json, on standard error or in the file of --trace-file".into(),
            ("serve" | "mount" | "web", _) => format!("A line of blob {name} -o json"),
            ("plan", _) => "What blob pull and blob cp write with --dry-run -o json".into(),
            ("plan-line", _) => "A line of blob pull or blob cp with --dry-run -o jsonl".into(),
            (_, Some(command)) => format!("A line of blob {} -o jsonl", words(command)),
            (_, None) => format!("What blob {} -o json writes", words(name)),
        }
    }

    /// The words of a command whose name they make.
    fn words(name: &str) -> String {
        let outer = ["alias", "cache", "config", "policy"].into_iter().find_map(|outer| {
            let inner = name.strip_prefix(outer)?.strip_prefix('-')?;
            Some(format!("{outer} {inner}"))
        });
        outer.unwrap_or_else(|| name.to_owned())
    }

    /// Takes away what says nothing: the widths of Rust's numbers, `null` for members that are left out instead.
    fn tidy(schema: &mut Value) {
        match schema {
            Value::Object(members) => {
                members.remove("format");
                let required = members.get("required").cloned().unwrap_or_default();
                let is_required = |name: &str| required.as_array().is_some_and(|all| all.iter().any(|one| one == name));
                if let Some(Value::Object(properties)) = members.get_mut("properties") {
                    let optional = properties.iter_mut().filter(|(name, _)| !is_required(name));
                    optional.for_each(|(_, property)| never_null(property));
                }
                members.values_mut().for_each(tidy);
            }
            Value::Array(items) => items.iter_mut().for_each(tidy),
            _ => {}
        }
    }

    fn never_null(property: &mut Value) {
        let Value::Object(members) = property else { return };
        if let Some(Value::Array(types)) = members.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                members.insert("type".into(), only);
            }
        }
        if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
            choices.retain(|choice| choice["type"] != "null");
            if let [Value::Object(only)] = choices.as_slice() {
                let only: Map<String, Value> = only.clone();
                members.remove("anyOf");
                members.extend(only);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::cmd;

    fn all() -> Vec<Made> {
        let mut all = [
            cmd::alias::schemas(),
            cmd::attach::schemas(),
            cmd::cache::schemas(),
            cmd::check::schemas(),
            crate::log::schemas(),
            cmd::config::schemas(),
            crate::config::schema::schemas(),
            cmd::copy::schemas(),
            cmd::cp::schemas(),
            cmd::diff::schemas(),
            cmd::doctor::schemas(),
            cmd::download::schemas(),
            cmd::du::schemas(),
            cmd::export::schemas(),
            cmd::find::schemas(),
            cmd::gc::schemas(),
            cmd::grep::schemas(),
            cmd::inspect::schemas(),
            cmd::key_pair::schemas(),
            cmd::login::schemas(),
            cmd::ls::schemas(),
            cmd::man::schemas(),
            cmd::pack::schemas(),
            cmd::policy::schemas(),
            cmd::preview::schemas(),
            cmd::pull::schemas(),
            cmd::push::schemas(),
            cmd::referrers::schemas(),
            cmd::repos::schemas(),
            cmd::rm::schemas(),
            cmd::schema::schemas(),
            cmd::serve::schemas(),
            #[cfg(all(feature = "fuse", target_os = "linux"))]
            cmd::mount::schemas(),
            cmd::sign::schemas(),
            cmd::stat::schemas(),
            cmd::tag::schemas(),
            cmd::tags::schemas(),
            cmd::tree::schemas(),
            cmd::verify::schemas(),
            cmd::verify_bundle::schemas(),
            cmd::web::schemas(),
            cmd::version::schemas(),
            crate::error::schemas(),
            crate::ui::progress::schemas(),
            crate::ui::traffic::schemas(),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
        all.sort_by_key(|made| made.name);
        all
    }

    /// With `SNAPSHOTS=overwrite` in the environment the files are written anew.
    #[test]
    fn the_files_are_what_the_types_say() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas");
        let overwrite = std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite");
        let mut wrong = Vec::new();
        for made in all() {
            let text = serde_json::to_string_pretty(&made.schema).unwrap() + "\n";
            let file = dir.join(made.name).with_extension("json");
            if overwrite {
                fs::write(&file, &text).unwrap();
            } else if fs::read_to_string(&file).unwrap_or_default() != text {
                wrong.push(made.name);
            }
        }
        assert_eq!(wrong, Vec::<&str>::new(), "run this with SNAPSHOTS=overwrite, and look at what changes");
        let mut files: Vec<String> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(files, all().iter().map(|made| made.name).collect::<Vec<_>>(), "files that no type makes");
    }

    #[test]
    fn the_program_carries_all_of_them() {
        let carried: Vec<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
        assert_eq!(carried, all().iter().map(|made| made.name).collect::<Vec<_>>());
        assert!(find("push").is_some() && find("frob").is_none());
    }

    #[test]
    fn every_member_is_described() {
        fn look(name: &str, schema: &serde_json::Value, silent: &mut Vec<String>) {
            let objects =
                schema["$defs"].as_object().into_iter().flatten().map(|(inner, object)| (inner.as_str(), object));
            for (object, schema) in std::iter::once((name, schema)).chain(objects) {
                for (member, property) in schema["properties"].as_object().into_iter().flatten() {
                    if property["description"].as_str().is_none_or(str::is_empty) {
                        silent.push(format!("{name}: {object}.{member}"));
                    }
                }
            }
        }
        let mut silent = Vec::new();
        for made in all() {
            look(made.name, &made.schema, &mut silent);
        }
        assert_eq!(silent, Vec::<String>::new(), "these need a doc comment at their field");
    }
}
