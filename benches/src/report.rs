//! A result: printed for people, and written with everything that a reader must know to judge it.

pub mod plots;

use self::plots::{Plot, file_name};
use crate::kafka::Error;
use crate::latency::{Percentiles, short};
use crate::load::meter::Flow;
use crate::load::phase::Phase;
use crate::machine::{self, Machine};
use crate::scenario::shards::Verdict;
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where and how a result was made.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// The program and its arguments, without folders.
    pub command: String,
    /// The version of this program.
    pub version: &'static str,
    /// Its commit, where that is known.
    pub commit: Option<String>,
    /// The day.
    pub date: String,
    /// The machine that the load came from.
    pub machine: Machine,
}

impl About {
    /// Here and now; `dir` lies on the file system that matters.
    #[must_use]
    pub fn here(dir: &Path) -> Self {
        Self {
            command: command(),
            version: env!("CARGO_PKG_VERSION"),
            commit: machine::commit(),
            date: machine::today(),
            machine: Machine::describe(dir),
        }
    }

    /// Lines of Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let machine = &self.machine;
        format!(
            "- {}, version {}{}, command `{}`\n- {} x {}, {} GiB, Linux {}, {}; load average {} at the start\n",
            self.date,
            self.version,
            self.commit.as_ref().map_or_else(String::new, |commit| format!(", commit `{commit}`")),
            self.command,
            machine.cores,
            machine.cpu,
            machine.memory_gib,
            machine.kernel,
            machine.file_system,
            machine.load_at_start
        )
    }
}

/// The command line without the folders that it names, which are nobody's business.
fn command() -> String {
    let mut words = vec!["headwater".to_owned()];
    let mut args = env::args().skip(1);
    let folders = ["--dir", "--out", "--headwater", "--drop-cache"];
    while let Some(arg) = args.next() {
        if folders.contains(&arg.as_str()) {
            args.next();
        } else if !folders.iter().any(|flag| arg.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))) {
            words.push(arg);
        }
    }
    words.join(" ")
}

/// The result of one scenario on one broker.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which scenario.
    pub scenario: String,
    /// Where and how.
    #[serde(flatten)]
    pub about: About,
    /// What the broker promises when it acknowledges, as told.
    pub durability: String,
    /// The plans.
    pub settings: serde_json::Value,
    /// What was measured.
    pub phases: Vec<Phase>,
    /// What it says of shards, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

impl Report {
    /// The table, and the verdict below it, for a terminal and for Markdown alike.
    #[must_use]
    pub fn table(&self) -> String {
        let verdict = self.verdict.as_ref().map_or_else(String::new, |verdict| format!("\n{verdict}"));
        table(&self.phases) + &verdict
    }

    /// The result for readers.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}, {}\n\n{}", self.scenario, self.about.date, self.about.markdown());
        let _ = writeln!(out, "- durability: {}", self.durability);
        let _ = writeln!(out, "- settings: `{}`\n", self.settings);
        out + &self.table()
    }

    /// Writes it with its plots; see [`write`].
    pub fn write(&self, out: &Path, name: &str) -> Result<PathBuf, Error> {
        let plots = plots::of_phases(&self.scenario, &self.phases);
        write(out, &self.about.date, name, &self.markdown(), &plots, self)
    }
}

/// Writes a result into a folder, which is made when it is missing, and returns the common path of its files: `<date>-<name>.json`
/// and `.md`, and a `<date>-<name>-<plot>.svg` for each plot, which the Markdown shows.
pub fn write(
    out: &Path,
    date: &str,
    name: &str,
    markdown: &str,
    plots: &[Plot],
    all: &impl Serialize,
) -> Result<PathBuf, Error> {
    fs::create_dir_all(out)?;
    let base = file_name(&format!("{date}-{name}"));
    let mut markdown = markdown.to_owned();
    for plot in plots {
        let file = format!("{base}-{}.svg", file_name(&plot.name));
        fs::write(out.join(&file), &plot.svg)?;
        let _ = write!(markdown, "\n![{}]({file})\n", plot.title);
    }
    fs::write(out.join(format!("{base}.md")), markdown)?;
    fs::write(out.join(format!("{base}.json")), serde_json::to_vec_pretty(all).map_err(io::Error::from)?)?;
    Ok(out.join(base))
}

/// Phases as a table of Markdown.
fn table(phases: &[Phase]) -> String {
    let heads = [
        "phase",
        "traffic",
        "s",
        "MB/s",
        "records/s",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "server CPU s/GB",
        "machine CPU s/GB",
        "generator CPU s/GB",
        "anonymous MB",
    ];
    let mut rows = vec![heads.map(String::from).to_vec()];
    for phase in phases {
        for (nth, flow) in phase.flows.iter().enumerate() {
            let cost = &phase.cost;
            // Costs are the phase's, not a flow's.
            let costs = match nth {
                0 => [
                    cost.server_cpu_s_per_gb.map_or_else(|| "-".into(), short),
                    short(cost.machine_cpu_s_per_gb),
                    short(cost.generator_cpu_s_per_gb),
                    cost.server.map_or_else(|| "-".into(), |server| short(server.anonymous_mb)),
                ],
                _ => [const { String::new() }; 4],
            };
            rows.push(row(phase, flow).into_iter().chain(costs).collect());
        }
    }
    aligned(&rows)
}

fn row(phase: &Phase, flow: &Flow) -> Vec<String> {
    let Percentiles { p50_us, p90_us, p99_us, p999_us, max_us } = flow.latency;
    let mut row = vec![phase.name.clone(), flow.name.into()];
    row.extend([flow.seconds, flow.mb_per_s, flow.records_per_s].map(short));
    row.extend([p50_us, p90_us, p99_us, p999_us, max_us].map(|us| short(us / 1e3)));
    row
}

/// A Markdown table whose columns line up, the first row being its head.
#[must_use]
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0).max(3)).collect();
    let mut out = String::new();
    for (nth, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let _ = writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "));
        if nth == 0 {
            let dashes: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
            let _ = writeln!(out, "| {} |", dashes.join(" | "));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_a_table_line_up() {
        let rows = [["a", "long name"], ["1234", "x"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(aligned(&rows), "| a    | long name |\n| ---- | --------- |\n| 1234 | x         |\n");
    }
}
