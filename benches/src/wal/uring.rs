//! io_uring with direct I/O, `RWF_DSYNC`, registered buffers and a registered file.
#![allow(unsafe_code)]

use super::device::Device;
use crate::sys::{self, Aligned};
use io_uring::{EnterFlags, IoUring, opcode, types};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

/// Marks the completion of the read of the wake counter; slots are small numbers.
const WAKE: u64 = u64::MAX;

/// The ring with its buffers.
pub struct Uring {
    ring: IoUring,
    buffers: Vec<Aligned>,
    wake: Option<Wake>,
    /// Expected length of the write in each slot.
    lengths: Vec<i32>,
    in_flight: usize,
    unsubmitted: bool,
    _file: File,
}

/// A counter whose read is always in flight.
struct Wake {
    counter: File,
    value: Box<u64>,
    armed: bool,
}

impl Uring {
    /// A ring over `file` (opened for direct I/O) with `depth` buffers. With `eager` a wake counter is watched too.
    pub fn new(file: File, depth: usize, eager: bool, block_bytes_max: usize) -> io::Result<Self> {
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(16)?;
        let mut buffers: Vec<Aligned> = (0..depth).map(|_| Aligned::new(block_bytes_max)).collect();
        let parts: Vec<libc::iovec> = buffers
            .iter_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
            .collect();
        // SAFETY: the buffers live in `self` beside the ring and are never moved (heap) nor freed before it.
        unsafe { ring.submitter().register_buffers(&parts)? };
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        let wake = if eager { Some(Wake { counter: sys::eventfd()?, value: Box::new(0), armed: false }) } else { None };
        Ok(Self { ring, buffers, wake, lengths: vec![0; depth], in_flight: 0, unsubmitted: false, _file: file })
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<()> {
        // SAFETY: what the entry points to (a buffer, the wake value) is owned by self, and `drop` waits for completions.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::Error::other("submission queue is full"))?;
        self.unsubmitted = true;
        Ok(())
    }

    fn arm(&mut self) -> io::Result<()> {
        let Some(wake) = &mut self.wake else { return Ok(()) };
        if wake.armed {
            return Ok(());
        }
        wake.armed = true;
        let value: *mut u64 = &raw mut *wake.value;
        let entry = opcode::Read::new(types::Fd(wake.counter.as_raw_fd()), value.cast(), 8).build().user_data(WAKE);
        self.push(&entry)
    }
}

impl Device for Uring {
    fn depth(&self) -> usize {
        self.buffers.len()
    }

    fn buffer(&mut self, slot: usize) -> &mut [u8] {
        &mut self.buffers[slot]
    }

    fn submit(&mut self, slot: usize, position: u64, len: usize) -> io::Result<()> {
        self.lengths[slot] = i32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let index = u16::try_from(slot).map_err(|_| io::ErrorKind::InvalidInput)?;
        let length = u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let entry = opcode::WriteFixed::new(types::Fixed(0), self.buffers[slot].as_ptr(), length, index)
            .offset(position)
            .rw_flags(libc::RWF_DSYNC)
            .build()
            .user_data(slot as u64);
        self.push(&entry)?;
        self.in_flight += 1;
        self.ring.submit()?;
        self.unsubmitted = false;
        Ok(())
    }

    fn reap(&mut self, wait: bool, done: &mut Vec<usize>) -> io::Result<()> {
        if wait {
            self.arm()?;
        }
        if wait || self.unsubmitted {
            self.ring.submit_and_wait(usize::from(wait))?;
            self.unsubmitted = false;
        } else {
            // With deferred task running completions only appear when the thread asks for events.
            // SAFETY: submits nothing and passes no argument.
            unsafe { self.ring.submitter().enter::<()>(0, 0, EnterFlags::GETEVENTS.bits(), None)? };
        }
        while let Some(completion) = self.ring.completion().next() {
            let (tag, result) = (completion.user_data(), completion.result());
            if tag == WAKE {
                if let Some(wake) = &mut self.wake {
                    wake.armed = false;
                }
                continue;
            }
            self.in_flight -= 1;
            if result < 0 {
                return Err(io::Error::from_raw_os_error(-result));
            }
            let slot = usize::try_from(tag).map_err(io::Error::other)?;
            if result != self.lengths[slot] {
                return Err(io::Error::other("short direct write"));
            }
            done.push(slot);
        }
        Ok(())
    }

    fn wake(&self) -> Option<File> {
        self.wake.as_ref().and_then(|wake| wake.counter.try_clone().ok())
    }
}

impl Drop for Uring {
    /// The kernel may touch the buffers and the wake value until their completions are in, so wait for those.
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.in_flight > 0 || self.wake.as_ref().is_some_and(|wake| wake.armed) {
            if let Some(wake) = &mut self.wake {
                wake.counter.write_all(&1u64.to_ne_bytes()).expect("an eventfd takes eight bytes");
            }
            let unfinished = self.in_flight;
            let reaped = self.ring.submit_and_wait(1).and_then(|_| self.reap(false, &mut done));
            // A write that failed has completed too; an error of the ring itself leaves no safe way on.
            assert!(reaped.is_ok() || self.in_flight < unfinished, "the ring no longer answers: {reaped:?}");
        }
    }
}
