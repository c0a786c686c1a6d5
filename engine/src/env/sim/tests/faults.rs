//! Errors that a test asks for, full disks, rot and cold ranges.

use super::*;
use crate::env::{Completed, WalMethod, WalWrite};

fn is_eio<T>(result: io::Result<T>) -> bool {
    result.err().and_then(|error| error.raw_os_error()) == Some(libc::EIO)
}

fn is_enospc<T>(result: io::Result<T>) -> bool {
    result.err().and_then(|error| error.raw_os_error()) == Some(libc::ENOSPC)
}

#[test]
fn the_nth_operation_on_a_path_fails_once() {
    let disk = SimDisk::new(1);
    let (one, two) = (create(&disk, "one"), create(&disk, "two"));
    disk.inject_eio(FaultOp::Write, 2, |path| path == Path::new("two"));
    put(&one, 0, b"1");
    put(&one, 1, b"1");
    put(&two, 0, b"1");
    assert!(is_eio(two.write_at(&[IoSlice::new(b"2222")], 1)));
    put(&two, 1, b"3333");
    disk.inject_eio(FaultOp::Read, 1, |path| path == Path::new("two"));
    assert_eq!(&one.slice(0, 2).unwrap()[..], b"11");
    assert!(is_eio(two.slice(0, 2)));
    assert_eq!(&two.slice(0, 2).unwrap()[..], b"13");
    disk.inject_eio(FaultOp::Sync, 1, |path| path == Path::new("two"));
    one.sync().unwrap();
    assert!(is_eio(disk.sync_all()), "a dirty file's fault is reported by sync_all");
    disk.inject_eio(FaultOp::Sync, 1, |path| path == Path::new(""));
    assert!(is_eio(disk.sync_dir(Path::new(""))));
    disk.sync_dir(Path::new("")).unwrap();
}

#[test]
fn a_sync_after_a_failed_one_does_not_save_what_was_lost() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "file");
        disk.sync_all().unwrap();
        put(&file, 0, &[1; 2_048]);
        disk.inject_eio(FaultOp::Sync, 1, |_| true);
        assert!(is_eio(file.sync()));
        file.sync().unwrap();
        disk.sync_all().unwrap();
        assert_eq!(content(&disk, "file"), [1; 2_048], "the cache still shows it");
        lost += u64::from(content(&disk.crash_image(seed), "file") != [1; 2_048]);
    }
    assert!(lost > SEEDS / 4 && lost < SEEDS, "{lost}");
}

#[test]
fn a_failed_wal_write_ends_the_devices_promises() {
    for op in [FaultOp::Write, FaultOp::Sync] {
        let disk = SimDisk::new(1);
        put(&create(&disk, "wal"), 0, &[0; 16_384]);
        disk.sync_all().unwrap();
        let mut device = disk.wal_device(WalMethod::Auto, Path::new("")).unwrap();
        let file = device.open(Path::new("wal")).unwrap();
        disk.inject_eio(op, 1, |path| path == Path::new("wal"));
        let mut results: Vec<Completed> = Vec::new();
        for tag in 0..3u64 {
            let mut block = device.buffer(4096);
            block.extend_from_slice(&[tag as u8 + 1; 4096]);
            let (file, block) = (file.clone(), Arc::new(block.into()));
            device.submit(WalWrite { file, position: tag * 4096, block, sync: tag != 2, tag }).unwrap();
            device.reap(true, &mut results).unwrap();
        }
        let mut results = results.into_iter().map(|completed| completed.result);
        assert!(is_eio(results.next().unwrap()));
        assert!(results.next().unwrap().is_err(), "nothing is called durable any more");
        assert!((0..SEEDS).any(|seed| content(&disk.crash_image(seed), "wal")[4096] == 0));
    }
}

#[test]
fn a_full_disk_takes_what_fits_and_frees_what_goes() {
    let disk = SimDisk::new(1);
    disk.set_capacity(64 * 1024);
    let one = create(&disk, "one");
    put(&one, 0, &[1; 10_000]);
    assert_eq!(disk.free_bytes().unwrap(), 64 * 1024 - 3 * 4096);
    put(&one, 0, &[2; 10_000]);
    one.preallocate(0, 32 * 1024).unwrap();
    assert_eq!(one.size().unwrap(), 10_000);
    assert_eq!(disk.free_bytes().unwrap(), 32 * 1024);
    let two = create(&disk, "two");
    assert!(is_enospc(two.preallocate(0, 32 * 1024 + 1)));
    assert!(is_enospc(two.set_size(1 << 20)));
    assert!(is_enospc(two.write_at(&[IoSlice::new(&[3; 40_000])], 0)));
    assert_eq!(content(&disk, "two"), [3; 32 * 1024], "what fits is written");
    assert_eq!(disk.free_bytes().unwrap(), 0);
    put(&one, 10_000, &[4; 20_000]);
    one.set_size(100).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 28 * 1024, "setting the size frees what was preallocated");
    disk.remove(Path::new("two")).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 28 * 1024, "an open file keeps its space");
    drop(two);
    assert_eq!(disk.free_bytes().unwrap(), 60 * 1024);
    put(&create(&disk, "three"), 0, &[1; 5_000]);
    disk.sync_all().unwrap();
    disk.rename(Path::new("three"), Path::new("one")).unwrap();
    drop(one);
    assert_eq!(disk.free_bytes().unwrap(), 56 * 1024);
    disk.sync_all().unwrap();
    assert_eq!(disk.crash_image(1).free_bytes().unwrap(), 56 * 1024);
    assert_eq!(disk.kill_image().free_bytes().unwrap(), 56 * 1024);
}

#[test]
fn flipped_bits_stay_flipped() {
    let disk = SimDisk::new(1);
    put(&create(&disk, "file"), 0, &[0; 5_000]);
    disk.sync_all().unwrap();
    disk.flip_bit(Path::new("file"), 4_500, 3).unwrap();
    assert!(disk.flip_bit(Path::new("file"), 5_000, 0).is_err());
    assert!(disk.flip_bit(Path::new("none"), 0, 0).is_err());
    for image in [disk.clone(), disk.kill_image(), disk.crash_image(1)] {
        let found = content(&image, "file");
        assert_eq!(found[4_500], 8);
        assert_eq!(found.iter().filter(|&&byte| byte != 0).count(), 1);
    }
}

#[test]
fn cold_ranges_become_resident_when_they_are_read() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "file");
    put(&file, 0, &vec![1; 1 << 20]);
    assert!(file.is_resident(0, 1 << 20));
    disk.set_cold(1.0);
    assert!(!file.is_resident(100, 1));
    assert!(file.is_resident(1 << 20, 100), "there is nothing to wait for past the end");
    file.read_at(&mut [0; 10], 100).unwrap();
    assert!(file.is_resident(0, 65_536));
    assert!(!file.is_resident(0, 65_537));
    file.load(0, u64::MAX, true).unwrap();
    assert!(file.is_resident(0, 1 << 20));
    disk.set_cold(0.5);
    let cold = (0..16).filter(|unit| !file.is_resident(unit * 65_536, 1)).count();
    assert!((2..15).contains(&cold), "{cold}");
}
