//! Which partition a batch goes to: in turn, or by a key as a client would choose it.
//!
//! Keys are numbers of eight bytes; their partition is Kafka's own choice, murmur2 of the key modulo the partitions. With keys a batch
//! counts as one key's: what is skewed is which partitions get how many batches.

use crate::kafka::batch::next;
use serde::Serialize;

/// How keys are distributed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub enum Distribution {
    /// No keys: partitions take turns.
    #[default]
    None,
    /// All keys are alike.
    Uniform,
    /// The nth key comes 1/n as often as the first.
    Zipf,
}

/// Draws partitions by key.
pub struct Keys {
    partitions: Vec<i32>,
    /// For zipf: the weight of a key and of those before it.
    weights: Vec<f64>,
}

impl Keys {
    /// So many keys over so many partitions; `None` when there are to be no keys.
    #[must_use]
    pub fn new(distribution: Distribution, keys: u32, partitions: i32) -> Option<Self> {
        let mut sum = 0.0;
        let weights = match distribution {
            Distribution::None => return None,
            Distribution::Uniform => Vec::new(),
            Distribution::Zipf => (0..keys.max(1))
                .map(|key| f64::from(key) + 1.0)
                .map(|rank| {
                    sum += 1.0 / rank;
                    sum
                })
                .collect(),
        };
        let partitions = (0..u64::from(keys.max(1))).map(|key| partition_of(&key.to_be_bytes(), partitions)).collect();
        Some(Self { partitions, weights })
    }

    /// The partition of the next key.
    #[must_use]
    pub fn draw(&self, random: &mut u64) -> i32 {
        let number = next(random);
        let at = match self.weights.last() {
            None => (number % self.partitions.len() as u64) as usize,
            Some(sum) => {
                let wanted = (number >> 11) as f64 / (1u64 << 53) as f64 * sum;
                self.weights.partition_point(|&weight| weight <= wanted)
            }
        };
        self.partitions[at.min(self.partitions.len() - 1)]
    }
}

/// The partition that Kafka's clients choose for a key.
fn partition_of(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions.max(1)
}

/// The 32-bit hash "murmur2" with the seed that Kafka's clients use.
fn murmur2(bytes: &[u8]) -> u32 {
    const MIX: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut word = word.iter().rev().fold(0, |sum, &byte| sum << 8 | u32::from(byte)).wrapping_mul(MIX);
        word = (word ^ word >> 24).wrapping_mul(MIX);
        hash = hash.wrapping_mul(MIX) ^ word;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash = (hash ^ rest.iter().rev().fold(0, |sum, &byte| sum << 8 | u32::from(byte))).wrapping_mul(MIX);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(MIX);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that Kafka's own tests of its hash name.
    #[test]
    fn murmur2_is_that_of_the_clients() {
        let cases: [(&[u8], i32); 4] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key) as i32, hash, "{key:?}");
        }
    }

    #[test]
    fn uniform_keys_reach_all_partitions_alike_and_zipf_prefers_the_first_key() {
        let mut random = 7;
        let mut count = |keys: &Keys| {
            let mut counts = [0u32; 8];
            (0..80_000).for_each(|_| counts[keys.draw(&mut random) as usize] += 1);
            counts
        };
        assert!(Keys::new(Distribution::None, 10, 8).is_none());
        let uniform = count(&Keys::new(Distribution::Uniform, 100_000, 8).unwrap());
        assert!(uniform.iter().all(|&count| (9_000..11_000).contains(&count)), "{uniform:?}");
        let zipf = Keys::new(Distribution::Zipf, 1000, 8).unwrap();
        // The harmonic number of 1000 is 7.49: the first key alone takes 13 %.
        let (counts, hot) = (count(&zipf), zipf.partitions[0] as usize);
        assert!(counts[hot] > 80_000 / 7 && counts[hot] == *counts.iter().max().unwrap(), "{counts:?}");
        assert_eq!(count(&Keys::new(Distribution::Zipf, 1, 8).unwrap())[partition_of(&[0; 8], 8) as usize], 80_000);
    }
}
