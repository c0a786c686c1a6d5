//! The sparse index: for one batch in every 32 KiB, where it starts and what came before it in time.
//!
//! The active segment's entries are kept in memory as batches are published. When a segment is sealed they are written
//! beside it; a file that is missing or damaged is made again by walking the segment. So is one whose seal was undone: in
//! mode `os` a power cut may take the roll that closed a segment and leave the index, while other batches come to the
//! segment. That is why the file names the segment that followed, whose id is never used twice. A segment that compaction
//! made is whole from the first, and what follows it may be replaced: its index names the segment itself.
//!
//! ```text
//! file    0    magic "HWIDX\0", format version u16
//!         8    next u64: the file that the partition went on in, or the segment's own
//!        16    entry_count u32, crc32c u32 of next and the entries
//!        24    entries: offset i64, position u64, max_timestamp i64, append_time i64
//! ```

use crate::batch::{BatchHeader, crc32c};
use crate::encoding::Reader;
use crate::ids::{FileId, Offset, TimestampMs};
use bytes::BufMut;

const MAGIC: &[u8; 8] = b"HWIDX\0\x01\0";
const ENTRY_SIZE: usize = 32;
/// A batch gets an entry when at least this many bytes came since the last one that has.
pub const INTERVAL_BYTES: u64 = 32 << 10;

/// A batch's place in its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexEntry {
    /// Its base offset.
    pub offset: Offset,
    /// Its first byte.
    pub position: u64,
    /// The greatest timestamp in all batches before it.
    pub max_timestamp_before: TimestampMs,
    /// When it was appended, by our clock; 0 when the index was made again from the segment.
    pub append_time: TimestampMs,
}

/// Entries of one segment, or of its part from `from` on, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    entries: Vec<IndexEntry>,
    /// The position from which on the entries are complete.
    from: u64,
}

impl Index {
    /// An index of what follows `position`.
    pub fn starting_at(position: u64) -> Index {
        Index { entries: Vec::new(), from: position }
    }

    /// Notes a batch. `max_timestamp_before` is the greatest of all batches before it.
    pub fn note(&mut self, entry: IndexEntry) {
        let is_due = self.entries.last().is_none_or(|last| entry.position >= last.position + INTERVAL_BYTES);
        if is_due {
            if self.entries.is_empty() {
                // Partitions with little in them are many.
                self.entries.reserve_exact(1);
            }
            self.entries.push(entry);
        }
    }

    /// Whether it covers the segment from its first byte.
    pub fn is_complete(&self) -> bool {
        self.from == 0
    }

    /// Where its entries begin to be complete.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// The last entry at or before `offset`.
    pub fn floor_offset(&self, offset: Offset) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        after.checked_sub(1).and_then(|index| self.entries.get(index)).copied()
    }

    /// The last entry at or before `position`.
    pub fn floor_position(&self, position: u64) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.position <= position);
        after.checked_sub(1).and_then(|index| self.entries.get(index)).copied()
    }

    /// The last entry before which no record has a timestamp that is `wanted`.
    pub fn last_before(&self, wanted: impl Fn(TimestampMs) -> bool) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| !wanted(entry.max_timestamp_before));
        after.checked_sub(1).and_then(|index| self.entries.get(index)).copied()
    }

    /// As it lies on disk, for a segment that was followed by `next`.
    pub fn encode(&self, next: FileId) -> Vec<u8> {
        let mut entries = Vec::with_capacity(self.entries.len() * ENTRY_SIZE);
        for entry in &self.entries {
            entries.put_i64_le(entry.offset.0);
            entries.put_u64_le(entry.position);
            entries.put_i64_le(entry.max_timestamp_before.0);
            entries.put_i64_le(entry.append_time.0);
        }
        let mut out = MAGIC.to_vec();
        out.put_u64_le(next.0);
        out.put_u32_le(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        out.put_u32_le(crc_of(next, &entries));
        out.extend_from_slice(&entries);
        out
    }

    /// Reads the whole index of segment `file`, which `next` follows; none when anything about it is wrong.
    pub fn decode(bytes: &[u8], file: FileId, next: FileId) -> Option<Index> {
        let mut reader = Reader(bytes);
        if reader.take(MAGIC.len()).ok()? != MAGIC {
            return None;
        }
        let followed_by = FileId(reader.u64().ok()?);
        let count = reader.u32().ok()? as usize;
        let crc = reader.u32().ok()?;
        let is_whole = reader.0.len() == count.checked_mul(ENTRY_SIZE)? && crc_of(followed_by, reader.0) == crc;
        if !is_whole || (followed_by != next && followed_by != file) {
            return None;
        }
        let entries = (0..count).map(|_| {
            Some(IndexEntry {
                offset: Offset(reader.i64().ok()?),
                position: reader.u64().ok()?,
                max_timestamp_before: TimestampMs(reader.i64().ok()?),
                append_time: TimestampMs(reader.i64().ok()?),
            })
        });
        Some(Index { entries: entries.collect::<Option<_>>()?, from: 0 })
    }
}

/// An index that is made again from batch headers, from the segment's start on.
pub struct Rebuilt {
    index: Index,
    max_timestamp_before: TimestampMs,
}

impl Default for Rebuilt {
    fn default() -> Rebuilt {
        Rebuilt { index: Index::default(), max_timestamp_before: TimestampMs(i64::MIN) }
    }
}

impl Rebuilt {
    /// Takes in the next batch.
    pub fn note(&mut self, position: u64, header: &BatchHeader) {
        let max_timestamp_before = self.max_timestamp_before;
        let append_time = TimestampMs(0);
        self.index.note(IndexEntry { offset: header.base_offset, position, max_timestamp_before, append_time });
        self.max_timestamp_before = max_timestamp_before.max(header.max_timestamp);
    }

    /// The index of all that were taken in.
    pub fn finish(self) -> Index {
        self.index
    }
}

fn crc_of(next: FileId, entries: &[u8]) -> u32 {
    crc32c(&[next.0.to_le_bytes().as_slice(), entries].concat())
}
