//! Which partition a record goes to: the same choice as Kafka's own producers make, so that keys stay together whoever
//! writes them.

/// Picks partitions.
#[derive(Debug)]
pub struct Partitioner {
    count: u32,
    /// Where records without a key go until the next batch.
    sticky: u32,
    fixed: Option<u32>,
}

impl Partitioner {
    /// For a topic of `count` partitions, at least one; `fixed` sends everything to one of them.
    pub fn new(count: u32, fixed: Option<u32>) -> Partitioner {
        Partitioner { count: count.max(1), sticky: 0, fixed }
    }

    /// The partition for a key.
    pub fn pick(&self, key: Option<&[u8]>) -> u32 {
        match (self.fixed, key) {
            (Some(partition), _) => partition,
            (None, None) => self.sticky,
            (None, Some(key)) => (murmur2(key) & 0x7fff_ffff) % self.count,
        }
    }

    /// A batch is full: records without a key go elsewhere from now on.
    pub fn next_batch(&mut self) {
        self.sticky = (self.sticky + 1) % self.count;
    }
}

/// MurmurHash2 with Kafka's seed.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ (bytes.len() as u32);
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the reference's own test (`UtilsTest.testMurmur2`).
    #[test]
    fn hash_is_the_one_of_the_reference() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, expected) in cases {
            assert_eq!(murmur2(text.as_bytes()) as i32, expected, "{text}");
        }
    }

    #[test]
    fn keys_stay_and_the_keyless_move_with_each_batch() {
        let mut partitioner = Partitioner::new(3, None);
        let keyed = partitioner.pick(Some(b"abc"));
        assert_eq!(partitioner.pick(None), 0);
        partitioner.next_batch();
        assert_eq!(partitioner.pick(None), 1);
        assert_eq!(partitioner.pick(Some(b"abc")), keyed);
        assert_eq!(Partitioner::new(3, Some(2)).pick(Some(b"abc")), 2);
    }
}
