//! Batches with some of their records taken out, as compaction leaves them.
//!
//! A batch keeps its place when records go: base offset, last offset, sequence number and codec stay, and so does the base
//! timestamp, so that what is left of the records stays byte for byte what it was. One thing is added. A null value says that
//! a key is gone; it must stay for a while, so that whoever reads from the beginning meets it, and then go too. *When* it may
//! go is written in the batch, as the reference writes it: bit 6 of the attributes says that the base timestamp is that time,
//! and the records' timestamps are counted from it.

use bytes::Bytes;

use super::build::{put_varint, recompress, varint_size};
use super::check::{INFLATED_SIZE_MAX, NO_TIMESTAMP, assemble};
use super::record::{Cursor, RawRecord};
use super::{Attributes, BatchError, BatchHeader, CheckedBatch, Record, Records, TimestampType};
use crate::{Epoch, Offset, ProducerId, TimestampMs};

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is taken out.
    Goes,
    /// It stays.
    Stays,
    /// It stays until the batch's delete horizon; a batch that has none gets one.
    StaysForNow,
}

/// What is left of a batch.
#[derive(Debug, Clone)]
pub enum Retained {
    /// All of it, as it was.
    Whole,
    /// Some of it, or all of it with a horizon.
    Changed(CheckedBatch),
    /// No record.
    Nothing,
}

/// A record, and how it lies in its batch.
struct Placed<'a> {
    record: Record<'a>,
    raw: RawRecord<'a>,
    /// All its bytes, its length included.
    bytes: &'a [u8],
}

impl Placed<'_> {
    /// What the bytes say, also where the batch's append time hides it.
    fn own_timestamp(&self, header: &BatchHeader) -> i64 {
        header.base_timestamp.0.wrapping_add(self.raw.timestamp_delta)
    }
}

/// Steps over the records of a batch, and holds them against its header: as many as it says, their offsets in order and
/// inside of it. A batch that was stored without being looked into may break that; then nothing may be built on its offsets.
fn each<'a>(records: &'a Records, mut visit: impl FnMut(&Placed<'a>)) -> Result<(), BatchError> {
    let header = records.header();
    let append_time = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => None,
        TimestampType::LogAppendTime => Some(header.max_timestamp),
    };
    let mut cursor = Cursor::new(records.section());
    let mut least = 0;
    for index in 0..header.record_count {
        let rest = cursor.rest();
        let fault = |why: &'static str| BatchError::invalid_record(index, why);
        let raw = RawRecord::read(&mut cursor).map_err(fault)?;
        if raw.offset_delta < least || raw.offset_delta > header.last_offset_delta {
            return Err(fault("the offset is out of the batch's order"));
        }
        least = raw.offset_delta.saturating_add(1);
        let offset = header.base_offset.0.checked_add(i64::from(raw.offset_delta));
        let timestamp =
            append_time.or_else(|| header.base_timestamp.0.checked_add(raw.timestamp_delta).map(TimestampMs));
        let (Some(offset), Some(timestamp)) = (offset, timestamp) else { return Err(fault("a number overflows")) };
        let RawRecord { attributes, key, value, headers, .. } = raw;
        let record = Record { attributes, timestamp, offset: Offset(offset), key, value, headers };
        let bytes = rest.get(..rest.len() - cursor.rest().len()).unwrap_or_default();
        visit(&Placed { record, raw, bytes });
    }
    if cursor.rest().is_empty() { Ok(()) } else { Err(BatchError::invalid("bytes follow the records")) }
}

/// Steps over the records of a batch whose order and number are as its header says; an error when they are not.
pub fn each_record<'a>(records: &'a Records, mut visit: impl FnMut(&Record<'a>)) -> Result<(), BatchError> {
    each(records, |placed| visit(&placed.record))
}

/// Takes records out of a batch. `horizon` is when those that stay for now may go, should the batch not say it already. A batch
/// with a timestamp so far back that it cannot be counted from the horizon gets none, and neither does one that would be too
/// large to be opened again: they stay for good.
pub fn retain(
    records: &Records,
    horizon: TimestampMs,
    fate: impl FnMut(&Record<'_>) -> Fate,
) -> Result<Retained, BatchError> {
    retain_within(records, horizon, INFLATED_SIZE_MAX, fate)
}

/// The same, where what gets a horizon may have `size_max` bytes of records.
pub(super) fn retain_within(
    records: &Records,
    horizon: TimestampMs,
    size_max: usize,
    mut fate: impl FnMut(&Record<'_>) -> Fate,
) -> Result<Retained, BatchError> {
    let header = records.header();
    // Fates first: most batches stay whole, and are not copied.
    let mut stays = Vec::new();
    let (mut kept, mut waits, mut fits, mut size) = (0, false, true, 0usize);
    each(records, |placed| {
        let fate = fate(&placed.record);
        waits |= fate == Fate::StaysForNow;
        stays.push(fate != Fate::Goes);
        if fate == Fate::Goes {
            return;
        }
        kept += 1;
        let delta = placed.own_timestamp(header).checked_sub(horizon.0);
        fits &= delta.is_some();
        // The delta has at least a byte now, and the length grows by one at most.
        size += placed.bytes.len() + delta.map_or(0, varint_size);
    })?;
    let gets_horizon = waits && fits && size <= size_max && !header.attributes.has_delete_horizon();
    if kept == 0 {
        return Ok(Retained::Nothing);
    }
    if kept == header.record_count && !gets_horizon {
        return Ok(Retained::Whole);
    }
    let base_timestamp = if gets_horizon { horizon } else { header.base_timestamp };
    let mut section = Vec::new();
    let mut max_timestamp = NO_TIMESTAMP;
    let mut stays = stays.into_iter();
    each(records, |placed| {
        if !stays.next().unwrap_or(true) {
            return;
        }
        max_timestamp = max_timestamp.max(placed.record.timestamp);
        if !gets_horizon {
            section.extend_from_slice(placed.bytes);
            return;
        }
        put_with_timestamp_delta(&mut section, placed, placed.own_timestamp(header).wrapping_sub(horizon.0));
    })?;
    let attributes = header.attributes;
    let header = BatchHeader {
        attributes: attributes.with_delete_horizon(gets_horizon || attributes.has_delete_horizon()),
        base_timestamp,
        max_timestamp: match attributes.timestamp_type() {
            TimestampType::CreateTime => max_timestamp,
            TimestampType::LogAppendTime => header.max_timestamp,
        },
        record_count: kept,
        ..*header
    };
    recompress(header, &section, attributes.codec()?).map(Retained::Changed)
}

/// Writes a record again with another timestamp delta.
fn put_with_timestamp_delta(out: &mut Vec<u8>, placed: &Placed<'_>, delta: i64) {
    let mut head = vec![placed.raw.attributes as u8];
    put_varint(&mut head, delta);
    // Behind length, attributes and timestamp delta everything stays.
    let mut tail = Cursor::new(placed.bytes);
    let skipped = tail.varint().and_then(|_| tail.skip(1)).and_then(|()| tail.varlong());
    debug_assert!(skipped.is_ok(), "the record was read before");
    let tail = tail.rest();
    put_varint(out, (head.len() + tail.len()) as i64);
    out.extend_from_slice(&head);
    out.extend_from_slice(tail);
}

/// A batch without records that stands for the offsets from `base` to `last`, where no record is left. None when they are
/// more than a batch can stand for.
#[must_use]
pub fn empty(base: Offset, last: Offset, epoch: Epoch) -> Option<(Bytes, BatchHeader)> {
    let header = BatchHeader {
        base_offset: base,
        leader_epoch: epoch,
        magic: BatchHeader::MAGIC,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: i32::try_from(last.0.checked_sub(base.0)?).ok().filter(|delta| *delta >= 0)?,
        base_timestamp: NO_TIMESTAMP,
        max_timestamp: NO_TIMESTAMP,
        producer_id: ProducerId(-1),
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
        size: BatchHeader::SIZE,
    };
    assemble(header, &[]).ok().map(CheckedBatch::into_parts)
}
