//! `table`: what a template writes, in columns where it has tabs, under headings from the names of its fields.

use super::tree::{Call, Node, Source};

/// What stands over the columns: the template with the names of fields in the place of what they are.
pub(super) fn headings(nodes: &[Node]) -> String {
    let heading = |node: &Node| match node {
        Node::Text(text) => text.replace('\n', ""),
        Node::Pipe(pipe) if pipe.names.is_empty() => field(&pipe.calls).map_or_else(String::new, in_capitals),
        Node::Choose(arms, _) => arms.first().map_or_else(String::new, |arm| headings(&arm.body)),
        // Over a list at the top the columns are those of its items.
        Node::Range(_, body, _) if body.iter().any(|node| matches!(node, Node::Text(text) if text.contains('\t'))) => {
            headings(body)
        }
        Node::Range(pipe, ..) => field(&pipe.calls).map_or_else(String::new, in_capitals),
        _ => String::new(),
    };
    nodes.iter().map(heading).collect()
}

/// The last name of the first field that is asked for.
fn field(calls: &[Call]) -> Option<&str> {
    calls.iter().flat_map(|call| &call.operands).find_map(|operand| match &operand.source {
        Source::Calls(calls) if operand.fields.is_empty() => field(calls),
        _ => operand.fields.last().map(String::as_str),
    })
}

/// `file_count` and `FileCount` are `FILE COUNT`.
fn in_capitals(name: &str) -> String {
    let mut heading = String::new();
    let mut small = false;
    for letter in name.chars() {
        if letter.is_uppercase() && small {
            heading.push(' ');
        }
        small = letter.is_lowercase();
        heading.extend(if letter == '_' { ' ' } else { letter }.to_uppercase());
    }
    heading
}

/// `headings` and the lines of `text`, with what is between tabs in columns two spaces apart.
pub(super) fn aligned(headings: &str, text: &str) -> String {
    let rows: Vec<Vec<&str>> =
        std::iter::once(headings).chain(text.lines()).map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &Vec<&str>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
