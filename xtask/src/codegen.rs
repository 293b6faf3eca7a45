//! `cargo xtask codegen`: FlatBuffers code from the schema of the archive index.
//!
//! The generated file is committed, so that nobody needs `flatc` to build. The generator must be of the same version as the
//! `flatbuffers` crate; the one of Debian is older and makes code that does not compile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::process::{cargo, output, run as run_command};
use crate::tidy::header;
use crate::workspace::root;

const FLATC_VERSION: &str = "25.12.19";
const CRATE: &str = "crates/blob-core";
const SCHEMA: &str = "schema/index.fbs";
const GENERATED: &str = "src/index/index_generated.rs";

/// Generates the file; with `--check` compares instead and fails when it differs.
pub(crate) fn run(args: &[String]) -> Outcome {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("usage: cargo xtask codegen [--check]".into()),
    };
    let package = root().join(CRATE);
    let target = package.join(GENERATED);
    let code = generate(&flatc()?, &package)?;
    if check {
        let present = fs::read_to_string(&target).map_err(|error| format!("{}: {error}", target.display()))?;
        return if present == code {
            Ok(())
        } else {
            Err(format!("{} is not what flatc generates now", target.display()))
        };
    }
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::write(&target, code).map_err(|error| format!("{}: {error}", target.display()))?;
    println!("wrote {CRATE}/{GENERATED}");
    Ok(())
}

/// The generator that `FLATC` names, else one built from the sources that the crate `flatc-fork` carries.
fn flatc() -> Result<PathBuf, String> {
    let path = match std::env::var_os("FLATC") {
        Some(path) => PathBuf::from(path),
        None => {
            eprintln!("building flatc {FLATC_VERSION} (about a minute; needs cmake and a C++ compiler)");
            let manifest = root().join("xtask/flatc/Cargo.toml");
            let printed = output(cargo().args(["run", "--quiet", "--locked", "--manifest-path"]).arg(manifest))?;
            PathBuf::from(printed.trim())
        }
    };
    let version = output(Command::new(&path).arg("--version"))?;
    if version.trim().ends_with(FLATC_VERSION) {
        Ok(path)
    } else {
        Err(format!("{}: expected flatc {FLATC_VERSION}, got `{}`", path.display(), version.trim()))
    }
}

fn generate(flatc: &Path, package: &Path) -> Result<String, String> {
    let folder = std::env::temp_dir().join(format!("blob-codegen-{}", std::process::id()));
    let made = generate_in(&folder, flatc, package);
    // Left behind, it would be in the way of nothing but tidiness.
    let _ = fs::remove_dir_all(&folder);
    made
}

fn generate_in(folder: &Path, flatc: &Path, package: &Path) -> Result<String, String> {
    let schema = package.join(SCHEMA);
    run_command(Command::new(flatc).args(["--rust", "-o"]).arg(folder).arg(&schema))?;
    let made = folder.join("index_generated.rs");
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut code = header(SCHEMA, &read(&schema)?).into_bytes();
    code.extend(read(&made)?);
    fs::write(&made, code).map_err(|error| format!("{}: {error}", made.display()))?;
    let config = root().join("rustfmt.toml");
    run_command(Command::new("rustfmt").args(["--edition", "2024", "--config-path"]).arg(config).arg(&made))?;
    String::from_utf8(read(&made)?).map_err(|error| format!("flatc wrote what is not UTF-8: {error}"))
}
