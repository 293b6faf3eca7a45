//! The tables, and where they are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use super::measure::Runs;

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// The results of one scenario.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Section {
    pub(super) title: String,
    /// What was measured on what.
    pub(super) circumstances: String,
    pub(super) header: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
    /// Sentences below the table.
    pub(super) notes: Vec<String>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n\n{}.\n", self.title, self.circumstances)?;
        if !self.rows.is_empty() {
            writeln!(f, "| {} |\n|{}", self.header.join(" | "), "---|".repeat(self.header.len()))?;
        }
        for row in &self.rows {
            let cells: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            writeln!(f, "| {} |", cells.join(" | "))?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

/// Header of a table of timed runs; [`row`] fills it.
pub(super) const TIMED: [&str; 8] = ["work", "program", "seconds", "ratio", "limit", "CPU s", "peak MiB", "command"];

/// One row: a contender, its ratio to ours, and the ratio that ours should not exceed.
pub(super) fn row(work: &str, runs: &Runs, ours: Option<&Runs>, limit: &str) -> Vec<String> {
    let (low, high) = (runs.wall.first().copied().unwrap_or(f64::NAN), runs.wall.last().copied().unwrap_or(f64::NAN));
    vec![
        work.to_owned(),
        runs.name.to_owned(),
        format!("{:.3} [{low:.3}–{high:.3}]", runs.median()),
        ours.map(|ours| format!("{:.2}", ours.median() / runs.median())).unwrap_or_default(),
        limit.to_owned(),
        format!("{:.2}", runs.cpu),
        format!("{:.0}", runs.peak as f64 / 1024.0),
        format!("`{}`", runs.command),
    ]
}

/// Writes the section of `name` between the markers of the file; other sections stay.
pub(super) fn store(file: &Path, name: &str, section: &Section) -> Result<(), String> {
    let fail = |error| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(fail)?;
    let changed = replace(&text, name, &section.to_string());
    let changed = changed.ok_or_else(|| format!("{}: the markers {BEGIN} and {END} are missing", file.display()))?;
    fs::write(file, changed).map_err(fail)
}

fn replace(text: &str, name: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (inside, after) = rest.split_once(END)?;
    // Titles begin with the name of the scenario. P11 comes behind P8.
    let key = |name: &str| (name.len(), name.to_owned());
    let mut sections: BTreeMap<(usize, String), String> = inside
        .split("### ")
        .skip(1)
        .map(|part| {
            (key(part.split([' ', ':', '\n']).next().unwrap_or_default()), format!("### {}\n", part.trim_end()))
        })
        .collect();
    sections.insert(key(name), section.to_owned());
    let all: Vec<_> = sections.into_values().collect();
    Some(format!("{before}{BEGIN}\n\n{}\n{END}{after}", all.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_its_older_self_only() {
        let text = format!("head\n{BEGIN}\n\nNot measured yet.\n\n{END}\ntail\n");
        let four = replace(&text, "P4", "### P4: four\n\nold\n").expect("markers");
        let both = replace(&four, "P1", "### P1: one\n\nfirst\n").expect("markers");
        let again = replace(&both, "P4", "### P4: four\n\nnew\n").expect("markers");
        assert_eq!(again, format!("head\n{BEGIN}\n\n### P1: one\n\nfirst\n\n### P4: four\n\nnew\n\n{END}\ntail\n"));
        assert_eq!(replace("no markers", "P4", ""), None);
    }

    #[test]
    fn a_table_escapes_the_bars_of_pipes() {
        let runs = Runs { name: "tar", wall: vec![1.0, 2.0, 4.0], cpu: 3.0, peak: 2048, command: "tar | cat".into() };
        let ours = Runs { name: "blob", wall: vec![1.0], ..runs.clone() };
        let section = Section {
            title: "P4".into(),
            circumstances: "here".into(),
            header: TIMED.to_vec(),
            rows: vec![row("stored", &runs, Some(&ours), "≤ 1")],
            notes: vec![],
        };
        let text = section.to_string();
        let expect = "| stored | tar | 2.000 [1.000–4.000] | 0.50 | ≤ 1 | 3.00 | 2 | `tar \\| cat` |";
        assert_eq!(text.lines().last(), Some(expect), "{text}");
    }
}
