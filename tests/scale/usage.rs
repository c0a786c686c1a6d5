//! What a process uses: memory that is its own, and CPU time more exact than clock ticks.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

/// Resident memory that no file stands behind, in MB (10^6 bytes): RssAnon and RssShmem.
pub fn memory_mb(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |key: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(key)).context("no memory in the process's status")?;
        Ok::<f64, anyhow::Error>(line.split_whitespace().next().unwrap_or_default().parse()?)
    };
    Ok((kib("RssAnon:")? + kib("RssShmem:")?) * 1024.0 / 1e6)
}

/// CPU time of each thread that there is, kernel workers included.
fn threads(pid: u32) -> Result<BTreeMap<OsString, Duration>> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        // A thread may end between the listing and the look.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let nanos = text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0);
        threads.insert(task.file_name(), Duration::from_nanos(nanos));
    }
    Ok(threads)
}

/// CPU time used from now on. What a thread uses that ends meanwhile is not seen.
pub struct CpuWatch {
    pid: u32,
    begun: Instant,
    before: BTreeMap<OsString, Duration>,
}

impl CpuWatch {
    pub fn start(pid: u32) -> Result<CpuWatch> {
        Ok(CpuWatch { pid, begun: Instant::now(), before: threads(pid)? })
    }

    /// Seconds of CPU time, and their share of one core in percent.
    pub fn read(&self) -> Result<(f64, f64)> {
        let elapsed = self.begun.elapsed().as_secs_f64();
        let before = |thread| self.before.get(thread).copied().unwrap_or_default();
        let used: Duration = threads(self.pid)?.iter().map(|(thread, now)| now.saturating_sub(before(thread))).sum();
        Ok((used.as_secs_f64(), used.as_secs_f64() * 100.0 / elapsed))
    }
}
