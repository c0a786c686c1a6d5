//! What can happen to the data folder, as the WAL tells it.
//!
//! ```text
//! entry   0   kind u8
//!         1   size u32 of what follows
//!         5   fields, little-endian, in the order of the variants below; a batch's bytes come last
//! ```

use crate::encoding::{Malformed, Put, Reader, map_size};
use crate::ids::{Epoch, FileId, Offset, PartitionId, TimestampMs, TopicId};
use bytes::BufMut;
use std::collections::BTreeMap;

/// Bytes of an append's entry before the batch.
pub const APPEND_HEAD_SIZE: usize = 5 + 32;
/// No entry is larger that holds numbers and ids alone.
pub const FIXED_SIZE_MAX: usize = 64;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A batch, patched with its base offset and epoch, went to `position` of `file`.
    Append { partition: PartitionId, file: FileId, position: u64, time: TimestampMs, batch: &'a [u8] },
    /// `file` became the partition's active segment; its first record has offset `base`.
    Roll { partition: PartitionId, file: FileId, base: Offset },
    /// Records before `offset` are gone, with the sealed segments that hold nothing else.
    LogStart { partition: PartitionId, offset: Offset },
    /// A topic with `count` partitions, numbered from `first`.
    CreateTopic(TopicRecord),
    /// `count` more partitions, numbered from `first`.
    AddPartitions { topic: TopicId, first: PartitionId, count: u32, epoch: Epoch },
    /// The topic and its partitions are gone.
    DeleteTopic { topic: TopicId },
    /// Producer ids below `next` are given away.
    ProducerIds { next: i64 },
    /// The topic has these settings now, and no others.
    AlterTopic { topic: TopicId, settings: BTreeMap<String, String> },
    /// Compacted segments took the place of others.
    Swap { partition: PartitionId, swap: Swap },
}

/// What compaction puts in place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swap {
    /// Sealed segments, one behind the other.
    pub removed: Vec<FileId>,
    /// What takes their place: files that were durable before this was logged.
    pub added: Vec<SwappedIn>,
    /// Records before this offset have been compacted.
    pub clean: Offset,
}

/// A segment that compaction wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwappedIn {
    pub file: FileId,
    pub base: Offset,
    pub size: u64,
    pub max_timestamp: TimestampMs,
    pub first_append: TimestampMs,
    pub last_append: TimestampMs,
}

impl Swap {
    /// Bytes of its entry.
    pub fn entry_size(&self) -> usize {
        5 + 8 + 8 + 4 + self.removed.len() * 8 + 4 + self.added.len() * SwappedIn::SIZE
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_i64_le(self.clean.0);
        out.put_u32_le(u32::try_from(self.removed.len()).expect("a swap takes a bounded number of files"));
        self.removed.iter().for_each(|file| out.put_u64_le(file.0));
        out.put_u32_le(u32::try_from(self.added.len()).expect("a swap takes a bounded number of files"));
        self.added.iter().for_each(|segment| segment.encode(out));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Swap, Malformed> {
        let clean = Offset(reader.i64()?);
        let removed = (0..reader.count(8)?).map(|_| Ok(FileId(reader.u64()?))).collect::<Result<_, Malformed>>()?;
        let count = reader.count(SwappedIn::SIZE)?;
        let added = (0..count).map(|_| SwappedIn::decode(reader)).collect::<Result<_, Malformed>>()?;
        Ok(Swap { removed, added, clean })
    }
}

impl SwappedIn {
    const SIZE: usize = 48;

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.file.0);
        out.put_i64_le(self.base.0);
        out.put_u64_le(self.size);
        out.put_i64_le(self.max_timestamp.0);
        out.put_i64_le(self.first_append.0);
        out.put_i64_le(self.last_append.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<SwappedIn, Malformed> {
        Ok(SwappedIn {
            file: FileId(reader.u64()?),
            base: Offset(reader.i64()?),
            size: reader.u64()?,
            max_timestamp: TimestampMs(reader.i64()?),
            first_append: TimestampMs(reader.i64()?),
            last_append: TimestampMs(reader.i64()?),
        })
    }
}

/// A topic as it was created; in a checkpoint, with the settings that it has by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    pub id: TopicId,
    pub name: String,
    pub first: PartitionId,
    pub count: u32,
    pub epoch: Epoch,
    pub created: TimestampMs,
    pub settings: BTreeMap<String, String>,
}

impl TopicRecord {
    /// Bytes of the entry that it was created by.
    pub fn entry_size(&self) -> usize {
        5 + 16 + 8 + 4 + 4 + 8 + 4 + self.name.len() + map_size(&self.settings)
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.put_u64_le(self.first.0);
        out.put_u32_le(self.count);
        out.put_i32_le(self.epoch.0);
        out.put_i64_le(self.created.0);
        out.put_string(&self.name);
        out.put_map(&self.settings);
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<TopicRecord, Malformed> {
        Ok(TopicRecord {
            id: TopicId(reader.id()?),
            first: PartitionId(reader.u64()?),
            count: reader.u32()?,
            epoch: Epoch(reader.i32()?),
            created: TimestampMs(reader.i64()?),
            name: reader.string()?,
            settings: reader.map()?,
        })
    }
}

/// Bytes of the entry that gives a topic these settings.
pub fn alter_entry_size(settings: &BTreeMap<String, String>) -> usize {
    5 + 16 + map_size(settings)
}

/// The head of an append's entry; the batch follows it.
pub fn append_head(
    partition: PartitionId,
    file: FileId,
    position: u64,
    time: TimestampMs,
    batch_size: usize,
) -> [u8; APPEND_HEAD_SIZE] {
    let mut head = [0; APPEND_HEAD_SIZE];
    head[0] = 1;
    let size = u32::try_from(batch_size + APPEND_HEAD_SIZE - 5).expect("a batch is bounded far below 4 GiB");
    head[1..5].copy_from_slice(&size.to_le_bytes());
    head[5..13].copy_from_slice(&partition.0.to_le_bytes());
    head[13..21].copy_from_slice(&file.0.to_le_bytes());
    head[21..29].copy_from_slice(&position.to_le_bytes());
    head[29..37].copy_from_slice(&time.0.to_le_bytes());
    head
}

impl<'a> Entry<'a> {
    /// Writes the entry onto the end of `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 5]);
        let kind = match self {
            Entry::Append { partition, file, position, time, batch } => {
                out.truncate(start);
                out.extend_from_slice(&append_head(*partition, *file, *position, *time, batch.len()));
                out.extend_from_slice(batch);
                1
            }
            Entry::Roll { partition, file, base } => {
                out.put_u64_le(partition.0);
                out.put_u64_le(file.0);
                out.put_i64_le(base.0);
                2
            }
            Entry::LogStart { partition, offset } => {
                out.put_u64_le(partition.0);
                out.put_i64_le(offset.0);
                3
            }
            Entry::CreateTopic(record) => {
                record.encode(out);
                4
            }
            Entry::AddPartitions { topic, first, count, epoch } => {
                out.extend_from_slice(&topic.0);
                out.put_u64_le(first.0);
                out.put_u32_le(*count);
                out.put_i32_le(epoch.0);
                5
            }
            Entry::DeleteTopic { topic } => {
                out.extend_from_slice(&topic.0);
                6
            }
            Entry::ProducerIds { next } => {
                out.put_i64_le(*next);
                7
            }
            Entry::AlterTopic { topic, settings } => {
                out.extend_from_slice(&topic.0);
                out.put_map(settings);
                8
            }
            Entry::Swap { partition, swap } => {
                out.put_u64_le(partition.0);
                swap.encode(out);
                9
            }
        };
        out[start] = kind;
        let size = u32::try_from(out.len() - start - 5).expect("entries are bounded far below 4 GiB");
        out[start + 1..start + 5].copy_from_slice(&size.to_le_bytes());
    }

    /// Reads one entry.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Entry<'a>, Malformed> {
        let kind = reader.u8()?;
        let size = reader.u32()? as usize;
        let mut fields = Reader(reader.take(size)?);
        let entry = match kind {
            1 => Entry::Append {
                partition: PartitionId(fields.u64()?),
                file: FileId(fields.u64()?),
                position: fields.u64()?,
                time: TimestampMs(fields.i64()?),
                batch: std::mem::take(&mut fields.0),
            },
            2 => Entry::Roll {
                partition: PartitionId(fields.u64()?),
                file: FileId(fields.u64()?),
                base: Offset(fields.i64()?),
            },
            3 => Entry::LogStart { partition: PartitionId(fields.u64()?), offset: Offset(fields.i64()?) },
            4 => Entry::CreateTopic(TopicRecord::decode(&mut fields)?),
            5 => Entry::AddPartitions {
                topic: TopicId(fields.id()?),
                first: PartitionId(fields.u64()?),
                count: fields.u32()?,
                epoch: Epoch(fields.i32()?),
            },
            6 => Entry::DeleteTopic { topic: TopicId(fields.id()?) },
            7 => Entry::ProducerIds { next: fields.i64()? },
            8 => Entry::AlterTopic { topic: TopicId(fields.id()?), settings: fields.map()? },
            9 => Entry::Swap { partition: PartitionId(fields.u64()?), swap: Swap::decode(&mut fields)? },
            _ => return Err(Malformed("entry kind")),
        };
        if fields.is_empty() { Ok(entry) } else { Err(Malformed("entry size")) }
    }
}
