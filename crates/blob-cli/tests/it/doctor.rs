//! The doctor: what it looks at, what it finds, and when it tells.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Place, stdout};

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
    let (repository, healthy) = checks("doctor HOST/team/project", 0);
    assert!(repository.ends_with(" archive=skipped") && healthy, "{repository}");
    let (missing, healthy) = checks("doctor HOST/team/project:none", 3);
    assert!(missing.ends_with(" archive=failed") && !healthy, "{missing}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (unreachable, _) = checks(&format!("--retries 0 doctor {closed}/a/b:v1"), 5);
    assert!(unreachable.ends_with(" name=ok connection=failed registry=skipped archive=skipped"), "{unreachable}");
    let text = stdout(&place.run("doctor HOST/team/project:v1").success());
    assert!(text.starts_with("configuration  ok       no file, all defaults\ncache          ok       "), "{text}");
    place.run("doctor a:b:c").code(2);
    assert_eq!(checks("--offline doctor HOST", 0), ("configuration=ok cache=ok registry=skipped".into(), true));
}

#[test]
fn the_doctor_tries_the_login() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = crate::errors::guarded(&runtime);
    let host = server.local_addr().to_string();
    let place = Place::offline();
    let told = |user: Option<(&str, &str)>, code: i32| {
        let mut command = place.command(&format!("--retries 0 doctor {host}"));
        if let Some((name, password)) = user {
            command.env("BLOB_REGISTRY", &host).env("BLOB_USERNAME", name).env("BLOB_PASSWORD", password);
        }
        let text = stdout(&place.assert(&mut command).code(code));
        text.lines().find(|line| line.starts_with("log-in")).unwrap().to_owned()
    };
    assert!(told(Some(("ann", "correct horse")), 0).contains(" ok "));
    assert!(told(Some(("ann", "wrong")), 4).contains(" failed "));
    assert!(told(None, 4).contains(" failed "));
}

#[test]
fn a_web_server_is_no_registry() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The first connection is only made.
            if stream.read(&mut [0; 4096]).unwrap_or(0) > 0 {
                let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 2\r\n\r\nhi";
                stream.write_all(page.as_bytes()).unwrap();
            }
        }
    });
    let text = stdout(&Place::offline().run(&format!("doctor {host}")).code(5));
    assert!(text.contains("\nregistry       failed "), "{text}");
    assert!(text.contains("text/html; charset=utf-8: who answered is no registry\n"), "{text}");
}

#[test]
fn each_check_is_told_when_it_is_done() {
    let place = Place::offline();
    for (option, expected) in
        [("text", "connection "), ("plain", "connection\t"), ("jsonl", "{\"name\":\"connection\"")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap();
        let mut command = place.command(&format!("--retries 0 -o {option} doctor {host}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // Nobody has answered yet.
        let told = lines.find(|line| line.starts_with(expected));
        assert!(told.is_some(), "{option}");
        drop(listener);
        assert!(lines.count() > 0, "{option}");
        assert_eq!(child.wait().unwrap().code(), Some(5), "{option}");
    }
}
