//! What is written: the record at an offset follows from the offset.

use bytes::Bytes;
use headwater_engine::TimestampMs;
use headwater_engine::batch::{BatchBuilder, Codec};
use std::time::{SystemTime, UNIX_EPOCH};

pub const TOPIC: &str = "state";
pub const PARTITIONS: usize = 2;
/// Bytes of a value.
const VALUE_SIZE: usize = 60;

/// How much.
pub struct Plan {
    /// Of all partitions together.
    pub updates: u64,
    /// Of each partition.
    pub keys: u64,
    pub records_per_batch: u64,
    pub segment_bytes: u64,
}

/// Spreads every bit of the input over the output (SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Plan {
    /// The key at an offset, and whether the value is null there.
    pub fn record(&self, partition: usize, offset: u64) -> (u64, bool) {
        let bits = mix(offset ^ (partition as u64) << 56);
        (bits % self.keys, (bits >> 40).is_multiple_of(50))
    }

    /// The value at an offset that has one.
    pub fn value(offset: u64) -> [u8; VALUE_SIZE] {
        let mut value = [b'.'; VALUE_SIZE];
        value[..8].copy_from_slice(&offset.to_be_bytes());
        value
    }

    /// A batch of the records from an offset on.
    pub fn batch(&self, partition: usize, from: u64, count: u64) -> Bytes {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let codec = if (from / self.records_per_batch).is_multiple_of(3) { Codec::Lz4 } else { Codec::None };
        let mut builder = BatchBuilder::new().codec(codec);
        for offset in from..from + count {
            let (key, is_null) = self.record(partition, offset);
            let value = Plan::value(offset);
            let value = Some(&value[..]).filter(|_| !is_null);
            let pushed = builder.push(TimestampMs(now as i64), Some(&key.to_be_bytes()), value, &[]);
            pushed.expect("a short record");
        }
        builder.finish().expect("records")
    }

    /// The offset of each key's last record before `end`; -1 for keys that have none.
    pub fn last(&self, partition: usize, end: u64) -> Vec<i64> {
        let mut last = vec![-1; self.keys as usize];
        for offset in 0..end {
            last[self.record(partition, offset).0 as usize] = offset as i64;
        }
        last
    }

    /// How many keys have a value when `end` is reached.
    pub fn alive(&self, partition: usize, end: u64) -> u64 {
        let last = self.last(partition, end);
        last.into_iter().filter(|offset| *offset >= 0 && !self.record(partition, *offset as u64).1).count() as u64
    }
}
