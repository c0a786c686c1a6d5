//! The WAL device that works everywhere: `pwrite` through the page cache, then `fdatasync`.
//!
//! One write at a time: `submit` carries the write out and `reap` hands it back, so the committer needs no second way of
//! working. It leans on nothing but `DiskFile`.

use super::aligned::{AlignedBuffer, BufferPool};
use super::disk::{Completed, DiskFile, OpenMode, WalDevice, WalWrite};
use super::unsynced::Unsynced;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// Writes WAL blocks by `pwrite` and `fdatasync`.
pub(super) struct PortableDevice {
    buffers: Arc<BufferPool>,
    unsynced: Unsynced,
    done: Option<Completed>,
    /// A write or flush has failed: nothing is called durable any more.
    failed: bool,
}

impl PortableDevice {
    pub(super) fn new() -> PortableDevice {
        PortableDevice { buffers: BufferPool::lazy(), unsynced: Unsynced::default(), done: None, failed: false }
    }

    fn carry_out(&mut self, write: &WalWrite) -> io::Result<()> {
        let file = &write.file;
        file.write_at(&[IoSlice::new(write.block.as_slice())], write.position)?;
        if !write.sync {
            self.unsynced.add(file);
            return Ok(());
        }
        if self.failed {
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

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        super::real::open_file(path, OpenMode::Write)
    }

    fn buffer(&mut self, capacity: usize) -> AlignedBuffer {
        self.buffers.take(capacity)
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
        self.failed |= result.is_err();
        self.done = Some(Completed { tag: write.tag, result });
        Ok(())
    }

    fn reap(&mut self, _wait: bool, out: &mut Vec<Completed>) -> io::Result<()> {
        out.extend(self.done.take());
        Ok(())
    }
}
