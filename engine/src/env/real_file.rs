//! One open file of the machine: positioned reads and writes, and the read-only map that slices are cut from.
//!
//! The map of a file is a `Bytes` over the whole file as long as it was when it was mapped. A slice is a range of that
//! `Bytes`, so it costs one reference count. When a range lies past the map, the file is mapped anew; the old map lives until
//! its last slice drops. A map is never longer than the file, because touching a page past the end kills the process.
#![allow(unsafe_code)]

use super::disk::DiskFile;
use super::sys::{self, Advice};
use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How far apart the bytes are that `is_resident` asks for where the kernel does not count pages: its usual read-ahead is
/// twice that.
const RESIDENT_STEP: usize = 64 * 1024;

static OPEN_FILES: AtomicUsize = AtomicUsize::new(0);
static LIVE_MAPS: AtomicUsize = AtomicUsize::new(0);

/// How many files this process holds open through `RealDisk`s, for metrics and tests.
pub fn open_files() -> usize {
    OPEN_FILES.load(Ordering::Relaxed)
}

/// How many maps of files this process holds, for metrics and tests. It may exceed the number of open files: a map lives as
/// long as its last slice.
pub fn live_maps() -> usize {
    LIVE_MAPS.load(Ordering::Relaxed)
}

/// A map that is counted while it lives.
struct CountedMap(Mmap);

impl CountedMap {
    fn new(map: Mmap) -> CountedMap {
        LIVE_MAPS.fetch_add(1, Ordering::Relaxed);
        CountedMap(map)
    }
}

impl AsRef<[u8]> for CountedMap {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for CountedMap {
    fn drop(&mut self) {
        LIVE_MAPS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open file of the machine.
pub(super) struct RealFile {
    file: File,
    map: Mutex<Bytes>,
}

impl RealFile {
    pub(super) fn new(file: File) -> RealFile {
        OPEN_FILES.fetch_add(1, Ordering::Relaxed);
        RealFile { file, map: Mutex::new(Bytes::new()) }
    }

    /// Waits until the range is in memory, where only reading says so: the kernel reads ahead what lies between the bytes.
    fn touch(&self, position: u64, end: u64) -> io::Result<()> {
        for at in (position..end).step_by(RESIDENT_STEP).chain(end.checked_sub(1)) {
            if self.read_at(&mut [0], at)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// A map that reaches at least to `end`.
    fn mapped_to(&self, end: usize) -> io::Result<Bytes> {
        let mut map = self.map.lock();
        if map.len() < end {
            let size = usize::try_from(self.size()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
            if size < end {
                let message = format!("a slice up to byte {end} of a file of {size} bytes");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
            // SAFETY: the map is read-only and no longer than the file. Callers of `slice` promise to ask only for bytes that
            // never change and below which the file never shrinks, and nobody sees the others: `slice` cuts them off.
            let fresh = unsafe { MmapOptions::new().len(size).map(&self.file) }?;
            *map = Bytes::from_owner(CountedMap::new(fresh));
        }
        Ok(map.clone())
    }
}

impl Drop for RealFile {
    fn drop(&mut self) {
        OPEN_FILES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(out, position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        write_all(parts, position, |parts, position| sys::pwritev(self.file.as_fd(), parts, position, 0))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        // A map must not outlive a shrink in this file's hands, or a later slice would reach past the end. Slices handed out
        // before are the caller's promise.
        let mut map = self.map.lock();
        if u64::try_from(map.len()).is_ok_and(|mapped| mapped > size) {
            *map = Bytes::new();
        }
        // `ftruncate` frees what is preallocated beyond the size even when the size stays; a test watches over that.
        self.file.set_len(size)
    }

    fn preallocate(&self, position: u64, size: u64) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        loop {
            match sys::fallocate_keep_size(self.file.as_fd(), position, size) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A filesystem that cannot reserve: writes allocate as they go.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(()),
                other => return other,
            }
        }
    }

    fn start_writeback(&self, position: u64, size: u64) {
        if size > 0
            && let Err(error) = sys::start_writeback(self.file.as_fd(), position, size)
        {
            tracing::debug!(%error, "the kernel does not start write-back on request");
        }
    }

    /// Sends the range to `/dev/null`: the kernel's own reading ahead then fills the page cache, with large folios and large requests, and goes on
    /// behind the range. `POSIX_FADV_WILLNEED` costs eight times the processor time, as it asks page by page, but for the range alone.
    fn load(&self, mut position: u64, size: u64, ahead: bool) -> io::Result<()> {
        static NULL: OnceLock<Option<File>> = OnceLock::new();
        if size == 0 {
            return Ok(());
        }
        let end = position.saturating_add(size);
        let fd = self.file.as_fd();
        let advised = if ahead {
            // For the whole file, until other advice.
            sys::advise(fd, 0, 0, Advice::InOrder)
        } else {
            sys::advise(fd, position, size, Advice::Soon)
        };
        if let Err(error) = advised {
            tracing::debug!(%error, "the kernel takes no hint how a file is read");
        }
        let null = NULL.get_or_init(|| OpenOptions::new().write(true).open("/dev/null").ok());
        let Some(null) = null else { return self.touch(position, end) };
        while position < end {
            match sys::sendfile(null.as_fd(), fd, position, end - position) {
                Ok(0) => break,
                Ok(sent) => position += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
                    // A filesystem that sends nothing.
                    return self.touch(position, end);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_resident(&self, position: u64, size: u64) -> bool {
        let Some(last) = size.checked_sub(1).and_then(|beyond| position.checked_add(beyond)) else {
            return true;
        };
        let read_byte = |at| match sys::read_byte_nowait(self.file.as_fd(), at) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            // Where the kernel cannot say (an old one, or a filesystem without it), reading at once is as good as it gets.
            Err(_) => Some(1),
            Ok(read) => Some(read),
        };
        if position == last {
            return read_byte(position).is_some();
        }
        // The first and the last byte first: pages that are still being read ahead count as cached.
        match (read_byte(position), read_byte(last)) {
            (None, _) | (_, None) => return false,
            // Past the end there is nothing to wait for.
            (_, Some(0)) => return true,
            _ => {}
        }
        match sys::is_cached(self.file.as_fd(), position, last) {
            Ok(is_cached) => is_cached,
            Err(_) => (position..last).step_by(RESIDENT_STEP).all(|at| read_byte(at).is_some()),
        }
    }

    fn slice(&self, position: u64, size: usize) -> io::Result<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let start = usize::try_from(position).ok();
        let Some((start, end)) = start.and_then(|start| Some((start, start.checked_add(size)?))) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        Ok(self.mapped_to(end)?.slice(start..end))
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }
}

/// Calls `write` until all parts are written. `write` may take less than it is given, as `pwritev` may.
pub(super) fn write_all(
    parts: &[IoSlice<'_>],
    mut position: u64,
    mut write: impl FnMut(&[IoSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut copy = parts.to_vec();
    let mut rest = copy.as_mut_slice();
    // Drops leading empty parts, so that what is left is never nothing but those.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let written = match write(rest, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        IoSlice::advance_slices(&mut rest, written);
        position = position.saturating_add(written as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_interrupted_writes_are_carried_on() {
        let data: Vec<u8> = (0..200).collect();
        let parts: Vec<IoSlice<'_>> =
            [&data[..3], &[], &data[3..50], &data[50..51], &data[51..]].map(IoSlice::new).into();
        for most in 1..=200usize {
            let mut file = vec![0u8; 10];
            let mut calls = 0;
            let result = write_all(&parts, 10, |parts, position| {
                calls += 1;
                if calls % 3 == 0 {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                assert_eq!(position, file.len() as u64);
                let given: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
                let taken = given.len().min(most);
                file.extend_from_slice(&given[..taken]);
                Ok(taken)
            });
            assert!(result.is_ok());
            assert_eq!(&file[10..], data, "at most {most} bytes a call");
        }
    }

    #[test]
    fn a_write_that_makes_no_progress_or_fails_is_an_error() {
        let parts = [IoSlice::new(b"abc")];
        let error = write_all(&parts, 0, |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        let error = write_all(&parts, 0, |_, _| Err(io::Error::from_raw_os_error(libc::EIO))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert!(write_all(&[IoSlice::new(&[])], 0, |_, _| Ok(0)).is_ok());
    }
}
