//! Mode `os`: what an answer does not promise, and what must hold all the same.

use crate::batches::Recipe;
use crate::draw::Draw;
use crate::state::Key;
use crate::stops::{Lookout, When};
use crate::world::{Config, Step, World};
use headwater_engine::{Durability, Offset, ReadRequest};

fn append(world: &mut World, key: Key, size: u64) -> Step {
    let recipe = Recipe {
        value_size: size,
        timestamp: world.now() + world.salt() as i64 % 1000,
        ..Recipe::small(0, world.salt())
    };
    world.append(key, 0, &recipe)?;
    world.drain()
}

fn read_from_everywhere(world: &mut World, key: Key) -> Step {
    let next = world.model().published.partition(key, 0).map_or(0, |partition| partition.next);
    for from in (0..next).rev() {
        for bytes_max in [1, 50_000] {
            world.read(
                key,
                0,
                &ReadRequest { from: Offset(from), bytes_max, at_least_one: true, stable_only: false },
            )?;
        }
    }
    for back in 0..10 {
        let at = world.now() + back * 100;
        world.find_time(key, 0, at)?;
    }
    Ok(())
}

fn config(seed: u64) -> Config {
    Config { durability: Durability::Os, wal_size_initial: 4 << 20, wal_size_max: 4 << 20, ..Config::new(seed) }
}

/// A segment is sealed and its index written; a power cut takes the roll and the last batches, but not the index. Other
/// batches then come to the segment, and the index that is there must not be taken for theirs.
#[test]
fn an_index_that_outlived_its_segments_end_is_not_used() {
    let mut survivors = 0;
    for seed in 0..60 {
        let outcome = (|| -> Step {
            let mut world = World::new(config(seed), Lookout::new(seed, When::Never))?;
            world.create("orders", 1, &[("segment.bytes", "200000")]);
            world.drain()?;
            append(&mut world, 0, 7_000)?;
            world.checkpoint()?;
            for _ in 0..12 {
                append(&mut world, 0, 9_000)?;
            }
            world.tend()?;
            let draw = Draw::new(seed);
            let image = world.disk.crash_image(draw.next());
            let has_index = image.files().iter().any(|(path, _)| path.extension().is_some_and(|ext| ext == "index"));
            let mut world = world.restart(image, true)?;
            survivors += usize::from(has_index);
            for _ in 0..14 {
                append(&mut world, 0, 5_500)?;
            }
            world.tend()?;
            world.checkpoint()?;
            let image = world.disk.kill_image();
            let mut world = world.restart(image, false)?;
            read_from_everywhere(&mut world, 0)?;
            while world.scrub()? > 0 {}
            world.end()
        })();
        if let Err(end) = outcome {
            panic!("seed {seed}: {end:?}");
        }
    }
    assert!(survivors > 5, "{survivors}");
}

/// What must be durable is, with everything before it: a catalogue change takes the unsynced batches along.
#[test]
fn a_topic_of_durability_fsync_and_the_catalogue_are_durable_on_a_server_in_mode_os() {
    for seed in 0..40 {
        let outcome = (|| -> Step {
            let mut world = World::new(config(seed), Lookout::new(seed, When::Never))?;
            world.create("loose", 1, &[]);
            world.create("tight", 1, &[("headwater.durability", "fsync")]);
            world.drain()?;
            for round in 0..6 {
                append(&mut world, 0, 300)?;
                match (seed + round) % 5 {
                    0 => append(&mut world, 1, 300)?,
                    1 => world.create(["a", "b", "c", "d", "e", "f"][round as usize], 1, &[]),
                    2 => world.delete_records(0, 0, Some(1))?,
                    3 => world.new_producer(),
                    _ => {}
                }
                world.drain()?;
            }
            // The model's floor holds all that was just answered but for the last loose batches.
            let image = world.disk.crash_image(seed);
            world.restart(image, true)?.end()
        })();
        if let Err(end) = outcome {
            panic!("seed {seed}: {end:?}");
        }
    }
}
