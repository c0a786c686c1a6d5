//! What a result must say about where it was made, and counters of the process, the disk and the machine.
//!
//! Only the kind of machine is named, never its host name or paths, because results are committed.

use serde::Serialize;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, process};

/// The kind of machine, and how busy it was.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processor model and flags that matter are summed up by the model name.
    pub cpu: String,
    /// How many of them.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// Kernel release without local suffixes.
    pub kernel: String,
    /// File system type and block device of the measured folder.
    pub file_system: String,
    /// One-minute load average when the run began: other work on the machine shows here.
    pub load_at_start: f64,
}

impl Machine {
    /// Describes this machine, and the file system that `dir` lies on.
    #[must_use]
    pub fn describe(dir: &Path) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mount = mount_of(dir);
        Self {
            cpu: cpu.trim_start_matches([' ', '\t', ':']).into(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory_kib.div_ceil(1 << 20),
            kernel: kernel.split('-').next().unwrap_or_default().trim().into(),
            file_system: mount.map_or_else(|| "unknown".into(), |(device, kind)| format!("{kind} on {device}")),
            load_at_start: load_average(),
        }
    }
}

/// One-minute load average.
#[must_use]
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// User-space CPU seconds of everybody since the machine started.
#[must_use]
pub fn user_cpu_s() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// CPU seconds that all processors were busy since the machine started, for whomever: the kernel's own threads (writeback),
/// interrupts and what a hypervisor took included.
#[must_use]
pub fn busy_cpu_s() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user and nice already.
    let ticks = fields.take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4));
    ticks.filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The commit that was measured, marked when the work tree differs from it; `None` outside the project's repository.
#[must_use]
pub fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let out = process::Command::new("git").args(args).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    // The folder may lie in somebody else's repository.
    let root = git(&["rev-parse", "--show-toplevel"])?;
    if !Path::new(&root).join("benches/peers/kafka.sh").exists() {
        return None;
    }
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => Some(hash),
        _ => Some(format!("{hash}-modified")),
    }
}

/// The day, as in 2026-11-30, in UTC.
#[must_use]
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Days are counted from the first of March of the year 0, in eras of 400 years, so that a leap day comes last.
    let days = since / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}

/// Device name (without `/dev/`) and file system type below `dir`.
fn mount_of(dir: &Path) -> Option<(String, String)> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        Some((fields.next()?, fields.next()?, fields.next()?))
    });
    let (device, _, kind) = fields.filter(|(_, at, _)| dir.starts_with(at)).max_by_key(|(_, at, _)| at.len())?;
    Some((device.trim_start_matches("/dev/").into(), kind.into()))
}

/// Bytes written to the block device below `dir` since the machine started, by everybody; `None` when it has no counter.
#[must_use]
pub fn device_bytes_written(dir: &Path) -> Option<u64> {
    let (device, _) = mount_of(dir)?;
    let stat = fs::read_to_string(format!("/sys/class/block/{device}/stat")).ok()?;
    Some(stat.split_whitespace().nth(6)?.parse::<u64>().ok()? * 512)
}

/// Bytes that this process caused to be written (`write_bytes`): direct writes, and pages that it made dirty. The file
/// system's journal is not in it, other processes are not either.
#[must_use]
pub fn own_bytes_written() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_names_its_parts() {
        let machine = Machine::describe(Path::new("/"));
        assert!(machine.cores > 0 && machine.memory_gib > 0 && !machine.kernel.is_empty(), "{machine:?}");
        assert_ne!(machine.file_system, "unknown");
    }
}
