//! When waits for records end: many of them at one moment.
//!
//! A consumer without news asks again every half second or so, and a server has thousands of them. If each wait ended by its own
//! clock, each would wake a thread twice: for the answer, and for the request that follows it. So waits end on a raster:
//! those of a few milliseconds are answered in one go, their clients ask again in one go, and so they stay together. A wait grows
//! by a seventh at most; news end it at once as ever.

use std::time::Duration;
use tokio::time::Instant;

/// A wait may grow by this part of its length ...
const PART: u32 = 7;
/// ... and by no more than this.
const STEP_MAX: Duration = Duration::from_millis(64);

/// The raster, which begins when the listener does.
#[derive(Clone, Copy)]
pub struct WaitEnds {
    begin: Instant,
}

impl WaitEnds {
    #[allow(clippy::new_without_default, reason = "one that begins now is no default")]
    /// One that begins now.
    pub fn new() -> WaitEnds {
        WaitEnds { begin: Instant::now() }
    }

    /// When a wait ends that begins `now`.
    pub fn end(&self, now: Instant, wait: Duration) -> Instant {
        let end = now + wait;
        let step = (wait / PART).min(STEP_MAX).as_millis() as u64;
        if step < 2 {
            return end;
        }
        // Powers of two, so that waits of different lengths meet too.
        let step = 1 << step.ilog2();
        let since = u64::try_from((end - self.begin).as_micros()).unwrap_or(u64::MAX);
        let raised = since.checked_next_multiple_of(step * 1_000).unwrap_or(since);
        self.begin + Duration::from_micros(raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_together_and_grow_by_little() {
        let ends = WaitEnds::new();
        let mut moments = std::collections::BTreeSet::new();
        for begun_us in 0..100_000 {
            let now = ends.begin + Duration::from_micros(begun_us);
            for wait in [500, 250, 100].map(Duration::from_millis) {
                let end = ends.end(now, wait);
                assert!(end >= now + wait && end - now <= wait + wait / PART, "{wait:?} after {begun_us} us");
                if wait.as_millis() == 500 {
                    moments.insert(end);
                }
            }
        }
        assert_eq!(moments.len(), 3, "64 ms between two of them");
    }

    #[test]
    fn short_waits_are_kept_as_they_are() {
        let ends = WaitEnds::new();
        let now = ends.begin + Duration::from_micros(1_234_567);
        for wait in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(13)] {
            assert_eq!(ends.end(now, wait), now + wait);
        }
        let long = Duration::from_secs(3600);
        assert!(ends.end(now, long) - (now + long) <= STEP_MAX);
    }
}
