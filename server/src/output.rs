//! What commands print: tables for people, JSON for programs, and nothing that breaks a pipe.

use std::io::{self, IsTerminal, Write};

/// The form of a command's result.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    #[default]
    Table,
    Json,
}

/// A result that can be shown both ways.
pub trait Report: serde::Serialize {
    /// It as a person reads it.
    fn table(&self) -> String;
}

impl Output {
    /// Prints a result on standard output.
    pub fn print(self, report: &impl Report) -> io::Result<()> {
        let text = match self {
            Output::Table => report.table(),
            Output::Json => serde_json::to_string_pretty(report)? + "\n",
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// Lines up rows under headings. A column of numbers stands to the right.
pub fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let is_number = |cell: &str| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    // A column of dashes alone is one of missing words as well as of missing numbers.
    let is_right = |column: usize| {
        let cells = || rows.iter().map(|row| row.get(column).map_or("", String::as_str));
        cells().all(is_number) && cells().any(|cell| cell != "-")
    };
    let right: Vec<bool> = (0..headings.len()).map(is_right).collect();
    let mut text = String::new();
    let headings: Vec<String> = headings.iter().map(|heading| heading.to_uppercase()).collect();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            line += &if *right { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Whether messages on standard error may be coloured.
pub fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let rows = vec![vec!["orders".to_owned(), "12".to_owned()], vec!["a".to_owned(), "3".to_owned()]];
        assert_eq!(columns(&["topic", "count"], &rows), "TOPIC   COUNT\norders     12\na           3\n");
        assert_eq!(columns(&["topic"], &[]), "TOPIC\n");
        let rows = ["-", "-12"].map(|cell| vec!["-".to_owned(), cell.to_owned()]);
        assert_eq!(columns(&["name", "lag"], &rows), "NAME  LAG\n-       -\n-     -12\n");
    }
}
