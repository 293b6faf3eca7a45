//! Columns.

use crate::args::Format;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A cell: what is printed, and how wide it is on screen, which colour does not count for.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    printed: String,
    width: usize,
}

impl Cell {
    /// Text without colour.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let printed = text.into();
        Self { width: printed.chars().count(), printed }
    }

    /// `text`, painted.
    pub(crate) fn painted(text: &str, paint: impl Fn(&str) -> String) -> Self {
        Self { width: text.chars().count(), printed: paint(text) }
    }

    /// The same with `text` behind it, which has no colour.
    pub(crate) fn followed_by(self, text: &str) -> Self {
        Self { width: self.width + text.chars().count(), printed: self.printed + text }
    }
}

/// Rows of cells under headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: Vec<(&'static str, Align)>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Aligned columns, two spaces apart, under headings if they are wanted. Nothing trails the last column.
    pub(crate) fn aligned(&self, headings: bool) -> String {
        let heads: Vec<Cell> = self.columns.iter().map(|(name, _)| Cell::new(*name)).collect();
        let rows = || headings.then_some(&heads).into_iter().chain(&self.rows);
        let mut widths = vec![0; self.columns.len()];
        for row in rows() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width.max(*width);
            }
        }
        let mut text = String::new();
        for row in rows() {
            for (number, (cell, (_, align))) in row.iter().zip(&self.columns).enumerate() {
                let space = " ".repeat(widths[number] - cell.width);
                let last = number + 1 == self.columns.len();
                match align {
                    Align::Left if last => text.push_str(&cell.printed),
                    Align::Left => text.extend([cell.printed.as_str(), &space]),
                    Align::Right => text.extend([space.as_str(), &cell.printed]),
                }
                text.push_str(if last { "\n" } else { "  " });
            }
        }
        text
    }

    /// As a format for programs or people has it. In text there are no headings.
    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Plain => self.tabbed(),
            Format::Csv => self.csv(),
            Format::Table => self.aligned(true),
            Format::Text | Format::Json | Format::Jsonl => self.aligned(false),
        }
    }

    /// Cells between commas, quoted where they must be (RFC 4180), under headings.
    pub(crate) fn csv(&self) -> String {
        let quoted = |text: &str| {
            let plain = !text.contains(['"', ',', '\r', '\n']);
            if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
        };
        let heads = self.columns.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(",");
        let rows =
            self.rows.iter().map(|row| row.iter().map(|cell| quoted(&cell.printed)).collect::<Vec<_>>().join(","));
        std::iter::once(heads).chain(rows).map(|line| line + "\r\n").collect()
    }

    /// Cells between tabs, without headings: for `cut` and `awk`.
    pub(crate) fn tabbed(&self) -> String {
        let lines = self.rows.iter().map(|row| {
            let cells: Vec<&str> = row.iter().map(|cell| cell.printed.as_str()).collect();
            cells.join("\t") + "\n"
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_quotes_are_quoted() {
        let mut table = Table::new(vec![("NAME", Align::Left), ("SIZE", Align::Right)]);
        table.row(vec![Cell::new("a,b \"c\""), Cell::new("7")]);
        assert_eq!(table.render(Format::Csv), "NAME,SIZE\r\n\"a,b \"\"c\"\"\",7\r\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(vec![("MODE", Align::Left), ("SIZE", Align::Right), ("NAME", Align::Left)]);
        table.row(vec![
            Cell::new("-rw-r--r--"),
            Cell::new("7"),
            Cell::painted("ä", |name| format!("\x1b[1m{name}\x1b[0m")),
        ]);
        table.row(vec![Cell::new("d"), Cell::new("1.5K"), Cell::new("bb")]);
        assert_eq!(table.aligned(false), "-rw-r--r--     7  \x1b[1mä\x1b[0m\nd           1.5K  bb\n");
        assert!(table.aligned(true).starts_with("MODE        SIZE  NAME\n"));
        assert_eq!(table.tabbed(), "-rw-r--r--\t7\t\x1b[1mä\x1b[0m\nd\t1.5K\tbb\n");
    }
}
