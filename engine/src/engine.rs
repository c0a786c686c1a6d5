//! The engine as heads and the server see it.

use crate::ack::Stopped;
use crate::ack::{Ack, Pending};
use crate::background::Background;
use crate::cell::Cell;
use crate::checkpoint::{Checkpointer, Progress};
use crate::commit::{Committer, Fatal, Step};
use crate::compaction::Compactor;
use crate::env::{self, Clock, DirLock, Env, WalMethod};
use crate::ids::{Epoch, ProducerId, Sequence, TopicId};
use crate::offload::{Offload, Offloaded};
use crate::partition::ColdRead;
use crate::recovery::{OpenError, recover};
pub use crate::segment::gather::Bounds as GatherBounds;
use crate::settings::{Durability, Settings};
use crate::stats::StatsSnapshot;
use crate::topic::{NewTopic, Topic, TopicError};
use crate::wake::WakeTogether;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// How an engine is opened. Every bound has a default.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything lies.
    pub data_dir: PathBuf,
    /// What an acknowledgement promises where the topic does not say.
    pub durability: Durability,
    /// How WAL blocks reach the medium.
    pub wal_method: WalMethod,
    /// Bytes of the WAL at the first start, in two slots.
    pub wal_size_initial: u64,
    /// Bytes that the WAL may grow to.
    pub wal_size_max: u64,
    /// A checkpoint is made after this many WAL bytes at the latest ...
    pub checkpoint_bytes: u64,
    /// ... and after this time, when anything changed.
    pub checkpoint_interval: Duration,
    /// Commands that may wait for the committer.
    pub queued_commands_max: usize,
    /// Bytes of batches that may wait for the committer.
    pub queued_bytes_max: usize,
    /// Free bytes below which producers are refused.
    pub disk_reserve_bytes: u64,
    /// Idempotent producers that a partition remembers.
    pub producers_max: usize,
    /// How long a silent producer is remembered.
    pub producer_expiry_ms: i64,
    /// Segment files kept open.
    pub open_files_max: usize,
    /// What bounds gathering: see `segment/gather.rs`.
    pub gathers: GatherBounds,
    /// Partitions in all.
    pub partitions_max: usize,
    /// Threads that read what is not in memory.
    pub replay_threads: usize,
    /// Time between two retention passes.
    pub retention_interval: Duration,
    /// Time between two looks for partitions to compact, while there are none.
    pub compaction_interval: Duration,
    /// Memory for the keys of one pass of compaction: 24 bytes each, and room between them. When it is full, the pass ends
    /// there and another goes on.
    pub compaction_map_bytes_max: usize,
    /// Bytes per second that the scrub reads; 0 turns it off.
    pub scrub_bytes_per_second: u64,
    /// Settings of topics that do not set them.
    pub topic_defaults: Settings,
}

impl Options {
    /// The defaults, for a data folder.
    pub fn new(data_dir: PathBuf) -> Options {
        Options {
            data_dir,
            durability: Durability::Fsync,
            wal_method: WalMethod::Auto,
            wal_size_initial: 8 << 20,
            wal_size_max: 1 << 30,
            checkpoint_bytes: 128 << 20,
            checkpoint_interval: Duration::from_secs(10),
            queued_commands_max: 64 << 10,
            queued_bytes_max: 64 << 20,
            disk_reserve_bytes: 256 << 20,
            producers_max: 10_000,
            producer_expiry_ms: 24 * 3600 * 1000,
            open_files_max: 4096,
            gathers: GatherBounds {
                piece: 256 << 10,
                files: 256,
                waiting: 16 << 20,
                readers_stay: Duration::from_secs(600),
            },
            partitions_max: 200_000,
            replay_threads: 4,
            retention_interval: Duration::from_secs(60),
            compaction_interval: Duration::from_secs(15),
            compaction_map_bytes_max: 64 << 20,
            scrub_bytes_per_second: 8 << 20,
            topic_defaults: Settings::default(),
        }
    }

    /// Bytes of a slot at the first start.
    pub(crate) fn wal_slot_bytes(&self) -> u64 {
        (self.wal_size_initial / 2).max(64 << 10)
    }

    /// Bytes of a slot that is added later.
    pub(crate) fn wal_slot_bytes_max(&self) -> u64 {
        (self.wal_size_max / 16).max(self.wal_slot_bytes())
    }
}

/// What runs on threads of its own once the engine is started.
struct Parts {
    committer: Committer,
    checkpointer: Checkpointer,
    background: Background,
    compactor: Compactor,
}

struct Inner {
    cell: Arc<Cell>,
    offload: Offload,
    parts: Mutex<Option<Parts>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    replayed: u64,
    _lock: Box<dyn DirLock>,
}

/// A durable log of topics. Clones are handles on the same one.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

impl Engine {
    /// Opens a data folder and recovers what is in it. Nothing moves until [`Engine::start`] or [`Engine::drive`].
    pub fn open(env: Env, options: Options) -> Result<Engine, OpenError> {
        Engine::open_with(env, options, false).map(|(engine, _)| engine)
    }

    /// Opens a data folder that is damaged, cutting the log where the damage begins. Says what was cut.
    pub fn repair(env: Env, options: Options) -> Result<(Engine, Option<String>), OpenError> {
        Engine::open_with(env, options, true)
    }

    fn open_with(env: Env, mut options: Options, repair: bool) -> Result<(Engine, Option<String>), OpenError> {
        options.topic_defaults.durability.get_or_insert(options.durability);
        let recovered = recover(env, options, repair)?;
        let cell = recovered.cell;
        let refreshed = cell.shared.space.refresh(&*cell.shared.env.disk, 0);
        refreshed.map_err(|error| OpenError::Io { doing: "asking for free space".to_owned(), error })?;
        tracing::info!(
            device = recovered.device.name(),
            replayed_blocks = recovered.replayed,
            epoch = cell.shared.epoch.0,
            "the data folder is open"
        );
        let parts = Parts {
            committer: Committer::new(cell.clone(), recovered.receiver, recovered.device, recovered.resume),
            checkpointer: Checkpointer::new(cell.clone(), recovered.store),
            background: Background::new(cell.clone(), &recovered.slots),
            compactor: Compactor::new(cell.clone()),
        };
        let inner = Inner {
            cell,
            offload: Offload::default(),
            parts: Mutex::new(Some(parts)),
            threads: Mutex::default(),
            replayed: recovered.replayed,
            _lock: recovered.lock,
        };
        Ok((Engine(Arc::new(inner)), recovered.repaired))
    }

    /// Starts the threads: committer, checkpoints, background, compaction, replay.
    pub fn start(&self) -> io::Result<()> {
        let Some(parts) = self.0.parts.lock().take() else { return Ok(()) };
        let Parts { committer, checkpointer, background, compactor } = parts;
        let cell = &self.0.cell;
        let mut threads = self.0.threads.lock();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(run)?);
            Ok::<(), io::Error>(())
        };
        spawn("committer", Box::new(move || committer.run()))?;
        let checkpoint_cell = cell.clone();
        spawn("checkpoint", Box::new(move || run_checkpoints(&checkpoint_cell, checkpointer)))?;
        let background_cell = cell.clone();
        spawn("background", Box::new(move || run_background(&background_cell, background)))?;
        let pieces_cell = cell.clone();
        spawn("pieces", Box::new(move || run_pieces(&pieces_cell)))?;
        let compaction_cell = cell.clone();
        spawn("compaction", Box::new(move || run_compaction(&compaction_cell, compactor)))?;
        let replay_threads = cell.shared.options.replay_threads.max(1);
        for number in 0..replay_threads {
            let (offload, cell) = (self.0.offload.clone(), cell.clone());
            let run = move || {
                // One is always free for what somebody waits for.
                while !cell.is_closing() && offload.work(replay_threads - 1) {}
                offload.close();
            };
            spawn(&format!("replay-{number}"), Box::new(run))?;
        }
        Ok(())
    }

    /// The moving parts, to be moved by hand instead of by threads: for simulation. None once they were taken.
    pub fn drive(&self) -> Option<Drive> {
        let Parts { committer, checkpointer, background, compactor } = self.0.parts.lock().take()?;
        Some(Drive { cell: self.0.cell.clone(), committer, checkpointer, background, compactor })
    }

    /// Makes everything durable, writes a last checkpoint and ends the threads. Whoever still appends is refused.
    pub fn shut_down(&self) -> Result<(), Stopped> {
        let cell = &self.0.cell;
        if let Some(mut drive) = self.drive() {
            let settled = drive.settle();
            cell.close();
            return settled.map_err(|_| Stopped);
        }
        let ack = Ack::default();
        let pushed = cell.shared.queue.push(crate::commit::Command::Barrier, Some(&ack));
        let drained = pushed.map_err(|_| Stopped).and_then(|()| ack.wait_blocking());
        let threads: Vec<_> = self.0.threads.lock().drain(..).collect();
        // The last checkpoint needs the committer: that one ends after it.
        cell.drain();
        let is_checkpoint = |thread: &JoinHandle<()>| thread.thread().name() == Some("checkpoint");
        let (checkpoint, others): (Vec<_>, Vec<_>) = threads.into_iter().partition(is_checkpoint);
        for thread in checkpoint {
            let _ = thread.join();
        }
        cell.close();
        self.0.offload.close();
        for thread in others {
            let _ = thread.join();
        }
        drained.and_then(|()| if cell.failure().is_some() { Err(Stopped) } else { Ok(()) })
    }

    /// Why the engine stopped, if it did.
    pub fn failure(&self) -> Option<String> {
        self.0.cell.failure()
    }

    /// Calls `tell` with the reason when the engine stops, from the thread that failed.
    pub fn on_failure(&self, tell: Box<dyn FnOnce(&str) + Send>) {
        self.0.cell.on_failure(tell);
    }

    /// The epoch that partitions take over at their first append in this run.
    pub fn node_epoch(&self) -> Epoch {
        self.0.cell.shared.epoch
    }

    /// An id made with the data folder.
    pub fn data_id(&self) -> TopicId {
        self.0.cell.shared.data_id
    }

    /// The last block of the log whose changes are visible.
    pub fn last_block(&self) -> Sequence {
        self.0.cell.published()
    }

    /// Where everything lies.
    pub fn data_dir(&self) -> &Path {
        &self.0.cell.shared.options.data_dir
    }

    /// Bytes of the filesystem that the data folder lies on: in all, and free. Asks the system, so not for a socket thread.
    pub fn filesystem_bytes(&self) -> io::Result<(u64, u64)> {
        let disk = &self.0.cell.shared.env.disk;
        Ok((disk.total_bytes()?, disk.free_bytes()?))
    }

    /// WAL blocks that opening replayed.
    pub fn replayed_blocks(&self) -> u64 {
        self.0.replayed
    }

    /// The engine's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.cell.shared.env.clock
    }

    /// Settings of topics that do not set them.
    pub fn topic_defaults(&self) -> &Settings {
        &self.0.cell.shared.options.topic_defaults
    }

    /// A topic, once its creation is durable.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.0.cell.catalogue.topic(name)
    }

    /// A topic, once its creation is durable.
    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.0.cell.catalogue.topic_by_id(id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.0.cell.catalogue.topics()
    }

    /// Partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.0.cell.catalogue.partition_count()
    }

    /// Creates a topic.
    pub fn create_topic(&self, new: NewTopic) -> Pending<Result<Arc<Topic>, TopicError>> {
        self.0.cell.catalogue.create(&self.0.cell.shared, new)
    }

    /// Says what creating the topic would say, and creates nothing.
    pub fn check_new_topic(&self, new: &NewTopic) -> Pending<Result<(), TopicError>> {
        self.0.cell.catalogue.check_new(&self.0.cell.shared, new)
    }

    /// Deletes a topic and its records.
    pub fn delete_topic(&self, id: TopicId) -> Pending<Result<(), TopicError>> {
        self.0.cell.catalogue.delete(&self.0.cell.shared, id)
    }

    /// Gives a topic more partitions: `total` in all.
    pub fn add_partitions(&self, id: TopicId, total: u32) -> Pending<Result<(), TopicError>> {
        self.0.cell.catalogue.add_partitions(&self.0.cell.shared, id, total)
    }

    /// Gives a topic the settings that `change` makes of those that are set explicitly. `change` must be quick: no other
    /// change of a topic is decided meanwhile. What it refuses is answered like the rest, once what it saw is durable.
    pub fn alter_topic<E: From<TopicError>>(
        &self,
        id: TopicId,
        change: impl FnOnce(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, E>,
    ) -> Pending<Result<(), E>> {
        self.0.cell.catalogue.alter(&self.0.cell.shared, id, change, false)
    }

    /// Says what altering the topic would say, and alters nothing.
    pub fn check_altered_topic<E: From<TopicError>>(
        &self,
        id: TopicId,
        change: impl FnOnce(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, E>,
    ) -> Pending<Result<(), E>> {
        self.0.cell.catalogue.alter(&self.0.cell.shared, id, change, true)
    }

    /// A producer id that nobody else has or will have.
    pub fn new_producer_id(&self) -> Pending<Result<ProducerId, TopicError>> {
        self.0.cell.catalogue.new_producer(&self.0.cell.shared)
    }

    /// A random number from the machine, for ids that nobody shall guess or meet twice.
    pub fn random(&self) -> u128 {
        let mut bytes = [0; 16];
        self.0.cell.shared.env.rng.fill(&mut bytes);
        u128::from_be_bytes(bytes)
    }

    /// An ack to register appends with.
    pub fn ack(&self) -> Ack {
        Ack::default()
    }

    /// Wakes the tasks of a runtime together: see [`WakeTogether`]. Tasks of other runtimes wait for this one too, so it is for an engine that serves one.
    pub fn wake_together(&self) -> WakeTogether {
        WakeTogether::new(self.0.cell.shared.wakers.clone())
    }

    /// Runs work that may wait for the medium on a replay thread; at once when the engine is driven by hand.
    pub fn offload<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Offloaded<T> {
        let offloaded = self.0.offload.run(work);
        if self.0.threads.lock().is_empty() {
            self.0.offload.work_off();
        }
        offloaded
    }

    /// Whether something may be read before somebody asks for it. Not beside synced appends, not with one replay thread alone, nor when the engine is
    /// driven by hand.
    pub fn may_read_ahead(&self) -> bool {
        let shared = &self.0.cell.shared;
        let is_beside_appends = shared.loads.is_beside_appends(shared.env.clock.monotonic());
        !is_beside_appends && shared.options.replay_threads > 1 && !self.0.threads.lock().is_empty()
    }

    /// Reads what somebody will probably ask for next, when replay threads have nothing else to do and while `is_wanted`. False when too much
    /// is to be read so already.
    pub fn read_ahead(&self, read: ColdRead, is_wanted: impl Fn() -> bool + Send + 'static) -> bool {
        let offload = self.0.offload.clone();
        let goes_on = move || is_wanted() && !offload.is_asked();
        self.0.offload.run_spare(read.at_most(), move || read.read_ahead(goes_on))
    }

    /// The engine's numbers.
    pub fn stats(&self) -> StatsSnapshot {
        let shared = &self.0.cell.shared;
        let stats = &shared.stats;
        StatsSnapshot {
            round_us: stats.round_us.snapshot(),
            round_bytes: stats.round_bytes.snapshot(),
            round_batches: stats.round_batches.snapshot(),
            appended_bytes: stats.appended_bytes.load(Ordering::Relaxed),
            appended_batches: stats.appended_batches.load(Ordering::Relaxed),
            appended_records: stats.appended_records.load(Ordering::Relaxed),
            checkpoints: stats.checkpoints.load(Ordering::Relaxed),
            checkpoint_us: stats.checkpoint_us.snapshot(),
            damage: stats.damage.load(Ordering::Relaxed),
            scrubbed_bytes: stats.scrubbed_bytes.load(Ordering::Relaxed),
            wal_size: stats.wal_size.load(Ordering::Relaxed),
            wal_used: stats.wal_used.load(Ordering::Relaxed),
            cold_reads: stats.cold_reads.load(Ordering::Relaxed),
            compactions: stats.compactions.load(Ordering::Relaxed),
            compaction_failures: stats.compaction_failures.load(Ordering::Relaxed),
            compaction_read_bytes: stats.compaction_read_bytes.load(Ordering::Relaxed),
            compaction_written_bytes: stats.compaction_written_bytes.load(Ordering::Relaxed),
            compaction_dropped_records: stats.compaction_dropped_records.load(Ordering::Relaxed),
            compaction_map_bytes: stats.compaction_map_bytes.load(Ordering::Relaxed),
            compaction_last_us: stats.compaction_us.load(Ordering::Relaxed),
            dirtiest_permille: stats.dirtiest_permille.load(Ordering::Relaxed),
            queued_commands: shared.queue.len() as u64,
            queued_bytes: shared.queue.bytes() as u64,
            open_files: shared.files.open_count() as u64,
            topics: self.topics().len() as u64,
            partitions: self.partition_count() as u64,
            disk_free: shared.space.free(),
            disk_reserve: shared.options.disk_reserve_bytes,
            is_disk_short: shared.space.is_short(),
        }
    }
}

/// Time between two looks of the background threads ...
const TICK: Duration = Duration::from_millis(50);
/// ... and while nothing is written. Who needs them sooner rings for them.
const REST: Duration = Duration::from_secs(1);

fn run_checkpoints(cell: &Arc<Cell>, mut checkpointer: Checkpointer) {
    let options = &cell.shared.options;
    let clock = &cell.shared.env.clock;
    let mut last = (clock.monotonic(), 0);
    let mut seen = 0;
    let steps = |checkpointer: &mut Checkpointer| -> Result<(), Fatal> {
        checkpointer.begin();
        loop {
            match checkpointer.step()? {
                Progress::More => {}
                Progress::Rests => return Ok(()),
                Progress::Waits if cell.failure().is_some() => return Ok(()),
                Progress::Waits => checkpointer.wait(TICK),
            }
        }
    };
    loop {
        let is_last = cell.is_draining();
        let written = cell.written();
        let total = cell.shared.stats.wal_size.load(Ordering::Relaxed);
        let after = options.checkpoint_bytes.min((total / 4).max(1 << 20));
        // A full disk waits for files that only a checkpoint sets free.
        let frees = cell.shared.space.is_short() && cell.dirty.lock().has_garbage();
        let is_old = clock.monotonic() - last.0 >= options.checkpoint_interval;
        let is_due = cell.is_blocked() || written - last.1 >= after || is_old || frees;
        if is_due || is_last {
            last = (clock.monotonic(), written);
            if let Err(fatal) = steps(&mut checkpointer) {
                return cell.fail(&fatal);
            }
        }
        if is_last {
            return;
        }
        cell.rest(&mut seen, TICK, REST);
    }
}

fn run_background(cell: &Arc<Cell>, mut background: Background) {
    let options = &cell.shared.options;
    let clock = &cell.shared.env.clock;
    let mut seen = 0;
    let mut last_retention = clock.monotonic();
    let mut scrub_due = clock.monotonic() + Duration::from_secs(60);
    if let Err(error) = background.sweep_orphans() {
        tracing::warn!("orphaned segments were not all removed: {error}");
    }
    while !cell.is_closing() {
        if let Err(fatal) = background.tend() {
            return cell.fail(&fatal);
        }
        let now = clock.monotonic();
        if now - last_retention >= options.retention_interval {
            last_retention = now;
            background.retain();
        }
        if options.scrub_bytes_per_second > 0 && now >= scrub_due {
            let read = background.scrub();
            let pause = match read {
                0 => Duration::from_secs(3600),
                read => Duration::from_secs_f64(read as f64 / options.scrub_bytes_per_second as f64),
            };
            scrub_due = clock.monotonic() + pause;
        }
        cell.rest(&mut seen, TICK, REST);
    }
}

/// Writes what segments have gathered, a file at a time.
fn run_pieces(cell: &Arc<Cell>) {
    while !cell.is_closing() {
        if let Err(error) = cell.shared.files.pieces().write_due(REST) {
            return cell.fail(&Fatal::io("writing a segment", &error));
        }
    }
}

fn run_compaction(cell: &Arc<Cell>, mut compactor: Compactor) {
    env::lower_thread_priority();
    let clock = &cell.shared.env.clock;
    while !cell.is_closing() {
        match compactor.step() {
            Progress::More => {}
            Progress::Waits => compactor.wait(TICK),
            Progress::Rests => {
                let due = clock.monotonic() + cell.shared.options.compaction_interval;
                // Others are woken by the same bell.
                while let Some(left) = due.checked_sub(clock.monotonic()).filter(|left| !left.is_zero()) {
                    if cell.is_closing() {
                        return;
                    }
                    cell.wait_for_work(left);
                }
            }
        }
    }
}

/// The engine's moving parts, moved by hand.
pub struct Drive {
    cell: Arc<Cell>,
    committer: Committer,
    checkpointer: Checkpointer,
    background: Background,
    compactor: Compactor,
}

impl Drive {
    fn told<T>(&self, outcome: Result<T, Fatal>) -> Result<T, Fatal> {
        outcome.inspect_err(|fatal| self.cell.fail(fatal))
    }

    /// One step of the committer. Says whether it did anything.
    pub fn commit(&mut self) -> Result<bool, Fatal> {
        let step = self.committer.step();
        Ok(self.told(step)? == Step::Worked)
    }

    /// What the committer does when it has been idle for a while.
    pub fn seal(&mut self) -> Result<(), Fatal> {
        let sealed = self.committer.seal();
        self.told(sealed)
    }

    /// Asks for a checkpoint, unless one is under way or nothing changed.
    pub fn begin_checkpoint(&mut self) {
        self.checkpointer.begin();
    }

    /// The next part of the checkpoint under way. Says whether there is more.
    pub fn step_checkpoint(&mut self) -> Result<bool, Fatal> {
        let step = self.checkpointer.step();
        Ok(self.told(step)? != Progress::Rests)
    }

    /// Write-back, sealed segments, WAL growth, free space.
    pub fn tend(&mut self) -> Result<(), Fatal> {
        let pieces = self.cell.shared.files.pieces();
        while {
            let written = pieces.write_due(Duration::ZERO).map_err(|error| Fatal::io("writing a segment", &error));
            self.told(written)?
        } {}
        let tended = self.background.tend();
        self.told(tended)
    }

    /// A retention pass.
    pub fn retain(&mut self) {
        self.background.retain();
    }

    /// The next part of a compaction pass; looks for a partition when none is at work. Says whether there is more to do, be it
    /// after the committer's next step.
    pub fn compact(&mut self) -> bool {
        self.compactor.step() != Progress::Rests
    }

    /// Unlinks what belongs to nobody.
    pub fn sweep_orphans(&mut self) -> io::Result<usize> {
        self.background.sweep_orphans()
    }

    /// Checks one sealed segment; returns its size, or 0 at the end of a pass.
    pub fn scrub(&mut self) -> u64 {
        self.background.scrub()
    }

    /// Commits everything queued and finishes a checkpoint.
    pub fn settle(&mut self) -> Result<(), Fatal> {
        while self.commit()? {}
        self.begin_checkpoint();
        loop {
            let commits = self.commit()?;
            let checkpoints = self.step_checkpoint()?;
            self.tend()?;
            if !commits && !checkpoints {
                return Ok(());
            }
        }
    }
}
