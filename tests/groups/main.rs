//! Consumer groups by the thousand, and groups whose server is killed. Clients speak raw protocol, so that what is measured is the
//! server.
//!
//! `HEADWATER_GROUPS_SIZE=groups,members,large,partitions` sets another size than the two that there are.
//! `HEADWATER_GROUPS_BOOTSTRAP=host:port` measures another broker instead of a Headwater that the test starts, such as Apache
//! Kafka with `group.initial.rebalance.delay.ms=0`. It needs a file for each connection and up to three for each partition, and the test one
//! for each connection: `ulimit -n`.
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
    let asked = std::env::var("HEADWATER_GROUPS_SIZE").unwrap_or_default();
    let asked: Vec<usize> = asked.split(',').filter_map(|number| number.parse().ok()).collect();
    let [groups, members, large, partitions] = match asked[..] {
        [groups, members, large, partitions] => [groups, members, large, partitions],
        _ if headwater_tests::is_long() => [1_000, 10, 500, 5_000],
        _ => [20, 5, 40, 400],
    };
    scale::rebalances(&scale::Size { groups, members, large, partitions });
}

#[test]
fn offsets_are_committed_over_many_connections() {
    let seconds = if headwater_tests::is_long() { 10 } else { 1 };
    scale::commits(100, seconds);
}
