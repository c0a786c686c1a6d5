//! Seeded choices.

use headwater_engine::env::sim::SimRng;

/// A stream of choices.
pub struct Draw(SimRng);

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(SimRng::new(seed))
    }

    pub fn next(&self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// A number in a range.
    pub fn within(&self, range: std::ops::RangeInclusive<u64>) -> u64 {
        range.start() + self.0.below(range.end() - range.start() + 1)
    }

    pub fn chance(&self, probability: f64) -> bool {
        self.0.chance(probability)
    }

    /// One of several.
    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.0.below(from.len() as u64) as usize]
    }
}

/// A seed made of two numbers.
pub fn mix(left: u64, right: u64) -> u64 {
    SimRng::new(left ^ right.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15)).next_u64()
}
