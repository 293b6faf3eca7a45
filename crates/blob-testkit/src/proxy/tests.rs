//! The proxy against a small origin of its own, with a client that shows raw bytes.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;

/// 256 bytes, each with its position as value.
fn content() -> Vec<u8> {
    (0..=255).collect()
}

/// An origin that knows a blob, ranges of it, uploads and a redirect to itself. Lives as long as the test process.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap(), addr));
        }
    });
    addr
}

fn serve(stream: TcpStream, addr: SocketAddr) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut out = stream;
    while let Some((line, headers)) = read_head(&mut reader) {
        let length = header(&headers, "content-length").map_or(0, |v| v.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let answer = match (method, path, header(&headers, "range")) {
            ("POST", ..) => {
                head("202 Accepted", &format!("location: http://{addr}/v2/r/blobs/uploads/1?_state=x\r\n"), 0)
            }
            ("PUT", ..) => [head("201 Created", "", 2), body.len().to_string().into_bytes()].concat(),
            ("HEAD", ..) => head("200 OK", "", 256),
            (_, "/seen", _) => {
                let seen = headers.concat().into_bytes();
                [head("200 OK", "", seen.len()), seen].concat()
            }
            (_, _, Some("bytes=10-19")) => {
                [head("206 Partial Content", "content-range: bytes 10-19/256\r\n", 10), content()[10..20].to_vec()]
                    .concat()
            }
            _ => [head("200 OK", "", 256), content()].concat(),
        };
        if out.write_all(&answer).is_err() {
            return;
        }
    }
}

fn head(status: &str, headers: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n").into_bytes()
}

fn read_head(reader: &mut impl BufRead) -> Option<(String, Vec<String>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line);
    }
    Some((lines.remove(0), lines))
}

fn header<'h>(headers: &'h [String], name: &str) -> Option<&'h str> {
    headers.iter().find_map(|line| {
        let (key, value) = line.trim_end().split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// An answer as it came over the wire; `complete` is false when the connection ended inside the body.
struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    complete: bool,
}

fn ask(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n{headers}{length}\r\n{body}")
        .unwrap();
    let mut reader = BufReader::new(stream);
    let (line, headers) = read_head(&mut reader).expect("an answer");
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let expected =
        if method == "HEAD" { 0 } else { header(&headers, "content-length").map_or(0, |v| v.parse().unwrap()) };
    let mut body = Vec::new();
    let _ = reader.by_ref().take(expected).read_to_end(&mut body);
    Answer { status, complete: body.len() as u64 == expected, headers, body }
}

fn get(proxy: &ProxyHandle, headers: &str) -> Answer {
    ask(proxy.addr(), "GET", "/v2/r/blobs/x", headers, "")
}

fn with_faults(rules: Vec<Rule>) -> ProxyHandle {
    let options = ProxyOptions { faults: Faults::script(rules), ..ProxyOptions::default() };
    Proxy::start(origin(), options).unwrap()
}

#[test]
fn requests_are_forwarded_and_counted() {
    let proxy = Proxy::start(origin(), ProxyOptions::default()).unwrap();
    assert_eq!(get(&proxy, "").body, content());
    let part = get(&proxy, "range: bytes=10-19\r\n");
    assert_eq!((part.status, header(&part.headers, "content-range")), (206, Some("bytes 10-19/256")));
    let head = ask(proxy.addr(), "HEAD", "/v2/r/blobs/x", "", "");
    assert_eq!(header(&head.headers, "content-length"), Some("256"), "a HEAD keeps its length");
    let put = ask(proxy.addr(), "PUT", "/v2/r/m?digest=d&_state=s", "", "twelve bytes");
    assert_eq!(put.body, b"12", "the origin got the whole body");

    let log: Vec<_> = proxy.requests().iter().map(ToString::to_string).collect();
    assert_eq!(
        log,
        [
            "GET /v2/r/blobs/x -> 200, 0 up, 256 down",
            "GET /v2/r/blobs/x [bytes=10-19] -> 206, 0 up, 10 down",
            "HEAD /v2/r/blobs/x -> 200, 0 up, 0 down",
            "PUT /v2/r/m?digest&_state -> 201, 12 up, 2 down",
        ]
    );
    assert_eq!(proxy.summary(), Summary { requests: 4, bytes_up: 12, bytes_down: 268 });
    assert_eq!(proxy.take().len(), 4);
    assert_eq!(proxy.summary(), Summary::default());
}

#[test]
fn a_location_that_names_the_upstream_is_rewritten() {
    let proxy = Proxy::start(origin(), ProxyOptions::default()).unwrap();
    let answer = ask(proxy.addr(), "POST", "/v2/r/blobs/uploads/", "", "");
    let expected = format!("http://{}/v2/r/blobs/uploads/1?_state=x", proxy.addr());
    assert_eq!(header(&answer.headers, "location"), Some(expected.as_str()));
}

#[test]
fn no_framing_is_added_to_a_request_without_a_body() {
    let proxy = Proxy::start(origin(), ProxyOptions::default()).unwrap();
    let seen = String::from_utf8(ask(proxy.addr(), "GET", "/seen", "x-mine: 1\r\n", "").body).unwrap().to_lowercase();
    assert!(seen.contains("x-mine: 1"), "{seen}");
    assert!(!seen.contains("transfer-encoding") && !seen.contains("connection: close"), "{seen}");
}

#[test]
fn a_cut_ends_the_connection_after_the_given_bytes() {
    for at in [0, 1, 100] {
        let proxy = with_faults(vec![Rule::first("/blobs/", Action::Cut(at))]);
        let answer = get(&proxy, "");
        assert_eq!((answer.body.len() as u64, answer.complete), (at, false));
        assert!(get(&proxy, "").complete, "only the first is cut");
    }
}

#[test]
fn an_answer_can_be_replaced_ranges_ignored_and_bytes_changed() {
    let proxy = with_faults(vec![
        Rule::first("/blobs/", Action::status_with(503, "retry-after", "7")),
        Rule::first("/blobs/", Action::IgnoreRange).after(1),
        Rule::first("/blobs/", Action::ShiftContentRange(1)).after(2),
        Rule::first("/blobs/", Action::Flip(3)).after(3),
    ]);
    let range = "range: bytes=10-19\r\n";
    let refused = get(&proxy, range);
    assert_eq!((refused.status, header(&refused.headers, "retry-after")), (503, Some("7")));
    let whole = get(&proxy, range);
    assert_eq!((whole.status, whole.body.len()), (200, 256));
    let shifted = get(&proxy, range);
    assert_eq!(header(&shifted.headers, "content-range"), Some("bytes 11-20/256"));
    assert_eq!(shifted.body, &content()[10..20], "the bytes stay");
    let flipped = get(&proxy, range);
    assert_eq!(flipped.body, [10, 11, 12, !13, 14, 15, 16, 17, 18, 19]);
    assert_eq!(get(&proxy, range).body, &content()[10..20]);
}

#[test]
fn a_stall_keeps_the_connection_open_without_bytes() {
    let proxy = with_faults(vec![Rule::first("/blobs/", Action::Stall(5))]);
    let answer = get(&proxy, "");
    assert_eq!((answer.body.len(), answer.complete), (5, false));
    proxy.stop();
}

#[test]
fn a_gate_asks_for_a_token_and_redirects_blobs() {
    let gate = Gate { token: Some("abc".into()), redirect_blobs: true };
    let proxy = Proxy::start(origin(), ProxyOptions { gate, ..ProxyOptions::default() }).unwrap();
    let refused = get(&proxy, "");
    let challenge = header(&refused.headers, "www-authenticate").unwrap();
    let realm = format!("Bearer realm=\"http://{}/token\"", proxy.addr());
    assert_eq!((refused.status, challenge.starts_with(&realm)), (401, true), "{challenge}");
    assert!(challenge.ends_with("scope=\"repository:r:pull\""), "{challenge}");
    let token = ask(proxy.addr(), "GET", "/token?scope=x", "", "");
    assert_eq!(token.body, br#"{"token":"abc","expires_in":300}"#);
    let redirected = get(&proxy, "authorization: Bearer abc\r\n");
    let target = format!("http://{}/v2/r/blobs/x", proxy.second_addr());
    assert_eq!((redirected.status, header(&redirected.headers, "location")), (307, Some(target.as_str())));
    assert_eq!(ask(proxy.second_addr(), "GET", "/v2/r/blobs/x", "", "").body, content());
    let seen = ask(proxy.addr(), "GET", "/seen", "authorization: Bearer abc\r\n", "");
    assert!(!String::from_utf8(seen.body).unwrap().to_lowercase().contains("authorization"), "not passed on");
    let origins: Vec<_> = proxy.take().iter().map(|r| (r.origin, r.status)).collect();
    assert_eq!(origins[3], (Origin::Second, Some(200)));
}

#[test]
fn an_upstream_that_is_not_there_is_a_502() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::start(nobody, ProxyOptions::default()).unwrap();
    assert_eq!(get(&proxy, "").status, 502);
}

#[test]
fn a_stopped_proxy_refuses_connections() {
    let proxy = Proxy::start(origin(), ProxyOptions::default()).unwrap();
    let addr = proxy.addr();
    proxy.stop();
    assert!(TcpStream::connect(addr).is_err());
}
