//! Random runs: seeded requests over several topics, with the committer, checkpoints and background moved one step at a time
//! between them, and a look at what a stop would leave after every operation of the disk.

use crate::batches::Recipe;
use crate::draw::{Draw, mix};
use crate::is_long;
use crate::state::{Key, PartitionState, after};
use crate::stops::{Lookout, When, message};
use crate::world::{Config, End, Step, World};
use headwater_engine::batch::Codec;
use headwater_engine::env::sim::{FaultOp, SimDisk};
use headwater_engine::{Durability, Offset, ReadRequest, TimestampMs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NAMES: [&str; 5] = ["orders", "audit", "clicks", "_x", "t.1"];

/// The machine of a seed.
fn config(seed: u64, draw: &Draw) -> Config {
    Config {
        wal_depth: draw.within(1..=4) as usize,
        durability: if draw.chance(0.2) { Durability::Os } else { Durability::Fsync },
        wal_size_max: draw.pick(&[128 << 10, 256 << 10, 1 << 20]),
        open_files_max: draw.pick(&[4, 64]),
        cold: draw.pick(&[0.0, 0.0, 0.5]),
        queued_commands_max: draw.pick(&[8, 512]),
        compaction_map_bytes_max: draw.pick(&[1_500, 5_000, 1 << 20]),
        ..Config::new(seed)
    }
}

/// One run. Gives how many operations the disk saw, and the traces of all disks.
pub fn run(seed: u64, when: When, actions: u64) -> (Result<Ran, String>, u64) {
    run_on(SimDisk::new(seed), seed, when, actions)
}

/// The same on a disk that was prepared.
fn run_on(disk: SimDisk, seed: u64, when: When, actions: u64) -> (Result<Ran, String>, u64) {
    let draw = Draw::new(mix(seed, 1));
    let lookout = Lookout::new(seed, when);
    let config = config(seed, &draw);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut trace = 0;
        let mut world = World::new_on(disk, config, lookout.clone())?;
        for _ in 0..actions {
            let disk = world.disk.clone();
            world = act(world, &draw)?;
            if world.disk.ops() < disk.ops() {
                trace = mix(trace, disk.trace_hash());
            }
        }
        world.drain()?;
        let ran = Ran { operations: world.operations(), trace: mix(trace, world.disk.trace_hash()) };
        world.end()?;
        Ok(ran)
    }));
    let outcome = match outcome {
        Ok(Ok(ran)) => Ok(ran),
        Ok(Err(End::Wrong(why))) => Err(why),
        Ok(Err(End::Failed(_))) if when == When::End => {
            lookout.look_at_stopped(2).map(|()| Ran { operations: 0, trace: 1 })
        }
        Ok(Err(End::Stopped)) => lookout.look_at_stopped(2).map(|()| Ran { operations: 0, trace: 0 }),
        Ok(Err(End::Failed(why))) => Err(format!("the engine failed: {why}")),
        Err(panic) => Err(format!("panic: {}", message(&*panic))),
    };
    (outcome, lookout.looks())
}

/// What is known of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub operations: u64,
    pub trace: u64,
}

/// One action, chosen by the draw.
pub fn act(mut world: World, draw: &Draw) -> Step<World> {
    match draw.below(100) {
        0..=44 => append(&mut world, draw)?,
        45..=60 => {
            world.commit()?;
        }
        61..=64 => {
            for _ in 0..draw.within(1..=6) {
                world.compact()?;
                if draw.chance(0.3) {
                    world.commit()?;
                }
            }
        }
        65..=69 => read(&mut world, draw)?,
        70..=72 => {
            world.clock.advance(Duration::from_secs(draw.within(0..=30)));
            if draw.chance(0.1) {
                // Somebody sets the clock.
                let now = world.now() + draw.below(100_000) as i64 - 80_000;
                world.clock.set_wall(TimestampMs(now));
            }
            find_time(&mut world, draw)?;
        }
        73..=78 => {
            world.begin_checkpoint();
            world.step_checkpoint()?;
        }
        79..=83 => {
            world.step_checkpoint()?;
        }
        84..=86 => catalogue(&mut world, draw)?,
        87..=88 => delete_records(&mut world, draw)?,
        89..=91 => world.tend()?,
        92 => {
            world.clock.advance(Duration::from_secs(draw.within(0..=90)));
            world.retain();
        }
        93 => world.seal()?,
        94 => {
            world.sweep()?;
            // What was not touched since is not resident any more.
            world.disk.set_cold(world.config.cold);
        }
        95 => {
            world.scrub()?;
        }
        96 => world.new_producer(),
        97 => world.drain()?,
        98 => world.checkpoint()?,
        _ => {
            let is_power_cut = draw.chance(0.6);
            let image = if is_power_cut { world.disk.crash_image(draw.next()) } else { world.disk.kill_image() };
            world = world.restart(image, is_power_cut)?;
        }
    }
    Ok(world)
}

/// A topic that was made, perhaps one that is gone.
fn any_topic(world: &World, draw: &Draw) -> Option<Key> {
    let model = world.model();
    let known: Vec<Key> = model.handles.keys().copied().collect();
    let alive: Vec<Key> = known.iter().copied().filter(|key| model.decided.topics.contains_key(key)).collect();
    let from = if alive.is_empty() || draw.chance(0.03) { known } else { alive };
    (!from.is_empty()).then(|| draw.pick(&from))
}

fn any_partition(world: &World, draw: &Draw) -> Option<(Key, usize)> {
    let key = any_topic(world, draw)?;
    let count = world.model().handles.get(&key)?.partitions().len();
    Some((key, draw.below(count as u64) as usize))
}

fn catalogue(world: &mut World, draw: &Draw) -> Step {
    match draw.below(12) {
        0..=5 => create(world, draw),
        6..=7 => {
            if let Some(key) = any_topic(world, draw) {
                world.delete(key);
            }
        }
        8 => {
            if let Some(key) = any_topic(world, draw) {
                world.add_partitions(key, draw.within(1..=5) as u32);
            }
        }
        _ => {
            if let Some(key) = any_topic(world, draw) {
                alter(world, draw, key);
            }
        }
    }
    Ok(())
}

fn alter(world: &mut World, draw: &Draw, key: Key) {
    // Several at a time, so that one finds another on its way.
    for _ in 0..draw.within(1..=3) {
        let changes: [(&str, &[&str]); 7] = [
            ("segment.bytes", &["300", "2000", "1000000"]),
            ("segment.ms", &["1000", "20000", "900000"]),
            ("retention.ms", &["20000", "60000", "-1"]),
            ("retention.bytes", &["0", "1000", "-1"]),
            ("cleanup.policy", &["delete", "compact", "compact,delete", ""]),
            ("delete.retention.ms", &["0", "20000", "60000"]),
            ("headwater.durability", &["fsync", "os", "fsync"]),
        ];
        let (name, values) = draw.pick(&changes);
        let value = draw.pick(values);
        world.alter(key, name, Some(value).filter(|_| draw.chance(0.7)));
    }
}

fn create(world: &mut World, draw: &Draw) {
    let mut settings = Vec::new();
    let bytes = draw.pick(&["300", "2000", "20000", "1000000"]);
    if draw.chance(0.7) {
        settings.push(("segment.bytes", bytes));
    }
    if draw.chance(0.3) {
        settings.push(("segment.ms", draw.pick(&["1000", "20000"])));
    }
    if draw.chance(0.4) {
        settings.push(("retention.ms", draw.pick(&["20000", "60000"])));
    }
    if draw.chance(0.3) {
        settings.push(("retention.bytes", draw.pick(&["0", "1000", "10000"])));
    }
    if draw.chance(0.4) {
        settings.push(("cleanup.policy", draw.pick(&["compact", "compact", "compact,delete"])));
        settings.push(("min.cleanable.dirty.ratio", draw.pick(&["0", "0.3", "0.5"])));
        settings.push(("delete.retention.ms", draw.pick(&["0", "20000", "10000000"])));
        if draw.chance(0.2) {
            settings.push(("min.compaction.lag.ms", draw.pick(&["1000", "30000"])));
        }
        if draw.chance(0.2) {
            settings.push(("max.compaction.lag.ms", draw.pick(&["5000", "60000"])));
        }
    }
    if draw.chance(0.2) {
        settings.push(("headwater.durability", draw.pick(&["fsync", "os"])));
    }
    world.create(draw.pick(&NAMES), draw.within(1..=3) as u32, &settings);
}

fn delete_records(world: &mut World, draw: &Draw) -> Step {
    let Some((key, index)) = any_partition(world, draw) else { return Ok(()) };
    let next = world.model().published.partition(key, index).map_or(0, |partition| partition.next);
    let before = if draw.chance(0.2) { None } else { Some(draw.within(0..=(next + 2) as u64) as i64 - 1) };
    world.delete_records(key, index, before)
}

fn read(world: &mut World, draw: &Draw) -> Step {
    let Some((key, index)) = any_partition(world, draw) else { return Ok(()) };
    let next = world.model().published.partition(key, index).map_or(0, |partition| partition.next);
    let request = ReadRequest {
        from: Offset(draw.within(0..=(next + 2) as u64) as i64 - 1),
        bytes_max: draw.pick(&[1, 200, 1000, 10_000, 100_000, 10_000_000]),
        at_least_one: draw.chance(0.8),
        stable_only: draw.chance(0.5),
    };
    world.read(key, index, &request)
}

fn find_time(world: &mut World, draw: &Draw) -> Step {
    let Some((key, index)) = any_partition(world, draw) else { return Ok(()) };
    let at = world.now() - draw.within(0..=200_000) as i64 + 50_000;
    world.find_time(key, index, at)
}

fn append(world: &mut World, draw: &Draw) -> Step {
    let Some((key, index)) = any_partition(world, draw) else {
        create(world, draw);
        return Ok(());
    };
    let (records, value_size) = match draw.below(100) {
        0..=69 => (draw.within(1..=4), draw.below(200)),
        70..=89 => (draw.within(1..=20), draw.below(300)),
        90..=97 => (draw.within(1..=3), draw.within(2_000..=15_000)),
        98 => (1, draw.within(60_000..=80_000)),
        _ if world.config.seed.is_multiple_of(16) => (2, draw.within(500_000..=700_000)),
        _ => (100, 10),
    };
    let codec = match draw.below(10) {
        0 => draw.pick(&[Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]),
        _ => Codec::None,
    };
    let producer = if draw.chance(0.4) { producer(world, key, index, draw, records) } else { None };
    let timestamp = match draw.below(10) {
        0 => -1,
        1 => world.now() + draw.below(100_000) as i64,
        2..=4 => world.now() - draw.below(100_000) as i64,
        _ => world.now(),
    };
    let salt = world.salt();
    let is_compacted = world.partition(key, index).is_some_and(|partition| partition.settings().compacts);
    let keys = (is_compacted && draw.chance(0.9)).then(|| draw.within(1..=20));
    let recipe = Recipe { records, value_size, codec, timestamp, is_stamped: draw.chance(0.1), producer, keys, salt };
    let (recipe, repeats) = match producer.and_then(|producer| repeated(world, key, index, producer)) {
        Some(recipe) => (recipe, true),
        None => (recipe, false),
    };
    world.append(key, index, &recipe)?;
    // Bursts fill rounds.
    for _ in 0..if repeats { 0 } else { draw.below(4) } {
        let salt = world.salt();
        world.append(key, index, &Recipe { producer: None, salt, ..recipe.clone() })?;
    }
    Ok(())
}

/// Id, epoch and first sequence of an idempotent producer's batch: mostly what is due, else a repeat or something wrong.
fn producer(world: &World, key: Key, index: usize, draw: &Draw, records: u64) -> Option<(i64, i16, i32)> {
    let model = world.model();
    let ids: Vec<i64> = model.producers.iter().copied().take(4).collect();
    if ids.is_empty() {
        return None;
    }
    let id = draw.pick(&ids);
    let empty = PartitionState::default();
    let known = model.decided.partition(key, index).unwrap_or(&empty).producers.get(&id);
    let Some((epoch, batches)) = known else {
        let first = draw.pick(&[0, 0, 0, 7, i32::MAX - records as i32 + 1, i32::MAX - 1]);
        return Some((id, 0, first));
    };
    let due = batches.back().map_or(0, |batch| after(batch.1));
    Some(match draw.below(10) {
        0..=4 => (id, *epoch, due),
        5..=7 => (id, *epoch, batches[draw.below(batches.len() as u64) as usize].0),
        8 if draw.chance(0.5) => (id, *epoch + 1, draw.pick(&[0, 0, 0, 3])),
        8 => (id, *epoch - 1, due),
        _ => (id, *epoch, due.saturating_add(draw.within(1..=9) as i32)),
    })
}

/// The recipe of a batch that repeats this one, when the sequence is one of a remembered batch: the same records.
fn repeated(world: &World, key: Key, index: usize, producer: (i64, i16, i32)) -> Option<Recipe> {
    let model = world.model();
    let (epoch, batches) = model.decided.partition(key, index)?.producers.get(&producer.0)?;
    let (first, last, _) = batches.iter().find(|batch| *epoch == producer.1 && batch.0 == producer.2)?;
    let records = (i64::from(*last) - i64::from(*first)).rem_euclid(1 << 31) as u64 + 1;
    Some(Recipe { records, value_size: 5, producer: Some(producer), ..Recipe::small(world.now(), 1) })
}

/// Which seeds to run.
fn seeds(few: u64) -> std::ops::Range<u64> {
    let count = if is_long() { 1_000 } else { few };
    let Ok(text) = std::env::var("HEADWATER_SIM_SEEDS") else { return 0..count };
    let parsed = match text.split_once("..") {
        Some((from, to)) => from.parse().ok().zip(to.parse().ok()).map(|(from, to)| from..to),
        None => text.parse().ok().map(|seed: u64| seed..seed + 1),
    };
    parsed.expect("HEADWATER_SIM_SEEDS is a seed or a range of seeds, as in 200..300")
}

const ACTIONS: u64 = 200;

/// Runs all seeds, on several threads in the long form, and gives the sums of what they say.
fn run_all(seeds: std::ops::Range<u64>, test: &str, run: impl Fn(u64) -> Result<[u64; 2], String> + Sync) -> [u64; 2] {
    let threads =
        if is_long() { std::thread::available_parallelism().map_or(1, |count| count.get().min(4)) } else { 1 };
    let next = AtomicU64::new(seeds.start);
    let sums = [AtomicU64::new(0), AtomicU64::new(0)];
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            match run(seed) {
                Ok(said) => {
                    for (sum, said) in sums.iter().zip(said) {
                        sum.fetch_add(said, Ordering::Relaxed);
                    }
                }
                Err(why) => {
                    // The others need not go on.
                    next.store(seeds.end, Ordering::Relaxed);
                    panic!(
                        "seed {seed}: {why}\nto run this alone: HEADWATER_SIM_SEEDS={seed} cargo test -p headwater-tests --test sim --profile quick {test}"
                    );
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    sums.map(AtomicU64::into_inner)
}

#[test]
fn random_runs_survive_a_stop_at_every_operation() {
    let when = match std::env::var("HEADWATER_SIM_STOP").ok() {
        Some(operation) => When::After(operation.parse().expect("HEADWATER_SIM_STOP is a number")),
        None => When::Always,
    };
    let seeds = seeds(25);
    let [operations, looks] = run_all(seeds.clone(), "random_runs_survive_a_stop", |seed| {
        let (outcome, looked) = run(seed, when, ACTIONS);
        Ok([outcome?.operations, looked])
    });
    println!("seeds {seeds:?}: {operations} operations, {looks} images opened");
}

/// A write or a sync fails somewhere. The engine stops, and what was acknowledged is there when it is opened again.
#[test]
fn random_runs_survive_a_failing_disk() {
    let seeds = seeds(150);
    let [runs, stops] = run_all(seeds.clone(), "random_runs_survive_a_failing", |seed| {
        let disk = SimDisk::new(seed);
        let draw = Draw::new(mix(seed, 2));
        let op = draw.pick(&[FaultOp::Write, FaultOp::Sync]);
        let part = draw.pick(&["", "wal", "segments", "checkpoints"]);
        let nth = draw.within(1..=if op == FaultOp::Write { 60 } else { 25 });
        disk.inject_eio(op, nth, move |path| path.to_string_lossy().contains(part));
        let (outcome, _) = run_on(disk, seed, When::End, ACTIONS / 2);
        let ran = outcome.map_err(|why| format!("{op:?} number {nth} on {part:?} fails: {why}"))?;
        Ok([1, u64::from(ran.operations == 0)])
    });
    println!("{runs} runs, {stops} engines stopped");
    assert!(stops * 3 > runs || runs < 10, "{stops} of {runs}");
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [3, 11] {
        let first = run(seed, When::Never, ACTIONS).0.expect("a good run");
        assert_eq!(run(seed, When::Never, ACTIONS).0.as_ref(), Ok(&first), "seed {seed}");
        assert_ne!(run(seed + 1, When::Never, ACTIONS).0.expect("a good run").trace, first.trace);
        // Looking on changes nothing.
        assert_eq!(run(seed, When::Always, ACTIONS).0, Ok(first), "seed {seed}, watched");
    }
}
