//! Variables in the place of options, beyond those that the configuration knows.

use crate::support::{Place, stderr, stdout};

/// Runs `line` with a variable.
fn run(place: &Place, line: &str, name: &str, value: &str) -> snapbox::cmd::OutputAssert {
    place.assert(place.command(line).env(name, value))
}

#[test]
fn options_that_are_repeated_have_a_value_on_each_line() {
    let place = Place::offline();
    run(&place, "push -q oci:layout:v1 project", "BLOB_PUSH_TAG", "latest\n\nstable\n").success();
    assert_eq!(stdout(&place.run("tags oci:layout").success()), "latest\nstable\nv1\n");
    // What is typed comes before the variable, which is not added to it.
    run(&place, "push -q -t typed oci:layout:v1 project", "BLOB_PUSH_TAG", "a\nb").success();
    assert_eq!(stdout(&place.run("tags oci:layout").success()), "latest\nstable\ntyped\nv1\n");
    run(&place, "push -q oci:layout:v2 project", "BLOB_PUSH_ANNOTATION", "a=1,2\nb=x y").success();
    let json = stdout(&place.run("inspect -o json oci:layout:v2").success());
    assert!(json.contains("\"a\": \"1,2\"") && json.contains("\"b\": \"x y\""), "{json}");
    let parts = run(&place, "find oci:layout:v1", "BLOB_FIND_INCLUDE", "README.md\nconfig/");
    assert_eq!(stdout(&parts.success()), "README.md\nconfig/app.yaml\nconfig/database.json\n");
    let wrong = run(&place, "push oci:layout:v1 project", "BLOB_PUSH_TAG", "fine\nnot fine").code(2);
    assert!(stderr(&wrong).contains("not fine"), "{}", stderr(&wrong));
}

#[test]
fn what_is_set_to_nothing_is_not_set() {
    let place = Place::laid_out();
    for name in [
        "BLOB_OUTPUT",
        "BLOB_JOBS",
        "BLOB_COLOR",
        "BLOB_TIMEOUT",
        "BLOB_CACHE_DIR",
        "BLOB_CONFIG",
        "BLOB_USERNAME",
        "BLOB_CA_FILE",
        "BLOB_LS_SORT",
        "BLOB_RETRIES",
        "BLOB_REGISTRY_CONFIG",
    ] {
        run(&place, "ls oci:layout:v1", name, "").success().stderr_eq("");
    }
}

#[test]
fn what_is_neither_true_nor_false_is_refused() {
    let place = Place::laid_out();
    for (name, value) in [("BLOB_OFFLINE", "flase"), ("BLOB_PLAIN_HTTP", "nope"), ("BLOB_CACHE_ENABLED", "flase")] {
        let text = stderr(&run(&place, "ls oci:layout:v1", name, value).code(2).stdout_eq(""));
        assert!(text.contains(name) && text.contains(value), "{text}");
    }
    run(&place, "pull oci:layout:v1 out", "BLOB_PULL_CLEAN", "nope").code(2);
    run(&place, "ls oci:layout:v1", "BLOB_OFFLINE", "yes").success();
    place.run("config set plain_http nope").code(2).stdout_eq("");
}

#[test]
fn what_is_typed_comes_before_variables_that_exclude_it() {
    let place = Place::laid_out();
    run(&place, "pull -q --sync oci:layout:v1 out", "BLOB_PULL_OVERWRITE", "if-changed").success();
    assert!(place.path("out/README.md").exists());
    // Two that are typed still exclude each other.
    place.run("pull --sync --overwrite oci:layout:v1 out").code(2);
}

#[test]
fn a_wrong_variable_is_named() {
    let place = Place::laid_out();
    for (line, name, value, wanted) in [
        ("tree oci:layout:v1", "BLOB_TREE_LEVEL", "x", "error: BLOB_TREE_LEVEL is \"x\": expected a number\n"),
        ("pull oci:layout:v1 out", "BLOB_WORKERS", "0", "error: BLOB_WORKERS is \"0\": expected at least 1\n"),
    ] {
        let text = stderr(&run(&place, line, name, value).code(2));
        assert!(text.starts_with(wanted), "{text}");
    }
}
