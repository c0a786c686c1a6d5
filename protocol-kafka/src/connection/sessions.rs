//! Incremental fetch sessions (KIP-227): the broker remembers which partitions a consumer fetches, so that requests and
//! answers carry only what changed.
//!
//! What a session fetches is in `watched.rs`; here is which session a request belongs to, and whether it is in step with it.
//!
//! Sessions are bounded in number and in partitions. When there is no room, one that was not used for two minutes goes;
//! otherwise the client gets session id 0, which means none, and goes on with full requests.

use super::watched::{Wanted, WatchedPartitions};
use crate::codec::TopicRef;
use headwater_engine::{Engine, Epoch};
use headwater_protocol::Limits;
use kafka_protocol::error::ResponseError;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// A session not used for so long may be thrown out for a new one (`min.incremental.fetch.session.eviction.ms`).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// The session epoch of a request that opens a session.
const EPOCH_FIRST: i32 = 0;

/// The session epoch of a request that wants none.
const EPOCH_NONE: i32 = -1;

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

impl Begun {
    /// The partitions that are the request's own.
    pub(crate) fn own(&self) -> Option<&WatchedPartitions> {
        match self {
            Begun::Sessionless(partitions) | Begun::Full(partitions) => Some(partitions),
            Begun::Refused(_) | Begun::Incremental(..) => None,
        }
    }
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

    /// Whether there still is this session, and its next request must carry this epoch.
    pub(crate) fn expects(&self, session: &Arc<Session>, epoch: i32) -> bool {
        let is_here = self.cache.lock().sessions.get(&session.id).is_some_and(|known| Arc::ptr_eq(known, session));
        is_here && session.state.lock().epoch == epoch
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
        let partitions = std::mem::replace(partitions, WatchedPartitions::new(false));
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
        drop(cache);
        // Nobody knows the session yet; the client hears of it with the answer.
        session.state.lock().partitions.watch(|_| None);
        Some(session)
    }
}

impl Session {
    /// The session was asked elsewhere until it expects this epoch, unless it was asked here meanwhile.
    pub(crate) fn went_on(&self, engine: &Engine, from: i32, epoch: i32) {
        let mut state = self.state.lock();
        if state.epoch == from {
            state.epoch = epoch;
        }
        drop(state);
        self.touch(engine);
    }

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
