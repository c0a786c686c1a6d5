//! The groups of a server: where each one is found, its lock, its records on their way, its deadline.
//!
//! Groups are spread over shards, one for each partition of `__consumer_offsets`; a shard's map is read-locked to find a group,
//! and everything else happens under that group's own lock. Nothing is awaited under either. Records are queued in the engine
//! under the group's lock, so their order is that of the decisions.

mod admin;
mod commits;
mod load;
mod members;
mod numbers;
mod retention;
mod timer;

pub(crate) use admin::Described;
pub(crate) use commits::{CommitPartition, Committer, Queued, Refused, unless_busy};

use super::OFFSETS_TOPIC;
use super::classic::{Effects, Group, Moment, Persist, Reply, Rules, Then, Ticket};
use super::java;
use super::offsets::Offsets;
use super::records::{self, Committed};
use crate::limits::{
    GROUP_BYTES_MAX, GROUP_MEMBERS_MAX, GROUP_PENDING_MAX, GROUP_RECORD_BYTES_MAX, GROUP_TEXT_BYTES_MAX,
    GROUPS_BYTES_MAX, GROUPS_MAX,
};
use crate::options::GroupOptions;
use headwater_engine::batch::{BatchBuilder, BatchError};
use headwater_engine::{Ack, AppendError, Engine, NewTopic, Partition, TimestampMs, Topic, TopicError};
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use numbers::Counters;
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use timer::Timer;
use tokio::sync::{OnceCell, oneshot};
use tokio::time::Instant;

/// Why a group cannot be asked: the protocol's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable(pub(crate) ResponseError);

/// Why records of a group are not queued.
#[derive(Debug, thiserror::Error)]
enum NotQueued {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("a batch of them cannot be made: {0}")]
    Build(#[from] BatchError),
    #[error("a batch of them would be too large")]
    TooLarge,
}

impl From<NotQueued> for Unavailable {
    fn from(error: NotQueued) -> Unavailable {
        Unavailable(match error {
            NotQueued::Append(AppendError::Busy | AppendError::DiskFull | AppendError::Deleted) => {
                ResponseError::CoordinatorNotAvailable
            }
            NotQueued::Append(
                AppendError::Stopped | AppendError::OutOfOrderSequence { .. } | AppendError::StaleProducerEpoch { .. },
            ) => ResponseError::NotCoordinator,
            NotQueued::Build(_) | NotQueued::TooLarge => ResponseError::UnknownServerError,
        })
    }
}

/// The groups of a server.
#[derive(Clone)]
pub(crate) struct Coordinator(Arc<Inner>);

struct Inner {
    engine: Engine,
    options: GroupOptions,
    rules: Rules,
    opened: OnceCell<Opened>,
    timer: Arc<Timer>,
    tickets: AtomicU64,
    /// Groups in all shards.
    groups: AtomicUsize,
    /// Bytes of memory that they take, about.
    bytes: AtomicUsize,
    counters: Counters,
}

/// What is there once `__consumer_offsets` is.
struct Opened {
    shards: Box<[Shard]>,
    /// The zero of deadlines.
    origin: Instant,
}

/// The groups of one partition.
struct Shard {
    partition: Arc<Partition>,
    loading: AtomicU8,
    groups: RwLock<HashMap<StrBytes, Arc<Slot>>>,
}

/// How far a shard has come.
const LOADING: u8 = 0;
const READY: u8 = 1;
const FAILED: u8 = 2;

/// A group's place.
struct Slot {
    id: StrBytes,
    shard: usize,
    /// The deadline that the timer knows. Changed under the lock.
    armed: AtomicU64,
    held: Mutex<Held>,
}

/// Bytes of memory that a group takes beside its members and offsets, about.
const GROUP_SIZE: usize = 512;

/// What a group's lock guards.
struct Held {
    group: Group,
    offsets: Offsets,
    waiting: HashMap<Ticket, oneshot::Sender<Reply>>,
    /// It was removed: whoever still has the slot must look again.
    is_gone: bool,
    /// The last record that nobody waits for by itself (that nobody is left, or that the group is new), or why it is not kept.
    noted: Option<Result<Ack, ResponseError>>,
    /// The bytes that it is counted with.
    bytes: usize,
}

impl Coordinator {
    /// No group is known yet: see [`Coordinator::open`].
    pub(crate) fn new(engine: Engine, options: GroupOptions) -> Coordinator {
        let rules = Rules {
            initial_delay_ms: options.initial_rebalance_delay_ms,
            members_max: options.members_max.min(GROUP_MEMBERS_MAX),
            pending_max: GROUP_PENDING_MAX,
            bytes_max: GROUP_BYTES_MAX,
        };
        Coordinator(Arc::new(Inner {
            engine,
            options,
            rules,
            opened: OnceCell::new(),
            timer: Arc::default(),
            tickets: AtomicU64::new(1),
            groups: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            counters: Counters::default(),
        }))
    }

    /// The settings that it was made with.
    pub(crate) fn options(&self) -> &GroupOptions {
        &self.0.options
    }

    /// Sees to it that `__consumer_offsets` is there, when `create` says so, and that its groups are being loaded. Says whether
    /// it is there.
    pub(crate) async fn open(&self, create: bool) -> Result<bool, Unavailable> {
        if self.0.opened.initialized() {
            return Ok(true);
        }
        if !create && self.0.engine.topic(OFFSETS_TOPIC).is_none() {
            return Ok(false);
        }
        self.0.opened.get_or_try_init(|| self.init()).await?;
        Ok(true)
    }

    async fn init(&self) -> Result<Opened, Unavailable> {
        let inner = &self.0;
        let topic = match inner.engine.topic(OFFSETS_TOPIC) {
            Some(topic) => topic,
            None => self.create_topic().await?,
        };
        let shard = |partition: &Arc<Partition>| Shard {
            partition: partition.clone(),
            // Where nothing was ever written, there is nothing to load.
            loading: AtomicU8::new(if partition.bounds().high_watermark.0 == 0 { READY } else { LOADING }),
            groups: RwLock::default(),
        };
        let shards = topic.partitions().iter().map(shard).collect();
        let opened = Opened { shards, origin: Instant::now() };
        tokio::spawn(load::run(Arc::downgrade(inner)));
        tokio::spawn(timer::run(Arc::downgrade(inner), inner.timer.clone()));
        tokio::spawn(retention::run(Arc::downgrade(inner), inner.options.retention_check_interval));
        Ok(opened)
    }

    async fn create_topic(&self) -> Result<Arc<Topic>, Unavailable> {
        let options = &self.0.options;
        let segment_bytes = options.topic_segment_bytes.to_string();
        let settings =
            [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", &segment_bytes)];
        let settings: BTreeMap<String, String> =
            settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let new = NewTopic { name: OFFSETS_TOPIC.to_owned(), partitions: options.topic_partitions, settings };
        match self.0.engine.create_topic(new).await {
            Ok(topic) => Ok(topic),
            Err(TopicError::Stopped) => Err(Unavailable(ResponseError::NotCoordinator)),
            Err(error) => {
                // Two servers of one engine may have made it at the same time.
                if let Some(topic) = self.0.engine.topic(OFFSETS_TOPIC) {
                    return Ok(topic);
                }
                tracing::error!(%error, "the topic that consumer groups are kept in cannot be made");
                Err(Unavailable(ResponseError::CoordinatorNotAvailable))
            }
        }
    }

    /// The group, if it is there. An error while its shard is not loaded.
    fn find(&self, id: &StrBytes) -> Result<Option<Arc<Slot>>, Unavailable> {
        let Some(opened) = self.0.opened.get() else { return Ok(None) };
        let (_, shard) = opened.shard_of(id)?;
        Ok(shard.groups.read().get(id).cloned())
    }

    /// The group, made if it is not there.
    fn find_or_make(&self, id: &StrBytes) -> Result<Arc<Slot>, Unavailable> {
        let opened = self.0.opened()?;
        let (index, shard) = opened.shard_of(id)?;
        if let Some(slot) = shard.groups.read().get(id) {
            return Ok(slot.clone());
        }
        if !is_keepable(id) {
            return Err(Unavailable(ResponseError::InvalidGroupId));
        }
        if self.0.groups.load(Ordering::Relaxed) >= GROUPS_MAX || !self.0.has_room(GROUP_SIZE + id.len()) {
            return Err(Unavailable(ResponseError::PolicyViolation));
        }
        let mut groups = shard.groups.write();
        let slot = groups.entry(own(id)).or_insert_with_key(|id| {
            self.0.groups.fetch_add(1, Ordering::Relaxed);
            Arc::new(Slot::new(id.clone(), index, Group::new(self.0.now(opened)), Offsets::default()))
        });
        Ok(slot.clone())
    }

    /// Runs `act` on a group under its lock, and does what it leads to. None when there is no such group.
    fn with<T>(
        &self,
        id: &StrBytes,
        act: impl FnOnce(&Arc<Slot>, &mut Held, Moment, &mut Effects) -> T,
    ) -> Result<Option<T>, Unavailable> {
        loop {
            let Some(slot) = self.find(id)? else { return Ok(None) };
            let Some(mut held) = slot.lock() else { continue };
            return self.0.act(&slot, &mut held, act).map(Some);
        }
    }

    /// The same on a group that is made if it is not there.
    fn with_new<T>(
        &self,
        id: &StrBytes,
        act: impl FnOnce(&Arc<Slot>, &mut Held, Moment, &mut Effects) -> T,
    ) -> Result<T, Unavailable> {
        loop {
            let slot = self.find_or_make(id)?;
            let Some(mut held) = slot.lock() else { continue };
            return self.0.act(&slot, &mut held, act);
        }
    }
}

impl Opened {
    fn shard_of(&self, id: &StrBytes) -> Result<(usize, &Shard), Unavailable> {
        let index = java::partition_of(id, self.shards.len());
        let shard = self.shards.get(index).ok_or(Unavailable(ResponseError::CoordinatorNotAvailable))?;
        match shard.loading.load(Ordering::Acquire) {
            READY => Ok((index, shard)),
            FAILED => Err(Unavailable(ResponseError::CoordinatorNotAvailable)),
            _ => Err(Unavailable(ResponseError::CoordinatorLoadInProgress)),
        }
    }
}

impl Slot {
    fn new(id: StrBytes, shard: usize, group: Group, offsets: Offsets) -> Slot {
        let held = Held { group, offsets, waiting: HashMap::new(), is_gone: false, noted: None, bytes: 0 };
        Slot { id, shard, armed: AtomicU64::new(u64::MAX), held: Mutex::new(held) }
    }

    /// Its lock; none when the group was removed.
    fn lock(&self) -> Option<MutexGuard<'_, Held>> {
        let held = self.held.lock();
        if held.is_gone { None } else { Some(held) }
    }
}

impl Inner {
    fn opened(&self) -> Result<&Opened, Unavailable> {
        self.opened.get().ok_or(Unavailable(ResponseError::CoordinatorNotAvailable))
    }

    fn now(&self, opened: &Opened) -> Moment {
        let ms = Instant::now().saturating_duration_since(opened.origin).as_millis();
        Moment { ms: u64::try_from(ms).unwrap_or(u64::MAX), wall: self.engine.clock().wall().0 }
    }

    fn ticket(&self) -> Ticket {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    fn act<T>(
        self: &Arc<Inner>,
        slot: &Arc<Slot>,
        held: &mut Held,
        act: impl FnOnce(&Arc<Slot>, &mut Held, Moment, &mut Effects) -> T,
    ) -> Result<T, Unavailable> {
        let now = self.now(self.opened()?);
        let mut effects = Effects::default();
        let outcome = act(slot, held, now, &mut effects);
        self.carry_out(slot, held, now, effects);
        Ok(outcome)
    }

    /// Does what an input to the machine leads to.
    fn carry_out(self: &Arc<Inner>, slot: &Arc<Slot>, held: &mut Held, now: Moment, mut effects: Effects) {
        loop {
            for (ticket, reply) in effects.replies.drain(..) {
                if let Some(waiting) = held.waiting.remove(&ticket) {
                    // Whoever waited may have gone.
                    let _ = waiting.send(reply);
                }
            }
            self.counters.count(&effects);
            if let Some(due) = effects.due {
                self.arm(slot, due);
            }
            let mut further = Effects::default();
            for persist in effects.persist {
                self.persist(slot, held, now, persist, &mut further);
            }
            // What is due at once, like an initial delay of nothing, need not wait for the timer.
            if effects.due.is_some_and(|due| due <= now.ms) {
                held.group.expire(now, &self.rules, &mut further);
            }
            if further == Effects::default() {
                break;
            }
            effects = further;
        }
        self.recount(slot, held);
    }

    /// Counts anew what a group takes.
    fn recount(&self, slot: &Slot, held: &mut Held) {
        if held.is_gone {
            return;
        }
        let bytes = GROUP_SIZE + slot.id.len() + held.group.bytes() + held.offsets.bytes();
        let before = std::mem::replace(&mut held.bytes, bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    /// Whether groups may take so many bytes more.
    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= GROUPS_BYTES_MAX
    }

    /// Shows what has become durable of a group's offsets.
    fn settle(&self, slot: &Slot, held: &mut Held) {
        held.offsets.settle();
        self.recount(slot, held);
    }

    fn arm(&self, slot: &Arc<Slot>, at: u64) {
        if at < slot.armed.load(Ordering::Relaxed) {
            slot.armed.store(at, Ordering::Relaxed);
            self.timer.set(at, slot);
        }
    }

    /// Queues a group's record; what goes on once it is kept goes on in a task of its own, whoever asked for it.
    fn persist(
        self: &Arc<Inner>,
        slot: &Arc<Slot>,
        held: &mut Held,
        now: Moment,
        persist: Persist,
        effects: &mut Effects,
    ) {
        let Persist { record, then } = persist;
        let value = record.write();
        let ack = self.engine.ack();
        let record = [(records::group_key(&slot.id), Some(value))];
        let queued = self.append(slot, &record, GROUP_RECORD_BYTES_MAX, now, &ack).map_err(Unavailable::from);
        match (queued, then) {
            (Ok(()), None) => held.noted = Some(Ok(ack)),
            (Ok(()), Some(then)) => {
                tokio::spawn(persisted(Arc::downgrade(self), slot.clone(), then, ack));
            }
            (Err(Unavailable(error)), None) => {
                tracing::warn!(group = &*slot.id, ?error, "that a group is new or empty could not be kept");
                held.noted = Some(Err(error));
            }
            (Err(Unavailable(error)), Some(then)) => {
                held.group.persisted(now, &self.rules, then, Err(error), effects);
            }
        }
    }

    /// Queues records of a group as one batch of at most `bytes_max`; `max.message.bytes` of the topic is for clients.
    fn append(
        &self,
        slot: &Slot,
        records: &[(Vec<u8>, Option<Vec<u8>>)],
        bytes_max: usize,
        now: Moment,
        ack: &Ack,
    ) -> Result<(), NotQueued> {
        let shard = self.opened.get().and_then(|opened| opened.shards.get(slot.shard)).ok_or(AppendError::Stopped)?;
        let mut batch = BatchBuilder::new();
        for (key, value) in records {
            batch.push(TimestampMs(now.wall), Some(key), value.as_deref(), &[])?;
        }
        if batch.size() > bytes_max {
            return Err(NotQueued::TooLarge);
        }
        shard.partition.append(&batch.build()?, ack)?;
        Ok(())
    }

    /// Whether the topic that an offset was committed for is still there.
    fn is_there(&self, topic: &str, committed: Option<&Committed>) -> bool {
        committed.is_none_or(|committed| self.engine.topic(topic).is_some_and(|topic| committed.is_of(&topic)))
    }

    /// Takes a group off the list. Its lock is held.
    fn forget(&self, slot: &Slot, held: &mut Held) {
        held.is_gone = true;
        self.bytes.fetch_sub(std::mem::take(&mut held.bytes), Ordering::Relaxed);
        if let Some(shard) = self.opened.get().and_then(|opened| opened.shards.get(slot.shard))
            && shard.groups.write().remove(&slot.id).is_some()
        {
            self.groups.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.timer.wake();
    }
}

/// Waits until a group's record is kept, and goes on.
async fn persisted(inner: Weak<Inner>, slot: Arc<Slot>, then: Then, ack: Ack) {
    let kept = ack.wait().await.map_err(|_| ResponseError::NotCoordinator);
    let Some(inner) = inner.upgrade() else { return };
    let Some(mut held) = slot.lock() else { return };
    // Nobody is left to be told when there is nothing open.
    let _ = inner.act(&slot, &mut held, |_, held, now, effects| {
        held.group.persisted(now, &inner.rules, then, kept, effects);
    });
}

/// Whether a text fits a record.
fn is_keepable(text: &str) -> bool {
    text.len() <= GROUP_TEXT_BYTES_MAX
}

/// A text in the form that answers take.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The same text in memory of its own: a part of a request would hold all of it.
pub(crate) fn own(shared: &StrBytes) -> StrBytes {
    text(shared)
}
