//! The folder of checkpoints: chains, merges, and files that are missing or damaged.

use super::file;
use super::{Header, Loaded, Store};
use crate::commit::Changes;
use crate::env::Disk;
use crate::env::sim::SimDisk;
use crate::ids::{Epoch, Sequence, TopicId};
use crate::wal::ring::Place;
use crate::wal::scan::Run;
use proptest::prelude::*;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "checkpoints";

fn header(through: u64) -> Header {
    Header {
        through: Sequence(through),
        crc: through as u32,
        place: Place { slot: 1, position: 4096 },
        data_id: TopicId([3; 16]),
        epoch: Epoch(2),
        next_partition: 7,
        next_producer: 1000,
        runs: vec![Run { incarnation: 4, first: Sequence(through) }],
        ..Header::default()
    }
}

/// A folder with a checkpoint through each of 1 to `count`; number n sets key n % 5 to n, or takes it away.
fn folder(count: u64) -> (SimDisk, Changes) {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let mut store = Store::new(Arc::new(disk.clone()), DIR.into());
    let mut state = Changes::new();
    for number in 1..=count {
        let key = vec![number as u8 % 5];
        let value = (number % 4 != 0).then(|| number.to_le_bytes().to_vec());
        match &value {
            Some(value) => state.insert(key.clone(), Some(value.clone())),
            None => state.remove(&key),
        };
        store.write(header(number), [(key, value)].into()).unwrap();
    }
    (disk, state)
}

fn load(disk: &SimDisk) -> io::Result<Option<Loaded>> {
    Ok(Store::load(Arc::new(disk.clone()), DIR.into())?.map(|(_, loaded)| loaded))
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().map(|(path, _)| path).collect()
}

#[test]
fn the_newest_state_is_loaded_after_any_number_of_checkpoints() {
    for count in 1..60 {
        let (disk, state) = folder(count);
        let loaded = load(&disk).unwrap().unwrap();
        assert_eq!(loaded.header.through, Sequence(count));
        assert_eq!(loaded.header.number, count);
        assert_eq!(loaded.state, state, "after {count}");
        assert_eq!(loaded.unusable, None);
        assert!(files(&disk).len() <= 2 * 18, "what is merged goes: {:#?}", files(&disk));
    }
}

#[test]
fn an_empty_folder_holds_no_checkpoint() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    assert!(load(&disk).unwrap().is_none());
}

#[test]
fn a_missing_or_damaged_file_of_the_chain_is_told_or_not_needed() {
    for count in [1, 2, 10, 20, 40] {
        let (whole, state) = folder(count);
        let through = load(&whole).unwrap().unwrap().header.through;
        for path in files(&whole) {
            let removed = whole.kill_image();
            removed.remove(&path).unwrap();
            let flipped = whole.kill_image();
            flipped.flip_bit(&path, 90, 1).unwrap();
            for disk in [removed, flipped] {
                let is_newest = files(&whole).last() == Some(&path);
                match load(&disk) {
                    // Without the newest file nothing tells that there was one; the WAL then lacks what it covered.
                    Ok(Some(loaded)) if loaded.unusable.is_none() && loaded.header.through < through => {
                        assert!(is_newest && !disk.exists(&path).unwrap(), "{}", path.display());
                    }
                    Ok(Some(loaded)) if loaded.unusable.is_none() => assert_eq!(loaded.state, state),
                    Ok(Some(loaded)) => assert!(loaded.header.through < through),
                    Ok(None) => assert_eq!(files(&whole).len(), 1),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData),
                }
            }
        }
    }
}

/// After a repair checkpoints go on behind the file that cannot be read, and a later load does not stumble over it.
#[test]
fn checkpoints_go_on_behind_a_damaged_file() {
    let (disk, _) = folder(5);
    let damaged = files(&disk).pop().unwrap();
    disk.flip_bit(&damaged, 100, 1).unwrap();
    let (mut store, loaded) = Store::load(Arc::new(disk.clone()), DIR.into()).unwrap().unwrap();
    assert_eq!(loaded.header.number, 4);
    assert!(loaded.unusable.unwrap().contains(damaged.file_name().unwrap().to_str().unwrap()));
    store.write(header(9), [(vec![200], Some(vec![1]))].into()).unwrap();
    let loaded = load(&disk).unwrap().unwrap();
    assert_eq!((loaded.header.number, loaded.header.through, loaded.unusable), (6, Sequence(9), None));
    let mut state = loaded.state;
    assert_eq!(state.remove([200].as_slice()), Some(Some(vec![1])));
    assert_eq!(state, folder(4).1, "all but what was in the damaged file");
}

fn some_changes() -> Changes {
    let mut changes: Changes = (0..20u8).map(|key| (vec![key; usize::from(key)], Some(vec![key; 30]))).collect();
    changes.insert(vec![250], None);
    changes.insert(vec![251], Some(Vec::new()));
    changes
}

#[test]
fn a_file_reads_back_as_it_was_written() {
    let header = Header { number: 9, previous: 77, ..header(8) };
    let (bytes, crc) = file::encode(&header, &some_changes());
    assert_eq!(file::decode(&bytes), Ok((header, some_changes(), crc)));
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_file_is_seen() {
    let (bytes, _) = file::encode(&header(8), &some_changes());
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(file::decode(&damaged).is_err(), "byte {at}");
        assert!(file::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

proptest! {
    /// The CRC made right again, so that what lies behind it is read.
    #[test]
    fn damaged_files_are_read_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let (mut bytes, _) = file::encode(&header(8), &some_changes());
        let body = bytes.len() - 4;
        for (at, byte) in changes {
            bytes[at.index(body)] = byte;
        }
        let crc = crate::batch::crc32c(&bytes[..body]);
        bytes[body..].copy_from_slice(&crc.to_le_bytes());
        let _ = file::decode(&bytes);
    }
}
