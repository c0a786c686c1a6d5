//! The fast WAL device: io_uring with direct I/O, durable by `RWF_DSYNC`, several writes in flight.
//!
//! What works differs from machine to machine: containers refuse io_uring, some filesystems refuse `O_DIRECT`, and the limit on
//! locked memory (often 8 MiB) refuses registered buffers. So `probe` tries the best setting with a real write in the WAL
//! folder, then the next.
//!
//! A write lives in one of a few slots from `submit` until its completion is reaped; the slot keeps the file and the block
//! alive while the kernel reads them. A write with `sync` that follows unsynced ones is a *barrier*: when the writes before it
//! are done it flushes their files, and only then completes (see `disk` for the promise, `unsynced` for why).
#![allow(unsafe_code)]

use super::aligned::{AlignedBuffer, BufferPool};
use super::disk::{Completed, DiskFile, WalDevice, WalWrite};
use super::real_file::RealFile;
use super::unsynced::Unsynced;
use io_uring::{IoUring, opcode, squeue, types};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

mod probe;

/// How many writes are in flight at most.
const DEPTH: usize = 4;

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
    slots: [Option<Flight>; DEPTH],
    /// How many writes were submitted so far; their order decides what a barrier waits for.
    submitted: u64,
    unsynced: Unsynced,
    done: Vec<Completed>,
    /// A write or flush has failed: nothing is called durable any more.
    failed: bool,
}

/// A write in flight.
struct Flight {
    write: WalWrite,
    fd: RawFd,
    number: u64,
    written: usize,
    /// Whether unsynced writes came before it, so that it has to flush.
    barrier: bool,
    /// What it has yet to flush.
    flush: Vec<Arc<dyn DiskFile>>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The kernel has the write.
    Writing,
    /// The write is done; earlier ones may have to finish first.
    Written,
    /// The kernel has a flush.
    Flushing,
}

/// What a write's result means.
#[derive(Debug)]
enum Progress {
    Whole,
    /// Short or interrupted: the rest must be submitted.
    Partial,
    Failed(io::Error),
}

impl Flight {
    fn progress(&mut self, result: i32) -> Progress {
        match usize::try_from(result) {
            Ok(0) => Progress::Failed(io::ErrorKind::WriteZero.into()),
            Ok(more) => {
                self.written = self.written.saturating_add(more);
                if self.written < self.write.block.len() { Progress::Partial } else { Progress::Whole }
            }
            Err(_) => match io::Error::from_raw_os_error(result.saturating_neg()) {
                error if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => Progress::Partial,
                error => Progress::Failed(error),
            },
        }
    }

    /// The request for what is not yet written.
    fn write_entry(&self) -> io::Result<squeue::Entry> {
        let rest = self.write.block.as_slice().get(self.written..).unwrap_or_default();
        let size = u32::try_from(rest.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let position = self.write.position.saturating_add(self.written as u64);
        let flags = if self.write.sync { libc::RWF_DSYNC } else { 0 };
        let fd = types::Fd(self.fd);
        Ok(match self.write.block.registered_index() {
            Some(index) => {
                opcode::WriteFixed::new(fd, rest.as_ptr(), size, index).offset(position).rw_flags(flags).build()
            }
            None => opcode::Write::new(fd, rest.as_ptr(), size).offset(position).rw_flags(flags).build(),
        })
    }
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
            BufferPool::lazy()
        };
        Ok(UringDevice {
            ring,
            setting,
            buffers,
            slots: [const { None }; DEPTH],
            submitted: 0,
            unsynced: Unsynced::default(),
            done: Vec::new(),
            failed: false,
        })
    }

    /// A device of exactly this setting, tried out in `dir`.
    #[cfg(test)]
    pub(super) fn with(direct: bool, registered: bool, dir: &Path) -> io::Result<UringDevice> {
        UringDevice::try_out(Setting { direct, registered }, dir)
    }

    fn in_flight(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Queues a request for the slot. The kernel sees it at the next `enter`.
    fn push(&mut self, slot: usize, entry: squeue::Entry) -> io::Result<()> {
        let entry = entry.user_data(slot as u64);
        // SAFETY: the entry names a descriptor and memory that the slot's `Flight` keeps alive until the entry completes; a
        // `Flight` leaves its slot only then, and `drop` waits or leaks.
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| io::ErrorKind::ResourceBusy.into())
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

    /// Takes one completion of the kernel's.
    fn completed(&mut self, slot: usize, result: i32) -> io::Result<()> {
        let Some(flight) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return Err(io::Error::other(format!("io_uring completed a request that was never made: {slot}")));
        };
        match flight.stage {
            Stage::Flushing if result >= 0 => flight.stage = Stage::Written,
            Stage::Flushing => self.finish(slot, Err(io::Error::from_raw_os_error(result.saturating_neg()))),
            Stage::Writing | Stage::Written => match flight.progress(result) {
                Progress::Whole => flight.stage = Stage::Written,
                Progress::Partial => {
                    let entry = flight.write_entry()?;
                    self.push(slot, entry)?;
                }
                Progress::Failed(error) => self.finish(slot, Err(error)),
            },
        }
        Ok(())
    }

    /// Moves on every flight that is written: it completes, flushes, or goes on waiting for earlier ones.
    fn advance(&mut self) -> io::Result<()> {
        let mut again = true;
        while again {
            again = false;
            for slot in 0..DEPTH {
                let Some(flight) = self.slots[slot].as_ref().filter(|flight| flight.stage == Stage::Written) else {
                    continue;
                };
                let waits = flight.write.sync
                    && self
                        .slots
                        .iter()
                        .flatten()
                        .any(|earlier| earlier.number < flight.number && (earlier.barrier || !earlier.write.sync));
                if waits {
                    continue;
                }
                if flight.write.sync && self.failed {
                    self.finish(slot, Err(io::Error::other("an earlier WAL write failed")));
                } else if let Some(file) = self.slots[slot].as_mut().and_then(|flight| flight.flush.pop()) {
                    let fd = file.raw_fd().ok_or(io::ErrorKind::InvalidInput)?;
                    let entry = opcode::Fsync::new(types::Fd(fd)).flags(types::FsyncFlags::DATASYNC).build();
                    self.push(slot, entry)?;
                    if let Some(flight) = self.slots[slot].as_mut() {
                        flight.stage = Stage::Flushing;
                    }
                } else {
                    self.finish(slot, Ok(()));
                }
                again = true;
            }
        }
        Ok(())
    }

    fn finish(&mut self, slot: usize, result: io::Result<()>) {
        self.failed |= result.is_err();
        if let Some(flight) = self.slots[slot].take() {
            self.done.push(Completed { tag: flight.write.tag, result });
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

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let flags = if self.setting.direct { libc::O_DIRECT } else { 0 };
        let file = std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        Ok(Arc::new(RealFile::new(file)))
    }

    fn buffer(&mut self, capacity: usize) -> AlignedBuffer {
        self.buffers.take(capacity)
    }

    fn submit(&mut self, write: WalWrite) -> io::Result<()> {
        write.check()?;
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "every slot of the WAL device is in flight"));
        };
        let fd = write.file.raw_fd().ok_or(io::ErrorKind::InvalidInput)?;
        let flush = if write.sync { self.unsynced.take() } else { Vec::new() };
        if !write.sync {
            self.unsynced.add(&write.file);
        }
        self.submitted += 1;
        let flight = Flight {
            fd,
            number: self.submitted,
            written: 0,
            barrier: !flush.is_empty(),
            flush,
            stage: Stage::Writing,
            write,
        };
        let entry = flight.write_entry()?;
        // Into its slot first: from the push on the kernel may look at it.
        self.slots[slot] = Some(flight);
        self.push(slot, entry)?;
        self.enter(0)
    }

    fn reap(&mut self, wait: bool, out: &mut Vec<Completed>) -> io::Result<()> {
        loop {
            loop {
                let next = self.ring.completion().next();
                let Some(completion) = next else { break };
                let slot = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
                self.completed(slot, completion.result())?;
            }
            self.advance()?;
            let enough = !wait || !self.done.is_empty() || self.in_flight() == 0;
            if !self.ring.submission().is_empty() || !enough {
                self.enter(usize::from(!enough))?;
            }
            if enough {
                out.append(&mut self.done);
                return Ok(());
            }
        }
    }
}

impl Drop for UringDevice {
    /// Waits for the kernel to let go of the blocks. Where it does not say so, they are leaked: freed memory under a running
    /// write would end up in the WAL.
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.in_flight() > 0 {
            if let Err(error) = self.reap(true, &mut done) {
                tracing::error!(%error, "the WAL device cannot wait for its writes; their memory is left behind");
                for slot in &mut self.slots {
                    std::mem::forget(slot.take());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
