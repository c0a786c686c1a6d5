//! A disk that is full: producers are refused before it is, everything that drains it still passes, and then they come again.

use crate::batches::Recipe;
use crate::draw::Draw;
use crate::random;
use crate::state::Key;
use crate::stops::{Lookout, When};
use crate::world::{Config, End, Step, World};
use headwater_engine::env::Disk;
use std::time::Duration;

const RESERVE: u64 = 512 << 10;

/// A machine with this much room besides the reserve, once it is open.
fn machine(seed: u64, room: u64) -> Step<World> {
    // Slots that hold a whole round, as in earnest: else every large round would need a slot of its own.
    let (wal_size_initial, wal_size_max) = (3 << 20, 6 << 20);
    let config = Config { disk_reserve_bytes: RESERVE, wal_size_initial, wal_size_max, ..Config::new(seed) };
    let mut world = World::new(config, Lookout::new(seed, When::Never))?;
    limit(&mut world, room)?;
    Ok(world)
}

fn limit(world: &mut World, room: u64) -> Step {
    world.disk.set_capacity(1 << 40);
    let free = world.disk.free_bytes().map_err(|error| error.to_string())?;
    world.disk.set_capacity((1 << 40) - free + RESERVE + room);
    world.tend()
}

fn append(world: &mut World, key: Key, index: usize, size: u64) -> Step<bool> {
    let recipe = Recipe { value_size: size, ..Recipe::small(world.now(), world.salt()) };
    world.append(key, index, &recipe)
}

/// Appends until producers are refused.
fn fill(world: &mut World, key: Key, partitions: usize, size: u64) -> Step {
    for number in 0..100_000 {
        if !append(world, key, number % partitions, size)? {
            world.drain()?;
            world.tend()?;
            if !append(world, key, number % partitions, size)? {
                return world.drain();
            }
        }
        if number % 5 == 0 {
            world.commit()?;
        }
    }
    Err(End::Wrong("the disk does not become full".to_owned()))
}

/// Whether a producer is served, after everything in the background was done.
fn serves(world: &mut World, key: Key) -> Step<bool> {
    world.checkpoint()?;
    world.tend()?;
    let queued = append(world, key, 0, 100)?;
    world.drain()?;
    Ok(queued)
}

fn must<T>(step: Step<T>) -> T {
    step.unwrap_or_else(|end| panic!("{end:?}"))
}

/// A full disk, filled through some partitions; then `drain` frees space.
fn drained_by(seed: u64, partitions: usize, settings: &[(&str, &str)], drain: impl FnOnce(&mut World) -> Step) {
    must((|| {
        let mut world = machine(seed, 1 << 20)?;
        let settings = [&[("segment.bytes", "60000")], settings].concat();
        world.create("orders", partitions as u32, &settings);
        world.create("other", 1, &[]);
        world.drain()?;
        append(&mut world, 1, 0, 100)?;
        fill(&mut world, 0, partitions, 3_000)?;
        fill(&mut world, 0, partitions, 10)?;
        assert!(!serves(&mut world, 1)?, "producers of every topic are refused");
        assert!(world.engine.stats().is_disk_short);
        // The catalogue still changes, and producer ids are given.
        world.create("one.more", 1, &[]);
        world.new_producer();
        world.drain()?;
        drain(&mut world)?;
        assert!(serves(&mut world, 1)?, "producers are served again");
        assert!(!world.engine.stats().is_disk_short);
        let frozen = world.freeze()?;
        let engine = frozen.open(&frozen.disk).map_err(|error| error.to_string())?;
        frozen.due.find(&engine)?;
        Ok(())
    })());
}

#[test]
fn a_full_disk_is_drained_by_deleting_records() {
    for partitions in [1, 7] {
        drained_by(31, partitions, &[], |world| {
            for index in 0..partitions {
                world.delete_records(0, index, None)?;
            }
            Ok(())
        });
    }
}

#[test]
fn a_full_disk_is_drained_by_deleting_a_topic() {
    drained_by(32, 3, &[], |world| {
        world.delete(0);
        Ok(())
    });
}

#[test]
fn a_full_disk_is_drained_by_retention() {
    drained_by(33, 3, &[("retention.ms", "60000")], |world| {
        world.clock.advance(Duration::from_secs(100));
        world.retain();
        Ok(())
    });
}

/// Consumers that drain a full disk commit their offsets meanwhile. What they write has a bound too: were the whole reserve
/// theirs, a stream of commits would end the server.
#[test]
fn the_servers_own_records_pass_on_half_of_the_reserve() {
    must((|| {
        let mut world = machine(36, 1 << 20)?;
        world.create("orders", 1, &[("segment.bytes", "60000")]);
        world.create("__consumer_offsets", 1, &[("segment.bytes", "60000")]);
        world.drain()?;
        fill(&mut world, 0, 1, 3_000)?;
        fill(&mut world, 0, 1, 10)?;
        assert!(!serves(&mut world, 0)?, "producers are refused");
        assert!(serves(&mut world, 1)?, "offset commits pass");
        fill(&mut world, 1, 1, 1_000)?;
        let free = world.disk.free_bytes().map_err(|error| error.to_string())?;
        assert!((RESERVE / 4..RESERVE).contains(&free), "{free} bytes are left of a reserve of {RESERVE}");
        assert!(!serves(&mut world, 0)?);
        world.delete_records(0, 0, None)?;
        assert!(serves(&mut world, 0)? && serves(&mut world, 1)?, "everybody is served again");
        world.end()
    })());
}

/// Every partition reserves room ahead of what it writes. That must not eat what is kept for draining.
#[test]
fn many_partitions_do_not_eat_the_reserve() {
    must((|| {
        let mut world = machine(34, 1 << 20)?;
        world.create("orders", 60, &[]);
        world.drain()?;
        fill(&mut world, 0, 60, 50)?;
        let free = world.disk.free_bytes().map_err(|error| error.to_string())?;
        assert!(free > RESERVE / 2, "{free} bytes are left of a reserve of {RESERVE}");
        world.checkpoint()?;
        world.delete(0);
        world.create("other", 1, &[]);
        world.drain()?;
        assert!(serves(&mut world, 1)?);
        Ok(())
    })());
}

/// A batch that no slot of the WAL holds needs a larger one. On a short disk it must not block those who drain it.
#[test]
fn a_batch_larger_than_any_wal_slot_does_not_block_a_full_disk() {
    must((|| {
        let mut world = machine(35, 8 << 20)?;
        world.create("orders", 1, &[("segment.bytes", "60000")]);
        world.drain()?;
        append(&mut world, 0, 0, 1_000)?;
        world.drain()?;
        assert!(append(&mut world, 0, 0, 1_000_000)?, "there is room for the batch");
        // Room for the batch and for a slot, but only at the price of the reserve.
        limit(&mut world, 4 << 20)?;
        world.delete_records(0, 0, Some(2))?;
        world.drain()?;
        world.delete_records(0, 0, None)?;
        assert!(serves(&mut world, 0)?);
        Ok(())
    })());
}

#[test]
fn random_runs_on_a_small_disk_never_fail() {
    for seed in 0..if crate::is_long() { 200 } else { 10 } {
        let draw = Draw::new(seed);
        let outcome = (|| {
            let mut world = machine(seed, draw.within(100 << 10..=1 << 20))?;
            for _ in 0..1_000 {
                world = random::act(world, &draw)?;
            }
            world.drain()?;
            world.end()
        })();
        if let Err(end) = outcome {
            panic!("seed {seed}: {end:?}");
        }
    }
}
