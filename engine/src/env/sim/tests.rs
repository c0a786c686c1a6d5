//! What the simulated disk promises, checked against plain models.

mod content;
mod faults;
mod folders;
mod wal;

use super::*;
use crate::env::{Disk, DiskFile, OpenMode};
use std::io::IoSlice;
use std::path::Path;

/// How many crash images a test looks at.
const SEEDS: u64 = 200;

fn create(disk: &SimDisk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(Path::new(path), OpenMode::Create).unwrap()
}

fn put(file: &Arc<dyn DiskFile>, position: u64, bytes: &[u8]) {
    file.write_at(&[IoSlice::new(bytes)], position).unwrap();
}

fn content(disk: &SimDisk, path: &str) -> Vec<u8> {
    disk.content(Path::new(path)).unwrap()
}

/// A script that uses every kind of operation; the errors it meets end it.
fn script(disk: &SimDisk) -> io::Result<()> {
    use crate::env::{WalMethod, WalWrite};
    let dir = Path::new("data/wal");
    disk.create_dir_all(dir)?;
    let wal = disk.open(&dir.join("0"), OpenMode::Create)?;
    wal.set_size(1 << 20)?;
    wal.sync()?;
    disk.sync_dir(dir)?;
    let mut device = disk.wal_device(WalMethod::Auto, dir)?;
    let file = device.open(&dir.join("0"))?;
    let mut done = Vec::new();
    for tag in 0..20u64 {
        let mut block = device.buffer(4096);
        block.extend_from_slice(&[tag as u8; 4096]);
        let block = Arc::new(block.into());
        device.submit(WalWrite { file: file.clone(), position: tag * 4096, block, sync: tag % 4 != 0, tag })?;
        device.reap(tag % 4 == 3, &mut done)?;
        while tag + 1 - done.len() as u64 >= device.depth() as u64 {
            device.reap(true, &mut done)?;
        }
    }
    while done.len() < 20 {
        device.reap(true, &mut done)?;
    }
    let segment = disk.open(Path::new("data/segment"), OpenMode::Create)?;
    segment.preallocate(0, 1 << 20)?;
    segment.write_at(&[IoSlice::new(b"some"), IoSlice::new(b" records")], 0)?;
    disk.sync_all()?;
    disk.rename(Path::new("data/segment"), Path::new("data/other"))?;
    disk.remove(Path::new("data/other"))?;
    disk.sync_dir(Path::new("data"))
}

#[test]
fn one_seed_gives_one_trace() {
    let trace = |seed| {
        let disk = SimDisk::new(seed);
        script(&disk).unwrap();
        (disk.trace_hash(), disk.trace_tail(1_000), disk.ops())
    };
    assert_eq!(trace(1), trace(1));
    let hashes: std::collections::BTreeSet<u64> = (0..20).map(|seed| trace(seed).0).collect();
    assert!(hashes.len() > 15, "the order of completions follows the seed");
    let (_, tail, ops) = trace(1);
    assert_eq!(ops, 2 + 4 + 40 + 6, "{tail:#?}");
    assert_eq!(tail.last().unwrap(), &format!("{ops}: sync_dir data 0 0"));
}

#[test]
fn the_machine_stops_at_every_operation_and_stays_stopped() {
    let whole = SimDisk::new(5);
    script(&whole).unwrap();
    let mut traces = std::collections::BTreeSet::new();
    for last in 1..=whole.ops() {
        let disk = SimDisk::new(5);
        disk.stop_after(last);
        let error = script(&disk).unwrap_err();
        assert!(is_stop_error(&error), "{error}");
        assert!(disk.is_stopped());
        assert_eq!(disk.ops(), last);
        assert!(is_stop_error(&disk.sync_all().unwrap_err()));
        assert!(is_stop_error(&disk.list(Path::new("data")).unwrap_err()));
        assert_eq!(disk.ops(), last, "what the machine no longer does is not counted");
        assert!(traces.insert(disk.trace_hash()));
        assert_eq!(disk.trace_tail(1), whole.trace_tail(1_000)[last as usize - 1..last as usize]);
        let image = disk.crash_image(last);
        assert!(!image.is_stopped());
        image.create_dir_all(Path::new("data/wal")).unwrap();
    }
    assert!(!is_stop_error(&io::Error::other("something else")));
}

#[test]
fn a_watched_run_shows_what_each_stopped_run_leaves() {
    type Content = Vec<(std::path::PathBuf, Vec<u8>)>;
    let contents = |image: &SimDisk| -> Content {
        let files = image.files().into_iter();
        files.map(|(path, _)| (path.clone(), image.content(&path).unwrap())).collect()
    };
    let watched = SimDisk::new(5);
    let shown: Arc<parking_lot::Mutex<Vec<(u64, Content, Content)>>> = Arc::default();
    let sink = shown.clone();
    watched.watch(move |moment| {
        let operation = moment.operation();
        let images = (contents(&moment.crash_image(operation)), contents(&moment.kill_image()));
        sink.lock().push((operation, images.0, images.1));
    });
    script(&watched).unwrap();
    let shown = shown.lock();
    assert_eq!(shown.len() as u64, watched.ops());
    for (operation, crashed, killed) in shown.iter() {
        let disk = SimDisk::new(5);
        disk.stop_after(*operation);
        script(&disk).unwrap_err();
        assert_eq!(contents(&disk.crash_image(*operation)), *crashed, "operation {operation}");
        assert_eq!(contents(&disk.kill_image()), *killed, "operation {operation}");
    }
}

#[test]
fn the_environment_hangs_together() {
    let (env, disk, clock) = env(3);
    env.disk.create_dir_all(Path::new("data")).unwrap();
    assert!(disk.exists(Path::new("./data/")).unwrap());
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(env.clock.monotonic(), std::time::Duration::from_secs(1));
    let mut bytes = [0; 16];
    env.rng.fill(&mut bytes);
    let mut same = [0; 16];
    super::env(3).0.rng.fill(&mut same);
    assert_eq!(bytes, same);
}
