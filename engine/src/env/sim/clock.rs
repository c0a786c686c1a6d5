//! A clock that stands still until it is told to move.

use crate::env::Clock;
use crate::ids::TimestampMs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The wall time that a new clock shows: some day in November 2023.
const START_MS: i64 = 1_700_000_000_000;

/// A settable clock. Clones show the same time.
#[derive(Clone, Debug)]
pub struct SimClock {
    wall_ms: Arc<AtomicI64>,
    monotonic_ns: Arc<AtomicU64>,
}

impl Default for SimClock {
    fn default() -> Self {
        SimClock { wall_ms: Arc::new(AtomicI64::new(START_MS)), monotonic_ns: Arc::default() }
    }
}

impl SimClock {
    /// Lets time pass on both clocks. The wall clock counts whole milliseconds of each call.
    pub fn advance(&self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.monotonic_ns.fetch_add(ns, Ordering::Relaxed);
        self.wall_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Sets the wall clock, forward or back, as an operator or NTP may. The monotonic clock is not touched.
    pub fn set_wall(&self, time: TimestampMs) {
        self.wall_ms.store(time.0, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn wall(&self) -> TimestampMs {
        TimestampMs(self.wall_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_only_when_told() {
        let clock = SimClock::default();
        let (wall, monotonic) = (clock.wall(), clock.monotonic());
        assert_eq!((clock.wall(), clock.monotonic()), (wall, monotonic));
        let same = clock.clone();
        same.advance(Duration::from_millis(1_500));
        assert_eq!(clock.wall().0, wall.0 + 1_500);
        assert_eq!(clock.monotonic(), monotonic + Duration::from_millis(1_500));
        clock.set_wall(TimestampMs(5));
        assert_eq!(same.wall(), TimestampMs(5));
        assert_eq!(same.monotonic(), monotonic + Duration::from_millis(1_500));
    }
}
