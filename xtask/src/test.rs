//! `cargo xtask test`: all tests, with the real programs they talk to.

use crate::Outcome;
use crate::interop;
use crate::peers;
use crate::process::{cargo, run as run_command, shown};
use crate::workspace::root;

/// Makes sure of the peers, then runs unit, integration and documentation tests of every crate; examples are compiled.
///
/// `args` go to `cargo test`. Without a peer the tests that need it say so and do nothing; in CI that is an error.
pub(crate) fn run(args: &[String]) -> Outcome {
    provide_peers()?;
    let mut tests = cargo();
    tests.current_dir(root()).args(["test", "--all-features", "--no-fail-fast"]);
    if !args.iter().any(|arg| arg == "-p" || arg.starts_with("--package")) {
        tests.arg("--workspace");
    }
    tests.args(args);
    // From registries that not every machine reaches. The tests say that they did not run.
    match interop::peers() {
        Ok(place) => _ = tests.env(interop::PLACE, place),
        Err(reason) => eprintln!("the peers of `cargo xtask interop` could not be installed: {reason}"),
    }
    println!("$ {}", shown(&tests));
    run_command(&mut tests)
}

fn provide_peers() -> Outcome {
    let welcome = peers::missing(&peers::WELCOME);
    if !welcome.is_empty()
        && let Err(reason) = peers::install(&welcome)
    {
        let program = welcome[0].program;
        eprintln!("{program} could not be installed; NOT RUN: {}: {reason}", welcome[0].needed_by);
    }
    let missing = peers::missing(&peers::FOR_TESTS);
    if missing.is_empty() {
        return Ok(());
    }
    if let Err(reason) = peers::install(&missing) {
        eprintln!("{reason}");
    }
    let missing = peers::missing(&peers::FOR_TESTS);
    for peer in &missing {
        eprintln!("{} is not installed; NOT RUN: {}", peer.program, peer.needed_by);
    }
    if missing.is_empty() || std::env::var_os("CI").is_none() {
        Ok(())
    } else {
        Err("in CI every program that the tests talk to must be there".into())
    }
}
