//! Tasks of this repository: `cargo xtask <task>`.
//!
//! It starts programs and reads files; it links no crate of the workspace, so that it builds when they do not.

mod bench;
mod codegen;
mod compare;
mod conformance;
mod demo;
mod interop;
mod peers;
mod process;
mod scratch;
mod server;
mod sweep;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

/// What a task ends in: the text is for a person.
type Outcome = Result<(), String>;

const USAGE: &str = "\
usage: cargo xtask <task>

tasks:
  demo             serve a registry, push a directory, list it, read one file lazily, pull it, compare
  test [ARGS]      run all tests; installs the programs they need where it may
  conformance [URL [--user NAME] [--sha512]]
                   run the requirements of the distribution specification against our server, or against the registry
                   at URL; the password is in BLOB_SPEC_PASSWORD
  conformance --official PROGRAM
                   run the official conformance program, which you have built, against `blob serve` of every kind
  interop          let sigstore-python and sigstore-js verify our bundles, and verify theirs; installs them
  sweep [NAME …]   run the long forms of tests: cache-faults, cache-million, cache-processes
  tidy             check the rules that the compiler does not know
  codegen          generate the FlatBuffers code from crates/blob-core/schema/index.fbs
                   (FLATC names a flatc 25.12.19; without it one is built, which needs cmake and a C++ compiler)
  bench [P1 …]     measure beside other programs and write docs/benchmarks.md
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("demo") => demo::run(),
        Some("bench") => bench::run(rest),
        Some("test") => test::run(rest),
        Some("conformance") => conformance::run(rest),
        Some("interop") => interop::run(),
        Some("sweep") => sweep::run(rest),
        Some("tidy") => tidy::run(),
        Some("codegen") => codegen::run(rest),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(format!("there is no task `{other}`\n\n{USAGE}")),
        None => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
