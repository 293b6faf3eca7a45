//! `cargo xtask conformance`: the distribution specification, requirement by requirement, against any registry.

use std::path::Path;

use crate::Outcome;
use crate::process::{cargo, run as run_command, shown};
use crate::workspace::root;

mod official;

const USAGE: &str = "usage: cargo xtask conformance [URL [--user NAME] [--sha512] | --official PROGRAM]";

/// Runs the tests of `crates/blob-registry/tests/it/spec`, against our server in process or against the one at a URL;
/// or the official program against our server.
pub(crate) fn run(args: &[String]) -> Outcome {
    if let [option, program] = args
        && option == "--official"
    {
        return official::run(Path::new(program));
    }
    let mut tests = cargo();
    tests.current_dir(root());
    tests.args(["test", "-p", "blob-registry", "--all-features", "--test", "it", "--", "spec::"]);
    let mut rest = args.iter();
    if let Some(url) = rest.next() {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(format!("{url:?} is not a URL\n{USAGE}"));
        }
        tests.env("BLOB_SPEC_URL", url);
    }
    while let Some(option) = rest.next() {
        match (option.as_str(), rest.clone().next()) {
            ("--user", Some(name)) => {
                tests.env("BLOB_SPEC_USER", name);
                rest.next();
            }
            ("--sha512", _) => {
                tests.env("BLOB_SPEC_SHA512", "1");
            }
            _ => return Err(format!("{option:?} is not understood\n{USAGE}")),
        }
    }
    println!("$ {}", shown(&tests));
    run_command(&mut tests)
}
