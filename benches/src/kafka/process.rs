//! What a server process has used so far, from `/proc`.

use serde::Serialize;
use std::{fs, io};

/// CPU and memory of a process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    /// CPU seconds in user space since it started.
    pub user_s: f64,
    /// CPU seconds in the kernel.
    pub system_s: f64,
    /// Resident anonymous and shared memory (heap and stacks, not mapped files), in MB.
    pub anonymous_mb: f64,
    /// Resident memory in all, in MB.
    pub resident_mb: f64,
}

impl Usage {
    /// Reads it.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold spaces; what follows the last one does not.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0) as f64;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mb = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0 / 1e6
        };
        // USER_HZ is 100 on every Linux that we run on; the kernel's interface fixes it.
        Ok(Self {
            user_s: ticks(11) / 100.0,
            system_s: ticks(12) / 100.0,
            anonymous_mb: mb("RssAnon:") + mb("RssShmem:"),
            resident_mb: mb("VmRSS:"),
        })
    }

    /// CPU seconds in all.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_this_process_has_memory_and_a_missing_one_is_an_error() {
        assert!(Usage::of(std::process::id()).unwrap().anonymous_mb > 0.0);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
