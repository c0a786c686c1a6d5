//! Time. The engine never asks the operating system directly.

use crate::ids::TimestampMs;
use std::time::Duration;

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time; may jump either way.
    fn wall(&self) -> TimestampMs;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
pub struct RealClock {
    start: std::time::Instant,
}

impl Default for RealClock {
    #[allow(clippy::disallowed_methods, reason = "this is the seam")]
    fn default() -> Self {
        RealClock { start: std::time::Instant::now() }
    }
}

impl Clock for RealClock {
    #[allow(clippy::disallowed_methods, reason = "this is the seam")]
    fn wall(&self) -> TimestampMs {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
