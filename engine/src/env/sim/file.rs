//! An open file of the simulated disk.

use super::disk::SimDisk;
use super::fault::{FaultOp, eio};
use crate::env::DiskFile;
use crate::env::aligned::ALIGNMENT;
use bytes::{Bytes, BytesMut};
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// An open file. It keeps its content when the name is removed, as on any Unix.
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) inode: u64,
    pub(super) writable: bool,
    /// Opened for direct writes, which must be of memory, size and position that are multiples of 4 KiB.
    pub(super) direct: bool,
}

impl SimFile {
    pub(super) fn new(disk: SimDisk, inode: u64, writable: bool) -> SimFile {
        SimFile { disk, inode, writable, direct: false }
    }

    fn path(&self) -> PathBuf {
        self.disk.state().inode(self.inode).map(|inode| inode.path.clone()).unwrap_or_default()
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
    }

    /// Reads, unless the machine has stopped or a fault strikes.
    fn read(&self, position: u64, out: &mut [u8]) -> io::Result<usize> {
        let path = self.path();
        let mut state = self.disk.state();
        state.check_running()?;
        if state.faults.strikes(FaultOp::Read, &path) {
            return Err(eio());
        }
        Ok(state.inode(self.inode)?.read(position, out))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.state().closed(self.inode);
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.check_running()?;
        Ok(state.inode(self.inode)?.size())
    }

    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize> {
        self.read(position, out)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.check_writable()?;
        if self.direct {
            let fits = |part: &IoSlice<'_>| {
                part.len().is_multiple_of(ALIGNMENT) && part.as_ptr().addr().is_multiple_of(ALIGNMENT)
            };
            let is_aligned = position.is_multiple_of(ALIGNMENT as u64) && parts.iter().all(fits);
            if !is_aligned || self.disk.state().refuses_direct {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
        }
        let mut bytes = BytesMut::new();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let mut bytes = bytes.freeze();
        let (path, size) = (self.path(), bytes.len() as u64);
        self.disk.state().op("write", &path, (position, size), &bytes.clone(), |state| {
            let fails = state.faults.strikes(FaultOp::Write, &path);
            if fails {
                // How much of it was written, nobody knows.
                bytes.truncate(state.rng.below(size + 1) as usize);
            }
            state.write(self.inode, position, bytes, false)?;
            if fails { Err(eio()) } else { Ok(()) }
        })
    }

    fn sync(&self) -> io::Result<()> {
        let path = self.path();
        self.disk.state().op("sync", &path, (0, 0), &[], |state| state.sync(self.inode))
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.check_writable()?;
        let path = self.path();
        self.disk.state().op("set_size", &path, (size, 0), &[], |state| state.set_size(self.inode, size))
    }

    fn preallocate(&self, position: u64, size: u64) -> io::Result<()> {
        self.check_writable()?;
        let end = position.checked_add(size).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut state = self.disk.state();
        state.check_running()?;
        state.preallocate(self.inode, end)
    }

    /// Nothing: the simulated disk writes back at whatever moment a crash finds convenient.
    fn start_writeback(&self, _position: u64, _size: u64) {}

    fn load(&self, position: u64, size: u64, _ahead: bool) -> io::Result<()> {
        let size = size.min(self.size()?.saturating_sub(position));
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        self.read(position, &mut bytes).map(drop)
    }

    fn is_resident(&self, position: u64, size: u64) -> bool {
        !self.disk.state().is_cold(self.inode, position, size)
    }

    fn slice(&self, position: u64, size: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; size];
        if self.read(position, &mut bytes)? < size {
            let message =
                format!("a slice of {size} bytes at {position} reaches past the end of {}", self.path().display());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(bytes.into())
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}
