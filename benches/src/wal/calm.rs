//! Waits for moments at which nobody else uses the machine.
//!
//! Other work delays every wake-up by a scheduler tick, which hides what is measured. A patient run waits for calm before each
//! case and repeats a case that was disturbed, until its patience is used up; from then on it takes what it gets and counts it.

use crate::machine;
use std::thread;
use std::time::{Duration, Instant};

/// CPUs that others may use while a run still counts as calm.
const OTHERS_CPUS_MAX: f64 = 0.3;
/// How long the machine must have been calm.
const WINDOW: Duration = Duration::from_millis(100);

/// Decides when to run and which runs to keep.
pub struct Gate {
    patience: Duration,
    /// Runs that were kept although others were at work.
    pub disturbed: u32,
}

impl Gate {
    /// A gate that waits for `patience` in all; zero: not at all.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { patience, disturbed: 0 }
    }

    /// Waits for calm.
    pub fn wait(&mut self) {
        while !self.patience.is_zero() {
            let (begun, busy) = (Instant::now(), machine::user_cpu_s());
            thread::sleep(WINDOW);
            let waited = begun.elapsed();
            self.patience = self.patience.saturating_sub(waited);
            if (machine::user_cpu_s() - busy) / waited.as_secs_f64() <= OTHERS_CPUS_MAX {
                break;
            }
        }
    }

    /// Whether a run may be kept.
    pub fn accepts(&mut self, others_cpus: f64) -> bool {
        let calm = others_cpus <= OTHERS_CPUS_MAX;
        self.disturbed += u32::from(!calm && self.patience.is_zero());
        calm || self.patience.is_zero()
    }
}
