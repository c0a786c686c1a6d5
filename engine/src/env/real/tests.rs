//! The machine's disk in a temporary folder, and both WAL devices on it.

use super::*;
use crate::env::{AlignedBuffer, Completed, WalWrite, live_maps};
use std::io::{IoSlice, Write};
use std::os::unix::fs::MetadataExt;
use tempfile::TempDir;

fn disk() -> (TempDir, RealDisk) {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(&folder.path().join("data")).unwrap();
    (folder, disk)
}

fn write(file: &Arc<dyn DiskFile>, bytes: &[u8], position: u64) {
    file.write_at(&[IoSlice::new(bytes)], position).unwrap();
}

#[test]
fn names_come_and_go() {
    let (folder, disk) = disk();
    let dir = folder.path().join("data/a/b");
    disk.create_dir_all(&dir).unwrap();
    disk.create_dir_all(&dir).unwrap();
    let path = dir.join("one");
    assert!(!disk.exists(&path).unwrap());
    assert_eq!(disk.open(&path, OpenMode::Write).err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
    let file = disk.open(&path, OpenMode::Create).unwrap();
    write(&file, b"hello", 0);
    assert_eq!(disk.open(&path, OpenMode::Create).err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));
    disk.open(&dir.join("zero"), OpenMode::Create).unwrap();
    disk.rename(&path, &dir.join("two")).unwrap();
    assert_eq!(disk.list(&dir).unwrap(), ["two", "zero"]);
    disk.remove(&dir.join("zero")).unwrap();
    disk.sync_dir(&dir).unwrap();
    disk.sync_all().unwrap();
    assert!(disk.exists(&dir.join("two")).unwrap());
    assert_eq!(disk.list(&dir).unwrap(), ["two"]);
    disk.remove(&dir.join("two")).unwrap();
    disk.remove(&dir).unwrap();
    assert!(!disk.exists(&dir).unwrap());
    assert!(disk.free_bytes().unwrap() > 0);
}

#[test]
fn writes_of_many_parts_arrive_whole() {
    let (folder, disk) = disk();
    let file = disk.open(&folder.path().join("data/many"), OpenMode::Create).unwrap();
    // More parts than one `pwritev` takes.
    let chunks: Vec<Vec<u8>> = (0..3_000usize).map(|n| vec![n as u8; n % 7]).collect();
    let parts: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
    file.write_at(&parts, 5).unwrap();
    let expected = chunks.concat();
    assert_eq!(file.size().unwrap(), 5 + expected.len() as u64);
    let mut read = vec![0; expected.len() + 10];
    assert_eq!(file.read_at(&mut read, 5).unwrap(), expected.len());
    assert_eq!(&read[..expected.len()], expected);
    assert_eq!(file.read_at(&mut read, 1 << 40).unwrap(), 0);
    file.sync().unwrap();
}

#[test]
fn preallocated_space_is_freed_by_setting_the_same_size() {
    let (folder, disk) = disk();
    let path = folder.path().join("data/big");
    let file = disk.open(&path, OpenMode::Create).unwrap();
    write(&file, &[1; 4096], 0);
    file.sync().unwrap();
    let before = fs::metadata(&path).unwrap().blocks();
    file.preallocate(4096, 1 << 20).unwrap();
    assert_eq!(file.size().unwrap(), 4096, "the size stays");
    let reserved = fs::metadata(&path).unwrap().blocks();
    if reserved < before + 2048 {
        return; // This filesystem does not reserve.
    }
    file.set_size(4096).unwrap();
    assert!(fs::metadata(&path).unwrap().blocks() < before + 64, "what was preallocated beyond the size is freed");
}

#[test]
fn slices_see_growth_and_old_ones_outlive_the_file() {
    let (folder, disk) = disk();
    let path = folder.path().join("data/grows");
    let file = disk.open(&path, OpenMode::Create).unwrap();
    assert!(file.slice(1_000, 0).unwrap().is_empty());
    write(&file, &[1; 10_000], 0);
    let first = file.slice(9_990, 10).unwrap();
    assert_eq!(file.slice(9_990, 11).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    write(&file, &[2; 10_000], 10_000);
    let both = file.slice(9_999, 2).unwrap();
    assert_eq!(&both[..], [1, 2]);
    let same = file.slice(10_000, 10_000).unwrap();
    assert_eq!(same.as_ptr(), both[1..].as_ptr(), "one map serves both slices");
    file.set_size(10_000).unwrap();
    assert_eq!(file.slice(9_999, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "no map past the end is kept");
    drop((both, same));
    assert!(file.slice(u64::MAX, 2).is_err());
    disk.remove(&path).unwrap();
    drop(file);
    assert!(live_maps() > 0);
    assert_eq!(&first[..], [1; 10]);
}

#[test]
fn hints_are_harmless_and_fresh_bytes_are_resident() {
    let (folder, disk) = disk();
    let file = disk.open(&folder.path().join("data/hints"), OpenMode::Create).unwrap();
    write(&file, &vec![3; 300_000], 0);
    file.start_writeback(0, 300_000);
    file.start_writeback(0, 0);
    file.load(0, 300_000, true).unwrap();
    file.load(299_999, u64::MAX, false).unwrap();
    assert!(file.is_resident(0, 300_000));
    assert!(file.is_resident(299_999, 1));
    assert!(file.is_resident(0, 0));
    assert!(file.is_resident(1 << 40, 100));
}

#[test]
fn what_left_the_cache_is_not_resident_until_it_is_read() {
    let (folder, disk) = disk();
    let path = folder.path().join("data/cold");
    let file = disk.open(&path, OpenMode::Create).unwrap();
    write(&file, &vec![3; 8 << 20], 0);
    file.sync().unwrap();
    let size = file.size().unwrap();
    sys::drop_from_cache(fs::File::open(&path).unwrap().as_fd()).unwrap();
    if file.is_resident(0, size) {
        eprintln!("skipped: this filesystem lives in memory, or does not tell what is cached");
        return;
    }
    assert!(!file.is_resident(size - 1, 1));
    file.read_at(&mut [0], 0).unwrap();
    file.read_at(&mut [0], size - 1).unwrap();
    assert!(file.is_resident(0, 1) && file.is_resident(size - 1, 1));
    assert!(!file.is_resident(0, size), "the middle is still on the disk alone");
    file.load(0, size, true).unwrap();
    assert!(file.is_resident(0, size));
    sys::drop_from_cache(fs::File::open(&path).unwrap().as_fd()).unwrap();
    file.load(0, 65_536, false).unwrap();
    assert!(
        file.is_resident(0, 65_536) && !file.is_resident(size / 2, size / 2),
        "it read ahead although it was not to"
    );
}

#[test]
fn a_locked_folder_is_refused_until_the_guard_drops() {
    let (folder, disk) = disk();
    let root = folder.path().join("data");
    let guard = disk.lock(&root).unwrap();
    let again = RealDisk::open(&root).unwrap();
    assert_eq!(again.lock(&root).err().map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    drop(guard);
    drop(again.lock(&root).unwrap());
    drop(again.lock(&root.join("lock")).unwrap());
    assert!(root.join("lock").exists());
}

/// Writes blocks through `device`, and reads them back as recovery does.
fn check_device(disk: &RealDisk, dir: &Path, mut device: Box<dyn WalDevice>) {
    const BLOCK: usize = 8_192;
    const BLOCKS: usize = 50;
    let path = dir.join(format!("wal-{}", device.name()));
    let mut zeros = fs::File::create(&path).unwrap();
    zeros.write_all(&vec![0; BLOCK * BLOCKS]).unwrap();
    drop(zeros);
    let file = device.open(&path).unwrap();
    let mut done: Vec<Completed> = Vec::new();
    device.reap(true, &mut done).unwrap();
    assert!(done.is_empty(), "nothing in flight, nothing to wait for");
    for index in 0..BLOCKS {
        while index - done.len() == device.depth() {
            device.reap(true, &mut done).unwrap();
        }
        let mut block = device.buffer(BLOCK);
        block.extend_from_slice(&[index as u8 + 1; BLOCK - 100]);
        block.pad_to(4096);
        assert_eq!(block.len(), BLOCK);
        device
            .submit(WalWrite {
                file: file.clone(),
                position: (index * BLOCK) as u64,
                block: Arc::new(block.into()),
                sync: index % 3 != 0,
                tag: index as u64,
            })
            .unwrap();
        device.reap(false, &mut done).unwrap();
    }
    while done.len() < BLOCKS {
        device.reap(true, &mut done).unwrap();
    }
    let mut tags: Vec<u64> = done.iter().map(|completed| completed.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..BLOCKS as u64).collect::<Vec<_>>());
    assert!(done.iter().all(|completed| completed.result.is_ok()));

    // A block larger than the pool's; then failing writes: the descriptor of a file opened to read takes none.
    let mut large = AlignedBuffer::with_capacity(1);
    large.extend_from_slice(&vec![77; 3 << 20]);
    let read_only = disk.open(&path, OpenMode::Read).unwrap();
    for (tag, file) in [(100, &file), (101, &read_only), (102, &read_only)] {
        let mut block = std::mem::replace(&mut large, device.buffer(4096));
        if block.is_empty() {
            block.extend_from_slice(&[1; 4096]);
        }
        let write = WalWrite {
            file: file.clone(),
            position: (BLOCK * BLOCKS) as u64,
            block: Arc::new(block.into()),
            sync: true,
            tag,
        };
        device.submit(write).unwrap();
        done.clear();
        device.reap(true, &mut done).unwrap();
        assert_eq!(done.len(), 1);
        assert_eq!(done[0].tag, tag);
        assert_eq!(done[0].result.is_ok(), tag == 100);
    }
    drop(file);
    drop(device);
    let file = disk.open(&path, OpenMode::Read).unwrap();
    let content = file.slice(0, file.size().unwrap() as usize).unwrap();
    assert_eq!(content.len(), BLOCK * BLOCKS + (3 << 20));
    for (index, block) in content[..BLOCK * BLOCKS].chunks(BLOCK).enumerate() {
        assert!(block[..BLOCK - 100].iter().all(|&byte| byte == index as u8 + 1));
        assert!(block[BLOCK - 100..].iter().all(|&byte| byte == 0));
    }
    assert!(content[BLOCK * BLOCKS..].iter().all(|&byte| byte == 77));
}

#[test]
fn the_portable_device_writes_what_recovery_reads() {
    let (folder, disk) = disk();
    let dir = folder.path().join("data");
    let device = disk.wal_device(WalMethod::Portable, &dir).unwrap();
    check_device(&disk, &dir, device);
}

/// Whether this machine lets us use io_uring at all; containers often do not.
fn io_uring_is_allowed() -> bool {
    match io_uring::IoUring::new(8) {
        Ok(_) => true,
        Err(error) => {
            eprintln!("skipped: io_uring is refused here: {error}");
            false
        }
    }
}

#[test]
fn the_io_uring_device_writes_what_recovery_reads() {
    let (folder, disk) = disk();
    let dir = folder.path().join("data");
    if io_uring_is_allowed() {
        let device = match disk.wal_device(WalMethod::IoUring, &dir) {
            // Rings count against the limit on locked memory, which the tests beside this one may have used up.
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => return eprintln!("skipped: {error}"),
            other => other.unwrap(),
        };
        assert!(device.name().starts_with("io_uring"), "{}", device.name());
        assert_eq!(disk.list(&dir).unwrap(), Vec::<String>::new(), "the probe leaves nothing behind");
        check_device(&disk, &dir, device);
        check_device(&disk, &dir, disk.wal_device(WalMethod::Auto, &dir).unwrap());
    }
}

#[test]
fn every_setting_of_the_io_uring_device_that_works_here_is_right() {
    let (folder, disk) = disk();
    let dir = folder.path().join("data");
    if io_uring_is_allowed() {
        let mut names = Vec::new();
        for (direct, registered) in [(true, true), (true, false), (false, false), (false, true)] {
            // Without direct I/O nothing but the ring is needed, and that is there.
            match UringDevice::with(direct, registered, &dir) {
                Ok(device) => {
                    names.push(device.name());
                    check_device(&disk, &dir, Box::new(device));
                }
                Err(error) => {
                    let refused = error.raw_os_error() == Some(libc::ENOMEM);
                    assert!(direct || registered || refused, "{error}");
                }
            }
        }
        eprintln!("checked: {names:?}");
    }
}

#[test]
fn a_durable_write_completes_after_the_unsynced_ones_before_it() {
    let (folder, disk) = disk();
    let dir = folder.path().join("data");
    for name in ["0", "1"] {
        fs::write(dir.join(name), vec![0; 2 << 20]).unwrap();
    }
    for method in [WalMethod::Portable, WalMethod::Auto, WalMethod::Unflushed] {
        let mut device = disk.wal_device(method, &dir).unwrap();
        let files = ["0", "1"].map(|name| device.open(&dir.join(name)).unwrap());
        for _ in 0..5 {
            let mut done = Vec::new();
            // A large unsynced write to one file, then small durable ones to the other.
            for (tag, size) in [(0, 1 << 20), (1, 4096), (2, 4096), (3, 4096)] {
                let mut block = device.buffer(size);
                block.extend_from_slice(&vec![1; size]);
                let (file, block) = (files[usize::from(tag > 0)].clone(), Arc::new(block.into()));
                device.submit(WalWrite { file, position: tag << 12, block, sync: tag > 0, tag }).unwrap();
                device.reap(device.depth() == 1, &mut done).unwrap();
            }
            while done.len() < 4 {
                device.reap(true, &mut done).unwrap();
            }
            assert_eq!(done[0].tag, 0, "nothing is called durable before what it rests on");
            assert!(done.iter().all(|completed| completed.result.is_ok()));
        }
    }
}

#[test]
fn probing_falls_back_to_the_portable_device() {
    let (folder, disk) = disk();
    let nowhere = folder.path().join("missing");
    assert!(disk.wal_device(WalMethod::IoUring, &nowhere).is_err());
    for method in [WalMethod::Auto, WalMethod::Unflushed] {
        assert_eq!(disk.wal_device(method, &nowhere).unwrap().name(), "portable");
    }
}

#[test]
fn blocks_that_direct_io_cannot_take_are_refused_by_every_device() {
    let (folder, disk) = disk();
    let dir = folder.path().join("data");
    fs::File::create(dir.join("wal")).unwrap();
    for method in [WalMethod::Portable, WalMethod::Auto, WalMethod::Unflushed] {
        let mut device = disk.wal_device(method, &dir).unwrap();
        let file = device.open(&dir.join("wal")).unwrap();
        for (size, position) in [(0usize, 0u64), (100, 0), (4096, 512)] {
            let mut block = device.buffer(4096);
            block.extend_from_slice(&vec![1; size]);
            let write = WalWrite { file: file.clone(), position, block: Arc::new(block.into()), sync: true, tag: 0 };
            assert_eq!(device.submit(write).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}

#[test]
fn a_device_that_is_dropped_waits_for_its_writes() {
    let (folder, disk) = disk();
    let dir = folder.path().join("data");
    let path = dir.join("wal");
    fs::write(&path, vec![0; 16 << 20]).unwrap();
    for _ in 0..20 {
        let mut device = disk.wal_device(WalMethod::Auto, &dir).unwrap();
        let file = device.open(&path).unwrap();
        for index in 0..device.depth() {
            let mut block = device.buffer(1 << 20);
            block.extend_from_slice(&vec![index as u8 + 1; 1 << 20]);
            let position = (index << 20) as u64;
            let write = WalWrite { file: file.clone(), position, block: Arc::new(block.into()), sync: false, tag: 0 };
            device.submit(write).unwrap();
        }
        let depth = device.depth();
        drop((file, device));
        let content = fs::read(&path).unwrap();
        for index in 0..depth {
            assert!(content[index << 20..(index + 1) << 20].iter().all(|&byte| byte == index as u8 + 1));
        }
        fs::write(&path, vec![0; 16 << 20]).unwrap();
    }
}
