//! A partition: a log of record batches.
//!
//! It has two faces. The *front* decides, under one short lock, where the next batch goes, and queues it; the queue's order
//! is the log's order. *Published* is what the committer has made durable, and all that readers see. `append` works on the
//! front, `read` and `time` on what is published.

mod append;
mod producers;
mod published;
mod read;
mod time;

pub use append::{AppendError, Appended, DeleteRecordsError};
pub use producers::KnownProducer;
pub use read::{Batches, ColdRead, FileRange, Read, ReadError, ReadRequest};
pub use time::TimePoint;

pub(crate) use append::Front;
pub(crate) use published::{Published, Sealed, Segment};

use crate::cell::Shared;
use crate::ids::{Epoch, FileId, Offset, PartitionId, TimestampMs};
use crate::settings::Settings;
use crate::watch::{self, Post};
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What every partition of a topic shares with it.
pub(crate) struct TopicCore {
    pub name: String,
    pub settings: RwLock<Arc<Settings>>,
}

impl TopicCore {
    /// Whether the server keeps its own state in it.
    pub fn is_internal(&self) -> bool {
        self.name.starts_with("__")
    }
}

/// A log of record batches.
pub struct Partition {
    id: PartitionId,
    index: u32,
    topic: Arc<TopicCore>,
    shared: Arc<Shared>,
    front: Mutex<Front>,
    published: Mutex<Published>,
    /// Milliseconds on the monotonic clock when it was last read.
    last_read: AtomicU64,
}

/// It was not read since the start.
const NEVER: u64 = u64::MAX;

/// Which offsets a reader may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Bounds {
    /// The first that is kept.
    pub log_start: Offset,
    /// Behind the last that is durable.
    pub high_watermark: Offset,
    /// Behind the last that belongs to no open transaction.
    pub last_stable: Offset,
}

impl Bounds {
    /// Behind the last that a reader may have, who wants nothing of open transactions (`stable_only`) or does not mind.
    pub fn end(&self, stable_only: bool) -> Offset {
        if stable_only { self.last_stable } else { self.high_watermark }
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER - 1)
}

impl Partition {
    /// Somebody reads it.
    fn note_read(&self) {
        self.last_read.store(millis(self.shared.env.clock.monotonic()), Ordering::Relaxed);
    }

    /// Whether it was read lately, so that what is appended had better be in the page cache.
    pub(crate) fn is_read(&self, now: Duration) -> bool {
        let last = self.last_read.load(Ordering::Relaxed);
        let stay = self.shared.options.gathers.readers_stay;
        last != NEVER && millis(now).saturating_sub(last) < millis(stay)
    }

    pub(crate) fn new(
        id: PartitionId,
        index: u32,
        topic: Arc<TopicCore>,
        shared: Arc<Shared>,
        published: Published,
    ) -> Arc<Partition> {
        let front = Front::of(&published);
        Arc::new(Partition {
            id,
            index,
            topic,
            shared,
            front: Mutex::new(front),
            published: Mutex::new(published),
            last_read: AtomicU64::new(NEVER),
        })
    }

    /// Its id, unique for ever.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Its number in its topic.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The name of its topic.
    pub fn topic_name(&self) -> &str {
        &self.topic.name
    }

    /// The settings of its topic.
    pub fn settings(&self) -> Arc<Settings> {
        self.topic.settings.read().clone()
    }

    /// The offsets that may be read.
    pub fn bounds(&self) -> Bounds {
        bounds_of(&self.published.lock())
    }

    /// The bounds, if there are records at that offset. Somebody who wants them, but not now, asks.
    pub fn bounds_with_records_at(&self, from: Offset, stable_only: bool) -> Option<Bounds> {
        self.note_read();
        let published = self.published.lock();
        let bounds = bounds_of(&published);
        let is_there = bounds.log_start <= from && from < bounds.end(stable_only);
        (is_there && !published.is_deleted).then_some(bounds)
    }

    /// The epoch of its last record, or the one that it was made under.
    pub fn leader_epoch(&self) -> Epoch {
        self.published.lock().epoch()
    }

    /// The largest epoch at or below `asked` and the offset where it ends; none when all are larger.
    pub fn epoch_end(&self, asked: Epoch) -> Option<(Epoch, Offset)> {
        self.published.lock().epoch_end(asked)
    }

    /// The first offset that compaction has not come to yet.
    pub fn first_dirty(&self) -> Offset {
        let published = self.published.lock();
        published.clean.max(published.log_start)
    }

    /// How many idempotent producers it remembers.
    pub fn producer_count(&self) -> usize {
        self.published.lock().producers.count()
    }

    /// The idempotent producers that it remembers, by id.
    pub fn producers(&self) -> Vec<KnownProducer> {
        self.published.lock().producers.known()
    }

    /// Published bytes.
    pub fn size_bytes(&self) -> u64 {
        self.published.lock().size_bytes()
    }

    pub(crate) fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock()
    }

    pub(crate) fn front(&self) -> MutexGuard<'_, Front> {
        self.front.lock()
    }

    /// After a replay: what is published is all there is.
    pub(crate) fn reset_front(&self) {
        *self.front.lock() = Front::of(&self.published.lock());
    }

    pub(crate) fn post(&self, post: Post) {
        self.published.lock().post(post);
    }

    pub(crate) fn leave(&self, watcher: &Arc<watch::Inner>) {
        self.published.lock().leave(watcher);
    }

    /// Sealed segments that retention no longer keeps, as the log start that lets them go; and whether the active segment
    /// must be closed first because it is too old as well.
    pub(crate) fn retention(&self, now: TimestampMs) -> Option<Retention> {
        let settings = self.settings();
        if !settings.deletes {
            return None;
        }
        let published = self.published.lock();
        if published.is_deleted || published.segments.is_empty() {
            return None;
        }
        let mut excess = match u64::try_from(settings.retention_bytes) {
            Ok(kept) => published.size_bytes().saturating_sub(kept),
            Err(_) => 0,
        };
        let too_old = |latest: TimestampMs| settings.retention_ms >= 0 && now.0 - latest.0 > settings.retention_ms;
        let (active, sealed) = published.segments.split_last()?;
        let mut log_start = None;
        for (index, segment) in sealed.iter().enumerate() {
            let latest = if segment.max_timestamp.0 >= 0 { segment.max_timestamp } else { segment.last_append };
            let too_much = excess >= segment.size && excess > 0;
            if !too_old(latest) && !too_much {
                let end = log_start?;
                return Some(Retention { log_start: end, rolls: None });
            }
            excess = excess.saturating_sub(segment.size);
            log_start = Some(published.segments.get(index + 1).map_or(active.base, |next| next.base));
        }
        let latest = if active.max_timestamp.0 >= 0 { active.max_timestamp } else { active.last_append };
        if active.size > 0 && too_old(latest) {
            return Some(Retention { log_start: published.high_watermark, rolls: Some(active.file) });
        }
        log_start.map(|log_start| Retention { log_start, rolls: None })
    }
}

/// See [`Partition::retention`].
pub(crate) struct Retention {
    pub log_start: Offset,
    pub rolls: Option<FileId>,
}

fn bounds_of(published: &Published) -> Bounds {
    Bounds {
        log_start: published.log_start,
        high_watermark: published.high_watermark,
        last_stable: published.high_watermark,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_partition_takes_at_most_512_bytes() {
        // The two counters of the `Arc`, and on the heap the list with its one epoch.
        let size = size_of::<Partition>() + 16 + size_of::<(Epoch, Offset)>() + 16;
        assert!(size <= 512, "{size} bytes");
    }
}
