//! What is durable of a partition: the state that readers see, checkpoints hold and recovery rebuilds.
//!
//! It changes only by the methods below, one for each WAL entry that names a partition, called in WAL order by the
//! committer once the entry is durable and by recovery as it replays: the same code for both.

use super::producers::ProducerTable;
use crate::batch::BatchHeader;
use crate::encoding::{Malformed, Reader};
use crate::ids::{Epoch, FileId, Offset, Sequence, TimestampMs};
use crate::segment::index::{Index, IndexEntry};
use crate::wal::entry::Swap;
use crate::watch::Post;
use bytes::BufMut;
use std::task::Waker;

/// A segment as it is published.
#[derive(Debug)]
pub struct Segment {
    pub file: FileId,
    /// Offset of its first record.
    pub base: Offset,
    /// Published bytes.
    pub size: u64,
    /// The greatest timestamp in it; the least `i64` when it is empty.
    pub max_timestamp: TimestampMs,
    /// When its first and its last batch were appended, by our clock.
    pub first_append: TimestampMs,
    pub last_append: TimestampMs,
    /// Index of what was published since the process started, while the segment is active.
    pub index: Option<Box<Index>>,
    /// The block that sealed it, when this process published that; else a checkpoint has it, or the segment is active.
    pub sealed_by: Sequence,
    /// Compaction made it since the checkpoint that this state came from: its bytes are in no block of the log.
    pub is_swapped_in: bool,
}

/// A segment that was closed, to be finished in the background.
pub struct Sealed {
    pub file: FileId,
    pub size: u64,
    pub index: Index,
    /// The segment that follows.
    pub next: FileId,
}

/// Where recent reads ended: a consumer that goes on there needs no look-up.
#[derive(Clone, Copy, Default, Debug)]
struct ReadEnd {
    offset: Offset,
    file: FileId,
    position: u64,
}
const READ_ENDS: usize = 4;

/// See the module.
#[derive(Default)]
pub struct Published {
    pub log_start: Offset,
    pub high_watermark: Offset,
    pub last_append: TimestampMs,
    /// Records before it have been compacted.
    pub clean: Offset,
    /// In order of offsets; the last is the active one.
    pub segments: Vec<Segment>,
    /// Each epoch with the offset of its first record.
    pub epochs: Vec<(Epoch, Offset)>,
    pub producers: ProducerTable,
    pub is_deleted: bool,
    /// Changed since the last checkpoint, and noted as such.
    pub is_dirty: bool,
    posts: Vec<Post>,
    read_ends: Option<Box<([ReadEnd; READ_ENDS], usize)>>,
}

impl Published {
    /// A partition without records, made under `epoch`.
    pub fn new(epoch: Epoch) -> Published {
        Published { epochs: vec![(epoch, Offset(0))], ..Published::default() }
    }

    /// The epoch of the last record, or the one that the partition was made under.
    pub fn epoch(&self) -> Epoch {
        self.epochs.last().map_or(Epoch(0), |(epoch, _)| *epoch)
    }

    /// `file` becomes the active segment.
    pub fn roll(&mut self, file: FileId, base: Offset, sequence: Sequence) -> Option<Sealed> {
        let sealed = self.segments.last_mut().map(|last| {
            last.sealed_by = sequence;
            Sealed {
                file: last.file,
                size: last.size,
                index: last.index.take().map_or_else(|| Index::starting_at(last.size), |index| *index),
                next: file,
            }
        });
        if self.segments.is_empty() {
            // Most partitions have one for long, and there may be a hundred thousand of them.
            self.segments.reserve_exact(1);
        }
        self.segments.push(Segment {
            file,
            base,
            size: 0,
            max_timestamp: TimestampMs(i64::MIN),
            first_append: TimestampMs(0),
            last_append: TimestampMs(0),
            index: None,
            sealed_by: Sequence(0),
            is_swapped_in: false,
        });
        sealed
    }

    /// A batch lies at `position` of the active segment. Anything else is a contradiction between WAL and state.
    pub fn append(
        &mut self,
        header: &BatchHeader,
        file: FileId,
        position: u64,
        time: TimestampMs,
        producers_max: usize,
    ) -> Result<(), String> {
        let high_watermark = self.high_watermark;
        let segment = self.segments.last_mut().filter(|segment| segment.file == file && segment.size == position);
        let segment =
            segment.ok_or_else(|| format!("a batch for byte {position} of segment {file}, not at its end"))?;
        if header.base_offset != high_watermark {
            return Err(format!("a batch with base offset {} at {high_watermark}", header.base_offset));
        }
        let index = segment.index.get_or_insert_with(|| Box::new(Index::starting_at(position)));
        index.note(IndexEntry {
            offset: header.base_offset,
            position,
            max_timestamp_before: segment.max_timestamp,
            append_time: time,
        });
        if segment.size == 0 {
            segment.first_append = time;
        }
        segment.size += header.size as u64;
        segment.max_timestamp = segment.max_timestamp.max(header.max_timestamp);
        segment.last_append = time;
        self.last_append = self.last_append.max(time);
        self.high_watermark = header.next_offset();
        if self.epoch() < header.leader_epoch {
            self.epochs.push((header.leader_epoch, header.base_offset));
        }
        self.producers.note(header, header.base_offset, time, producers_max);
        Ok(())
    }

    /// Records before `offset` are gone. Returns the files that hold nothing else.
    pub fn advance_log_start(&mut self, offset: Offset) -> Vec<FileId> {
        self.log_start = self.log_start.max(offset).min(self.high_watermark);
        let kept = self.segments.windows(2).take_while(|pair| pair[1].base <= self.log_start).count();
        // An epoch that ended before the log start is needed by nobody; the one that covers it stays.
        let covering = self.epochs.windows(2).take_while(|pair| pair[1].1 <= self.log_start).count();
        self.epochs.drain(..covering);
        self.segments.drain(..kept).map(|segment| segment.file).collect()
    }

    /// Compacted segments take the place of those that they were made from, when these are all still there; else nothing
    /// changes, and what compaction wrote is of no use. Returns the files that nobody needs any more.
    pub fn swap(&mut self, swap: &Swap) -> Vec<FileId> {
        let useless = || swap.added.iter().map(|segment| segment.file).collect();
        let Some(first) = swap.removed.first() else { return useless() };
        let Some(from) = self.segments.iter().position(|segment| segment.file == *first) else { return useless() };
        let to = from + swap.removed.len();
        // The last segment is written on: it is never compacted.
        let is_there = to < self.segments.len()
            && self.segments.iter().skip(from).zip(&swap.removed).all(|(segment, file)| segment.file == *file);
        if !is_there {
            return useless();
        }
        let added = swap.added.iter().map(|segment| Segment {
            file: segment.file,
            base: segment.base,
            size: segment.size,
            max_timestamp: segment.max_timestamp,
            first_append: segment.first_append,
            last_append: segment.last_append,
            index: None,
            sealed_by: Sequence(0),
            is_swapped_in: true,
        });
        self.segments.splice(from..to, added);
        self.clean = self.clean.max(swap.clean);
        swap.removed.clone()
    }

    /// The topic is gone. Returns all files.
    pub fn delete(&mut self) -> Vec<FileId> {
        self.is_deleted = true;
        self.producers = ProducerTable::default();
        self.segments.drain(..).map(|segment| segment.file).collect()
    }

    /// The largest epoch at or below `asked`, and the offset where it ends.
    pub fn epoch_end(&self, asked: Epoch) -> Option<(Epoch, Offset)> {
        let after = self.epochs.partition_point(|(epoch, _)| *epoch <= asked);
        let (epoch, _) = *self.epochs.get(after.checked_sub(1)?)?;
        let end = self.epochs.get(after).map_or(self.high_watermark, |(_, start)| *start);
        Some((epoch, end))
    }

    /// Index of the segment that holds `offset`, which lies between log start and high watermark.
    pub fn segment_of(&self, offset: Offset) -> Option<usize> {
        self.segments.partition_point(|segment| segment.base <= offset).checked_sub(1)
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Where a read that starts at `offset` begins, when a read ended there not long ago.
    pub fn known_position(&self, file: FileId, offset: Offset) -> Option<u64> {
        let (ends, _) = &**self.read_ends.as_ref()?;
        ends.iter().find(|end| end.file == file && end.offset == offset).map(|end| end.position)
    }

    /// Notes where a read ended.
    pub fn note_read_end(&mut self, file: FileId, offset: Offset, position: u64) {
        let (ends, next) = &mut **self.read_ends.get_or_insert_default();
        if ends.iter().all(|end| end.file != file || end.offset != offset) {
            ends[*next % READ_ENDS] = ReadEnd { offset, file, position };
            *next = (*next + 1) % READ_ENDS;
        }
    }

    /// A watcher takes post here.
    pub fn post(&mut self, post: Post) {
        if self.posts.len() >= 8 && self.posts.len().is_power_of_two() {
            self.posts.retain(|post| !post.is_dead());
        }
        self.posts.push(post);
    }

    /// A watcher leaves; so do those that are gone.
    pub fn leave(&mut self, watcher: &std::sync::Arc<crate::watch::Inner>) {
        self.posts.retain(|post| !post.is_of(watcher) && !post.is_dead());
    }

    /// Tells the watchers of `bytes` newly published bytes.
    pub fn notify(&mut self, bytes: u64, wake: &mut Vec<Waker>) {
        for post in &self.posts {
            post.notify(bytes, self.is_deleted, wake);
        }
    }

    /// As checkpoints hold it.
    ///
    /// ```text
    /// version u8 = 2, log_start i64, high_watermark i64, last_append i64
    /// last_stable i64 (today the high watermark), closed u8 = 0, hash_low u128 = 0, hash_high u128 = 0   (reserved)
    /// clean i64                                                                     (not in version 1, where it is 0)
    /// segments: count u32, each file u64, base i64, size u64, max_timestamp i64, first_append i64, last_append i64
    /// epochs: count u32, each epoch i32, start i64
    /// aborted transactions: count u32 = 0                                                                (reserved)
    /// producers
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.segments.len() * 48);
        out.put_u8(2);
        out.put_i64_le(self.log_start.0);
        out.put_i64_le(self.high_watermark.0);
        out.put_i64_le(self.last_append.0);
        out.put_i64_le(self.high_watermark.0);
        out.put_u8(0);
        out.put_u128_le(0);
        out.put_u128_le(0);
        out.put_i64_le(self.clean.0);
        out.put_u32_le(u32::try_from(self.segments.len()).unwrap_or(u32::MAX));
        for segment in &self.segments {
            out.put_u64_le(segment.file.0);
            out.put_i64_le(segment.base.0);
            out.put_u64_le(segment.size);
            out.put_i64_le(segment.max_timestamp.0);
            out.put_i64_le(segment.first_append.0);
            out.put_i64_le(segment.last_append.0);
        }
        out.put_u32_le(u32::try_from(self.epochs.len()).unwrap_or(u32::MAX));
        for (epoch, start) in &self.epochs {
            out.put_i32_le(epoch.0);
            out.put_i64_le(start.0);
        }
        out.put_u32_le(0);
        self.producers.encode(&mut out);
        out
    }

    /// Reads what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Result<Published, Malformed> {
        let mut reader = Reader(bytes);
        let version = reader.u8()?;
        if !(1..=2).contains(&version) {
            return Err(Malformed("partition state version"));
        }
        let mut published = Published {
            log_start: Offset(reader.i64()?),
            high_watermark: Offset(reader.i64()?),
            last_append: TimestampMs(reader.i64()?),
            ..Published::default()
        };
        reader.take(8 + 1 + 16 + 16)?;
        if version >= 2 {
            published.clean = Offset(reader.i64()?);
        }
        let segments = reader.count(48)?;
        published.segments.reserve_exact(segments);
        for _ in 0..segments {
            published.segments.push(Segment {
                file: FileId(reader.u64()?),
                base: Offset(reader.i64()?),
                size: reader.u64()?,
                max_timestamp: TimestampMs(reader.i64()?),
                first_append: TimestampMs(reader.i64()?),
                last_append: TimestampMs(reader.i64()?),
                index: None,
                sealed_by: Sequence(0),
                is_swapped_in: false,
            });
        }
        let epochs = reader.count(12)?;
        published.epochs.reserve_exact(epochs);
        for _ in 0..epochs {
            published.epochs.push((Epoch(reader.i32()?), Offset(reader.i64()?)));
        }
        if reader.u32()? != 0 {
            return Err(Malformed("aborted transactions, which this version does not know"));
        }
        published.producers = ProducerTable::decode(&mut reader)?;
        if reader.is_empty() { Ok(published) } else { Err(Malformed("partition state size")) }
    }
}

#[cfg(test)]
mod tests;
