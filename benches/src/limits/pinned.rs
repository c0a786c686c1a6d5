//! Work on a thread that stays on one CPU, and what it cost.

use crate::sys;
use std::io;
use std::thread;
use std::time::Duration;

/// CPU time of this thread so far.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

/// Runs `work` on a thread on `cpu`. A machine that does not allow that runs it anywhere.
pub fn on<T: Send>(cpu: usize, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    both((cpu, work), (cpu, || Ok(()))).map(|(found, ())| found)
}

/// Runs two pieces of work at the same time, each on its CPU.
pub fn both<A: Send, B: Send>(
    (cpu_a, a): (usize, impl FnOnce() -> io::Result<A> + Send),
    (cpu_b, b): (usize, impl FnOnce() -> io::Result<B> + Send),
) -> io::Result<(A, B)> {
    let panicked = |_| io::Error::other("a measuring thread panicked");
    thread::scope(|scope| {
        let a = scope.spawn(move || {
            let _ = sys::pin_to_cpu(cpu_a);
            a()
        });
        let b = scope.spawn(move || {
            let _ = sys::pin_to_cpu(cpu_b);
            b()
        });
        let (a, b) = (a.join().map_err(panicked)?, b.join().map_err(panicked)?);
        Ok((a?, b?))
    })
}
