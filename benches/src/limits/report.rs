//! What was found, as JSON and as Markdown tables.

use super::Figure;
use crate::latency::{Spread, short};
use crate::report::About;
use serde::Serialize;
use std::collections::BTreeMap;

/// A whole measurement.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where and how.
    #[serde(flatten)]
    pub about: About,
    /// How.
    pub settings: BTreeMap<&'static str, String>,
    /// CPUs that other processes kept busy in user space meanwhile.
    pub others_cpus: f64,
    /// What was found.
    pub sections: Vec<Section>,
}

/// One part of it.
#[derive(Debug, Serialize)]
pub struct Section {
    /// What was measured.
    pub title: &'static str,
    /// Its columns, each with its unit.
    pub columns: Vec<&'static str>,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct Row {
    /// In words.
    pub what: String,
    /// What was found of it.
    pub cells: Vec<Cell>,
}

/// What was found in the column of that name.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The column.
    pub column: &'static str,
    /// Median, least and greatest of the rounds.
    #[serde(flatten)]
    pub spread: Spread,
    /// Each round.
    pub rounds: Vec<f64>,
}

impl Section {
    pub(super) fn new(title: &'static str) -> Section {
        Section { title, columns: Vec::new(), rows: Vec::new() }
    }

    /// Makes room for what comes.
    pub(super) fn expect(&mut self, figures: &[Figure]) {
        for figure in figures {
            self.cell(&figure.what, figure.column);
        }
    }

    pub(super) fn add(&mut self, figures: Vec<Figure>) {
        for figure in figures {
            self.cell(&figure.what, figure.column).rounds.push(figure.value);
        }
    }

    pub(super) fn sum_up(&mut self) {
        for cell in self.rows.iter_mut().flat_map(|row| &mut row.cells) {
            cell.spread = Spread::of(cell.rounds.iter().copied());
        }
    }

    fn cell(&mut self, what: &str, column: &'static str) -> &mut Cell {
        if !self.columns.contains(&column) {
            self.columns.push(column);
        }
        let row = self.rows.iter().position(|row| row.what == what).unwrap_or_else(|| {
            self.rows.push(Row { what: what.to_owned(), cells: Vec::new() });
            self.rows.len() - 1
        });
        let cells = &mut self.rows[row].cells;
        let cell = cells.iter().position(|cell| cell.column == column).unwrap_or_else(|| {
            cells.push(Cell { column, spread: Spread::default(), rounds: Vec::new() });
            cells.len() - 1
        });
        &mut cells[cell]
    }

    /// A Markdown table: a row for each thing that was done.
    fn table(&self) -> String {
        let mut out = format!(
            "| {} | {} |\n| --- |{}\n",
            self.title,
            self.columns.join(" | "),
            " --- |".repeat(self.columns.len())
        );
        for row in &self.rows {
            let cells = self.columns.iter().map(|column| {
                let cell = row.cells.iter().find(|cell| cell.column == *column && !cell.rounds.is_empty());
                cell.map_or_else(String::new, |cell| cell.spread.to_string())
            });
            out.push_str(&format!("| {} | {} |\n", row.what, cells.collect::<Vec<_>>().join(" | ")));
        }
        out
    }
}

impl Report {
    /// The tables alone.
    #[must_use]
    pub fn tables(&self) -> String {
        self.sections.iter().map(Section::table).collect::<Vec<_>>().join("\n")
    }

    /// The result for readers.
    #[must_use]
    pub fn markdown(&self) -> String {
        let settings: Vec<String> = self.settings.iter().map(|(key, value)| format!("{key} {value}")).collect();
        format!(
            "# Limits of the machine, {}\n\n{}- other processes kept {} CPUs busy in user space meanwhile\n- {}\n\nMedian (least-greatest) of \
             the rounds.\n\n{}",
            self.about.date,
            self.about.markdown(),
            short(self.others_cpus),
            settings.join("; "),
            self.tables()
        )
    }
}
