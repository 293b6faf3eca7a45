//! P4: creating an archive, stored and with zstd.

use std::path::Path;
use std::process::Command;

use super::measure::{Contender, Runs, in_turns};
use super::report::{Section, TIMED, row};
use super::{Bench, cores};
use crate::peers::find;
use crate::server::build;

/// Measures creation alone (an example of `blob-core` writes the two blobs) and `blob push` into a layout, which reads and
/// hashes the data once more, beside tar, zstd and squashfs; the limit for stored data is computed from what hashing and
/// copying the same bytes cost in the same run.
pub(super) fn run(bench: &Bench) -> Result<Section, String> {
    super::quietly(bench.shell("tar cf data.tar data"))?;
    let create = build("blob-core", ("example", "create"), true)?;
    let mut section = Section {
        title: "P4: create".into(),
        circumstances: bench.circumstances(),
        header: TIMED.to_vec(),
        ..Section::default()
    };
    stored(bench, &create, &mut section)?;
    compressed(bench, &create, &mut section)?;
    Ok(section)
}

fn stored(bench: &Bench, create: &Path, section: &mut Section) -> Result<(), String> {
    let mut contenders = vec![
        creation(bench, create, "none"),
        push(bench, "none"),
        shell(bench, "tar", "tar cf - data | cat > out.tar", "out.tar"),
        shell(bench, "read and write", "find data -type f -print0 | xargs -0 cat > out.all", "out.all"),
    ];
    let openssl = find("openssl").is_some();
    if openssl {
        contenders.push(shell(bench, "SHA-256 once", "openssl dgst -sha256 data.tar", "none"));
    }
    let results = in_turns(&contenders)?;
    let ours = &results[0];
    section.rows.push(row("stored", ours, None, "peak ≤ 128 MiB"));
    for peer in &results[1..] {
        section.rows.push(row("stored", peer, Some(ours), ""));
    }
    section.notes.push(match (openssl, results.get(4)) {
        (true, Some(sha)) => limit(ours, &results[3], sha),
        _ => "`openssl` is not installed: the limit for stored data was not computed.".to_owned(),
    });
    Ok(())
}

/// Every byte is hashed twice, for its file and for the blob, read and written, on all cores.
fn limit(ours: &Runs, copy: &Runs, sha: &Runs) -> String {
    let limit = 1.2 * (2.0 * sha.median() + copy.median()) / cores() as f64;
    format!(
        "Limit for stored data: 1.2 × (2 × SHA-256 + read + write) ÷ {} cores = {limit:.3} s; ours takes {:.2} of it.",
        cores(),
        ours.median() / limit
    )
}

fn compressed(bench: &Bench, create: &Path, section: &mut Section) -> Result<(), String> {
    let mut contenders = vec![creation(bench, create, "zstd"), push(bench, "zstd")];
    if find("zstd").is_some() {
        contenders.push(shell(bench, "tar, zstd -3", "tar cf - data | zstd -3 -T0 -q > out.tar.zst", "out.tar.zst"));
    } else {
        section.notes.push("`zstd` is not installed and was left out.".into());
    }
    if find("mksquashfs").is_some() {
        let line = "mksquashfs data out.sqfs -comp zstd -Xcompression-level 3 -no-progress -quiet";
        contenders.push(shell(bench, "mksquashfs", line, "out.sqfs"));
    } else {
        section.notes.push("`mksquashfs` is not installed and was left out.".into());
    }
    let results = in_turns(&contenders)?;
    let ours = &results[0];
    section.rows.push(row("zstd", ours, None, "peak ≤ 128 MiB"));
    for peer in &results[1..] {
        section.rows.push(row("zstd", peer, Some(ours), if peer.name.starts_with("tar") { "≤ 1.10" } else { "" }));
    }
    Ok(())
}

/// Creation alone: the core library, writing two files.
fn creation<'b>(bench: &'b Bench, program: &Path, compression: &'static str) -> Contender<'b> {
    let program = program.to_owned();
    Contender {
        name: "blob-core",
        command: Box::new(move || bench.at_home(Command::new(&program), &["data", "out.blob", compression])),
        outputs: vec![bench.place().join("out.blob")],
    }
}

fn push<'b>(bench: &'b Bench, compression: &'static str) -> Contender<'b> {
    Contender {
        name: "blob push",
        command: Box::new(move || bench.blob(&["push", "--compression", compression, "oci:layout:v1", "data"])),
        outputs: vec![bench.place().join("layout")],
    }
}

/// A contender that is a line for the shell and writes one file or folder.
pub(super) fn shell<'b>(bench: &'b Bench, name: &'static str, line: &'static str, output: &str) -> Contender<'b> {
    Contender { name, command: Box::new(move || bench.shell(line)), outputs: vec![bench.place().join(output)] }
}
