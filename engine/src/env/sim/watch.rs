//! Looking at the disk after every operation, without running everything again for each.

use super::disk::SimDisk;
use super::state::State;

/// Called after every operation.
pub(super) type Visit = Box<dyn FnMut(&Moment<'_>) + Send>;

/// The disk right after one operation, from which the images of a machine that stops there can be taken.
pub struct Moment<'a>(&'a State);

impl Moment<'_> {
    /// Which operation it was, counted from 1 as [`SimDisk::ops`] counts.
    pub fn operation(&self) -> u64 {
        self.0.ops
    }

    /// As [`SimDisk::trace_tail`].
    pub fn trace_tail(&self, count: usize) -> Vec<String> {
        self.0.trace.tail(count)
    }

    /// As [`SimDisk::crash_image`].
    pub fn crash_image(&self, seed: u64) -> SimDisk {
        SimDisk::from_state(self.0.crashed(seed))
    }

    /// As [`SimDisk::kill_image`].
    pub fn kill_image(&self) -> SimDisk {
        SimDisk::from_state(self.0.killed())
    }
}

impl State {
    /// Shows the disk to whoever watches it.
    pub(super) fn show(&mut self) {
        if let Some(mut visit) = self.watch.take() {
            visit(&Moment(self));
            self.watch = Some(visit);
        }
    }
}
