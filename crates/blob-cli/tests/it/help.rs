//! Help: every command has one, with examples, and wrong words are answered with what would be right.

use snapbox::str;

use crate::support::{Place, stderr, stdout};

const COMMANDS: [&str; 10] = ["push", "pull", "cat", "ls", "tree", "cp", "inspect", "tag", "tags", "serve"];

#[test]
fn the_overview() {
    let place = Place::offline();
    place.run("--help").success().stderr_eq("").stdout_eq(str![]);
}

#[test]
fn every_command_has_examples() {
    let place = Place::offline();
    let overview = stdout(&place.run("--help"));
    for command in COMMANDS {
        let help = stdout(&place.run(&format!("{command} --help")).success());
        assert!(help.contains("Examples:\n  blob ") && help.contains("Usage: blob "), "{command}: {help}");
        assert!(overview.contains(&format!("\n  {command} ")), "{command}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{command}");
    }
}

#[test]
fn wrong_words() {
    let place = Place::offline();
    for (line, hint) in [
        ("pul", "hint: did you mean `pull`?; usage: blob [OPTIONS] <COMMAND>\n"),
        ("pull --overwite a b", "did you mean `--overwrite`?"),
        ("ls x --sort nam", "did you mean `name`?"),
    ] {
        let failed = place.run(line).code(2);
        assert!(stderr(&failed).contains(hint), "{line}: {}", stderr(&failed));
    }
    place.run("push").code(2).stdout_eq("").stderr_eq(str![]);
    place.run("tag x").code(2).stderr_eq(str![]);
    place.run("inspect x y").code(2).stderr_eq(str![]);
}
