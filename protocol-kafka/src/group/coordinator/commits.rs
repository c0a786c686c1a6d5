//! Offsets: committed, read, deleted.

use super::super::State;
use super::super::offsets::Change;
use super::super::records::{self, Committed};
use super::{Coordinator, Held, Inner, Moment, NotQueued, Slot, Unavailable};
use crate::context::Context;
use crate::limits::{OFFSETS_BATCH_BYTES_MAX, OFFSETS_PER_GROUP_MAX};
use headwater_engine::{Ack, AppendError};
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// A partition's offset in a commit.
#[derive(Clone, Debug)]
pub(crate) struct CommitPartition {
    pub(crate) topic: StrBytes,
    pub(crate) partition: i32,
    pub(crate) committed: Committed,
}

/// Who commits.
pub(crate) struct Committer<'a> {
    pub(crate) member_id: &'a StrBytes,
    pub(crate) instance_id: Option<&'a StrBytes>,
    pub(crate) generation: i32,
    /// Whether it understands that a group may not exist.
    pub(crate) knows_groups: bool,
}

/// Changes that are queued.
pub(crate) struct Queued {
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    ack: Ack,
}

impl Queued {
    /// Waits until they are durable and show.
    pub(crate) async fn wait(self) -> Result<(), headwater_engine::Stopped> {
        self.ack.wait().await?;
        self.inner.settle(&self.slot, &mut self.slot.held.lock());
        Ok(())
    }
}

/// Why a commit was not queued.
pub(crate) enum Refused {
    /// The protocol's own error, for every partition.
    Error(ResponseError),
    /// The engine is busy: later.
    Busy,
}

impl From<NotQueued> for Refused {
    fn from(error: NotQueued) -> Refused {
        match error {
            NotQueued::Append(AppendError::Busy) => Refused::Busy,
            other => Unavailable::from(other).into(),
        }
    }
}

impl From<Unavailable> for Refused {
    fn from(unavailable: Unavailable) -> Refused {
        Refused::Error(unavailable.0)
    }
}

/// Does something again while the engine is busy, with longer and longer pauses, and not for ever.
pub(crate) async fn unless_busy<T>(
    ctx: &Context,
    mut act: impl FnMut() -> Result<T, Refused>,
) -> Result<T, ResponseError> {
    let mut busy = Busy::new(ctx);
    loop {
        match act() {
            Ok(done) => return Ok(done),
            Err(Refused::Error(error)) => return Err(error),
            Err(Refused::Busy) if busy.pause().await => {}
            Err(Refused::Busy) => return Err(ResponseError::CoordinatorNotAvailable),
        }
    }
}

/// Waiting while the engine is busy: longer each time, and not for ever.
struct Busy {
    until: Instant,
    pause: Duration,
}

/// The first pause; it doubles up to the longest one.
const BUSY_PAUSE_FIRST: Duration = Duration::from_millis(1);
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(50);

impl Busy {
    fn new(ctx: &Context) -> Busy {
        Busy { until: Instant::now() + ctx.options.limits.busy_wait_max, pause: BUSY_PAUSE_FIRST }
    }

    /// Waits a little. False when there is no more time.
    async fn pause(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(BUSY_PAUSE_MAX);
        true
    }
}

impl Coordinator {
    /// Queues a commit.
    pub(crate) fn commit(
        &self,
        id: &StrBytes,
        who: &Committer<'_>,
        partitions: &[CommitPartition],
    ) -> Result<Queued, Refused> {
        let act = |slot: &Arc<Slot>, held: &mut Held, now: Moment, effects: &mut _| {
            let Committer { member_id, instance_id, generation, .. } = *who;
            held.group.check_commit(now, member_id, instance_id, generation, effects).map_err(Refused::Error)?;
            held.offsets.settle();
            let changes =
                partitions.iter().map(|part| (part.topic.clone(), part.partition, Some(part.committed.clone())));
            let changes: Vec<Change> = changes.collect();
            let count = held.offsets.count().saturating_add(changes.len());
            if count > OFFSETS_PER_GROUP_MAX || !self.0.has_room(held.offsets.growth(&changes)) {
                return Err(Refused::Error(ResponseError::InvalidCommitOffsetSize));
            }
            // Its topic may have been deleted, and another one made under its name, since it was looked up.
            if !changes.iter().all(|(topic, _, committed)| self.0.is_there(topic, committed.as_ref())) {
                return Err(Refused::Error(ResponseError::UnknownTopicOrPartition));
            }
            let ack = self.0.queue(slot, held, now, changes, false)?;
            Ok(self.queued(slot, ack))
        };
        let queued = if who.generation < 0 {
            self.with_new(id, act)?
        } else {
            let unknown =
                if who.knows_groups { ResponseError::GroupIdNotFound } else { ResponseError::IllegalGeneration };
            self.with(id, act)?.ok_or(Refused::Error(unknown))?
        };
        if queued.is_ok() {
            self.0.counters.committed();
        }
        queued
    }

    /// Lets `look` see what is committed: nothing when there is no such group.
    pub(crate) fn committed<T>(
        &self,
        id: &StrBytes,
        look: impl FnOnce(Option<&super::Offsets>) -> T,
    ) -> Result<T, Unavailable> {
        match self.find(id)? {
            Some(slot) => {
                let mut held = slot.held.lock();
                self.0.settle(&slot, &mut held);
                Ok(look(if held.is_gone { None } else { Some(&held.offsets) }))
            }
            None => Ok(look(None)),
        }
    }

    /// Deletes offsets of topics that the group does not read. The outcome for each, and what is queued.
    #[allow(clippy::type_complexity, reason = "it is taken apart at once")]
    pub(crate) fn delete_offsets(
        &self,
        id: &StrBytes,
        partitions: &[(StrBytes, i32)],
    ) -> Result<(Vec<Result<(), ResponseError>>, Option<Queued>), Refused> {
        let outcome = self.with(id, |slot, held, now, _| {
            if held.group.state() != State::Empty && !held.group.is_of_consumers() {
                return Err(Refused::Error(ResponseError::NonEmptyGroup));
            }
            let there = held.offsets.decided();
            let mut gone: Vec<(StrBytes, i32)> = Vec::new();
            let mut deleted = HashSet::new();
            let outcomes = partitions.iter().map(|(topic, partition)| {
                if held.group.is_subscribed(topic) {
                    return Err(ResponseError::GroupSubscribedToTopic);
                }
                let key = (topic.clone(), *partition);
                if there.contains_key(&key) && deleted.insert(key.clone()) {
                    gone.push(key);
                }
                Ok(())
            });
            let outcomes: Vec<_> = outcomes.collect();
            let ack = if gone.is_empty() {
                // What is gone may be so for a request whose answer is still on its way.
                held.offsets.last_queued()
            } else {
                Some(self.0.queue_gone(slot, held, now, gone, false)?)
            };
            Ok((outcomes, ack.map(|ack| self.queued(slot, ack))))
        })?;
        outcome.ok_or(Refused::Error(ResponseError::GroupIdNotFound))?
    }

    fn queued(&self, slot: &Arc<Slot>, ack: Ack) -> Queued {
        Queued { inner: self.0.clone(), slot: slot.clone(), ack }
    }

    /// Topics are gone: what groups committed for them goes too.
    pub(crate) async fn topics_deleted(&self, topics: &HashMap<StrBytes, Uuid>) {
        let Some(opened) = self.0.opened.get() else { return };
        for shard in &opened.shards {
            let slots: Vec<Arc<Slot>> = shard.groups.read().values().cloned().collect();
            for slots in slots.chunks(TURN) {
                slots.iter().for_each(|slot| self.0.drop_topics(slot, topics));
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Groups that are looked at before other tasks have their turn.
pub(super) const TURN: usize = 64;

impl Inner {
    /// Queues changes of a group's offsets as one batch, with the end of the group behind them when it ends.
    pub(super) fn queue(
        &self,
        slot: &Slot,
        held: &mut Held,
        now: Moment,
        changes: Vec<Change>,
        ends: bool,
    ) -> Result<Ack, NotQueued> {
        // Each record's key holds the group's id: a small request could ask for large records.
        if changes.iter().map(|change| slot.id.len() + change.0.len()).sum::<usize>() > OFFSETS_BATCH_BYTES_MAX {
            return Err(NotQueued::TooLarge);
        }
        let changed = changes.iter().map(|(topic, partition, committed)| {
            let key = records::offset_key(&slot.id, topic, *partition);
            (key, committed.as_ref().map(Committed::write))
        });
        let end = ends.then(|| (records::group_key(&slot.id), None));
        let batch: Vec<_> = changed.chain(end).collect();
        let ack = self.engine.ack();
        if !batch.is_empty() {
            self.append(slot, &batch, OFFSETS_BATCH_BYTES_MAX, now, &ack)?;
        }
        held.offsets.queue(ack.clone(), changes);
        Ok(ack)
    }

    /// Queues that offsets are gone, however many, with the end of the group behind them when it ends. When only some could be
    /// queued, these go all the same, as if nobody had asked for the others.
    pub(super) fn queue_gone(
        &self,
        slot: &Slot,
        held: &mut Held,
        now: Moment,
        gone: Vec<(StrBytes, i32)>,
        ends: bool,
    ) -> Result<Ack, NotQueued> {
        let mut batch: Vec<Change> = Vec::new();
        let mut size = 0;
        // That of the batch, and of the group's end.
        let room = OFFSETS_BATCH_BYTES_MAX - 256 - slot.id.len();
        for (topic, partition) in gone {
            /// What is not text in the record of an offset that is gone, at most.
            const EACH: usize = 64;
            let more = EACH + slot.id.len() + topic.len();
            if size + more > room {
                self.queue(slot, held, now, std::mem::take(&mut batch), false)?;
                size = 0;
            }
            size += more;
            batch.push((topic, partition, None));
        }
        // What is queued last is durable last, so its ack is that of all.
        self.queue(slot, held, now, batch, ends)
    }

    fn drop_topics(self: &Arc<Inner>, slot: &Arc<Slot>, topics: &HashMap<StrBytes, Uuid>) {
        let Some(mut held) = slot.lock() else { return };
        if !held.offsets.knows_any(topics) {
            return;
        }
        // Not those of another topic that has the name by now.
        let is_gone =
            |name: &StrBytes, id: Option<Uuid>| topics.get(name).is_some_and(|gone| id.is_none_or(|id| id == *gone));
        let gone = held.offsets.decided().into_iter().filter(|((name, _), id)| is_gone(name, *id));
        let gone: Vec<(StrBytes, i32)> = gone.map(|(key, _)| key).collect();
        if gone.is_empty() {
            return;
        }
        let _ = self.act(slot, &mut held, |slot, held, now, _| {
            if let Err(error) = self.queue_gone(slot, held, now, gone, false) {
                // They show no topic's records: loading leaves them out too, by the topic's id.
                tracing::warn!(group = &*slot.id, %error, "offsets of a deleted topic stay until expired ones are looked for");
            }
        });
    }
}
