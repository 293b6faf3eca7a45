//! A place to run the command in: a server, a sample project, an empty home.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use snapbox::cmd::OutputAssert;
use snapbox::{Assert, Redactions};
use tempfile::TempDir;

/// The command under test.
pub(crate) const BLOB: &str = env!("CARGO_BIN_EXE_blob");

/// The sample project: path, content, mode.
const FILES: [(&str, &str, u32); 7] = [
    ("README.md", "# Sample\n", 0o644),
    ("config/app.yaml", "name: sample-app\nversion: 1.0.0\nenvironment: production\n", 0o644),
    ("config/database.json", "{\"host\": \"localhost\"}\n", 0o600),
    ("docs/api/reference.md", "reference\n", 0o644),
    ("docs/guide.md", "guide\n", 0o644),
    ("run.sh", "#!/bin/sh\necho hello\n", 0o755),
    ("src/main.rs", "", 0o644),
];

/// When everything in the project was written: 2023-11-14T22:13:20Z.
const WRITTEN: u64 = 1_700_000_000;

/// A temporary directory with `project` and `home`, and perhaps a server.
pub(crate) struct Place {
    pub(crate) root: TempDir,
    server: Option<Server>,
}

impl Place {
    /// What stands for the server where there is none.
    pub(crate) const NO_HOST: &'static str = "localhost:1";

    /// With nothing but the project.
    pub(crate) fn offline() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("home")).unwrap();
        let project = root.path().join("project");
        for (path, content, mode) in FILES {
            let file = project.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let written = SystemTime::UNIX_EPOCH + Duration::from_secs(WRITTEN);
            File::options().write(true).open(&file).unwrap().set_modified(written).unwrap();
        }
        fs::create_dir(project.join("empty")).unwrap();
        fs::set_permissions(project.join("empty"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("config/app.yaml", project.join("settings")).unwrap();
        Self { root, server: None }
    }

    /// With a server in memory.
    pub(crate) fn served() -> Self {
        let mut place = Self::offline();
        place.server = Some(Server::start(&[]));
        place
    }

    /// With a server and no project.
    pub(crate) fn with_server() -> Self {
        Self { server: Some(Server::start(&[])), ..Self::bare() }
    }

    /// With nothing but an empty home.
    pub(crate) fn bare() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("home")).unwrap();
        Self { root, server: None }
    }

    /// With a server that holds the project as `HOST/team/project:v1`.
    pub(crate) fn pushed() -> Self {
        let place = Self::served();
        place.run("push -q --reproducible HOST/team/project:v1 project").success();
        place
    }

    /// With the project as `oci:layout:v1`.
    pub(crate) fn laid_out() -> Self {
        let place = Self::offline();
        place.run("push -q --reproducible oci:layout:v1 project").success();
        place
    }

    /// The digest of `bytes` as manifests write it.
    pub(crate) fn sha256(&self, bytes: &[u8]) -> String {
        let file = self.path("hashed");
        fs::write(&file, bytes).unwrap();
        let output = Command::new("sha256sum").arg(&file).output().unwrap();
        format!("sha256:{}", String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap())
    }

    /// Ends the server.
    pub(crate) fn stop_server(&mut self) {
        let server = self.server.as_mut().unwrap();
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }

    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn host(&self) -> &str {
        self.server.as_ref().map_or(Self::NO_HOST, |server| &server.addr)
    }

    /// The command with the words of `line`, in which `HOST` is the server.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(BLOB);
        command.args(line.split(' ').map(|word| word.replace("HOST", self.host())));
        self.isolate(&mut command);
        command
    }

    /// No configuration, credentials or options of whoever runs the tests.
    pub(crate) fn isolate(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("BLOB_") || name.starts_with("DOCKER_") || name.to_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.path("home")).env("SOURCE_DATE_EPOCH", WRITTEN.to_string());
        command
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE");
        command.current_dir(self.root.path()).stdin(Stdio::null());
    }

    pub(crate) fn run(&self, line: &str) -> OutputAssert {
        self.assert(&mut self.command(line))
    }

    /// Runs a command; the server, this place and digests are redacted in what it wrote.
    pub(crate) fn assert(&self, command: &mut Command) -> OutputAssert {
        let output = command.output().unwrap();
        let mut redactions = Redactions::new();
        redactions.insert("[HOST]", self.host().to_owned()).unwrap();
        redactions.insert("[ROOT]", self.root.path().to_owned()).unwrap();
        OutputAssert::new(output)
            .with_assert(Assert::new().action_env("SNAPSHOTS").normalize_paths(false).redact_with(redactions))
    }

    /// Files and directories below `path`, sorted, directories with a slash.
    pub(crate) fn listing(&self, path: &str) -> Vec<String> {
        let root = self.path(path);
        let mut found = Vec::new();
        let mut open = vec![root.clone()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let entry = entry.unwrap();
                let name = entry.path().strip_prefix(&root).unwrap().display().to_string();
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                    found.push(name + "/");
                } else {
                    found.push(name);
                }
            }
        }
        found.sort();
        found
    }
}

/// `blob serve`, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: String,
}

impl Server {
    /// Starts it on a free port.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::at("127.0.0.1:0", options)
    }

    /// Starts it there.
    pub(crate) fn at(listen: &str, options: &[&str]) -> Self {
        let mut command = Command::new(BLOB);
        command.args(["serve", "--listen", listen]).args(options);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, addr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(name: &str, id: u32) {
    let sent = Command::new("kill").args(["-s", name, &id.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -s {name} {id}");
}

/// Waits until `true`, at most 30 seconds.
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a command wrote to standard output, as text.
pub(crate) fn stdout(assert: &OutputAssert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

/// What a command wrote to standard error, as text.
pub(crate) fn stderr(assert: &OutputAssert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}
