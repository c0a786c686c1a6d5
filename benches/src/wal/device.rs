//! Ways to write a block to the WAL file durably.

use crate::sys::{self, Aligned, BLOCK};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Writes blocks out of its own buffers, `depth` of them.
pub trait Device {
    /// How many blocks may be in flight.
    fn depth(&self) -> usize;
    /// The buffer of a slot; only touched while the slot is not in flight.
    fn buffer(&mut self, slot: usize) -> &mut [u8];
    /// Starts a durable write of the first `len` bytes (a multiple of [`BLOCK`]) of a slot's buffer.
    fn submit(&mut self, slot: usize, position: u64, len: usize) -> io::Result<()>;
    /// Takes the slots whose writes are durable; with `wait`, at least one, or nothing when [`Device::wake`] fired.
    fn reap(&mut self, wait: bool, done: &mut Vec<usize>) -> io::Result<()>;
    /// A counter that ends a waiting `reap` when it is written to, for devices that take new work while they wait.
    fn wake(&self) -> Option<File> {
        None
    }
}

/// The ways to write that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Writes nothing: what the measurement itself costs.
    Null,
    /// `pwrite` through the page cache, then `fdatasync`.
    Fdatasync,
    /// `pwrite` through the page cache on an `O_DSYNC` file.
    Dsync,
    /// `pwrite` on an `O_DIRECT | O_DSYNC` file.
    Direct,
    /// io_uring, direct, `RWF_DSYNC`, registered buffers and file; new work is taken when a write completes.
    Uring(usize),
    /// The same, but new work also wakes the committer while slots are free.
    UringEager(usize),
}

impl Method {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Fdatasync => "pwrite+fdatasync".into(),
            Self::Dsync => "O_DSYNC".into(),
            Self::Direct => "O_DIRECT+O_DSYNC".into(),
            Self::Uring(depth) => format!("io_uring depth {depth}"),
            Self::UringEager(depth) => format!("io_uring eager {depth}"),
        }
    }

    /// Whether it goes around the page cache. Such methods get a file of their own: a direct write over cached pages has to
    /// throw them out first, which costs several times the write itself.
    #[must_use]
    pub fn is_direct(self) -> bool {
        !matches!(self, Self::Null | Self::Fdatasync | Self::Dsync)
    }

    /// Opens the WAL file the way that this method writes it. Blocks are at most `block_bytes_max` long.
    pub fn open(self, path: &Path, block_bytes_max: usize) -> io::Result<Box<dyn Device>> {
        let open = |flags: i32| OpenOptions::new().write(true).custom_flags(flags).open(path);
        Ok(match self {
            Self::Null => Box::new(Blocking::new(None, false, block_bytes_max)),
            Self::Fdatasync => Box::new(Blocking::new(Some(open(0)?), true, block_bytes_max)),
            Self::Dsync => Box::new(Blocking::new(Some(open(libc::O_DSYNC)?), false, block_bytes_max)),
            Self::Direct => {
                Box::new(Blocking::new(Some(open(libc::O_DIRECT | libc::O_DSYNC)?), false, block_bytes_max))
            }
            Self::Uring(depth) | Self::UringEager(depth) => {
                let eager = matches!(self, Self::UringEager(_));
                Box::new(super::uring::Uring::new(open(libc::O_DIRECT)?, depth, eager, block_bytes_max)?)
            }
        })
    }
}

/// One write at a time, by a blocking call.
struct Blocking {
    file: Option<File>,
    sync: bool,
    buffer: Aligned,
    done: bool,
}

impl Blocking {
    fn new(file: Option<File>, sync: bool, block_bytes_max: usize) -> Self {
        Self { file, sync, buffer: Aligned::new(block_bytes_max), done: false }
    }
}

impl Device for Blocking {
    fn depth(&self) -> usize {
        1
    }

    fn buffer(&mut self, _slot: usize) -> &mut [u8] {
        &mut self.buffer
    }

    fn submit(&mut self, _slot: usize, position: u64, len: usize) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.write_all_at(&self.buffer[..len], position)?;
            if self.sync {
                file.sync_data()?;
            }
        }
        self.done = true;
        Ok(())
    }

    fn reap(&mut self, _wait: bool, done: &mut Vec<usize>) -> io::Result<()> {
        if std::mem::take(&mut self.done) {
            done.push(0);
        }
        Ok(())
    }
}

/// Makes a WAL file of `len` bytes: written with zeros, or merely allocated, so that its extents are still unwritten. Pages of
/// a file for direct writes do not stay in the page cache.
pub fn create_file(path: &Path, len: u64, zeroed: bool, direct: bool) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    sys::fallocate(&file, 0, len, false)?;
    if zeroed {
        let zeros = Aligned::new(256 * BLOCK);
        let mut position = 0;
        while position < len {
            let part = zeros.len().min(usize::try_from(len - position).unwrap_or(usize::MAX));
            file.write_all_at(&zeros[..part], position)?;
            position += part as u64;
        }
    }
    file.sync_all()?;
    if direct { sys::drop_cached(&file) } else { Ok(()) }
}
