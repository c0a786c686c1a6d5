//! What the engine asks of a disk: positioned reads and writes, durability, names.
//!
//! Promises that an implementation must keep, and that the engine leans on:
//! - `WalWrite` with `sync` is durable on the medium when its completion is reaped without error, and so is every write
//!   without `sync` that was submitted to the same device before it: recovery must be able to read up to a durable block.
//!   Writes with `sync` say nothing about each other; each is durable when its own completion is reaped.
//! - `DiskFile::sync` makes the file's bytes and size durable; `Disk::sync_all` does so for every file of the data
//!   folder whose writes returned before the call, and for their folder entries.
//! - A rename, create or remove is durable once `sync_dir` of its folder (or `sync_all`) returned; until then a crash may
//!   show either state.
//! - Nothing else is durable: a crash keeps any subset of the unsynced sectors (512 bytes), in any order.

use bytes::Bytes;
use std::any::Any;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; an error when it exists.
    Create,
}

/// A folder tree with durability.
pub trait Disk: Send + Sync + 'static {
    /// Makes a folder and those above it, durably. One that exists already is taken to be durable: the first checkpoint after
    /// a start sees to those that a kill left unsynced.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for writes past the page cache, of memory, size and position that are multiples of 4 KiB. Where
    /// that does not work, for ordinary ones.
    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, OpenMode::Write)
    }
    /// Whether a file or folder of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Renames a file over another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, or an empty folder.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes the folder's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes every write, create, rename and remove that returned before this call durable (`syncfs`). Reports write-back
    /// errors since the disk was opened.
    fn sync_all(&self) -> io::Result<()>;
    /// Bytes that ordinary writes may still take.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Bytes of the filesystem in all.
    fn total_bytes(&self) -> io::Result<u64>;
    /// Takes the folder for this process alone, until the guard drops. `path` is the folder itself, or a file in it that
    /// stands for it and is made when missing. `WouldBlock` when another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
    /// A device that writes WAL blocks, the best that works here or the one that `method` names.
    fn wal_device(&self, method: WalMethod, dir: &Path) -> io::Result<Box<dyn WalDevice>>;
}

/// Holds the data folder's lock.
pub trait DirLock: Send + Sync {}

/// An open file. `Any`, so that a disk's WAL device can tell its own files from others.
pub trait DiskFile: Any + Send + Sync {
    /// Size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads up to `out.len()` bytes; 0 at the end.
    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `parts`, one after the other.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Makes bytes and size durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Sets the size; frees what was preallocated beyond it.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Reserves space without changing the size. Where the filesystem cannot, writes allocate as they go.
    fn preallocate(&self, position: u64, size: u64) -> io::Result<()>;
    /// Asks the kernel to start writing dirty pages of the range; a hint.
    fn start_writeback(&self, position: u64, size: u64);
    /// Waits until the range is in memory, as far as the file has it and the system can do so; nothing is copied. With `ahead` the kernel may
    /// go on behind it, else the medium is asked for nothing else.
    fn load(&self, position: u64, size: u64, ahead: bool) -> io::Result<()>;
    /// Whether the range can (very probably) be read without waiting for the medium.
    fn is_resident(&self, position: u64, size: u64) -> bool;
    /// The range as a slice, without a copy where the disk can map. The caller promises that the range lies below the
    /// published position, so that its bytes never change and the file never shrinks below it.
    fn slice(&self, position: u64, size: usize) -> io::Result<Bytes>;
    /// The descriptor, for `sendfile`; none in simulation.
    fn raw_fd(&self) -> Option<RawFd>;
}

/// How WAL blocks reach the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WalMethod {
    /// Probe, best first.
    #[default]
    Auto,
    /// `pwrite` and `fdatasync`, one block at a time, through the page cache.
    Portable,
    /// io_uring with direct I/O, several blocks in flight.
    IoUring,
    /// For blocks of which few must be durable: small ones through the page cache, large ones past it where that works.
    Unflushed,
}

/// One block on its way to the medium.
pub struct WalWrite {
    /// The WAL file.
    pub file: Arc<dyn DiskFile>,
    /// Where in it; a multiple of 4 KiB.
    pub position: u64,
    /// The block; its length is a multiple of 4 KiB. Shared: the committer reads it while the device writes it.
    pub block: Arc<WalBytes>,
    /// Whether it must be durable when completed.
    pub sync: bool,
    /// Comes back with the completion.
    pub tag: u64,
}

impl WalWrite {
    /// Whether a device may take it: direct writes must start and end at multiples of 4 KiB.
    pub(crate) fn check(&self) -> io::Result<()> {
        const UNIT: usize = super::aligned::ALIGNMENT;
        let size = self.block.len();
        if size > 0 && size.is_multiple_of(UNIT) && self.position.is_multiple_of(UNIT as u64) {
            return Ok(());
        }
        let message = format!("a WAL block of {size} bytes at position {} is not a multiple of {UNIT}", self.position);
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}

/// A completed write.
pub struct Completed {
    /// Its tag.
    pub tag: u64,
    /// What came of it. After an error nothing about the block's bytes on the medium is known, and the device calls no later
    /// write with `sync` durable.
    pub result: io::Result<()>,
}

/// Writes WAL blocks. Completions may come in any order.
pub trait WalDevice: Send {
    /// Its name, for the log and metrics.
    fn name(&self) -> &'static str;
    /// How many writes may be in flight.
    fn depth(&self) -> usize;
    /// Opens a WAL file (existing, its space allocated and zeroed) the way that this device writes it. The file is for
    /// `submit`; to read it back, open it anew with `Disk::open` once the device is dropped.
    fn open(&mut self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// An empty buffer of at least `capacity` bytes. Buffers come from a pool (registered with the kernel where that works)
    /// and return to it when the last `Arc` drops.
    fn buffer(&mut self, capacity: usize) -> AlignedBuffer;
    /// Whether it may be given a block that lies in several places. Asked before each block: else all bytes are in its buffer.
    fn gathers(&self) -> bool {
        false
    }
    /// Starts a write. `ResourceBusy` when `depth` writes are in flight already.
    fn submit(&mut self, write: WalWrite) -> io::Result<()>;
    /// Takes what has completed; with `wait`, at least one (when any is in flight).
    fn reap(&mut self, wait: bool, out: &mut Vec<Completed>) -> io::Result<()>;
}

pub use super::aligned::AlignedBuffer;
use super::wal_bytes::WalBytes;
