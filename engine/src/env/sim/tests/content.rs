//! Bytes and sizes across crashes.

use super::*;
use proptest::prelude::*;

const PATH: &str = "file";
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Step {
    Write { position: usize, size: usize },
    Resize(usize),
    Sync,
    SyncAll,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..6_000, 1usize..3_000).prop_map(|(position, size)| Step::Write { position, size }),
        2 => (0usize..8_000).prop_map(Step::Resize),
        1 => Just(Step::Sync),
        1 => Just(Step::SyncAll),
        1 => Just(Step::Kill),
    ]
}

/// A sector of a version, zeros past its end.
fn sector(version: &[u8], number: usize, size: usize) -> Vec<u8> {
    let byte = |position: usize| version.get(position).copied().unwrap_or(0);
    (number * SECTOR..((number + 1) * SECTOR).min(size)).map(byte).collect()
}

proptest! {
    #[test]
    fn a_crash_shows_versions_since_the_last_sync_and_nothing_else(
        steps in prop::collection::vec(step(), 1..25), seed: u64,
    ) {
        let mut disk = SimDisk::new(seed);
        let mut file = create(&disk, PATH);
        disk.sync_all().unwrap();
        // All versions since the last sync, that one first.
        let mut versions: Vec<Vec<u8>> = vec![Vec::new()];
        for (number, step) in steps.iter().enumerate() {
            let mut next = versions.last().unwrap().clone();
            match *step {
                Step::Write { position, size } => {
                    // No two writes share a byte value at one place, so that versions can be told apart.
                    let bytes: Vec<u8> = (0..size).map(|at| (number * 7 + (position + at) * 31 + 1) as u8).collect();
                    put(&file, position as u64, &bytes);
                    next.resize(next.len().max(position + size), 0);
                    next[position..position + size].copy_from_slice(&bytes);
                }
                Step::Resize(size) => {
                    file.set_size(size as u64).unwrap();
                    next.resize(size, 0);
                }
                Step::Sync | Step::SyncAll => {
                    if matches!(step, Step::Sync) { file.sync().unwrap() } else { disk.sync_all().unwrap() }
                    versions.clear();
                }
                Step::Kill => {
                    disk = disk.kill_image();
                    file = disk.open(Path::new(PATH), OpenMode::Write).unwrap();
                }
            }
            versions.push(next);
            prop_assert_eq!(&content(&disk, PATH), versions.last().unwrap());
        }
        for seed in seed..seed.saturating_add(10) {
            let image = disk.crash_image(seed);
            let found = content(&image, PATH);
            prop_assert!(versions.iter().any(|version| version.len() == found.len()), "size {}", found.len());
            for number in 0..found.len().div_ceil(SECTOR) {
                let found = &found[number * SECTOR..((number + 1) * SECTOR).min(found.len())];
                let size = number * SECTOR + found.len();
                prop_assert!(
                    versions.iter().any(|version| sector(version, number, size) == found),
                    "sector {} of {:?}", number, steps
                );
            }
            // What lies past the end does not come back when the file grows.
            image.open(Path::new(PATH), OpenMode::Write).unwrap().set_size(10_000).unwrap();
            prop_assert!(content(&image, PATH)[found.len()..].iter().all(|&byte| byte == 0));
            // A restarted disk is durable as it is.
            prop_assert_eq!(&content(&image.crash_image(seed), PATH)[..found.len().min(10)], &found[..found.len().min(10)]);
        }
    }
}

#[test]
fn unsynced_sectors_are_kept_in_every_combination() {
    let disk = SimDisk::new(1);
    let file = create(&disk, PATH);
    put(&file, 0, &[0; 1_024]);
    disk.sync_all().unwrap();
    put(&file, 0, &[1; 512]);
    put(&file, 512, &[2; 512]);
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..SEEDS {
        let found = content(&disk.crash_image(seed), PATH);
        *seen.entry((found[0], found[512])).or_insert(0) += 1;
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [(0, 0), (0, 2), (1, 0), (1, 2)]);
    assert!(seen.values().all(|&count| count > SEEDS / 20), "{seen:?}");
}

#[test]
fn one_write_may_be_torn_and_its_size_lost_or_kept_without_its_bytes() {
    let disk = SimDisk::new(1);
    let file = create(&disk, PATH);
    disk.sync_all().unwrap();
    put(&file, 0, &[9; 4_096]);
    let found: Vec<Vec<u8>> = (0..SEEDS).map(|seed| content(&disk.crash_image(seed), PATH)).collect();
    assert!(found.iter().any(Vec::is_empty));
    assert!(found.iter().any(|found| found == &[9; 4_096]));
    assert!(found.iter().any(|found| found == &[0; 4_096]));
    assert!(found.iter().any(|found| found.contains(&0) && found.contains(&9)));
}

#[test]
fn what_a_cut_removed_does_not_come_back_beside_what_it_left() {
    let disk = SimDisk::new(1);
    let file = create(&disk, PATH);
    put(&file, 0, &[1; 2_048]);
    disk.sync_all().unwrap();
    file.set_size(100).unwrap();
    file.set_size(2_048).unwrap();
    let mut cut = vec![1; 100];
    cut.resize(2_048, 0);
    let found: std::collections::BTreeSet<Vec<u8>> =
        (0..SEEDS).map(|seed| content(&disk.crash_image(seed), PATH)).collect();
    assert_eq!(found, [vec![1; 2_048], vec![1; 100], cut].into());
}

#[test]
fn what_survives_a_kill_may_still_be_lost_by_a_power_cut() {
    let disk = SimDisk::new(1);
    let file = create(&disk, PATH);
    disk.sync_all().unwrap();
    put(&file, 0, b"unsynced");
    let killed = disk.kill_image();
    assert_eq!(content(&killed, PATH), b"unsynced");
    assert!((0..SEEDS).any(|seed| content(&killed.crash_image(seed), PATH).is_empty()));
    killed.sync_all().unwrap();
    assert!((0..SEEDS).all(|seed| content(&killed.crash_image(seed), PATH) == b"unsynced"));
}

#[test]
fn slices_and_reads_end_where_the_file_does() {
    let disk = SimDisk::new(1);
    let file = create(&disk, PATH);
    put(&file, 0, b"0123456789");
    assert_eq!(&file.slice(3, 4).unwrap()[..], b"3456");
    assert!(file.slice(100, 0).unwrap().is_empty());
    assert_eq!(file.slice(3, 8).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let mut out = [0; 8];
    assert_eq!(file.read_at(&mut out, 6).unwrap(), 4);
    assert_eq!(file.read_at(&mut out, 10).unwrap(), 0);
    let reader = disk.open(Path::new(PATH), OpenMode::Read).unwrap();
    assert_eq!(reader.write_at(&[IoSlice::new(b"x")], 0).unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert!(reader.raw_fd().is_none());
}
