//! The naive model: topics as plain vectors of batches.

use crate::batches::Stored;
use headwater_engine::{Offset, TopicId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A topic's number in a run. A topic that is made again gets another.
pub type Key = usize;

/// Batches that are remembered of an idempotent producer.
const REMEMBERED: usize = 5;

/// An idempotent producer: its epoch, and its last batches as first sequence, last sequence, base offset.
pub type Producer = (i16, VecDeque<(i32, i32, i64)>);

/// The offset behind a batch, its size and its greatest timestamp.
pub type Extent = (i64, i64, i64);

/// One partition.
#[derive(Clone, Default)]
pub struct PartitionState {
    pub log_start: i64,
    /// Where else the log may start: retention was asked for, and what it did is not known yet.
    pub other_starts: Vec<i64>,
    pub next: i64,
    pub batches: Vec<Arc<Stored>>,
    /// Each epoch and where it starts.
    pub epochs: Vec<(i32, i64)>,
    pub producers: BTreeMap<i64, Producer>,
}

/// What becomes of an idempotent producer's batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    Next,
    Repeat(i64),
    OutOfOrder(i32),
    Stale(i16),
}

impl PartitionState {
    fn new(epoch: i32) -> PartitionState {
        PartitionState { epochs: vec![(epoch, 0)], ..PartitionState::default() }
    }

    pub fn epoch(&self) -> i32 {
        self.epochs.last().map_or(0, |last| last.0)
    }

    /// The offsets at which the log may start.
    pub fn starts(&self) -> impl Iterator<Item = i64> + '_ {
        std::iter::once(self.log_start).chain(self.other_starts.iter().copied())
    }

    fn append(&mut self, batch: &Arc<Stored>) {
        assert_eq!(batch.base, self.next, "the model appends in order");
        self.next = batch.end();
        if self.epoch() < batch.epoch {
            self.epochs.push((batch.epoch, batch.base));
        }
        let header = batch.batch.header();
        if header.has_producer() {
            let producer = self.producers.entry(header.producer_id.0).or_default();
            if producer.0 != header.producer_epoch {
                *producer = (header.producer_epoch, VecDeque::new());
            }
            producer.1.push_back((header.base_sequence, header.last_sequence(), batch.base));
            if producer.1.len() > REMEMBERED {
                producer.1.pop_front();
            }
        }
        self.batches.push(batch.clone());
    }

    fn start_at(&mut self, offset: i64) {
        self.log_start = self.log_start.max(offset).min(self.next);
        let (log_start, next) = (self.log_start, self.next);
        self.other_starts.iter_mut().for_each(|start| *start = (*start).max(log_start).min(next));
        self.other_starts.retain(|start| *start != log_start);
        self.batches.retain(|batch| batch.end() > log_start);
    }

    /// It turns out that the log starts here.
    pub fn resolve(&mut self, log_start: i64) {
        self.other_starts.clear();
        self.start_at(log_start);
    }

    /// Its batches, for retention.
    pub fn extents(&self) -> Vec<Extent> {
        let each = self.batches.iter();
        each.map(|batch| (batch.end(), batch.bytes.len() as i64, batch.max_timestamp())).collect()
    }

    /// Where retention may let the log start, when these are the batches. One may go when it is too old, or when what follows it
    /// is enough.
    pub fn retention_starts(&self, batches: &[Extent], now: i64, retention_ms: i64, retention_bytes: i64) -> Vec<i64> {
        let mut after: i64 = batches.iter().map(|(_, size, _)| size).sum();
        let mut starts = Vec::new();
        for (end, size, time) in batches.iter().copied() {
            after -= size;
            let is_old = retention_ms >= 0 && (time < 0 || now - time > retention_ms);
            let is_excess = retention_bytes >= 0 && after >= retention_bytes;
            if !is_old && !is_excess {
                break;
            }
            if end > self.log_start {
                starts.push(end);
            }
        }
        starts
    }

    pub fn judge(&self, producer: (i64, i16, i32), last: i32) -> Judgement {
        let (id, epoch, first) = producer;
        let Some((known, batches)) = self.producers.get(&id) else { return Judgement::Next };
        if epoch < *known {
            return Judgement::Stale(*known);
        }
        if epoch > *known {
            return if first == 0 { Judgement::Next } else { Judgement::OutOfOrder(0) };
        }
        if let Some((_, _, base)) = batches.iter().find(|batch| (batch.0, batch.1) == (first, last)) {
            return Judgement::Repeat(*base);
        }
        let expected = batches.back().map_or(first, |batch| after(batch.1));
        if expected == first { Judgement::Next } else { Judgement::OutOfOrder(expected) }
    }
}

/// The sequence after another; they start again at 0.
pub fn after(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

/// One topic.
#[derive(Clone)]
pub struct TopicState {
    pub name: String,
    /// Not known until its creation was answered.
    pub id: Option<TopicId>,
    pub settings: BTreeMap<String, String>,
    pub partitions: Vec<PartitionState>,
}

/// All topics.
#[derive(Clone, Default)]
pub struct State {
    pub topics: BTreeMap<Key, TopicState>,
}

/// Something that the engine was asked to do.
#[derive(Clone)]
pub enum Event {
    Create {
        key: Key,
        name: String,
        partitions: u32,
        settings: BTreeMap<String, String>,
        epoch: i32,
    },
    AddPartitions {
        key: Key,
        total: u32,
        epoch: i32,
    },
    /// The topic gets these settings and no others.
    Alter {
        key: Key,
        settings: BTreeMap<String, String>,
    },
    Delete {
        key: Key,
    },
    Append {
        key: Key,
        partition: usize,
        batch: Arc<Stored>,
    },
    LogStart {
        key: Key,
        partition: usize,
        offset: i64,
    },
    /// A retention pass, and where it may let the log start.
    Retain {
        key: Key,
        partition: usize,
        starts: Vec<i64>,
    },
    /// Nothing changes, but the answer rests on everything before.
    Answer,
}

impl State {
    pub fn by_name(&self, name: &str) -> Option<Key> {
        self.topics.iter().find(|(_, topic)| topic.name == name).map(|(key, _)| *key)
    }

    pub fn partition(&self, key: Key, index: usize) -> Option<&PartitionState> {
        self.topics.get(&key)?.partitions.get(index)
    }

    pub fn partition_mut(&mut self, key: Key, index: usize) -> Option<&mut PartitionState> {
        self.topics.get_mut(&key)?.partitions.get_mut(index)
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { key, name, partitions, settings, epoch } => {
                let partitions = vec![PartitionState::new(*epoch); *partitions as usize];
                let settings = settings.clone();
                let topic = TopicState { name: name.clone(), id: None, settings, partitions };
                self.topics.insert(*key, topic);
            }
            Event::AddPartitions { key, total, epoch } => {
                if let Some(topic) = self.topics.get_mut(key) {
                    topic.partitions.resize(*total as usize, PartitionState::new(*epoch));
                }
            }
            Event::Alter { key, settings } => {
                if let Some(topic) = self.topics.get_mut(key) {
                    topic.settings = settings.clone();
                }
            }
            Event::Delete { key } => {
                self.topics.remove(key);
            }
            Event::Append { key, partition, batch } => {
                let partition = self.partition_mut(*key, *partition);
                partition.expect("appends go to partitions that exist").append(batch);
            }
            Event::LogStart { key, partition, offset } => {
                let partition = self.partition_mut(*key, *partition);
                partition.expect("log starts are those of partitions that exist").start_at(*offset);
            }
            Event::Retain { key, partition, starts } => {
                if let Some(partition) = self.partition_mut(*key, *partition) {
                    let log_start = partition.log_start;
                    partition.other_starts.extend(starts.iter().filter(|start| **start > log_start));
                }
            }
            Event::Answer => {}
        }
    }
}

impl Event {
    /// Whether the engine makes it durable even in mode `os`, with everything before it.
    pub fn always_syncs(&self) -> bool {
        match self {
            Event::Create { .. } | Event::AddPartitions { .. } | Event::Alter { .. } => true,
            Event::Delete { .. } | Event::LogStart { .. } => true,
            Event::Append { .. } | Event::Retain { .. } | Event::Answer => false,
        }
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::Create { key, name, partitions, .. } => write!(f, "create #{key} {name} with {partitions}"),
            Event::AddPartitions { key, total, .. } => write!(f, "grow #{key} to {total}"),
            Event::Alter { key, settings } => write!(f, "alter #{key} to {settings:?}"),
            Event::Delete { key } => write!(f, "delete #{key}"),
            Event::Append { key, partition, batch } => {
                let (from, to) = (Offset(batch.base), Offset(batch.end()));
                write!(f, "append #{key}/{partition} [{from}, {to}) of {} bytes", batch.bytes.len())
            }
            Event::LogStart { key, partition, offset } => write!(f, "start #{key}/{partition} at {offset}"),
            Event::Retain { key, partition, starts } => write!(f, "retain #{key}/{partition} {starts:?}"),
            Event::Answer => write!(f, "answer"),
        }
    }
}
