//! The writes in flight of the io_uring device: what to ask of the kernel next, and when a write is complete.
//!
//! Pure bookkeeping, so that orders of completion can be tested that a healthy kernel hardly ever shows. A write lives in a
//! slot from `start` until it is in `done`; the slot keeps its file and block alive while the kernel reads them.

use crate::env::disk::{Completed, DiskFile, WalWrite};
use crate::env::unsynced::Unsynced;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

/// How many writes are in flight at most.
pub(super) const DEPTH: usize = 4;

/// What the kernel is to do for a slot. A slot has at most one request with the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// Write what is not written yet.
    Write,
    /// Flush the data of this descriptor, which the slot keeps open.
    Flush(RawFd),
}

/// All writes in flight.
#[derive(Default)]
pub(super) struct Flights {
    slots: [Option<Flight>; DEPTH],
    /// How many writes were started so far; their order decides what a durable one waits for.
    started: u64,
    pub(super) unsynced: Unsynced,
    /// Requests that the kernel has not been given yet.
    pub(super) requests: Vec<(usize, Request)>,
    /// Writes that are complete.
    pub(super) done: Vec<Completed>,
}

/// A write in flight.
pub(super) struct Flight {
    pub(super) write: WalWrite,
    pub(super) written: usize,
    number: u64,
    /// Whether unsynced writes came before it, so that it has to flush.
    barrier: bool,
    /// What it has yet to flush.
    flush: Vec<Arc<dyn DiskFile>>,
    /// What it is flushing; kept open until that is done.
    flushing: Option<Arc<dyn DiskFile>>,
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

impl Flights {
    pub(super) fn in_flight(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether nothing is on its way, and nothing that was written has yet to be made durable: a write does not depend on any other.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight() == 0 && self.done.is_empty() && self.unsynced.is_clean()
    }

    /// A write is complete, be it that it never was in a slot.
    pub(super) fn was_carried_out(&mut self, tag: u64, result: io::Result<()>) {
        self.unsynced.has_failed |= result.is_err();
        self.done.push(Completed { tag, result });
    }

    /// The write in a slot.
    pub(super) fn get(&self, slot: usize) -> Option<&Flight> {
        self.slots.get(slot)?.as_ref()
    }

    /// Takes a write, and asks for it to be written.
    pub(super) fn start(&mut self, write: WalWrite) -> io::Result<()> {
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "every slot of the WAL device is in flight"));
        };
        let flush = if write.sync { self.unsynced.take() } else { Vec::new() };
        if !write.sync {
            self.unsynced.add(&write.file);
        }
        self.started += 1;
        self.slots[slot] = Some(Flight {
            written: 0,
            number: self.started,
            barrier: !flush.is_empty(),
            flush,
            flushing: None,
            stage: Stage::Writing,
            write,
        });
        self.requests.push((slot, Request::Write));
        Ok(())
    }

    /// Takes the result of a slot's request.
    pub(super) fn completed(&mut self, slot: usize, result: i32) -> io::Result<()> {
        let Some(flight) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return Err(io::Error::other(format!("io_uring completed a request that was never made: {slot}")));
        };
        let outcome = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()));
        let patience = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN));
        match (flight.stage, outcome) {
            (Stage::Flushing, Ok(_)) => {
                flight.flushing = None;
                flight.stage = Stage::Written;
            }
            (Stage::Flushing, Err(error)) => self.finish(slot, Err(error)),
            (_, Ok(0)) => self.finish(slot, Err(io::ErrorKind::WriteZero.into())),
            (_, Ok(more)) => {
                flight.written = flight.written.saturating_add(more);
                if flight.written < flight.write.block.len() {
                    self.requests.push((slot, Request::Write));
                } else {
                    flight.stage = Stage::Written;
                }
            }
            (_, Err(error)) if patience(&error) => self.requests.push((slot, Request::Write)),
            (_, Err(error)) => self.finish(slot, Err(error)),
        }
        self.advance()
    }

    /// Moves on every flight that is written: it completes, flushes, or goes on waiting for earlier ones.
    fn advance(&mut self) -> io::Result<()> {
        while let Some(slot) = (0..DEPTH).find(|&slot| self.may_advance(slot)) {
            let Some(flight) = self.slots[slot].as_mut() else { continue };
            if flight.write.sync && self.unsynced.has_failed {
                self.finish(slot, Err(io::Error::other("an earlier WAL write failed")));
            } else if let Some(file) = flight.flush.pop() {
                let fd = file.raw_fd().ok_or(io::ErrorKind::InvalidInput)?;
                flight.flushing = Some(file);
                flight.stage = Stage::Flushing;
                self.requests.push((slot, Request::Flush(fd)));
            } else {
                self.finish(slot, Ok(()));
            }
        }
        Ok(())
    }

    /// Whether a slot's write is done and waits for no other. A durable one waits for unsynced ones before it, since it covers
    /// them, and for durable ones before it that cover unsynced ones, since it covers those as well.
    fn may_advance(&self, slot: usize) -> bool {
        let Some(flight) = self.get(slot).filter(|flight| flight.stage == Stage::Written) else { return false };
        let covers = |earlier: &Flight| earlier.barrier || !earlier.write.sync;
        let mut others = self.slots.iter().flatten();
        !flight.write.sync || !others.any(|earlier| earlier.number < flight.number && covers(earlier))
    }

    fn finish(&mut self, slot: usize, result: io::Result<()>) {
        if let Some(flight) = self.slots[slot].take() {
            self.was_carried_out(flight.write.tag, result);
        }
    }

    /// Leaves the memory of all writes in flight behind, for when the kernel does not say whether it still reads it.
    pub(super) fn leak(&mut self) {
        for slot in &mut self.slots {
            std::mem::forget(slot.take());
        }
    }
}
