//! Child processes with a log file and a time limit, and none left behind.

use anyhow::{Context, Result};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Success,
    Failure,
    TimedOut,
}

/// Runs a command to its end, its output appended to `log`. Past `limit` it is killed, with all that it started.
pub fn run_logged(command: &mut Command, log: &Path, limit: Duration) -> Result<End> {
    let file = append(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { End::Success } else { End::Failure });
        }
        if Instant::now() > deadline {
            signal("KILL", &descendants(child.id()));
            child.wait()?;
            return Ok(End::TimedOut);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Opens a log to append to, and its folder.
pub fn append(log: &Path) -> Result<File> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    File::options().create(true).append(true).open(log).with_context(|| format!("cannot write {}", log.display()))
}

/// Sends a signal, named as `kill` names it. The program rather than the system call: no unsafe code for it here.
pub fn signal(name: &str, processes: &[u32]) {
    let ids = processes.iter().map(u32::to_string);
    let _ended_already = Command::new("kill").arg(format!("-{name}")).args(ids).stderr(Stdio::null()).status();
}

/// A process and those that it started, from the process table; where there is none, the process alone. Process groups
/// would find them too, but then Ctrl-C at the terminal would no longer reach them.
fn descendants(root: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = ids.filter_map(|id| Some((id, parent(id)?))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        next += 1;
        found.extend(parents.iter().filter(|(_, parent)| *parent == process).map(|(id, _)| *id));
    }
    found
}

/// The parent is the second word after the name, which is in parentheses and may hold anything.
fn parent(id: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// What of a log the terminal shows after a failure: what each cargo test program says of its failures, and the last lines.
pub fn excerpt(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    let mut shown: Vec<&str> = Vec::new();
    let mut begun = None;
    for (number, line) in all.iter().enumerate() {
        match begun {
            None if *line == "failures:" => begun = Some(number),
            Some(first) if line.starts_with("test result: FAILED") => {
                shown.extend(&all[first.max(number.saturating_sub(lines))..number]);
                begun = None;
            }
            _ => {}
        }
    }
    shown.extend(&all[all.len().saturating_sub(lines)..]);
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_shown_wherever_they_stand_in_a_log() {
        let log = std::env::temp_dir().join(format!("headwater-xtask-excerpt-{}", std::process::id()));
        let text = "failures:\n1\n2\n3\nfailures:\n    a::b\n\ntest result: FAILED. 0 passed\nlater\nlast\n";
        std::fs::write(&log, text).unwrap();
        assert_eq!(excerpt(&log, 4), "3\nfailures:\n    a::b\n\n\ntest result: FAILED. 0 passed\nlater\nlast");
        std::fs::remove_file(&log).unwrap();
    }
}
