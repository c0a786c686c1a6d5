//! What was done to the disk, in order: a hash to compare two runs, and the last lines to read.

use super::rng::mix;
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};

/// How many operations are kept for reading.
const KEPT: usize = 1_000;

/// One operation.
pub(super) struct Line {
    op: &'static str,
    path: PathBuf,
    /// Position and size, or whatever two numbers the operation has.
    numbers: (u64, u64),
    content: u32,
    failed: bool,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.numbers;
        write!(f, "{} {} {first} {second}", self.op, self.path.display())?;
        if self.content != 0 {
            write!(f, " crc {:08x}", self.content)?;
        }
        if self.failed { write!(f, " failed") } else { Ok(()) }
    }
}

/// All operations so far.
#[derive(Default)]
pub(super) struct Trace {
    hash: u64,
    count: u64,
    last: VecDeque<Line>,
}

impl Trace {
    pub(super) fn push(&mut self, op: &'static str, path: &Path, numbers: (u64, u64), content: u32, failed: bool) {
        let name = path.as_os_str().as_encoded_bytes();
        for bytes in [op.as_bytes(), name] {
            self.add(u64::from(crc(bytes)) << 32 | bytes.len() as u64);
        }
        for number in [numbers.0, numbers.1, u64::from(content), u64::from(failed)] {
            self.add(number);
        }
        self.count += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(Line { op, path: path.to_owned(), numbers, content, failed });
    }

    fn add(&mut self, number: u64) {
        self.hash = mix(self.hash.rotate_left(7) ^ mix(number));
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last operations, numbered.
    pub(super) fn tail(&self, count: usize) -> Vec<String> {
        let count = count.min(self.last.len());
        let first = self.count - count as u64 + 1;
        let lines = self.last.iter().skip(self.last.len() - count);
        lines.zip(first..).map(|(line, number)| format!("{number}: {line}")).collect()
    }
}

/// Stands for content in the trace.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}
