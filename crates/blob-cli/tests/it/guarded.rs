//! What a project, a broken file or a variable that was left over cannot do: have policies passed over, have files of the
//! user shown, or hold the program for ever.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{BLOB, Place, stderr, stdout};

const USER: &str = "home/.config/blob/config.yaml";
/// Rules that refuse everything that is in `oci:layout`, and everything at a host of one label.
const REFUSING: &str = "policies:\n  - match: '^(registry/acme/|oci:.*layout)'\n    policy:\n      signature: {keyless: {issuer: https://i.example, identity: nobody@example.com}}\n";

/// A layout with an archive that nobody signed, and the user's configuration.
fn configured(text: &str) -> Place {
    let place = Place::laid_out();
    fs::create_dir_all(place.path(USER).parent().unwrap()).unwrap();
    fs::write(place.path(USER), text).unwrap();
    place
}

fn keys(place: &Place, name: &str) {
    place.assert(place.command(&format!("generate-key-pair {name}")).env("BLOB_KEY_PASSWORD", "secret")).success();
}

fn shell(place: &Place, script: &str) {
    let done = Command::new("sh").args(["-ec", script]).current_dir(place.root.path()).status().unwrap();
    assert!(done.success(), "{script}");
}

/// Runs a command that is killed if it does not end.
fn bounded(place: &Place, line: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "120", BLOB]).args(line.split(' '));
    place.isolate(&mut command);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_project_cannot_give_a_host_another_meaning() {
    let place = configured(REFUSING);
    fs::write(place.path(".blob.yaml"), "aliases: {registry/acme/app: 'oci:layout'}\n").unwrap();
    let said = stderr(&place.run("--offline cat registry/acme/app:v1 README.md").code(2).stdout_eq(""));
    assert!(said.contains("leave out the slash") && said.contains("user's configuration"), "{said}");
    for project in ["aliases: {registry: evil.example}\n", "aliases: {registry: 'oci:layout'}\n"] {
        fs::write(place.path(".blob.yaml"), project).unwrap();
        let said = stderr(&place.run("-v --offline cat registry/acme/app:v1 README.md").failure().stdout_eq(""));
        assert!(said.contains("registry/acme/app") && !said.contains("evil.example"), "{project}: {said}");
        assert!(!said.contains("resolved an alias"), "{project}: {said}");
    }
}

#[test]
fn a_configuration_that_leads_to_nothing_stops_the_command() {
    for link in [USER, "home/.config"] {
        let place = Place::laid_out();
        let at = place.path(link);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink("/nonexistent/place", &at).unwrap();
        let said = stderr(&place.run("cat oci:layout:v1 README.md").code(2).stdout_eq(""));
        assert!(said.contains("reading the configuration") && said.contains("leads to nothing"), "{link}: {said}");
        // A directory elsewhere in which there is none is no mistake.
        fs::create_dir(place.path("elsewhere")).unwrap();
        fs::remove_file(&at).unwrap();
        if link != USER {
            symlink(place.path("elsewhere"), &at).unwrap();
        }
        place.run("cat oci:layout:v1 README.md").success();
    }
    for make in ["ln -s nowhere .blob.yaml", "mkfifo .blob.yaml", "mkdir blob.yaml", "ln -s .blob.yaml .blob.yaml"] {
        let place = Place::laid_out();
        shell(&place, make);
        let (code, content, said) = bounded(&place, "cat oci:layout:v1 README.md");
        assert_eq!((code, content.as_str()), (Some(2), ""), "{make}: {said}");
        assert!(said.contains("reading the configuration"), "{make}: {said}");
    }
}

#[test]
fn pipes_are_not_waited_for() {
    let place = Place::laid_out();
    keys(&place, "k");
    shell(&place, "mkfifo fifo");
    fs::write(place.path("p.yaml"), "rego: {modules: [fifo], signer: {key: {path: k.pub, transparency_log: none}}}\n")
        .unwrap();
    fs::write(place.path("a.rego"), "package blob.policy\nallow := true\n").unwrap();
    let data = "rego: {modules: a.rego, data: fifo, signer: {key: {path: k.pub, transparency_log: none}}}\n";
    fs::write(place.path("d.yaml"), data).unwrap();
    let read = "cat oci:layout:v1 README.md";
    for line in [
        format!("{read} --policy fifo"),
        format!("{read} --policy p.yaml"),
        format!("{read} --policy d.yaml"),
        format!("{read} --key fifo"),
        format!("{read} --key k.pub --policy-rego fifo"),
        format!("{read} --key k.pub --trusted-root fifo"),
        format!("{read} --config fifo"),
        "inspect --referrers --key fifo oci:layout:v1".into(),
        "policy check fifo".into(),
        "policy test --key k.pub --insecure-ignore-tlog fifo".into(),
        "verify-bundle --key k.pub --bundle fifo k.pub".into(),
        "verify --key k.pub --insecure-ignore-tlog --bundle fifo oci:layout:v1".into(),
        "sign --key fifo oci:layout:v1".into(),
        "serve --file fifo".into(),
        "serve --listen 127.0.0.1:0 --htpasswd fifo".into(),
        "--registry-config fifo ls localhost:1/a/b:v1".into(),
        "--ca-file fifo ls localhost:1/a/b:v1".into(),
    ] {
        let (code, content, said) = bounded(&place, &line);
        assert!(code.is_some_and(|code| (1..100).contains(&code)), "{line}: {code:?} {said}");
        assert!(content.is_empty() && said.contains("expected a plain file, got a pipe"), "{line}: {said}");
    }
    // What a shell hands over has somebody at its other end.
    let mut command = Command::new("bash");
    command.args(["-c", "\"$0\" policy check <(cat handed.yaml)", BLOB]);
    fs::write(place.path("handed.yaml"), "signature: {github: {repository: acme/app}}\n").unwrap();
    place.isolate(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_project_has_nothing_read_that_is_outside_of_it() {
    let place = Place::laid_out();
    keys(&place, "k");
    fs::create_dir(place.path("work")).unwrap();
    fs::rename(place.path("layout"), place.path("work/layout")).unwrap();
    fs::rename(place.path("k.pub"), place.path("work/k.pub")).unwrap();
    fs::write(place.path("netrc"), "machine h password hunter2canary\n").unwrap();
    symlink("../netrc", place.path("work/link.rego")).unwrap();
    let cat = || {
        let mut command = place.command("cat oci:layout:v1 README.md");
        command.current_dir(place.path("work")).env("SECRET_TOKEN", "hunter2canary");
        place.assert(&mut command)
    };
    let project = |modules: &str, key: &str| {
        let rego = format!("rego: {{modules: {modules}, signer: {{key: {{path: {key}, transparency_log: none}}}}}}");
        fs::write(place.path("work/.blob.yaml"), format!("policies:\n  - match: .\n    policy:\n      {rego}\n"))
            .unwrap();
    };
    for modules in ["/proc/self/environ", "../netrc", "link.rego", "./../work/../netrc"] {
        project(modules, "k.pub");
        let said = stderr(&cat().code(2).stdout_eq(""));
        assert!(said.contains("is outside of") && !said.contains("hunter2canary"), "{modules}: {said}");
    }
    fs::create_dir(place.path("work/rules")).unwrap();
    fs::write(place.path("work/rules/a.rego"), "package blob.policy\nallow := true if input.attestations[0]\n")
        .unwrap();
    project("rules/a.rego", "../k.key");
    assert!(stderr(&cat().code(2)).contains("is outside of"));
    // What is in it is read, and judges.
    project("rules/a.rego", "k.pub");
    let said = stderr(&cat().code(6).stdout_eq(""));
    assert!(said.contains("the rules do not allow it"), "{said}");
    // What a user names is read wherever it is; what is no module is told by its place, never by what it says.
    let line = "cat --key work/k.pub --insecure-ignore-tlog --policy-rego netrc oci:work/layout:v1 README.md";
    fs::remove_file(place.path("work/.blob.yaml")).unwrap();
    let said = stderr(&place.run(line).code(2));
    assert!(said.contains("\"netrc\" is not usable: 1:1: ") && !said.contains("hunter2canary"), "{said}");
}

#[test]
fn a_variable_that_was_left_over_answers_no_command() {
    let place = Place::laid_out();
    for shell in ["bash", "fish", "zsh"] {
        let run = |line: &str| place.assert(place.command(line).env("BLOB_COMPLETE", shell));
        let said = stderr(&run("verify oci:layout:v1").code(2).stdout_eq(""));
        assert!(said.contains("no policy"), "{shell}: {said}");
        assert_eq!(stdout(&run("cat oci:layout:v1 README.md").success()), "# Sample\n", "{shell}");
    }
    // Who asks for what a shell needs gets it.
    let mut asked = Command::new(BLOB);
    place.isolate(&mut asked);
    assert!(stdout(&place.assert(asked.env("BLOB_COMPLETE", "bash")).success()).contains("complete "));
}

#[test]
fn completion_opens_nothing_that_policies_refuse() {
    let told = |place: &Place| {
        let mut command = place.command("-- blob cat oci:layout:v1");
        stdout(&place.assert(command.arg("R").env("BLOB_COMPLETE", "fish")).success())
    };
    let open = configured("output: text\n");
    assert!(told(&open).starts_with("README.md"), "{}", told(&open));
    for refusing in [REFUSING, "require_signed: true\n", "outptu: text\n", "policies:\n  - match: .\n    policy: {}\n"]
    {
        let place = configured(refusing);
        assert_eq!(told(&place), "", "{refusing}");
    }
    let signed = configured("require_signed: true\n");
    keys(&signed, "k");
    let policy = "require_signed: true\npolicies:\n  - match: .\n    policy: {signature: {key: {path: ../../../k.pub, transparency_log: none}}}\n";
    fs::write(signed.path(USER), policy).unwrap();
    assert_eq!(told(&signed), "");
    let sign = "sign --key k.key oci:layout:v1";
    signed.assert(signed.command(sign).env("BLOB_KEY_PASSWORD", "secret")).success();
    assert!(told(&signed).starts_with("README.md"), "{}", told(&signed));
}

#[test]
fn every_command_reads_keys_of_every_kind_and_one_from_each_file() {
    let place = Place::laid_out();
    keys(&place, "k");
    keys(&place, "other");
    shell(&place, "grep -v -- ----- k.pub | base64 -d > k.der; cat other.pub k.pub > both.pub");
    let sign = "sign --key k.key --output-bundle b.json oci:layout:v1";
    place.assert(place.command(sign).env("BLOB_KEY_PASSWORD", "secret")).success();
    for read in ["verify --explain oci:layout:v1", "inspect --referrers oci:layout:v1"]
        .map(|read| format!("{read} --insecure-ignore-tlog"))
    {
        let known = stdout(&place.run(&format!("{read} --key k.der")).success());
        assert!(known.contains("the key "), "{read}: {known}");
        for (file, why) in [("both.pub", "2 PEM blocks"), ("k.key", "private key")] {
            let said = stderr(&place.run(&format!("{read} --key {file}")).code(2));
            assert!(said.contains(why), "{read} {file}: {said}");
        }
    }
    // It is read, and what it signed is in no log.
    let said = stderr(&place.run("verify-bundle --bundle b.json --key k.der k.pub").code(6));
    assert!(said.contains("does not verify"), "{said}");
    for (file, why) in [("both.pub", "2 PEM blocks"), ("k.key", "private key")] {
        let said = stderr(&place.run(&format!("verify-bundle --bundle b.json --key {file} k.pub")).code(2));
        assert!(said.contains(why), "{file}: {said}");
    }
}

/// Everybody's policies add up, and a file that is nearer takes nothing away from those above it.
#[test]
fn what_every_file_asks_for_counts() {
    let rule = |key: &str| {
        format!(
            "policies: [{{match: layout, policy: {{signature: {{key: {{path: {key}.pub, transparency_log: none}}}}}}}}]\n"
        )
    };
    let place = configured(&rule("a"));
    for name in ["a", "b", "c", "d"] {
        keys(&place, name);
    }
    fs::copy(place.path("a.pub"), place.path("home/.config/blob/a.pub")).unwrap();
    fs::create_dir_all(place.path("sub/deep/.git")).unwrap();
    fs::copy(place.path("c.pub"), place.path("sub/c.pub")).unwrap();
    fs::write(place.path(".blob.yaml"), rule("b") + "output: json\n").unwrap();
    fs::write(place.path("blob.yaml"), rule("d")).unwrap();
    fs::write(place.path("sub/blob.yaml"), rule("c")).unwrap();
    // A checkout below the project that asks for nothing, and says how results look.
    fs::write(place.path("sub/deep/.blob.yaml"), "output: text\n").unwrap();
    let reference = format!("oci:{}:v1", place.path("layout").display());
    let inside = |dir: &str, line: &str| {
        place.assert(place.command(line).current_dir(place.path(dir)).env("BLOB_KEY_PASSWORD", "secret"))
    };
    let verify = format!("verify {reference}");
    let unmet = |dir: &str| stderr(&inside(dir, &verify).code(6)).matches("no signature").count();
    let keys = ["a", "b", "c", "d"].map(|name| format!("sign --key {}.key {reference}", place.path(name).display()));
    assert_eq!(unmet("."), 3, "the user, and two files of the project");
    assert_eq!(unmet("sub"), 4);
    assert_eq!(unmet("sub/deep"), 4);
    let got = stdout(&inside("sub", "config get policies").success());
    assert_eq!(got.matches(".pub").count(), 4, "{got}");
    for sign in &keys[..2] {
        inside(".", sign).success();
    }
    inside("sub/deep", &format!("cat {reference} README.md")).code(6).stdout_eq("");
    inside(".", &keys[3]).success();
    inside(".", &format!("cat {reference} README.md")).success();
    inside("sub/deep", &format!("cat {reference} README.md")).code(6).stdout_eq("");
    inside(".", &keys[2]).success();
    // How results look is said by the nearest file alone.
    let near = inside("sub/deep", &format!("ls {reference}")).success();
    assert!(stdout(&near).starts_with("README.md\n"), "{}", stdout(&near));
    assert!(stdout(&inside(".", &format!("ls {reference}")).success()).starts_with('{'));
    // What is above and cannot be read stops the command; what it demands cannot be given up below.
    fs::write(place.path("sub/blob.yaml"), "polices: []\n").unwrap();
    let said = stderr(&inside("sub/deep", &format!("cat {reference} README.md")).code(2).stdout_eq(""));
    assert!(said.contains("sub/blob.yaml"), "{said}");
    for file in [USER, ".blob.yaml", "blob.yaml"] {
        fs::remove_file(place.path(file)).unwrap();
    }
    fs::write(place.path("sub/blob.yaml"), "require_signed: true\n").unwrap();
    inside("sub/deep", &format!("cat {reference} README.md")).code(6).stdout_eq("");
    inside(".", &format!("cat {reference} README.md")).success();
}

#[test]
fn who_does_not_know_where_he_is_does_not_know_what_is_asked_for() {
    let place = Place::laid_out();
    fs::create_dir(place.path("gone")).unwrap();
    let mut command = place.command(&format!("cat oci:{}:v1 README.md", place.path("layout").display()));
    // The shell stands in a directory that is no more.
    let mut shell = Command::new("sh");
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    shell.args(["-c", "cd \"$0\" && rmdir \"$0\" && exec \"$@\""]).arg(place.path("gone")).args(words);
    place.isolate(&mut shell);
    let refused = place.assert(&mut shell).code(2);
    assert!(stderr(&refused).contains("the working directory cannot be told"), "{}", stderr(&refused));
    place.assert(&mut command).success();
}
