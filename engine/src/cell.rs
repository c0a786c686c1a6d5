//! A cell: one WAL, its committer and the partitions that share it. There is exactly one today; in a cluster it is what a
//! node owns.
//!
//! [`Shared`] is what a partition needs of its cell. [`Cell`] adds the catalogue and what committer and background share.

use crate::commit::{Append, Capture, Command, DirtySet, Fatal, Queue, Space};
use crate::engine::Options;
use crate::env::Env;
use crate::ids::{Epoch, Sequence, TopicId};
use crate::partition::Sealed;
use crate::segment::files::{FileTable, SegmentFile};
use crate::segment::loads::Loads;
use crate::stats::Stats;
use crate::topic::Catalogue;
use crate::wake::Wakers;
use crate::wal::ring::SlotFile;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

/// Ranges of files that wait for write-back at most; more are left to the kernel.
const WRITE_BACK_MAX: usize = 1024;
/// Places of damage that are remembered, and so reported once each. After that many nobody needs another.
const DAMAGE_MAX: usize = 10_000;

/// What partitions need of their cell.
pub struct Shared {
    pub env: Env,
    pub options: Options,
    pub files: FileTable,
    pub stats: Stats,
    pub queue: Queue,
    pub space: Space,
    pub loads: Loads,
    pub wakers: Arc<Wakers>,
    /// This run's number; every start takes a new one.
    pub incarnation: u64,
    /// The epoch that a partition takes over at its first append in this run.
    pub epoch: Epoch,
    pub data_id: TopicId,
    /// The next segment file's id. It carries the incarnation above bit 40, so that no id is used twice even when the
    /// roll that took it was lost.
    pub next_file: AtomicU64,
    /// What was reported of damage.
    pub damage: Mutex<BTreeSet<String>>,
}

impl Shared {
    /// A random id, never all zeros or all but the last bit zeros (which clients give a meaning), and never one whose text
    /// form would start with a dash.
    pub fn random_id(&self) -> TopicId {
        random_id(&self.env)
    }

    /// Stored bytes are damaged: says so to whoever runs the server, once, however often clients ask for them.
    pub fn report_damage(&self, what: &str) {
        let mut known = self.damage.lock();
        if known.len() >= DAMAGE_MAX || !known.insert(what.to_owned()) {
            return;
        }
        drop(known);
        self.stats.damage.fetch_add(1, Ordering::Relaxed);
        tracing::error!("stored data is damaged: {what}");
    }
}

/// See [`Shared::random_id`].
pub fn random_id(env: &Env) -> TopicId {
    loop {
        let mut id = [0; 16];
        env.rng.fill(&mut id);
        // A version 4 UUID, as clients expect to print one.
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        // In URL-safe base64 a first byte of 62 or 63 quarters would begin with '-' or '_'.
        if id[0] >> 2 < 62 {
            return TopicId(id);
        }
    }
}

/// See the module.
pub struct Cell {
    pub shared: Arc<Shared>,
    pub catalogue: Catalogue,
    pub dirty: Mutex<DirtySet>,
    /// Someone wants a capture; the committer looks at every step.
    pub capture_wanted: AtomicBool,
    capture: Mutex<Option<Capture>>,
    captured: Condvar,
    /// Everything up to this block is in a durable checkpoint.
    checkpointed: AtomicU64,
    recycled: Condvar,
    recycle_lock: Mutex<()>,
    slot_wanted: AtomicU64,
    /// The last published block when a block found no place; 0 when blocks find theirs.
    blocked_at: AtomicU64,
    new_slots: Mutex<Vec<SlotFile>>,
    pub sealed: Mutex<Vec<Sealed>>,
    pub write_back: Mutex<Vec<(Arc<SegmentFile>, Range<u64>)>>,
    /// The last block whose commands are visible.
    published: AtomicU64,
    /// Bytes of blocks written since the start.
    wal_written: AtomicU64,
    /// Some background thread has seen nothing written for a while: the next block wakes it.
    is_quiet: AtomicBool,
    work: Condvar,
    work_lock: Mutex<()>,
    is_draining: AtomicBool,
    is_closing: AtomicBool,
    failure: Mutex<Option<String>>,
    #[allow(clippy::type_complexity, reason = "callbacks, named by their method")]
    on_failure: Mutex<Vec<Box<dyn FnOnce(&str) + Send>>>,
}

impl Cell {
    pub fn new(shared: Arc<Shared>, checkpointed: Sequence) -> Cell {
        Cell {
            shared,
            catalogue: Catalogue::default(),
            dirty: Mutex::default(),
            capture_wanted: AtomicBool::new(false),
            capture: Mutex::default(),
            captured: Condvar::new(),
            checkpointed: AtomicU64::new(checkpointed.0),
            recycled: Condvar::new(),
            recycle_lock: Mutex::default(),
            slot_wanted: AtomicU64::new(0),
            blocked_at: AtomicU64::new(0),
            new_slots: Mutex::default(),
            sealed: Mutex::default(),
            write_back: Mutex::default(),
            published: AtomicU64::new(checkpointed.0),
            wal_written: AtomicU64::new(0),
            is_quiet: AtomicBool::new(false),
            work: Condvar::new(),
            work_lock: Mutex::default(),
            is_draining: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            failure: Mutex::default(),
            on_failure: Mutex::default(),
        }
    }

    /// A command is durable: makes it visible. The tasks to wake go onto `wake`.
    pub fn apply(&self, command: Command, sequence: Sequence, wake: &mut Vec<Waker>) -> Result<(), Fatal> {
        let mut dirty = self.dirty.lock();
        match command {
            Command::Barrier => {}
            Command::Append(append) => self.apply_append(&append, &mut dirty, wake)?,
            Command::Roll { partition, file, base } => {
                let mut published = partition.published();
                dirty.partition(&partition, &mut published.is_dirty);
                if let Some(sealed) = published.roll(file, base, sequence) {
                    if let (Some(file), true) = (self.shared.files.at_hand(sealed.file), sealed.index.is_complete()) {
                        file.set_index(Arc::new(sealed.index.clone()));
                    }
                    self.sealed.lock().push(sealed);
                }
            }
            Command::LogStart { partition, offset } => {
                let mut published = partition.published();
                dirty.partition(&partition, &mut published.is_dirty);
                let files = published.advance_log_start(offset);
                // Who waits for many bytes goes on waiting; who waits for anything at all is woken, and whoever looks next shall see it.
                published.notify(0, wake);
                dirty.garbage(sequence, files);
            }
            Command::CreateTopic { topic, record } => {
                dirty.topic(topic.id(), Some(topic.clone()));
                dirty.next_partition = dirty.next_partition.max(record.first.0 + u64::from(record.count));
                // Partitions without records need no place in a checkpoint: the topic's record says all about them.
                self.catalogue.publish(&topic);
            }
            Command::AddPartitions { topic, added, first, epoch: _ } => {
                dirty.topic(topic.id(), Some(topic.clone()));
                dirty.next_partition = dirty.next_partition.max(first.0 + added.len() as u64);
                for partition in &added {
                    dirty.partition(partition, &mut partition.published().is_dirty);
                }
                topic.add_partitions(&added);
            }
            Command::DeleteTopic { topic } => {
                dirty.topic(topic.id(), None);
                self.catalogue.retract(&topic);
                for partition in topic.partitions().iter() {
                    let mut published = partition.published();
                    dirty.partition(partition, &mut published.is_dirty);
                    let files = published.delete();
                    published.notify(0, wake);
                    dirty.garbage(sequence, files);
                }
            }
            Command::ProducerIds { next } => dirty.producer_ids(next),
            Command::AlterTopic { topic, settings } => {
                dirty.topic(topic.id(), Some(topic.clone()));
                topic.set_settings(settings);
            }
            Command::Swap { partition, swap } => {
                let mut published = partition.published();
                dirty.partition(&partition, &mut published.is_dirty);
                let files = published.swap(&swap);
                dirty.garbage(sequence, files);
            }
        }
        Ok(())
    }

    fn apply_append(&self, append: &Append, dirty: &mut DirtySet, wake: &mut Vec<Waker>) -> Result<(), Fatal> {
        let Append { partition, header, file, position, time, .. } = append;
        let mut published = partition.published();
        dirty.partition(partition, &mut published.is_dirty);
        let producers_max = self.shared.options.producers_max;
        published
            .append(header, *file, *position, *time, producers_max)
            .map_err(|why| Fatal(format!("partition {} contradicts its log: {why}", partition.id())))?;
        published.notify(header.size as u64, wake);
        self.shared.stats.appended(header.size as u64, header.record_count);
        Ok(())
    }

    /// Everything up to this block is visible.
    pub fn note_published(&self, sequence: Sequence) {
        self.published.store(sequence.0, Ordering::Relaxed);
    }

    pub fn published(&self) -> Sequence {
        Sequence(self.published.load(Ordering::Relaxed))
    }

    pub fn checkpointed(&self) -> Sequence {
        Sequence(self.checkpointed.load(Ordering::Acquire))
    }

    /// A checkpoint through `sequence` is durable: WAL space below it is free.
    pub fn set_checkpointed(&self, sequence: Sequence) {
        self.checkpointed.store(sequence.0, Ordering::Release);
        let _guard = self.recycle_lock.lock();
        self.recycled.notify_all();
    }

    /// The committer waits here while the WAL is full.
    pub fn wait_for_recycling(&self, at_most: Duration) {
        self.recycled.wait_for(&mut self.recycle_lock.lock(), at_most);
    }

    /// The committer needs a slot that holds a block of this size, new or recycled.
    pub fn want_slot(&self, size: u64, published: Sequence) {
        self.slot_wanted.fetch_max(size, Ordering::Relaxed);
        self.blocked_at.store(published.0, Ordering::Release);
        let _guard = self.work_lock.lock();
        self.work.notify_all();
    }

    /// Background threads rest here until someone needs them, or the engine closes.
    pub fn wait_for_work(&self, at_most: Duration) {
        let mut guard = self.work_lock.lock();
        if !self.is_closing() {
            self.work.wait_for(&mut guard, at_most);
        }
    }

    /// Bytes of blocks written since the start.
    pub fn written(&self) -> u64 {
        self.wal_written.load(Ordering::SeqCst)
    }

    /// A block of this size is written.
    pub fn note_written(&self, size: u64) {
        self.wal_written.fetch_add(size, Ordering::SeqCst);
        if self.is_quiet.load(Ordering::SeqCst) && self.is_quiet.swap(false, Ordering::SeqCst) {
            let _guard = self.work_lock.lock();
            self.work.notify_all();
        }
    }

    /// Background threads rest here between two looks: for `busy` while blocks are written, for `quiet` when none was since `seen`; the next one wakes them
    /// then, as does whoever needs them.
    pub fn rest(&self, seen: &mut u64, busy: Duration, quiet: Duration) {
        let mut guard = self.work_lock.lock();
        if self.is_closing() {
            return;
        }
        let written = self.written();
        let mut at_most = busy;
        if std::mem::replace(seen, written) == written {
            self.is_quiet.store(true, Ordering::SeqCst);
            // A block that came before the flag was up rings for nobody.
            if self.written() == written {
                at_most = quiet;
            }
        }
        self.work.wait_for(&mut guard, at_most);
    }

    /// The committer has found a place.
    pub fn note_placed(&self) {
        self.blocked_at.store(0, Ordering::Release);
    }

    /// Whether the committer waits for a place that a checkpoint could free, be it that the checkpoint says nothing new.
    pub fn is_blocked(&self) -> bool {
        self.blocked_at.load(Ordering::Acquire) > self.checkpointed().0
    }

    /// The size of the block that finds no place, once.
    pub fn take_wanted_slot(&self) -> Option<u64> {
        Some(self.slot_wanted.swap(0, Ordering::Relaxed)).filter(|size| *size > 0)
    }

    pub fn give_slot(&self, slot: SlotFile) {
        self.new_slots.lock().push(slot);
        let _guard = self.recycle_lock.lock();
        self.recycled.notify_all();
    }

    pub fn take_new_slots(&self) -> Vec<SlotFile> {
        std::mem::take(&mut self.new_slots.lock())
    }

    pub fn note_wal_usage(&self, total: u64, used: u64) {
        self.shared.stats.wal_size.store(total, Ordering::Relaxed);
        self.shared.stats.wal_used.store(used, Ordering::Relaxed);
    }

    pub fn give_capture(&self, capture: Capture) {
        self.capture_wanted.store(false, Ordering::Release);
        *self.capture.lock() = Some(capture);
        self.captured.notify_all();
    }

    pub fn take_capture(&self) -> Option<Capture> {
        self.capture.lock().take()
    }

    /// Waits for a capture that was asked for.
    pub fn wait_for_capture(&self, at_most: Duration) -> Option<Capture> {
        self.shared.queue.nudge();
        let mut capture = self.capture.lock();
        if capture.is_none() {
            self.captured.wait_for(&mut capture, at_most);
        }
        capture.take()
    }

    /// Hands a dirty range to the background.
    pub fn write_back(&self, file: &Arc<SegmentFile>, range: Range<u64>) {
        let mut waiting = self.write_back.lock();
        if waiting.len() < WRITE_BACK_MAX {
            waiting.push((file.clone(), range));
        }
    }

    /// The last checkpoint is due; the committer goes on until `close`.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire) || self.is_closing()
    }

    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.shared.queue.nudge();
        self.shared.files.pieces().ring();
        // Whoever is about to rest has seen it, or is resting when this is heard.
        let _guard = self.work_lock.lock();
        self.work.notify_all();
    }

    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Stops for good. Only the first failure counts.
    pub fn fail(&self, fatal: &Fatal) {
        {
            let mut failure = self.failure.lock();
            if failure.is_some() {
                return;
            }
            *failure = Some(fatal.0.clone());
        }
        tracing::error!("the engine stops: {fatal}");
        self.close();
        for tell in std::mem::take(&mut *self.on_failure.lock()) {
            tell(&fatal.0);
        }
    }

    pub fn on_failure(&self, tell: Box<dyn FnOnce(&str) + Send>) {
        match self.failure() {
            Some(why) => tell(&why),
            None => self.on_failure.lock().push(tell),
        }
    }
}
