//! Configuration: where values come from, what is refused, and edits that change one key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use snapbox::str;

use crate::support::{Place, stderr, stdout};

const USER: &str = "home/.config/blob/config.yaml";

/// A place whose user has this configuration.
fn configured(text: &str) -> Place {
    let place = Place::laid_out();
    fs::create_dir_all(place.path(USER).parent().unwrap()).unwrap();
    fs::write(place.path(USER), text).unwrap();
    place
}

fn json(place: &Place, line: &str) -> Value {
    serde_json::from_str(&stdout(&place.run(&format!("{line} -o json")).success())).unwrap()
}

#[test]
fn the_reference_is_what_the_program_says() {
    let place = Place::offline();
    let table = stdout(&place.run("config reference").success());
    let page = include_str!("../../../../docs/configuration.md");
    assert!(page.contains(&table), "put this into docs/configuration.md:\n{table}");
}

#[test]
fn nearer_places_come_first() {
    let place = configured("output: plain\nretries: 1\ntimeout: 1m\ncompression: none\n");
    fs::write(place.path(".blob.yaml"), "output: table\nretries: 2\ntimeout: 2m\n").unwrap();
    let show = |line: &str| {
        let mut command = place.command(line);
        command.env("BLOB_RETRIES", "3").env("BLOB_TIMEOUT", "3m").env("BLOB_TAG_TTL", "1h");
        serde_json::from_str::<Value>(&stdout(&place.assert(&mut command).success())).unwrap()
    };
    let shown = show("config show --origin -o json --timeout 4m");
    for (key, value, layer, from) in [
        ("output", "json", "flag", "--output"),
        ("timeout", "4m", "flag", "--timeout"),
        ("compression", "none", "user", "config.yaml"),
        ("log_format", "text", "default", ""),
    ] {
        assert_eq!((&shown[key], &shown["origins"][key]["layer"]), (&value.into(), &layer.into()), "{key}");
        assert!(shown["origins"][key]["place"].as_str().unwrap_or_default().ends_with(from), "{key}");
    }
    assert_eq!((&shown["retries"], &shown["origins"]["retries"]["layer"]), (&3.into(), &"environment".into()));
    assert_eq!(shown["origins"]["cache.ref_ttl"]["place"], "BLOB_TAG_TTL");
    assert_eq!(show("config show --origin -o json")["origins"]["timeout"]["layer"], "environment");
    // From below, too, the project's file is found; another one takes its place by name.
    let below = place.command("config get output").current_dir(place.path("project/docs")).output().unwrap();
    assert_eq!(String::from_utf8(below.stdout).unwrap(), "table\n");
    fs::write(place.path("other.yaml"), "compression: zstd\n").unwrap();
    assert_eq!(json(&place, "--config other.yaml config get compression")["value"], "zstd");
    let named = stdout(&place.assert(place.command("config path -o text").env("BLOB_CONFIG", "other.yaml")).success());
    assert_eq!(named.trim_end(), place.path("other.yaml").canonicalize().unwrap().display().to_string());
}

#[test]
fn what_is_configured_counts() {
    let place = configured("output: json\ncompression: none\nquiet: true\n");
    assert!(stdout(&place.run("ls oci:layout:v1").success()).starts_with("{\n"));
    assert!(stdout(&place.run("-o text ls oci:layout:v1").success()).starts_with("README.md\n"));
    fs::write(place.path("project/long"), "again ".repeat(1000)).unwrap();
    place.run("push oci:layout:none project").success();
    assert_eq!(json(&place, "inspect oci:layout:none")["compression"], "none");
    place.run("push -c zstd oci:layout:zstd project").success();
    assert_eq!(json(&place, "inspect oci:layout:zstd")["compression"], "zstd");
    // Errors, too, are written as the configuration says.
    assert!(stderr(&place.run("ls oci:layout:nothing").code(3)).starts_with("{\"schema_version\":1,\"error\":"));
}

#[test]
fn the_words_of_the_go_program() {
    let place = Place::offline();
    place.run("config path").success().stdout_eq("[ROOT]/home/.config/blob/config.yaml\n");
    let shown = stdout(&place.run("config show").success());
    assert!(shown.starts_with("Configuration\n-----") && shown.contains("output: text\n"), "{shown}");
    place.run("config show --origin").success().stdout_eq(str![[r#"
Configuration
--------------------------------------------------
output: text  # default
verbose: 0  # default
quiet: false  # default
color: auto  # default
no_color: false  # default
progress: auto  # default
log_format: text  # default
compression: zstd  # default
plain_http: false  # default
timeout: 30s  # default
retries: 5  # default
offline: false  # default
require_signed: false  # default
limits:
  max_index_size: 256M  # default
  max_entries: 16777216  # default
cache:
  enabled: true  # default
  dir: $XDG_CACHE_HOME/blob  # default
  max_size: 5G  # default
  ref_ttl: 5m  # default
  content:
    enabled: true  # default
  blocks:
    enabled: true  # default
  refs:
    enabled: true  # default
  manifests:
    enabled: true  # default
  indexes:
    enabled: true  # default

"#]]);
}

#[test]
fn a_broken_file_stops_everything_but_what_mends_it() {
    let place = configured("output: json\ncache:\n  max_sise: 5G\n");
    for line in ["ls oci:layout:v1", "tags oci:layout", "alias list", "config get output", "config validate"] {
        place.run(line).code(2).stdout_eq("").stderr_eq(str![[r#"
error: the configuration [ROOT]/home/.config/blob/config.yaml:3:3 is wrong: unknown key `max_sise`
hint: did you mean `max_size`?

"#]]);
    }
    for line in ["config path", "version", "completion bash", "man"] {
        assert_eq!(stderr(&place.run(line).success()), "", "{line}");
    }
    let shown = place.run("config show").success();
    assert!(stderr(&shown).contains("max_sise") && stdout(&shown).contains("output: text"));
    fs::set_permissions(place.path(USER), fs::Permissions::from_mode(0o000)).unwrap();
    fs::remove_file(place.path(USER)).unwrap();
    fs::create_dir(place.path(USER)).unwrap();
    let unreadable = stderr(&place.run("ls oci:layout:v1").code(2));
    assert!(unreadable.starts_with("error: reading the configuration "), "{unreadable}");
    place.run("--config nowhere.yaml ls oci:layout:v1").code(2).stderr_eq(str![[r#"
error: reading the configuration nowhere.yaml: there is no such file
hint: `blob config edit` makes it

"#]]);
    let variable =
        place.assert(place.command("--config /dev/null ls oci:layout:v1").env("BLOB_CACHE_REFS_MAX_SIZE", "long"));
    let text = stderr(&variable.code(2));
    assert!(text.starts_with("error: BLOB_CACHE_REFS_MAX_SIZE is \"long\": "), "{text}");
}

#[test]
fn a_project_cannot_lower_what_protects() {
    let place = Place::laid_out();
    for key in [
        "plain_http: true",
        "cache:\n  dir: /tmp",
        "limits:\n  max_entries: 1",
        "registries:\n  h:\n    insecure: true",
    ] {
        fs::write(place.path("blob.yaml"), key).unwrap();
        let text = stderr(&place.run("ls oci:layout:v1").code(2));
        assert!(text.contains("cannot be set by a project"), "{key}: {text}");
    }
    fs::write(place.path("blob.yaml"), "require_signed: true\n").unwrap();
    place.run("ls oci:layout:v1").code(6);
}

#[test]
fn edits_change_one_key() {
    let place = configured("# mine\noutput: text # why\n\ncache:\n  max_size: 1G\n");
    place.run("config set cache.max-size 2G").success().stdout_eq(str![[r#"
Set cache.max_size to 2G in [ROOT]/home/.config/blob/config.yaml

"#]]);
    place.run("config set cache.refs.enabled no").success();
    place.run("config set registries.localhost:5000.mirrors a.example,b.example").success();
    place.run("config unset output").success();
    let text = fs::read_to_string(place.path(USER)).unwrap();
    assert_eq!(
        text,
        "# mine\n\ncache:\n  max_size: 2G\n  refs:\n    enabled: false\nregistries:\n  localhost:5000:\n    mirrors: [a.example, b.example]\n"
    );
    assert_eq!(json(&place, "config get cache.max_size")["value"], "2G");
    assert_eq!(stdout(&place.run("config get cache.max_size").success()), "2G\n");
    assert_eq!(stdout(&place.run("config get cache.content.max_size").success()), "");
    for (line, code, wanted) in [
        ("config set cache.max_size lots", 2, "is not a size"),
        ("config set cache.max_sise 1G", 2, "did you mean `cache.max_size`?"),
        ("config set cache 1G", 2, "it holds cache.enabled, "),
        ("config get zzz", 2, "`blob config show` lists the keys"),
        ("config get aliases.nobody", 3, "aliases.nobody is not set"),
        ("config unset compression", 3, "compression is not set in "),
        (
            "config set output xml",
            2,
            "\"xml\" cannot be the value of output: \"xml\" is not known, expected one of text,",
        ),
        ("config set --project plain_http true", 2, "cannot be set by a project"),
    ] {
        let said = stderr(&place.run(line).code(code));
        assert!(said.contains(wanted), "{line}: {said}");
    }
    assert_eq!(fs::read_to_string(place.path(USER)).unwrap(), text);
    assert!(!place.path(".blob.yaml").exists());
    place.run("config set --project output json").success();
    assert_eq!(fs::read_to_string(place.path(".blob.yaml")).unwrap(), "output: json\n");
    fs::write(place.path(USER), "cache: {max_size: 1G}\n").unwrap();
    let unsure = stderr(&place.run("config set cache.max_size 2G -o text").code(2));
    assert!(unsure.contains("config.yaml:1 cannot be edited for sure"), "{unsure}");
}

#[test]
fn edits_of_several_processes_are_all_made() {
    let place = Place::offline();
    let children: Vec<_> =
        (0..6).map(|at| place.command(&format!("-q alias add a{at} ghcr.io/x/y{at}")).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(json(&place, "alias list")["aliases"].as_object().unwrap().len(), 6);
}

#[test]
fn an_editor_cannot_save_what_is_wrong() {
    let place = Place::offline();
    let edit = |editor: &str| place.assert(place.command("config edit").env("EDITOR", editor));
    edit("sed -i 's/^# output: text.*/output: json/'")
        .success()
        .stdout_eq("Saved [ROOT]/home/.config/blob/config.yaml\n");
    let text = fs::read_to_string(place.path(USER)).unwrap();
    assert!(text.contains("\noutput: json\n") && text.contains("# aliases:"), "{text}");
    assert_eq!(fs::metadata(place.path(USER)).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = edit("sed -i 's/^output: json/outptu: json/'").code(2);
    let said: Value = serde_json::from_str(&stderr(&refused)).unwrap();
    let hint = said["error"]["hint"].as_str().unwrap();
    let kept = hint.strip_prefix("nothing was changed; what you wrote is in ").unwrap();
    assert!(fs::read_to_string(kept).unwrap().contains("outptu: json"));
    fs::remove_file(kept).unwrap();
    edit("false").code(1);
    edit("true").success();
    assert_eq!(fs::read_to_string(place.path(USER)).unwrap(), text);
    // What is broken can be mended.
    fs::write(place.path(USER), "outptu: json\n").unwrap();
    edit("sed -i s/outptu/output/").success();
    assert_eq!(fs::read_to_string(place.path(USER)).unwrap(), "output: json\n");
}

#[test]
fn secrets_of_the_configuration_are_not_shown() {
    let text =
        "registries:\n  localhost:1:\n    headers:\n      X-Key: canary\n    proxy: http://me:canary@proxy.example\n";
    let place = configured(text);
    for line in [
        "config show",
        "config show -o json --origin",
        "config get registries.localhost:1.headers.X-Key",
        "-vvv --retries 0 --timeout 2 ls localhost:1/a/b:v1",
    ] {
        let output = place.command(line).output().unwrap();
        let all = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8(all).unwrap().contains("canary"), "{line}");
    }
}

#[test]
fn what_is_below_a_key_is_shown_and_policies_as_a_file_has_them() {
    let place = Place::offline();
    let dir = place.path("home/.config/blob");
    fs::create_dir_all(&dir).unwrap();
    let rule = "policies:\n  - match: team/a\n    policy:\n      signature:\n        keyless:\n          issuer: https://i.test\n          identity: a@b.c\n";
    let user = format!("aliases:\n  a: ghcr.io/x/a\ncache:\n  refs:\n    enabled: false\n{rule}");
    fs::write(dir.join("config.yaml"), user).unwrap();
    fs::write(place.path(".blob.yaml"), format!("aliases:\n  b: ghcr.io/x/b\n{}", rule.replace("team/a", "team/b")))
        .unwrap();
    assert_eq!(stdout(&place.run("config get aliases").success()), "aliases:\n  a: ghcr.io/x/a\n  b: ghcr.io/x/b\n");
    assert_eq!(stdout(&place.run("config get cache.refs").success()), "cache:\n  refs:\n    enabled: false\n");
    let got = json(&place, "config get cache");
    assert_eq!((&got["key"], &got["value"]["refs"]["enabled"]), (&"cache".into(), &false.into()));
    assert!(got["origin"].is_null());
    place.run("config get cahce").code(2);
    // Rules of all files, in a form that a file could have.
    let shown = stdout(&place.run("config show").success());
    let policies = shown.split_once("policies:\n").unwrap().1;
    assert!(policies.starts_with("  - match: team/a\n    policy:\n      signature:\n"), "{shown}");
    assert!(policies.contains("  - match: team/b\n"), "{shown}");
    let matches = json(&place, "config show");
    assert_eq!(matches["policies"].as_array().unwrap().len(), 2, "{matches}");
    let origins = stdout(&place.run("config show --origin").success());
    assert!(origins.contains("\npolicies:\n  # user ") && origins.contains("\n  # project "), "{origins}");
    let path = json(&place, "config path --project");
    assert!(path["path"].as_str().unwrap().starts_with('/'), "{path}");
}
