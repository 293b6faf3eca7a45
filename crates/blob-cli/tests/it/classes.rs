//! Every class of error at every command where it can occur: exit code, sentence, hint, and the same as JSON. The
//! commands are those of the help, so that a new one has to say what becomes of it.

use std::collections::BTreeSet;
use std::fs;

use blob_testkit::proxy::{Action, Faults, Proxy, ProxyHandle, ProxyOptions, Rule};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::errors::{flip, guarded};
use crate::schema;
use crate::support::{Place, stderr, stdout};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// An option that there is not.
    Usage,
    /// A tag, or a repository, that there is not.
    NotFound,
    /// A registry that wants to know who asks.
    Authentication,
    /// Nobody listens.
    Network,
    /// Nobody signed, and that is asked for.
    Policy,
    /// A manifest that is not what its digest says.
    Manifest,
    /// Data that is not what the index says.
    Data,
}

use Class::{Authentication, Data, Manifest, Network, NotFound, Policy, Usage};

impl Class {
    /// Exit code, name in JSON, and what the hint says; empty where there is none.
    fn expected(self) -> (i32, &'static str, &'static str) {
        match self {
            Self::Usage => (2, "usage", "usage: blob "),
            Self::NotFound => (3, "not_found", "the tag"),
            Self::Authentication => (4, "authentication", "blob login "),
            Self::Network => (5, "network", "blob doctor "),
            Self::Policy => (6, "verification", "--require-signed"),
            Self::Manifest | Self::Data => (7, "hash_mismatch", ""),
        }
    }
}

const REMOTE: &[Class] = &[Usage, NotFound, Authentication, Network, Manifest];
const READ: &[Class] = &[Usage, NotFound, Authentication, Network, Policy, Manifest];
const FETCH: &[Class] = &[Usage, NotFound, Authentication, Network, Policy, Manifest, Data];

/// A command line for each command, `REF` being an archive, `REPO` its repository and `SERVER` its registry, and what can
/// go wrong with it. The classes of local files alone are in `errors` and `faces`.
const COMMANDS: &[(&str, &[Class])] = &[
    ("push REF project", &[Usage, Authentication, Network]),
    ("pull REF out", FETCH),
    // What is wrong with files is in `pack`.
    ("pack project packed", &[Usage]),
    ("unpack packed out", &[Usage]),
    ("cat REF README.md", FETCH),
    ("ls REF", READ),
    ("tree REF", READ),
    ("cp REF:/README.md out/", FETCH),
    ("inspect REF", READ),
    // What is damaged is in `mount`.
    ("mount REF project/empty", READ),
    // What is damaged is in `web`.
    ("web --listen 127.0.0.1:0 REF", READ),
    // On a terminal it is in `faces`.
    ("open REF", &[Usage]),
    ("sign --key k.key REF", REMOTE),
    ("attest --key k.key --type vuln --predicate predicate.json REF", REMOTE),
    ("generate-key-pair x", &[Usage]),
    ("verify --key k.pub --insecure-ignore-tlog REF", REMOTE),
    ("verify-bundle --bundle b --key k.pub f", &[Usage]),
    ("policy check f", &[Usage]),
    ("tag REF x", REMOTE),
    ("tags REPO", &[Usage, Authentication, Network]),
    ("repos SERVER", &[Usage, Authentication, Network]),
    ("copy REF oci:copied:v1", &[Usage, NotFound, Authentication, Network, Policy, Manifest, Data]),
    ("save -t saved REF saved.tar", &[Usage, NotFound, Authentication, Network, Policy, Manifest, Data]),
    // What is wrong with the file is in `packed`.
    ("load saved.tar REPO", &[Usage]),
    ("rm --yes REF", &[Usage, NotFound, Authentication, Network]),
    ("referrers REF", &[Usage, NotFound, Authentication, Network]),
    ("attach --type text/plain REF project/README.md", &[Usage, NotFound, Authentication, Network]),
    ("download REF", &[Usage, NotFound, Authentication, Network, Manifest]),
    ("diff REF project", READ),
    ("check --read-data REF", FETCH),
    ("export -f out.tar REF", FETCH),
    ("find REF", READ),
    // Of several files that cannot be searched each has its error: see `grep_troubled`.
    ("grep Sample REF README.md", FETCH),
    ("du REF", READ),
    ("stat REF README.md", READ),
    ("cache status", &[Usage]),
    ("gc layout", &[Usage]),
    ("login -u ann SERVER", &[Usage, Network]),
    ("logout SERVER", &[Usage]),
    ("alias list", &[Usage]),
    ("config show", &[Usage]),
    ("doctor REF", &[Usage, NotFound, Authentication, Network, Manifest]),
    ("serve", &[Usage]),
    ("completion bash", &[Usage]),
    ("man", &[Usage]),
    ("schema push", &[Usage]),
    ("version", &[Usage]),
];

/// The places where things go wrong.
struct World {
    place: Place,
    guarded: String,
    closed: String,
    /// Every manifest that is read by its digest is damaged.
    manifests: ProxyHandle,
    /// Every blob of data is damaged.
    data: ProxyHandle,
    digest: String,
}

impl World {
    fn new(runtime: &Runtime) -> Self {
        let place = Place::pushed();
        fs::write(place.path("predicate.json"), "{}").unwrap();
        place.assert(place.command("generate-key-pair k").env("BLOB_KEY_PASSWORD", "secret")).success();
        let pinned = stdout(&place.run("push -q --reproducible HOST/team/project:v1 project").success());
        let digest = pinned.trim().split_once('@').unwrap().1.to_owned();
        let document = stdout(&place.run("inspect -o json HOST/team/project:v1").success());
        let document: Value = serde_json::from_str(&document).unwrap();
        let damaged = |path: String| {
            let faults = Faults::script(vec![Rule::every(&path, Action::Flip(3)).method("GET")]);
            let options = ProxyOptions { faults, ..ProxyOptions::default() };
            Proxy::start(place.host().parse().unwrap(), options).unwrap()
        };
        let manifests = damaged(format!("/manifests/{digest}"));
        let data = damaged(format!("/blobs/{}", document["data"]["digest"].as_str().unwrap()));
        // Nobody listens there, and the system gives the port to nobody.
        let closed = Place::NO_HOST.to_owned();
        let server = guarded(runtime);
        let guarded = server.local_addr().to_string();
        // It lives as long as the runtime.
        std::mem::forget(server);
        Self { place, guarded, closed, manifests, data, digest }
    }

    /// The command line for a class.
    fn line(&self, class: Class, command: &str) -> String {
        let at = |server: &str, target: &str| {
            let reference = format!("{server}/team/project{target}");
            let line = command.replace("REF", &reference).replace("REPO", &format!("{server}/team/project"));
            line.replace("SERVER", server)
        };
        match class {
            Usage => format!("{} --frobnicate", at("HOST", ":v1")),
            NotFound => at("HOST", ":none"),
            Authentication => at(&self.guarded, ":v1"),
            Network => format!("--retries 0 {}", at(&self.closed, ":v1")),
            Policy => format!("--require-signed {}", at("HOST", ":v1")),
            Manifest => format!(
                "--no-cache --retries 0 {}",
                at(&self.manifests.addr().to_string(), &format!("@{}", self.digest))
            ),
            Data => format!("--no-cache --retries 0 {}", at(&self.data.addr().to_string(), ":v1")),
        }
    }

    fn run(&self, line: &str) -> snapbox::cmd::OutputAssert {
        let mut command = self.place.command(line);
        self.place.assert(command.env("BLOB_KEY_PASSWORD", "secret").env("BLOB_PASSWORD", "wrong"))
    }

    /// Runs a command as text and as JSON; what is wrong with its errors.
    fn problems(&self, class: Class, command: &str) -> Vec<String> {
        let (code, kind, wanted) = class.expected();
        let line = self.line(class, command);
        let mut problems = Vec::new();
        let mut expect = |what: &str, holds: bool, seen: &str| {
            if !holds {
                problems.push(format!("{class:?}: {line}: {what}: {seen}"));
            }
        };
        let text = self.run(&line);
        let said = stderr(&text);
        expect(&format!("exit code {code}"), text.get_output().status.code() == Some(code), &said);
        let mut lines = said.lines();
        let sentence = lines.next().unwrap_or_default();
        expect("a sentence", sentence.starts_with("error: ") && !sentence.ends_with('.'), &said);
        let told = command.starts_with("doctor") || command.starts_with("check");
        expect("no result", told || stdout(&text).is_empty(), &stdout(&text));
        let hint = lines.next().unwrap_or_default();
        // The doctor gives its hints beside the checks.
        let hinted = if command.starts_with("doctor") && class != Usage { stdout(&text) } else { hint.to_owned() };
        let helps = wanted.is_empty() || (class == Network && command.starts_with("doctor")) || hinted.contains(wanted);
        expect(&format!("a hint with {wanted:?}"), helps, &format!("{said}{hinted}"));
        expect("one sentence and a hint", lines.next().is_none(), &said);

        let json = self.run(&format!("{line} -o json"));
        let said = stderr(&json);
        expect("the same exit code", json.get_output().status.code() == Some(code), &said);
        if said.is_empty() {
            return problems;
        }
        schema::check("error", &said);
        let error = serde_json::from_str::<Value>(&said).unwrap()["error"].clone();
        expect("code and kind", (&error["code"], &error["kind"]) == (&code.into(), &kind.into()), &said);
        let mut parts = vec![error["message"].as_str().unwrap_or_default().to_owned()];
        parts.extend(
            error["causes"].as_array().into_iter().flatten().filter_map(|cause| cause.as_str().map(str::to_owned)),
        );
        // The nonce of a time or a port differs from run to run, the words do not.
        expect(
            "the same words",
            sentence.starts_with(&format!("error: {}", parts[0])),
            &format!("{sentence} / {said}"),
        );
        problems
    }
}

/// All commands that can fail in one way.
fn check(class: Class) {
    let runtime = Runtime::new().unwrap();
    let world = World::new(&runtime);
    let commands = COMMANDS.iter().filter(|(_, classes)| classes.contains(&class));
    let problems: Vec<String> = commands.flat_map(|(command, _)| world.problems(class, command)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    // A layout that was begun before damage turned up stays, without a tag.
    let copied = if matches!(class, Manifest | Data) { None } else { Some("copied") };
    for left in ["out", "out.tar"].into_iter().chain(copied) {
        assert!(!world.place.path(left).exists(), "{left} was written");
    }
}

#[test]
fn wrong_usage() {
    check(Usage);
}

#[test]
fn what_is_not_there() {
    check(NotFound);
}

#[test]
fn who_is_not_known() {
    check(Authentication);
}

#[test]
fn where_nobody_listens() {
    check(Network);
}

#[test]
fn what_nobody_signed() {
    check(Policy);
}

#[test]
fn manifests_that_are_not_what_they_are_called() {
    check(Manifest);
}

#[test]
fn data_that_is_not_what_the_index_says() {
    check(Data);
}

#[test]
fn every_command_is_in_the_table() {
    let text = stdout(&Place::offline().run("--help"));
    let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: BTreeSet<&str> =
        names.map(|line| line.split_whitespace().next().unwrap()).filter(|name| *name != "help").collect();
    let known = COMMANDS.iter().map(|(line, _)| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, known);
}

#[test]
fn a_login_that_is_refused_is_not_kept() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), Place::offline());
    let mut command = place.command(&format!("login -u ann {}", server.local_addr()));
    let refused = place.assert(command.env("BLOB_PASSWORD", "wrong")).code(4);
    assert!(stderr(&refused).contains("hint: check the user and the password"), "{}", stderr(&refused));
    assert!(!place.path("home/.docker").exists());
}

/// What is done in part says what is done, and exits with 8.
#[test]
fn what_is_done_in_part_is_told() {
    let place = Place::pushed();
    // The tag is gone when it is deleted the second time.
    let deleted = place.run("rm --yes -o json HOST/team/project:v1 HOST/team/project:v1").code(8);
    schema::check("rm", &stdout(&deleted));
    schema::check("error", &stderr(&deleted));
    let document: Value = serde_json::from_str(&stdout(&deleted)).unwrap();
    assert_eq!(document["deleted"].as_array().unwrap().len(), 1);
    let error: Value = serde_json::from_str(&stderr(&deleted)).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["kind"]), (&8.into(), &"partial".into()));
    assert_eq!(error["error"]["message"], "deleted 1 of 2 references");

    // The data of the second of two archives is damaged.
    place.run("push -q --reproducible oci:layout:v1 project").success();
    place.run("push -q --reproducible --exclude docs oci:layout:v2 project").success();
    let document: Value = serde_json::from_str(&stdout(&place.run("inspect -o json oci:layout:v2"))).unwrap();
    let digest = document["data"]["digest"].as_str().unwrap().replace(':', "/");
    flip(&place.path("layout/blobs").join(digest), 3);
    let copied = place.run("copy --all-tags oci:layout oci:copied").code(8);
    assert!(stdout(&copied).starts_with("Copied oci:layout:v1 to oci:copied\n"), "{}", stdout(&copied));
    assert!(stderr(&copied).starts_with("error: copied 1 of 2 tags: "), "{}", stderr(&copied));
    place.run("tags oci:copied").success().stdout_eq("v1\n");
    let copied = place.run("cp oci:layout:v1:/docs oci:layout:v2:/README.md out").code(8);
    assert!(stderr(&copied).starts_with("error: copied from 1 of 2 archives: "), "{}", stderr(&copied));
    assert!(place.path("out/docs/guide.md").exists() && !place.path("out/README.md").exists());
    // Nothing is no part: the first one has its own exit code.
    assert_ne!(place.run("cp oci:layout:v2:/README.md oci:layout:v1:/docs other").get_output().status.code(), Some(8));
}
