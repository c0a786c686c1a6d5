//! What the process takes from the machine: descriptors, memory, time. Linux's `/proc` is asked; where it is missing the
//! numbers are absent.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit on open files as far as the system lets us, and says where it stands.
pub fn raise_open_files_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Memory in bytes, as the kernel counts it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Heap, stacks: what cannot be dropped.
    pub anonymous: u64,
    /// Mapped files, the program among them: what the kernel may drop and read again.
    pub file: u64,
    /// Memory shared with others.
    pub shared: u64,
}

/// What the process uses now.
pub fn memory() -> Option<Memory> {
    read("/proc/self/status").map(|text| parse_memory(&text))
}

fn parse_memory(status: &str) -> Memory {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    let of = |name| bytes(name).unwrap_or(0);
    Memory { anonymous: of("RssAnon:"), file: of("RssFile:"), shared: of("RssShmem:") }
}

/// Open descriptors.
pub fn open_descriptors() -> Option<u64> {
    // The folder's own descriptor is open while it is counted.
    std::fs::read_dir("/proc/self/fd").ok().map(|entries| (entries.count() as u64).saturating_sub(1))
}

/// Processor time used, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(clock.tv_sec as f64 + clock.tv_nsec as f64 / 1e9)
}

/// Unix time in seconds.
pub fn unix_seconds() -> f64 {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    clock.tv_sec as f64 + clock.tv_nsec as f64 / 1e9
}

/// Memory maps that the process may have.
pub fn maps_max() -> u64 {
    const USUAL: u64 = 65_530;
    read("/proc/sys/vm/max_map_count").and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL)
}

#[allow(clippy::disallowed_methods, reason = "/proc is no data of ours, and a simulation has none")]
fn read(path: &str) -> Option<String> {
    std::fs::read(path).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_kind() {
        let status = "VmRSS:\t    5000 kB\nRssAnon:\t    2048 kB\nRssFile:\t    4 kB\nRssShmem:\t       0 kB\n";
        assert_eq!(parse_memory(status), Memory { anonymous: 2 << 20, file: 4096, shared: 0 });
        assert_eq!(parse_memory(""), Memory::default());
        assert!(memory().is_some_and(|memory| memory.anonymous > 0));
    }

    #[test]
    fn descriptors_and_time_are_counted() {
        let before = open_descriptors().unwrap();
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(open_descriptors().unwrap() > before.saturating_sub(10), "others may close theirs meanwhile");
        drop(held);
        assert!(cpu_seconds().unwrap() > 0.0);
    }
}
