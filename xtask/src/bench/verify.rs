//! `verify`: what the verification of one archive costs once its manifest is there, without the network.

use std::process::Command;

use super::Bench;
use super::measure::{Contender, in_turns};
use super::report::Section;
use crate::server::build;

/// Verifications in one run: their processor time is counted in ticks of 10 ms.
const TIMES: u32 = 1000;
/// Milliseconds that one may take.
const LIMIT: f64 = 10.0;

/// Processor time of a verification from the list of referrers on, for each kind of signature.
pub(super) fn cost(bench: &Bench) -> Result<Section, String> {
    let program = build("blob-policy", ("example", "verify_cost"), true)?;
    let header = vec!["signature", "CPU ms each", "limit", "command"];
    let title = "verify: processor time of one verification".to_owned();
    let circumstances = format!("A bundle of an instance in the same process, {} cores", super::cores());
    let mut section = Section { title, circumstances, header, ..Section::default() };
    for (kind, words) in [
        ("key", "by a key, without a log"),
        ("logged-key", "by a key, with a log entry and a time-stamp"),
        ("keyless-v1", "by a certificate, with Rekor v1 and a time-stamp"),
        ("keyless-v2", "by a certificate, with Rekor v2 and a time-stamp"),
    ] {
        let run = |name: &'static str, times: u32| {
            let (program, times) = (program.clone(), times.to_string());
            let command = move || bench.at_home(Command::new(&program), &[kind, &times]);
            Contender { name, command: Box::new(command), outputs: Vec::new() }
        };
        let runs = in_turns(&[run("many", TIMES), run("none", 0)])?;
        let each = (runs[0].cpu - runs[1].cpu) * 1000.0 / f64::from(TIMES);
        let command = format!("`verify_cost {kind} {TIMES}`");
        section.rows.push(vec![words.to_owned(), format!("{each:.2}"), format!("≤ {LIMIT:.0}"), command]);
    }
    section.notes.push(
        "The referrers are listed, the bundle is read and parsed, and everything about it is checked: certificate chain, \
         certificate transparency, log entry with its proof and checkpoint, time-stamp, signature, identity. The time of a \
         run with no verification is taken off."
            .to_owned(),
    );
    Ok(section)
}
