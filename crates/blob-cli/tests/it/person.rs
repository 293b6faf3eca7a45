//! A person at a terminal who logs in to sign, with a browser of this machine and without one.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use blob_testkit::sigstore::{Fault, LoginFault};

use crate::keyless::Desk;
use crate::terminal::Terminal;

const SIGN: &str = "sign --signing-config v1.json --trusted-root root.json HOST/team/project:v1";

/// What `http://host/path` answers.
fn get(url: &str) -> String {
    let (host, path) = url.trim().strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The command on a terminal that is wide enough for addresses, with `browser` as the browser.
fn at_a_terminal(desk: &Desk, browser: &str) -> Terminal {
    let mut command = desk.command(SIGN);
    Terminal::sized(&desk.place, command.env("BROWSER", browser), (900, 20))
}

/// Writes down which page it is to show, and does nothing else.
fn browser(desk: &Desk) -> String {
    let script = desk.place.path("browser");
    fs::write(&script, "#!/bin/sh\nprintf %s \"$1\" > page.new && mv page.new page\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    format!("no-such-browser:{}", script.display())
}

/// Does what the page says, as a browser: the address that it is sent back to.
fn visit(desk: &Desk) -> String {
    let begun = Instant::now();
    let page = loop {
        match fs::read_to_string(desk.place.path("page")) {
            Ok(page) => break page,
            Err(_) => assert!(begun.elapsed() < Duration::from_mins(2), "no page was opened"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    fs::remove_file(desk.place.path("page")).unwrap();
    let answer = get(&page);
    let place = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_else(|| panic!("{answer}"));
    place.to_owned()
}

#[test]
fn somebody_logs_in_with_a_browser() {
    let desk = Desk::new();
    let terminal = at_a_terminal(&desk, &browser(&desk));
    assert!(get(&visit(&desk)).starts_with("HTTP/1.1 200"));
    terminal.until("If it does not open, visit on this machine:");
    let (status, said) = terminal.end();
    assert!(status.success() && said.contains("Signed "), "{said}");
    let issuer = desk.instance.login_url();
    let identity = format!("--certificate-identity ann@example.com --certificate-oidc-issuer {issuer}");
    desk.run(&format!("verify --trusted-root root.json {identity} HOST/team/project:v1")).success();

    // Another page sends an answer that nobody asked for; the person says no.
    for (fault, reason) in [(LoginFault::State, "belongs to another log-in"), (LoginFault::Denied, "not today")] {
        desk.instance.set(Some(Fault::Login(fault)));
        let terminal = at_a_terminal(&desk, &browser(&desk));
        assert!(get(&visit(&desk)).starts_with("HTTP/1.1 400"));
        let (status, said) = terminal.end();
        assert!(status.exit_code() == 4 && said.contains(reason), "{status:?} {said}");
    }
}

#[test]
fn somebody_without_a_browser_types_a_code() {
    let desk = Desk::new();
    let mut terminal = at_a_terminal(&desk, "false");
    let screen = terminal.until("Code: ");
    let page = screen.lines().find(|line| line.trim().starts_with("http://")).unwrap();
    let answer = get(page);
    let code = answer.rsplit("\r\n").next().unwrap().trim_matches('"').to_owned();
    terminal.press(&format!("{code}\r"));
    let (status, said) = terminal.end();
    assert!(status.success() && said.contains("Signed "), "{said}");
    // A wrong code is none.
    let mut terminal = at_a_terminal(&desk, "false");
    terminal.until("Code: ");
    terminal.press("guessed\r");
    let (status, said) = terminal.end();
    assert!(status.exit_code() == 4 && said.contains("asking the issuer"), "{said}");
}
