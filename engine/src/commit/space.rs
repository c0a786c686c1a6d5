//! Free space, and the reserve that only what drains the disk may use.

use crate::env::Disk;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

/// An estimate of free bytes: read from the disk now and then, lowered by what is admitted in between.
pub struct Space {
    free: AtomicI64,
    reserve: i64,
    /// The largest batch that was refused and still would be; 0 when there is none.
    refused: AtomicI64,
}

impl Space {
    pub fn new(reserve: u64) -> Space {
        let reserve = i64::try_from(reserve).unwrap_or(i64::MAX);
        Space { free: AtomicI64::new(i64::MAX), reserve, refused: AtomicI64::new(0) }
    }

    /// Asks the disk. `admitted` bytes may come and are not written yet.
    pub fn refresh(&self, disk: &dyn Disk, admitted: usize) -> io::Result<()> {
        let free = disk.free_bytes()?.saturating_sub(admitted as u64);
        self.free.store(i64::try_from(free).unwrap_or(i64::MAX), Ordering::Relaxed);
        if !self.is_short() {
            self.refused.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Free bytes, as far as is known; none before the disk was asked.
    pub fn free(&self) -> u64 {
        u64::try_from(self.free.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether `size` bytes, of records or of room made for them ahead, leave the reserve untouched.
    pub fn admit(&self, size: u64) -> bool {
        self.admit_down_to(size, self.reserve)
    }

    /// The same for records of the server's own topics: consumers that drain a full disk must be able to say how far they
    /// came. They may take half of the reserve; the rest is for what sets space free.
    pub fn admit_internal(&self, size: u64) -> bool {
        self.admit_down_to(size, self.reserve / 2)
    }

    /// The same for what only makes the server faster: it leaves the reserve twice, lest it takes what a drained disk gives back to producers.
    pub fn admit_comfort(&self, size: u64) -> bool {
        self.admit_down_to(size, self.reserve.saturating_mul(2))
    }

    /// Whether there is room for `size` bytes above the reserve, for whoever would come to nothing without.
    pub fn has_room(&self, size: u64) -> bool {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        self.free.load(Ordering::Relaxed).saturating_sub(size) >= self.reserve
    }

    fn admit_down_to(&self, size: u64, kept: i64) -> bool {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let free = self.free.load(Ordering::Relaxed);
        if free.saturating_sub(size) < kept {
            return false;
        }
        self.free.fetch_sub(size, Ordering::Relaxed);
        true
    }

    /// A batch was refused: until there is room for it the disk is short, however little is missing.
    pub fn note_refused(&self, size: u64) {
        self.refused.fetch_max(i64::try_from(size).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Whether the disk is down to its reserve, or would be with a batch that had to be refused.
    pub fn is_short(&self) -> bool {
        let needed = self.reserve.saturating_add(self.refused.load(Ordering::Relaxed));
        self.free.load(Ordering::Relaxed) < needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::SimDisk;

    /// Producers were refused while a little more than the reserve was free, and then the disk did not count as short: files
    /// that only a checkpoint sets free were kept until the next one was due anyway.
    #[test]
    fn a_refused_batch_makes_the_disk_short_until_it_fits() {
        let disk = SimDisk::new(1);
        let space = Space::new(1_000);
        let free_is = |bytes| {
            disk.set_capacity(bytes);
            space.refresh(&disk, 0).unwrap();
        };
        free_is(1_500);
        assert!(!space.is_short() && space.admit(100) && !space.admit(600));
        assert!(!space.is_short(), "room that was to be made ahead is no batch");
        space.note_refused(600);
        assert!(space.is_short());
        assert!(!space.admit_comfort(1), "twice the reserve would not be left");
        free_is(1_599);
        assert!(space.is_short());
        free_is(1_600);
        assert!(!space.is_short());
        free_is(1_500);
        assert!(!space.is_short(), "nothing was refused since");
        free_is(999);
        assert!(space.is_short());
        free_is(2_100);
        assert!(space.admit_comfort(100) && !space.admit_comfort(1));
    }
}
