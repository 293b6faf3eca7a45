//! Completion, manual pages, version, templates, the doctor.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Place, stderr, stdout};

#[test]
fn shells_ask_the_program() {
    let place = Place::offline();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(stdout(&place.run(&format!("completion {shell}")).success()).contains("BLOB_COMPLETE"), "{shell}");
    }
    assert!(stderr(&place.run("completions csh").code(2)).contains("known are bash, "), "csh");
    place.run("alias add assets ghcr.io/org/assets").success();
    let complete = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = place.command(&format!("-- blob {line}"));
        command.env("BLOB_COMPLETE", "fish");
        (words.len(), stdout(&place.assert(&mut command).success())).1
    };
    assert!(complete("pus").contains("push\t"), "{}", complete("pus"));
    assert!(complete("cat as").contains("assets\tghcr.io/org/assets"), "{}", complete("cat as"));
    assert!(complete("config get cache.d").contains("cache.dir\t"), "{}", complete("config get cache.d"));
    assert!(complete("ls --sort s").contains("size"), "{}", complete("ls --sort s"));
}

#[test]
fn every_command_has_its_page() {
    let place = Place::offline();
    let page = stdout(&place.run("man").success());
    for wanted in [".TH blob 1", "BLOB_OUTPUT", "Exit codes", "130"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    assert!(stdout(&place.run("man pages").success()).starts_with("Wrote "));
    let pages = place.listing("pages");
    for wanted in ["blob.1", "blob-push.1", "blob-cache-status.1", "blob-config-set.1", "blob-alias-add.1"] {
        assert!(pages.iter().any(|page| page == wanted), "{wanted}: {pages:?}");
    }
}

#[test]
fn versions_say_what_was_built() {
    let place = Place::offline();
    let text = stdout(&place.run("version").success());
    assert!(
        text.starts_with(concat!("blob ", env!("CARGO_PKG_VERSION"), "\n")) && text.contains("  target: "),
        "{text}"
    );
    assert_eq!(stdout(&place.run("version --short").success()), concat!(env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(stdout(&place.run("--version").success()), concat!("blob ", env!("CARGO_PKG_VERSION"), "\n"));
    let document: Value = serde_json::from_str(&stdout(&place.run("version -o json").success())).unwrap();
    assert!(document["target"].as_str().unwrap().contains('-') && document["features"].is_array());
}

#[test]
fn templates_shape_results() {
    let place = Place::laid_out();
    let format = |template: &str, line: &str| {
        let mut command = place.command(line);
        place.assert(command.args(["--format", template]))
    };
    let digest = stdout(&format("{{.digest}}", "inspect oci:layout:v1").success());
    assert!(digest.starts_with("sha256:") && digest.len() == 72, "{digest}");
    let names = "{{range .entries}}{{.name}}{{if .is_dir}}/{{end}} {{end}}";
    assert_eq!(stdout(&format(names, "ls oci:layout:v1 docs").success()), "api/ guide.md \n");
    assert_eq!(stdout(&format("{{.FileCount}}", "pull oci:layout:v1 out").success()), "7\n");
    assert_eq!(stdout(&format("{{join .tags \",\"}}", "tags oci:layout").success()), "v1\n");
    assert_eq!(stdout(&format("{{.path}}", "cat oci:layout:v1 README.md").success()), "# Sample\n");
    assert!(stdout(&format("json", "inspect oci:layout:v1").success()).starts_with("{\n"));
    assert!(stderr(&format("{{.digset}}", "inspect oci:layout:v1").code(2)).contains("did you mean .digest?"));
    assert!(stderr(&format("{{.digest", "inspect oci:layout:v1").code(2)).contains("not closed"));
}

#[test]
fn lines_of_json_are_lines() {
    let place = Place::laid_out();
    for (line, lines) in
        [("ls oci:layout:v1", 7), ("tags oci:layout", 1), ("tree oci:layout:v1", 1), ("inspect oci:layout:v1", 1)]
    {
        let text = stdout(&place.run(&format!("{line} -o jsonl")).success());
        assert_eq!(text.lines().count(), lines, "{line}: {text}");
        assert!(
            text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|value| value.is_object())),
            "{text}"
        );
    }
    let failed = stderr(&place.run("ls oci:layout:none -o jsonl").code(3));
    assert!(serde_json::from_str::<Value>(&failed).is_ok(), "{failed}");
}

#[test]
fn the_doctor_finds_what_is_in_the_way() {
    let place = Place::pushed();
    let checks = |line: &str, code: i32| {
        let text = stdout(&place.run(&format!("{line} -o json")).code(code));
        let document: Value = serde_json::from_str(&text).unwrap();
        let found = document["checks"].as_array().unwrap().iter();
        let found =
            found.map(|check| format!("{}={}", check["name"].as_str().unwrap(), check["status"].as_str().unwrap()));
        (found.collect::<Vec<_>>().join(" "), document["healthy"].as_bool().unwrap())
    };
    assert_eq!(checks("doctor", 0), ("configuration=ok cache=ok".into(), true));
    let network = "configuration=ok cache=ok name=ok connection=ok http=ok clock=";
    let (host, healthy) = checks("doctor HOST", 0);
    assert!(host.starts_with(network) && host.ends_with(" log-in=ok") && healthy, "{host}");
    let (archive, _) = checks("doctor HOST/team/project:v1", 0);
    assert!(archive.ends_with(" archive=ok ranges=ok referrers=ok"), "{archive}");
    let (missing, healthy) = checks("doctor HOST/team/project:none", 3);
    assert!(missing.ends_with(" archive=failed") && !healthy, "{missing}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (unreachable, _) = checks(&format!("--retries 0 doctor {closed}/a/b:v1"), 5);
    assert!(unreachable.ends_with(" name=ok connection=failed registry=skipped archive=skipped"), "{unreachable}");
    let text = stdout(&place.run("doctor HOST/team/project:v1").success());
    assert!(text.starts_with("configuration  ok       no file, all defaults\ncache          ok       "), "{text}");
    place.run("doctor a:b:c").code(2);
}

#[test]
fn programs_are_told_about_progress() {
    let place = Place::offline();
    let pushed = place.run("--progress json push oci:layout:v1 project").success();
    let told = stderr(&pushed);
    told.lines().for_each(|line| crate::schema::check("progress", line));
    let last: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert!(last["progress"]["stage"].is_string() && last["progress"]["bytes"].is_u64(), "{told}");
}

#[test]
fn a_trace_is_written_beside_everything_else() {
    let place = Place::pushed();
    let traced =
        place.run("--no-cache --trace-file trace.log --log-format json cat HOST/team/project:v1 README.md").success();
    assert_eq!((stdout(&traced).as_str(), stderr(&traced).as_str()), ("# Sample\n", ""));
    let trace = std::fs::read_to_string(place.path("trace.log")).unwrap();
    assert!(trace.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{trace}");
    assert!(trace.contains("/v2/team/project/manifests/v1"), "{trace}");
    place.run("--trace-file nowhere/trace.log cat HOST/team/project:v1 README.md").code(3);
}
