//! Programs that run beside us: they say where they listen, and end with us.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::process::{cargo, shown};
use crate::workspace::root;

/// How long a server may take until it says where it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// `host:port`.
    pub(crate) addr: String,
    input: ChildStdin,
    output: Option<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts `command` and waits for its line `listening on http://ADDR`, or https.
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        let name = shown(command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name} could not be started: {error}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{name}: its input and output are not pipes"));
        };
        // The guard is there before anything can fail.
        let mut server = Self { child, addr: String::new(), input, output: None };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = String::new();
            let read = reader.read_line(&mut line).map(|_| line);
            // Nobody listens any more when the time was up.
            let _ = sender.send((read, reader));
        });
        let (line, reader) = receiver
            .recv_timeout(START_LIMIT)
            .map_err(|_| format!("{name} did not say within {START_LIMIT:?} where it listens"))?;
        let line = line.map_err(|error| format!("{name}: {error}"))?;
        server.addr =
            listening(&line).ok_or_else(|| format!("{name} said {line:?} and not where it listens"))?.to_owned();
        server.output = Some(reader);
        Ok(server)
    }

    /// Sends a line and reads lines until one begins with `end`, which is the last one given back.
    pub(crate) fn ask(&mut self, question: &str, end: &str) -> Result<Vec<String>, String> {
        writeln!(self.input, "{question}").map_err(|error| format!("asking for `{question}`: {error}"))?;
        let output = self.output.as_mut().ok_or("the server's output is gone")?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read =
                output.read_line(&mut line).map_err(|error| format!("reading the answer to `{question}`: {error}"))?;
            if read == 0 {
                return Err(format!("the server ended before it answered `{question}`"));
            }
            lines.push(line.trim_end().to_owned());
            if line.starts_with(end) {
                return Ok(lines);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listening(line: &str) -> Option<&str> {
    let address = line.trim().strip_prefix("listening on ")?;
    let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"))?;
    Some(rest.trim_end_matches('/'))
}

/// The command `blob`: the one that the environment variable `BLOB` names, else built from this workspace.
pub(crate) fn blob(release: bool) -> Result<PathBuf, String> {
    match std::env::var_os("BLOB") {
        Some(path) => std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display())),
        None => build("blob-cli", ("bin", "blob"), release),
    }
}

/// The environment variable that names a directory of Cargo's (`target/release`) in which everything is built already.
const BUILT: &str = "BENCH_PROGRAMS";

/// Builds one binary or example of the workspace (`("bin", "blob")`, `("example", "create")`) and says where it is.
pub(crate) fn build(package: &str, (kind, name): (&str, &str), release: bool) -> Result<PathBuf, String> {
    if let Some(built) = std::env::var_os(BUILT).filter(|_| release) {
        let built = PathBuf::from(built).join(if kind == "example" { "examples" } else { "" }).join(name);
        return if built.is_file() { Ok(built) } else { Err(format!("{}: not there", built.display())) };
    }
    let mut command = cargo();
    command.current_dir(root()).arg("build");
    if release {
        // One selection for everything that is measured, so that dependencies are built once; examples show more with
        // features that are off by default.
        command.args(["--release", "--workspace", "--all-features"]);
    } else {
        command.args(["--package", package]);
    }
    command.args([&format!("--{kind}"), name, "--message-format", "json-render-diagnostics"]);
    let messages = crate::process::output(&mut command)?;
    executable(&messages, kind, name).ok_or_else(|| format!("cargo did not say where it put `{name}`"))
}

fn executable(messages: &str, kind: &str, name: &str) -> Option<PathBuf> {
    messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let ours = message["target"]["name"] == name && message["target"]["kind"][0] == kind;
        message["executable"].as_str().filter(|_| ours).map(Into::into)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_taken_from_the_line() {
        assert_eq!(listening("listening on http://127.0.0.1:80\n"), Some("127.0.0.1:80"));
        assert_eq!(listening("listening on https://127.0.0.1:80\n"), Some("127.0.0.1:80"));
        assert_eq!(listening("error: address in use"), None);
    }

    #[test]
    fn a_program_that_says_something_else_is_an_error() {
        let error = Server::start(Command::new("echo").arg("hello")).expect_err("echo is no server");
        assert!(error.contains("hello"), "{error}");
    }

    #[test]
    fn a_server_answers_questions() {
        let script = "echo listening on http://127.0.0.1:1; read q; echo one; echo end $q";
        let mut server = Server::start(Command::new("sh").args(["-c", script])).expect("a server");
        assert_eq!(server.addr, "127.0.0.1:1");
        assert_eq!(server.ask("x", "end"), Ok(vec!["one".to_owned(), "end x".to_owned()]));
        assert!(server.ask("x", "end").is_err(), "it has ended");
    }

    #[test]
    fn the_executable_is_found_in_the_messages_of_cargo() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"blob"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"blob"},"executable":"/t/debug/blob"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "bin", "blob"), Some("/t/debug/blob".into()));
        assert_eq!(executable(messages, "bin", "other"), None);
    }
}
