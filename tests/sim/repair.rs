//! Repairs of a folder whose checkpoints cannot be read: one is enough, nothing is named twice, nothing is deleted.

use crate::batches::Recipe;
use crate::draw::Draw;
use crate::flips::{Block, blocks, filled, flipped, newest_checkpoint};
use crate::frozen::Frozen;
use headwater_engine::env::sim::SimDisk;
use headwater_engine::{Engine, OpenError};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The newest base, which deltas may follow.
fn newest_base(disk: &SimDisk) -> PathBuf {
    let paths = disk.files().into_iter().map(|(path, _)| path);
    let bases = paths.filter(|path| path.extension().is_some_and(|extension| extension == "base"));
    bases.max().expect("there is a base")
}

/// A history for repairs, with this many deltas behind the newest base, or one more: the older base knows little, the newest
/// checkpoints know segments that it does not, and every checkpoint belongs to another run, so that blocks and files of
/// several incarnations lie about.
fn aged(behind_base: usize) -> Frozen {
    let mut frozen = filled(4);
    for run in 0..40 {
        let disk = frozen.copy();
        let engine = frozen.open(&disk).expect("a whole folder");
        let mut drive = engine.drive().expect("not started");
        drive.sweep_orphans().expect("a healthy disk");
        let ack = engine.ack();
        for topic in ["orders", "audit"] {
            let partition = engine.topic(topic).expect("an old topic").partition(0).expect("a partition");
            partition.append(&Recipe::small(frozen.clock_ms(), 1_000 + run).build(), &ack).expect("room");
        }
        drive.settle().expect("a healthy disk");
        assert_eq!(ack.poll_done(), Some(Ok(())));
        // Blocks behind the last checkpoint.
        let ack = engine.ack();
        let partition = engine.topic("orders").expect("an old topic").partition(1).expect("a partition");
        partition.append(&Recipe::small(frozen.clock_ms(), 2_000 + run).build(), &ack).expect("room");
        while drive.commit().expect("a healthy disk") {}
        drop((drive, engine));
        frozen.disk = disk.kill_image();
        let base = newest_base(&frozen.disk);
        let is_newer = |path: &PathBuf| path.parent() == base.parent() && *path > base;
        let behind = frozen.disk.files().into_iter().filter(|(path, _)| is_newer(path)).count();
        // At least the third base, so that the one before it does not know all runs.
        if run >= 12 && (behind_base..behind_base + 2).contains(&behind) {
            return frozen;
        }
    }
    panic!("no run ends so");
}

/// Ids of the segment files, those that a repair moved aside left out.
fn file_ids(disk: &SimDisk) -> BTreeSet<u64> {
    let paths = disk.files().into_iter().map(|(path, _)| path);
    let logs = paths.filter(|path| path.starts_with("data/segments") && path.extension().is_some_and(|e| e == "log"));
    logs.map(|path| {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        u64::from_str_radix(&stem, 16).expect("a hexadecimal number")
    })
    .collect()
}

/// Incarnations and sequences of all blocks in the log's slots.
fn block_ids(disk: &SimDisk) -> BTreeSet<(u64, u64)> {
    let incarnation = |block: &Block| {
        let content = disk.content(&block.slot).expect("it is there");
        let at = block.position + 16;
        u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"))
    };
    let live = blocks(disk).into_iter().filter(|block| block.slot.starts_with("data/wal"));
    live.map(|block| (incarnation(&block), block.sequence)).collect()
}

/// The bytes of some files.
fn contents(disk: &SimDisk, is_wanted: impl Fn(&Path) -> bool) -> Vec<Vec<u8>> {
    let paths = disk.files().into_iter().map(|(path, _)| path).filter(|path| is_wanted(path));
    paths.map(|path| disk.content(&path).expect("it is there")).collect()
}

fn append_everywhere(engine: &Engine, at_ms: i64, salt: u64) {
    let mut drive = engine.drive().expect("not started");
    let ack = engine.ack();
    for topic in engine.topics() {
        for partition in topic.partitions().iter() {
            partition.append(&Recipe::small(at_ms, salt).build(), &ack).expect("room");
        }
    }
    drive.settle().expect("a healthy disk");
    assert_eq!(ack.poll_done(), Some(Ok(())));
    drive.sweep_orphans().expect("a healthy disk");
    while drive.scrub() > 0 {}
}

/// Damages a folder, repairs it once, and holds it against what it was. A reviewer flipped one bit in the newest checkpoint:
/// it took four repairs until a server started, which then gave old ids away again and deleted a segment with
/// acknowledged records.
fn check_one_repair(frozen: &Frozen, disk: &SimDisk, what: &str) {
    let (old_files, old_blocks) = (file_ids(disk), block_ids(disk));
    let latest_run = old_blocks.iter().map(|block| block.0).max().expect("there are blocks");
    let latest_block = old_blocks.iter().map(|block| block.1).max().expect("there are blocks");
    let latest_file = *old_files.last().expect("there are segments");
    let old_logs = contents(disk, |path| path.extension().is_some_and(|extension| extension == "log"));
    let producer = |engine: &Engine| {
        let mut drive = engine.drive().expect("not started");
        let pending = engine.new_producer_id();
        drive.settle().expect("a healthy disk");
        pending.wait_blocking().expect("an id").0
    };
    let before = producer(&frozen.open(&frozen.copy()).expect("a whole folder"));
    let epoch = frozen.open(&frozen.copy()).expect("a whole folder").node_epoch();

    let (engine, cut) = Engine::repair(frozen.env(disk), frozen.config.options()).expect("a repair");
    let cut = cut.unwrap_or_else(|| panic!("{what}: the repair says what it cut"));
    assert!(cut.contains("repaired-"), "{what}: it says where: {cut}");
    assert!(engine.node_epoch() >= epoch, "{what}: epochs are not given again");
    engine.shut_down().expect("a healthy disk");
    drop(engine);

    let report = headwater_engine::check(frozen.env(disk), frozen.config.options()).expect("a folder");
    assert!(report.damage.is_empty(), "{what}: one repair is enough: {:?}", report.damage);
    let opened = || frozen.open(disk).unwrap_or_else(|error| panic!("{what}: one repair is enough: {error}"));
    append_everywhere(&opened(), frozen.clock_ms(), 9_000);
    append_everywhere(&opened(), frozen.clock_ms(), 9_001);
    let engine = opened();
    assert!(producer(&engine) > before, "{what}: producer ids are not given again");
    for topic in engine.topics() {
        for partition in topic.partitions().iter() {
            crate::expectation::read_all(partition).unwrap_or_else(|why| panic!("{what}: {why}"));
        }
    }
    assert_eq!(engine.stats().damage, 0, "{what}");
    drop(engine);
    for (run, sequence) in block_ids(disk) {
        assert!(run > latest_run && sequence > latest_block, "{what}: block {sequence} of run {run}");
    }
    for file in file_ids(disk).difference(&old_files) {
        assert!(file >> 40 > latest_file >> 40 && file >> 40 > latest_run, "{what}: file {file:016x}");
    }
    // Every byte that a segment held is still somewhere: in the segment, or among what is kept.
    let logs = contents(disk, |path| path.extension().is_some_and(|extension| extension == "log"));
    for old in old_logs {
        for (position, header) in headwater_engine::batch::headers(&old) {
            let batch = &old[position..position + header.size];
            let is_kept = logs.iter().any(|log| log.windows(batch.len()).any(|bytes| bytes == batch));
            assert!(is_kept, "{what}: the batch with offset {} is gone", header.base_offset);
        }
    }
}

#[test]
fn one_repair_of_an_unreadable_checkpoint_is_enough_and_nothing_is_lost_or_named_twice() {
    let draw = Draw::new(9);
    for (behind_base, flips_base) in [(0, true), (6, true), (6, false)] {
        let frozen = aged(behind_base);
        let newest = if flips_base { newest_base(&frozen.disk) } else { newest_checkpoint(&frozen.disk).0 };
        let size = frozen.disk.content(&newest).expect("it is there").len() as u64;
        for position in [0, 8, 60].into_iter().chain((0..3).map(|_| draw.below(size))) {
            let disk = flipped(&frozen, &newest, position as usize, draw.below(8) as u8);
            assert!(matches!(frozen.open(&disk), Err(OpenError::Damaged(_))));
            check_one_repair(&frozen, &disk, &format!("byte {position} of {}", newest.display()));
        }
    }
}

#[test]
fn a_repair_that_is_killed_at_any_point_can_be_repeated() {
    let frozen = aged(6);
    let newest = newest_base(&frozen.disk);
    let damaged = flipped(&frozen, &newest, 60, 1);
    // So that a power cut takes nothing that the repair did not touch.
    frozen.env(&damaged).disk.sync_all().expect("a healthy disk");
    let whole = damaged.kill_image();
    drop(Engine::repair(frozen.env(&whole), frozen.config.options()).expect("a repair"));
    let operations = whole.ops();
    let names: BTreeSet<PathBuf> = damaged.files().into_iter().map(|(path, _)| path).collect();
    for stop in 1..operations {
        let disk = damaged.kill_image();
        disk.stop_after(stop);
        assert!(Engine::repair(frozen.env(&disk), frozen.config.options()).is_err(), "stopped at {stop}");
        for image in [disk.kill_image(), disk.crash_image(stop)] {
            let what = format!("stopped at {stop} of {operations}");
            // Nothing is gone: every file is under its name or among what is kept.
            let kept: BTreeSet<PathBuf> = image.files().into_iter().map(|(path, _)| path).collect();
            for name in &names {
                let file = name.file_name().expect("a name");
                let is_there = kept.iter().any(|path| path.file_name() == Some(file));
                assert!(is_there, "{what}: {} is gone", name.display());
            }
            let (engine, _) = Engine::repair(frozen.env(&image), frozen.config.options())
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            engine.shut_down().expect("a healthy disk");
            drop(engine);
            let engine = frozen.open(&image).unwrap_or_else(|error| panic!("{what}: {error}"));
            append_everywhere(&engine, frozen.clock_ms(), 9_002);
        }
    }
}

/// What was lost is a checkpoint, or blocks of the log alone.
#[test]
fn after_a_repair_logs_start_behind_segments_that_are_gone() {
    for (only_active, loses_checkpoint) in [(true, true), (false, true), (true, false), (false, false)] {
        let frozen = if loses_checkpoint { aged(6) } else { filled(4) };
        let (_, through) = newest_checkpoint(&frozen.disk);
        let disk = frozen.copy();
        let env = frozen.env(&disk);
        // As if a later checkpoint had let these go: what the older one knows, and the log does not make again.
        let topic =
            headwater_engine::topic_on_disk(env, frozen.config.options(), "orders").expect("whole").expect("known");
        let mut by_partition = topic.segments;
        by_partition.retain(|segment| segment.partition == 0);
        assert!(by_partition.len() > 2);
        let gone = if only_active { by_partition.len() - 1..by_partition.len() } else { 0..2 };
        for segment in &by_partition[gone] {
            frozen.env(&disk).disk.remove(&segment.path).expect("it is there");
        }
        if loses_checkpoint {
            disk.flip_bit(&newest_base(&disk), 60, 1).expect("a byte of the file");
        } else {
            let block = blocks(&disk).into_iter().find(|block| block.sequence > through).expect("a block behind it");
            disk.flip_bit(&block.slot, block.position as u64 + 80, 1).expect("a byte of the block");
        }
        let (engine, cut) = Engine::repair(frozen.env(&disk), frozen.config.options()).expect("a repair");
        println!("{cut:?}");
        engine.shut_down().expect("a healthy disk");
        drop(engine);
        let report = headwater_engine::check(frozen.env(&disk), frozen.config.options()).expect("a folder");
        assert!(report.damage.is_empty(), "{:?}", report.damage);
        let engine = frozen.open(&disk).expect("a repaired folder opens");
        append_everywhere(&engine, frozen.clock_ms(), 9_003);
        for partition in engine.topic("orders").expect("an old topic").partitions().iter() {
            crate::expectation::read_all(partition).expect("what is left can be read");
        }
    }
}
