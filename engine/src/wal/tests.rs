//! What is read back from a WAL, and where its end is an end and where a wound.

use super::block::{BlockHeader, BlockWriter, HEADER_SIZE};
use super::entry::{Entry, FIXED_SIZE_MAX, Swap, SwappedIn, TopicRecord, alter_entry_size};
use super::ring::{Place, Ring, SlotFile, create_slot, list_slots};
use super::scan::{Run, Scanner};
use super::{BLOCK_ALIGNMENT, SLOT_HEADER_SIZE};
use crate::encoding::Reader;
use crate::env::sim::SimDisk;
use crate::env::{AlignedBuffer, Disk, OpenMode, WalMethod};
use crate::ids::{Epoch, FileId, Offset, PartitionId, Sequence, TimestampMs, TopicId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

const SLOT_SIZE: u64 = 64 << 10;

/// A WAL that is written block by block.
struct Log {
    disk: SimDisk,
    slots: Vec<SlotFile>,
    at: Place,
    next: u64,
    previous_crc: u32,
    incarnation: u64,
    runs: Vec<Run>,
    /// Where each block lies, from block 1 on.
    places: Vec<Place>,
}

impl Log {
    fn new(slots: u32) -> Log {
        let disk = SimDisk::new(1);
        let dir = Path::new("wal");
        disk.create_dir_all(dir).unwrap();
        let slots = (0..slots).map(|number| create_slot(&disk, dir, number, SLOT_SIZE).unwrap()).collect();
        let (incarnation, first) = (1, Sequence(1));
        let at = Place { slot: 0, position: SLOT_HEADER_SIZE };
        let runs = vec![Run { incarnation, first }];
        Log { disk, slots, at, next: 1, previous_crc: 0, incarnation, runs, places: Vec::new() }
    }

    fn path(&self, slot: u32) -> PathBuf {
        self.slots[slot as usize].path.clone()
    }

    /// Writes the next block, with a body of this size, which says that all blocks up to `durable_through` are durable.
    fn write(&mut self, body: usize, durable_through: u64) {
        let mut block = BlockWriter::new(AlignedBuffer::with_capacity(HEADER_SIZE + body), false);
        block.put(&vec![self.next as u8; body]);
        let header = BlockHeader {
            crc: 0,
            body_size: 0,
            entry_count: 1,
            incarnation: self.incarnation,
            sequence: Sequence(self.next),
            durable_through: Sequence(durable_through),
            previous_crc: self.previous_crc,
        };
        let (block, crc) = block.finish(header);
        self.previous_crc = crc;
        if self.at.position + block.len() as u64 > SLOT_SIZE {
            self.at = Place { slot: self.at.slot + 1, position: SLOT_HEADER_SIZE };
        }
        let file = self.disk.open(&self.path(self.at.slot), OpenMode::Write).unwrap();
        file.write_at(&block.slices(), self.at.position).unwrap();
        self.places.push(self.at);
        self.at.position += block.len() as u64;
        self.next += 1;
    }

    /// A new run starts behind what there is.
    fn restart(&mut self) {
        self.incarnation += 1;
        self.runs.push(Run { incarnation: self.incarnation, first: Sequence(self.next) });
    }

    fn damage(&self, block: u64, byte: u64) {
        let place = self.places[block as usize - 1];
        self.disk.flip_bit(&self.path(place.slot), place.position + byte, 3).unwrap();
    }

    /// How many blocks are read, and whether damage is seen.
    fn read(&self) -> (u64, Option<String>) {
        let place = Place { slot: 0, position: 0 };
        let mut scanner = Scanner::open(&self.disk, &self.slots, &self.runs, place, Sequence(1), 0).unwrap();
        let mut block = Vec::new();
        while let Some(header) = scanner.read_next(&mut block).unwrap() {
            assert_eq!(block.len(), HEADER_SIZE + header.body_size as usize);
            assert!(block[HEADER_SIZE..].iter().all(|byte| *byte == header.sequence.0 as u8));
        }
        (scanner.next_sequence().0 - 1, scanner.find_damage().unwrap())
    }
}

#[test]
fn a_chain_is_followed_from_slot_to_slot() {
    let mut log = Log::new(3);
    for number in 0..20 {
        log.write(7_000 + number * 13, 0);
    }
    assert_eq!(log.at.slot, 2, "three slots are in use");
    assert_eq!(log.read(), (20, None));
}

#[test]
fn a_block_that_nobody_called_durable_is_a_torn_end() {
    let mut log = Log::new(1);
    for _ in 0..4 {
        log.write(100, 2);
    }
    // Blocks 3 and 4 were in flight together.
    log.damage(3, 70);
    assert_eq!(log.read(), (2, None));
    log.damage(4, 70);
    assert_eq!(log.read(), (2, None));
}

#[test]
fn a_block_that_a_later_one_called_durable_is_damage() {
    for (durable_through, is_damage) in [(1, false), (2, true), (3, true)] {
        let mut log = Log::new(1);
        for number in 0..4 {
            log.write(100, if number == 3 { durable_through } else { 0 });
        }
        log.damage(2, 70);
        let (read, damage) = log.read();
        assert_eq!((read, damage.is_some()), (1, is_damage), "durable through {durable_through}: {damage:?}");
    }
}

/// The proof may lie in the same slot behind the damaged block, also when that is the slot's first, or in another slot.
#[test]
fn a_proof_is_found_wherever_it_lies() {
    let mut log = Log::new(4);
    for number in 0..28 {
        log.write(7_000, number);
    }
    assert!(log.at.slot >= 3);
    for block in 1..28 {
        for byte in [0, 5, 9, 17, 25, 41, 64, 7_000] {
            log.damage(block, byte);
            let (read, damage) = log.read();
            assert_eq!(read, block - 1);
            assert!(damage.is_some(), "byte {byte} of block {block}, at {:?}", log.places[block as usize - 1]);
            log.damage(block, byte);
        }
    }
    log.damage(28, 100);
    assert_eq!(log.read(), (27, None), "nothing proves the last");
}

#[test]
fn a_missing_block_of_an_earlier_run_is_damage() {
    let mut log = Log::new(1);
    log.write(100, 0);
    log.write(100, 0);
    log.restart();
    assert_eq!(log.read(), (2, None));
    log.damage(2, 80);
    let (read, damage) = log.read();
    assert_eq!(read, 1);
    assert!(damage.unwrap().contains("a later run"));
}

/// A run was cut behind block 2, and the next one wrote over block 3. What is left of the old run is not taken for its.
#[test]
fn blocks_of_a_run_that_was_cut_do_not_come_back() {
    let mut log = Log::new(1);
    for _ in 0..5 {
        log.write(100, 0);
    }
    let old = log.previous_crc;
    log.places.truncate(2);
    log.next = 3;
    log.at = Place { slot: 0, position: SLOT_HEADER_SIZE + 2 * BLOCK_ALIGNMENT };
    let mut scanner =
        Scanner::open(&log.disk, &log.slots, &log.runs, Place::default(), Sequence(1), 0).expect("readable");
    let mut block = Vec::new();
    for _ in 0..2 {
        log.previous_crc = scanner.read_next(&mut block).unwrap().expect("a block").crc;
    }
    assert_ne!(old, log.previous_crc);
    log.restart();
    assert_eq!(log.read(), (2, None), "the new run has written nothing yet");
    log.write(100, 0);
    assert_eq!(log.read(), (3, None), "block 4 of the old run does not follow block 3 of the new one");
}

#[test]
fn a_block_of_a_run_that_no_checkpoint_knows_is_damage() {
    let mut log = Log::new(2);
    log.write(100, 0);
    log.restart();
    log.at = Place { slot: 1, position: SLOT_HEADER_SIZE };
    log.write(100, 0);
    log.runs.pop();
    let (read, damage) = log.read();
    assert_eq!(read, 1);
    assert!(damage.unwrap().contains("no checkpoint knows"));
}

#[test]
fn slots_are_used_again_only_when_a_checkpoint_covers_them() {
    let log = Log::new(2);
    let mut device = log.disk.wal_device(WalMethod::Auto, Path::new("wal")).unwrap();
    let start = Place { slot: 0, position: 0 };
    let mut ring = Ring::open(&mut *device, &log.slots, start, &[]).unwrap();
    let mut place = |size, sequence, checkpointed| {
        ring.place(size, Sequence(sequence), Sequence(checkpointed)).map(|(_, place)| (place.slot, place.position))
    };
    assert_eq!(place(40_960, 1, 0), Some((0, 4_096)));
    assert_eq!(place(40_960, 2, 0), Some((1, 4_096)), "it does not fit behind block 1");
    assert_eq!(place(40_960, 3, 0), None, "both slots are needed");
    assert_eq!(place(16_384, 3, 0), Some((1, 45_056)), "a smaller one fits behind block 2");
    assert_eq!(place(40_960, 4, 1), Some((0, 4_096)), "block 1 is covered");
    assert_eq!(place(40_960, 5, 2), None, "block 3 is not");
    assert_eq!(place(40_960, 5, 3), Some((1, 4_096)));
    assert_eq!(place(61_440, 6, 5), Some((0, 4_096)));
    assert_eq!(place(61_440, 7, 4), None);
    assert_eq!(place(65_536, 7, 6), None, "larger than any slot");
}

/// One large slot and one small: the large one must be used again and again.
#[test]
fn the_current_slot_is_used_again_when_it_is_covered() {
    let disk = SimDisk::new(1);
    let dir = Path::new("wal");
    disk.create_dir_all(dir).unwrap();
    let slots = [create_slot(&disk, dir, 0, SLOT_SIZE).unwrap(), create_slot(&disk, dir, 1, 4 * SLOT_SIZE).unwrap()];
    let mut device = disk.wal_device(WalMethod::Auto, dir).unwrap();
    let mut ring = Ring::open(&mut *device, &slots, Place { slot: 0, position: 0 }, &[]).unwrap();
    let mut place = |sequence, checkpointed| {
        let placed = ring.place(3 * SLOT_SIZE, Sequence(sequence), Sequence(checkpointed));
        placed.map(|(_, place)| (place.slot, place.position))
    };
    for sequence in 1..10 {
        assert!(sequence == 1 || place(sequence, sequence - 2).is_none(), "the block before is still needed");
        assert_eq!(place(sequence, sequence - 1), Some((1, SLOT_HEADER_SIZE)));
    }
}

#[test]
fn a_slot_is_made_where_direct_writes_are_refused() {
    let disk = SimDisk::new(1);
    let dir = Path::new("wal");
    disk.create_dir_all(dir).unwrap();
    let direct = create_slot(&disk, dir, 3, SLOT_SIZE).unwrap();
    let made = disk.open(&direct.path, OpenMode::Read).unwrap().slice(0, SLOT_SIZE as usize).unwrap();
    disk.remove(&direct.path).unwrap();
    disk.refuse_direct_writes();
    let plain = create_slot(&disk, dir, 3, SLOT_SIZE).unwrap();
    assert_eq!(disk.open(&plain.path, OpenMode::Read).unwrap().slice(0, SLOT_SIZE as usize).unwrap(), made);
    assert!(made.starts_with(b"HWWAL\0") && made[20..].iter().all(|byte| *byte == 0), "zeros behind the header");
    assert_eq!(list_slots(&disk, dir).unwrap().len(), 1);
}

#[test]
fn a_newer_format_is_refused() {
    let log = Log::new(1);
    let file = log.disk.open(&log.path(0), OpenMode::Write).unwrap();
    file.write_at(&[IoSlice::new(&2u16.to_le_bytes())], 6).unwrap();
    let error = list_slots(&log.disk, Path::new("wal")).unwrap_err();
    assert!(error.to_string().contains("format 2"), "{error}");
}

fn entries() -> Vec<Entry<'static>> {
    let settings: BTreeMap<_, _> =
        [("segment.bytes".to_owned(), "1".to_owned()), (String::new(), "ü".to_owned())].into();
    let record = TopicRecord {
        id: TopicId([7; 16]),
        name: "orders".to_owned(),
        first: PartitionId(3),
        count: 9,
        epoch: Epoch(4),
        created: TimestampMs(5),
        settings: settings.clone(),
    };
    let (partition, file) = (PartitionId(1 << 40), FileId(u64::MAX));
    vec![
        Entry::Append { partition, file, position: 3, time: TimestampMs(-1), batch: b"not a batch" },
        Entry::Append { partition, file, position: 0, time: TimestampMs(0), batch: b"" },
        Entry::Roll { partition, file, base: Offset(8) },
        Entry::LogStart { partition, offset: Offset(i64::MAX) },
        Entry::CreateTopic(record),
        Entry::AddPartitions { topic: TopicId([1; 16]), first: PartitionId(2), count: 3, epoch: Epoch(4) },
        Entry::DeleteTopic { topic: TopicId([2; 16]) },
        Entry::ProducerIds { next: 1000 },
        Entry::AlterTopic { topic: TopicId([3; 16]), settings: settings.clone() },
        Entry::AlterTopic { topic: TopicId([3; 16]), settings: BTreeMap::new() },
        Entry::Swap { partition, swap: Swap::default() },
        Entry::Swap {
            partition,
            swap: Swap {
                removed: vec![FileId(1), FileId(2)],
                added: vec![SwappedIn {
                    file,
                    base: Offset(5),
                    size: 61,
                    max_timestamp: TimestampMs(-1),
                    first_append: TimestampMs(6),
                    last_append: TimestampMs(7),
                }],
                clean: Offset(9),
            },
        },
    ]
}

#[test]
fn entries_read_back_as_they_were_written() {
    let mut bytes = Vec::new();
    entries().iter().for_each(|entry| entry.encode(&mut bytes));
    let mut reader = Reader(&bytes);
    for entry in entries() {
        assert_eq!(Entry::decode(&mut reader), Ok(entry));
    }
    assert!(reader.is_empty());
    for cut in 0..bytes.len() {
        let mut reader = Reader(&bytes[..cut]);
        while !reader.is_empty() && Entry::decode(&mut reader).is_ok() {}
    }
}

/// The committer closes a block by what entries say of their size: it must not be less than what they take.
#[test]
fn no_entry_is_larger_than_it_says() {
    for entry in entries() {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        match &entry {
            Entry::Append { batch, .. } => assert_eq!(bytes.len(), super::entry::APPEND_HEAD_SIZE + batch.len()),
            Entry::CreateTopic(record) => assert_eq!(bytes.len(), record.entry_size()),
            Entry::AlterTopic { settings, .. } => assert_eq!(bytes.len(), alter_entry_size(settings)),
            Entry::Swap { swap, .. } => assert_eq!(bytes.len(), swap.entry_size()),
            Entry::Roll { .. }
            | Entry::LogStart { .. }
            | Entry::AddPartitions { .. }
            | Entry::DeleteTopic { .. }
            | Entry::ProducerIds { .. } => assert!(bytes.len() <= FIXED_SIZE_MAX, "{entry:?}"),
        }
    }
}

proptest! {
    /// Entries lie under a block's CRC, but whoever reads them must not fall over anything.
    #[test]
    fn damaged_entries_are_read_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = Vec::new();
        entries().iter().for_each(|entry| entry.encode(&mut bytes));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut reader = Reader(&bytes);
        while !reader.is_empty() && Entry::decode(&mut reader).is_ok() {}
    }

    #[test]
    fn any_bytes_are_a_header_or_none(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Some(header) = BlockHeader::parse(&bytes) {
            header.padded_size();
            header.verifies(&bytes);
        }
        let mut bytes = bytes;
        bytes.splice(0..bytes.len().min(4), *b"HWB1");
        if let Some(header) = BlockHeader::parse(&bytes) {
            prop_assert!(header.padded_size() > 0);
            header.verifies(&bytes);
        }
    }
}
