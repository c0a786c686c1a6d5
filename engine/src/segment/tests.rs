//! The sparse index, and walks over damaged bytes.

use super::files::FileTable;
use super::gather::Bounds;
use super::index::{INTERVAL_BYTES, Index, IndexEntry};
use super::loads::Loads;
use super::walk::{HeaderWalk, WalkError, verify};
use crate::batch::BatchBuilder;
use crate::env::Disk;
use crate::env::sim::SimDisk;
use crate::ids::{Epoch, FileId, Offset, TimestampMs};
use proptest::prelude::*;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NEXT: FileId = FileId(77);

/// An index of batches of these sizes, one record each, and every batch's offset, position and greatest timestamp before.
fn index_of(sizes: &[u64], times: &[i64]) -> (Index, Vec<IndexEntry>) {
    let mut index = Index::starting_at(0);
    let mut batches = Vec::new();
    let (mut position, mut before) = (0, i64::MIN);
    for (offset, (size, time)) in sizes.iter().zip(times).enumerate() {
        let entry = IndexEntry {
            offset: Offset(offset as i64),
            position,
            max_timestamp_before: TimestampMs(before),
            append_time: TimestampMs(5),
        };
        index.note(entry);
        batches.push(entry);
        position += size;
        before = before.max(*time);
    }
    (index, batches)
}

proptest! {
    #[test]
    fn an_index_finds_a_batch_at_or_before_what_is_wanted(
        batches in prop::collection::vec((61u64..40_000, 0i64..1_000), 1..60),
        wanted in 0u64..2_000_000,
        time in 0i64..1_000,
    ) {
        let (sizes, times): (Vec<u64>, Vec<i64>) = batches.into_iter().unzip();
        let (index, batches) = index_of(&sizes, &times);
        let offset = Offset((wanted % batches.len() as u64) as i64);
        let floor = index.floor_offset(offset).expect("the first batch has an entry");
        prop_assert!(floor.offset <= offset && batches.contains(&floor));
        let target = batches[offset.0 as usize].position;
        prop_assert!(target - floor.position < INTERVAL_BYTES + 40_000, "an entry is never far");
        let floor = index.floor_position(wanted).expect("the first batch has an entry");
        prop_assert!(floor.position <= wanted && batches.contains(&floor));
        // No record before the entry is as late as wanted.
        let found = index.last_before(|timestamp| timestamp.0 >= time).expect("before the first there is none");
        let first = times.iter().position(|at| *at >= time).unwrap_or(times.len());
        prop_assert!(found.offset.0 <= first as i64);
        prop_assert_eq!(Index::decode(&index.encode(NEXT), FileId(3), NEXT), Some(index));
    }

    #[test]
    fn a_damaged_index_is_refused(
        sizes in prop::collection::vec(61u64..100_000, 0..30),
        at in any::<prop::sample::Index>(),
        bit in 0u32..8,
        cut in any::<prop::sample::Index>(),
    ) {
        let (index, _) = index_of(&sizes, &vec![1; sizes.len()]);
        let bytes = index.encode(NEXT);
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] ^= 1u8 << bit;
        prop_assert_eq!(Index::decode(&damaged, FileId(3), NEXT), None);
        prop_assert_eq!(Index::decode(&bytes[..cut.index(bytes.len())], FileId(3), NEXT), None);
        prop_assert_eq!(Index::decode(&[bytes.as_slice(), &[0]].concat(), FileId(3), NEXT), None);
        prop_assert_eq!(Index::decode(&bytes, FileId(3), FileId(78)), None, "another segment followed");
        let compacted = index.encode(FileId(3));
        prop_assert_eq!(Index::decode(&compacted, FileId(3), FileId(78)), Some(index), "it was whole from the first");
    }

    #[test]
    fn any_bytes_are_an_index_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        Index::decode(&bytes, FileId(3), NEXT);
        let with_magic = [b"HWIDX\0\x01\0".as_slice(), &bytes].concat();
        Index::decode(&with_magic, FileId(3), NEXT);
    }

    #[test]
    fn a_walk_over_any_bytes_ends(bytes in prop::collection::vec(any::<u8>(), 0..400), shift in 0usize..20) {
        let mut file = batches(3);
        let start = shift.min(file.len());
        file.splice(start.., bytes);
        let table = table(&file);
        let file = table.get(FileId(1)).unwrap();
        let size = file.disk_file().size().unwrap();
        let mut walk = HeaderWalk::new(&file, 0, Offset(0), size);
        while let Ok(Some(_)) = walk.next_batch() {}
        let _ = verify(&file, 0, Offset(0), size, &[(Epoch(0), Offset(0))], |_, _| {});
    }
}

/// Batches of one record each.
fn batches(count: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for offset in 0..count {
        let mut builder = BatchBuilder::new().place(Offset(offset), Epoch(0));
        builder.push(TimestampMs(offset), None, Some(b"value"), &[]).unwrap();
        bytes.extend_from_slice(&builder.finish().unwrap());
    }
    bytes
}

/// A table with file 1.
fn table(bytes: &[u8]) -> FileTable {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("segments")).unwrap();
    let table = FileTable::new(
        Arc::new(disk.clone()),
        "segments".into(),
        4,
        Bounds { piece: 4096, files: 2, waiting: 8192, readers_stay: Duration::ZERO },
    );
    table.create(FileId(1)).unwrap().disk_file().write_at(&[IoSlice::new(bytes)], 0).unwrap();
    table
}

#[test]
fn whole_batches_verify_and_every_flipped_bit_is_seen() {
    let bytes = batches(3);
    let epochs = [(Epoch(0), Offset(0))];
    let check = |bytes: &[u8]| {
        let table = table(bytes);
        let file = table.get(FileId(1)).unwrap();
        verify(&file, 0, Offset(0), bytes.len() as u64, &epochs, |_, _| {})
    };
    check(&bytes).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let outcome = check(&damaged);
            assert!(matches!(outcome, Err(WalkError::Corrupt { .. })), "bit {bit} of byte {at}: {outcome:?}");
        }
    }
    assert!(matches!(check(&bytes[..bytes.len() - 1]), Err(WalkError::Corrupt { .. })));
}

#[test]
fn a_file_that_is_shorter_than_what_is_published_is_an_error() {
    let table = table(&batches(1));
    let file = table.get(FileId(1)).unwrap();
    let error = verify(&file, 0, Offset(0), 10_000, &[], |_, _| {}).unwrap_err();
    assert!(matches!(error, WalkError::Io(_)), "{error}");
    let error = Loads::default().bring_in(&file, 0, 10_000, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    let size = file.disk_file().size().unwrap();
    assert!(Loads::default().bring_in(&file, 0, size, Duration::ZERO).unwrap());
}

#[test]
fn the_table_closes_what_was_not_used_lately() {
    let table = table(b"");
    for id in 2..20 {
        table.create(FileId(id)).unwrap();
    }
    assert_eq!(table.open_count(), 4);
    assert!(table.at_hand(FileId(1)).is_none());
    table.get(FileId(1)).unwrap();
    assert!(table.at_hand(FileId(1)).is_some());
    assert!(table.create(FileId(1)).is_err(), "an id is never used twice");
    assert_eq!(table.list().unwrap(), (1..20).map(FileId).collect::<Vec<_>>());
    table.remove(FileId(1)).unwrap();
    table.remove(FileId(1)).unwrap();
    assert!(table.get(FileId(1)).is_err());
}

#[test]
fn a_table_that_goes_takes_files_with_it_whose_pieces_wait() {
    let table = table(b"");
    let file = table.get(FileId(1)).unwrap();
    table.append(&file, &[IoSlice::new(&[1; 5000])], 0, true).unwrap();
    assert!(file.gather().holds(5000));
    let left = Arc::downgrade(&file);
    drop((file, table));
    assert_eq!(left.strong_count(), 0);
}
