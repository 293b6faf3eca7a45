//! P8: the index, by the Criterion benches of `blob-core`.

use super::Bench;
use super::report::Section;
use crate::process::{cargo, output};
use crate::workspace::root;

/// Runs the benches of `blob-core` and takes the median and the interval that Criterion prints.
pub(super) fn run(bench: &Bench) -> Result<Section, String> {
    let mut section = Section {
        title: "P8: index".into(),
        circumstances: bench.circumstances(),
        header: vec!["bench", "time", "interval", "command"],
        ..Section::default()
    };
    if !root().join("crates/blob-core/benches").is_dir() {
        section.notes.push("`blob-core` has no benches.".into());
        return Ok(section);
    }
    let text = output(cargo().current_dir(root()).args(["bench", "--package", "blob-core", "--all-features"]))?;
    section.rows = rows(&text);
    if section.rows.is_empty() {
        return Err("`cargo bench --package blob-core` printed no times".into());
    }
    Ok(section)
}

/// `name  time:   [1.0 ms 1.1 ms 1.2 ms]`; a long name stands on the line before.
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut previous = "";
    for line in text.lines() {
        if let Some((name, rest)) = line.split_once("time:") {
            let name = if name.trim().is_empty() { previous } else { name.trim() };
            let words: Vec<&str> = rest.trim().trim_matches(['[', ']']).split(' ').collect();
            if let [low, low_unit, mid, mid_unit, high, high_unit] = words[..] {
                rows.push(vec![
                    name.to_owned(),
                    format!("{mid} {mid_unit}"),
                    format!("{low} {low_unit} – {high} {high_unit}"),
                    "`cargo bench -p blob-core`".to_owned(),
                ]);
            }
        }
        previous = line.trim();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_from_the_output_of_criterion() {
        let text = "open/10k                time:   [1.0 ms 1.1 ms 1.2 ms]\nnoise\nlookup/a_rather_long_name\n                        time:   [99.0 ns 101.5 ns 1.1 µs]\n";
        let rows = rows(text);
        assert_eq!(rows[0][..3], ["open/10k", "1.1 ms", "1.0 ms – 1.2 ms"]);
        assert_eq!(rows[1][..3], ["lookup/a_rather_long_name", "101.5 ns", "99.0 ns – 1.1 µs"]);
        assert_eq!(rows.len(), 2);
    }
}
