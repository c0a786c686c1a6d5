//! The seams: everything that the engine asks of the machine goes through the traits here, so that a simulation can
//! stand in for it. `real` is the machine itself, `sim` a seeded stand-in with faults.

mod aligned;
mod clock;
mod disk;
mod portable;
mod real;
mod real_file;
mod rng;
pub mod sim;
mod streaming;
mod sys;
mod unflushed;
mod unsynced;
mod uring;
mod wal_bytes;

pub(crate) use aligned::BufferPool;
pub use clock::{Clock, RealClock};
pub use disk::{AlignedBuffer, Completed, DirLock, Disk, DiskFile, OpenMode, WalDevice, WalMethod, WalWrite};
pub use real::RealDisk;
pub use real_file::{live_maps, open_files};
pub use rng::{RealRng, Rng};
pub(crate) use sys::lower_thread_priority;
pub use wal_bytes::WalBytes;

use std::io;
use std::path::Path;
use std::sync::Arc;

/// The machine as the engine sees it.
#[derive(Clone)]
pub struct Env {
    /// Files and their durability.
    pub disk: Arc<dyn Disk>,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes for ids.
    pub rng: Arc<dyn Rng>,
}

impl Env {
    /// The machine itself, with the data folder `root`, which is made when it is missing.
    pub fn real(root: &Path) -> io::Result<Env> {
        Ok(Env { disk: Arc::new(RealDisk::open(root)?), clock: Arc::new(RealClock::default()), rng: Arc::new(RealRng) })
    }
}
