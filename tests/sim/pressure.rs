//! A WAL that is full: it grows while it may, then producers are refused, and a checkpoint lets them go on.

use crate::batches::Recipe;
use crate::draw::Draw;
use crate::random;
use crate::stops::{Lookout, When};
use crate::world::{Config, Step, World};

fn append(world: &mut World, size: u64) -> Step<bool> {
    let recipe = Recipe { value_size: size, ..Recipe::small(world.now(), world.salt()) };
    world.append(0, 0, &recipe)
}

fn must<T>(step: Step<T>) -> T {
    step.unwrap_or_else(|end| panic!("{end:?}"))
}

#[test]
fn a_full_wal_refuses_producers_until_a_checkpoint_frees_it() {
    for wal_depth in 1..=4 {
        must((|| {
            let config =
                Config { wal_depth, wal_size_max: 128 << 10, queued_commands_max: 16, ..Config::new(wal_depth as u64) };
            let mut world = World::new(config, Lookout::new(1, When::Never))?;
            world.create("orders", 1, &[]);
            world.drain()?;
            let mut accepted = 0;
            while append(&mut world, 3_000)? {
                accepted += 1;
                world.commit()?;
                world.tend()?;
            }
            assert!((10..60).contains(&accepted), "{accepted} batches of 6 KiB for 128 KiB");
            for _ in 0..100 {
                assert!(!world.commit()?, "there is no place to write to");
                world.tend()?;
            }
            assert!(world.model().waits(), "what was accepted waits");
            assert!(!append(&mut world, 10)?, "and nothing more is accepted");
            assert_eq!(world.engine.stats().wal_size, 128 << 10, "it may not grow");
            world.begin_checkpoint();
            while world.step_checkpoint()? {
                world.commit()?;
            }
            world.drain()?;
            assert!(append(&mut world, 10)?);
            world.drain()?;
            world.end()
        })());
    }
}

#[test]
fn the_wal_grows_to_its_bound_and_no_further() {
    for wal_size_max in [1 << 20, 8 << 20] {
        must((|| {
            let mut world = World::new(Config { wal_size_max, ..Config::new(2) }, Lookout::new(2, When::Never))?;
            world.create("orders", 1, &[]);
            world.drain()?;
            let mut sizes = vec![world.engine.stats().wal_size];
            for _ in 0..400 {
                append(&mut world, 3_000)?;
                world.commit()?;
                world.tend()?;
                sizes.push(world.engine.stats().wal_size);
            }
            sizes.dedup();
            assert!(sizes.len() > 4 && sizes.is_sorted(), "{sizes:?}");
            let (first, last) = (sizes[1], sizes[sizes.len() - 1]);
            assert!(first <= 256 << 10 && (900 << 10..=wal_size_max).contains(&last), "{sizes:?}");
            world.drain()?;
            // All of it is read back.
            let image = world.disk.kill_image();
            let world = world.restart(image, false)?;
            assert!(wal_size_max == 1 << 20 || world.engine.replayed_blocks() > 100);
            world.end()
        })());
    }
}

/// Only one slot is large enough for a batch, and the empty block of an idle committer is the last in it. That block changes
/// nothing, so no checkpoint was made for it, the slot was never free again, and the engine stood still.
#[test]
fn an_empty_block_does_not_hold_the_only_slot_for_ever() {
    must((|| {
        let mut world = World::new(Config { wal_size_max: 128 << 10, ..Config::new(5) }, Lookout::new(5, When::Never))?;
        world.create("orders", 1, &[]);
        world.drain()?;
        for _ in 0..3 {
            append(&mut world, 100_000)?;
            world.drain()?;
            world.checkpoint()?;
            world.seal()?;
            world.drain()?;
        }
        assert!(world.engine.stats().wal_size < 400 << 10, "it grew for the first batch only");
        let image = world.disk.crash_image(1);
        world.restart(image, true)?.end()
    })());
}

/// No crashes, but a long way: many laps of the WAL, many checkpoints and merges of them, retention at work.
#[test]
fn long_runs_agree_with_the_model() {
    let (seeds, actions) = if crate::is_long() { (60, 20_000) } else { (4, 5_000) };
    for seed in 0..seeds {
        let (outcome, _) = random::run(10_000 + seed, When::Never, actions);
        let ran = outcome.unwrap_or_else(|why| panic!("seed {}: {why}", 10_000 + seed));
        assert!(ran.operations > actions, "{ran:?}");
    }
}

/// Batches that are larger than a round, and than any slot.
#[test]
fn batches_of_every_size_find_their_place() {
    must((|| {
        let mut world = World::new(Config::new(3), Lookout::new(3, When::Never))?;
        world.create("orders", 1, &[("segment.bytes", "1000000")]);
        world.drain()?;
        let draw = Draw::new(3);
        for size in [1, 2_000, 30_000, 31_000, 60_000, 524_000, 526_000, 1_200_000, 3_000_000, 5, 2_500_000, 100] {
            append(&mut world, size)?;
            if draw.chance(0.5) {
                append(&mut world, 10)?;
            }
            world.drain()?;
        }
        let image = world.disk.crash_image(1);
        world.restart(image, true)?.end()
    })());
}
