//! The check that a batch from outside passes before it is stored.
//!
//! It refuses what a consumer could not read back, and what would break the log's own promises (consecutive offsets,
//! true timestamps). The order of the checks is the reference broker's, because it decides which error a batch with two
//! faults gets. It is stricter than the reference, where taking the bytes would only move the failure to the consumers:
//! - bytes after the batch (there, a cut second batch is trimmed);
//! - offset deltas that are not 0, 1, 2, ... in an uncompressed batch (there, stored as they are);
//! - lengths below -1 (there, null), varints with more bits than their type has (there, cut off);
//! - a wrong content checksum in an lz4 frame (there, not compared);
//! - a transactional batch without a producer id;
//! - records out of range behind a claimed append time (there, only the claim is looked at).

use bytes::{Bytes, BytesMut};

use super::build::recompress;
use super::record::{Cursor, Glance};
use super::{BatchError, BatchHeader, Codec, TimestampType, crc32c, decompress, verify_crc};
use crate::TimestampMs;

/// How deep the check goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Every record is looked at, compressed or not.
    Full,
    /// Compressed batches stay closed: their producer is trusted on what is inside. Others are walked all the same.
    Header,
}

/// The most bytes that the records of one batch may inflate to, whatever its topic's settings are.
pub const INFLATED_SIZE_MAX: usize = 64 << 20;

/// The most records without a key that are told one by one.
const WITHOUT_KEY_MAX: usize = 1_000;

/// What a topic takes, and when it is now.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The largest batch in bytes, as sent and as stored.
    pub batch_size_max: usize,
    /// Who gives the records their timestamps.
    pub timestamp_type: TimestampType,
    /// How far a producer's timestamp may lie in the past.
    pub timestamp_before_max_ms: i64,
    /// How far a producer's timestamp may lie in the future.
    pub timestamp_after_max_ms: i64,
    /// The append time.
    pub now: TimestampMs,
    /// How deep the check goes.
    pub validation: Validation,
    /// The codec that batches are stored in. None: the one that the producer chose.
    pub compression: Option<Codec>,
    /// The most bytes that the records of one batch may inflate to.
    pub decompressed_size_max: usize,
    /// The largest record in a compressed batch, its length not counted.
    pub inflated_record_size_max: usize,
    /// Whether a record without a key is refused, as a compacted topic must. Opens compressed batches in any case.
    pub key_required: bool,
}

impl Rules {
    /// The rules of a topic that is left at its defaults.
    #[must_use]
    pub fn new(now: TimestampMs) -> Rules {
        Rules {
            batch_size_max: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            now,
            validation: Validation::Full,
            compression: None,
            decompressed_size_max: INFLATED_SIZE_MAX,
            inflated_record_size_max: 2_147_483_639,
            key_required: false,
        }
    }

    /// Whether a producer may say that a record is from this time. -1 says nothing and is always allowed.
    fn allows(&self, timestamp: TimestampMs) -> bool {
        if timestamp == NO_TIMESTAMP {
            return true;
        }
        // A difference that does not fit is too large whatever the limits are.
        self.now.0.checked_sub(timestamp.0).is_some_and(|age| {
            age <= self.timestamp_before_max_ms
                && age.checked_neg().is_some_and(|lead| lead <= self.timestamp_after_max_ms)
        })
    }

    fn timestamp_error(&self, record_index: i32, timestamp: TimestampMs) -> BatchError {
        let first = self.now.0.saturating_sub(self.timestamp_before_max_ms);
        let last = self.now.0.saturating_add(self.timestamp_after_max_ms);
        BatchError::Timestamp {
            record_index,
            why: format!("timestamp {timestamp} is out of range, it should be within [{first}, {last}]").into(),
        }
    }
}

/// The timestamp of a record that has none.
pub(super) const NO_TIMESTAMP: TimestampMs = TimestampMs(-1);

/// A batch that may be stored: whole, its CRC right, its records readable. Only [`check()`] and a builder make one.
#[derive(Debug, Clone)]
pub struct CheckedBatch {
    bytes: Bytes,
    header: BatchHeader,
}

impl CheckedBatch {
    /// The bytes as they are to be stored, but for the base offset and the leader epoch: see [`BatchHeader::patch`].
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What the bytes' header says.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The parts.
    #[must_use]
    pub fn into_parts(self) -> (Bytes, BatchHeader) {
        (self.bytes, self.header)
    }
}

/// Checks that `bytes` are exactly one batch that a topic with these rules takes.
///
/// The result has the bytes as they are to be stored. They are the ones that came in, without a copy, unless the max
/// timestamp was wrong, the topic stamps batches itself, or it asks for another codec.
pub fn check(bytes: Bytes, rules: &Rules) -> Result<CheckedBatch, BatchError> {
    let header = BatchHeader::parse(&bytes)?;
    if bytes.len() < header.size {
        return Err(BatchError::invalid(format!("the batch is cut: {} of {} bytes", bytes.len(), header.size)));
    }
    if bytes.len() > header.size {
        return Err(BatchError::invalid(format!("{} bytes follow the batch", bytes.len() - header.size)));
    }
    if header.base_offset.0 != 0 {
        return Err(BatchError::invalid(format!("the base offset is {}, not 0", header.base_offset)));
    }
    if header.size > rules.batch_size_max {
        return Err(BatchError::TooLarge { size: header.size, max: rules.batch_size_max });
    }
    verify_crc(&bytes)?;
    let codec = header.attributes.codec()?;
    check_header(&header)?;

    let stored = bytes.get(BatchHeader::SIZE..).unwrap_or_default();
    let target = rules.compression.unwrap_or(codec);
    let opens = rules.validation == Validation::Full || rules.key_required || target != codec;
    let inflated = match codec {
        Codec::None => None,
        codec if opens => Some(decompress(codec, stored, rules.decompressed_size_max)?),
        _ => None,
    };
    let max_timestamp = match &inflated {
        Some(section) => walk(&header, section, rules.inflated_record_size_max, rules)?,
        None if codec == Codec::None => walk(&header, stored, usize::MAX, rules)?,
        None => check_closed(&header, rules)?,
    };
    let stamped = match rules.timestamp_type {
        TimestampType::CreateTime => max_timestamp,
        TimestampType::LogAppendTime => rules.now,
    };
    let attributes = header.attributes.with_timestamp_type(rules.timestamp_type);
    let unchanged = target == codec && attributes == header.attributes && stamped == header.max_timestamp;
    if unchanged {
        return Ok(CheckedBatch { bytes, header });
    }
    let header = BatchHeader { attributes, max_timestamp: stamped, ..header };
    if target == codec {
        return assemble(header, stored);
    }
    let batch = recompress(header, inflated.as_deref().unwrap_or(stored), target)?;
    if batch.header.size > rules.batch_size_max {
        return Err(BatchError::TooLarge { size: batch.header.size, max: rules.batch_size_max });
    }
    Ok(batch)
}

/// What the header alone can tell.
fn check_header(header: &BatchHeader) -> Result<(), BatchError> {
    if header.record_count <= 0 {
        return Err(BatchError::invalid(format!("the record count is {}", header.record_count)));
    }
    if i64::from(header.last_offset_delta) + 1 != i64::from(header.record_count) {
        let (delta, count) = (header.last_offset_delta, header.record_count);
        return Err(BatchError::invalid(format!("a last offset delta of {delta} does not fit {count} records")));
    }
    if header.attributes.is_control() {
        return Err(BatchError::invalid("clients may not write control batches"));
    }
    if header.has_producer() && header.base_sequence < 0 {
        let (sequence, producer) = (header.base_sequence, header.producer_id);
        return Err(BatchError::invalid(format!("sequence {sequence} in a batch of producer {producer}")));
    }
    if header.attributes.is_transactional() && !header.has_producer() {
        return Err(BatchError::invalid("a transactional batch without a producer id"));
    }
    Ok(())
}

/// Looks at every record once and returns the largest timestamp, -1 when no record has one.
///
/// A fault in the structure wins over a refused record, and a timestamp out of range over a missing key, wherever in the
/// batch they lie.
fn walk(
    header: &BatchHeader,
    section: &[u8],
    record_size_max: usize,
    rules: &Rules,
) -> Result<TimestampMs, BatchError> {
    let checks_time = rules.timestamp_type == TimestampType::CreateTime;
    let mut refused = refuse_stamped(header, rules);
    let (mut without_key, mut without_key_count) = (Vec::new(), 0);
    let mut max_timestamp = NO_TIMESTAMP;
    let mut cursor = Cursor::new(section);
    for index in 0..header.record_count {
        if cursor.rest().is_empty() {
            let count = header.record_count;
            return Err(BatchError::invalid(format!("{count} records are declared, {index} are there")));
        }
        let record = Glance::read(&mut cursor).map_err(|why| BatchError::invalid_record(index, why))?;
        if record.body_size > record_size_max {
            let why = format!("{} bytes, where {record_size_max} are allowed", record.body_size);
            return Err(BatchError::invalid_record(index, why));
        }
        if record.offset_delta != i64::from(index) {
            let why = format!("offset delta {} where {index} is due", record.offset_delta);
            return Err(BatchError::invalid_record(index, why));
        }
        let timestamp = header.base_timestamp.0.checked_add(record.timestamp_delta).map(TimestampMs);
        max_timestamp = max_timestamp.max(timestamp.unwrap_or(NO_TIMESTAMP));
        if rules.key_required && record.key_size == -1 {
            without_key_count += 1;
            if without_key.len() < WITHOUT_KEY_MAX {
                without_key.push(index);
            }
        } else if checks_time && refused.is_none() {
            refused = match timestamp {
                Some(timestamp) if rules.allows(timestamp) => None,
                Some(timestamp) => Some(rules.timestamp_error(index, timestamp)),
                None => Some(BatchError::Timestamp { record_index: index, why: "the timestamp overflows".into() }),
            };
        }
    }
    if !cursor.rest().is_empty() {
        let (count, rest) = (header.record_count, cursor.rest().len());
        return Err(BatchError::invalid(format!("{rest} bytes follow the {count} records that are declared")));
    }
    if without_key_count > 0 {
        let told = || BatchError::WithoutKey { record_indexes: without_key, count: without_key_count };
        refused.get_or_insert_with(told);
    }
    refused.map_or(Ok(max_timestamp), Err)
}

/// What can be told of a batch that stays closed: its producer's word on the max timestamp is all there is.
fn check_closed(header: &BatchHeader, rules: &Rules) -> Result<TimestampMs, BatchError> {
    if let Some(error) = refuse_stamped(header, rules) {
        return Err(error);
    }
    if rules.timestamp_type == TimestampType::CreateTime && !rules.allows(header.max_timestamp) {
        return Err(rules.timestamp_error(0, header.max_timestamp));
    }
    Ok(header.max_timestamp)
}

/// A producer that sets the append-time bit claims to be the log.
///
/// As in the reference, a topic with append times refuses that; one with create times takes the batch when the claimed
/// time is one that a producer may claim, and the bit is cleared. The records' own timestamps come to light with that, so
/// they are held to the limits too.
fn refuse_stamped(header: &BatchHeader, rules: &Rules) -> Option<BatchError> {
    if header.attributes.timestamp_type() == TimestampType::CreateTime {
        return None;
    }
    if rules.timestamp_type == TimestampType::LogAppendTime || header.max_timestamp == NO_TIMESTAMP {
        let why = "producers may not set the timestamp type to append time".into();
        return Some(BatchError::Timestamp { record_index: 0, why });
    }
    (!rules.allows(header.max_timestamp)).then(|| rules.timestamp_error(0, header.max_timestamp))
}

/// Puts a header and records, as they are stored, together, and gives the header the size and the CRC that fit.
pub(super) fn assemble(header: BatchHeader, stored: &[u8]) -> Result<CheckedBatch, BatchError> {
    let size = stored.len().saturating_add(BatchHeader::SIZE);
    if i32::try_from(size).is_err() {
        return Err(BatchError::TooLarge { size, max: i32::MAX as usize });
    }
    let mut header = BatchHeader { size, ..header };
    let mut bytes = BytesMut::with_capacity(size);
    bytes.extend_from_slice(&header.to_bytes());
    bytes.extend_from_slice(stored);
    header.crc = bytes.get(BatchHeader::ATTRIBUTES_AT..).map_or(0, crc32c);
    if let Some(field) = bytes.get_mut(BatchHeader::CRC_AT..BatchHeader::ATTRIBUTES_AT) {
        field.copy_from_slice(&header.crc.to_be_bytes());
    }
    Ok(CheckedBatch { bytes: bytes.freeze(), header })
}
