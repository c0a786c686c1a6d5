//! A question that a connection asks again.
//!
//! A consumer without a fetch session that found no records sends the very same request once its wait is over, and goes on to do so
//! until there are some. What the last one came to is kept with the connection: the partitions, watched all the while, and
//! what was found in them, which holds as long as the watcher tells no news. So asking again costs neither decoding nor
//! reading. Only small questions without records, errors and sessions are kept: a connection that rests shall hold little.

use super::{Found, Terms};
use crate::connection::WatchedPartitions;
use crate::limits::{ASKED_AGAIN_BYTES_MAX, ASKED_AGAIN_PARTITIONS_MAX};
use bytes::Bytes;
use headwater_protocol::budget::Charge;
use kafka_protocol::messages::FetchRequest;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A connection's place for it, and for what else it keeps of its last Fetch.
#[derive(Clone, Default)]
pub struct LastFetch(Arc<Last>);

#[derive(Default)]
struct Last {
    kept: Mutex<Kept>,
    ahead: Mutex<Option<Arc<Ahead>>>,
}

/// What was answered with nothing, and may come again.
#[derive(Default)]
pub(crate) struct Kept {
    /// The question, if it was one without a session ...
    pub(super) asked: Option<Box<Asked>>,
    /// ... or the session.
    pub(super) idle_session: Option<i32>,
}

/// There when the last Fetch, or what was read ahead behind it, came from the medium. What is read ahead is wanted as long as this is held: until
/// another answer is made, or the connection ends.
pub(super) struct Ahead;

impl LastFetch {
    pub(super) fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock()
    }

    pub(super) fn is_cold(&self) -> bool {
        self.0.ahead.lock().is_some()
    }

    /// What was read ahead before is not wanted any more.
    pub(super) fn set_ahead(&self, ahead: Option<Arc<Ahead>>) {
        *self.0.ahead.lock() = ahead;
    }
}

/// A question and what it came to.
pub(crate) struct Asked {
    version: i16,
    body: Bytes,
    pub(super) terms: Terms,
    pub(super) partitions: WatchedPartitions,
    pub(super) found: BTreeMap<u32, Found>,
    /// What its memory is paid with.
    _memory: Charge,
}

/// The part of a question that is needed to keep it, taken before the frame goes.
pub(super) struct Question {
    version: i16,
    body: Bytes,
}

/// The question, when it is one that may be kept.
pub(super) fn question(version: i16, body: &Bytes, request: &FetchRequest) -> Option<Question> {
    let partitions: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let is_small = body.len() <= ASKED_AGAIN_BYTES_MAX && partitions <= ASKED_AGAIN_PARTITIONS_MAX;
    // A session that it names is closed by it, which is no question.
    let is_plain = request.session_id == 0 && request.session_epoch == -1 && request.max_wait_ms > 0;
    (is_small && is_plain).then(|| Question { version, body: Bytes::copy_from_slice(body) })
}

impl Question {
    /// What is to be kept of it, once it was answered without records.
    pub(super) fn keep(
        self,
        terms: Terms,
        partitions: WatchedPartitions,
        found: BTreeMap<u32, Found>,
        memory: Charge,
    ) -> Option<Box<Asked>> {
        let Question { version, body } = self;
        let is_idle = partitions.is_watching() && found.values().all(Found::is_idle);
        is_idle.then(|| Box::new(Asked { version, body, terms, partitions, found, _memory: memory }))
    }
}

impl Asked {
    /// Whether this is the same question.
    pub(super) fn is(&self, version: i16, body: &[u8]) -> bool {
        self.version == version && self.body == body
    }

    /// The same, to be kept again if that is still worth it.
    pub(super) fn kept(self: Box<Self>) -> Option<Box<Asked>> {
        self.found.values().all(Found::is_idle).then_some(self)
    }
}
