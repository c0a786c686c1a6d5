//! What the machine itself can do: the figures that any broker's are to be held against.
//!
//! - [`memory`]: copies and checksums.
//! - [`network`]: bytes through one loopback connection.
//! - [`disk`]: writes into the page cache and to the medium, and reads from it.
//! - [`answers`]: records from a file to a client, by `sendfile` or from memory, by size: evidence of decision 0007.
//! - [`buffers`]: the same bytes through socket buffers of several sizes: evidence of decision 0008.
//!
//! Every part is a list of probes. A round runs each of them once; rounds follow one another, every second one in the other
//! direction, so that drift and other work on the machine fall on all alike. What is compared is compared within a round.

pub mod answers;
pub mod buffers;
pub mod disk;
pub mod memory;
pub mod network;
mod pinned;
mod report;

pub use report::{Cell, Report, Row, Section};

use crate::machine;
use crate::report::About;
use crate::sys;
use crate::wal::calm::Gate;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Part {
    /// Copies and checksums
    Memory,
    /// Bytes through one loopback connection
    Network,
    /// Writes into the page cache and to the medium, and reads from it
    Disk,
    /// Records from a file to a client, by sendfile or from memory, by size
    Answers,
    /// Bytes through socket buffers of several sizes
    Buffers,
}

/// What is measured unless something else is asked for.
pub const USUAL: [Part; 3] = [Part::Memory, Part::Network, Part::Disk];

/// How a measurement is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A folder on the disk to measure.
    pub dir: PathBuf,
    /// What is measured.
    pub parts: Vec<Part>,
    /// How often.
    pub rounds: usize,
    /// Wait for moments at which nobody else uses the machine, and repeat what was disturbed, for so long in all.
    pub patience: Duration,
    /// A first look: an eighth of the bytes.
    pub quick: bool,
    /// The CPUs of the two threads of a connection; the first one does everything else.
    pub cpus: (usize, usize),
}

/// One value that a probe found.
pub struct Figure {
    /// What was done.
    pub what: String,
    /// What of it, with its unit.
    pub column: &'static str,
    /// The value.
    pub value: f64,
}

/// Where and how much a probe measures.
#[derive(Clone)]
pub struct Place {
    /// A folder of its own.
    pub dir: PathBuf,
    /// The CPUs.
    pub cpus: (usize, usize),
    /// Bytes that are too many for any cache.
    pub bytes: usize,
}

/// Measures something once.
pub type Probe = Box<dyn FnMut() -> io::Result<Vec<Figure>>>;

/// Measures everything that is asked for.
pub fn measure(settings: &Settings) -> io::Result<Report> {
    let dir = settings.dir.join(format!("headwater-bench-limits-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let report = measure_in(settings, &dir);
    std::fs::remove_dir_all(&dir)?;
    report
}

fn measure_in(settings: &Settings, dir: &Path) -> io::Result<Report> {
    let about = About::here(dir);
    let place =
        Place { dir: dir.to_owned(), cpus: settings.cpus, bytes: if settings.quick { 128 << 20 } else { 1 << 30 } };
    let begun = Usage::now();
    let mut gate = Gate::new(settings.patience);
    let mut parts = settings.parts.clone();
    parts.sort_unstable();
    parts.dedup();
    let mut sections = Vec::new();
    for part in parts {
        let (title, probes) = match part {
            Part::Memory => ("memory", memory::probes(&place)),
            Part::Network => ("loopback, one connection", network::probes(&place)?),
            Part::Disk => ("disk", disk::probes(&place)?),
            Part::Answers => ("answers with records of a file", answers::probes(&place)?),
            Part::Buffers => ("socket buffers", buffers::probes(&place)?),
        };
        sections.push(rounds(title, probes, settings.rounds, &mut gate)?);
    }
    let settings = BTreeMap::from([
        ("rounds", settings.rounds.to_string()),
        ("bytes", place.bytes.to_string()),
        ("disturbed_runs_kept", gate.disturbed.to_string()),
        ("cpus", format!("{}, {}", settings.cpus.0, settings.cpus.1)),
    ]);
    Ok(Report { about, settings, others_cpus: begun.others_cpus(), sections })
}

fn rounds(title: &'static str, mut probes: Vec<Probe>, rounds: usize, gate: &mut Gate) -> io::Result<Section> {
    let mut section = Section::new(title);
    // What a probe finds in its first, unmeasured run warms caches and branches; its rows stand in the order of the list.
    for probe in &mut probes {
        section.expect(&probe()?);
    }
    for round in 0..rounds {
        let order: Vec<usize> =
            if round % 2 == 0 { (0..probes.len()).collect() } else { (0..probes.len()).rev().collect() };
        for at in order {
            loop {
                gate.wait();
                let begun = Usage::now();
                let found = probes[at]()?;
                if gate.accepts(begun.others_cpus()) {
                    section.add(found);
                    break;
                }
            }
        }
        eprintln!("{title}: round {} of {rounds} done", round + 1);
    }
    section.sum_up();
    Ok(section)
}

/// How busy the machine was at a moment.
struct Usage {
    at: Instant,
    all_user_s: f64,
    own_user_s: f64,
}

impl Usage {
    fn now() -> Usage {
        Usage { at: Instant::now(), all_user_s: machine::user_cpu_s(), own_user_s: sys::cpu_time().user_s }
    }

    /// CPUs that other processes kept busy in user space since then.
    fn others_cpus(&self) -> f64 {
        let now = Usage::now();
        let others_s = now.all_user_s - self.all_user_s - (now.own_user_s - self.own_user_s);
        (others_s / (now.at - self.at).as_secs_f64().max(1e-3)).max(0.0)
    }
}

/// A figure.
fn figure(what: impl Into<String>, column: &'static str, value: f64) -> Figure {
    Figure { what: what.into(), column, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_measures_something_and_leaves_nothing_behind() {
        let dir = std::env::temp_dir().join(format!("headwater-limits-test-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let place = Place { dir: dir.clone(), cpus: (0, 0), bytes: 2 << 20 };
        for probes in [
            memory::probes(&place),
            network::probes(&place).unwrap(),
            disk::probes(&place).unwrap(),
            answers::probes(&place).unwrap(),
            buffers::probes(&place).unwrap(),
        ] {
            let section = rounds("test", probes, 1, &mut Gate::new(Duration::ZERO)).unwrap();
            assert!(!section.rows.is_empty());
            for row in &section.rows {
                for cell in &row.cells {
                    assert!(cell.spread.median.is_finite() && cell.spread.median >= 0.0, "{}: {cell:?}", row.what);
                }
            }
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
