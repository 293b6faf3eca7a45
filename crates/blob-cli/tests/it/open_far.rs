//! `blob open` over a slow line, and every key that it has.

use std::fs;
use std::time::Duration;

use blob_testkit::proxy::{Action, Faults, Gate, Latch, Proxy, ProxyHandle, ProxyOptions, Rule, Shape};

use crate::support::Place;
use crate::terminal::Terminal;

/// A line to the server of `place`.
fn line(place: &Place, shape: Shape, faults: Faults) -> ProxyHandle {
    let options = ProxyOptions { shape, faults, gate: Gate::default() };
    Proxy::start(place.host().parse().unwrap(), options).unwrap()
}

/// The archive with a file whose bytes do not come before the latch is opened.
fn with_a_file_that_does_not_come() -> (Place, ProxyHandle, Latch) {
    let place = Place::served();
    // Nothing that compresses, so that it is a request of its own.
    let mut noise = vec![0_u8; 3 << 20];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    fs::write(place.path("project/large.bin"), noise).unwrap();
    place.run("push -q HOST/team/project:v1 project").success();
    let latch = Latch::new();
    let held = Rule::every("/blobs/", Action::Hold(latch.clone()));
    let proxy = line(&place, Shape::default(), Faults::script(vec![held]));
    (place, proxy, latch)
}

#[test]
fn the_screen_does_not_wait_for_bytes() {
    let (place, proxy, latch) = with_a_file_that_does_not_come();
    let mut terminal = Terminal::run(&place, &format!("open --no-color {}/team/project:v1", proxy.addr()));
    terminal.until("directory with 2 files");
    // A file is fetched, and does not come; everything else goes on.
    terminal.press("/README\r");
    terminal.until("fetching …");
    terminal.press("k\x1b[H");
    terminal.until("directory with 2 files");
    terminal.press("l");
    terminal.until("app.yaml");
    terminal.press("?");
    terminal.until("any key goes back");
    terminal.press("x");
    terminal.press("/guide\r");
    terminal.until("guide.md");
    // A copy waits as well, and is given up.
    terminal.press("c");
    terminal.until("Enter copies");
    terminal.press("\x15taken.md\r");
    terminal.press("\x1b");
    terminal.until("stopped");
    assert!(!place.path("taken.md").exists());
    // When the line comes back, so do the bytes.
    latch.open();
    terminal.press("/README\r");
    terminal.until("# Sample");
    terminal.press("q");
    assert!(terminal.end().0.success());
}

#[test]
fn leaving_does_not_wait_for_bytes_either() {
    let (place, proxy, latch) = with_a_file_that_does_not_come();
    let mut terminal = Terminal::run(&place, &format!("open --no-color {}/team/project:v1", proxy.addr()));
    terminal.until("directory with 2 files");
    terminal.press("/README\r");
    terminal.until("fetching …");
    terminal.press("q");
    assert!(terminal.end().0.success());
    drop(latch);
}

#[test]
fn a_slow_line_shows_what_was_fetched() {
    let place = Place::pushed();
    let slow = Shape { round_trip: Duration::from_millis(120), bytes_per_second: Some(64 << 10) };
    let proxy = line(&place, slow, Faults::default());
    let mut terminal = Terminal::run(&place, &format!("open --no-color {}/team/project:v1", proxy.addr()));
    terminal.until("directory with 2 files");
    terminal.press("/guide\r");
    terminal.until("│guide ");
    let footer = terminal.until("fetched");
    // The manifest, with the index in it, is more than the 124 bytes of the data.
    assert!(footer.contains(" requests, ") && !footer.contains(" of 124 fetched"), "{footer}");
    terminal.press("q");
    assert!(terminal.end().0.success());
}

/// The row that the cursor is on: the one that the preview names.
fn on(terminal: &Terminal, name: &str) {
    terminal.until(&format!("┌ {name}"));
}

#[test]
fn every_key_moves_as_it_says() {
    let place = Place::laid_out();
    let long = (1..=100).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
    fs::write(place.path("project/long.txt"), long).unwrap();
    place.run("push -q oci:layout:v1 project").success();
    let mut terminal = Terminal::run(&place, "open --no-color oci:layout:v1");
    on(&terminal, "config");
    // Up and down, by arrows and letters; to the ends.
    for (keys, row) in [
        ("j", "docs"),
        ("\x1b[B", "empty"),
        ("k", "docs"),
        ("\x1b[A", "config"),
        ("G", "settings"),
        ("g", "config"),
        ("\x1b[F", "settings"),
        ("\x1b[H", "config"),
    ] {
        terminal.press(keys);
        on(&terminal, row);
    }
    // In and out of directories.
    terminal.press("l");
    terminal.until("▾ config/");
    terminal.press("l");
    on(&terminal, "app.yaml");
    terminal.press("h");
    on(&terminal, "config");
    terminal.press("h");
    terminal.until("▸ config/");
    terminal.press("\r");
    terminal.until("▾ config/");
    terminal.press("\r");
    terminal.until("▸ config/");
    terminal.press("\x1b[C\x1b[C");
    on(&terminal, "app.yaml");
    terminal.press("\x7f");
    on(&terminal, "config");
    terminal.press("\x1b[D");
    terminal.until("▸ config/");
    // The next and the previous match, around the ends.
    terminal.press("/json\r");
    on(&terminal, "database.json");
    terminal.press("/md\r");
    on(&terminal, "reference.md");
    for (key, row) in
        [("n", "guide.md"), ("n", "README.md"), ("n", "reference.md"), ("N", "README.md"), ("N", "guide.md")]
    {
        terminal.press(key);
        on(&terminal, row);
    }
    // A search that finds nothing says so, and leaves the cursor.
    terminal.press("/nothing-like-it\r");
    terminal.until("no path matches");
    on(&terminal, "guide.md");
    // The preview scrolls by lines, halves and pages, once it has the keys.
    terminal.press("/long\r");
    terminal.until("│line 1 ");
    terminal.press("\tj");
    terminal.until("│line 17 ");
    terminal.press("\x04");
    terminal.until("│line 20 ");
    terminal.press("\x15\x1b[6~");
    terminal.until("│line 30 ");
    terminal.press("G");
    terminal.until("│line 100 ");
    terminal.press("\x1b[5~g");
    terminal.until("│line 1 ");
    terminal.press("\tk");
    on(&terminal, "README.md");
    terminal.press("y");
    terminal.until("copied the path README.md");
    terminal.press("\x1b");
    assert!(terminal.end().0.success());
}

#[test]
fn code_is_coloured_and_the_signer_is_named() {
    let place = Place::pushed();
    fs::write(place.path("project/src/main.rs"), "fn main() { let answer = 42; }\n").unwrap();
    place.run("push -q HOST/team/project:v2 project").success();
    let mut command = place.command("generate-key-pair k");
    place.assert(command.env("BLOB_KEY_PASSWORD", "secret")).success();
    let mut command = place.command("sign --key k.key HOST/team/project:v2");
    place.assert(command.env("BLOB_KEY_PASSWORD", "secret")).success();
    let mut terminal =
        Terminal::run(&place, "open --color always --key k.pub --insecure-ignore-tlog HOST/team/project:v2");
    terminal.until("verified: ");
    terminal.press("/main.rs\r");
    terminal.until("let answer = 42;");
    terminal.press("q");
    let (status, raw) = terminal.end();
    assert!(status.success());
    assert!(raw.contains("\x1b[38;"), "no colours: {raw:?}");
    let wrong = Terminal::run(&place, "open --key k.pub --insecure-ignore-tlog HOST/team/project:v1");
    let (status, raw) = wrong.end();
    assert_eq!(status.exit_code(), 6, "{raw}");
}
