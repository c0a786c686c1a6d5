//! Consumer groups by the thousand, and groups whose server is killed. Clients speak raw protocol, so that what is measured is the
//! server.
//!
//! `HEADWATER_GROUPS_BOOTSTRAP=host:port` measures another broker instead of a Headwater that the test starts, such as Apache
//! Kafka with `group.initial.rebalance.delay.ms=0`.
#![allow(clippy::disallowed_methods, reason = "these tests run real processes, by the real clock")]

mod killed;
mod member;
mod requests;
mod scale;
mod wire;

/// Below the target folder, so that it lies on a disk and not in memory.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

#[test]
fn killed_during_rebalances_and_commits_it_forgets_no_offset() {
    killed::run(if headwater_tests::is_long() { 50 } else { 4 });
}

#[test]
fn many_groups_and_a_large_one_rebalance() {
    let size = if headwater_tests::is_long() {
        scale::Size { groups: 1_000, members: 10, large: 500, partitions: 5_000 }
    } else {
        scale::Size { groups: 20, members: 5, large: 40, partitions: 400 }
    };
    scale::rebalances(&size);
}

#[test]
fn offsets_are_committed_over_many_connections() {
    let seconds = if headwater_tests::is_long() { 10 } else { 1 };
    scale::commits(100, seconds);
}
