//! Secrets that are given to the command in any way turn up nowhere: not in what it writes, not in its log at its most
//! talkative, not in its cache, not beside the point in its errors.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use blob::registry::server::{Auth, ServerHandle};
use blob::registry::{MemoryRegistry, Server};
use blob_testkit::proxy::{Action, Faults, Gate, Proxy, ProxyOptions, Rule};
use tokio::runtime::Runtime;

use crate::support::{Place, Server as Process, eventually, signal};

/// The secret. It is no part of any word that might be written for another reason.
const SECRET: &str = "kanarienvogel-7f3a";

/// What the secret looks like on the wire and in files: as it is, in URLs, `ann:` and it in Base64, it alone in Base64.
const SHAPES: [&str; 4] =
    [SECRET, "kanarienvogel%2D7f3a", "YW5uOmthbmFyaWVudm9nZWwtN2YzYQ==", "a2FuYXJpZW52b2dlbC03ZjNh"];

/// Commands that speak to a registry.
const COMMANDS: [&str; 25] = [
    "push SERVER/team/new:v1 project",
    "pull --overwrite SERVER/team/project:v1 out",
    "cat SERVER/team/project:v1 README.md",
    "ls SERVER/team/project:v1",
    "tree -o json SERVER/team/project:v1",
    "cp -f SERVER/team/project:v1:/README.md out/",
    "inspect --referrers SERVER/team/project:v1",
    "sign --key k.key SERVER/team/project:v1",
    "attest --key k.key --type vuln --predicate predicate.json SERVER/team/project:v1",
    "verify --key k.pub --insecure-ignore-tlog SERVER/team/project:v1",
    "tag SERVER/team/project:v1 again",
    "tags --digests SERVER/team/project",
    "copy SERVER/team/project:v1 oci:copied:v1",
    "copy oci:copied:v1 SERVER/team/back:v1",
    "rm --yes SERVER/team/project:again",
    "referrers --tree SERVER/team/project:v1",
    "diff SERVER/team/project:v1 project",
    "check --read-data SERVER/team/project:v1",
    "export -f out.tar SERVER/team/project:v1",
    "find SERVER/team/project:v1",
    "grep Sample SERVER/team/project:v1",
    "du SERVER/team/project:v1",
    "stat SERVER/team/project:v1 README.md",
    "doctor SERVER/team/project:v1",
    "ls -o json SERVER/team/project:none",
];

/// A server that lets in ann, with the secret, and nobody else.
fn guarded(runtime: &Runtime) -> ServerHandle {
    let auth = Auth::basic("guarded").user("ann", SECRET);
    runtime.block_on(Server::builder(Arc::new(MemoryRegistry::new())).auth(auth).bind("127.0.0.1:0")).unwrap()
}

/// A place with a key pair whose password is the secret, and an archive at `server` if it lets us.
fn place() -> Place {
    let place = Place::offline();
    fs::write(place.path("predicate.json"), "{}").unwrap();
    place.assert(place.command("generate-key-pair k").env("BLOB_KEY_PASSWORD", SECRET)).success();
    place
}

/// Runs a command that tells everything it can tell; all that it wrote.
fn run(place: &Place, line: &str, prepare: impl FnOnce(&mut Command)) -> String {
    let mut command = place.command(&format!("-vvv --trace-file trace.log --retries 0 {line}"));
    command.env("BLOB_KEY_PASSWORD", SECRET);
    prepare(&mut command);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who reads no password closes this unread.
    let _ = child.stdin.take().unwrap().write_all(format!("{SECRET}\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    format!("{line}\nexit {:?}\n{text}", output.status.code())
}

/// Where in `text` the secret is, with what stands around it.
fn found(text: &str) -> Option<String> {
    let at = SHAPES.iter().filter_map(|shape| text.find(shape)).min()?;
    let start = text[..at].char_indices().rev().nth(120).map_or(0, |(start, _)| start);
    Some(text[start..].chars().take(240).collect())
}

/// Every file of the place that has the secret, but for those in which it was put.
fn leaks(place: &Place, put: &[&str]) -> Vec<String> {
    let put: Vec<PathBuf> = put.iter().map(|path| place.path(path)).collect();
    let (mut leaks, mut open) = (Vec::new(), vec![place.root.path().to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else if !put.contains(&path) {
                let mut bytes = Vec::new();
                // Sockets and links that lead nowhere hold nothing.
                let _ = fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
                let text = String::from_utf8_lossy(&bytes);
                leaks.extend(found(&text).map(|seen| format!("{}: {seen}", path.display())));
            }
        }
    }
    leaks
}

/// Runs all commands against `server`; each must have asked it for something.
fn sweep(place: &Place, server: &str, put: &[&str], prepare: impl Fn(&mut Command)) {
    let mut seen = Vec::new();
    for command in COMMANDS {
        let text = run(place, &command.replace("SERVER", server), &prepare);
        assert!(!text.contains("exit Some(2)"), "{text}");
        seen.extend(found(&text).map(|seen| format!("{command}: {seen}")));
    }
    let trace = fs::read_to_string(place.path("trace.log")).unwrap();
    assert!(trace.contains("/v2/") || trace.contains(server), "nothing was asked of {server}: {trace}");
    seen.extend(leaks(place, put));
    assert!(seen.is_empty(), "{}", seen.join("\n"));
}

fn push(place: &Place, server: &str) {
    let mut command = place.command(&format!("push -q --reproducible {server}/team/project:v1 project"));
    place.assert(command.env("BLOB_USERNAME", "ann").env("BLOB_PASSWORD", SECRET)).success();
}

#[test]
fn passwords_of_the_environment() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), place());
    let address = server.local_addr().to_string();
    push(&place, &address);
    sweep(&place, &address, &[], |command| {
        command.env("BLOB_USERNAME", "ann").env("BLOB_PASSWORD", SECRET);
    });
    // Of somebody else, so that every command is refused.
    sweep(&place, &address, &[], |command| {
        command.env("BLOB_USERNAME", "eve").env("BLOB_PASSWORD", SECRET);
    });
}

#[test]
fn passwords_on_standard_input() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), place());
    let address = server.local_addr().to_string();
    push(&place, &address);
    sweep(&place, &address, &[], |command| {
        command.args(["--username", "ann", "--password-stdin"]);
    });
}

#[test]
fn logins_of_a_file() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), place());
    let address = server.local_addr().to_string();
    push(&place, &address);
    for line in [
        format!("login -u ann --password-stdin {address}"),
        "login --identity-token-stdin --no-check other.test".to_owned(),
        format!("login -u ann --password-stdin --registry-config logins.json {address}"),
    ] {
        let text = run(&place, &line, |_| {});
        assert!(text.contains("exit Some(0)"), "{text}");
        assert_eq!(found(&text), None, "{line}");
    }
    let kept = ["home/.docker/config.json", "logins.json"];
    for file in kept {
        let mode = fs::metadata(place.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file} is for its owner alone");
        let text = fs::read_to_string(place.path(file)).unwrap();
        assert!(found(&text).is_some(), "{file} does not keep the login: {text}");
    }
    sweep(&place, &address, &kept, |_| {});
    sweep(&place, &address, &kept, |command| {
        command.args(["--registry-config", "logins.json"]);
    });
    let text = run(&place, &format!("logout {address}"), |_| {});
    assert_eq!(found(&text), None);
}

#[test]
fn logins_that_cannot_be_read() {
    let place = place();
    fs::create_dir(place.path("home/.docker")).unwrap();
    let file = "home/.docker/config.json";
    for broken in [
        format!(r#"{{"auths":{{"localhost:1":{{"auth":"{SECRET}"}}}}}}"#),
        format!(r#"{{"auths":{{"localhost:1":{{"identitytoken":["{SECRET}"]}}}}}}"#),
        format!(r#"{{"auths":{{"localhost:1":"{SECRET}"}}}}"#),
        format!(r#"{{"auths": {SECRET}"#),
        format!(r#"{{"HttpHeaders":{{"X-Key":"{SECRET}"}},"auths":{{}}}}"#),
    ] {
        fs::write(place.path(file), &broken).unwrap();
        for command in
            ["ls localhost:1/a/b:v1", "ls -o json localhost:1/a/b:v1", "doctor localhost:1", "logout localhost:1"]
        {
            let text = run(&place, command, |_| {});
            assert_eq!(found(&text), None, "{broken}: {command}");
        }
    }
    assert_eq!(leaks(&place, &[file]), Vec::<String>::new());
}

#[test]
fn headers_and_proxies_of_the_configuration() {
    let (place, server) = (place(), Process::start(&[]));
    push(&place, &server.addr);
    let file = "home/.config/blob/config.yaml";
    fs::create_dir_all(place.path(file).parent().unwrap()).unwrap();
    let host = &server.addr;
    let write = |rest: String| fs::write(place.path(file), format!("registries:\n  \"{host}\":\n{rest}")).unwrap();
    write(format!("    headers:\n      X-Key: {SECRET}\n"));
    sweep(&place, host, &[file], |_| {});
    let looks = [
        "config show",
        "config show --origin",
        "config show -o json",
        "config show -o jsonl",
        "config validate",
        "doctor",
    ];
    for look in looks {
        let text = run(&place, look, |_| {});
        assert_eq!(found(&text), None, "{look}");
    }
    // Nobody listens at the proxy.
    write(format!("    proxy: http://ann:{SECRET}@127.0.0.1:1\n"));
    sweep(&place, host, &[file], |_| {});
    for look in looks {
        let text = run(&place, look, |_| {});
        assert_eq!(found(&text), None, "{look}");
    }
    // What is wrong in the file is shown, but not this.
    write(format!("    headers:\n      X-Key: [{SECRET}]\n"));
    let text = run(&place, "config validate", |_| {});
    assert!(text.contains("exit Some(2)"), "{text}");
    fs::remove_file(place.path(file)).unwrap();
    assert_eq!(leaks(&place, &[]), Vec::<String>::new());
}

#[test]
fn what_is_set_is_not_repeated() {
    let place = place();
    let file = "home/.config/blob/config.yaml";
    for (key, value) in [
        ("registries.localhost:1.headers.X-Key", SECRET.to_owned()),
        ("registries.localhost:1.proxy", format!("http://ann:{SECRET}@127.0.0.1:1")),
    ] {
        for format in ["text", "json", "plain"] {
            let text = run(&place, &format!("config set {key} {value} -o {format}"), |_| {});
            // The first line is what was typed.
            let written = text.split_once('\n').unwrap().1;
            assert_eq!(found(written), None, "{key}");
        }
    }
    assert_eq!(leaks(&place, &[file]), Vec::<String>::new());
}

#[test]
fn tokens_and_signed_locations() {
    let (place, server) = (place(), Process::start(&[]));
    push(&place, &server.addr);
    // A registry that hands out the secret as a token, and sends readers of blobs elsewhere with it.
    let gate = Gate { token: Some(SECRET.into()), ..Gate::default() };
    let proxy = Proxy::start(server.addr.parse().unwrap(), ProxyOptions { gate, ..ProxyOptions::default() }).unwrap();
    sweep(&place, &proxy.addr().to_string(), &[], |_| {});
    let elsewhere = format!("http://127.0.0.1:1/data?X-Amz-Signature={SECRET}");
    let faults = Faults::script(vec![
        Rule::every("/blobs/sha256:", Action::status_with(307, "location", &elsewhere)).method("GET"),
    ]);
    let redirecting =
        Proxy::start(server.addr.parse().unwrap(), ProxyOptions { faults, ..ProxyOptions::default() }).unwrap();
    let place = self::place();
    sweep(&place, &redirecting.addr().to_string(), &[], |_| {});
}

#[test]
fn passwords_of_keys() {
    let (place, server) = (place(), Process::start(&[]));
    push(&place, &server.addr);
    let sign = format!("sign --key k.key {}/team/project:v1", server.addr);
    let signed = run(&place, &sign, |_| {});
    assert!(signed.contains("exit Some(0)"), "{signed}");
    assert_eq!(found(&signed), None);
    place.assert(place.command("generate-key-pair other").env("BLOB_KEY_PASSWORD", "another")).success();
    let refused = run(&place, &sign.replace("k.key", "other.key"), |_| {});
    assert!(!refused.contains("exit Some(0)"), "{refused}");
    assert_eq!(found(&refused), None);
    let made = run(&place, "generate-key-pair third", |_| {});
    assert_eq!(found(&made), None);
    assert_eq!(leaks(&place, &[]), Vec::<String>::new());
    let mode = |file: &str| fs::metadata(place.path(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("third.key"), mode("third.pub")), (0o600, 0o644));
}

#[test]
fn passwords_in_references() {
    let place = place();
    for typed in [
        format!("https://ann:{SECRET}@registry.test/team/project:v1"),
        format!("ann:{SECRET}@registry.test/team/project:v1"),
    ] {
        for command in ["ls", "pull", "inspect", "tags", "doctor", "login", "tag", "rm --yes"] {
            for format in ["text", "json"] {
                let more = if command == "tag" { " x" } else { "" };
                let text = run(&place, &format!("{command} {typed}{more} -o {format}"), |_| {});
                let written = text.split_once('\n').unwrap().1;
                assert_eq!(found(written), None, "{command}: {written}");
            }
        }
    }
    assert_eq!(leaks(&place, &[]), Vec::<String>::new());
}

/// Base64 as the program of that name makes it.
fn encode(text: &str) -> String {
    let mut child = Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn tokens_of_identities() {
    let (place, server) = (place(), Process::start(&[]));
    push(&place, &server.addr);
    let part = |text: &str| encode(text).trim_end_matches('=').replace('+', "-").replace('/', "_");
    let claims =
        r#"{"iss":"https://issuer.test","sub":"ann","aud":"sigstore","email":"ann@example.com","exp":4102444800}"#;
    // The secret is what makes the token valid.
    let whole = format!("{}.{}.{SECRET}", part(r#"{"alg":"none","typ":"JWT"}"#), part(claims));
    fs::write(place.path("token"), &whole).unwrap();
    // Nobody listens at the authority, so that it goes wrong after the token was read.
    let sign = format!("sign --fulcio-url http://127.0.0.1:1 {}/team/project:v1", server.addr);
    let mut seen = Vec::new();
    for token in [whole.as_str(), SECRET, "@token", "@k.key"] {
        let text = run(&place, &format!("{sign} --identity-token {token}"), |_| {});
        assert!(!text.contains("exit Some(0)"), "{text}");
        // The first line is what was typed.
        seen.extend(found(text.split_once('\n').unwrap().1));
    }
    for variables in [
        vec![("SIGSTORE_ID_TOKEN", whole.as_str())],
        vec![("SIGSTORE_ID_TOKEN", SECRET)],
        vec![
            ("GITHUB_ACTIONS", "true"),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", SECRET),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/token?id=kanarienvogel-7f3a"),
        ],
    ] {
        let text = run(&place, &sign, |command| {
            command.envs(variables.iter().copied());
        });
        assert!(!text.contains("exit Some(0)"), "{text}");
        seen.extend(found(&text));
    }
    seen.extend(leaks(&place, &["token"]));
    assert!(seen.is_empty(), "{}", seen.join("\n"));
}

#[test]
fn what_an_interrupted_push_writes_down() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), place());
    let mut options = ProxyOptions::default();
    options.shape.bytes_per_second = Some(1 << 15);
    let proxy = Proxy::start(server.local_addr(), options).unwrap();
    fs::write(place.path("project/large"), vec![7; 1 << 20]).unwrap();
    let mut command =
        place.command(&format!("-vvv --trace-file trace.log push -c none {}/team/new:v1 project", proxy.addr()));
    command.env("BLOB_USERNAME", "ann").env("BLOB_PASSWORD", SECRET).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let sent = || proxy.requests().iter().map(|request| request.bytes_up).max().unwrap_or_default();
    eventually("the upload", || sent() > 1 << 13);
    signal("INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(leaks(&place, &[]), Vec::<String>::new());
}

#[test]
fn the_shapes_are_those_of_the_secret() {
    assert_eq!(encode(&format!("ann:{SECRET}")), SHAPES[2]);
    assert!(encode(SECRET).starts_with(SHAPES[3]), "{}", encode(SECRET));
}
