//! The WAL device that works everywhere: `pwrite` through the page cache, then `fdatasync`.
//!
//! One write at a time: `submit` carries the write out and `reap` hands it back, so the committer needs no second way of
//! working. It leans on nothing but `DiskFile`.

use super::aligned::{AlignedBuffer, BufferPool};
use super::disk::{Completed, DiskFile, OpenMode, WalDevice, WalWrite};
use super::unsynced::Unsynced;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Writes WAL blocks by `pwrite` and `fdatasync`.
pub(super) struct PortableDevice {
    buffers: Arc<BufferPool>,
    unsynced: Unsynced,
    done: Option<Completed>,
}

impl PortableDevice {
    pub(super) fn new() -> PortableDevice {
        PortableDevice { buffers: BufferPool::of_wal(), unsynced: Unsynced::default(), done: None }
    }

    /// What it has yet to make durable, for a device that goes on with the same files.
    pub(super) fn unsynced(&mut self) -> &mut Unsynced {
        &mut self.unsynced
    }

    fn carry_out(&mut self, write: &WalWrite) -> io::Result<()> {
        let file = &write.file;
        file.write_at(&write.block.slices(), write.position)?;
        if !write.sync {
            self.unsynced.add(file);
            return Ok(());
        }
        if self.unsynced.has_failed {
            return Err(io::Error::other("an earlier WAL write failed"));
        }
        for earlier in self.unsynced.take() {
            if !Arc::ptr_eq(&earlier, file) {
                earlier.sync()?;
            }
        }
        file.sync()
    }
}

impl WalDevice for PortableDevice {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn depth(&self) -> usize {
        1
    }

    fn open(&mut self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        super::real::open_file(path, OpenMode::Write)
    }

    fn buffer(&mut self, capacity: usize) -> AlignedBuffer {
        self.buffers.take(capacity)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn submit(&mut self, write: WalWrite) -> io::Result<()> {
        write.check()?;
        if self.done.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "the portable WAL device takes one write at a time",
            ));
        }
        let result = self.carry_out(&write);
        self.unsynced.has_failed |= result.is_err();
        self.done = Some(Completed { tag: write.tag, result });
        Ok(())
    }

    fn reap(&mut self, _wait: bool, out: &mut Vec<Completed>) -> io::Result<()> {
        out.extend(self.done.take());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::{FaultOp, SimDisk};
    use crate::env::{Disk, OpenMode};

    fn setup() -> (SimDisk, [Arc<dyn DiskFile>; 2], PortableDevice) {
        let disk = SimDisk::new(1);
        let files = ["0", "1"].map(|path| disk.open(Path::new(path), OpenMode::Create).unwrap());
        files.iter().for_each(|file| file.set_size(8_192).unwrap());
        disk.sync_all().unwrap();
        (disk, files, PortableDevice::new())
    }

    fn write(device: &mut PortableDevice, file: &Arc<dyn DiskFile>, position: u64, sync: bool) -> io::Result<()> {
        let mut block = device.buffer(4096);
        block.extend_from_slice(&[1; 4096]);
        let mut done = Vec::new();
        device.submit(WalWrite { file: file.clone(), position, block: Arc::new(block.into()), sync, tag: 3 }).unwrap();
        device.reap(true, &mut done).unwrap();
        done.pop().unwrap().result
    }

    fn survives(disk: &SimDisk, path: &str) -> bool {
        (0..100).all(|seed| disk.crash_image(seed).content(Path::new(path)).unwrap()[..4096] == [1; 4096])
    }

    #[test]
    fn a_durable_write_covers_unsynced_ones_to_other_files() {
        let (disk, files, mut device) = setup();
        write(&mut device, &files[0], 0, false).unwrap();
        assert!(!survives(&disk, "0"));
        write(&mut device, &files[1], 0, true).unwrap();
        assert!(survives(&disk, "0") && survives(&disk, "1"));
    }

    #[test]
    fn nothing_is_durable_after_a_failure() {
        let (disk, files, mut device) = setup();
        disk.inject_eio(FaultOp::Sync, 1, |path| path == Path::new("0"));
        assert!(write(&mut device, &files[0], 0, true).is_err());
        assert!(write(&mut device, &files[0], 0, true).is_err());
        assert!(write(&mut device, &files[1], 0, true).is_err());
    }
}
