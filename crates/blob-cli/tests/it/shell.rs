//! Completion, manual pages, version, templates.

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
fn operands_with_few_values_are_completed() {
    let place = Place::pushed();
    place.run("ls HOST/team/project:v1").success();
    for (line, expected) in [
        ("cache clear re", vec!["refs"]),
        ("cache clear a", vec!["all"]),
        ("completion ", vec!["bash", "zsh", "fish", "powershell", "elvish"]),
        ("config set output js", vec!["json", "jsonl"]),
        ("config set quiet ", vec!["true", "false"]),
        ("config set timeout ", vec![]),
        ("schema cache st", vec!["status"]),
        ("schema pu", vec!["pull", "push"]),
        ("man cache c", vec!["clear"]),
        ("man pus", vec!["push"]),
        ("tags HOST/te", vec!["HOST/team/project"]),
    ] {
        let mut found = candidates(&place, line);
        let mut expected = expected;
        found.sort();
        expected.sort_unstable();
        assert_eq!(found, expected, "{line}");
    }
}

/// What a shell is told: the candidates behind `line` other than options, without help.
fn candidates(place: &Place, line: &str) -> Vec<String> {
    let mut command = place.command("--");
    command
        .args(["blob"])
        .args(line.split(' ').map(|word| word.replace("HOST", place.host())))
        .env("BLOB_COMPLETE", "fish");
    let told = stdout(&place.assert(&mut command).success().stderr_eq(""));
    let candidates = told.lines().map(|line| line.split('\t').next().unwrap().replace(place.host(), "HOST"));
    candidates.filter(|candidate| !candidate.starts_with('-')).collect()
}

#[test]
fn tags_and_paths_are_known_from_the_cache_alone() {
    let mut place = Place::pushed();
    place.run("tag HOST/team/project:v1 v2").success();
    place.run("ls HOST/team/project:v1").success();
    place.run(&format!("alias add project {}/team/project", place.host())).success();
    let expected = [
        ("cat HOST/team/pro", vec!["HOST/team/project:v1", "HOST/team/project:v2"]),
        ("cat HOST/team/project:", vec!["HOST/team/project:v1", "HOST/team/project:v2"]),
        ("pull project:v", vec!["project:v1", "project:v2"]),
        ("cat project:v1 ", vec!["README.md", "config/", "docs/", "empty/", "run.sh", "settings", "src/"]),
        ("cat project:v1 docs/", vec!["docs/api/", "docs/guide.md"]),
        ("ls -l project:v1 docs/a", vec!["docs/api/"]),
        ("cp project:v1:/con", vec!["project:v1:/config/"]),
        ("cp project:v1:/config/d", vec!["project:v1:/config/database.json"]),
        ("cat project:none ", vec![]),
        ("cat project:v1 nowhere/", vec![]),
    ];
    for (line, candidates_of) in &expected {
        assert_eq!(candidates(&place, line), *candidates_of, "{line}");
    }
    // With nobody to ask it is all the same.
    place.stop_server();
    for (line, candidates_of) in &expected {
        assert_eq!(candidates(&place, line), *candidates_of, "{line}");
    }
    std::fs::remove_dir_all(place.path("home/.cache")).unwrap();
    assert_eq!(candidates(&place, "cat project:v1 "), Vec::<String>::new());
    assert!(!place.path("home/.cache").exists(), "a cache was made to complete a word");
}

#[test]
fn layouts_on_disk_are_completed() {
    let place = Place::laid_out();
    assert_eq!(candidates(&place, "cat oci:lay"), ["oci:layout:"]);
    assert_eq!(candidates(&place, "cat oci:layout:"), ["oci:layout:v1"]);
    assert_eq!(candidates(&place, "cat oci:layout:v1 docs/g"), ["docs/guide.md"]);
    assert_eq!(
        candidates(&place, "cp oci:layout:v1:/docs/"),
        ["oci:layout:v1:/docs/api/", "oci:layout:v1:/docs/guide.md"]
    );
}

/// What bash puts behind the cursor: its own splitting of words and all.
#[test]
fn bash_completes_references_with_colons() {
    let place = Place::laid_out();
    place.run("alias add assets oci:layout").success();
    std::fs::write(place.path("project/a b"), "").unwrap();
    place.run("push -q oci:layout:v1 project").success();
    let ask = |line: &str| {
        let script = format!(
            "source <({} completion bash)\n\
             COMP_LINE={line:?}; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9\n\
             # As readline does it: words end at its break characters, which are words themselves.\n\
             rest=$COMP_LINE; COMP_WORDS=()\n\
             while [[ -n $rest ]]; do\n\
                 rest=${{rest#\"${{rest%%[! ]*}}\"}}\n\
                 if [[ $rest == [:=]* ]]; then word=${{rest%%[!:=]*}}; else word=${{rest%%[ :=]*}}; fi\n\
                 [[ -n $rest ]] && COMP_WORDS+=(\"$word\")\n\
                 rest=${{rest#\"$word\"}}\n\
             done\n\
             [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')\n\
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _blob_complete\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            crate::support::BLOB
        );
        let mut command = std::process::Command::new("bash");
        command.args(["--norc", "-c", &script]);
        place.isolate(&mut command);
        let output = command.output().unwrap();
        assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for (line, expected) in [
        ("blob comple", vec!["completion"]),
        ("blob cat oci:lay", vec!["layout:"]),
        ("blob cat oci:layout:", vec!["v1"]),
        ("blob cat oci:layout:v", vec!["v1"]),
        ("blob cat oci:layout:v1 docs/", vec!["docs/api/", "docs/guide.md"]),
        ("blob cat oci:layout:v1 a", vec!["a\\ b"]),
        ("blob cp oci:layout:v1:/docs/g", vec!["/docs/guide.md"]),
        ("blob --output=js", vec!["json", "jsonl"]),
        ("blob config get cache.d", vec!["cache.dir"]),
        ("blob ls ass", vec!["assets"]),
    ] {
        assert_eq!(ask(line), expected, "{line}");
    }
}

/// Runs `script` in a shell that may not be there.
fn in_shell(place: &Place, shell: &str, script: &str) -> Option<String> {
    let program = blob_testkit::peers::require(shell, blob_testkit::peers::find(shell))?;
    let mut command = std::process::Command::new(program);
    command.args(["-c", script]);
    place.isolate(&mut command);
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn fish_completes_references_and_paths() {
    let place = Place::laid_out();
    for (line, expected) in [
        ("blob cat oci:layout:", "oci:layout:v1\n"),
        ("blob cat oci:layout:v1 docs/", "docs/api/\ndocs/guide.md\n"),
        ("blob comple", "completion\tPrint what a shell needs"),
    ] {
        let script = format!("{} completion fish | source; complete -C {line:?}", crate::support::BLOB);
        let Some(told) = in_shell(&place, "fish", &script) else { return };
        assert!(told.starts_with(expected), "{line}: {told}");
    }
}

/// The widget itself needs a terminal; what it hands to zsh is seen by taking the place of the function that shows it.
#[test]
fn zsh_completes_references_and_paths() {
    let place = Place::laid_out();
    for (words, expected) in [
        ("blob cat oci:layout:", "whole: oci\\:layout\\:v1\n"),
        ("blob cat oci:layout:v1 docs/", "open: docs/api/ ''\nwhole: docs/guide.md\n"),
    ] {
        let (before, last) = words.rsplit_once(' ').unwrap();
        let script = format!(
            "compdef() {{ :; }}; _files() {{ :; }}\n\
             _describe() {{ shift 2; local -a shown; shown=(\"${{(@P)1}}\"); print -r -- \"$1: $shown${{3+ ''}}\"; }}\n\
             source <({} completion zsh)\n\
             words=({before} {last}); CURRENT=${{#words}}; PREFIX={last:?}\n_blob_complete",
            crate::support::BLOB
        );
        let Some(told) = in_shell(&place, "zsh", &script) else { return };
        assert_eq!(told, expected, "{words}");
    }
}

#[test]
fn every_command_has_its_page() {
    let place = Place::offline();
    let page = stdout(&place.run("man").success());
    for wanted in [
        ".TH blob 1",
        "BLOB_OUTPUT",
        "EXIT STATUS",
        "\\fB8\\fR\nDone in part",
        "\\fB130\\fR",
        ".SH \"FILES\"",
        "BLOB_PASSWORD",
        "~/.config/blob/config.yaml",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    assert!(stdout(&place.run("man --dir pages").success()).starts_with("Wrote "));
    let pages = place.listing("pages");
    for wanted in ["blob.1", "blob-push.1", "blob-cache-status.1", "blob-config-set.1", "blob-alias-add.1"] {
        assert!(pages.iter().any(|page| page == wanted), "{wanted}: {pages:?}");
    }
    for page in &pages {
        let text = std::fs::read_to_string(place.path("pages").join(page)).unwrap();
        for wanted in [".SH NAME", ".SH SYNOPSIS", ".SH \"EXIT STATUS\""] {
            assert!(text.contains(wanted), "{page} has no {wanted}");
        }
        // Commands with commands of their own have the examples for those.
        let is_inner = page.matches('-').count() > 1;
        let is_group = text.contains(".SH SUBCOMMANDS");
        assert!(
            is_inner || is_group || text.contains(".SH EXAMPLES") || page.contains("version"),
            "{page} has no examples"
        );
    }
    let push = std::fs::read_to_string(place.path("pages/blob-push.1")).unwrap();
    assert!(push.contains("BLOB_PUSH_TAG") && push.contains("The same as \\-\\-tag."), "{push}");
    let Some(mandoc) = blob_testkit::peers::require("mandoc", blob_testkit::peers::find("mandoc")) else { return };
    let mut lint = std::process::Command::new(mandoc);
    lint.args(["-T", "lint", "-W", "error"]).args(pages.iter().map(|page| place.path("pages").join(page)));
    let output = lint.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_option_can_be_a_variable() {
    let place = Place::laid_out();
    let run =
        |line: &str, name: &str, value: &str| stdout(&place.assert(place.command(line).env(name, value)).success());
    assert!(run("pull oci:layout:v1 out", "BLOB_PULL_DRY_RUN", "1").starts_with("+ README.md\n"));
    assert!(!place.path("out").exists());
    assert!(run("pull oci:layout:v1 out", "BLOB_PULL_DRY_RUN", "0").starts_with("Pulled "));
    assert_eq!(run("tree oci:layout:v1", "BLOB_TREE_LEVEL", "1"), stdout(&place.run("tree -L 1 oci:layout:v1")));
    assert_eq!(run("ls oci:layout:v1", "BLOB_LS_LONG", "true"), stdout(&place.run("ls -l oci:layout:v1")));
    run("push -q oci:layout:v1 project", "BLOB_PUSH_TAG", "latest");
    assert_eq!(run("tags oci:layout", "BLOB_JOBS", "2"), "latest\nv1\n");
}

/// The reference in the documentation is what the program says; `SNAPSHOTS=overwrite` writes it anew.
#[test]
fn the_reference_is_what_the_program_says() {
    let place = Place::offline();
    let written = stdout(&place.run("man --markdown").success());
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
        std::fs::write(&file, &written).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), written, "run with SNAPSHOTS=overwrite");
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
    assert!(stdout(&format("json", "inspect oci:layout:v1").success()).starts_with("{\n"));
    assert!(stderr(&format("{{.digset}}", "inspect oci:layout:v1").code(2)).contains("did you mean .digest?"));
    assert!(stderr(&format("{{.digest", "inspect oci:layout:v1").code(2)).contains("not closed"));
    let rows = "{{range $i, $e := .entries}}{{if lt $i 2}}{{with $e.name}}{{.}},{{end}}{{end}}{{end}}";
    assert_eq!(stdout(&format(rows, "ls oci:layout:v1 config").success()), "app.yaml,database.json,\n");
    let table = stdout(&format("table {{.name}}\\t{{.size}}", "ls oci:layout:v1 config").success());
    assert!(table.starts_with("NAME           SIZE\napp.yaml       "), "{table}");
}

#[test]
fn templates_are_tried_before_the_deed() {
    let place = Place::laid_out();
    let push = |template: &str| {
        let mut command = place.command("push oci:layout:v7 project");
        place.assert(command.args(["--format", template]))
    };
    for (template, expected) in [
        ("{{printf \"%d\" .digest}}", "%d is for numbers, not a text"),
        ("{{.digest.x}}", ".x is asked of a text"),
        ("{{index .digest 5}}", "index does not fit"),
        ("{{if .digest}}{{else}}{{.nope}}{{end}}", "there is no field .nope"),
        ("{{.data.nope}}", "there is no field .nope"),
    ] {
        let said = stderr(&push(template).code(2).stdout_eq(""));
        assert!(said.contains(expected), "{template}: {said}");
        place.run("inspect oci:layout:v7").code(3);
    }
    let long = stderr(&push(&format!("{{{{.{}}}}}", "x".repeat(120_000))).code(2));
    assert!(long.len() < 2000, "{} bytes", long.len());
    // What only values show is told after the deed, which was done.
    let said = stderr(&push("{{index .tags 7}}").code(1).stdout_eq(""));
    let digest = stdout(&place.run("inspect --format {{.digest}} oci:layout:v7").success());
    assert!(said.contains("`blob push` did its work") && said.contains(digest.trim_end()), "{said}");
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
fn the_layout_that_is_pushed_to_is_no_part_of_what_is_pushed() {
    let place = Place::offline();
    for layout in ["project/lay", "./project/below/lay"] {
        for _ in 0..2 {
            place.run(&format!("push oci:{layout}:v1 project")).success();
        }
        let listed = stdout(&place.run(&format!("ls -R oci:{layout}:v1")).success());
        assert!(!listed.contains("index.json") && listed.contains("README.md"), "{listed}");
        std::fs::remove_dir_all(place.path(layout)).unwrap();
    }
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
