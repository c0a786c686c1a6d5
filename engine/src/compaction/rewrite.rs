//! What a pass writes: a segment without holes.
//!
//! Base offset and epoch of a batch lie outside of its CRC. What keeps them honest is that the batches of a segment follow
//! one another without a gap, each in its epoch. Compaction takes records out and keeps that true: the batch before a hole
//! covers it (its last offset moves, which consumers expect of a compacted log), and where there is none, or where the epoch
//! changes inside of the hole, a batch without records stands for the offsets. A batch never reaches into the next epoch:
//! consumers ask where an epoch ends and would take what lies behind for a log that was cut.

use crate::batch::{self, BatchHeader};
use crate::commit::Space;
use crate::ids::{Epoch, Offset, TimestampMs};
use crate::segment::files::SegmentFile;
use crate::segment::index::{Index, IndexEntry};
use std::io::{self, IoSlice};
use std::sync::Arc;

/// Bytes gathered for one write; a larger batch makes a larger write.
pub const WRITE_BYTES: usize = 1 << 20;

/// A segment that is being written.
pub struct Output {
    pub file: Arc<SegmentFile>,
    pub base: Offset,
    /// The offset behind the last that is covered.
    next: Offset,
    /// Bytes that the file has.
    written: u64,
    /// Whole batches that follow them.
    buffer: Vec<u8>,
    /// Where in the buffer the last batch begins, and its header: it may have to cover a hole.
    last: Option<(usize, BatchHeader)>,
    pub index: Index,
    pub max_timestamp: TimestampMs,
}

/// What is written would take of the reserve.
pub fn no_room() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the disk is down to its reserve")
}

/// The epochs of a partition, each with the offset where it starts.
pub type Epochs = [(Epoch, Offset)];

/// The epoch of an offset and the offset where that epoch ends.
fn epoch_at(epochs: &Epochs, offset: Offset) -> (Option<Epoch>, Offset) {
    let after = epochs.partition_point(|(_, start)| *start <= offset);
    let epoch = after.checked_sub(1).and_then(|at| epochs.get(at)).map(|(epoch, _)| *epoch);
    (epoch, epochs.get(after).map_or(Offset(i64::MAX), |(_, start)| *start))
}

impl Output {
    /// A segment whose first offset is `base`, in a new file.
    pub fn new(file: Arc<SegmentFile>, base: Offset) -> Output {
        Output {
            file,
            base,
            next: base,
            written: 0,
            buffer: Vec::new(),
            last: None,
            index: Index::starting_at(0),
            max_timestamp: TimestampMs(i64::MIN),
        }
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// The next batch. What lies between it and the one before is a hole.
    pub fn put(&mut self, bytes: &[u8], header: &BatchHeader, epochs: &Epochs) {
        self.cover(header.base_offset, epochs);
        self.push(bytes, *header);
    }

    fn push(&mut self, bytes: &[u8], header: BatchHeader) {
        self.index.note(IndexEntry {
            offset: header.base_offset,
            position: self.size(),
            max_timestamp_before: self.max_timestamp,
            append_time: TimestampMs(0),
        });
        self.last = Some((self.buffer.len(), header));
        self.buffer.extend_from_slice(bytes);
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.next = header.next_offset();
    }

    /// Covers the offsets up to `end`.
    pub fn cover(&mut self, end: Offset, epochs: &Epochs) {
        while self.next < end {
            let (epoch, epoch_end) = epoch_at(epochs, self.next);
            let last = Offset(end.min(epoch_end).0 - 1);
            let before = self.last.map(|(_, header)| header.leader_epoch);
            if epoch.is_none() || epoch == before {
                // Markers of the log itself stay as they are.
                let covering = self.last.as_mut().filter(|(_, header)| !header.attributes.is_control());
                let covered = covering
                    .and_then(|(at, header)| header.cover(self.buffer.get_mut(*at..).unwrap_or_default(), last));
                if covered.is_some() {
                    self.next = last.plus(1);
                    continue;
                }
            }
            // Offsets before the oldest epoch that is known may be of any.
            let epoch = epoch.or(before).or(epochs.first().map(|(epoch, _)| *epoch)).unwrap_or_default();
            let last = last.min(self.next.plus(i64::from(i32::MAX)));
            match batch::empty(self.next, last, epoch) {
                Some((bytes, header)) => self.push(&bytes, header),
                // It fits: `last` lies at most as far as the field can say.
                None => break,
            }
        }
    }

    /// Writes what was gathered once it is much; `all` writes everything. The last batch stays until what follows is known.
    pub fn write(&mut self, all: bool, space: &Space) -> io::Result<u64> {
        if self.buffer.len() < WRITE_BYTES && !all {
            return Ok(0);
        }
        let end = if all { self.buffer.len() } else { self.last.map_or(0, |(at, _)| at) };
        let Some(bytes) = self.buffer.get(..end).filter(|bytes| !bytes.is_empty()) else { return Ok(0) };
        if !space.admit(end as u64) {
            return Err(no_room());
        }
        self.file.disk_file().write_at(&[IoSlice::new(bytes)], self.written)?;
        // So that the sync at the end finds little left to do.
        self.file.disk_file().start_writeback(self.written, end as u64);
        self.written += end as u64;
        self.buffer.drain(..end);
        // A batch that was much larger than others must not keep its room.
        self.buffer.shrink_to(2 * WRITE_BYTES);
        self.last = self.last.filter(|_| !all).map(|(_, header)| (0, header));
        Ok(end as u64)
    }
}
