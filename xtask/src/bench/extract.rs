//! P5: extracting everything, every file verified.

use super::create::shell;
use super::measure::{Contender, in_turns};
use super::report::{Section, TIMED, row};
use super::{Bench, quietly, same_as_data};
use crate::peers::find;

/// Measures `blob pull` from a layout beside tar, zstd, cp and squashfs, then compares what was extracted with the source.
pub(super) fn run(bench: &Bench) -> Result<Section, String> {
    quietly(bench.blob(&["push", "--compression", "none", "oci:stored:v1", "data"]))?;
    quietly(bench.blob(&["push", "--compression", "zstd", "oci:zstd:v1", "data"]))?;
    quietly(bench.shell("tar cf data.tar data"))?;
    let mut section = Section {
        title: "P5: extract".into(),
        circumstances: bench.circumstances(),
        header: TIMED.to_vec(),
        ..Section::default()
    };
    let mut contenders = vec![
        pull(bench, "blob, zstd", "oci:zstd:v1", "out-zstd"),
        pull(bench, "blob, stored", "oci:stored:v1", "out-stored"),
        shell(bench, "tar", "mkdir out-tar && tar xf data.tar -C out-tar", "out-tar"),
        shell(bench, "cp -r", "cp -r data out-cp", "out-cp"),
    ];
    if find("zstd").is_some() {
        quietly(bench.shell("zstd -3 -T0 -q -f data.tar -o data.tar.zst"))?;
        let line = "mkdir out-tz && zstd -dcq data.tar.zst | tar xf - -C out-tz";
        contenders.push(shell(bench, "zstd, tar", line, "out-tz"));
    } else {
        section.notes.push("`zstd` is not installed and was left out.".into());
    }
    if find("mksquashfs").is_some() && find("unsquashfs").is_some() {
        quietly(bench.shell(
            "rm -f data.sqfs && mksquashfs data data.sqfs -comp zstd -Xcompression-level 3 -no-progress -quiet",
        ))?;
        contenders.push(shell(bench, "unsquashfs", "unsquashfs -no-progress -quiet -dest out-sq data.sqfs", "out-sq"));
    } else {
        section.notes.push("`mksquashfs` and `unsquashfs` are not installed and were left out.".into());
    }
    let results = in_turns(&contenders)?;
    same_as_data(bench, "out-zstd")?;
    same_as_data(bench, "out-stored")?;
    for (ours, work) in [(&results[0], "zstd"), (&results[1], "stored")] {
        section.rows.push(row(work, ours, None, "peak ≤ 96 MiB"));
        for peer in &results[2..] {
            section.rows.push(row(work, peer, Some(ours), limit(work, peer.name)));
        }
    }
    section.notes.push("Both extracted trees were compared with their source: equal, with modes and times.".into());
    Ok(section)
}

fn limit(work: &str, peer: &str) -> &'static str {
    match (work, peer) {
        ("zstd", "zstd, tar") => "≤ 0.75",
        ("zstd", "cp -r") => "≤ 1.20",
        ("stored", "cp -r") => "≤ 0.90",
        _ => "",
    }
}

fn pull<'b>(bench: &'b Bench, name: &'static str, reference: &'static str, output: &'static str) -> Contender<'b> {
    Contender {
        name,
        command: Box::new(move || bench.blob(&["pull", reference, output])),
        outputs: vec![bench.place().join(output)],
    }
}
