//! Tells the program what it is built for, and from which commit.
#![allow(clippy::print_stdout)]

#[path = "commit.rs"]
mod commit;

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-env-changed=BLOB_BUILD_COMMIT");
    let target = env::var("TARGET").unwrap_or_else(|_| "unknown".into());
    println!("cargo:rustc-env=BLOB_BUILD_TARGET={target}");
    // Builds for development change too often to be anybody's commit, and need not be made anew for each one.
    if env::var_os("BLOB_BUILD_COMMIT").is_some() || env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let dir = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    if let Some(found) = commit::find(&dir) {
        for file in &found.files {
            println!("cargo:rerun-if-changed={}", file.display());
        }
        println!("cargo:rustc-env=BLOB_BUILD_COMMIT={}", found.commit);
    }
}
