//! What a power cut keeps of the changes that nobody synced.

use super::rng::{SimRng, mix};

/// How much of the unsynced changes survives. Every change carries its number in the order of all changes on the disk.
enum Mode {
    /// Everything, as if the cache had just been written back.
    All,
    /// Nothing, as if the cache had never been written back.
    Nothing,
    /// Everything up to this change, nothing after it: the disk worked in order.
    Until(u64),
    /// Each place by itself: with this probability its newest version, otherwise any.
    Any(f64),
    /// Each change by itself, as a whole: that is how blocks get lost between others that are kept.
    Whole(u64),
}

/// Decides, by a seed, what is kept.
pub(super) struct Keep {
    mode: Mode,
    rng: SimRng,
}

impl Keep {
    /// The choices of `seed`. `changes` is how many changes the disk has seen.
    pub(super) fn new(seed: u64, changes: u64) -> Keep {
        let rng = SimRng::new(seed);
        let mode = match rng.below(10) {
            0 => Mode::All,
            1 => Mode::Nothing,
            2 => Mode::Until(rng.below(changes + 1)),
            // Recent changes matter most: they are what the last requests did.
            3 => Mode::Until(changes - rng.below(changes.min(8) + 1)),
            4 => Mode::Any(0.9),
            5 => Mode::Any(0.1),
            6 => Mode::Any(0.0),
            _ => Mode::Whole(rng.next_u64()),
        };
        Keep { mode, rng }
    }

    /// How many of these successive changes to one place are kept.
    pub(super) fn versions(&self, changes: impl DoubleEndedIterator<Item = u64> + ExactSizeIterator) -> usize {
        match self.mode {
            Mode::All => changes.len(),
            Mode::Nothing => 0,
            Mode::Until(last) => changes.take_while(|&change| change <= last).count(),
            Mode::Any(newest) if self.rng.chance(newest) => changes.len(),
            Mode::Whole(salt) => {
                let mut changes = changes;
                changes.rposition(|change| mix(salt ^ mix(change)).is_multiple_of(2)).map_or(0, |last| last + 1)
            }
            Mode::Any(_) => self.rng.below(changes.len() as u64 + 1) as usize,
        }
    }

    /// How many of these successive changes of a size are kept. Sizes and bytes are written apart, so a change may keep one
    /// without the other.
    pub(super) fn sizes(&self, changes: impl DoubleEndedIterator<Item = u64> + ExactSizeIterator) -> usize {
        match self.mode {
            Mode::Whole(_) => self.rng.below(changes.len() as u64 + 1) as usize,
            _ => self.versions(changes),
        }
    }

    /// Whether a change is kept that stands alone.
    pub(super) fn change(&self, change: u64) -> bool {
        self.versions(std::iter::once(change)) == 1
    }
}
