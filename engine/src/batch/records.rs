//! The records of a stored batch, for whoever looks inside: views, shards, compaction, tools.

use bytes::Bytes;

use super::codec::decompress;
use super::record::{Cursor, RawRecord, RecordHeaders};
use super::{BatchError, BatchHeader, Codec, TimestampType};
use crate::{Offset, TimestampMs};

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The record's attribute bits. None has a meaning yet.
    pub attributes: i8,
    /// The record's time: its own, or the batch's append time. -1: none.
    pub timestamp: TimestampMs,
    /// The record's offset.
    pub offset: Offset,
    /// The key. An empty one and none differ.
    pub key: Option<&'a [u8]>,
    /// The value. None is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Names and values, in the producer's order; a name may come more than once, and need not be UTF-8.
    pub headers: RecordHeaders<'a>,
}

/// A batch's records, inflated when they were compressed, and the header that gives them offsets and times.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    section: Bytes,
}

impl Records {
    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The uncompressed record section.
    #[must_use]
    pub fn section(&self) -> &Bytes {
        &self.section
    }

    /// Steps over the records.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::new(&self.header, &self.section)
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Opens the batch at the start of `batch`. Uncompressed records stay where they are; others are inflated to at most
/// `size_max` bytes. The CRC is not looked at.
pub fn records_of(batch: &Bytes, size_max: usize) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if batch.len() < header.size {
        return Err(BatchError::invalid(format!("the batch is cut: {} of {} bytes", batch.len(), header.size)));
    }
    let stored = batch.slice(BatchHeader::SIZE..header.size);
    let section = match header.attributes.codec()? {
        Codec::None => stored,
        codec => {
            let mut section = decompress(codec, &stored, size_max)?;
            // Readers hold on to a section; the room that inflating did not need goes back.
            section.shrink_to_fit();
            Bytes::from(section)
        }
    };
    Ok(Records { header, section })
}

/// Steps over the records of an uncompressed record section. After an error it ends.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    cursor: Cursor<'a>,
    base_offset: Offset,
    base_timestamp: TimestampMs,
    append_time: Option<TimestampMs>,
    count: i32,
    index: i32,
}

impl<'a> RecordIter<'a> {
    /// The records in `section`, which belongs to a batch with that header.
    #[must_use]
    pub fn new(header: &BatchHeader, section: &'a [u8]) -> RecordIter<'a> {
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp),
        };
        RecordIter {
            cursor: Cursor::new(section),
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time,
            count: header.record_count,
            index: 0,
        }
    }

    fn read(&mut self) -> Result<Record<'a>, BatchError> {
        let index = self.index;
        let raw = RawRecord::read(&mut self.cursor).map_err(|why| BatchError::invalid_record(index, why))?;
        let timestamp = match self.append_time {
            Some(append_time) => Some(append_time),
            None => self.base_timestamp.0.checked_add(raw.timestamp_delta).map(TimestampMs),
        };
        let timestamp = timestamp.ok_or_else(|| BatchError::invalid_record(index, "the timestamp overflows"))?;
        let offset = self.base_offset.0.checked_add(i64::from(raw.offset_delta)).map(Offset);
        let offset = offset.ok_or_else(|| BatchError::invalid_record(index, "the offset overflows"))?;
        let RawRecord { attributes, key, value, headers, .. } = raw;
        Ok(Record { attributes, timestamp, offset, key, value, headers })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            return None;
        }
        let record = self.read();
        self.index = if record.is_ok() { self.index.saturating_add(1) } else { self.count };
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // A count that lies must not make a collecting caller reserve memory for it.
        (0, usize::try_from(i64::from(self.count) - i64::from(self.index)).ok())
    }
}

impl std::iter::FusedIterator for RecordIter<'_> {}
