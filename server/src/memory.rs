//! How the memory allocator treats what the server frees.
//!
//! Requests are large, short-lived blocks. By default glibc gives the top of a heap back to the kernel when not much of it is free (a limit that grows
//! with what is freed), and the next ones are faulted in and cleared again, page by page: a tenth of the CPU time of producing batches of a megabyte.
#![allow(unsafe_code)]

/// Blocks from this size on are mapped and unmapped one by one.
const MAPPED_FROM: i32 = 4 << 20;
/// So much free memory at the top of each heap is kept; threads that are many share a few.
const KEPT: i32 = 32 << 20;

/// To be called before there are other threads.
pub fn keep_some() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (option, value) in [(libc::M_MMAP_THRESHOLD, MAPPED_FROM), (libc::M_TRIM_THRESHOLD, KEPT)] {
        // SAFETY: it sets a number within the allocator, under the allocator's lock.
        if unsafe { libc::mallopt(option, value) } == 0 {
            tracing::debug!(option, value, "the allocator does not take a setting");
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = (MAPPED_FROM, KEPT);
}
