//! Repeated runs, summed up as medians with extremes, as JSON and as a table.

use crate::latency::{Percentiles, Spread, short};
use crate::machine::Machine;
use serde::Serialize;
use std::collections::BTreeMap;

/// One run of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Acknowledged records per second.
    pub acks_per_s: f64,
    /// Record bytes per second, in MB (10^6).
    pub mb_per_s: f64,
    /// Durable rounds per second.
    pub rounds_per_s: f64,
    /// Mean records in a round.
    pub records_per_round: f64,
    /// Latency of an acknowledgement.
    pub latency: Percentiles,
    /// CPU seconds for a million acknowledgements.
    pub cpu_s_per_million_acks: f64,
    /// CPU seconds for 10^9 record bytes.
    pub cpu_s_per_gb: f64,
    /// Bytes that the process caused to be written, for each record byte.
    pub own_bytes_per_byte: f64,
    /// Bytes that the device took (from anybody), for each record byte.
    pub device_bytes_per_byte: Option<f64>,
    /// CPUs that other processes kept busy in user space during the run.
    pub others_cpus: f64,
}

/// All runs of one case.
#[derive(Debug, Serialize)]
pub struct Case {
    /// What was varied, in the order of the columns.
    pub name: Vec<String>,
    /// Medians with extremes, by figure.
    pub summary: BTreeMap<&'static str, Spread>,
    /// Each run.
    pub runs: Vec<Run>,
}

/// A whole measurement.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was measured.
    pub title: String,
    /// The program and its arguments.
    pub command: String,
    /// The commit that was measured.
    pub commit: String,
    /// Where.
    pub machine: Machine,
    /// Settings that every case shares.
    pub settings: BTreeMap<&'static str, String>,
    /// Names of what is varied.
    pub varied: Vec<&'static str>,
    /// The cases.
    pub cases: Vec<Case>,
}

impl Case {
    /// A case without runs.
    #[must_use]
    pub fn new(name: Vec<String>) -> Self {
        Self { name, summary: BTreeMap::new(), runs: Vec::new() }
    }

    /// Computes the summary.
    pub fn sum_up(&mut self) {
        let mut put =
            |key, pick: &dyn Fn(&Run) -> f64| self.summary.insert(key, Spread::of(self.runs.iter().map(pick)));
        put("acks_per_s", &|run| run.acks_per_s);
        put("mb_per_s", &|run| run.mb_per_s);
        put("rounds_per_s", &|run| run.rounds_per_s);
        put("records_per_round", &|run| run.records_per_round);
        put("p50_us", &|run| run.latency.p50_us);
        put("p99_us", &|run| run.latency.p99_us);
        put("p999_us", &|run| run.latency.p999_us);
        put("cpu_s_per_million_acks", &|run| run.cpu_s_per_million_acks);
        put("cpu_s_per_gb", &|run| run.cpu_s_per_gb);
        put("own_bytes_per_byte", &|run| run.own_bytes_per_byte);
        put("device_bytes_per_byte", &|run| run.device_bytes_per_byte.unwrap_or(0.0));
        put("others_cpus", &|run| run.others_cpus);
    }
}

impl Report {
    /// A Markdown table with `columns` (keys of the summary): medians, with the extremes of the rates and of CPU per byte.
    #[must_use]
    pub fn table(&self, columns: &[&'static str]) -> String {
        let mut out = String::new();
        let head: Vec<&str> = self.varied.iter().chain(columns).copied().collect();
        out.push_str(&format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len())));
        for case in &self.cases {
            let figures = columns.iter().map(|&column| {
                let spread = case.summary.get(column).copied().unwrap_or_default();
                let whole = matches!(column, "acks_per_s" | "cpu_s_per_gb");
                if whole { spread.to_string() } else { short(spread.median) }
            });
            let cells: Vec<String> = case.name.iter().cloned().chain(figures).collect();
            out.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        out
    }
}
