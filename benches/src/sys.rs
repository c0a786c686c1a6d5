//! The few system calls that the standard library does not offer, and memory aligned for direct I/O.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Direct I/O wants memory, positions and lengths in multiples of this.
pub const BLOCK: usize = 4096;

/// Zeroed memory aligned to [`BLOCK`].
pub struct Aligned {
    start: *mut u8,
    len: usize,
}

// SAFETY: the allocation is owned by this value alone, like a Box<[u8]>.
unsafe impl Send for Aligned {}

impl Aligned {
    /// `len` zeroed bytes; `len` is rounded up to a multiple of [`BLOCK`] and at least one.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let len = len.max(1).next_multiple_of(BLOCK);
        let layout = Self::layout(len);
        // SAFETY: the layout has a non-zero size.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        Self { start, len }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK).expect("a rounded length is a valid layout")
    }
}

impl Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `len` initialised bytes that live as long as self.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { dealloc(self.start, Self::layout(self.len)) }
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn offset(value: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Reserves space; with `keep_size` the file does not grow.
pub fn fallocate(file: &File, position: u64, len: u64, keep_size: bool) -> io::Result<()> {
    let mode = if keep_size { libc::FALLOC_FL_KEEP_SIZE } else { 0 };
    // SAFETY: plain system call on a descriptor that `file` keeps open.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset(position)?, offset(len)?) })
}

/// Makes everything on the file system of `file` durable.
pub fn syncfs(file: &File) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor that `file` keeps open.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
}

/// Throws the (clean) pages of a file out of the page cache.
pub fn drop_cached(file: &File) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor that `file` keeps open.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Starts writing dirty pages of a range, without waiting and without any promise.
pub fn start_writeback(file: &File, position: u64, len: u64) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor that `file` keeps open.
    check(unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset(position)?, offset(len)?, libc::SYNC_FILE_RANGE_WRITE)
    })
}

/// Writes `parts`, one after the other, at `position` (at most 1,024 of them).
pub fn write_vectored_at(file: &File, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let count = libc::c_int::try_from(parts.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: IoSlice has the layout of iovec, and its memory outlives the call.
    let written = unsafe { libc::pwritev(file.as_raw_fd(), parts.as_ptr().cast(), count, offset(position)?) };
    match usize::try_from(written) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(written) if written == total => Ok(()),
        // A short write means a full disk here; a benchmark need not go on.
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// CPU seconds of this process so far, its kernel I/O workers included.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// In user space.
    pub user_s: f64,
    /// In the kernel.
    pub system_s: f64,
}

/// What this process has used.
#[must_use]
pub fn cpu_time() -> CpuTime {
    usage(libc::RUSAGE_SELF)
}

/// What child processes have used that ended and were waited for.
#[must_use]
pub fn children_cpu_seconds() -> f64 {
    let time = usage(libc::RUSAGE_CHILDREN);
    time.user_s + time.system_s
}

fn usage(whose: libc::c_int) -> CpuTime {
    // SAFETY: rusage is plain data for which zero bytes are valid; the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(whose, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    CpuTime { user_s: seconds(usage.ru_utime), system_s: seconds(usage.ru_stime) }
}

/// CPU seconds (user and system) that this process has used.
#[must_use]
pub fn cpu_seconds() -> f64 {
    let time = cpu_time();
    time.user_s + time.system_s
}

/// Raises the limit on open files as far as allowed, and returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only touch the struct that they are given.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: see above.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Keeps this thread, and those that it starts from now on, on one CPU.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: a CPU set is plain data for which zero bytes are valid; CPU_SET checks its index.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: plain system call on this thread, the set outlives it.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })
}

/// Asks a process to end (SIGTERM).
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: plain system call.
    check(unsafe { libc::kill(pid, libc::SIGTERM) })
}

/// Lets this thread's waits end when they are due, not up to 50 microseconds later.
pub fn wake_on_time() -> io::Result<()> {
    // SAFETY: plain system call about this thread, without pointers.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) })
}

/// What [`wait_ready`] waits for on a descriptor, and what it found.
#[repr(transparent)]
pub struct Interest(libc::pollfd);

impl Interest {
    /// Waits for bytes to read, or for room to write, or for both.
    #[must_use]
    pub fn new(of: &impl AsRawFd, read: bool, write: bool) -> Self {
        let events = if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 };
        Self(libc::pollfd { fd: of.as_raw_fd(), events, revents: 0 })
    }

    /// Whether something happened: room, bytes, an end or an error, which the next call on the descriptor tells.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.revents != 0
    }
}

/// Waits until one of the descriptors is ready, or for so long.
pub fn wait_ready(interests: &mut [Interest], most: Duration) -> io::Result<()> {
    let count = libc::nfds_t::try_from(interests.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let seconds = libc::time_t::try_from(most.as_secs()).unwrap_or(libc::time_t::MAX);
    let wait = libc::timespec { tv_sec: seconds, tv_nsec: most.subsec_nanos().into() };
    // SAFETY: Interest is a pollfd and nothing else; slice and time outlive the call; a null mask changes no signal.
    let result = unsafe { libc::ppoll(interests.as_mut_ptr().cast(), count, &raw const wait, std::ptr::null()) };
    match check(result) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

/// An eventfd: a counter that a thread waiting in io_uring can be woken by.
pub fn eventfd() -> io::Result<File> {
    // SAFETY: returns a new descriptor or -1.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    check(fd)?;
    // SAFETY: the descriptor is new and owned by nobody else.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// A file's bytes, mapped to be read.
///
/// The file must not be cut while it is mapped: reading what is gone ends the process.
pub fn map(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the files that are mapped are temporary ones of this process, which writes them before and cuts none.
    unsafe { memmap2::Mmap::map(file) }
}

/// Copies past the cache: the lines that are written are not fetched first. Elsewhere than on x86-64 an ordinary copy.
pub fn copy_streaming(from: &[u8], to: &mut Aligned) {
    let len = from.len().min(to.len());
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        const PART: usize = size_of::<__m128i>();
        let (source, target) = (from.as_ptr().cast::<__m128i>(), to.start.cast::<__m128i>());
        for part in 0..len / PART {
            // SAFETY: SSE2 is part of x86_64; part `part` lies within both, and the target is aligned to a block.
            unsafe { _mm_stream_si128(target.add(part), _mm_loadu_si128(source.add(part))) };
        }
        // SAFETY: no condition; orders the streamed stores before what follows.
        unsafe { _mm_sfence() };
        let rest = len / PART * PART;
        to[rest..len].copy_from_slice(&from[rest..len]);
    }
    #[cfg(not(target_arch = "x86_64"))]
    to[..len].copy_from_slice(&from[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streaming_copy_copies_all_of_it() {
        let from: Vec<u8> = (0..9001).map(|at| (at % 251) as u8).collect();
        for len in [0, 1, 15, 16, 17, 4096, 9001] {
            let mut to = Aligned::new(3 * BLOCK);
            copy_streaming(&from[..len], &mut to);
            assert_eq!(&to[..len], &from[..len]);
            assert!(to[len..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn aligned_memory_is_aligned_zeroed_and_writable() {
        let mut memory = Aligned::new(5000);
        assert_eq!(memory.len(), 8192);
        assert_eq!(memory.as_ptr() as usize % BLOCK, 0);
        assert!(memory.iter().all(|&byte| byte == 0));
        memory[8191] = 7;
        assert_eq!(memory[8191], 7);
    }
}
