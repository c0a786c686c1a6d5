//! Incremental fetch sessions (KIP-227): the broker remembers which partitions a consumer fetches, so that requests and
//! answers carry only what changed.
//!
//! An idle partition costs nothing here: the engine's watcher tells which partitions have news, and a fetch looks only at
//! those, at what the request names, and at what had more records than the last answer could carry.
//!
//! Sessions are bounded in number and in partitions. When there is no room, one that was not used for two minutes goes;
//! otherwise the client gets session id 0, which means none, and goes on with full requests.

use crate::codec::TopicRef;
use headwater_engine::{Engine, Epoch, Offset, Partition, Watcher};
use headwater_protocol::Limits;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use uuid::Uuid;

/// A session not used for so long may be thrown out for a new one (`min.incremental.fetch.session.eviction.ms`).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// The session epoch of a request that opens a session.
const EPOCH_FIRST: i32 = 0;

/// The session epoch of a request that wants none.
const EPOCH_NONE: i32 = -1;

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
    fn new(is_watching: bool) -> WatchedPartitions {
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

    fn of(engine: &Engine, wanted: Vec<Wanted>) -> WatchedPartitions {
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
    fn update(&mut self, engine: &Engine, wanted: Vec<Wanted>) {
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

    fn remove(&mut self, topic: &TopicRef, index: i32) {
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

/// A session.
pub(crate) struct Session {
    pub(crate) id: i32,
    uses_topic_ids: bool,
    /// Monotonic milliseconds.
    last_used_ms: AtomicU64,
    size: AtomicUsize,
    pub(crate) state: Mutex<SessionState>,
}

/// What changes in a session.
pub(crate) struct SessionState {
    /// The epoch that the next request must carry.
    pub(crate) epoch: i32,
    pub(crate) partitions: WatchedPartitions,
}

/// How a fetch goes on.
pub(crate) enum Begun {
    /// With an error for the whole request.
    Refused(ResponseError),
    /// With the partitions that it names, and no session.
    Sessionless(WatchedPartitions),
    /// With the partitions that it names, which become a session when it is answered.
    Full(WatchedPartitions),
    /// With a session's partitions. The epoch tells whether another request got in between.
    Incremental(Arc<Session>, i32),
}

/// The sessions of a listener.
pub(crate) struct FetchSessions {
    sessions_max: usize,
    partitions_max: usize,
    cache: Mutex<Cache>,
}

struct Cache {
    sessions: BTreeMap<i32, Arc<Session>>,
    partitions: usize,
    /// Makes ids. Starts anew with each start of the server, so that an old id hardly ever names a new session.
    seed: u64,
}

impl FetchSessions {
    pub(crate) fn new(limits: &Limits, node_epoch: Epoch) -> FetchSessions {
        let cache = Cache { sessions: BTreeMap::new(), partitions: 0, seed: (node_epoch.0 as u64) << 32 };
        FetchSessions {
            sessions_max: limits.fetch_sessions_max,
            partitions_max: limits.fetch_session_partitions_max,
            cache: Mutex::new(cache),
        }
    }

    /// Finds out what a request means for its session.
    pub(crate) fn begin(
        &self,
        engine: &Engine,
        (id, epoch): (i32, i32),
        uses_topic_ids: bool,
        wanted: Vec<Wanted>,
        forgotten: Vec<(TopicRef, i32)>,
    ) -> Begun {
        if epoch == EPOCH_FIRST || epoch == EPOCH_NONE {
            // A full request closes the session that it names.
            if id != 0 {
                self.cache.lock().remove(id);
            }
            let partitions = WatchedPartitions::of(engine, wanted);
            return if epoch == EPOCH_NONE { Begun::Sessionless(partitions) } else { Begun::Full(partitions) };
        }
        let session = self.cache.lock().sessions.get(&id).cloned();
        let Some(session) = session else { return Begun::Refused(ResponseError::FetchSessionIdNotFound) };
        let (before, after, next) = {
            let mut state = session.state.lock();
            if state.epoch != epoch {
                return Begun::Refused(ResponseError::InvalidFetchSessionEpoch);
            }
            if session.uses_topic_ids != uses_topic_ids {
                return Begun::Refused(ResponseError::FetchSessionTopicIdError);
            }
            let before = state.partitions.len();
            for (topic, index) in forgotten {
                state.partitions.remove(&topic, index);
            }
            state.partitions.update(engine, wanted);
            state.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
            (before, state.partitions.len(), state.epoch)
        };
        session.touch(engine);
        session.size.store(after, Relaxed);
        let mut cache = self.cache.lock();
        if cache.sessions.contains_key(&id) {
            cache.partitions = (cache.partitions + after).saturating_sub(before);
        }
        if after == 0 {
            cache.remove(id);
            return Begun::Sessionless(WatchedPartitions::new(false));
        }
        if cache.partitions > self.partitions_max {
            // It grew beyond what there is room for. The client opens a new one, or goes on without.
            cache.remove(id);
            return Begun::Refused(ResponseError::FetchSessionIdNotFound);
        }
        drop(cache);
        Begun::Incremental(session, next)
    }

    /// Makes a session of the partitions of a full request and takes them, when there is room.
    pub(crate) fn open(
        &self,
        engine: &Engine,
        uses_topic_ids: bool,
        partitions: &mut WatchedPartitions,
    ) -> Option<Arc<Session>> {
        let size = partitions.len();
        if size == 0 {
            return None;
        }
        let now = engine.clock().monotonic();
        let mut cache = self.cache.lock();
        while cache.sessions.len() >= self.sessions_max || cache.partitions.saturating_add(size) > self.partitions_max {
            if !cache.evict(now) {
                return None;
            }
        }
        let mut partitions = std::mem::replace(partitions, WatchedPartitions::new(false));
        partitions.watch(|_| None);
        let id = cache.new_id();
        let session = Arc::new(Session {
            id,
            uses_topic_ids,
            last_used_ms: AtomicU64::new(millis(now)),
            size: AtomicUsize::new(size),
            state: Mutex::new(SessionState { epoch: 1, partitions }),
        });
        cache.partitions += size;
        cache.sessions.insert(id, session.clone());
        Some(session)
    }
}

impl Session {
    fn touch(&self, engine: &Engine) {
        self.last_used_ms.store(millis(engine.clock().monotonic()), Relaxed);
    }
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions = self.partitions.saturating_sub(session.size.load(Relaxed));
        }
    }

    /// Throws out the session that was not used for the longest time, when that is long enough.
    fn evict(&mut self, now: Duration) -> bool {
        let oldest = self.sessions.values().min_by_key(|session| session.last_used_ms.load(Relaxed));
        let Some((id, last_used_ms)) = oldest.map(|session| (session.id, session.last_used_ms.load(Relaxed))) else {
            return false;
        };
        let stale = millis(now).saturating_sub(last_used_ms) > millis(EVICTABLE_AFTER);
        if stale {
            self.remove(id);
        }
        stale
    }

    fn new_id(&mut self) -> i32 {
        loop {
            // splitmix64: a permutation, so ids do not repeat soon.
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.seed;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let id = ((mixed ^ (mixed >> 31)) >> 33) as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
