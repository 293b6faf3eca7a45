//! The real programs that tests talk to. They come from the system; nothing is downloaded here.

use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a peer may take to come up.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Finds an executable in `PATH`.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// The `skopeo` of this machine.
#[must_use]
pub fn skopeo() -> Option<PathBuf> {
    find("skopeo")
}

/// Gives back the peer, or says on standard error that the calling test does not run.
///
/// # Panics
/// When the peer is absent and the environment variable `CI` is set: there it must not be.
#[must_use]
pub fn require<T>(what: &str, peer: Option<T>) -> Option<T> {
    if peer.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let message = format!("NOT RUN: {test} needs {what}, which is not installed");
        assert!(env::var_os("CI").is_none(), "{message}");
        // Straight to the descriptor, so that the test harness does not swallow it.
        let _ = writeln!(io::stderr().lock(), "{message}");
    }
    peer
}

/// What a registry asks of its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Lines of an htpasswd file, `user:bcrypt`.
    pub htpasswd: Option<String>,
    /// Certificate chain and private key of the server, in PEM.
    pub tls: Option<(String, String)>,
    /// The authority of the certificates that clients must show, in PEM.
    pub client_authority: Option<String>,
}

impl Security {
    /// The line of an htpasswd file for the user `ann` with the password `secret`.
    pub const ANN: &'static str = "ann:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

    fn auth(&self, directory: &Path) -> io::Result<String> {
        let Some(lines) = &self.htpasswd else { return Ok(String::new()) };
        let path = directory.join("htpasswd");
        fs::write(&path, lines)?;
        Ok(format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display()))
    }

    fn tls(&self, directory: &Path) -> io::Result<String> {
        let Some((chain, key)) = &self.tls else { return Ok(String::new()) };
        let (chain_path, key_path) = (directory.join("chain.pem"), directory.join("key.pem"));
        fs::write(&chain_path, chain)?;
        fs::write(&key_path, key)?;
        let tls = format!("  tls:\n    certificate: {}\n    key: {}\n", chain_path.display(), key_path.display());
        let Some(authority) = &self.client_authority else { return Ok(tls) };
        let path = directory.join("clients.pem");
        fs::write(&path, authority)?;
        Ok(format!("{tls}    clientcas:\n      - {}\n", path.display()))
    }
}

/// Debian's `docker-registry` on a free loopback port, with its storage in a temporary directory and deletion allowed.
/// Killed when dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    port: Port,
    /// Kept for its `Drop`, which removes the storage.
    _storage: TempDir,
}

impl DockerRegistry {
    /// Starts one and waits until it answers; `None` when the program is not installed.
    ///
    /// # Panics
    /// When it is installed and does not come up within 20 seconds.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&Security::default())
    }

    /// As [`start`](Self::start), with passwords and TLS as `security` has them.
    ///
    /// # Panics
    /// As `start`.
    #[must_use]
    pub fn start_with(security: &Security) -> Option<Self> {
        let program = find("docker-registry")?;
        // Somebody who does not claim ports can take it between the probe and the start.
        let started = (0..3).find_map(|_| Self::try_start(&program, security).ok());
        Some(started.expect("docker-registry is installed and should come up"))
    }

    fn try_start(program: &PathBuf, security: &Security) -> io::Result<Self> {
        let storage = TempDir::new()?;
        let port = Port::claim()?;
        let addr = port.addr;
        let config = storage.path().join("config.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
                 rootdirectory: {root}\n  delete:\n    enabled: true\n{auth}http:\n  addr: {addr}\n{tls}",
                root = storage.path().join("data").display(),
                auth = security.auth(storage.path())?,
                tls = security.tls(storage.path())?,
            ),
        )?;
        let child = Command::new(program)
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut registry = Self { child, port, _storage: storage };
        registry.wait_until_it_answers(security)?;
        Ok(registry)
    }

    fn wait_until_it_answers(&mut self, security: &Security) -> io::Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < START_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("docker-registry ended at once with {status}")));
            }
            let plain = *security == Security::default();
            let up = if plain { answers(self.addr()) } else { TcpStream::connect(self.addr()).is_ok() };
            if up {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "docker-registry did not answer"))
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have died on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian's `redis-server` on a free loopback port, with nothing on disk. Killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    port: Port,
}

impl RedisServer {
    /// Starts one and waits until it answers; `None` when the program is not installed.
    ///
    /// # Panics
    /// When it is installed and does not come up within 20 seconds.
    #[must_use]
    pub fn start() -> Option<Self> {
        let program = find("redis-server")?;
        // Somebody who does not claim ports can take it between the probe and the start.
        let started = (0..3).find_map(|_| Self::try_start(&program).ok());
        Some(started.expect("redis-server is installed and should come up"))
    }

    fn try_start(program: &PathBuf) -> io::Result<Self> {
        let port = Port::claim()?;
        let addr = port.addr;
        let child = Command::new(program)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(addr.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut server = Self { child, port };
        let begin = Instant::now();
        while begin.elapsed() < START_LIMIT {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("redis-server ended at once with {status}")));
            }
            if pongs(addr) {
                return Ok(server);
            }
            sleep(Duration::from_millis(20));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "redis-server did not answer"))
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have died on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `PING` is answered.
fn pongs(addr: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG\r\n")
    };
    ask().unwrap_or(false)
}

/// A port that this process has to itself until the value is dropped, for programs that cannot be told to choose one.
#[derive(Debug)]
struct Port {
    addr: SocketAddr,
    /// Nobody else who asks for a port here gets this one meanwhile.
    _claim: Claim,
}

#[cfg(target_os = "linux")]
type Claim = Option<std::os::unix::net::UnixListener>;
#[cfg(not(target_os = "linux"))]
type Claim = ();

/// Ports that the system does not give to whoever asks for any, so that only a claim can stand in the way.
const PORTS: std::ops::Range<u64> = 14_000..32_000;

impl Port {
    fn claim() -> io::Result<Self> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut random = u64::from(std::process::id()) << 32 ^ now.as_nanos() as u64;
        for _ in 0..1000 {
            let port = PORTS.start + crate::trees::splitmix(&mut random) % (PORTS.end - PORTS.start);
            let port = u16::try_from(port).map_err(io::Error::other)?;
            let Ok(claim) = claim(port) else { continue };
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                return Ok(Self { addr: listener.local_addr()?, _claim: claim });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free"))
    }
}

/// A name that only one process can have at a time, and that leaves nothing behind.
#[cfg(target_os = "linux")]
fn claim(port: u16) -> io::Result<Claim> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let name = SocketAddr::from_abstract_name(format!("blob-testkit-port-{port}"))?;
    UnixListener::bind_addr(&name).map(Some)
}

#[cfg(not(target_os = "linux"))]
fn claim(_: u16) -> io::Result<Claim> {
    Ok(())
}

/// Whether `GET /v2/` is answered 200.
fn answers(addr: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /v2/ HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(&head == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_comes_up_answers_and_goes_away() {
        let Some(registry) = require("docker-registry", DockerRegistry::start()) else { return };
        let addr = registry.addr();
        assert!(answers(addr));
        drop(registry);
        assert!(!answers(addr), "it should be gone");
    }

    #[test]
    fn a_port_is_claimed_once() {
        let port = Port::claim().expect("a port");
        assert!(claim(port.addr.port()).is_err() || cfg!(not(target_os = "linux")));
        let number = port.addr.port();
        drop(port);
        assert!(claim(number).is_ok());
    }

    #[test]
    fn programs_are_looked_up_in_path() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
