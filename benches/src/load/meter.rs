//! What jobs count, sampled while they run.

use crate::latency::{Latencies, Percentiles};
use serde::Serialize;
use std::ops::{Add, AddAssign, Sub};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Value bytes; batch bytes where values are not looked into.
    pub bytes: u64,
    /// Bytes of whole batches.
    pub batch_bytes: u64,
    /// Records.
    pub records: u64,
    /// Requests that were answered.
    pub requests: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Add for Counts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            batch_bytes: self.batch_bytes + other.batch_bytes,
            records: self.records + other.records,
            requests: self.requests + other.requests,
        }
    }
}

impl Sub for Counts {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            bytes: self.bytes - other.bytes,
            batch_bytes: self.batch_bytes - other.batch_bytes,
            records: self.records - other.records,
            requests: self.requests - other.requests,
        }
    }
}

/// The meter of one job. Its lock is the job's own but for a moment each second.
#[derive(Default)]
pub struct Meter(Mutex<Reading>);

/// What a meter shows.
#[derive(Default)]
pub struct Reading {
    /// Everything so far.
    pub counts: Counts,
    /// Latencies since the last sample.
    pub latencies: Latencies,
    /// When something was counted last, from the start of the phase.
    pub last_ns: u64,
}

impl Reading {
    /// Counts what came at that moment.
    pub fn count(&mut self, now_ns: u64, counts: Counts) {
        self.counts += counts;
        self.last_ns = self.last_ns.max(now_ns);
    }
}

impl Meter {
    /// To add something.
    pub fn open(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A second of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Second {
    /// When it ended, from the start of the phase.
    pub at_s: f64,
    /// Value bytes per second, in MB (10^6).
    pub mb_per_s: f64,
    /// Records per second.
    pub records_per_s: f64,
    /// Latencies in it.
    pub latency: Percentiles,
}

/// One kind of traffic in a phase, over all its jobs.
#[derive(Default)]
pub struct Sum {
    counts: Counts,
    latencies: Latencies,
    seconds: Vec<Second>,
    sampled_s: f64,
    last_ns: u64,
}

/// The same as a result.
#[derive(Clone, Debug, Serialize)]
pub struct Flow {
    /// What kind of traffic.
    pub name: &'static str,
    /// What went through.
    #[serde(flatten)]
    pub counts: Counts,
    /// Until something was counted last.
    pub seconds: f64,
    /// Bytes per second, in MB (10^6).
    pub mb_per_s: f64,
    /// Records per second.
    pub records_per_s: f64,
    /// Latencies of all.
    pub latency: Percentiles,
    /// How many latencies were recorded.
    pub latencies: u64,
    /// Percentile and milliseconds, for a plot.
    pub curve: Vec<(f64, f64)>,
    /// Second by second.
    pub over_time: Vec<Second>,
}

impl Sum {
    /// Reads the meters of its jobs.
    pub fn sample<'a>(&mut self, meters: impl Iterator<Item = &'a Meter>, at_s: f64) -> Second {
        let (mut counts, mut latencies) = (Counts::default(), Latencies::new());
        for meter in meters {
            let mut reading = meter.open();
            counts += reading.counts;
            self.last_ns = self.last_ns.max(reading.last_ns);
            reading.latencies.take_into(&mut latencies);
        }
        let new = counts - self.counts;
        let took = (at_s - self.sampled_s).max(1e-9);
        let second = Second {
            at_s,
            mb_per_s: new.bytes as f64 / 1e6 / took,
            records_per_s: new.records as f64 / took,
            latency: latencies.percentiles(),
        };
        self.latencies.add(&latencies);
        (self.counts, self.sampled_s) = (counts, at_s);
        self.seconds.push(second);
        second
    }

    /// What came of it.
    #[must_use]
    pub fn finish(self, name: &'static str) -> Flow {
        let seconds = self.last_ns as f64 / 1e9;
        Flow {
            name,
            counts: self.counts,
            seconds,
            mb_per_s: self.counts.bytes as f64 / 1e6 / seconds.max(1e-9),
            records_per_s: self.counts.records as f64 / seconds.max(1e-9),
            latency: self.latencies.percentiles(),
            latencies: self.latencies.count(),
            curve: self.latencies.curve(),
            over_time: self.seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn samples_hold_what_came_since_the_last_and_the_sum_holds_all() {
        let (meter, mut sum) = (Meter::default(), Sum::default());
        for (at_s, ms, bytes) in [(1.0, 10, 1_000_000), (2.0, 100, 3_000_000)] {
            let mut reading = meter.open();
            reading.latencies.record(Duration::from_millis(ms));
            reading.count((at_s * 1e9) as u64, Counts { bytes, ..Counts::default() });
            drop(reading);
            let second = sum.sample([&meter].into_iter(), at_s);
            assert!((second.latency.max_us / 1e3 - ms as f64).abs() < 0.2, "{second:?}");
            assert!((second.mb_per_s - bytes as f64 / 1e6).abs() < 0.01, "{second:?}");
        }
        let flow = sum.finish("produce");
        assert_eq!((flow.counts.bytes, flow.latencies, flow.over_time.len()), (4_000_000, 2, 2));
        assert!((flow.mb_per_s - 2.0).abs() < 1e-9);
    }
}
