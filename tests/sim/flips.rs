//! Bits that turn over on the medium while the engine is not running: what was acknowledged is reported as damaged, or still
//! there; never silently gone, never served wrong.

use crate::batches::Recipe;
use crate::compacted;
use crate::draw::{Draw, mix};
use crate::ensure;
use crate::expectation::{compare, read};
use crate::frozen::Frozen;
use crate::is_long;
use crate::stops::{Lookout, When};
use crate::world::{Config, End, Step, World};
use headwater_engine::batch::Codec;
use headwater_engine::env::sim::SimDisk;
use headwater_engine::{Engine, Offset, OpenError, ReadError, ReadRequest, TimestampMs};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const BLOCK_HEADER: usize = 64;

/// A WAL block, as it lies on disk.
#[derive(Debug, Clone)]
pub struct Block {
    pub slot: PathBuf,
    pub position: usize,
    pub size: usize,
    pub sequence: u64,
    pub durable_through: u64,
}

/// All blocks in all slots, stale ones included.
pub fn blocks(disk: &SimDisk) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (path, _) in disk.files() {
        if path.extension().is_none_or(|extension| extension != "slot") {
            continue;
        }
        let content = disk.content(&path).expect("the slot is there");
        for position in (4096..content.len()).step_by(4096) {
            let bytes = &content[position..];
            let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
            if !bytes.starts_with(b"HWB1") {
                continue;
            }
            blocks.push(Block {
                slot: path.clone(),
                position,
                size: BLOCK_HEADER + u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes")) as usize,
                sequence: number(24),
                durable_through: number(32),
            });
        }
    }
    blocks.sort_by_key(|block| block.sequence);
    blocks
}

/// The blocks behind the last checkpoint.
fn live_blocks(disk: &SimDisk) -> Vec<Block> {
    let through = newest_checkpoint(disk).1;
    blocks(disk).into_iter().filter(|block| block.sequence > through).collect()
}

/// The newest checkpoint file, and through which block it goes.
pub fn newest_checkpoint(disk: &SimDisk) -> (PathBuf, u64) {
    let is_checkpoint = |path: &PathBuf| path.parent() == Some(Path::new("data/checkpoints"));
    let paths = disk.files().into_iter().map(|(path, _)| path).filter(is_checkpoint);
    let newest = paths.max().expect("there is a checkpoint");
    let stem = newest.file_stem().expect("a name").to_string_lossy().into_owned();
    let (_, through) = stem.split_once('-').expect("<number>-<through>");
    (newest, u64::from_str_radix(through, 16).expect("a hexadecimal number"))
}

fn append(world: &mut World, key: usize, index: usize, change: impl FnOnce(&mut Recipe)) -> Step {
    let mut recipe = Recipe::small(world.now(), world.salt());
    change(&mut recipe);
    world.append(key, index, &recipe)?;
    Ok(())
}

/// Something in every place where something can be: sealed segments with indexes, an active one, several checkpoints, a
/// WAL with blocks behind the last of them in two slots.
pub fn filled(wal_depth: usize) -> Frozen {
    let fill = || {
        let config = Config { wal_depth, wal_size_max: 256 << 10, ..Config::new(4) };
        let mut world = World::new(config, Lookout::new(4, When::Never))?;
        world.create("orders", 2, &[("segment.bytes", "450")]);
        world.create("audit", 1, &[]);
        let ratio = ("min.cleanable.dirty.ratio", "0");
        world.create("state", 1, &[("segment.bytes", "900"), ("cleanup.policy", "compact"), ratio]);
        world.drain()?;
        for number in 0..12 {
            append(&mut world, 0, number % 2, |recipe| recipe.timestamp += number as i64)?;
            append(&mut world, 2, 0, |recipe| (recipe.keys, recipe.records) = (Some(9), 4))?;
            append(&mut world, 1, 0, |recipe| recipe.codec = Codec::Lz4)?;
            world.commit()?;
        }
        world.drain()?;
        world.tend()?;
        world.checkpoint()?;
        world.compact_all()?;
        ensure!(world.engine.stats().compaction_dropped_records > 0, "there are compacted segments");
        append(&mut world, 0, 0, |_| ())?;
        world.checkpoint()?;
        world.tend()?;
        // The log goes on in another slot.
        let slots = |world: &World| live_blocks(&world.disk).into_iter().map(|b| b.slot).collect::<BTreeSet<_>>();
        while slots(&world).len() < 2 {
            append(&mut world, 1, 0, |recipe| recipe.value_size = 4_000)?;
            append(&mut world, 0, 0, |_| ())?;
            world.drain()?;
        }
        for index in [1, 0, 1] {
            append(&mut world, 0, index, |_| ())?;
            world.drain()?;
        }
        world.freeze()
    };
    match fill() {
        Ok(frozen) => frozen,
        Err(end) => panic!("{end:?}"),
    }
}

/// Flips one bit of a copy.
pub fn flipped(frozen: &Frozen, path: &Path, position: usize, bit: u8) -> SimDisk {
    let disk = frozen.copy();
    disk.flip_bit(path, position as u64, bit).expect("a byte of the file");
    disk
}

/// Everything that was acknowledged is there.
fn check_whole(frozen: &Frozen, disk: &SimDisk, what: &str) {
    let engine = frozen.open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    frozen.due.find(&engine).unwrap_or_else(|why| panic!("{what}: {why}"));
}

/// Positions of a block to flip: all of its header, some of its body.
fn positions(block: &Block, draw: &Draw) -> Vec<usize> {
    let body = (0..40).map(|_| draw.within(BLOCK_HEADER as u64..=block.size as u64 - 1) as usize);
    (0..BLOCK_HEADER).chain(body).collect()
}

#[test]
fn damage_to_a_block_that_a_later_one_calls_durable_is_refused() {
    for wal_depth in [1, 4] {
        let frozen = filled(wal_depth);
        let live = live_blocks(&frozen.disk);
        assert!(live.len() >= 5, "{live:#?}");
        let slots: BTreeSet<_> = live.iter().map(|block| &block.slot).collect();
        assert!(slots.len() > 1, "the blocks lie in more than one slot, so that one of them is a slot's first");
        let proven = live.iter().map(|block| block.durable_through).max().expect("there are blocks");
        let draw = Draw::new(1);
        let mut refused = 0;
        for block in live.iter().filter(|block| block.sequence <= proven) {
            for position in positions(block, &draw) {
                let bit = draw.below(8) as u8;
                let disk = flipped(&frozen, &block.slot, block.position + position, bit);
                match frozen.open(&disk) {
                    Err(OpenError::Damaged(_)) => refused += 1,
                    Err(error) => panic!("byte {position} of {block:?}: {error}"),
                    Ok(_) => panic!("byte {position} of {block:?} is damaged, and nobody says so"),
                }
                // Whoever asks for it gets what is before the damage, and can go on.
                if position == 30 {
                    check_repair(&frozen, &disk);
                }
            }
        }
        println!("{refused} damaged blocks were refused");
    }
}

/// A repaired folder holds a prefix of what was acknowledged, says what was cut, and can be used and opened again.
fn check_repair(frozen: &Frozen, disk: &SimDisk) {
    let (engine, cut) = Engine::repair(frozen.env(disk), frozen.config.options()).expect("a repair");
    assert!(cut.is_some(), "the repair says what it cut");
    for (key, topic) in &frozen.due.base.topics {
        let found = engine.topic(&topic.name).expect("topics are older than the damage");
        for (index, due) in topic.partitions.iter().enumerate() {
            let partition = found.partition(index as u32).expect("as many partitions");
            let all = crate::expectation::read_all(&partition).expect("readable");
            if frozen.due.passes.of(*key, index).is_some() {
                compacted::found(due, &all.into(), 0).expect("what was appended");
                continue;
            }
            let due: Vec<u8> = due.batches.iter().flat_map(|batch| batch.bytes.to_vec()).collect();
            assert!(due.starts_with(&all), "a repair keeps a prefix");
        }
    }
    drop(engine);
    let engine = frozen.open(disk).expect("a repaired folder opens");
    let mut drive = engine.drive().expect("not started");
    let partition = engine.topic("audit").expect("an old topic").partition(0).expect("one partition");
    let ack = engine.ack();
    partition.append(&Recipe::small(frozen.clock_ms(), 1).build(), &ack).expect("room");
    drive.settle().expect("a healthy disk");
    assert_eq!(ack.poll_done(), Some(Ok(())));
}

#[test]
fn damage_to_the_last_block_is_refused_once_the_idle_committer_has_said_that_it_is_durable() {
    let fill = |seals: bool| {
        let mut world = World::new(Config::new(5), Lookout::new(5, When::Never))?;
        world.create("orders", 1, &[]);
        world.drain()?;
        append(&mut world, 0, 0, |_| ())?;
        world.drain()?;
        if seals {
            world.seal()?;
            world.drain()?;
        }
        world.freeze()
    };
    let fill = |seals| fill(seals).unwrap_or_else(|end: End| panic!("{end:?}"));
    let sealed = fill(true);
    let live = live_blocks(&sealed.disk);
    let block = &live[live.len() - 2];
    let disk = flipped(&sealed, &block.slot, block.position + block.size - 1, 0);
    assert!(matches!(sealed.open(&disk), Err(OpenError::Damaged(_))));
    // Without that word a damaged last block cannot be told from one that was being written.
    let open = fill(false);
    let live = live_blocks(&open.disk);
    let block = live.last().expect("there are blocks");
    let disk = flipped(&open, &block.slot, block.position + block.size - 1, 0);
    let engine = open.open(&disk).expect("a torn block is cut");
    let partition = engine.topic("orders").expect("an earlier block made it").partition(0).expect("one");
    assert_eq!(partition.bounds().high_watermark, Offset(0));
}

#[test]
fn damage_to_what_nobody_needs_does_no_harm() {
    let frozen = filled(4);
    let draw = Draw::new(2);
    let through = newest_checkpoint(&frozen.disk).1;
    // Blocks that the checkpoint covers, stale ones of an earlier lap among them.
    for block in blocks(&frozen.disk).iter().filter(|block| block.sequence <= through) {
        for position in positions(block, &draw) {
            let disk = flipped(&frozen, &block.slot, block.position + position, draw.below(8) as u8);
            check_whole(&frozen, &disk, &format!("byte {position} of {block:?}"));
        }
    }
    // Padding behind blocks, zeros behind the last.
    for block in live_blocks(&frozen.disk) {
        let end = block.position + block.size;
        if !end.is_multiple_of(4096) {
            let disk = flipped(&frozen, &block.slot, end, 3);
            check_whole(&frozen, &disk, &format!("padding of {block:?}"));
        }
        let behind = (end.next_multiple_of(4096) + 5_000) as u64;
        let size = frozen.disk.content(&block.slot).expect("it is there").len() as u64;
        if behind < size && block.sequence == live_blocks(&frozen.disk).last().map_or(0, |last| last.sequence) {
            let disk = flipped(&frozen, &block.slot, behind as usize, 3);
            check_whole(&frozen, &disk, "zeros behind the log's end");
        }
    }
    // Bytes of a slot's header that say nothing.
    for (path, _) in frozen.disk.files() {
        if path.extension().is_some_and(|extension| extension == "slot") {
            let disk = flipped(&frozen, &path, 2_000, 1);
            check_whole(&frozen, &disk, "the rest of a slot's first page");
        }
    }
}

#[test]
fn damage_to_a_slots_header_is_refused_or_does_no_harm() {
    let frozen = filled(4);
    for (path, _) in frozen.disk.files() {
        if path.extension().is_none_or(|extension| extension != "slot") {
            continue;
        }
        for bit in 0..20 * 8 {
            let disk = flipped(&frozen, &path, bit / 8, (bit % 8) as u8);
            if frozen.open(&disk).is_ok() {
                check_whole(&frozen, &disk, &format!("bit {bit} of {}", path.display()));
            }
        }
    }
}

#[test]
fn damage_to_a_checkpoint_is_refused_or_does_no_harm() {
    let frozen = filled(4);
    let draw = Draw::new(3);
    let (newest, _) = newest_checkpoint(&frozen.disk);
    let mut refused = 0;
    for (path, size) in frozen.disk.files() {
        if path.parent() != Some(Path::new("data/checkpoints")) {
            continue;
        }
        for position in some(size, 200, &draw) {
            let disk = flipped(&frozen, &path, position, draw.below(8) as u8);
            match frozen.open(&disk) {
                Ok(_) => {
                    let what = format!("byte {position} of {}", path.display());
                    assert_ne!(path, newest, "{what}: nobody says so");
                    check_whole(&frozen, &disk, &what);
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_missing_checkpoint_file_is_refused_or_does_no_harm() {
    let frozen = filled(4);
    for (path, _) in frozen.disk.files() {
        if path.parent() == Some(Path::new("data/checkpoints")) {
            let disk = frozen.copy();
            frozen.env(&disk).disk.remove(&path).expect("it is there");
            if frozen.open(&disk).is_ok() {
                check_whole(&frozen, &disk, &format!("without {}", path.display()));
            }
        }
    }
}

/// The segment files, with how many of their bytes are batches.
fn segments(frozen: &Frozen) -> Vec<(PathBuf, u64)> {
    let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    frozen.disk.files().into_iter().filter(|(path, _)| is_segment(path)).collect()
}

/// Reads from every offset, in small and large pieces, and looks for times. All that comes is right; says whether damage was
/// met.
fn read_around(frozen: &Frozen, engine: &Engine, what: &str) -> bool {
    let mut met = false;
    for (key, topic) in &frozen.due.base.topics {
        let found = engine.topic(&topic.name).expect("the catalogue is whole");
        for (index, due) in topic.partitions.iter().enumerate() {
            let partition = found.partition(index as u32).expect("the catalogue is whole");
            assert_eq!(partition.bounds().high_watermark, Offset(due.next), "{what}");
            let seen = frozen.due.passes.of(*key, index);
            // Each read goes to an offset of its own, in an order that keeps caches from helping.
            for from in (0..due.next).rev().step_by(3) {
                for bytes_max in [1, 300, 1 << 20] {
                    let from = Offset(from);
                    let request = ReadRequest { from, bytes_max, at_least_one: true, stable_only: false };
                    let Ok((bytes, next)) = read(&partition, &request) else {
                        met = true;
                        continue;
                    };
                    if let Some(seen) = &seen {
                        let found = compacted::found(due, &bytes, from.0);
                        let found = found.unwrap_or_else(|why| panic!("{what}: from offset {from}: {why}"));
                        let gone = compacted::check_gone(due, &found.rows, (from.0, next.0), seen);
                        gone.unwrap_or_else(|why| panic!("{what}: from offset {from}: {why}"));
                        continue;
                    }
                    let batches = due.batches.iter().filter(|batch| batch.end() > from.0 && batch.base < next.0);
                    let right: Vec<u8> = batches.flat_map(|batch| batch.bytes.to_vec()).collect();
                    assert!(bytes == right, "{what}: damaged bytes were served from offset {from}");
                }
            }
            let mut records: Vec<(i64, i64)> = due.batches.iter().flat_map(|batch| batch.records()).collect();
            if seen.is_some() {
                // What is left of it, when that can be read.
                let Ok(bytes) = crate::expectation::read_all(&partition) else {
                    met = true;
                    continue;
                };
                let found = compacted::found(due, &bytes.into(), 0).unwrap_or_else(|why| panic!("{what}: {why}"));
                records = found.rows.into_iter().map(|row| (row.offset, row.timestamp)).collect();
            }
            for at in records.iter().map(|record| record.1).step_by(7) {
                let right = records.iter().find(|record| record.1 >= at).map(|record| record.0);
                match partition.find_time(TimestampMs(at)) {
                    Ok(point) => assert_eq!(point.map(|point| point.offset.0), right, "{what}: time {at}"),
                    Err(ReadError::Corrupt(_)) => met = true,
                    Err(error) => panic!("{what}: time {at}: {error}"),
                }
            }
        }
    }
    met
}

/// As [`filled`], with everything in a checkpoint: nothing is replayed, so that the segments stay as they are.
fn settled() -> Frozen {
    let mut frozen = filled(4);
    let disk = frozen.copy();
    let engine = frozen.open(&disk).expect("a whole folder");
    let mut drive = engine.drive().expect("not started");
    drive.settle().expect("a healthy disk");
    drop((drive, engine));
    frozen.disk = disk.kill_image();
    frozen
}

/// Bytes of a file of this size to flip: in the long form all.
fn some(size: u64, first: usize, draw: &Draw) -> Vec<usize> {
    let size = size as usize;
    if is_long() {
        return (0..size).collect();
    }
    let rest = (0..size / 60).map(|_| draw.below(size as u64) as usize);
    (0..first.min(size)).chain(rest).collect()
}

fn damage_segments(frozen: &Frozen) {
    let draw = Draw::new(mix(6, 0));
    let mut reports = 0;
    for (number, (path, size)) in segments(frozen).into_iter().enumerate() {
        // Of some segments every byte of the first batch's header is flipped: base offset, length and epoch lie outside of
        // the CRC.
        for position in some(size, if number % 8 == 0 { 80 } else { 0 }, &draw) {
            let what = format!("byte {position} of {}", path.display());
            let disk = flipped(frozen, &path, position, draw.below(8) as u8);
            let engine = frozen.open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            let mut met = read_around(frozen, &engine, &what);
            if let Err(why) = compare(&frozen.due.base, &frozen.due.passes, &engine) {
                assert!(why.contains("is damaged"), "{what}: {why}");
                met = true;
            }
            assert_eq!(met, (position as u64) < published_size(frozen, &path), "{what}");
            assert_eq!(met, engine.stats().damage > 0, "{what}: the operator is told");
            reports += usize::from(met);
        }
    }
    assert!(reports > 50, "{reports}");
}

/// Bytes of a segment file that are batches.
fn published_size(frozen: &Frozen, path: &Path) -> u64 {
    let content = frozen.disk.content(path).expect("it is there");
    headwater_engine::batch::headers(&content)
        .map(|(position, header)| (position + header.size) as u64)
        .max()
        .unwrap_or(0)
}

#[test]
fn damage_to_a_segment_is_reported_and_never_served() {
    damage_segments(&settled());
}

#[test]
fn damage_to_a_segment_without_index_is_reported_and_never_served() {
    let frozen = settled();
    for (path, _) in indexes(&frozen) {
        frozen.env(&frozen.disk).disk.remove(&path).expect("it is there");
    }
    damage_segments(&frozen);
}

fn indexes(frozen: &Frozen) -> Vec<(PathBuf, u64)> {
    let is_index = |path: &Path| path.extension().is_some_and(|extension| extension == "index");
    frozen.disk.files().into_iter().filter(|(path, _)| is_index(path)).collect()
}

#[test]
fn a_damaged_index_is_made_again() {
    let frozen = settled();
    let draw = Draw::new(7);
    let indexes = indexes(&frozen);
    assert!(indexes.len() > 2);
    for (path, size) in indexes {
        for position in some(size, 4, &draw) {
            let what = format!("byte {position} of {}", path.display());
            let disk = flipped(&frozen, &path, position, draw.below(8) as u8);
            let engine = frozen.open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(!read_around(&frozen, &engine, &what), "{what}: the records are whole");
            assert_eq!(engine.stats().damage, 0, "{what}");
        }
    }
}

#[test]
fn the_scrub_finds_what_is_damaged_and_nothing_else() {
    let frozen = settled();
    let scrub = |disk: &SimDisk| {
        let engine = frozen.open(disk).expect("segments are not looked at");
        let mut drive = engine.drive().expect("not started");
        while drive.scrub() > 0 {}
        engine.stats().damage
    };
    assert_eq!(scrub(&frozen.copy()), 0);
    let draw = Draw::new(8);
    let mut found = 0;
    for (path, _) in segments(&frozen) {
        let size = published_size(&frozen, &path);
        // The scrub leaves the active segments alone: they have no index.
        let is_sealed = frozen.disk.content(&path.with_extension("index")).is_ok();
        for position in (0..20).chain((0..10).map(|_| draw.below(size.max(1)))) {
            if size > 0 && is_sealed {
                let disk = flipped(&frozen, &path, position as usize, draw.below(8) as u8);
                assert_eq!(scrub(&disk), 1, "byte {position} of {}", path.display());
                found += 1;
            }
        }
    }
    assert!(found > 50, "{found}");
}
