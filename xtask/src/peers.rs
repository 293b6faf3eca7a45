//! The real programs that tests and benchmarks talk to: names, packages, where to find them.

use std::path::PathBuf;
use std::process::Command;

use crate::process::run;

/// A program from outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The executable, looked up in `PATH`.
    pub(crate) program: &'static str,
    /// The Debian package that holds it.
    pub(crate) package: &'static str,
    /// What does not run without it.
    pub(crate) needed_by: &'static str,
}

/// What `cargo xtask test` needs.
pub(crate) const FOR_TESTS: [Peer; 16] = [
    Peer {
        program: "docker-registry",
        package: "docker-registry",
        needed_by: "tests of the client and the command against a real registry",
    },
    Peer { program: "ncdu", package: "ncdu", needed_by: "the test of sizes that other programs browse" },
    Peer {
        program: "skopeo",
        package: "skopeo",
        needed_by: "tests that copy artifacts between servers and layouts with a real tool",
    },
    Peer { program: "umoci", package: "umoci", needed_by: "tests that share image layouts with a real tool" },
    Peer {
        program: "redis-server",
        package: "redis-server",
        needed_by: "tests of the example that keeps contents in Redis",
    },
    Peer { program: "strace", package: "strace", needed_by: "tests in which system calls fail" },
    Peer { program: "script", package: "bsdutils", needed_by: "tests of the command on a terminal" },
    Peer { program: "git", package: "git", needed_by: "the check that differences are patches" },
    Peer { program: "patch", package: "patch", needed_by: "the check that differences are patches" },
    Peer { program: "unzip", package: "unzip", needed_by: "tests that read ZIP files with a real tool" },
    Peer { program: "wget", package: "wget", needed_by: "tests that take a web site with a real client" },
    Peer { program: "python3", package: "python3", needed_by: "tests that read ZIP files with a real tool" },
    Peer { program: "mandoc", package: "mandoc", needed_by: "the check of manual pages" },
    Peer { program: "zsh", package: "zsh", needed_by: "tests of completion" },
    Peer { program: "fish", package: "fish", needed_by: "tests of completion" },
    Peer { program: "mkfs.btrfs", package: "btrfs-progs", needed_by: "the test of reflinks" },
];

/// What `cargo xtask test` can do without, in CI too: single tests then say that they did not run.
pub(crate) const WELCOME: [Peer; 1] =
    [Peer { program: "fusermount3", package: "fuse3", needed_by: "the test of mounts by plain users" }];

/// Finds an executable in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The peers that are not installed.
pub(crate) fn missing(peers: &'static [Peer]) -> Vec<&'static Peer> {
    peers.iter().filter(|peer| find(peer.program).is_none()).collect()
}

/// Installs packages with apt-get where that is possible without asking anybody: as root, on a system that has it.
pub(crate) fn install(peers: &[&Peer]) -> Result<(), String> {
    if find("apt-get").is_none() {
        return Err("this system has no apt-get".into());
    }
    if !is_root() {
        let packages: Vec<_> = peers.iter().map(|peer| peer.package).collect();
        return Err(format!("not root; install by hand: apt-get install {}", packages.join(" ")));
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
        command
    };
    run(apt().arg("update"))?;
    run(apt().args(["install", "--yes", "--no-install-recommends"]).args(peers.iter().map(|peer| peer.package)))
}

fn is_root() -> bool {
    // The real user id is the second field; there is no safe call for it in the standard library.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: [Peer; 2] = [
        Peer { program: "sh", package: "dash", needed_by: "nothing" },
        Peer { program: "no-such-program-anywhere", package: "none", needed_by: "nothing" },
    ];

    #[test]
    fn only_absent_programs_are_missing() {
        assert_eq!(missing(&SAMPLE), [&SAMPLE[1]]);
    }
}
