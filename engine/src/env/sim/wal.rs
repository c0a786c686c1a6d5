//! The simulated WAL device: several writes in flight, completed in any order.

use super::disk::SimDisk;
use super::fault::{FaultOp, eio};
use super::file::SimFile;
use crate::env::aligned::BufferPool;
use crate::env::{AlignedBuffer, Completed, DiskFile, OpenMode, WalDevice, WalMethod, WalWrite};
use bytes::Bytes;
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A device on a simulated disk.
pub(super) struct SimWalDevice {
    disk: SimDisk,
    depth: usize,
    method: WalMethod,
    in_flight: Vec<Flight>,
    /// Completed writes without `sync`, as file and change: the next durable write covers them.
    unsynced: Vec<(u64, u64)>,
    buffers: Arc<BufferPool>,
    failed: bool,
}

/// A write in flight. It holds on to its block, as a real one does.
struct Flight {
    write: WalWrite,
    inode: u64,
    path: PathBuf,
    /// The change's number; none when nothing was written.
    change: Option<u64>,
    error: Option<io::Error>,
}

impl SimWalDevice {
    pub(super) fn new(disk: SimDisk, depth: usize, method: WalMethod) -> SimWalDevice {
        let buffers = BufferPool::of_simulated_wal();
        SimWalDevice { disk, depth, method, in_flight: Vec::new(), unsynced: Vec::new(), buffers, failed: false }
    }

    /// Completes one of the writes in flight, whichever the seed says. One with `sync` waits for those without that came
    /// before it, because it must make them durable.
    fn complete_one(&mut self) -> io::Result<Completed> {
        let first_unsynced = self.in_flight.iter().position(|flight| !flight.write.sync).unwrap_or(usize::MAX);
        let eligible: Vec<usize> = (0..self.in_flight.len())
            .filter(|&index| index <= first_unsynced || !self.in_flight[index].write.sync)
            .collect();
        let chosen = {
            let state = self.disk.state();
            state.check_running()?;
            eligible[state.rng.below(eligible.len() as u64) as usize]
        };
        let Flight { write, inode, path, change, error } = self.in_flight.remove(chosen);
        // Locked after `write` is bound, so unlocked before `write` drops: its file may be the last handle, which takes the lock.
        let mut state = self.disk.state();
        let (failed, unsynced) = (&mut self.failed, &mut self.unsynced);
        let numbers = (write.position, write.block.len() as u64);
        let result = state.op("wal_complete", &path, numbers, &[], |state| {
            if let Some(change) = change {
                state.inode(inode)?.land(change);
            }
            if let Some(error) = error {
                return Err(error);
            }
            if !write.sync {
                unsynced.extend(change.map(|change| (inode, change)));
                return Ok(());
            }
            if *failed {
                return Err(io::Error::other("an earlier WAL write failed"));
            }
            if state.faults.strikes(FaultOp::Sync, &path) {
                state.fail_sync(inode)?;
                return Err(eio());
            }
            for (inode, change) in unsynced.drain(..).chain(change.map(|change| (inode, change))) {
                // A file that is gone for good has nothing left to make durable.
                if let Some(inode) = state.inodes.get_mut(&inode) {
                    inode.make_durable(change);
                }
            }
            Ok(())
        });
        state.check_running()?;
        *failed |= result.is_err();
        Ok(Completed { tag: write.tag, result })
    }
}

impl WalDevice for SimWalDevice {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn open(&mut self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.disk.open_sim(path, OpenMode::Write)?))
    }

    fn buffer(&mut self, capacity: usize) -> AlignedBuffer {
        self.buffers.take(capacity)
    }

    fn gathers(&self) -> bool {
        match self.method {
            // The real one changes its mind too.
            WalMethod::Unflushed => self.disk.state().rng.chance(0.5),
            _ => self.depth == 1,
        }
    }

    fn submit(&mut self, write: WalWrite) -> io::Result<()> {
        write.check()?;
        if self.in_flight.len() >= self.depth {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "every slot of the WAL device is in flight"));
        }
        let file: &dyn Any = &*write.file;
        let Some(file) = file.downcast_ref::<SimFile>() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file of another disk"));
        };
        let inode = file.inode;
        let mut state = self.disk.state();
        state.check_running()?;
        let path = state.inode(inode)?.path.clone();
        let mut bytes =
            Bytes::from(write.block.slices().iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>());
        let numbers = (write.position, bytes.len() as u64);
        let writable = file.writable;
        // What goes wrong from here on the real devices learn only from the completion.
        let (change, error) = state.op("wal_submit", &path, numbers, &bytes.clone(), |state| {
            if !writable {
                return Ok((None, Some(io::Error::from_raw_os_error(libc::EBADF))));
            }
            let fails = state.faults.strikes(FaultOp::Write, &path);
            if fails {
                bytes.truncate(state.rng.below(numbers.1 + 1) as usize);
            }
            Ok(match state.write(inode, write.position, bytes, true) {
                Ok(change) => (Some(change), fails.then(eio)),
                Err(error) => (None, Some(error)),
            })
        })?;
        drop(state);
        self.in_flight.push(Flight { write, inode, path, change, error });
        Ok(())
    }

    fn reap(&mut self, wait: bool, out: &mut Vec<Completed>) -> io::Result<()> {
        let mut wanted = usize::from(wait);
        {
            let state = self.disk.state();
            state.check_running()?;
            while wanted < self.in_flight.len() && state.rng.chance(0.4) {
                wanted += 1;
            }
        }
        for _ in 0..wanted.min(self.in_flight.len()) {
            out.push(self.complete_one()?);
        }
        Ok(())
    }
}

impl Drop for SimWalDevice {
    /// A device that goes waits for its writes; none of them is durable, since nobody has seen it complete.
    fn drop(&mut self) {
        // Dropped after the lock, because its files take the lock when they close.
        let flights = std::mem::take(&mut self.in_flight);
        let mut state = self.disk.state();
        for flight in &flights {
            if let (Some(change), Ok(inode)) = (flight.change, state.inode(flight.inode)) {
                inode.land(change);
            }
        }
    }
}
