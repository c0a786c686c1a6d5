//! Batches to append, and batches as they must come back.

use bytes::Bytes;
use headwater_engine::batch::{self, BatchBuilder, CheckedBatch, Codec, TimestampType};
use headwater_engine::{Epoch, Offset, ProducerId, TimestampMs};

/// What a batch is made from.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub records: u64,
    pub value_size: u64,
    pub codec: Codec,
    pub timestamp: i64,
    pub is_stamped: bool,
    /// Id, epoch, first sequence.
    pub producer: Option<(i64, i16, i32)>,
    /// Makes the content differ from that of other batches.
    pub salt: u64,
}

impl Recipe {
    /// A small batch.
    pub fn small(timestamp: i64, salt: u64) -> Recipe {
        let codec = Codec::None;
        Recipe { records: 2, value_size: 40, codec, timestamp, is_stamped: false, producer: None, salt }
    }

    pub fn build(&self) -> CheckedBatch {
        let mut builder = BatchBuilder::new().codec(self.codec);
        if self.is_stamped {
            builder = builder.timestamp_type(TimestampType::LogAppendTime);
        }
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(ProducerId(id), epoch, sequence);
        }
        for record in 0..self.records {
            let word = (self.salt ^ record).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            let value: Vec<u8> = word.iter().copied().cycle().take(self.value_size as usize).collect();
            // Timestamps that go up and down within a batch.
            let timestamp = if self.timestamp < 0 { -1 } else { self.timestamp + (record as i64 * 7) % 5 };
            builder.push(TimestampMs(timestamp), Some(&word[..2]), Some(&value), &[]).expect("a short record");
        }
        builder.build().expect("a batch with records")
    }
}

/// A batch in a partition.
#[derive(Clone, Debug)]
pub struct Stored {
    pub batch: CheckedBatch,
    /// As readers get it.
    pub bytes: Bytes,
    pub base: i64,
    pub epoch: i32,
    pub append_time: i64,
}

impl Stored {
    pub fn new(batch: &CheckedBatch, base: i64, epoch: Epoch, append_time: TimestampMs) -> Stored {
        let patch = batch.header().patch(Offset(base), epoch);
        let bytes = [patch.as_slice(), &batch.bytes()[patch.len()..]].concat().into();
        Stored { batch: batch.clone(), bytes, base, epoch: epoch.0, append_time: append_time.0 }
    }

    /// The offset behind its last record.
    pub fn end(&self) -> i64 {
        self.base + i64::from(self.batch.header().record_count)
    }

    pub fn max_timestamp(&self) -> i64 {
        self.batch.header().max_timestamp.0
    }

    /// Offset and timestamp of each record.
    pub fn records(&self) -> Vec<(i64, i64)> {
        let records = batch::records_of(&self.bytes, 64 << 20).expect("a valid batch");
        records.iter().map(|record| record.expect("a valid record")).map(|r| (r.offset.0, r.timestamp.0)).collect()
    }
}
