//! Many of everything: a hundred thousand idle partitions, ten thousand that are written to at once, gigabytes behind a restart,
//! a thousand consumers that wait. Each test prints what it measured; in the long form the figures must keep their bounds, in
//! the short form only the work must be done, since a small run on a busy machine proves no time. The long form needs 20 GB of
//! free disk and some minutes.
//!
//! `HEADWATER_SCALE_PARTITIONS`, `_BYTES`, `_CONSUMERS` and `_SECONDS` set other sizes, to look for what costs.
#![allow(clippy::disallowed_methods, reason = "these tests run real processes, by the real clock")]

mod busy;
mod idle;
mod load;
mod restart;
mod usage;
mod waiting;

/// Below the target folder, so that it lies on a disk and not in memory.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// A size: what the environment says, or that of the form which is asked for.
fn size(name: &str, short: u64, long: u64) -> u64 {
    let asked = std::env::var(format!("HEADWATER_SCALE_{name}")).ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if headwater_tests::is_long() { long } else { short })
}

/// Prints a figure, and in the long form holds it to its bound. The bounds belong to the sizes of the long form.
fn figure(what: &str, value: f64, unit: &str, most: f64) {
    println!("{what}: {value:.2} {unit} (at most {most})");
    assert!(value <= most || !headwater_tests::is_long(), "{what}: {value:.2} {unit} is more than {most}");
}

#[test]
fn idle_partitions_take_little_memory_and_no_time() {
    idle::run(size("PARTITIONS", 5_000, 100_000), size("SECONDS", 1, 30), false);
}

#[test]
fn idle_partitions_with_records_take_little_memory_and_no_time() {
    idle::run(size("PARTITIONS", 1_000, 100_000), size("SECONDS", 1, 30), true);
}

#[test]
fn many_partitions_are_written_to_at_once() {
    busy::run(size("PARTITIONS", 400, 10_000), size("BYTES", 2_000_000, 20_000_000), size("SECONDS", 1, 30));
}

#[test]
fn killed_with_much_data_in_many_partitions_it_is_ready_soon() {
    restart::run(size("PARTITIONS", 1_000, 10_000), size("BYTES", 40_000_000, 10_000_000_000));
}

#[test]
fn waiting_consumers_cost_little() {
    for with_session in [false, true] {
        waiting::run(size("CONSUMERS", 100, 1_000), size("SECONDS", 1, 30), with_session);
    }
}
