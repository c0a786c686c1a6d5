//! Batches to append, and batches as they must come back.

use bytes::Bytes;
use headwater_engine::batch::{self, BatchBuilder, CheckedBatch, Codec, TimestampType};
use headwater_engine::{Epoch, Offset, ProducerId, TimestampMs};
use std::sync::OnceLock;

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
    /// How many keys there are; then some values are null. None: a key for each record, nearly.
    pub keys: Option<u64>,
    /// Makes the content differ from that of other batches.
    pub salt: u64,
}

impl Recipe {
    /// A small batch.
    pub fn small(timestamp: i64, salt: u64) -> Recipe {
        let codec = Codec::None;
        Recipe { records: 2, value_size: 40, codec, timestamp, is_stamped: false, producer: None, keys: None, salt }
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
            let key = self.keys.map(|count| [b'k', (u64::from(word[0]) % count) as u8]);
            let key = key.as_ref().map_or(&word[..2], |key| &key[..]);
            let value = Some(&value[..]).filter(|_| self.keys.is_none() || !word[1].is_multiple_of(6));
            builder.push(TimestampMs(timestamp), Some(key), value, &[]).expect("a short record");
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
    /// How many passes of compaction had begun when it was appended: those cannot know it.
    pub passes_before: usize,
    rows: OnceLock<Vec<Row>>,
}

/// A record, as it must be read for as long as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// The records of a batch.
pub fn rows(batch: &Bytes) -> Result<Vec<Row>, String> {
    let records = batch::records_of(batch, 64 << 20).map_err(|error| error.to_string())?;
    let each = records.iter().map(|record| {
        record.map_err(|error| error.to_string()).map(|record| Row {
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
        })
    });
    each.collect()
}

impl Stored {
    pub fn new(
        batch: &CheckedBatch,
        base: i64,
        epoch: Epoch,
        append_time: TimestampMs,
        passes_before: usize,
    ) -> Stored {
        let patch = batch.header().patch(Offset(base), epoch);
        let bytes = [patch.as_slice(), &batch.bytes()[patch.len()..]].concat().into();
        let (epoch, append_time) = (epoch.0, append_time.0);
        Stored { batch: batch.clone(), bytes, base, epoch, append_time, passes_before, rows: OnceLock::new() }
    }

    /// The offset behind its last record.
    pub fn end(&self) -> i64 {
        self.base + i64::from(self.batch.header().record_count)
    }

    pub fn max_timestamp(&self) -> i64 {
        self.batch.header().max_timestamp.0
    }

    /// Its records.
    pub fn rows(&self) -> &[Row] {
        self.rows.get_or_init(|| rows(&self.bytes).expect("a valid batch"))
    }

    /// Offset and timestamp of each record.
    pub fn records(&self) -> Vec<(i64, i64)> {
        self.rows().iter().map(|row| (row.offset, row.timestamp)).collect()
    }
}
