//! The parts of the device that a healthy kernel does not exercise. What it does is in `real::tests`.

use super::*;
use crate::env::{Disk, OpenMode, RealDisk};

fn flight(size: usize) -> (tempfile::TempDir, Flight) {
    let folder = tempfile::tempdir().unwrap();
    let file = RealDisk::open(folder.path()).unwrap().open(&folder.path().join("wal"), OpenMode::Create).unwrap();
    let mut block = AlignedBuffer::with_capacity(size);
    block.extend_from_slice(&vec![1; size]);
    let write = WalWrite { file, position: 8_192, block: Arc::new(block), sync: true, tag: 7 };
    let flight =
        Flight { fd: 0, number: 1, written: 0, barrier: false, flush: Vec::new(), stage: Stage::Writing, write };
    (folder, flight)
}

#[test]
fn short_writes_go_on_where_they_stopped() {
    let (_folder, mut flight) = flight(8_192);
    assert!(matches!(flight.progress(512), Progress::Partial));
    assert!(matches!(flight.progress(-libc::EINTR), Progress::Partial));
    assert!(matches!(flight.progress(-libc::EAGAIN), Progress::Partial));
    assert_eq!(flight.written, 512);
    assert!(matches!(flight.progress(7_000), Progress::Partial));
    assert_eq!(flight.written, 7_512);
    flight.write_entry().unwrap();
    assert!(matches!(flight.progress(680), Progress::Whole));
}

#[test]
fn failures_and_writes_without_progress_are_errors() {
    let (_folder, mut flight) = flight(4_096);
    assert!(matches!(flight.progress(0), Progress::Failed(error) if error.kind() == io::ErrorKind::WriteZero));
    assert!(
        matches!(flight.progress(-libc::EIO), Progress::Failed(error) if error.raw_os_error() == Some(libc::EIO)),
        "the kernel's own number is kept"
    );
    assert!(matches!(flight.progress(i32::MIN), Progress::Failed(_)));
}
