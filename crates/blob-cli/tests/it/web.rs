//! `blob web`, asked as clients ask it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use blob::core::Digest;
use blob_testkit::peers;
use serde_json::Value;

use crate::errors::{data_blob, flip};
use crate::support::{Place, eventually, signal, stderr};

/// Over what is verified in memory, 8 MiB.
const LARGE: usize = 9 << 20;

/// A site that ends with the test.
struct Site {
    child: Child,
    /// HOST:PORT.
    host: String,
    digest: String,
}

/// An answer.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(found, _)| *found == name))
            .map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Site {
    /// Runs `blob web` with these words behind it, and waits until it says where it is.
    fn of(place: &Place, line: &str) -> Self {
        let mut command = place.command(&format!("web --listen 127.0.0.1:0 -o json {line}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert!(!said.is_empty(), "{line}: {:?}", child.wait_with_output());
        crate::schema::check("web", &said);
        let said: Value = serde_json::from_str(&said).unwrap();
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        let host = text("url").strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        Self { child, host, digest: text("digest") }
    }

    /// Sends a request with these headers, and reads the answer to its end.
    fn ask(&self, request: &str, headers: &[&str]) -> Answer {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let own = format!("Host: {}", self.host);
        let host = (!headers.iter().any(|header| header.starts_with("Host:"))).then_some(own.as_str());
        let lines: Vec<&str> = ["Connection: close"].into_iter().chain(host).chain(headers.iter().copied()).collect();
        stream.write_all(format!("{request} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n")).as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut body = answer[end + 4..].to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = whole(&body);
        }
        Answer { status, head, body }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[])
    }

    /// Asks it to end, and gives its exit code and what it wrote to standard error.
    fn end(mut self) -> (Option<i32>, String) {
        signal("INT", self.child.id());
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The content of a body in chunks.
fn whole(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return content;
        }
        content.extend_from_slice(&body[end + 2..][..length]);
        body = &body[end + 2 + length + 2..];
    }
}

/// The project with a page, a large file, and names that mean something in HTML and addresses.
fn odd_project() -> Place {
    let place = Place::served();
    let project = place.path("project");
    fs::create_dir_all(project.join("site/sub")).unwrap();
    fs::write(project.join("site/index.html"), "<h1>page</h1>").unwrap();
    fs::write(project.join("site/sub/<b>&\"c: #?%.txt"), "odd").unwrap();
    fs::write(project.join("site/sub/\u{202e}\n.txt"), "turned").unwrap();
    let large: Vec<u8> = (0..LARGE).map(|at| (at * 7 + at / 251) as u8).collect();
    fs::write(project.join("large.bin"), large).unwrap();
    symlink("../site", project.join("docs/there")).unwrap();
    symlink("/etc/passwd", project.join("outside")).unwrap();
    place.run("push -q --compression none oci:layout:v1 project").success();
    place.run("push -q --compression none HOST/team/project:v1 project").success();
    place
}

#[test]
fn files_are_given_with_what_is_known_of_them() {
    let place = odd_project();
    let site = Site::of(&place, "HOST/team/project:v1");
    assert!(site.digest.starts_with("sha256:"));
    let content = fs::read(place.path("project/README.md")).unwrap();
    let answer = site.get("/README.md");
    assert_eq!((answer.status, &answer.body), (200, &content));
    let etag = format!("\"{}\"", Digest::sha256_of(&content).hex());
    let length = content.len().to_string();
    for (name, expected) in [
        ("etag", etag.as_str()),
        ("content-length", length.as_str()),
        ("content-type", "text/markdown; charset=utf-8"),
        ("accept-ranges", "bytes"),
        ("last-modified", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(answer.header(name), Some(expected), "{name}: {}", answer.head);
    }
    assert!(answer.header("repr-digest").unwrap().starts_with("sha-256=:"), "{}", answer.head);
    let head = site.ask("HEAD /README.md", &[]);
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some(length.as_str()), 0));
    // Who has it already is told so.
    for (header, expected) in [
        (format!("If-None-Match: {etag}"), 304),
        (format!("If-None-Match: \"x\", W/{etag}"), 304),
        ("If-None-Match: \"x\"".into(), 200),
        // Another content may have the same time.
        ("If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT".into(), 200),
    ] {
        let answer = site.ask("GET /README.md", &[&header]);
        assert_eq!(answer.status, expected, "{header}");
        assert_eq!(answer.body.is_empty(), expected == 304, "{header}");
    }
    assert_eq!(site.end(), (Some(0), String::new()));
}

#[test]
fn parts_are_given_of_small_and_large_files() {
    let place = odd_project();
    let site = Site::of(&place, "HOST/team/project:v1");
    for name in ["README.md", "large.bin"] {
        let content = fs::read(place.path("project").join(name)).unwrap();
        let size = content.len();
        for (range, expected) in [
            ("0-0", Some(0..1)),
            ("3-", Some(3..size)),
            ("-4", Some(size - 4..size)),
            ("2-99999999999", Some(2..size)),
            ("99999999999-", None),
            ("-0", None),
        ] {
            let answer = site.ask(&format!("GET /{name}"), &[&format!("Range: bytes={range}")]);
            let Some(expected) = expected else {
                assert_eq!((answer.status, answer.header("content-range")), (416, Some(&*format!("bytes */{size}"))));
                continue;
            };
            let part = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
            assert_eq!((answer.status, answer.header("content-range")), (206, Some(part.as_str())), "{name} {range}");
            assert!(answer.body == content[expected], "{name} {range}");
        }
        for odd in ["bytes=0-1,4-5", "lines=1-2", "bytes=x"] {
            let answer = site.ask(&format!("GET /{name}"), &[&format!("Range: {odd}")]);
            assert!(answer.status == 200 && answer.body == content, "{name} {odd}");
        }
        let other = site.ask(&format!("GET /{name}"), &["Range: bytes=0-1", "If-Range: \"older\""]);
        assert!(other.status == 200 && other.body == content, "{name}: a part of what the client has not");
    }
}

#[test]
fn directories_are_lists_in_which_names_mean_nothing() {
    let place = odd_project();
    let site = Site::of(&place, "oci:layout:v1");
    let root = site.get("/");
    assert_eq!(root.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(root.header("content-security-policy").unwrap().starts_with("default-src 'none';"));
    let text = root.text();
    for part in [
        "<a href=\"./README.md\">README.md</a><td>9<td>2023-11-14 22:13\n",
        "<a href=\"./empty/\">empty/</a>",
        "<a href=\"./docs/\">docs/</a>",
        "<a href=\"./outside\">outside</a> → /etc/passwd",
        &format!("<footer>{} · verified by no policy</footer>", site.digest),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let sub = site.get("/site/sub/").text();
    assert!(
        sub.contains("<a href=\"./%3Cb%3E%26%22c%3A%20%23%3F%25.txt\">&lt;b&gt;&amp;&quot;c: #?%.txt</a>"),
        "{sub}"
    );
    assert!(sub.contains("<a href=\"./%E2%80%AE%0A.txt\">\\u{202e}\\n.txt</a>"), "{sub}");
    assert_eq!(site.get("/site/sub/%3Cb%3E%26%22c%3A%20%23%3F%25.txt").text(), "odd");
    // A page in the place of the list, unless that is asked for; links within the archive are followed.
    assert_eq!(site.get("/site/").text(), "<h1>page</h1>");
    assert!(site.get("/site/?list").text().contains("<a href=\"./index.html\">"));
    assert_eq!(site.get("/docs/there/").text(), "<h1>page</h1>");
    for (path, to) in [("/site", "./site/"), ("/site?list", "./site/?list"), ("//docs", "./docs/")] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.header("location")), (301, Some(to)), "{path}");
    }
    let linked = site.get("/docs/there/?list").text();
    assert!(linked.contains("</a> / <a href=\"../?list\">docs</a> / <a href=\"./?list\">there</a> /</h1>"), "{linked}");
    assert!(site.get("/empty/").text().contains("<a href=\"../?list\">../</a>"));
}

#[test]
fn what_is_not_there_or_not_asked_rightly_is_said() {
    let place = odd_project();
    let site = Site::of(&place, "oci:layout:v1");
    for (request, headers, status, said) in [
        ("GET /none", &[][..], 404, "nothing in the archive stands there\n"),
        ("GET /outside", &[], 404, "a symbolic link on the way leads out of the archive\n"),
        ("GET /../../etc/passwd", &[], 404, "a symbolic link on the way leads out of the archive\n"),
        ("GET /%2e%2e/etc/passwd", &[], 404, "a symbolic link on the way leads out of the archive\n"),
        ("GET /README.md/", &[], 404, "a file stands there, not a directory\n"),
        ("GET /%00", &[], 404, "nothing in the archive stands there\n"),
        ("POST /README.md", &["Content-Length: 0"], 405, "archives are read-only: GET or HEAD\n"),
        ("DELETE /README.md", &[], 405, "archives are read-only: GET or HEAD\n"),
        ("GET /", &["Host: evil.example"], 421, "this is for this machine alone: ask for localhost or its address\n"),
        (
            "GET /",
            &["Host: 127.0.0.1.evil.example:80"],
            421,
            "this is for this machine alone: ask for localhost or its address\n",
        ),
    ] {
        let answer = site.ask(request, headers);
        assert_eq!((answer.status, answer.text().as_str()), (status, said), "{request}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    assert_eq!(site.ask("GET /README.md", &["Host: localhost:1"]).status, 200);
    // The target counts more than the header, and two headers are none.
    assert_eq!(site.ask("GET http://evil.example/README.md", &["Host: localhost"]).status, 421);
    assert_eq!(site.ask("GET /README.md", &["Host: localhost", "Host: evil.example"]).status, 421);
    assert_eq!(site.ask("HEAD /none", &[]).body, b"");
    assert_eq!(site.end(), (Some(0), String::new()));
}

#[test]
fn nothing_that_is_wrong_is_given() {
    let place = odd_project();
    let data = data_blob(&place.path("layout"));
    let (bytes, large) = (fs::read(&data).unwrap(), fs::read(place.path("project/large.bin")).unwrap());
    let readme =
        bytes.windows(9).position(|window| window == fs::read(place.path("project/README.md")).unwrap()).unwrap();
    let at = bytes.windows(64).position(|window| window == &large[..64]).unwrap();
    flip(&data, readme + 1);
    flip(&data, at + LARGE - 1);
    let site = Site::of(&place, "--no-cache oci:layout:v1");
    for path in ["/README.md", "/large.bin"] {
        for headers in [&[][..], &["Range: bytes=0-0"]] {
            let answer = site.ask(&format!("GET {path}"), headers);
            assert_eq!((answer.status, answer.text().as_str()), (502, "the file is not what the archive promises\n"));
        }
    }
    assert_eq!(site.get("/run.sh").status, 200);
    let (code, said) = site.end();
    assert!(
        code == Some(0) && said.contains("cannot read README.md: ") && said.contains("cannot read large.bin: "),
        "{said}"
    );
    let small = Site::of(&place, "--no-cache --spool-size 1M HOST/team/project:v1");
    assert_eq!(small.get("/large.bin").status, 507);
}

#[test]
fn clients_that_people_have_get_the_tree() {
    let place = odd_project();
    let Some(wget) = peers::require("wget", peers::find("wget")) else { return };
    let site = Site::of(&place, "HOST/team/project:v1");
    let mut command = Command::new(wget);
    command.args(["-q", "-r", "-np", "-nH", "-e", "robots=off", "-R", "index.html*,outside,there", "-P", "got"]);
    let status = command.arg(format!("http://{}/docs/?list", site.host)).current_dir(place.path("")).status().unwrap();
    assert!(status.success(), "{status}");
    for file in ["docs/guide.md", "docs/api/reference.md"] {
        assert_eq!(
            fs::read(place.path("got").join(file)).unwrap(),
            fs::read(place.path("project").join(file)).unwrap()
        );
    }
}

#[test]
fn many_who_ask_at_once_cost_one_fetch() {
    let place = odd_project();
    let site = Site::of(&place, "-v HOST/team/project:v1");
    std::thread::scope(|scope| {
        for reader in 0..16 {
            let (site, place) = (&site, &place);
            scope.spawn(move || {
                let path = if reader % 2 == 0 { "large.bin" } else { "config/app.yaml" };
                assert!(site.get(&format!("/{path}")).body == fs::read(place.path("project").join(path)).unwrap());
            });
        }
    });
    let (code, said) = site.end();
    assert_eq!(code, Some(0), "{said}");
    let received = said.split("received_bytes=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let received: usize = received.parse().unwrap();
    assert!(received < LARGE + LARGE / 4, "{received}: {said}");
}

#[test]
fn who_reads_slowly_takes_no_more_than_there_is() {
    let place = Place::served();
    fs::create_dir(place.path("data")).unwrap();
    for number in 0..4_u8 {
        fs::write(place.path("data").join(number.to_string()), vec![number; LARGE]).unwrap();
    }
    place.run("push -q --compression none HOST/team/data:v1 data").success();
    // Room for two.
    let site = Site::of(&place, "--spool-size 20M HOST/team/data:v1");
    let begin = |number: u8| {
        let mut stream = TcpStream::connect(&site.host).unwrap();
        let request = format!("GET /{number} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", site.host);
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let held: u64 = {
        let mut slow: Vec<TcpStream> = (0..2).map(begin).collect();
        for stream in &mut slow {
            stream.read_exact(&mut [0; 1000]).unwrap();
        }
        let late: Vec<TcpStream> = (2..4).map(begin).collect();
        std::thread::sleep(Duration::from_secs(1));
        let spooled = |entry: fs::DirEntry| {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            if target.to_string_lossy().ends_with("(deleted)") {
                fs::metadata(entry.path()).map_or(0, |file| file.len())
            } else {
                0
            }
        };
        let held =
            fs::read_dir(format!("/proc/{}/fd", site.child.id())).unwrap().map(|entry| spooled(entry.unwrap())).sum();
        drop(slow);
        // When those are gone, the others get what they wait for.
        for (mut stream, number) in late.into_iter().zip(2..) {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.len() > LARGE && answer[answer.len() - LARGE..].iter().all(|byte| *byte == number));
        }
        held
    };
    assert!(held >= 2 * LARGE as u64 && held <= 20 << 20, "{held}");
}

#[test]
fn who_is_reading_gets_to_the_end() {
    let place = odd_project();
    let mut site = Site::of(&place, "HOST/team/project:v1");
    let mut slow = TcpStream::connect(&site.host).unwrap();
    slow.write_all(format!("GET /large.bin HTTP/1.1\r\nHost: {}\r\n\r\n", site.host).as_bytes()).unwrap();
    let mut first = [0; 1000];
    slow.read_exact(&mut first).unwrap();
    signal("TERM", site.child.id());
    eventually("the door closes", || TcpStream::connect(&site.host).is_err());
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    let head = first.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(first.len() - head + rest.len(), LARGE);
    assert_eq!(site.child.wait().unwrap().code(), Some(0));
}

#[test]
fn nobody_is_let_in_to_what_no_policy_admits() {
    let place = Place::pushed();
    let refused = place.run("web --listen 127.0.0.1:0 --require-signed HOST/team/project:v1").code(6).stdout_eq("");
    assert!(stderr(&refused).contains("no policy is configured"), "{}", stderr(&refused));
    place.run("web --listen 127.0.0.1:0 HOST/team/project:none").code(3).stdout_eq("");
    place.run("web --listen nowhere:x HOST/team/project:v1").code(2).stdout_eq("");
    place.run("web --spool-dir none HOST/team/project:v1").code(2).stdout_eq("");
    // A port that is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("web --listen {} HOST/team/project:v1", taken.local_addr().unwrap());
    let refused = place.run(&line).code(1).stdout_eq("");
    assert!(stderr(&refused).contains("in use"), "{}", stderr(&refused));
}
