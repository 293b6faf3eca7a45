//! `cargo xtask sweep`: the long forms of tests that run as a sample with every test run.

use crate::Outcome;
use crate::process;

/// Name, package, test.
const SWEEPS: [(&str, &str, &str); 3] = [
    ("cache-faults", "blob-cache", "failing::faults_at_system_calls_leave_a_sound_cache"),
    ("cache-million", "blob-cache", "many::costs_do_not_grow_with_the_number_of_entries"),
    ("cache-processes", "blob-cli", "cache::processes_that_want_the_same_fetch_it_once_and_share_a_destination"),
];

/// Runs the sweeps that are named, or all.
pub(crate) fn run(names: &[String]) -> Outcome {
    if let Some(unknown) = names.iter().find(|name| SWEEPS.iter().all(|(known, _, _)| known != name)) {
        let known = SWEEPS.map(|(name, _, _)| name).join(", ");
        return Err(format!("there is no sweep `{unknown}`; there are {known}"));
    }
    for (name, package, test) in SWEEPS {
        if !names.is_empty() && names.iter().all(|wanted| wanted != name) {
            continue;
        }
        println!("sweep {name}");
        let mut command = process::cargo();
        command.args([
            "test",
            "--package",
            package,
            "--all-features",
            "--test",
            "it",
            "--",
            test,
            "--exact",
            "--nocapture",
        ]);
        process::run(command.env("BLOB_SWEEP", "full"))?;
    }
    Ok(())
}
