//! A seeded stand-in for the machine: disk, clock and random numbers in memory.
//!
//! The disk keeps, for every file, what the medium holds for certain and the list of changes since; for every folder likewise.
//! From these two, `SimDisk::crash_image` builds what a restarted machine could find. All choices follow seeds, so that a
//! failure can be run again.
//!
//! Faults that it can make, and why those:
//! - **A stop after any operation** (`stop_after`), followed by **a power cut** (`crash_image`): any subset of the unsynced
//!   512-byte sectors is kept, any size that the file had, any subset of unsynced creates, renames and removes that builds on
//!   itself. That is what a write-back cache over a journalling filesystem may do; some seeds keep all, nothing, or all up to
//!   a moment, because uniform choices hardly ever produce those. A block is torn by keeping some of its sectors; a sector is
//!   not torn, since media write it as one and checksums would see it as the same damage.
//! - **A killed process** (`kill_image`): the cache survives, durability has not advanced. Recovery that trusts what it reads
//!   without syncing it is found out by a power cut after this.
//! - **WAL completions out of order**: media and kernels reorder, and a later block may be durable while an earlier one is not.
//! - **Bit flips** (`flip_bit`): media rot; everything acknowledged is under a checksum.
//! - **EIO** on a chosen read, write or sync (`inject_eio`). A failed write leaves a part of itself, a failed sync leaves any
//!   part and **no later sync writes the rest**, as Linux does, so whoever retries and calls it safe is found out.
//! - **ENOSPC** (`set_capacity`): a write leaves what fitted.
//! - **Cold ranges** (`set_cold`), to drive the path of reads that would wait.
//!
//! It does not make: lost synced writes (a lying medium), misdirected writes, folders that lose entries by themselves. No local
//! log survives those; replicas do.

mod clock;
mod disk;
mod fault;
mod file;
mod image;
mod inode;
mod keep;
mod names;
mod rng;
mod state;
mod trace;
mod wal;
mod watch;

pub use clock::SimClock;
pub use disk::SimDisk;
pub use fault::FaultOp;
pub use rng::SimRng;
pub use watch::Moment;

use super::Env;
use std::io;
use std::sync::Arc;

/// A machine of its own for `seed`, with the handles to steer it.
pub fn env(seed: u64) -> (Env, SimDisk, SimClock) {
    let disk = SimDisk::new(seed);
    let clock = SimClock::default();
    (env_on(&disk, &clock, seed), disk, clock)
}

/// A machine around a disk that exists already, such as a crash image.
pub fn env_on(disk: &SimDisk, clock: &SimClock, seed: u64) -> Env {
    Env { disk: Arc::new(disk.clone()), clock: Arc::new(clock.clone()), rng: Arc::new(SimRng::new(seed)) }
}

/// What every call returns once the machine has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the simulated machine has stopped")]
struct MachineStopped;

impl MachineStopped {
    fn error() -> io::Error {
        io::Error::other(MachineStopped)
    }
}

/// Whether an error only says that the simulated machine has stopped.
pub fn is_stop_error(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<MachineStopped>())
}

#[cfg(test)]
mod tests;
