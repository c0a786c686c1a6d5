//! Orders and results of completions that a healthy kernel hardly ever shows. What it does show is in `real::tests`.

use super::flights::{Flights, Request};
use super::*;
use crate::env::{Disk, OpenMode, RealDisk};
use proptest::prelude::*;
use std::collections::BTreeSet;
use tempfile::TempDir;

fn files() -> (TempDir, [Arc<dyn DiskFile>; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let files = ["0", "1"].map(|name| disk.open(&folder.path().join(name), OpenMode::Create).unwrap());
    (folder, files)
}

fn write(file: &Arc<dyn DiskFile>, tag: u64, sync: bool) -> WalWrite {
    let mut block = AlignedBuffer::with_capacity(8_192);
    block.extend_from_slice(&[1; 8_192]);
    WalWrite { file: file.clone(), position: 8_192, block: Arc::new(block.into()), sync, tag }
}

fn done(flights: &mut Flights) -> Vec<(u64, bool)> {
    flights.done.drain(..).map(|completed| (completed.tag, completed.result.is_ok())).collect()
}

fn requests(flights: &mut Flights) -> Vec<(usize, Request)> {
    std::mem::take(&mut flights.requests)
}

#[test]
fn short_and_interrupted_writes_go_on_where_they_stopped() {
    let (_folder, files) = files();
    let mut flights = Flights::default();
    flights.start(write(&files[0], 7, true)).unwrap();
    let mut written = 0;
    for result in [512, -libc::EINTR, -libc::EAGAIN, 7_000] {
        assert_eq!(requests(&mut flights), [(0, Request::Write)]);
        flights.completed(0, result).unwrap();
        written += result.max(0) as usize;
        assert_eq!(flights.get(0).unwrap().written, written);
        assert!(flights.done.is_empty());
    }
    assert_eq!(requests(&mut flights), [(0, Request::Write)]);
    flights.completed(0, 680).unwrap();
    assert_eq!(done(&mut flights), [(7, true)]);
    assert!(flights.completed(0, 680).is_err(), "the kernel completes nothing twice");
}

#[test]
fn failures_and_writes_without_progress_are_errors() {
    let (_folder, files) = files();
    for result in [0, -libc::EIO, i32::MIN] {
        let mut flights = Flights::default();
        flights.start(write(&files[0], 7, false)).unwrap();
        flights.completed(0, result).unwrap();
        assert_eq!(flights.done.len(), 1);
        let error = flights.done.pop().unwrap().result.unwrap_err();
        assert!(result != -libc::EIO || error.raw_os_error() == Some(libc::EIO), "the kernel's own number is kept");
        // After that nothing is durable, but what makes no promise may pass.
        flights.start(write(&files[0], 8, true)).unwrap();
        flights.completed(0, 8_192).unwrap();
        flights.start(write(&files[0], 9, false)).unwrap();
        flights.completed(0, 8_192).unwrap();
        assert_eq!(done(&mut flights), [(8, false), (9, true)]);
    }
}

#[test]
fn a_durable_write_waits_for_unsynced_ones_and_flushes_their_files() {
    let (_folder, files) = files();
    let fds = files.each_ref().map(|file| file.raw_fd().unwrap());
    let mut flights = Flights::default();
    flights.start(write(&files[0], 0, false)).unwrap();
    flights.start(write(&files[1], 1, true)).unwrap();
    flights.start(write(&files[1], 2, true)).unwrap();
    requests(&mut flights);
    flights.completed(1, 8_192).unwrap();
    flights.completed(2, 8_192).unwrap();
    assert!(flights.done.is_empty() && flights.requests.is_empty());
    flights.completed(0, 8_192).unwrap();
    assert_eq!(done(&mut flights), [(0, true)]);
    assert_eq!(requests(&mut flights), [(1, Request::Flush(fds[0]))]);
    flights.completed(1, 0).unwrap();
    assert_eq!(done(&mut flights), [(1, true), (2, true)]);
    flights.start(write(&files[0], 3, true)).unwrap();
    flights.completed(0, 8_192).unwrap();
    assert_eq!(done(&mut flights), [(3, true)], "what is flushed needs no second flush");
}

#[test]
fn a_failed_flush_fails_every_durable_write_that_rests_on_it() {
    let (_folder, files) = files();
    let mut flights = Flights::default();
    flights.start(write(&files[0], 0, false)).unwrap();
    flights.completed(0, 8_192).unwrap();
    flights.start(write(&files[1], 1, true)).unwrap();
    flights.start(write(&files[1], 2, true)).unwrap();
    flights.completed(1, 8_192).unwrap();
    flights.completed(0, 8_192).unwrap();
    flights.completed(0, -libc::EIO).unwrap();
    assert_eq!(done(&mut flights), [(0, true), (1, false), (2, false)]);
}

proptest! {
    /// Whatever the order of completions: nothing is lost, nothing stalls, and when a durable write is done, every unsynced
    /// write before it is done, and its file was flushed after that.
    #[test]
    fn durable_writes_cover_what_came_before(
        steps in prop::collection::vec((0usize..2, any::<bool>(), any::<bool>(), any::<u16>()), 1..60),
    ) {
        let (_folder, files) = files();
        let fds = files.each_ref().map(|file| file.raw_fd().unwrap());
        let mut flights = Flights::default();
        // Requests, with what was finished when each was made: a flush covers no more than that.
        let mut kernel: Vec<(usize, Request, BTreeSet<usize>)> = Vec::new();
        // Which writes there are; those in `open` are unsynced and not yet covered by a flush.
        let mut writes: Vec<(usize, bool)> = Vec::new();
        let mut finished: BTreeSet<usize> = BTreeSet::new();
        let mut open: BTreeSet<usize> = BTreeSet::new();
        let mut steps = steps.into_iter();
        loop {
            let step = steps.next();
            if step.is_none() && flights.in_flight() == 0 {
                break;
            }
            let (file, sync, start, pick) = step.unwrap_or((0, false, false, 0));
            if start && flights.in_flight() < 4 {
                flights.start(write(&files[file], writes.len() as u64, sync)).unwrap();
                if !sync {
                    open.insert(writes.len());
                }
                writes.push((file, sync));
            } else if flights.in_flight() > 0 {
                prop_assert!(!kernel.is_empty(), "something in flight, and nothing to wait for");
                let (slot, request, covered) = kernel.remove(usize::from(pick) % kernel.len());
                if let Request::Flush(fd) = request {
                    open.retain(|index| fds[writes[*index].0] != fd || !covered.contains(index));
                }
                flights.completed(slot, if request == Request::Write { 8_192 } else { 0 }).unwrap();
            }
            for (tag, ok) in done(&mut flights) {
                prop_assert!(ok && finished.insert(tag as usize));
                let covered = open.iter().all(|index| *index > tag as usize);
                prop_assert!(!writes[tag as usize].1 || covered, "{} of {:?} leaves {:?}", tag, &writes, &open);
            }
            kernel.extend(requests(&mut flights).into_iter().map(|(slot, request)| (slot, request, finished.clone())));
        }
        prop_assert_eq!(finished.len(), writes.len());
    }
}

/// A small block that is alone, either way: what is told of it, and what stands in the file.
#[test]
fn small_blocks_arrive_whichever_way_they_go() {
    for way in [Way::Asked, Way::Blocking] {
        let (folder, _) = files();
        let Ok(mut device) = UringDevice::with(true, false, folder.path()) else {
            return eprintln!("skipped: no io_uring, or no direct writes");
        };
        device.ways = Ways::only(way);
        let path = folder.path().join("wal");
        let disk = RealDisk::open(folder.path()).unwrap();
        let zeros = disk.open(&path, OpenMode::Create).unwrap();
        zeros.write_at(&[std::io::IoSlice::new(&[0; 64 << 10])], 0).unwrap();
        zeros.sync().unwrap();
        let file = device.open(&path).unwrap();
        let read_only = disk.open(&path, OpenMode::Read).unwrap();
        let mut told = Vec::new();
        let mut carry_out = |write: WalWrite| {
            device.submit(write).unwrap();
            let in_flight = device.flights.in_flight();
            assert!(way == Way::Asked || in_flight == 0);
            let mut done = Vec::new();
            while done.is_empty() {
                device.reap(true, &mut done).unwrap();
            }
            told.extend(done.iter().map(|completed| (completed.tag, completed.result.is_ok())));
        };
        carry_out(write(&file, 1, true));
        carry_out(WalWrite { position: 32 << 10, ..write(&file, 2, true) });
        carry_out(write(&read_only, 3, true));
        device.ways = Ways::only(Way::Asked);
        assert!(device.flights.unsynced.has_failed && device.alone.is_none());
        device.submit(write(&file, 4, true)).unwrap();
        let mut done = Vec::new();
        device.reap(true, &mut done).unwrap();
        assert!(done[0].result.is_err(), "nothing is durable behind a write that failed");
        assert_eq!(told, [(1, true), (2, true), (3, false)]);
        let content = read_only.slice(0, 64 << 10).unwrap();
        let expected =
            |index: usize| u8::from((8_192..16_384).contains(&index) || (32 << 10..40 << 10).contains(&index));
        assert!(content.iter().enumerate().all(|(index, byte)| *byte == expected(index)));
    }
}
