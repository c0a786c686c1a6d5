//! The WAL device across crashes.

use super::*;
use crate::env::{Completed, WalDevice, WalMethod, WalWrite};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const BLOCK: u64 = 4096;
const BLOCKS: usize = 12;

fn wal(disk: &SimDisk, path: &str) {
    let file = create(disk, path);
    put(&file, 0, &vec![0; BLOCKS * BLOCK as usize]);
    disk.sync_all().unwrap();
}

fn submit(device: &mut dyn WalDevice, file: &Arc<dyn DiskFile>, place: usize, fill: u8, sync: bool) -> io::Result<()> {
    let mut block = device.buffer(4096);
    block.extend_from_slice(&[fill; BLOCK as usize]);
    let (file, block) = (file.clone(), Arc::new(block.into()));
    device.submit(WalWrite { file, position: place as u64 * BLOCK, block, sync, tag: u64::from(fill) })
}

#[derive(Clone, Debug)]
enum Step {
    Submit { file: usize, place: usize, sync: bool },
    Reap(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let submit = (0usize..2, 0..BLOCKS, prop::bool::weighted(0.6));
    prop_oneof![
        3 => submit.prop_map(|(file, place, sync)| Step::Submit { file, place, sync }),
        1 => any::<bool>().prop_map(Step::Reap),
    ]
}

struct Written {
    place: (usize, usize),
    sync: bool,
    reaped: bool,
}

proptest! {
    #[test]
    fn reaped_durable_blocks_and_those_before_them_without_sync_survive(
        steps in prop::collection::vec(step(), 1..60), depth in 1usize..=4, seed: u64,
    ) {
        let disk = SimDisk::new(seed);
        wal(&disk, "0");
        wal(&disk, "1");
        disk.set_wal_depth(depth);
        let mut device = disk.wal_device(WalMethod::IoUring, Path::new("")).unwrap();
        prop_assert_eq!(device.depth(), depth);
        let files = ["0", "1"].map(|path| device.open(Path::new(path)).unwrap());
        // Writes in order; the fill byte is the index plus one.
        let mut writes: Vec<Written> = Vec::new();
        let mut done: Vec<Completed> = Vec::new();
        for step in steps {
            match step {
                Step::Submit { file, place, sync } => {
                    let in_flight = writes.iter().filter(|write| !write.reaped);
                    let busy = in_flight.clone().any(|write| write.place == (file, place));
                    if busy || writes.len() == 255 {
                        continue;
                    }
                    let full = in_flight.count() == depth;
                    let submitted = submit(device.as_mut(), &files[file], place, writes.len() as u8 + 1, sync);
                    prop_assert_eq!(submitted.is_err(), full);
                    if !full {
                        writes.push(Written { place: (file, place), sync, reaped: false });
                    }
                }
                Step::Reap(wait) => {
                    let in_flight = writes.iter().filter(|write| !write.reaped).count();
                    device.reap(wait, &mut done).unwrap();
                    prop_assert!(!wait || !done.is_empty() || in_flight == 0);
                    for completed in done.drain(..) {
                        prop_assert!(completed.result.is_ok());
                        let write = &mut writes[completed.tag as usize - 1];
                        prop_assert!(!write.reaped, "a write completes once");
                        write.reaped = true;
                    }
                }
            }
        }
        // For each place the newest write that must survive; older ones and whatever came after may show, others may not.
        let last_durable = writes.iter().rposition(|write| write.sync && write.reaped);
        let mut floor: BTreeMap<(usize, usize), u8> = BTreeMap::new();
        let mut possible: BTreeMap<(usize, usize), BTreeSet<u8>> = BTreeMap::new();
        for (index, write) in writes.iter().enumerate() {
            let fill = index as u8 + 1;
            if write.sync && write.reaped || !write.sync && last_durable.is_some_and(|last| index < last) {
                floor.insert(write.place, fill);
                possible.insert(write.place, BTreeSet::new());
            }
            possible.entry(write.place).or_insert([0].into()).insert(fill);
        }
        for (seed, killed) in (seed..seed.saturating_add(10)).zip([false, true].into_iter().cycle()) {
            let image = if killed { disk.kill_image().crash_image(seed) } else { disk.crash_image(seed) };
            for file in 0..2 {
                let found = content(&image, &file.to_string());
                prop_assert_eq!(found.len(), BLOCKS * BLOCK as usize);
                for (place, block) in found.chunks(BLOCK as usize).enumerate() {
                    for sector in block.chunks(512) {
                        prop_assert!(sector.iter().all(|byte| *byte == sector[0]), "sectors are whole");
                        let possible = possible.get(&(file, place)).cloned().unwrap_or([0].into());
                        prop_assert!(
                            possible.contains(&sector[0]),
                            "{} in file {} place {}, expected one of {:?}, floor {:?}",
                            sector[0], file, place, possible, floor.get(&(file, place))
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn blocks_in_flight_may_be_torn_lost_or_overtaken() {
    let disk = SimDisk::new(1);
    wal(&disk, "0");
    let mut device = disk.wal_device(WalMethod::Auto, Path::new("")).unwrap();
    let file = device.open(Path::new("0")).unwrap();
    submit(device.as_mut(), &file, 0, 1, true).unwrap();
    submit(device.as_mut(), &file, 1, 2, true).unwrap();
    let images: Vec<Vec<u8>> = (0..SEEDS).map(|seed| content(&disk.crash_image(seed), "0")).collect();
    let whole = |image: &[u8], place: usize, fill| image[place * 4096..][..4096].iter().all(|&byte| byte == fill);
    assert!(images.iter().any(|image| whole(image, 0, 0) && whole(image, 1, 2)), "the later block alone");
    assert!(images.iter().any(|image| image[..4096].contains(&0) && image[..4096].contains(&1)), "a torn block");
    let file_again = disk.open(Path::new("0"), OpenMode::Write).unwrap();
    assert_eq!(
        file_again.write_at(&[IoSlice::new(b"x")], 100).unwrap_err().kind(),
        io::ErrorKind::InvalidInput,
        "nobody writes where a WAL write is in flight"
    );
    // A sync of the file does not cover what is still in flight.
    file_again.sync().unwrap();
    disk.sync_all().unwrap();
    assert!((0..SEEDS).any(|seed| !whole(&content(&disk.crash_image(seed), "0"), 0, 1)));
    let mut done = Vec::new();
    while done.len() < 2 {
        device.reap(true, &mut done).unwrap();
    }
    assert!((0..SEEDS).all(|seed| whole(&content(&disk.crash_image(seed), "0"), 0, 1)));
    drop((file, file_again));
    submit_last_and_drop(device, &disk);
}

/// A device that drops with the last handle of a file in flight must not stall on the disk's lock.
fn submit_last_and_drop(mut device: Box<dyn WalDevice>, disk: &SimDisk) {
    for drop_first in [true, false] {
        let file = device.open(Path::new("0")).unwrap();
        submit(device.as_mut(), &file, 3, 3, true).unwrap();
        drop(file);
        if !drop_first {
            break;
        }
        let mut done = Vec::new();
        device.reap(true, &mut done).unwrap();
        assert_eq!(done.len(), 1);
    }
    drop(device);
    assert!(disk.content(Path::new("0")).is_ok());
}

#[test]
fn a_durable_block_is_not_overwritten_by_what_the_cache_held_before() {
    let disk = SimDisk::new(1);
    wal(&disk, "0");
    let mut device = disk.wal_device(WalMethod::Auto, Path::new("")).unwrap();
    let file = device.open(Path::new("0")).unwrap();
    put(&file, 4_000, &[5; 5_000]);
    submit(device.as_mut(), &file, 1, 9, true).unwrap();
    device.reap(true, &mut Vec::new()).unwrap();
    let mut others = BTreeSet::new();
    for seed in 0..SEEDS {
        let found = content(&disk.crash_image(seed), "0");
        assert!(found[4_096..8_192].iter().all(|&byte| byte == 9));
        others.insert((found[4_000], found[8_192]));
    }
    assert_eq!(others, [(0, 0), (0, 5), (5, 0), (5, 5)].into(), "bytes beside the block are as unsynced as before");
}

#[test]
fn completions_come_in_any_order() {
    let orders: BTreeSet<Vec<u64>> = (0..SEEDS)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            wal(&disk, "0");
            let mut device = disk.wal_device(WalMethod::Auto, Path::new("")).unwrap();
            let file = device.open(Path::new("0")).unwrap();
            for place in 0..3 {
                submit(device.as_mut(), &file, place, place as u8, true).unwrap();
            }
            let mut done = Vec::new();
            while done.len() < 3 {
                device.reap(true, &mut done).unwrap();
            }
            done.iter().map(|completed| completed.tag).collect()
        })
        .collect();
    assert_eq!(orders.len(), 6, "{orders:?}");
}
