//! `cargo xtask interop`: other implementations of Sigstore verify our bundles, and we verify theirs; another client of
//! registries pushes to our server and pulls from it.
//!
//! They are installed from PyPI and npm below the target directory, in pinned versions, so this needs the network once.
//! `cargo xtask test` runs these tests, too, where the two registries can be reached.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::process::{cargo, run as run_command, shown};
use crate::workspace::root;

/// The environment variable that tells the tests where the peers are.
pub(crate) const PLACE: &str = "BLOB_INTEROP";

/// What is installed, and so what was shown to work.
const PYTHON: [&str; 2] = ["sigstore==4.5.1", "oras==0.2.43"];
const NPM: [&str; 4] =
    ["@sigstore/bundle@4.0.0", "@sigstore/protobuf-specs@0.5.2", "@sigstore/sign@4.1.1", "@sigstore/verify@3.1.1"];

/// Installs the peers unless they are there, and runs the tests that need them.
pub(crate) fn run() -> Outcome {
    let mut tests = cargo();
    tests.current_dir(root()).env(PLACE, peers()?);
    tests.args([
        "test",
        "-p",
        "blob-policy",
        "-p",
        "blob-registry",
        "--all-features",
        "--test",
        "it",
        "--",
        "interop::",
    ]);
    println!("$ {}", shown(&tests));
    run_command(&mut tests)
}

/// Makes sure of the peers; the directory that they are in.
pub(crate) fn peers() -> Result<PathBuf, String> {
    let directory = root().join("target/interop");
    provide(&directory, "python", &PYTHON, install_python)?;
    provide(&directory, "npm", &NPM, install_npm)?;
    Ok(directory)
}

/// Installs into `directory/name` unless just these versions were installed there before.
fn provide(directory: &Path, name: &str, versions: &[&str], install: fn(&Path, &[&str]) -> Outcome) -> Outcome {
    let (place, mark) = (directory.join(name), directory.join(format!("{name}.installed")));
    let wanted = versions.join("\n");
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let failed = |error: std::io::Error| format!("{}: {error}", place.display());
    if place.exists() {
        std::fs::remove_dir_all(&place).map_err(failed)?;
    }
    std::fs::create_dir_all(&place).map_err(failed)?;
    install(&place, versions)?;
    std::fs::write(&mark, wanted).map_err(failed)
}

fn install_python(place: &Path, versions: &[&str]) -> Outcome {
    run_command(Command::new("python3").args(["-m", "venv"]).arg(place))?;
    run_command(
        Command::new(place.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=30"])
            .args(versions),
    )
}

fn install_npm(place: &Path, versions: &[&str]) -> Outcome {
    std::fs::write(place.join("package.json"), "{\"private\":true}").map_err(|error| error.to_string())?;
    let quiet = ["install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"];
    run_command(Command::new("npm").current_dir(place).args(quiet).args(versions))
}
