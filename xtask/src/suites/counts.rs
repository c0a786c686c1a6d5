//! Counts of tests: what cargo and the client suites print, read back and summed up.

use std::fmt;
use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Counts {
    /// A suite that could not run at all, and should have.
    pub const FAILED: Counts = Counts { passed: 0, failed: 1, skipped: 0 };
    /// A suite that this machine cannot run.
    pub const SKIPPED: Counts = Counts { passed: 0, failed: 0, skipped: 1 };

    /// A suite that is one test, and holds.
    pub const PASSED: Counts = Counts { passed: 1, failed: 0, skipped: 0 };

    /// The sum of cargo's `test result: ok. 5 passed; 0 failed; 1 ignored; ...` lines.
    pub fn of_cargo(output: &str) -> Counts {
        let mut sum = Counts::default();
        for line in output.lines().filter_map(|line| line.trim_start().strip_prefix("test result: ")) {
            sum += Counts {
                passed: before(line, " passed"),
                failed: before(line, " failed"),
                skipped: before(line, " ignored"),
            };
        }
        sum
    }

    /// The last line of the form that we print ourselves, if there is one.
    pub fn of_summary(output: &str) -> Option<Counts> {
        output.lines().rev().find_map(|line| {
            let counts = Counts {
                passed: before(line, " passed"),
                failed: before(line, " failed"),
                skipped: before(line, " skipped"),
            };
            (line.trim_end() == counts.to_string()).then_some(counts)
        })
    }

    /// A program that failed has a failure, even when it could not count it.
    pub fn with_success(mut self, success: bool) -> Counts {
        self.failed = self.failed.max(u64::from(!success));
        self
    }
}

/// The number that stands before a word.
fn before(line: &str, word: &str) -> u64 {
    let text = line.find(word).map_or("", |end| &line[..end]);
    text.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_results_are_summed_over_all_test_programs() {
        let output = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out\n\
                      test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(Counts::of_cargo(output), Counts { passed: 5, failed: 1, skipped: 1 });
    }

    #[test]
    fn the_last_summary_line_counts_and_other_text_does_not() {
        let counts = Counts { passed: 12, failed: 0, skipped: 1 };
        assert_eq!(
            Counts::of_summary("PASS one\n3 passed, 0 failed, 0 skipped\n12 passed, 0 failed, 1 skipped\n"),
            Some(counts)
        );
        assert_eq!(Counts::of_summary("12 passed, more later"), None);
    }

    #[test]
    fn a_failing_program_without_a_count_is_a_failure() {
        assert_eq!(Counts::default().with_success(false), Counts::FAILED);
        assert_eq!(Counts { passed: 1, failed: 2, skipped: 0 }.with_success(false).failed, 2);
    }
}
