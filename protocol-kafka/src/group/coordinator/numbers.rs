//! What is counted of groups, for the metrics.

use super::super::classic::Effects;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Counts since the start.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) rebalances: AtomicU64,
    pub(super) expired_members: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) expired_offsets: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, effects: &Effects) {
        if effects.is_stabilized {
            self.rebalances.fetch_add(1, Relaxed);
        }
        if effects.expired > 0 {
            self.expired_members.fetch_add(effects.expired, Relaxed);
        }
    }
}
