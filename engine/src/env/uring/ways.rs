//! How a small durable block that is alone on its way is written: asked for through io_uring, or by a call that blocks.
//!
//! On a disk without FUA a durable write that io_uring carries out is completed by a worker of the kernel, on whichever processor the disk interrupted. Where
//! that one works for somebody else, the worker waits for its turn, up to a tick of the scheduler. A blocking call needs no worker, but its thread is woken
//! twice, and nothing else is done meanwhile. Which is quicker depends on the machine and on what else runs on it, so both are tried now and then
//! (`docs/decisions/0015-small-blocks.md`).

use std::time::Duration;

/// A larger block takes io_uring's way, which costs less for each byte.
pub(super) const SMALL_MAX: usize = 16 << 10;
/// So many blocks go each way in a trial ...
const TRIED: usize = 8;
/// ... one in so many blocks, so that a way that is much slower is met by less than one in a hundred.
const BETWEEN_TRIALS: u32 = 1_024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// io_uring, with `RWF_DSYNC`.
    Asked,
    /// `pwritev2` with `RWF_DSYNC`.
    Blocking,
}

impl Way {
    fn other(self) -> Way {
        match self {
            Way::Asked => Way::Blocking,
            Way::Blocking => Way::Asked,
        }
    }
}

/// Which way blocks go, and what the trial under way has shown.
pub(super) struct Ways {
    chosen: Way,
    /// Blocks until the next trial; 0 in one.
    left: u32,
    /// What blocks took in the trial: those that went the chosen way, and the others.
    taken: [Vec<Duration>; 2],
}

impl Default for Ways {
    fn default() -> Ways {
        Ways { chosen: Way::Asked, left: 0, taken: Default::default() }
    }
}

impl Ways {
    /// All blocks of a test go this way.
    #[cfg(test)]
    pub(super) fn only(way: Way) -> Ways {
        Ways { chosen: way, left: u32::MAX, ..Ways::default() }
    }

    /// The way of the next block.
    pub(super) fn next(&mut self) -> Way {
        self.left = self.left.saturating_sub(1);
        let [chosen, other] = &self.taken;
        if self.left == 0 && other.len() < chosen.len() { self.chosen.other() } else { self.chosen }
    }

    /// A block took so long.
    pub(super) fn took(&mut self, way: Way, time: Duration) {
        if self.left > 0 {
            return;
        }
        self.taken[usize::from(way != self.chosen)].push(time);
        if self.taken.iter().any(|taken| taken.len() < TRIED) {
            return;
        }
        let [chosen, other] = self.taken.each_mut().map(|taken| {
            taken.sort_unstable();
            let median = taken[TRIED / 2];
            taken.clear();
            median
        });
        // Not for a little that may be chance.
        if other < chosen * 7 / 8 {
            self.chosen = self.chosen.other();
            tracing::debug!(way = ?self.chosen, ?other, ?chosen, "small blocks of the WAL go another way");
        }
        self.left = BETWEEN_TRIALS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Way::{Asked, Blocking};

    fn run(ways: &mut Ways, blocks: usize, time: impl Fn(Way) -> u64) -> [usize; 2] {
        let mut went = [0; 2];
        for _ in 0..blocks {
            let way = ways.next();
            went[usize::from(way == Blocking)] += 1;
            ways.took(way, Duration::from_micros(time(way)));
        }
        went
    }

    #[test]
    fn blocks_go_the_quicker_way_and_follow_when_it_changes() {
        let mut ways = Ways::default();
        let slow_worker = |way| if way == Asked { 4_000 } else { 250 };
        let slow_call = |way| if way == Asked { 200 } else { 250 };
        let [asked, _] = run(&mut ways, 10_000, slow_worker);
        assert!(asked < 100, "{asked} of 10,000 went the slow way");
        // Found out at the next trial.
        run(&mut ways, 2_000, slow_call);
        let [_, blocking] = run(&mut ways, 10_000, slow_call);
        assert!(blocking < 100, "{blocking} of 10,000 went the slow way");
    }

    #[test]
    fn a_small_difference_changes_nothing() {
        let mut ways = Ways::default();
        let [_, blocking] = run(&mut ways, 10_000, |way| if way == Asked { 100 } else { 90 });
        assert!(blocking < 100);
    }

    #[test]
    fn a_stall_of_the_medium_does_not_decide() {
        let mut ways = Ways::default();
        let stalls = std::cell::Cell::new(0);
        let [_, blocking] = run(&mut ways, 10_000, |way| {
            stalls.set(stalls.get() + 1);
            match way {
                Asked if stalls.get() % 7 == 0 => 100_000,
                Asked => 100,
                Blocking => 150,
            }
        });
        assert!(blocking < 100);
    }

    /// Times of blocks that were not alone after all are not told: the trial waits for others.
    #[test]
    fn a_trial_goes_on_without_times() {
        let mut ways = Ways::default();
        for _ in 0..100 {
            assert_eq!(ways.next(), Asked);
        }
        ways.took(Asked, Duration::from_micros(1));
        assert_eq!(ways.next(), Blocking);
    }
}
