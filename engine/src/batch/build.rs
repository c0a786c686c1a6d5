//! Making batches: for the APIs that bring records instead of batches, for the log's own markers, tools and tests.

use bytes::Bytes;

use super::check::{CheckedBatch, NO_TIMESTAMP, assemble};
use super::codec::compress;
use super::records::records_of;
use super::{Attributes, BatchError, BatchHeader, Codec, TimestampType};
use crate::{Epoch, Offset, ProducerId, TimestampMs};

/// Gathers records into one batch.
///
/// ```
/// use headwater_engine::TimestampMs;
/// use headwater_engine::batch::{BatchBuilder, Codec};
///
/// let mut builder = BatchBuilder::new().codec(Codec::Zstd);
/// builder.push(TimestampMs(1_700_000_000_000), Some(b"key"), Some(b"value"), &[(b"trace", Some(b"7"))])?;
/// let batch = builder.build()?;
/// assert_eq!(batch.header().record_count, 1);
/// # Ok::<(), headwater_engine::batch::BatchError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Codec,
    section: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// An empty batch: not compressed, with the records' own timestamps, of no producer.
    #[must_use]
    pub fn new() -> BatchBuilder {
        let header = BatchHeader {
            base_offset: Offset(0),
            leader_epoch: Epoch(-1),
            magic: BatchHeader::MAGIC,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: ProducerId(-1),
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
            size: BatchHeader::SIZE,
        };
        BatchBuilder { header, codec: Codec::None, section: Vec::new() }
    }

    /// Compresses the records.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> BatchBuilder {
        self.codec = codec;
        self
    }

    /// With `LogAppendTime`, the largest timestamp that is pushed becomes that of every record.
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> BatchBuilder {
        self.header.attributes = self.header.attributes.with_timestamp_type(timestamp_type);
        self
    }

    /// Makes the batch an idempotent producer's.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of its producer's transaction.
    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> BatchBuilder {
        self.header.attributes = self.header.attributes.with_transactional(transactional);
        self
    }

    /// Makes the batch a marker of the log itself.
    #[must_use]
    pub fn control(mut self, control: bool) -> BatchBuilder {
        self.header.attributes = self.header.attributes.with_control(control);
        self
    }

    /// Places the batch. Left out, that is done at the append.
    #[must_use]
    pub fn place(mut self, base_offset: Offset, epoch: Epoch) -> BatchBuilder {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = epoch;
        self
    }

    /// How many records there are so far.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// The size in bytes so far, before compression.
    #[must_use]
    pub fn size(&self) -> usize {
        BatchHeader::SIZE + self.section.len()
    }

    /// Adds a record. Fails, and adds nothing, when the batch would pass the 2 GiB that its length field can say.
    pub fn push(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        let count = self.header.record_count;
        let base = if count == 0 { timestamp } else { self.header.base_timestamp };
        let delta = timestamp.0.checked_sub(base.0);
        let delta = delta.ok_or_else(|| BatchError::invalid_record(count, "the timestamps lie too far apart"))?;

        let mut size = 1 + varint_size(delta) + varint_size(i64::from(count));
        size += nullable_size(key) + nullable_size(value) + varint_size(headers.len() as i64);
        for (name, value) in headers {
            size += nullable_size(Some(name)) + nullable_size(*value);
        }
        let room = self.section.len().saturating_add(size).saturating_add(BatchHeader::SIZE + 5);
        if i32::try_from(room).is_err() || count == i32::MAX {
            return Err(BatchError::TooLarge { size: room, max: i32::MAX as usize });
        }

        let out = &mut self.section;
        out.reserve(size + 5);
        put_varint(out, size as i64);
        out.push(0);
        put_varint(out, delta);
        put_varint(out, i64::from(count));
        put_nullable(out, key);
        put_nullable(out, value);
        put_varint(out, headers.len() as i64);
        for (name, value) in headers {
            put_nullable(out, Some(name));
            put_nullable(out, *value);
        }
        self.header.base_timestamp = base;
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        self.header.record_count = count + 1;
        self.header.last_offset_delta = count;
        Ok(())
    }

    /// The batch as bytes.
    pub fn finish(self) -> Result<Bytes, BatchError> {
        self.build().map(|batch| batch.into_parts().0)
    }

    /// The batch, ready to be appended. A batch without records is refused.
    pub fn build(self) -> Result<CheckedBatch, BatchError> {
        if self.header.record_count == 0 {
            return Err(BatchError::invalid("a batch without records"));
        }
        recompress(self.header, &self.section, self.codec)
    }
}

/// The same records in a batch with another codec.
pub fn transcode(batch: &CheckedBatch, codec: Codec, size_max: usize) -> Result<CheckedBatch, BatchError> {
    if batch.header().attributes.codec()? == codec {
        return Ok(batch.clone());
    }
    let records = records_of(batch.bytes(), size_max)?;
    recompress(*records.header(), records.section(), codec)
}

/// The batch of that header with these uncompressed records, stored in that codec.
pub(super) fn recompress(header: BatchHeader, section: &[u8], codec: Codec) -> Result<CheckedBatch, BatchError> {
    let header = BatchHeader { attributes: header.attributes.with_codec(codec), ..header };
    match codec {
        Codec::None => assemble(header, section),
        codec => assemble(header, &compress(codec, section)?),
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The zigzag forms of an `i32` and of the same value as an `i64` are the same bytes.
pub(super) fn varint_size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_size(bytes.len() as i64).saturating_add(bytes.len()))
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}
