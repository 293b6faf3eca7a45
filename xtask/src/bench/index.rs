//! P8 and P9: the index and cached reads, by Criterion benches.

use super::Bench;
use super::report::Section;
use crate::process::{cargo, output};
use crate::workspace::root;

/// P8: open, look up, list.
pub(super) fn index(bench: &Bench) -> Result<Section, String> {
    run(bench, "P8: index", "blob-core")
}

/// P9: cached reads beside a plain one in the same run.
pub(super) fn cache(bench: &Bench) -> Result<Section, String> {
    run(bench, "P9: cached reads", "blob-cache")
}

/// Runs the benches of a package and takes the median and the interval that Criterion prints.
fn run(bench: &Bench, title: &str, package: &str) -> Result<Section, String> {
    let mut section = Section {
        title: title.into(),
        circumstances: bench.circumstances(),
        header: vec!["bench", "time", "interval", "command"],
        ..Section::default()
    };
    if !root().join("crates").join(package).join("benches").is_dir() {
        section.notes.push(format!("`{package}` has no benches."));
        return Ok(section);
    }
    let text = output(cargo().current_dir(root()).args(["bench", "--package", package, "--all-features"]))?;
    section.rows = rows(&text, package);
    if section.rows.is_empty() {
        return Err(format!("`cargo bench --package {package}` printed no times"));
    }
    Ok(section)
}

/// `name  time:   [1.0 ms 1.1 ms 1.2 ms]`; a long name stands on the line before.
fn rows(text: &str, package: &str) -> Vec<Vec<String>> {
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
                    format!("`cargo bench -p {package}`"),
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
        let rows = rows(text, "blob-core");
        assert_eq!(rows[0][..3], ["open/10k", "1.1 ms", "1.0 ms – 1.2 ms"]);
        assert_eq!(rows[1][..3], ["lookup/a_rather_long_name", "101.5 ns", "99.0 ns – 1.1 µs"]);
        assert_eq!(rows.len(), 2);
    }
}
