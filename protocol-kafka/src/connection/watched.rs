//! The partitions of a fetch, a session's or a single request's.
//!
//! An idle partition costs nothing here: the engine's watcher tells which partitions have news, and a fetch looks only at
//! those, at what the request names, and at what had more records than the last answer could carry.

use crate::codec::TopicRef;
use headwater_engine::{Engine, Offset, Partition, Watcher};
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

/// A partition as a request names it.
pub(crate) struct Wanted {
    pub(crate) topic: TopicRef,
    pub(crate) index: i32,
    pub(crate) position: Position,
}

/// Where a consumer stands in a partition, and how much it takes.
#[derive(Clone, Copy)]
pub(crate) struct Position {
    pub(crate) from: i64,
    pub(crate) bytes_max: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

/// The partitions of a fetch.
pub(crate) struct WatchedPartitions {
    /// By token.
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    tokens: HashMap<(TopicRef, i32), u32>,
    /// Partitions to look at, in the order of their turns.
    ready: VecDeque<u32>,
    /// Entries whose partition exists.
    present: usize,
    watcher: Arc<Watcher>,
    is_watching: bool,
}

struct Entry {
    topic: TopicRef,
    index: i32,
    position: Position,
    /// None when there is no such partition (any more).
    partition: Option<Arc<Partition>>,
    is_ready: bool,
    /// High watermark and log start, as last sent.
    sent: Option<(i64, i64)>,
}

/// What to read next.
pub(crate) struct PartitionPlan {
    pub(crate) token: u32,
    pub(crate) partition: Result<Arc<Partition>, ResponseError>,
    pub(crate) position: Position,
}

impl WatchedPartitions {
    /// No partitions yet. Whether it watches from the start, or only when a fetch has to wait.
    pub(super) fn new(is_watching: bool) -> WatchedPartitions {
        WatchedPartitions {
            entries: Vec::new(),
            free: Vec::new(),
            tokens: HashMap::new(),
            ready: VecDeque::new(),
            present: 0,
            watcher: Arc::new(Watcher::new()),
            is_watching,
        }
    }

    pub(super) fn of(engine: &Engine, wanted: Vec<Wanted>) -> WatchedPartitions {
        let mut set = WatchedPartitions::new(false);
        set.update(engine, wanted);
        set
    }

    /// How many partitions there are.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Tells of news. Shared, so that a fetch can wait for it without holding the partitions.
    pub(crate) fn watcher(&self) -> Arc<Watcher> {
        self.watcher.clone()
    }

    /// Adds partitions, or moves those that are there.
    pub(super) fn update(&mut self, engine: &Engine, wanted: Vec<Wanted>) {
        // Names are slices of the request's frame; what is kept must not keep the frame. One copy serves a whole topic.
        let mut kept: Option<TopicRef> = None;
        for Wanted { topic, index, position } in wanted {
            let topic = match kept.take() {
                Some(known) if known == topic => known,
                _ => topic.detached(),
            };
            kept = Some(topic.clone());
            let key = (topic, index);
            let token = match self.tokens.get(&key) {
                Some(&token) => {
                    if let Some(Some(entry)) = self.entries.get_mut(token as usize) {
                        entry.position = position;
                    }
                    token
                }
                None => self.insert(engine, key, position),
            };
            self.make_ready(token);
        }
    }

    fn insert(&mut self, engine: &Engine, key: (TopicRef, i32), position: Position) -> u32 {
        let partition = find(engine, &key.0, key.1).ok();
        let token = self.free.pop().unwrap_or(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        if let Some(partition) = &partition {
            self.present += 1;
            if self.is_watching {
                self.watcher.watch(partition, token);
            }
        }
        self.tokens.insert(key.clone(), token);
        let (topic, index) = key;
        let entry = Entry { topic, index, position, partition, is_ready: false, sent: None };
        match self.entries.get_mut(token as usize) {
            Some(slot) => *slot = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        token
    }

    pub(super) fn remove(&mut self, topic: &TopicRef, index: i32) {
        let Some(token) = self.tokens.remove(&(topic.clone(), index)) else { return };
        if let Some(entry) = self.entries.get_mut(token as usize).and_then(Option::take) {
            if let Some(partition) = &entry.partition {
                self.present = self.present.saturating_sub(1);
                if self.is_watching {
                    self.watcher.unwatch(partition, token);
                }
            }
            if entry.is_ready {
                self.ready.retain(|&ready| ready != token);
            }
        }
        self.free.push(token);
    }

    fn make_ready(&mut self, token: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(token as usize)
            && !entry.is_ready
        {
            entry.is_ready = true;
            self.ready.push_back(token);
        }
    }

    /// What to read now, in order. Counts published bytes from here on.
    pub(crate) fn plan(&mut self, engine: &Engine) -> Vec<PartitionPlan> {
        if self.is_watching {
            self.watcher.reset_bytes();
            let mut dirty = Vec::new();
            self.watcher.take_dirty(&mut dirty);
            dirty.into_iter().for_each(|token| self.make_ready(token));
        }
        let mut plans = Vec::with_capacity(self.ready.len());
        for &token in &self.ready {
            let Some(Some(entry)) = self.entries.get_mut(token as usize) else { continue };
            let partition = match &entry.partition {
                Some(partition) => Ok(partition.clone()),
                // It may have been made meanwhile, or made anew under its name.
                None => find(engine, &entry.topic, entry.index),
            };
            if let (None, Ok(partition)) = (&entry.partition, &partition) {
                entry.partition = Some(partition.clone());
                self.present += 1;
                if self.is_watching {
                    self.watcher.watch(partition, token);
                }
            }
            plans.push(PartitionPlan { token, partition, position: entry.position });
        }
        plans
    }

    /// Notes what came of reading: whether the partition is to be looked at again without news, and whether it is gone.
    pub(crate) fn settle(&mut self, token: u32, again: bool, gone: bool) {
        let Some(Some(entry)) = self.entries.get_mut(token as usize) else { return };
        if gone && let Some(partition) = entry.partition.take() {
            self.present = self.present.saturating_sub(1);
            if self.is_watching {
                self.watcher.unwatch(&partition, token);
            }
        }
        if again {
            self.make_ready(token);
        } else {
            entry.is_ready = false;
        }
    }

    /// Drops from the turns what `settle` said needs none.
    pub(crate) fn settled(&mut self) {
        let entries = &self.entries;
        self.ready.retain(|&token| matches!(entries.get(token as usize), Some(Some(entry)) if entry.is_ready));
    }

    /// Moves a partition whose records are sent behind the others, so that each gets its turn.
    pub(crate) fn rotate(&mut self, sent: &[u32]) {
        for &token in sent {
            if let Some(Some(entry)) = self.entries.get_mut(token as usize) {
                entry.is_ready = false;
            }
        }
        self.settled();
        sent.iter().for_each(|&token| self.make_ready(token));
    }

    /// Begins to watch, before a wait. What was published since it was read, up to the high watermark that `read` says, is to
    /// be looked at again; returns whether there is any.
    pub(crate) fn watch(&mut self, read: impl Fn(u32) -> Option<Offset>) -> bool {
        if self.is_watching {
            return false;
        }
        self.is_watching = true;
        let mut stale = Vec::new();
        for (token, entry) in (0u32..).zip(&self.entries) {
            let Some(partition) = entry.as_ref().and_then(|entry| entry.partition.as_ref()) else { continue };
            self.watcher.watch(partition, token);
            if read(token) != Some(partition.bounds().high_watermark) {
                stale.push(token);
            }
        }
        let any = !stale.is_empty();
        stale.into_iter().for_each(|token| self.make_ready(token));
        any
    }

    /// Whether it is told of news.
    pub(crate) fn is_watching(&self) -> bool {
        self.is_watching
    }

    /// How many of the partitions exist.
    pub(crate) fn present(&self) -> usize {
        self.present
    }

    /// The partition's names.
    pub(crate) fn names(&self, token: u32) -> Option<(&TopicRef, i32)> {
        let entry = self.entries.get(token as usize)?.as_ref()?;
        Some((&entry.topic, entry.index))
    }

    /// Whether the client does not know these bounds yet; it does afterwards. An answer with an error makes it forget them.
    pub(crate) fn note_sent(&mut self, token: u32, sent: Option<(i64, i64)>) -> bool {
        let Some(Some(entry)) = self.entries.get_mut(token as usize) else { return false };
        let changed = sent.is_none() || entry.sent != sent;
        entry.sent = sent;
        changed
    }
}

/// Finds a partition.
fn find(engine: &Engine, topic: &TopicRef, index: i32) -> Result<Arc<Partition>, ResponseError> {
    let topic = match topic {
        TopicRef::Name(name) => engine.topic(name).ok_or(ResponseError::UnknownTopicOrPartition)?,
        TopicRef::Id(id) => engine.topic_by_id(crate::map::topic_id_from(*id)).ok_or(ResponseError::UnknownTopicId)?,
    };
    let partition = u32::try_from(index).ok().and_then(|index| topic.partition(index));
    partition.ok_or(ResponseError::UnknownTopicOrPartition)
}

impl TopicRef {
    /// The same, sharing no memory with the request that it came in.
    fn detached(self) -> TopicRef {
        match self {
            TopicRef::Name(name) => TopicRef::Name(StrBytes::from_string(name.as_str().to_owned())),
            TopicRef::Id(id) => TopicRef::Id(id),
        }
    }

    /// The name and the id, the one that is not known empty.
    pub(crate) fn name_and_id(&self) -> (StrBytes, Uuid) {
        match self {
            TopicRef::Name(name) => (name.clone(), Uuid::nil()),
            TopicRef::Id(id) => (StrBytes::new(), *id),
        }
    }
}
