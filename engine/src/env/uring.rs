//! The fast WAL device: io_uring with direct I/O, durable by `RWF_DSYNC`, several writes in flight.
//!
//! What works differs from machine to machine: containers refuse io_uring, some filesystems refuse `O_DIRECT`, and the limit on
//! locked memory (often 8 MiB) refuses registered buffers. So `probe` tries the best setting with a real write in the WAL
//! folder, then the next.
//!
//! A write with `sync` that follows unsynced ones is a *barrier*: when the writes before it are done it flushes their files, and
//! only then completes (see `disk` for the promise, `unsynced` for why). Which write waits for which is decided in `flights`;
//! here is what talks to the kernel.
#![allow(unsafe_code)]

use super::aligned::{AlignedBuffer, BufferPool};
use super::disk::{Completed, DiskFile, WalDevice, WalWrite};
use super::real_file::{RealFile, write_all};
use super::sys;
use super::unsynced::Unsynced;
use flights::{DEPTH, Flight, Flights, Request};
use io_uring::{IoUring, opcode, squeue, types};
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use ways::{SMALL_MAX, Way, Ways};

mod flights;
mod probe;
mod ways;

/// What of the machine is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Setting {
    direct: bool,
    registered: bool,
}

/// Writes WAL blocks through io_uring.
pub(super) struct UringDevice {
    ring: IoUring,
    setting: Setting,
    buffers: Arc<BufferPool>,
    flights: Flights,
    ways: Ways,
    /// When the small block that is alone on its way was begun.
    alone: Option<(Way, Instant)>,
}

/// Writes a block, durably, before it returns.
fn write_through(write: &WalWrite) -> io::Result<()> {
    let fd = write.file.raw_fd().ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: `write` holds the file, and with it the descriptor, until this returns.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let durably = |parts: &[IoSlice<'_>], position| sys::pwritev(fd, parts, position, libc::RWF_DSYNC);
    write_all(&write.block.slices(), write.position, durably)
}

/// The request for what of a write is not yet written.
fn write_entry(flight: &Flight) -> io::Result<squeue::Entry> {
    let write = &flight.write;
    let fd = types::Fd(write.file.raw_fd().ok_or(io::ErrorKind::InvalidInput)?);
    let block = write.block.whole().ok_or(io::ErrorKind::InvalidInput)?;
    let rest = block.as_slice().get(flight.written..).unwrap_or_default();
    let size = u32::try_from(rest.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let position = write.position.saturating_add(flight.written as u64);
    let flags = if write.sync { libc::RWF_DSYNC } else { 0 };
    Ok(match block.registered_index() {
        Some(index) => opcode::WriteFixed::new(fd, rest.as_ptr(), size, index).offset(position).rw_flags(flags).build(),
        None => opcode::Write::new(fd, rest.as_ptr(), size).offset(position).rw_flags(flags).build(),
    })
}

impl UringDevice {
    fn new(setting: Setting) -> io::Result<UringDevice> {
        let ring = IoUring::new((2 * DEPTH) as u32)?;
        let buffers = if setting.registered {
            let (buffers, places) = BufferPool::registered();
            // SAFETY: the places are live allocations of `buffers`. The kernel pins their pages, and reads them only for
            // writes that `submit` makes, whose blocks are held until they complete.
            unsafe { ring.submitter().register_buffers(&places) }?;
            buffers
        } else {
            BufferPool::of_wal()
        };
        let (flights, ways) = (Flights::default(), Ways::default());
        Ok(UringDevice { ring, setting, buffers, flights, ways, alone: None })
    }

    /// A device of exactly this setting, tried out in `dir`.
    #[cfg(test)]
    pub(super) fn with(direct: bool, registered: bool, dir: &Path) -> io::Result<UringDevice> {
        UringDevice::try_out(Setting { direct, registered }, dir)
    }

    /// Whether it writes past the page cache.
    pub(super) fn is_direct(&self) -> bool {
        self.setting.direct
    }

    /// Waits for all writes in flight.
    pub(super) fn reap_all(&mut self, out: &mut Vec<Completed>) -> io::Result<()> {
        while self.flights.in_flight() > 0 {
            self.reap(true, out)?;
        }
        Ok(())
    }

    /// What it has yet to make durable, for a device that goes on with the same files. Complete when nothing is in flight.
    pub(super) fn unsynced(&mut self) -> &mut Unsynced {
        &mut self.flights.unsynced
    }

    /// Queues what the flights ask for. The kernel sees it at the next `enter`.
    fn push_requests(&mut self) -> io::Result<()> {
        for (slot, request) in std::mem::take(&mut self.flights.requests) {
            let entry = match request {
                Request::Write => write_entry(self.flights.get(slot).ok_or(io::ErrorKind::InvalidInput)?)?,
                Request::Flush(fd) => opcode::Fsync::new(types::Fd(fd)).flags(types::FsyncFlags::DATASYNC).build(),
            };
            let entry = entry.user_data(slot as u64);
            // SAFETY: the entry names a descriptor and memory that the slot's `Flight` keeps alive until the entry completes; a
            // `Flight` leaves its slot only then, and `drop` waits or leaks.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            pushed.map_err(|_| io::Error::new(io::ErrorKind::ResourceBusy, "io_uring's queue is full"))?;
        }
        Ok(())
    }

    /// Hands queued requests to the kernel, and waits for `want` completions. Whatever asks only for patience is no error: the
    /// requests stay queued for the next call.
    fn enter(&mut self, want: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(want) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => Ok(()),
                Some(libc::EAGAIN | libc::EBUSY) => {
                    std::thread::yield_now();
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }
}

impl WalDevice for UringDevice {
    fn name(&self) -> &'static str {
        match self.setting {
            Setting { direct: true, registered: true } => "io_uring",
            Setting { direct: true, registered: false } => "io_uring-unregistered",
            Setting { direct: false, .. } => "io_uring-buffered",
        }
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn open(&mut self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let flags = if self.setting.direct { libc::O_DIRECT } else { 0 };
        let file = std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        Ok(Arc::new(RealFile::new(file)))
    }

    fn buffer(&mut self, capacity: usize) -> AlignedBuffer {
        self.buffers.take(capacity)
    }

    #[allow(clippy::disallowed_methods, reason = "what a block takes is timed where it is written")]
    fn submit(&mut self, write: WalWrite) -> io::Result<()> {
        write.check()?;
        if write.block.whole().is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "io_uring writes a WAL block from one place"));
        }
        if write.file.raw_fd().is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file of another disk"));
        }
        let is_alone = write.sync && self.flights.is_settled();
        self.alone = None;
        if is_alone && self.setting.direct && write.block.len() <= SMALL_MAX {
            let way = self.ways.next();
            self.alone = Some((way, Instant::now()));
            if way == Way::Blocking {
                let result = write_through(&write);
                self.flights.was_carried_out(write.tag, result);
                return Ok(());
            }
        }
        self.flights.start(write)?;
        self.push_requests()?;
        self.enter(0)
    }

    fn reap(&mut self, wait: bool, out: &mut Vec<Completed>) -> io::Result<()> {
        loop {
            loop {
                let next = self.ring.completion().next();
                let Some(completion) = next else { break };
                let slot = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
                self.flights.completed(slot, completion.result())?;
            }
            self.push_requests()?;
            let enough = !wait || !self.flights.done.is_empty() || self.flights.in_flight() == 0;
            if !self.ring.submission().is_empty() || !enough {
                self.enter(usize::from(!enough))?;
            }
            if enough {
                // Segments were written between the two: what a block takes is what the committer sees.
                if let Some((way, begun)) = self.alone.take_if(|_| !self.flights.done.is_empty()) {
                    self.ways.took(way, begun.elapsed());
                }
                out.append(&mut self.flights.done);
                return Ok(());
            }
        }
    }
}

impl Drop for UringDevice {
    /// Waits for the kernel to let go of the blocks. Where it does not say so, they are leaked: freed memory under a running
    /// write would end up in the WAL.
    fn drop(&mut self) {
        if let Err(error) = self.reap_all(&mut Vec::new()) {
            tracing::error!(%error, "the WAL device cannot wait for its writes; their memory is left behind");
            self.flights.leak();
        }
    }
}

#[cfg(test)]
mod tests;
