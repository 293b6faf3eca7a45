//! `blob open` on a terminal.

use snapbox::{IntoData, assert_data_eq, str};

use crate::support::Place;
use crate::terminal::Terminal;

/// The screen without what differs from run to run: the footer's figures.
fn still(screen: &str) -> String {
    let mut lines: Vec<&str> = screen.lines().collect();
    lines.pop();
    lines.join("\n") + "\n"
}

fn same(screen: &str, expected: impl IntoData) {
    assert_data_eq!(still(screen), expected);
}

#[test]
fn files_are_seen_found_and_copied() {
    let place = Place::laid_out();
    let mut terminal = Terminal::run(&place, "open --no-color oci:layout:v1");
    terminal.until("directory with 2 files");
    same(
        &terminal.until("? help"),
        str![[r#"
 oci:layout:v1  sha256:ff2dc4d10c03  not verified
┌ archive ─────────────────────────┐┌ config ────────────────────────────────────────────┐
│ ▸ config/                        ││config                                              │
│ ▸ docs/                          ││directory with 2 files                              │
│ ▸ empty/                         ││78 (78 stored)                                      │
│ ▸ src/                           ││                                                    │
│   README.md                    9 ││                                                    │
│   run.sh                      21 ││                                                    │
│   settings @                     ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
└──────────────────────────────────┘└────────────────────────────────────────────────────┘

"#]],
    );

    terminal.press("/yaml\r");
    terminal.until("environment: production");
    same(
        &terminal.until("56 stored, none"),
        str![[r#"
 oci:layout:v1  sha256:ff2dc4d10c03  not verified
┌ archive ─────────────────────────┐┌ app.yaml (text) ───────────────────────────────────┐
│ ▾ config/                        ││name: sample-app                                    │
│     app.yaml                  56 ││version: 1.0.0                                      │
│     database.json             22 ││environment: production                             │
│ ▸ docs/                          ││                                                    │
│ ▸ empty/                         ││                                                    │
│ ▸ src/                           ││                                                    │
│   README.md                    9 ││                                                    │
│   run.sh                      21 ││                                                    │
│   settings @                     ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
│                                  ││                                                    │
└──────────────────────────────────┘└ 56 (56 stored, none)  -rw-r--r--  2023-11-14T22:13:┘

"#]],
    );

    terminal.press("c");
    let dialog = terminal.until("Enter copies");
    assert!(dialog.contains("copy config/app.yaml to") && dialog.contains("./app.yaml"), "{dialog}");
    terminal.press("\x15taken.yaml\r");
    terminal.until("copied 1 file");
    let taken = std::fs::read_to_string(place.path("taken.yaml")).unwrap();
    assert!(taken.starts_with("name: sample-app\n"), "{taken}");

    // What stands there and differs stays, unless that is asked for.
    std::fs::write(place.path("taken.yaml"), "mine").unwrap();
    terminal.press("c\x15taken.yaml\r");
    terminal.until("nothing was written");
    assert_eq!(std::fs::read_to_string(place.path("taken.yaml")).unwrap(), "mine");
    terminal.press("c\x15taken.yaml\x0f");
    terminal.until("[x] replace");
    terminal.press("\r");
    terminal.until("copied 1 file");
    assert!(std::fs::read_to_string(place.path("taken.yaml")).unwrap().starts_with("name"));

    terminal.press("?");
    same(
        &terminal.until("any key goes back"),
        str![[r#"
 oci:layout:v1  sha256:ff2dc4d10c03  not verified
┌ keys ──────────────────────────────────────────────────────────────────────────────────┐
│ ↑ ↓  k j                  move, or scroll the preview                                  │
│ PgUp PgDn  Ctrl-U Ctrl-D  by pages, by halves                                          │
│ Home End  g G             to the ends                                                  │
│ → l                       open a directory, go into it, or to the preview              │
│ Enter                     open or close a directory, or to the preview                 │
│ ← h Backspace             close, go to the parent, or back to the tree                 │
│ Tab                       between tree and preview                                     │
│ /                         search paths; capitals count if one is typed                 │
│ n N                       next and previous match                                      │
│ Space                     mark                                                         │
│ c                         copy the marked, or what the cursor is on, out of the archive│
│ p                         fetch a file of up to 8.0M for the preview                   │
│ y                         put the path on the clipboard                                │
│ Esc                       stop a copy, leave the preview, quit                         │
│ q  Ctrl-C                 quit                                                         │
└───────────────────────────────────────────────────────────────────── any key goes back ┘
└──────────────────────────────────┘└ 56 (56 stored, none)  -rw-r--r--  2023-11-14T22:13:┘

"#]],
    );
    terminal.press("xy");
    terminal.until("copied the path config/app.yaml");
    terminal.press("q");
    let (status, raw) = terminal.end();
    assert!(status.success());
    assert!(raw.contains("\x1b]52;c;Y29uZmlnL2FwcC55YW1s\x07"), "the path goes to the clipboard");
    assert!(raw.contains("\x1b[?1049l"), "the terminal is given back");
}

/// The blocks of a page that show the browser, which are compared with what it draws: the first lines of its screen, or
/// the first and the last ones.
fn shown_in(page: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let page = std::fs::read_to_string(path).unwrap();
    let block = page.split("```text\n").skip(1).find(|block| block.contains("┌ archive")).unwrap();
    block.split("```").next().unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_screens_of_the_documentation_are_those_of_the_program() {
    let place = Place::laid_out();
    let mut terminal = Terminal::run(&place, "open --no-color oci:layout:v1");
    terminal.until("directory with 2 files");
    terminal.press("/yaml\r");
    terminal.until("environment: production");
    let screen = terminal.until("56 stored, none");
    for page in ["screens.md", "cli.md"] {
        let mut rest = screen.lines();
        for line in shown_in(page) {
            // Pages leave empty lines of the screen out.
            assert!(rest.any(|drawn| drawn == line), "{page}: the screen has no line {line:?} here:\n{screen}");
        }
    }
    terminal.press("q");
    assert!(terminal.end().0.success());
}

#[test]
fn marked_files_and_directories_are_copied_together() {
    let place = Place::pushed();
    let mut terminal = Terminal::run(&place, "open HOST/team/project:v1");
    terminal.until("not verified");
    // The directory `config`, and the last row, a link.
    terminal.press(" G c");
    terminal.until("copy 2 marked to");
    terminal.press("\x15out/\r");
    terminal.until("copied 2 files");
    terminal.press("q");
    assert!(terminal.end().0.success());
    assert_eq!(place.listing("out"), ["config/", "config/app.yaml", "config/database.json", "settings"]);
}

#[test]
fn an_interrupt_gives_the_terminal_back() {
    let place = Place::laid_out();
    let mut terminal = Terminal::run(&place, "open oci:layout:v1");
    terminal.until("archive");
    terminal.press("\x03");
    let (status, raw) = terminal.end();
    assert_eq!(status.exit_code(), 130);
    assert!(raw.contains("\x1b[?1049l"), "{raw:?}");
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let place = Place::laid_out();
    place.run("open oci:layout:v1").code(2).stdout_eq(str![[]]).stderr_eq(str![[r#"
error: open needs a terminal on standard input and output
hint: `blob tree` and `blob ls` list an archive anywhere

"#]]);
}

#[test]
fn an_archive_that_is_not_there_is_an_ordinary_error() {
    let place = Place::laid_out();
    let terminal = Terminal::run(&place, "open oci:layout:v2");
    let (status, raw) = terminal.end();
    assert_eq!(status.exit_code(), 3);
    assert!(raw.contains("error: ") && !raw.contains("\x1b[?1049h"), "{raw:?}");
}

/// The browser opens what was verified, and nothing else, also where the configuration asks.
#[test]
fn policies_decide_before_the_browser_opens() {
    let place = Place::laid_out();
    let run = |line: &str| place.assert(place.command(line).env("BLOB_KEY_PASSWORD", "secret"));
    run("generate-key-pair k").success();
    let by_key = "open --no-color --key k.pub --insecure-ignore-tlog oci:layout:v1";
    std::fs::create_dir_all(place.path("home/.config/blob")).unwrap();
    let refused = |line: &str, reason: &str| {
        let (status, raw) = Terminal::run(&place, line).end();
        assert_eq!(status.exit_code(), 6, "{line}: {raw:?}");
        assert!(raw.contains(reason) && !raw.contains("\x1b[?1049h") && !raw.contains("README"), "{line}: {raw:?}");
    };
    refused(by_key, "no signature found");
    refused(
        "open --verify --certificate-identity a@b.c --certificate-oidc-issuer https://i.test oci:layout:v1",
        "no signature",
    );
    refused("open --require-signed oci:layout:v1", "not verified");
    let rule = "policies: [{match: layout, policy: {signature: {key: {path: k.pub, transparency_log: none}}}}]\n";
    std::fs::copy(place.path("k.pub"), place.path("home/.config/blob/k.pub")).unwrap();
    std::fs::write(place.path("home/.config/blob/config.yaml"), rule).unwrap();
    refused("open oci:layout:v1", "no signature found");
    run("sign --key k.key oci:layout:v1").success();
    for line in [by_key, "open --no-color oci:layout:v1"] {
        let mut terminal = Terminal::run(&place, line);
        let screen = terminal.until("? help");
        assert!(screen.contains(" verified") && !screen.contains("not verified"), "{screen}");
        terminal.press("q");
        assert_eq!(terminal.end().0.exit_code(), 0);
    }
}
