//! The result of a comparison, as JSON and as Markdown.

use super::scenario::{Figures, Load};
use crate::latency::{Spread, short};
use crate::machine::Machine;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A server in the result.
#[derive(Debug, Serialize)]
pub struct Contender {
    /// Its name.
    pub name: &'static str,
    /// Its version and what it promises when it acknowledges.
    pub about: String,
    /// Seconds until it served, with an empty folder.
    pub start_s: f64,
    /// Each round.
    pub rounds: Vec<Figures>,
}

/// A whole comparison.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The program and its arguments.
    pub command: String,
    /// The commit that was measured.
    pub commit: String,
    /// When.
    pub date: String,
    /// Where.
    pub machine: Machine,
    /// CPUs of the servers and of the generator.
    pub pinning: String,
    /// The load.
    pub load: Load,
    /// The servers; the first one is what the others are compared to.
    pub contenders: Vec<Contender>,
    /// Medians with extremes, by server and figure.
    pub summary: BTreeMap<&'static str, BTreeMap<&'static str, Spread>>,
    /// Each server's figures divided by the first one's, within a round.
    pub ratios: BTreeMap<&'static str, BTreeMap<&'static str, Spread>>,
}

impl Comparison {
    /// Computes summary and ratios.
    pub fn sum_up(&mut self) {
        let Some((first, others)) = self.contenders.split_first() else { return };
        for contender in &self.contenders {
            self.summary.insert(contender.name, spreads(&contender.rounds, None));
        }
        for other in others {
            self.ratios.insert(other.name, spreads(&other.rounds, Some(&first.rounds)));
        }
    }

    /// The result for readers.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        let machine = &self.machine;
        let _ = writeln!(out, "# Side by side, {}\n", self.date);
        let _ = writeln!(out, "- commit `{}`, command `{}`", self.commit, self.command);
        let _ = writeln!(
            out,
            "- {} x {}, {} GiB, Linux {}, {}; load average {} at the start",
            machine.cores, machine.cpu, machine.memory_gib, machine.kernel, machine.file_system, machine.load_at_start
        );
        let _ = writeln!(out, "- {}", self.pinning);
        let load = &self.load;
        let _ = writeln!(
            out,
            "- {} rounds of {} MB, warmed with {} MB; records of {} bytes in batches of {}, acks=all, {} partitions, {} \
             connections with {} requests in flight; fetched {} times over {} connections",
            self.contenders.first().map_or(0, |contender| contender.rounds.len()),
            load.round_bytes / 1_000_000,
            load.warm_bytes / 1_000_000,
            load.record_bytes,
            load.batch_bytes,
            load.partitions,
            load.connections,
            load.in_flight,
            load.fetch_passes,
            load.fetch_connections
        );
        for contender in &self.contenders {
            let _ = writeln!(out, "- {}: {}; empty start {:.2} s", contender.name, contender.about, contender.start_s);
        }
        let _ = writeln!(out, "\nMedian (smallest-largest) of the rounds; ratios are taken within a round.\n");
        let names = self.contenders.iter().map(|contender| contender.name);
        let base = self.contenders.first().map_or("", |contender| contender.name);
        let ratio_names = self.ratios.keys().map(|name| format!("{name} / {base}"));
        let head: Vec<String> = names.clone().map(str::to_owned).chain(ratio_names).collect();
        let _ = writeln!(out, "| | {} |\n| --- |{}", head.join(" | "), " --- |".repeat(head.len()));
        for figure in self.figures() {
            let of = |group: &BTreeMap<&'static str, BTreeMap<&'static str, Spread>>, name: &str| {
                group.get(name).and_then(|figures| figures.get(figure)).map_or_else(String::new, Spread::to_string)
            };
            let values = names.clone().map(|name| of(&self.summary, name));
            let ratios = self.ratios.keys().map(|name| of(&self.ratios, name));
            let cells: Vec<String> = values.chain(ratios).collect();
            let _ = writeln!(out, "| {figure} | {} |", cells.join(" | "));
        }
        out
    }

    fn figures(&self) -> Vec<&'static str> {
        let round = self.contenders.iter().find_map(|contender| contender.rounds.first());
        round.map_or_else(Vec::new, |round| round.rows().map(|(name, _)| name).to_vec())
    }
}

/// Spreads of every figure, divided by that of the same round in `base`.
fn spreads(rounds: &[Figures], base: Option<&[Figures]>) -> BTreeMap<&'static str, Spread> {
    let mut values: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for (at, round) in rounds.iter().enumerate() {
        let below = base.and_then(|base| base.get(at)).map(Figures::rows);
        for (row, (name, value)) in round.rows().into_iter().enumerate() {
            let divisor = below.map_or(1.0, |rows| rows[row].1);
            if divisor != 0.0 {
                values.entry(name).or_default().push(value / divisor);
            }
        }
    }
    values.into_iter().map(|(name, values)| (name, Spread::of(values))).collect()
}

/// One line about a round, for whoever watches.
#[must_use]
pub fn line(name: &str, round: usize, figures: &Figures) -> String {
    format!(
        "round {round} {name}: produce {} CPU s/GB, {} MB/s; fetch {} CPU s/GB, {} MB/s",
        short(figures.produce_cpu_s_per_gb),
        short(figures.produce_mb_per_s),
        short(figures.fetch_cpu_s_per_gb),
        short(figures.fetch_mb_per_s)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(cpu: f64) -> Figures {
        Figures {
            produce_cpu_s_per_gb: cpu,
            produce_cpu_s_per_gb_unsettled: cpu,
            produce_mb_per_s: 1.0,
            produce_p50_ms: 1.0,
            produce_p99_ms: 1.0,
            fetch_cpu_s_per_gb: 0.0,
            fetch_mb_per_s: 1.0,
            ping_p50_ms: 1.0,
            ping_p99_ms: 1.0,
            anonymous_mb: 1.0,
            generator_cpu_s: 1.0,
            load: 1.0,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let base = [round(1.0), round(10.0), round(4.0)];
        let other = [round(0.5), round(20.0), round(1.0)];
        let ratios = spreads(&other, Some(&base));
        let cpu = ratios["produce: server CPU s/GB"];
        assert_eq!((cpu.median, cpu.min, cpu.max), (0.5, 0.25, 2.0));
        // Nothing can be said about a figure that is zero in the base.
        assert!(!ratios.contains_key("fetch: server CPU s/GB"));
    }
}
