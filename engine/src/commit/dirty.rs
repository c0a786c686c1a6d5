//! What changed since the last checkpoint, and how it is captured for the next.

use crate::checkpoint::key;
use crate::ids::{FileId, Sequence, TopicId};
use crate::partition::Partition;
use crate::topic::Topic;
use crate::wal::ring::Place;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys with their new values; none where they are gone.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The state after block `through`, as far as it changed.
pub struct Capture {
    pub through: Sequence,
    /// CRC of block `through`.
    pub crc: u32,
    /// Where block `through + 1` goes, or went unless that was another slot.
    pub place: Place,
    pub changes: Changes,
    pub next_partition: u64,
    pub next_producer: i64,
}

/// Partitions and topics that changed, files that nobody needs once the change is in a checkpoint.
#[derive(Default)]
pub struct DirtySet {
    partitions: Vec<Arc<Partition>>,
    topics: BTreeMap<TopicId, Option<Arc<Topic>>>,
    garbage: Vec<(Sequence, FileId)>,
    pub next_partition: u64,
    pub next_producer: i64,
    has_new_producers: bool,
}

impl DirtySet {
    /// Producer ids below `next` are given away.
    pub fn producer_ids(&mut self, next: i64) {
        self.next_producer = self.next_producer.max(next);
        self.has_new_producers = true;
    }

    /// Notes a partition; `is_dirty` is its own flag.
    pub fn partition(&mut self, partition: &Arc<Partition>, is_dirty: &mut bool) {
        if !std::mem::replace(is_dirty, true) {
            self.partitions.push(partition.clone());
        }
    }

    /// Notes a topic, or that it is gone.
    pub fn topic(&mut self, id: TopicId, topic: Option<Arc<Topic>>) {
        self.topics.insert(id, topic);
    }

    /// Notes files that block `sequence` made useless.
    pub fn garbage(&mut self, sequence: Sequence, files: Vec<FileId>) {
        self.garbage.extend(files.into_iter().map(|file| (sequence, file)));
    }

    /// Whether a checkpoint would say anything new.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.topics.is_empty() && self.garbage.is_empty() && !self.has_new_producers
    }

    /// The files that wait to be unlinked.
    pub fn waiting_garbage(&self) -> impl Iterator<Item = FileId> {
        self.garbage.iter().map(|(_, file)| *file)
    }

    /// Whether files wait to be unlinked.
    pub fn has_garbage(&self) -> bool {
        !self.garbage.is_empty()
    }

    /// Takes what changed. Called by the committer between two rounds, so that it is the state after exactly one block.
    pub fn capture(&mut self) -> Changes {
        let mut changes = Changes::new();
        self.has_new_producers = false;
        for partition in self.partitions.drain(..) {
            let mut published = partition.published();
            published.is_dirty = false;
            let value = (!published.is_deleted).then(|| published.encode());
            changes.insert(key::partition(partition.id()), value);
        }
        for (id, topic) in std::mem::take(&mut self.topics) {
            changes.insert(key::topic(id), topic.map(|topic| topic.encode()));
        }
        changes
    }

    /// Takes the files that a checkpoint through `sequence` makes free to unlink.
    pub fn take_garbage(&mut self, sequence: Sequence) -> Vec<FileId> {
        let (free, kept) = std::mem::take(&mut self.garbage).into_iter().partition(|(by, _)| *by <= sequence);
        self.garbage = kept;
        let free: Vec<(Sequence, FileId)> = free;
        free.into_iter().map(|(_, file)| file).collect()
    }
}
