//! Decision 0001: how WAL rounds are written.

use super::calm::Gate;
use super::commit::{self, Setup};
use super::device::{Method, create_file};
use super::load::Plan;
use super::report::{Case, Run};
use crate::machine;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What this measurement varies.
pub const VARIED: [&str; 4] = ["bytes", "writers", "file", "method"];
/// What its table shows.
pub const COLUMNS: [&str; 8] = [
    "acks_per_s",
    "mb_per_s",
    "p50_us",
    "p99_us",
    "p999_us",
    "cpu_s_per_million_acks",
    "cpu_s_per_gb",
    "records_per_round",
];

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Measured time of a run.
    pub measured: Duration,
    /// Ignored time before it.
    pub warm_up: Duration,
    /// How often every case runs.
    pub repeats: usize,
}

/// The methods, the baseline first.
const METHODS: [Method; 9] = [
    Method::Null,
    Method::Fdatasync,
    Method::Dsync,
    Method::Direct,
    Method::Uring(1),
    Method::Uring(2),
    Method::Uring(4),
    Method::UringEager(2),
    Method::UringEager(4),
];

/// Size of the WAL file.
pub const WAL_BYTES: u64 = 512 << 20;
/// A record of one kilobyte and a batch of 64.
const RECORD_BYTES: [usize; 2] = [1 << 10, 64 << 10];
const WRITERS: [usize; 4] = [1, 8, 64, 512];

/// Runs every case `repeats` times, interleaved: the whole list, then again in the other direction, so that drift and noise
/// fall on all alike. Cases whose name does not contain `only` are left out.
pub fn measure(
    dir: &Path,
    effort: Effort,
    round_bytes_max: usize,
    only: &str,
    gate: &mut Gate,
) -> io::Result<Vec<Case>> {
    let mut keys = Vec::new();
    for record_bytes in RECORD_BYTES {
        for writers in WRITERS {
            for zeroed in [true, false] {
                keys.extend(METHODS.map(|method| (record_bytes, writers, zeroed, method)));
            }
        }
    }
    // Without writes the file makes no difference.
    keys.retain(|&(_, _, zeroed, method)| zeroed || method != Method::Null);
    let mut cases: Vec<Case> = keys
        .iter()
        .map(|&(record_bytes, writers, zeroed, method)| {
            let file = if zeroed { "zeroed" } else { "allocated" };
            Case::new(vec![record_bytes.to_string(), writers.to_string(), file.into(), method.name()])
        })
        .collect();
    let wanted: Vec<usize> = (0..cases.len()).filter(|&at| cases[at].name.join(" ").contains(only)).collect();
    let zeroed_paths = [dir.join("wal-cached"), dir.join("wal-direct")];
    for (path, direct) in zeroed_paths.iter().zip([false, true]) {
        create_file(path, WAL_BYTES, true, direct)?;
    }
    for repeat in 0..effort.repeats {
        let mut order = wanted.clone();
        if repeat % 2 == 1 {
            order.reverse();
        }
        let mut todo = VecDeque::from(order);
        while let Some(&at) = todo.front() {
            let (record_bytes, writers, zeroed, method) = keys[at];
            let path =
                if zeroed { zeroed_paths[usize::from(method.is_direct())].clone() } else { dir.join("wal-allocated") };
            if !zeroed {
                create_file(&path, WAL_BYTES, false, method.is_direct())?;
            }
            let setup = Setup {
                wal: &path,
                wal_bytes: WAL_BYTES,
                // A second pass over a merely allocated file would find it written.
                recycle: zeroed,
                method,
                record_bytes,
                round_bytes_max,
                segments: None,
            };
            let plan = Plan { writers, partitions: 1, warm_up: effort.warm_up, measured: effort.measured };
            gate.wait();
            let run = one(dir, setup, plan)?;
            if !zeroed {
                std::fs::remove_file(&path)?;
            }
            if gate.accepts(run.others_cpus) {
                cases[at].runs.push(run);
                todo.pop_front();
            }
        }
        eprintln!("methods: round {} of {} done", repeat + 1, effort.repeats);
    }
    zeroed_paths.iter().try_for_each(std::fs::remove_file)?;
    cases.retain(|case| !case.runs.is_empty());
    cases.iter_mut().for_each(Case::sum_up);
    Ok(cases)
}

/// Runs one case once.
pub fn one(dir: &Path, setup: Setup<'_>, plan: Plan) -> io::Result<Run> {
    let record_bytes = setup.record_bytes;
    let (own, device) = (machine::own_bytes_written(), machine::device_bytes_written(dir));
    let measured = commit::run(setup, plan)?;
    let own = machine::own_bytes_written() - own;
    let device = machine::device_bytes_written(dir).zip(device).map(|(to, from)| to - from);
    let seconds = measured.load.elapsed.as_secs_f64().max(1e-9);
    let acks = measured.load.acks as f64;
    let bytes = acks * record_bytes as f64;
    // The bytes on the device are those of the whole run, warm-up included.
    let all_bytes = (measured.records_per_round * measured.rounds as f64 * record_bytes as f64).max(1.0);
    Ok(Run {
        acks_per_s: acks / seconds,
        mb_per_s: bytes / seconds / 1e6,
        rounds_per_s: acks / measured.records_per_round.max(1.0) / seconds,
        records_per_round: measured.records_per_round,
        latency: measured.load.latencies.percentiles(),
        cpu_s_per_million_acks: measured.cpu_s / acks.max(1.0) * 1e6,
        cpu_s_per_gb: measured.cpu_s / bytes.max(1.0) * 1e9,
        own_bytes_per_byte: own as f64 / all_bytes,
        device_bytes_per_byte: device.map(|bytes| bytes as f64 / all_bytes),
        others_cpus: measured.others_cpus,
    })
}
