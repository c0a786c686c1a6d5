//! Which record of a key is the last: a map from keys to offsets, in bounded memory.
//!
//! A key stands in it as a hash of 128 bits under a secret that is drawn anew for each pass (SipHash-2-4): clients choose
//! keys, and two that met in one hash would make a record disappear. With a secret nobody can look for such keys, and by chance they
//! meet in one of 2^85 maps that are full.
//!
//! The table is cut into shards by the hash, each with open addressing of its own. A shard grows by half; while one does, both
//! its old and its new memory count. So the whole never takes more than its bound, not even while it grows, and is
//! never much larger than what is in it.

use crate::env::Rng;
use crate::ids::Offset;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

const SHARDS: usize = 256;
/// Slots of a shard that gets its first key.
const SLOTS_MIN: usize = 16;
/// A shard grows when more than this part of it is taken ...
const LOAD_MAX: (usize, usize) = (7, 8);
/// ... and is full, when there is no memory to grow into, at this one.
const LOAD_FULL: (usize, usize) = (15, 16);

/// Bytes that a key takes at the least.
const SLOT_BYTES: usize = size_of::<Slot>();

#[derive(Clone, Copy)]
struct Slot {
    hash: (u64, u64),
    /// Negative: nothing is here.
    offset: i64,
}

const FREE: Slot = Slot { hash: (0, 0), offset: -1 };

#[derive(Default)]
struct Shard {
    slots: Box<[Slot]>,
    taken: usize,
}

/// Another key has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// See the module.
pub struct KeyMap {
    hasher: SipHasher24,
    shards: Vec<Shard>,
    bytes: usize,
    bytes_max: usize,
    keys: usize,
}

impl Shard {
    /// Where the hash is, or would be. The shard has a free slot.
    fn find(&self, hash: (u64, u64)) -> usize {
        let count = self.slots.len();
        // The product's high half: a number below `count`, spread as evenly as the hash.
        let mut at = ((u128::from(hash.0) * count as u128) >> 64) as usize;
        while let Some(slot) = self.slots.get(at) {
            if slot.offset < 0 || slot.hash == hash {
                break;
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        at
    }

    fn is_over(&self, load: (usize, usize)) -> bool {
        (self.taken + 1) * load.1 > self.slots.len() * load.0
    }

    fn grow(&mut self, count: usize) {
        let old = std::mem::replace(&mut self.slots, vec![FREE; count].into_boxed_slice());
        for slot in old.iter().filter(|slot| slot.offset >= 0) {
            let at = self.find(slot.hash);
            if let Some(free) = self.slots.get_mut(at) {
                *free = *slot;
            }
        }
    }
}

impl KeyMap {
    /// An empty map that takes at most `bytes_max` bytes.
    pub fn new(rng: &dyn Rng, bytes_max: usize) -> KeyMap {
        let mut secret = [0; 16];
        rng.fill(&mut secret);
        KeyMap {
            hasher: SipHasher24::new_with_key(&secret),
            shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect(),
            bytes: 0,
            bytes_max,
            keys: 0,
        }
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let mut hasher = self.hasher;
        hasher.write(key);
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }

    /// Notes that the key has a record at this offset, the last so far. Fails when the key is new and there is no room.
    pub fn note(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = self.hash(key);
        let Some(shard) = self.shards.get_mut(hash.1 as usize % SHARDS) else { return Err(Full) };
        if let Some(slot) = shard.slots.get_mut(shard.find(hash))
            && slot.offset >= 0
        {
            slot.offset = offset.0;
            return Ok(());
        }
        if shard.is_over(LOAD_MAX) {
            let count = (shard.slots.len() + shard.slots.len() / 2).max(SLOTS_MIN);
            let fits = self.bytes + count * SLOT_BYTES <= self.bytes_max;
            // The very first key gets its room whatever the bound is: a pass must come to something.
            if fits || self.keys == 0 {
                self.bytes += (count - shard.slots.len()) * SLOT_BYTES;
                shard.grow(count);
            } else if shard.is_over(LOAD_FULL) {
                return Err(Full);
            }
        }
        let at = shard.find(hash);
        let slot = shard.slots.get_mut(at).ok_or(Full)?;
        *slot = Slot { hash, offset: offset.0 };
        shard.taken += 1;
        self.keys += 1;
        Ok(())
    }

    /// The offset of the key's last record that was noted.
    pub fn last(&self, key: &[u8]) -> Option<Offset> {
        let hash = self.hash(key);
        let shard = self.shards.get(hash.1 as usize % SHARDS)?;
        let slot = shard.slots.get(shard.find(hash))?;
        (slot.offset >= 0).then_some(Offset(slot.offset))
    }

    /// Bytes that it takes now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keys in it.
    pub fn len(&self) -> usize {
        self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::SimRng;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn the_last_offset_of_every_key_is_found(keys in prop::collection::vec(0u32..2_000, 0..6_000)) {
            let mut map = KeyMap::new(&SimRng::new(1), 1 << 20);
            let mut due = HashMap::new();
            for (offset, key) in keys.iter().enumerate() {
                prop_assert_eq!(map.note(&key.to_be_bytes(), Offset(offset as i64)), Ok(()));
                due.insert(*key, Offset(offset as i64));
            }
            prop_assert_eq!(map.len(), due.len());
            for key in 0..2_000u32 {
                prop_assert_eq!(map.last(&key.to_be_bytes()), due.get(&key).copied());
            }
        }

        #[test]
        fn a_full_map_keeps_what_it_has_and_its_bound(bytes_max in 0usize..200_000, seed in any::<u64>()) {
            let mut map = KeyMap::new(&SimRng::new(seed), bytes_max);
            let mut held = 0u32;
            while map.note(&held.to_be_bytes(), Offset(i64::from(held))).is_ok() {
                held += 1;
                prop_assert!(map.bytes() <= bytes_max.max(SLOTS_MIN * SLOT_BYTES), "{}", map.bytes());
            }
            prop_assert!(held > 0, "it always takes one");
            for key in 0..held {
                prop_assert_eq!(map.last(&key.to_be_bytes()), Some(Offset(i64::from(key))));
                prop_assert_eq!(map.note(&key.to_be_bytes(), Offset(7_000_000)), Ok(()), "known keys still move");
            }
            prop_assert_eq!(map.last(&held.to_be_bytes()), None);
        }
    }

    /// The figure of docs/decisions/0004-compaction.md.
    #[test]
    fn a_map_of_64_mib_holds_well_over_a_million_keys() {
        let mut map = KeyMap::new(&SimRng::new(3), 64 << 20);
        let mut keys = 0u64;
        while map.note(&keys.to_be_bytes(), Offset(keys as i64)).is_ok() {
            keys += 1;
        }
        println!("{keys} keys in {} bytes", map.bytes());
        assert!(keys > 1_500_000, "{keys}");
        let mut small = KeyMap::new(&SimRng::new(3), 64 << 20);
        (0..100_000u64).for_each(|key| small.note(&key.to_be_bytes(), Offset(0)).expect("room"));
        assert!(small.bytes() < 100_000 * 24 * 2, "{} bytes for 100,000 keys", small.bytes());
    }

    #[test]
    fn another_pass_hashes_otherwise() {
        let (left, right) = (KeyMap::new(&SimRng::new(1), 1 << 20), KeyMap::new(&SimRng::new(2), 1 << 20));
        assert_ne!(left.hash(b"key"), right.hash(b"key"));
    }
}
