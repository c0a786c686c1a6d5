//! Seeded random numbers: SplitMix64, small and good enough to pick what a crash keeps.

use crate::env::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A seeded source of random numbers. Clones share one stream.
#[derive(Clone, Debug)]
pub struct SimRng {
    state: Arc<AtomicU64>,
}

impl SimRng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> SimRng {
        SimRng { state: Arc::new(AtomicU64::new(mix(seed ^ STEP))) }
    }

    /// The next 64 bits.
    pub fn next_u64(&self) -> u64 {
        mix(self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        // The product's high half; its bias is far below what a test could see.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True with the given probability.
    pub fn chance(&self, probability: f64) -> bool {
        ((self.next_u64() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

impl Rng for SimRng {
    fn fill(&self, out: &mut [u8]) {
        for part in out.chunks_mut(8) {
            part.copy_from_slice(&self.next_u64().to_le_bytes()[..part.len()]);
        }
    }
}

/// Spreads every bit of the input over the output.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_its_stream() {
        let draw = |seed| {
            let rng = SimRng::new(seed);
            let mut bytes = [0; 13];
            rng.fill(&mut bytes);
            (bytes, rng.below(10), rng.chance(0.5))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1).0, draw(2).0);
    }

    #[test]
    fn numbers_stay_in_bounds_and_reach_them() {
        let rng = SimRng::new(3);
        let mut seen = [0; 7];
        for _ in 0..7_000 {
            seen[rng.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1_200).contains(&count)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert!((0..1_000).all(|_| rng.chance(1.0) && !rng.chance(0.0)));
    }
}
