//! The result of a comparison, as JSON and as Markdown.

use super::case::{Case, Figure, Size};
use crate::latency::Spread;
use crate::report::{About, aligned};
use serde::Serialize;
use std::fmt::Write;

/// A server in the result.
#[derive(Clone, Debug, Serialize)]
pub struct Contender {
    /// Its name.
    pub name: String,
    /// Its version and what it promises when it acknowledges.
    pub about: String,
    /// Seconds until it served, with an empty folder; unknown of one that ran before.
    pub start_s: Option<f64>,
}

/// All rounds of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Rounds {
    /// The case.
    pub case: Case,
    /// The figures of each round of each server, in the order of the servers; nothing for those that cannot run it.
    pub rounds: Vec<Vec<Vec<Figure>>>,
    /// The last round of each server, with its percentile curve and its seconds: what plots are drawn from.
    pub last: Vec<Option<crate::load::phase::Phase>>,
    /// Medians with extremes, by server and figure.
    pub summary: Vec<Vec<(&'static str, Spread)>>,
    /// Each server's figures divided by the first one's, within a round.
    pub ratios: Vec<Vec<(&'static str, Spread)>>,
}

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Where and how.
    #[serde(flatten)]
    pub about: About,
    /// CPUs of the servers and of the generator.
    pub pinning: String,
    /// How large the loads are.
    pub size: Size,
    /// Value bytes produced and fetched before the first round, over all cases.
    pub warm_bytes: u64,
    /// The servers; the first one is what the others are compared to.
    pub contenders: Vec<Contender>,
    /// What was measured.
    pub cases: Vec<Rounds>,
}

impl Rounds {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(case: Case, servers: usize) -> Self {
        let empty = || vec![Vec::new(); servers];
        Self { case, rounds: vec![Vec::new(); servers], last: vec![None; servers], summary: empty(), ratios: empty() }
    }

    /// Computes summary and ratios.
    pub fn sum_up(&mut self) {
        self.summary = self.rounds.iter().map(|rounds| spreads(rounds, None)).collect();
        let Some(first) = self.rounds.first() else { return };
        self.ratios = self.rounds.iter().map(|rounds| spreads(rounds, Some(first))).collect();
    }

    fn markdown(&self, contenders: &[Contender]) -> String {
        let ran: Vec<usize> = (0..contenders.len()).filter(|&at| !self.summary[at].is_empty()).collect();
        let base = contenders.first().map_or("", |contender| contender.name.as_str());
        let compared = || ran.iter().copied().filter(|&at| at > 0 && !self.ratios[at].is_empty());
        let mut head = vec![self.case.name.to_owned()];
        head.extend(ran.iter().map(|&at| contenders[at].name.clone()));
        head.extend(compared().map(|at| format!("{} / {base}", contenders[at].name)));
        let mut rows = vec![head];
        let names = ran.first().map_or(&[][..], |&at| &self.summary[at]);
        for (figure, _) in names {
            let of = |group: &[(&'static str, Spread)]| {
                let found = group.iter().find(|(name, _)| name == figure);
                found.map_or_else(String::new, |(_, spread)| spread.to_string())
            };
            let mut row = vec![(*figure).to_owned()];
            row.extend(ran.iter().map(|&at| of(&self.summary[at])));
            row.extend(compared().map(|at| of(&self.ratios[at])));
            rows.push(row);
        }
        aligned(&rows)
    }
}

impl Comparison {
    /// The tables.
    #[must_use]
    pub fn tables(&self) -> String {
        let tables = self.cases.iter().map(|case| case.markdown(&self.contenders));
        tables.collect::<Vec<_>>().join("\n")
    }

    /// The result for readers.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("# Side by side, {}\n\n{}", self.about.date, self.about.markdown());
        let _ = writeln!(out, "- {}", self.pinning);
        let size = &self.size;
        let rounds = self.cases.iter().flat_map(|case| case.rounds.first()).map(Vec::len).max().unwrap_or(0);
        let _ = writeln!(
            out,
            "- {rounds} rounds of {} MB, warmed with {} MB; acks=all, {} connections with {} requests in flight; fetched {} \
             times over {} connections, {}; cases on a schedule take {} s; what was produced {}",
            size.round_bytes / 1_000_000,
            self.warm_bytes / 1_000_000,
            size.producers,
            size.in_flight,
            size.passes,
            size.consumers,
            if size.cold_fetch { "not read before" } else { "read once before" },
            size.seconds,
            if size.deletes { "is deleted behind each round" } else { "stays until the end" }
        );
        for contender in &self.contenders {
            let start = contender.start_s.map_or_else(String::new, |start_s| format!("; empty start {start_s:.2} s"));
            let _ = writeln!(out, "- {}: {}{start}", contender.name, contender.about);
        }
        out += "\nMedian (least-greatest) of the rounds; ratios are taken within a round.\n\n";
        out + &self.tables()
    }
}

/// Spreads of every figure, divided by that of the same round in `base`.
fn spreads(rounds: &[Vec<Figure>], base: Option<&[Vec<Figure>]>) -> Vec<(&'static str, Spread)> {
    let Some(first) = rounds.first() else { return Vec::new() };
    let mut spreads = Vec::new();
    for (name, _) in first {
        let value = |round: &[Figure]| round.iter().find(|(of, _)| of == name).map(|(_, value)| *value);
        let values: Vec<f64> = match base {
            None => rounds.iter().filter_map(|round| value(round)).collect(),
            // Nothing can be said about a figure that is zero in the base.
            Some(base) => {
                let pairs = rounds.iter().zip(base).filter_map(|(round, base)| Some((value(round)?, value(base)?)));
                pairs.filter(|(_, below)| *below != 0.0).map(|(above, below)| above / below).collect()
            }
        };
        if !values.is_empty() {
            spreads.push((*name, Spread::of(values)));
        }
    }
    spreads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let rounds = |values: [f64; 3]| values.map(|cpu| vec![("cpu", cpu), ("zero", 0.0)]).to_vec();
        let ratios = spreads(&rounds([0.5, 20.0, 1.0]), Some(&rounds([1.0, 10.0, 4.0])));
        let (name, cpu) = ratios[0];
        assert_eq!((name, cpu.median, cpu.min, cpu.max), ("cpu", 0.5, 0.25, 2.0));
        assert_eq!(ratios.len(), 1);
    }
}
