//! Decision 0002: a WAL beside segments, or synced segments alone.

use super::calm::Gate;
use super::commit::Setup;
use super::device::{Method, create_file};
use super::load::Plan;
use super::methods::{Effort, one};
use super::report::Case;
use super::segments::{Durability, Segments};
use std::collections::VecDeque;
use std::io;
use std::path::Path;

/// What this measurement varies.
pub const VARIED: [&str; 4] = ["bytes", "writers", "partitions", "way"];
/// What its table shows.
pub const COLUMNS: [&str; 9] = [
    "acks_per_s",
    "mb_per_s",
    "rounds_per_s",
    "p50_us",
    "p99_us",
    "cpu_s_per_million_acks",
    "cpu_s_per_gb",
    "own_bytes_per_byte",
    "device_bytes_per_byte",
];

/// Size of the WAL file, recycled.
pub const WAL_BYTES: u64 = 512 << 20;

const PARTITIONS: [usize; 4] = [1, 100, 1_000, 10_000];
/// Bytes of a record with the head of its batch, and how many writers have one outstanding.
const LOADS: [(usize, usize); 2] = [(1085, 2_000), (16 * 1024 + 61, 500)];

fn ways(checkpoint: Durability) -> [(&'static str, Method, Durability); 4] {
    [
        ("WAL io_uring 4 + segments", Method::Uring(4), checkpoint),
        ("WAL fdatasync + segments", Method::Fdatasync, checkpoint),
        ("segments + syncfs", Method::Null, Durability::SyncfsPerRound),
        ("segments + fdatasync each", Method::Null, Durability::FdatasyncEach),
    ]
}

/// Runs every case `repeats` times, interleaved as in [`super::methods::measure`].
pub fn measure(
    dir: &Path,
    effort: Effort,
    round_bytes_max: usize,
    only: &str,
    gate: &mut Gate,
    checkpoint: Durability,
) -> io::Result<Vec<Case>> {
    let mut keys = Vec::new();
    for (record_bytes, writers) in LOADS {
        for partitions in PARTITIONS {
            keys.extend(ways(checkpoint).map(|way| (record_bytes, writers, partitions, way)));
        }
    }
    // One sync for each file takes seconds a round from here on, so that a short run would measure nothing.
    keys.retain(|&(_, _, partitions, (.., durability))| durability != Durability::FdatasyncEach || partitions <= 100);
    let mut cases: Vec<Case> = keys
        .iter()
        .map(|&(record_bytes, writers, partitions, (name, ..))| {
            Case::new(vec![record_bytes.to_string(), writers.to_string(), partitions.to_string(), name.into()])
        })
        .collect();
    let wanted: Vec<usize> = (0..cases.len()).filter(|&at| cases[at].name.join(" ").contains(only)).collect();
    let wals = [dir.join("wal-cached"), dir.join("wal-direct")];
    for (path, direct) in wals.iter().zip([false, true]) {
        create_file(path, WAL_BYTES, true, direct)?;
    }
    for repeat in 0..effort.repeats {
        let mut order = wanted.clone();
        if repeat % 2 == 1 {
            order.reverse();
        }
        let mut todo = VecDeque::from(order);
        while let Some(&at) = todo.front() {
            let (record_bytes, writers, partitions, (_, method, durability)) = keys[at];
            let segments = Segments::create(&dir.join("segments"), partitions, durability)?;
            let setup = Setup {
                wal: &wals[usize::from(method.is_direct())],
                wal_bytes: WAL_BYTES,
                recycle: true,
                method,
                record_bytes,
                // Without a WAL a round has no block, so nothing but the writers bounds it.
                round_bytes_max: if method == Method::Null { 64 << 20 } else { round_bytes_max },
                segments: Some(segments),
            };
            let plan = Plan { writers, partitions, warm_up: effort.warm_up, measured: effort.measured };
            gate.wait();
            let run = one(dir, setup, plan)?;
            if gate.accepts(run.others_cpus) {
                cases[at].runs.push(run);
                todo.pop_front();
            }
        }
        eprintln!("partitions: round {} of {} done", repeat + 1, effort.repeats);
    }
    wals.iter().try_for_each(std::fs::remove_file)?;
    cases.retain(|case| !case.runs.is_empty());
    cases.iter_mut().for_each(Case::sum_up);
    Ok(cases)
}
