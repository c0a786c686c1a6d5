//! Free space, and the reserve that only what drains the disk may use.

use crate::env::Disk;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

/// An estimate of free bytes: read from the disk now and then, lowered by what is admitted in between.
pub struct Space {
    free: AtomicI64,
    reserve: i64,
}

impl Space {
    pub fn new(reserve: u64) -> Space {
        Space { free: AtomicI64::new(i64::MAX), reserve: i64::try_from(reserve).unwrap_or(i64::MAX) }
    }

    /// Asks the disk. `admitted` bytes may come and are not written yet.
    pub fn refresh(&self, disk: &dyn Disk, admitted: usize) -> io::Result<()> {
        let free = disk.free_bytes()?.saturating_sub(admitted as u64);
        self.free.store(i64::try_from(free).unwrap_or(i64::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// Whether `size` bytes, of records or of room made for them ahead, leave the reserve untouched.
    pub fn admit(&self, size: u64) -> bool {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let free = self.free.load(Ordering::Relaxed);
        if free.saturating_sub(size) < self.reserve {
            return false;
        }
        self.free.fetch_sub(size, Ordering::Relaxed);
        true
    }

    /// Whether the disk is down to its reserve.
    pub fn is_short(&self) -> bool {
        self.free.load(Ordering::Relaxed) < self.reserve
    }
}
