//! The system calls that the standard library does not offer, each as one safe function.
//!
//! Nothing here decides anything: callers in `real_file` and `real` say what a failure means.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn offset(position: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(position).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Lets the calling thread run behind others where the processor is short; a hint.
pub fn lower_thread_priority() {
    // SAFETY: touches no memory of ours. On Linux, process 0 is the calling thread alone.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
    if result != 0 {
        tracing::debug!("the priority of a thread was not lowered: {}", io::Error::last_os_error());
    }
}

/// One `pwritev2`; may write less than asked. Takes at most the first 1,024 parts. With the flag `RWF_DSYNC` the bytes are durable when it returns.
pub(super) fn pwritev(
    fd: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    position: u64,
    flags: libc::c_int,
) -> io::Result<usize> {
    let count = parts.len().min(1_024) as libc::c_int;
    // SAFETY: `IoSlice` has the layout of `iovec` (the standard library promises it), `count` of them are there, and their
    // memory is borrowed for the length of the call.
    let written = unsafe { libc::pwritev2(fd.as_raw_fd(), parts.as_ptr().cast(), count, offset(position)?, flags) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Reads one byte if that needs no waiting for the medium.
pub(super) fn read_byte_nowait(fd: BorrowedFd<'_>, position: u64) -> io::Result<usize> {
    let mut byte = 0u8;
    let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: `part` names one byte that lives through the call.
    let read = unsafe { libc::preadv2(fd.as_raw_fd(), &part, 1, offset(position)?, libc::RWF_NOWAIT) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Whether all pages that hold the bytes from `first` to `last` are in memory, or on their way there (Linux 6.5 and later).
pub(super) fn is_cached(fd: BorrowedFd<'_>, first: u64, last: u64) -> io::Result<bool> {
    /// The same on every architecture that Linux gave this call.
    const CACHESTAT: libc::c_long = 451;
    // SAFETY: touches no memory of ours.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)?.max(1);
    let range = [first, last.saturating_sub(first).saturating_add(1)];
    // In cache, dirty, in write-back, evicted, recently evicted.
    let mut pages = [0_u64; 5];
    // SAFETY: the kernel reads two numbers and writes five; both arrays live through the call.
    let result = unsafe { libc::syscall(CACHESTAT, fd.as_raw_fd(), range.as_ptr(), pages.as_mut_ptr(), 0) };
    if result == 0 { Ok(pages[0] > last / page - first / page) } else { Err(io::Error::last_os_error()) }
}

/// Reserves space beyond or within the file without changing its size.
pub(super) fn fallocate_keep_size(fd: BorrowedFd<'_>, position: u64, size: u64) -> io::Result<()> {
    let (position, size) = (offset(position)?, offset(size)?);
    // SAFETY: touches no memory of ours.
    check(unsafe { libc::fallocate(fd.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, position, size) })
}

/// Starts writing the range's dirty pages.
pub(super) fn start_writeback(fd: BorrowedFd<'_>, position: u64, size: u64) -> io::Result<()> {
    let (position, size) = (offset(position)?, offset(size)?);
    // SAFETY: touches no memory of ours.
    check(unsafe { libc::sync_file_range(fd.as_raw_fd(), position, size, libc::SYNC_FILE_RANGE_WRITE) })
}

/// How a file will be read.
#[derive(Clone, Copy)]
pub(super) enum Advice {
    /// In order, this open file until other advice: the kernel reads further ahead.
    InOrder,
    /// This range, soon: the kernel begins with it, up to some megabytes.
    Soon,
}

/// Says how a range of a file will be read; 0 bytes reach to its end.
pub(super) fn advise(fd: BorrowedFd<'_>, position: u64, size: u64, advice: Advice) -> io::Result<()> {
    let (position, size) = (offset(position)?, offset(size)?);
    let advice = match advice {
        Advice::InOrder => libc::POSIX_FADV_SEQUENTIAL,
        Advice::Soon => libc::POSIX_FADV_WILLNEED,
    };
    // SAFETY: touches no memory of ours.
    match unsafe { libc::posix_fadvise(fd.as_raw_fd(), position, size, advice) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Sends bytes of a file to `out`, without a copy where that can be; may send less than asked.
pub(super) fn sendfile(out: BorrowedFd<'_>, fd: BorrowedFd<'_>, position: u64, size: u64) -> io::Result<u64> {
    let mut position = offset(position)?;
    let size = usize::try_from(size.min(1 << 30)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes the position, which lives through the call.
    let sent = unsafe { libc::sendfile(out.as_raw_fd(), fd.as_raw_fd(), &raw mut position, size) };
    u64::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes everything of the filesystem that `fd` lies on to its medium.
pub(super) fn syncfs(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: touches no memory of ours.
    check(unsafe { libc::syncfs(fd.as_raw_fd()) })
}

/// Bytes free to ordinary users on the filesystem that `fd` lies on.
pub(super) fn free_bytes(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let answer = statvfs(fd)?;
    Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
}

/// Bytes of the filesystem that `fd` lies on.
pub(super) fn total_bytes(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let answer = statvfs(fd)?;
    Ok(answer.f_blocks.saturating_mul(answer.f_frsize))
}

fn statvfs(fd: BorrowedFd<'_>) -> io::Result<libc::statvfs> {
    // SAFETY: all zeros is a valid `statvfs`.
    let mut answer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `answer` is ours and lives through the call.
    check(unsafe { libc::fstatvfs(fd.as_raw_fd(), &mut answer) })?;
    Ok(answer)
}

/// Drops the file's clean pages from the cache, so that a test can read cold ones.
#[cfg(test)]
pub(super) fn drop_from_cache(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: touches no memory of ours.
    match unsafe { libc::posix_fadvise(fd.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
