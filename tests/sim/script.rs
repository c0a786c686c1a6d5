//! A scripted run that uses everything, run again for every operation of the disk, each time stopped after that one.

use crate::batches::Recipe;
use crate::ensure;
use crate::stops::{Lookout, When, message};
use crate::world::{Config, End, Step, World};
use headwater_engine::batch::Codec;
use headwater_engine::{Durability, Offset, ReadRequest};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Images of power cuts looked at for each stop, besides that of a kill.
const IMAGES: u64 = 4;

fn append(world: &mut World, key: usize, index: usize, change: impl FnOnce(&mut Recipe)) -> Step {
    let mut recipe = Recipe::small(world.now(), world.salt());
    change(&mut recipe);
    let queued = world.append(key, index, &recipe)?;
    ensure!(queued, "the batch was refused");
    Ok(())
}

/// Appends one by one, each in a round of its own, with the background at work.
fn append_rounds(world: &mut World, key: usize, count: usize, size: u64) -> Step {
    for _ in 0..count {
        append(world, key, 0, |recipe| recipe.value_size = size)?;
        world.commit()?;
        world.tend()?;
    }
    world.drain()
}

pub fn read_everything(world: &mut World) -> Step {
    let partitions: Vec<(usize, usize, i64)> = {
        let model = world.model();
        let partitions = |key: usize, topic: &crate::state::TopicState| {
            let ends = topic.partitions.iter().map(|partition| partition.next);
            ends.enumerate().map(move |(index, next)| (key, index, next)).collect::<Vec<_>>()
        };
        model.published.topics.iter().flat_map(|(key, topic)| partitions(*key, topic)).collect()
    };
    for (key, index, next) in partitions {
        for from in 0..=next {
            let request =
                ReadRequest { from: Offset(from), bytes_max: 1 << 20, at_least_one: true, stable_only: false };
            world.read(key, index, &request)?;
        }
        let now = world.now();
        world.find_time(key, index, now - 5_000)?;
    }
    Ok(())
}

/// Uses everything once.
pub fn script(mut world: World) -> Step<World> {
    // Topics 0 and 1: one with tiny segments, one with retention.
    world.create("orders", 2, &[("segment.bytes", "700"), ("retention.bytes", "3000")]);
    world.create("audit", 1, &[("retention.ms", "60000"), ("headwater.durability", "fsync")]);
    world.create("orders", 5, &[]);
    world.drain()?;
    world.create("audit", 1, &[]);

    // Several batches in one round, then rounds in flight together.
    for index in [0, 1, 0] {
        append(&mut world, 0, index, |_| ())?;
    }
    append(&mut world, 1, 0, |recipe| recipe.codec = Codec::Zstd)?;
    world.drain()?;
    for _ in 0..5 {
        append(&mut world, 0, 0, |_| ())?;
        world.commit()?;
    }
    world.drain()?;

    // An idempotent producer, and its repeats while the first is on its way and after it was answered.
    world.new_producer();
    world.drain()?;
    let id = *world.model().producers.iter().next().ok_or_else(|| "no producer id was given".to_owned())?;
    for sequence in [0, 2, 2, 4, 0] {
        append(&mut world, 1, 0, |recipe| (recipe.producer, recipe.salt) = (Some((id, 0, sequence)), 9))?;
        if sequence == 2 {
            world.commit()?;
        }
    }
    world.drain()?;
    append(&mut world, 1, 0, |recipe| (recipe.producer, recipe.salt) = (Some((id, 0, 4)), 9))?;
    world.seal()?;
    world.checkpoint()?;
    append(&mut world, 1, 0, |recipe| (recipe.producer, recipe.salt) = (Some((id, 0, 6)), 9))?;
    world.drain()?;

    // A checkpoint with rounds between its steps.
    world.begin_checkpoint();
    loop {
        append(&mut world, 0, 1, |_| ())?;
        world.commit()?;
        if !world.step_checkpoint()? {
            break;
        }
    }
    world.drain()?;
    world.tend()?;

    // Records go: asked for, by size, by age; their files with the next checkpoint.
    world.delete_records(0, 1, Some(3))?;
    world.drain()?;
    world.clock.advance(Duration::from_secs(120));
    append(&mut world, 0, 0, |_| ())?;
    world.retain();
    world.drain()?;
    world.delete_records(1, 0, None)?;
    world.checkpoint()?;
    world.tend()?;
    read_everything(&mut world)?;

    // A topic is deleted with batches on their way, made again, and deleted again.
    append(&mut world, 0, 0, |_| ())?;
    world.delete(0);
    world.create("orders", 3, &[]);
    world.drain()?;
    let remade = world.model().published.by_name("orders").ok_or_else(|| "no topic was made".to_owned())?;
    append(&mut world, remade, 0, |_| ())?;
    world.add_partitions(remade, 4);
    world.drain()?;
    append(&mut world, remade, 3, |_| ())?;
    world.drain()?;

    // Settings change, two at a time; one before a checkpoint, one behind it, one whose topic is deleted on the way.
    world.alter(1, "retention.bytes", Some("100000"));
    world.alter(1, "retention.ms", None);
    world.alter(0, "retention.ms", Some("1"));
    append(&mut world, 1, 0, |_| ())?;
    world.checkpoint()?;
    world.alter(1, "segment.bytes", Some("500"));
    world.alter(remade, "segment.ms", Some("5000"));
    world.alter(remade, "segment.ms", Some("5000"));
    world.drain()?;

    // Killed, and on at once.
    let image = world.disk.kill_image();
    let mut world = world.restart(image, false)?;
    world.sweep()?;
    append(&mut world, remade, 0, |_| ())?;
    append(&mut world, 1, 0, |recipe| (recipe.producer, recipe.salt) = (Some((id, 0, 6)), 9))?;
    world.drain()?;
    world.delete(remade);
    world.create("orders", 1, &[("segment.bytes", "40000")]);
    world.drain()?;
    let last = world.model().published.by_name("orders").ok_or_else(|| "no topic was made".to_owned())?;

    // Once around the WAL, which grows; a batch larger than a round; a power cut.
    append_rounds(&mut world, last, 12, 9_000)?;
    append(&mut world, last, 0, |recipe| recipe.value_size = 600_000)?;
    world.drain()?;
    let image = world.disk.crash_image(1);
    let mut world = world.restart(image, true)?;
    read_everything(&mut world)?;
    append(&mut world, last, 0, |_| ())?;
    world.checkpoint()?;
    world.sweep()?;
    while world.scrub()? > 0 {}
    append(&mut world, last, 0, |_| ())?;
    world.drain()?;
    read_everything(&mut world)?;
    Ok(world)
}

/// What happens on a machine.
pub type Script = fn(World) -> Step<World>;

fn run(config: Config, when: When, script: Script) -> (Result<u64, String>, u64) {
    let lookout = Lookout::new(config.seed, when);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let world = script(World::new(config, lookout.clone())?)?;
        let operations = world.operations();
        world.end()?;
        Ok(operations)
    }));
    let outcome = match outcome {
        Ok(Ok(operations)) => Ok(operations),
        Ok(Err(End::Wrong(why) | End::Failed(why))) => Err(why),
        Ok(Err(End::Stopped)) => lookout.look_at_stopped(IMAGES).map(|()| 0),
        Err(panic) => Err(format!("panic: {}", message(&*panic))),
    };
    (outcome, lookout.looks())
}

/// Runs the script once undisturbed, then once for each operation.
pub fn stop_everywhere(config: &Config, script: Script, test: &str) {
    let (whole, _) = run(config.clone(), When::Never, script);
    let operations = whole.unwrap_or_else(|why| panic!("undisturbed, with {config:?}: {why}"));
    let alone =
        std::env::var("HEADWATER_SIM_STOP").ok().map(|text| text.parse().expect("HEADWATER_SIM_STOP is a number"));
    let mut looks = 0;
    for operation in alone.map_or(1..=operations, |alone: u64| alone..=alone) {
        let (outcome, looked) = run(config.clone(), When::Stop(operation), script);
        looks += looked;
        if let Err(why) = outcome {
            panic!(
                "stopped after operation {operation} of {operations}, with {config:?}: {why}\nto run this alone: HEADWATER_SIM_STOP={operation} cargo test -p headwater-tests --test sim --profile quick {test}"
            );
        }
    }
    println!("{operations} operations, {looks} images opened");
}

#[test]
fn a_scripted_run_survives_a_stop_at_every_operation() {
    stop_everywhere(&Config::new(1), script, "scripted_run");
}

#[test]
fn a_scripted_run_survives_a_stop_at_every_operation_one_wal_write_at_a_time() {
    stop_everywhere(&Config { wal_depth: 1, ..Config::new(2) }, script, "scripted_run");
}

#[test]
fn a_scripted_run_in_mode_os_loses_nothing_to_a_kill_and_is_cut_cleanly_by_a_power_cut() {
    stop_everywhere(&Config { durability: Durability::Os, ..Config::new(3) }, script, "scripted_run");
}
