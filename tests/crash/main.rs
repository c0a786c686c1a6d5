//! The server as a real process: killed at random moments under load, started again on the same folder, and compared with
//! what it had acknowledged and served. Power cuts are simulated elsewhere (tests/sim); a killed process keeps its page cache.
#![allow(clippy::disallowed_methods, reason = "these tests run real processes on a real disk, by the real clock")]

mod churn;
mod model;
mod producer;
mod rounds;
mod start;
mod tail;
mod verify;

use rounds::{Plan, run};

/// Below the target folder, so that it lies on a disk and not in memory.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

#[test]
fn killed_under_load_it_keeps_what_it_acknowledged() {
    let rounds = if headwater_tests::is_long() { 200 } else { 10 };
    run(&Plan { test: "crash", rounds, ..Plan::USUAL });
}

#[test]
fn killed_with_durability_os_it_keeps_what_it_acknowledged() {
    let rounds = if headwater_tests::is_long() { 50 } else { 3 };
    run(&Plan { test: "crash-os", rounds, options: &[("--durability", "os")], ..Plan::USUAL });
}

/// Most of the log goes past the page cache, and some of it through it: after each start, and when small batches come.
#[test]
fn killed_with_durability_os_and_large_batches_it_keeps_what_it_acknowledged() {
    let rounds = if headwater_tests::is_long() { 100 } else { 5 };
    run(&Plan {
        test: "crash-os-large",
        rounds,
        options: &[("--durability", "os"), ("--log-level", "info,headwater_engine::env=debug")],
        large_share: 0.9,
        large_bytes: 108 << 20,
        logged: Some("another way"),
    });
}

#[test]
fn killed_with_the_portable_wal_it_keeps_what_it_acknowledged() {
    let rounds = if headwater_tests::is_long() { 50 } else { 3 };
    run(&Plan { test: "crash-portable", rounds, options: &[("--wal-method", "portable")], ..Plan::USUAL });
}

#[test]
fn killed_with_the_smallest_wal_it_keeps_what_it_acknowledged() {
    let rounds = if headwater_tests::is_long() { 50 } else { 3 };
    run(&Plan { test: "crash-small-wal", rounds, options: &[("--wal-size-max", "32MiB")], ..Plan::USUAL });
}
