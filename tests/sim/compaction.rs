//! Compaction, stopped after every operation of the disk, with failing disks, full ones, damage and repairs.

use crate::batches::{Recipe, rows};
use crate::draw::Draw;
use crate::ensure;
use crate::expectation::{read, read_all};
use crate::flips::{blocks, newest_checkpoint};
use crate::frozen::Frozen;
use crate::script::{read_everything, stop_everywhere};
use crate::state::Key;
use crate::stops::{Lookout, When};
use crate::world::{Config, End, Step, World};
use bytes::Bytes;
use headwater_engine::batch::{Codec, headers};
use headwater_engine::env::sim::{FaultOp, SimDisk};
use headwater_engine::{Durability, Engine, Offset, ReadRequest};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn append(world: &mut World, key: Key, index: usize, change: impl FnOnce(&mut Recipe)) -> Step {
    let mut recipe = Recipe { keys: Some(5), ..Recipe::small(world.now(), world.salt()) };
    change(&mut recipe);
    let queued = world.append(key, index, &recipe)?;
    ensure!(queued, "the batch was refused");
    Ok(())
}

/// Batches of all kinds, in rounds of their own.
fn append_some(world: &mut World, key: Key, index: usize, count: usize) -> Step {
    for number in 0..count {
        append(world, key, index, |recipe| match number % 4 {
            0 => recipe.codec = Codec::Lz4,
            1 => recipe.records = 5,
            2 => recipe.keys = Some(2),
            _ => {}
        })?;
        world.commit()?;
    }
    world.drain()
}

const SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "700"),
    ("min.cleanable.dirty.ratio", "0"),
    ("delete.retention.ms", "30000"),
];

/// Some steps of a pass.
fn step(world: &mut World, steps: usize) -> Step {
    for _ in 0..steps {
        world.compact()?;
        world.commit()?;
    }
    Ok(())
}

/// Everything that can happen to a compacted topic.
fn script(mut world: World) -> Step<World> {
    let both = [SETTINGS.as_slice(), &[("cleanup.policy", "compact,delete"), ("retention.ms", "500000")]].concat();
    world.create("state", 2, &SETTINGS);
    world.create("both", 1, &both);
    world.drain()?;
    for index in [0, 1] {
        append_some(&mut world, 0, index, 8)?;
    }
    append_some(&mut world, 1, 0, 8)?;
    world.compact_all()?;
    ensure!(world.engine.stats().compactions == 0, "nothing is in a checkpoint yet");
    world.checkpoint()?;
    world.tend()?;
    world.compact_all()?;
    ensure!(world.engine.stats().compactions >= 3, "{:?}", world.engine.stats());
    read_everything(&mut world)?;

    // Appends, rounds and a checkpoint between the steps of a pass.
    append_some(&mut world, 0, 0, 8)?;
    world.checkpoint()?;
    append_some(&mut world, 0, 0, 3)?;
    world.begin_checkpoint();
    for _ in 0..20 {
        world.compact()?;
        append(&mut world, 0, 0, |_| ())?;
        world.step_checkpoint()?;
        world.commit()?;
    }
    world.checkpoint()?;
    world.compact_all()?;
    world.checkpoint()?;
    world.tend()?;
    read_everything(&mut world)?;

    // Null values go after their time.
    world.clock.advance(Duration::from_secs(60));
    append_some(&mut world, 0, 0, 4)?;
    world.checkpoint()?;
    world.compact_all()?;

    // Records are deleted while they are compacted, and while the log is being told.
    append_some(&mut world, 1, 0, 8)?;
    world.checkpoint()?;
    step(&mut world, 3)?;
    let next = world.model().published.partition(1, 0).map_or(0, |partition| partition.next);
    world.delete_records(1, 0, Some(next - 9))?;
    world.compact()?;
    world.compact()?;
    world.drain()?;
    world.compact_all()?;
    world.checkpoint()?;
    read_everything(&mut world)?;

    // The process is killed in the middle of a pass, and the power is cut in that of another.
    append_some(&mut world, 0, 1, 10)?;
    world.checkpoint()?;
    step(&mut world, 4)?;
    let image = world.disk.kill_image();
    let mut world = world.restart(image, false)?;
    world.sweep()?;
    append_some(&mut world, 0, 1, 4)?;
    world.checkpoint()?;
    step(&mut world, 6)?;
    let image = world.disk.crash_image(3);
    let mut world = world.restart(image, true)?;
    world.sweep()?;
    world.checkpoint()?;
    world.compact_all()?;
    read_everything(&mut world)?;

    // A topic is deleted while it is compacted.
    append_some(&mut world, 1, 0, 6)?;
    world.checkpoint()?;
    step(&mut world, 3)?;
    world.delete(1);
    world.drain()?;
    world.compact_all()?;
    world.checkpoint()?;
    world.tend()?;
    while world.scrub()? > 0 {}
    read_everything(&mut world)?;
    Ok(world)
}

fn must<T>(step: Step<T>) -> T {
    step.unwrap_or_else(|end| panic!("{end:?}"))
}

fn world(config: Config) -> World {
    let seed = config.seed;
    must(World::new(config, Lookout::new(seed, When::Never)))
}

/// The files of segments under their own names.
fn logs(disk: &SimDisk) -> Vec<PathBuf> {
    let paths = disk.files().into_iter().map(|(path, _)| path);
    paths.filter(|path| path.starts_with("data/segments") && path.extension().is_some_and(|e| e == "log")).collect()
}

#[test]
fn compaction_survives_a_stop_at_every_operation() {
    stop_everywhere(&Config::new(41), script, "compaction_survives");
}

#[test]
fn compaction_in_several_passes_survives_a_stop_at_every_operation() {
    stop_everywhere(
        &Config { compaction_map_bytes_max: 1_500, wal_depth: 1, ..Config::new(42) },
        script,
        "compaction_in",
    );
}

#[test]
fn compaction_in_mode_os_survives_a_stop_at_every_operation() {
    stop_everywhere(&Config { durability: Durability::Os, ..Config::new(43) }, script, "compaction_in");
}

#[test]
fn compaction_leaves_no_file_behind_and_the_check_finds_all_whole() {
    let frozen = must(script(world(Config::new(44))).and_then(|mut world| {
        world.compact_all()?;
        world.checkpoint()?;
        world.freeze()
    }));
    let disk = frozen.copy();
    let report = headwater_engine::check(frozen.env(&disk), frozen.config.options()).expect("a folder");
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    assert_eq!(logs(&disk).len() as u64, report.segments);
}

/// The check looks at compacted segments that no checkpoint knows yet: they are in no block of the log either.
#[test]
fn the_check_reads_segments_that_only_the_log_knows() {
    let frozen = must((|| {
        let mut world = world(Config::new(45));
        world.create("state", 1, &SETTINGS);
        world.drain()?;
        append_some(&mut world, 0, 0, 10)?;
        world.checkpoint()?;
        world.compact_all()?;
        world.drain()?;
        world.freeze()
    })());
    let disk = frozen.copy();
    let topic = headwater_engine::topic_on_disk(frozen.env(&disk), frozen.config.options(), "state");
    let segments = topic.expect("a folder").expect("it was made").segments;
    let compacted = &segments[0];
    assert_eq!(compacted.size, compacted.checkpointed, "the file has all of it");
    disk.flip_bit(&compacted.path, compacted.size / 2, 3).expect("a byte of it");
    let report = headwater_engine::check(frozen.env(&disk), frozen.config.options()).expect("a folder");
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
}

/// A disk that fails under compaction alone: nothing is lost, the engine goes on, and the pass is made later.
#[test]
fn a_failed_pass_stops_nobody_and_is_made_later() {
    let mut failed = 0;
    for op in [FaultOp::Read, FaultOp::Write, FaultOp::Sync] {
        for nth in 1.. {
            let mut world = world(Config { open_files_max: 4, ..Config::new(46) });
            let outcome: Step<bool> = (|| {
                world.create("state", 1, &SETTINGS);
                world.drain()?;
                append_some(&mut world, 0, 0, 12)?;
                world.checkpoint()?;
                world.tend()?;
                let before = logs(&world.disk).len();
                let struck = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
                let count = struck.clone();
                world.disk.inject_eio(op, nth, move |path: &Path| {
                    let is_hit = path.starts_with("data/segments");
                    count.fetch_add(u64::from(is_hit), std::sync::atomic::Ordering::Relaxed);
                    is_hit
                });
                for _ in 0..200 {
                    if !world.compact()? {
                        break;
                    }
                    // The committer syncs and writes other files only.
                    world.commit()?;
                }
                let stats = world.engine.stats();
                ensure!(world.engine.failure().is_none(), "the engine stopped: {:?}", world.engine.failure());
                if struck.load(std::sync::atomic::Ordering::Relaxed) < nth {
                    ensure!(stats.compaction_failures == 0 && stats.compactions > 0, "{stats:?}");
                    return Ok(false);
                }
                ensure!(stats.compaction_failures == 1, "{op:?} number {nth}: {stats:?}");
                let after = logs(&world.disk).len();
                ensure!(after <= before + 1, "{after} files where {before} were");
                ensure!(!world.compact()?, "a partition that failed is left alone for a while");
                read_everything(&mut world)?;
                append_some(&mut world, 0, 0, 2)?;
                world.clock.advance(Duration::from_secs(61));
                world.compact_all()?;
                ensure!(world.engine.stats().compactions > 0, "it is tried again");
                ensure!(world.engine.stats().damage == 0, "a failed read is no damage");
                world.checkpoint()?;
                read_everything(&mut world)?;
                Ok(true)
            })();
            if !must(outcome) {
                break;
            }
            failed += 1;
            must(world.end());
        }
    }
    println!("{failed} passes failed");
    assert!(failed > 6, "{failed}");
}

/// Compaction needs room. It must leave the reserve to those who drain the disk.
#[test]
fn compaction_leaves_the_reserve_alone() {
    must((|| {
        let reserve = 512 << 10;
        let mut world = world(Config { disk_reserve_bytes: reserve, ..Config::new(47) });
        world.create("state", 1, &[("cleanup.policy", "compact"), ("segment.bytes", "60000")]);
        world.drain()?;
        for _ in 0..20 {
            append(&mut world, 0, 0, |recipe| (recipe.value_size, recipe.keys) = (9_000, Some(40)))?;
            world.drain()?;
        }
        world.checkpoint()?;
        let free = headwater_engine::env::Disk::free_bytes(&world.disk).map_err(|error| error.to_string())?;
        let limit = |world: &mut World, room: u64| {
            world.disk.set_capacity(1 << 40);
            let all = headwater_engine::env::Disk::free_bytes(&world.disk).map_err(|error| error.to_string())?;
            world.disk.set_capacity((1 << 40) - all + reserve + room);
            world.tend()
        };
        ensure!(free > reserve, "the disk is large");
        limit(&mut world, 5_000)?;
        ensure!(!world.compact()?, "a pass that has no room does not begin");
        let stats = world.engine.stats();
        ensure!((stats.compaction_read_bytes, stats.compaction_failures) == (0, 1), "and reads nothing: {stats:?}");
        limit(&mut world, 4 << 20)?;
        world.clock.advance(Duration::from_secs(61));
        ensure!(world.compact()?, "there is room");
        limit(&mut world, 5_000)?;
        while world.compact()? {
            world.commit()?;
        }
        let stats = world.engine.stats();
        ensure!((stats.compactions, stats.compaction_failures) == (0, 2), "{stats:?}");
        let left = headwater_engine::env::Disk::free_bytes(&world.disk).map_err(|error| error.to_string())?;
        ensure!(left >= reserve, "{left} bytes are left of a reserve of {reserve}");
        limit(&mut world, 4 << 20)?;
        world.clock.advance(Duration::from_secs(121));
        world.compact_all()?;
        ensure!(world.engine.stats().compactions >= 1, "{:?}", world.engine.stats());
        world.checkpoint()?;
        read_everything(&mut world)?;
        world.end()
    })());
}

/// The newest checkpoint, which knows that compacted segments took the place of others, cannot be read. The repair goes back to
/// one that names files that are gone: the log starts behind those, nothing that is served is wrong, and what was compacted is kept.
#[test]
fn a_repair_from_before_a_swap_serves_what_is_left() {
    let frozen: Frozen = must((|| {
        let mut world = world(Config::new(48));
        world.create("state", 1, &SETTINGS);
        world.create("other", 1, &[]);
        world.drain()?;
        append_some(&mut world, 0, 0, 10)?;
        world.checkpoint()?;
        world.compact_all()?;
        world.checkpoint()?;
        // Once around the log, so that the swap is in no block any more.
        for _ in 0..6 {
            append(&mut world, 1, 0, |recipe| recipe.value_size = 9_000)?;
            world.drain()?;
        }
        world.freeze()
    })());
    let disk = frozen.copy();
    let (newest, _) = newest_checkpoint(&disk);
    disk.flip_bit(&newest, 60, 1).expect("a byte of it");
    let before = logs(&disk);
    let engine = repaired(&frozen, &disk);
    let partition = engine.topic("state").expect("it was made").partition(0).expect("one");
    read_all(&partition).expect("what is left can be read");
    for path in before {
        let name = path.file_name().expect("a name");
        assert!(disk.files().iter().any(|(kept, _)| kept.file_name() == Some(name)), "{} is gone", path.display());
    }
}

/// A swap is in the log and in no checkpoint when the process is killed, and so it is at the next start. That one must not sweep
/// what the swap replaced: when the log is damaged before the swap, it is all there is.
#[test]
fn a_repair_that_loses_a_swap_finds_what_it_replaced() {
    let frozen: Frozen = must((|| {
        let mut world = world(Config::new(51));
        world.create("state", 1, &SETTINGS);
        world.create("other", 1, &[]);
        world.drain()?;
        append_some(&mut world, 0, 0, 10)?;
        world.checkpoint()?;
        append(&mut world, 1, 0, |_| ())?;
        world.drain()?;
        world.compact_all()?;
        ensure!(world.engine.stats().compaction_dropped_records > 0, "something was compacted");
        let image = world.disk.kill_image();
        let mut world = world.restart(image, false)?;
        world.sweep()?;
        world.freeze()
    })());
    let disk = frozen.copy();
    let (_, through) = newest_checkpoint(&disk);
    let before_swap =
        blocks(&disk).into_iter().find(|block| block.sequence > through).expect("the other topic's batch");
    disk.flip_bit(&before_swap.slot, before_swap.position as u64 + 80, 1).expect("a byte of it");
    let (engine, cut) = Engine::repair(frozen.env(&disk), frozen.config.options()).expect("a repair");
    assert!(cut.is_some(), "it says what it cut");
    engine.shut_down().expect("a healthy disk");
    drop(engine);
    let engine = frozen.open(&disk).expect("a repaired folder");
    engine.drive().expect("not started").sweep_orphans().expect("a healthy disk");
    let partition = engine.topic("state").expect("it was made").partition(0).expect("one");
    let due = frozen.due.base.partition(0, 0).expect("it was made");
    let appended: Vec<u8> = due.batches.iter().flat_map(|batch| batch.bytes.to_vec()).collect();
    assert!(read_all(&partition).expect("everything can be read") == appended, "all of it, as before the swap");
}

/// A swap can be read in the log; what let its new segment go later, another swap or a deletion, is lost with damage.
#[test]
fn a_repair_skips_a_segment_that_was_swapped_in_and_is_gone() {
    let mut before = Vec::new();
    let frozen: Frozen = must((|| {
        let mut world = world(Config::new(55));
        world.create("state", 1, &SETTINGS);
        world.create("other", 1, &[]);
        world.drain()?;
        append_some(&mut world, 0, 0, 10)?;
        world.checkpoint()?;
        before = logs(&world.disk);
        world.compact_all()?;
        for _ in 0..2 {
            append(&mut world, 1, 0, |_| ())?;
            world.drain()?;
        }
        world.freeze()
    })());
    let disk = frozen.copy();
    let swapped_in: Vec<PathBuf> = logs(&disk).into_iter().filter(|path| !before.contains(path)).collect();
    assert!(!swapped_in.is_empty());
    for path in &swapped_in {
        frozen.env(&disk).disk.remove(path).expect("it is there");
    }
    let mut behind: Vec<_> = blocks(&disk);
    behind.sort_by_key(|block| block.sequence);
    let lost = &behind[behind.len() - 2];
    disk.flip_bit(&lost.slot, lost.position as u64 + 80, 1).expect("a byte of it");
    let engine = repaired(&frozen, &disk);
    let partition = engine.topic("state").expect("it was made").partition(0).expect("one");
    read_all(&partition).expect("what is left can be read");
}

/// A folder that names segments that are gone, repaired, found whole and opened again.
fn repaired(frozen: &Frozen, disk: &SimDisk) -> Engine {
    let (engine, cut) = Engine::repair(frozen.env(disk), frozen.config.options()).expect("a repair");
    let cut = cut.expect("it says what it cut");
    assert!(cut.contains("deleted already"), "{cut}");
    engine.shut_down().expect("a healthy disk");
    drop(engine);
    let report = headwater_engine::check(frozen.env(disk), frozen.config.options()).expect("a folder");
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    frozen.open(disk).expect("a repaired folder")
}

/// Whether this step of a pass finished a new segment; next it takes the place of others.
fn finishes_segment(world: &mut World) -> Step<bool> {
    let before = world.engine.stats().compaction_written_bytes;
    ensure!(world.compact()?, "the pass was given up");
    Ok(world.engine.stats().compaction_written_bytes > before)
}

/// Whenever a new segment was to take its place, a segment that it was made from had been deleted, and the pass began anew, for ever,
/// while no other partition was compacted.
#[test]
fn a_pass_that_deletions_overtake_goes_on_behind_them() {
    must((|| {
        let mut world = world(Config::new(52));
        world.create("state", 2, &SETTINGS);
        world.drain()?;
        append_some(&mut world, 0, 0, 40)?;
        append_some(&mut world, 0, 1, 12)?;
        world.checkpoint()?;
        let mut overtakes = 0;
        while world.engine.stats().compactions < 2 {
            if finishes_segment(&mut world)? && overtakes < 4 {
                overtakes += 1;
                let log_start = overtakes * 9;
                world.delete_records(0, 0, Some(log_start))?;
            }
            world.drain()?;
            if overtakes == 3 {
                world.checkpoint()?;
            }
        }
        world.checkpoint()?;
        read_everything(&mut world)?;

        // All that a pass reads goes. What comes then must wait until the other partition had its turn.
        let clean = |world: &World, index| world.partition(0, index).map(|partition| partition.first_dirty());
        append_some(&mut world, 0, 0, 12)?;
        world.checkpoint()?;
        while !finishes_segment(&mut world)? {}
        world.delete_records(0, 0, None)?;
        append_some(&mut world, 0, 0, 12)?;
        append_some(&mut world, 0, 1, 4)?;
        // Until it finds that nothing is left to go on with.
        while world.compact()? {}
        world.checkpoint()?;
        let before = (clean(&world, 0), clean(&world, 1));
        world.compact_all()?;
        ensure!(clean(&world, 0) == before.0 && clean(&world, 1) > before.1, "it is the other's turn");
        world.clock.advance(Duration::from_secs(61));
        world.compact_all()?;
        ensure!(clean(&world, 0) > before.0, "and then its own");
        ensure!(world.engine.stats().compaction_failures == 0, "nothing failed");
        world.checkpoint()?;
        read_everything(&mut world)?;
        world.end()
    })());
}

/// Somebody takes compaction back, or changes how it is done, while a pass is under way.
#[test]
fn a_pass_is_given_up_when_the_settings_change() {
    for (name, value) in [("cleanup.policy", "delete"), ("delete.retention.ms", "40000")] {
        must((|| {
            let mut world = world(Config::new(53));
            world.create("state", 1, &SETTINGS);
            world.drain()?;
            append_some(&mut world, 0, 0, 12)?;
            world.checkpoint()?;
            while !finishes_segment(&mut world)? {}
            world.alter(0, name, Some(value));
            world.alter(0, "retention.ms", Some("-1"));
            world.drain()?;
            while world.compact()? {
                world.drain()?;
            }
            ensure!(world.engine.stats().compaction_dropped_records == 0, "nothing goes any more");
            world.compact_all()?;
            let is_compacted = world.engine.stats().compactions > 0;
            ensure!(is_compacted == (name != "cleanup.policy"), "the next pass does as it is told");
            world.checkpoint()?;
            read_everything(&mut world)?;
            world.end()
        })());
    }
}

/// The first pass that finds a null value says when it may go; no pass before that time takes it, and the first behind it does.
#[test]
fn null_values_go_at_their_time_and_not_before() {
    must((|| {
        let mut world = world(Config::new(54));
        world.create("state", 1, &SETTINGS);
        world.drain()?;
        let pass = |world: &mut World| {
            // Records of other keys, so that there is something to compact; the last batch is in the active segment.
            for _ in 0..5 {
                append(world, 0, 0, |recipe| recipe.keys = None)?;
                world.drain()?;
            }
            world.checkpoint()?;
            let before = world.engine.stats().compactions;
            world.compact_all()?;
            ensure!(world.engine.stats().compactions == before + 1, "a pass was due");
            read_everything(world)?;
            let partition = world.partition(0, 0).ok_or_else(|| "it was made".to_owned())?;
            let bytes = Bytes::from(read_all(&partition)?);
            let mut count = 0;
            for (position, header) in headers(&bytes) {
                let rows = rows(&bytes.slice(position..position + header.size))?;
                count += rows.iter().filter(|row| row.value.is_none()).count();
            }
            Ok::<_, End>(count)
        };
        append(&mut world, 0, 0, |recipe| (recipe.keys, recipe.records) = (Some(200), 20))?;
        let found = pass(&mut world)?;
        ensure!(found > 0, "there are null values");
        let mut left = Vec::new();
        for ms in [29_999, 1] {
            world.clock.advance(Duration::from_millis(ms));
            left.push(pass(&mut world)?);
        }
        ensure!(left == [found, 0], "{found} null values, then {left:?}");
        world.end()
    })());
}

/// A log that is both compacted and deleted from: retention goes by the sizes and times of what compaction left.
#[test]
fn retention_sees_what_compaction_left() {
    let starts = |setting: (&str, &str), waits: [u64; 2]| {
        must((|| {
            let mut world = world(Config::new(55));
            let policy = ("cleanup.policy", "compact,delete");
            world.create("both", 1, &[SETTINGS.as_slice(), &[policy, setting]].concat());
            world.drain()?;
            append_some(&mut world, 0, 0, 24)?;
            world.checkpoint()?;
            let appended: i64 =
                world.model().published.partition(0, 0).map_or(0, |due| due.extents().iter().map(|e| e.1).sum());
            ensure!(appended > 4_000, "{appended} bytes");
            world.compact_all()?;
            let mut starts = Vec::new();
            for seconds in waits {
                world.clock.advance(Duration::from_secs(seconds));
                world.retain();
                world.drain()?;
                starts.push(world.partition(0, 0).map_or(-1, |partition| partition.bounds().log_start.0));
                read_everything(&mut world)?;
            }
            world.end()?;
            Ok(starts)
        })())
    };
    let by_time = starts(("retention.ms", "20000"), [19, 2]);
    assert!(by_time[0] == 0 && by_time[1] > 0, "{by_time:?}");
    assert_eq!(starts(("retention.bytes", "2500"), [0, 0]), [0, 0], "that much is not left");
    let by_size = starts(("retention.bytes", "500"), [0, 0]);
    assert!(by_size[0] > 0 && by_size[0] == by_size[1], "{by_size:?}");
}

/// A consumer reads on from a file that was replaced, deleted and is not open any more: it finds the other.
#[test]
fn a_read_that_was_cold_when_its_segment_was_replaced_looks_again() {
    must((|| {
        let mut world = world(Config { open_files_max: 4, ..Config::new(49) });
        world.create("state", 1, &SETTINGS);
        world.create("other", 1, &[("segment.bytes", "300")]);
        world.drain()?;
        append_some(&mut world, 0, 0, 10)?;
        world.checkpoint()?;
        // Others push its files out of the table.
        for _ in 0..10 {
            append(&mut world, 1, 0, |_| ())?;
            world.drain()?;
        }
        let partition = world.partition(0, 0).ok_or_else(|| "it was made".to_owned())?;
        let request = ReadRequest { from: Offset(3), bytes_max: 1 << 20, at_least_one: true, stable_only: false };
        let headwater_engine::Read::Cold(cold) = partition.read(&request).map_err(|error| error.to_string())? else {
            return Err("the file is still open".to_owned().into());
        };
        world.compact_all()?;
        world.checkpoint()?;
        let batches = cold.read().map_err(|error| error.to_string())?;
        let (again, next) = read(&partition, &request)?;
        ensure!(batches.next == next, "{} and {next}", batches.next);
        let range = batches.range.ok_or_else(|| "there is more".to_owned())?;
        ensure!(range.bytes().map_err(|error| error.to_string())? == again, "the same bytes");
        world.end()
    })());
}

/// What the settings say is held: young records, closed segments alone, a ratio.
#[test]
fn lags_and_ratio_say_when_a_partition_is_due() {
    let passes = |settings: &[(&str, &str)], seconds: u64| {
        must((|| {
            let mut world = world(Config::new(50));
            let settings = [SETTINGS.as_slice(), settings].concat();
            world.create("state", 1, &settings);
            world.drain()?;
            append_some(&mut world, 0, 0, 8)?;
            world.clock.advance(Duration::from_secs(seconds));
            world.checkpoint()?;
            world.compact_all()?;
            // A little more: less than half of all.
            append_some(&mut world, 0, 0, 6)?;
            world.checkpoint()?;
            world.compact_all()?;
            let passes = world.engine.stats().compactions;
            world.end()?;
            Ok(passes)
        })())
    };
    assert_eq!(passes(&[], 0), 2);
    assert_eq!(passes(&[("min.cleanable.dirty.ratio", "0.99")], 0), 1, "all of it is dirty once");
    assert_eq!(passes(&[("min.cleanable.dirty.ratio", "1")], 0), 0);
    assert_eq!(passes(&[("min.cleanable.dirty.ratio", "1"), ("max.compaction.lag.ms", "10000")], 20), 2);
    assert_eq!(passes(&[("min.compaction.lag.ms", "10000")], 0), 0);
    assert_eq!(passes(&[("min.compaction.lag.ms", "10000")], 20), 1);
    assert_eq!(passes(&[("segment.bytes", "100000")], 0), 0, "the active segment is never compacted");
}

/// Seeded courses with little else than compaction.
#[test]
fn random_courses_of_compaction_agree_with_the_model() {
    for seed in 0..if crate::is_long() { 500 } else { 30 } {
        let draw = Draw::new(seed);
        let outcome: Result<(), End> = (|| {
            let map = draw.pick(&[1_500, 5_000, 1 << 20]);
            let mut world = world(Config { compaction_map_bytes_max: map, ..Config::new(1_000 + seed) });
            world.create("state", 2, &SETTINGS);
            world.drain()?;
            for _ in 0..300 {
                let index = draw.below(2) as usize;
                match draw.below(20) {
                    0..=7 => append_some(&mut world, 0, index, draw.within(1..=4) as usize)?,
                    8..=14 => {
                        world.compact()?;
                    }
                    15 | 16 => drop(world.commit()?),
                    17 => world.checkpoint()?,
                    18 => {
                        world.clock.advance(Duration::from_secs(draw.below(20)));
                        world.tend()?;
                        let at = world.now() - draw.below(100_000) as i64;
                        world.find_time(0, index, at)?;
                    }
                    _ => {
                        let is_power_cut = draw.chance(0.5);
                        let disk = &world.disk;
                        let image = if is_power_cut { disk.crash_image(draw.next()) } else { disk.kill_image() };
                        world = world.restart(image, is_power_cut)?;
                        world.sweep()?;
                    }
                }
            }
            world.compact_all()?;
            world.checkpoint()?;
            read_everything(&mut world)?;
            world.end()
        })();
        outcome.unwrap_or_else(|end| panic!("seed {seed}: {end:?}"));
    }
}
