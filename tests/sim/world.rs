//! A simulated machine with an engine on it, driven by hand, and the model of what that engine was asked.

use crate::batches::{Recipe, Stored};
use crate::compacted;
use crate::draw::mix;
use crate::ensure;
use crate::expectation::{read, read_all};
use crate::frozen::Frozen;
use crate::model::{Answer, Model};
use crate::state::{Event, Extent, Judgement, Key};
use crate::stops::Lookout;
use headwater_engine::batch;
use headwater_engine::env::sim::{self, SimClock, SimDisk};
use headwater_engine::{
    AppendError, Bounds, DeleteRecordsError, Drive, Durability, Engine, Fatal, GatherBounds, NewTopic, Offset, Options,
    Partition, Pending, ReadError, ReadRequest, TimestampMs, TopicError, Watcher,
};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Why a run ended early.
#[derive(Debug)]
pub enum End {
    /// The simulated machine stopped, as it was told to.
    Stopped,
    /// The engine has stopped itself, or cannot be opened, and says why.
    Failed(String),
    /// Something is not as it must be.
    Wrong(String),
}

impl From<String> for End {
    fn from(why: String) -> End {
        End::Wrong(why)
    }
}

pub type Step<T = ()> = Result<T, End>;

/// How a machine and its engine are set up.
#[derive(Clone, Debug)]
pub struct Config {
    pub seed: u64,
    pub wal_depth: usize,
    pub durability: Durability,
    pub wal_size_initial: u64,
    pub wal_size_max: u64,
    pub open_files_max: usize,
    /// The part of what was not touched lately that reads find not resident.
    pub cold: f64,
    pub queued_commands_max: usize,
    pub disk_reserve_bytes: u64,
    pub compaction_map_bytes_max: usize,
}

impl Config {
    pub fn new(seed: u64) -> Config {
        Config {
            seed,
            wal_depth: 4,
            durability: Durability::Fsync,
            wal_size_initial: 128 << 10,
            wal_size_max: 1 << 20,
            open_files_max: 64,
            cold: 0.0,
            queued_commands_max: 512,
            disk_reserve_bytes: 0,
            compaction_map_bytes_max: 1 << 20,
        }
    }

    /// Small pieces, so that many fill; every other seed gathers on behind its readers.
    fn gathers(&self) -> GatherBounds {
        GatherBounds {
            piece: if self.seed % 4 < 2 { 4096 } else { 16 << 10 },
            files: 3,
            waiting: 16 << 10,
            readers_stay: Duration::from_secs(if self.seed.is_multiple_of(2) { 0 } else { 600 }),
        }
    }

    pub fn options(&self) -> Options {
        Options {
            durability: self.durability,
            wal_size_initial: self.wal_size_initial,
            wal_size_max: self.wal_size_max,
            open_files_max: self.open_files_max,
            queued_commands_max: self.queued_commands_max,
            disk_reserve_bytes: self.disk_reserve_bytes,
            compaction_map_bytes_max: self.compaction_map_bytes_max,
            gathers: self.gathers(),
            ..Options::new("data".into())
        }
    }
}

/// Whether a request was refused because too much is queued.
fn is_busy<T>(pending: &mut Pending<Result<T, TopicError>>) -> bool {
    // Nothing else is answered before the committer moves.
    matches!(pending.take_done(), Some(Ok(Err(TopicError::Busy))))
}

/// The batches that a partition has.
fn extents(partition: &Arc<Partition>) -> Result<Vec<Extent>, String> {
    let bytes = read_all(partition)?;
    let each = batch::headers(&bytes).map(|(_, header)| header);
    Ok(each.map(|header| (header.next_offset().0, header.size as i64, header.max_timestamp.0)).collect())
}

/// The watcher's name for a partition.
fn token(key: Key, index: usize) -> u32 {
    (key * 1_000 + index) as u32
}

/// See the module.
pub struct World {
    pub config: Config,
    pub disk: SimDisk,
    pub clock: SimClock,
    pub engine: Engine,
    pub drive: Drive,
    model: Arc<Mutex<Model>>,
    lookout: Arc<Lookout>,
    /// Operations of the disks before this one.
    operations_before: u64,
    salt: u64,
    is_checkpointing: bool,
    /// Whether the next step of compaction looks for a partition.
    compactor_rests: bool,
    /// Up to where partitions were compacted when the last pass began.
    clean: BTreeMap<(Key, usize), i64>,
    watcher: Watcher,
    /// Where the watcher stands, and the bounds that it was last told of.
    watched: BTreeMap<(Key, usize), (Arc<Partition>, Bounds)>,
}

impl World {
    /// A new machine. The lookout sees every operation from the first on.
    pub fn new(config: Config, lookout: Arc<Lookout>) -> Step<World> {
        World::new_on(SimDisk::new(config.seed), config, lookout)
    }

    /// The same with a disk that was prepared.
    pub fn new_on(disk: SimDisk, config: Config, lookout: Arc<Lookout>) -> Step<World> {
        let model = Model::new(config.durability == Durability::Os);
        World::on(config, disk, SimClock::default(), Arc::new(Mutex::new(model)), lookout, 0)
    }

    /// An engine on a disk that may hold something; what, the model knows.
    pub fn on(
        config: Config,
        disk: SimDisk,
        clock: SimClock,
        model: Arc<Mutex<Model>>,
        lookout: Arc<Lookout>,
        operations_before: u64,
    ) -> Step<World> {
        disk.set_wal_depth(config.wal_depth);
        disk.set_cold(config.cold);
        lookout.watch(&disk, &config, &clock, &model, operations_before);
        let env = sim::env_on(&disk, &clock, mix(config.seed, operations_before));
        let opened = Engine::open(env, config.options());
        lookout.check()?;
        let engine = match opened {
            Ok(engine) => engine,
            Err(_) if disk.is_stopped() => {
                lookout.ended(&disk);
                return Err(End::Stopped);
            }
            Err(error) => {
                lookout.ended(&disk);
                return Err(End::Failed(error.to_string()));
            }
        };
        let drive = engine.drive().ok_or_else(|| End::Wrong("the engine drives itself".to_owned()))?;
        let mut guard = model.lock();
        let state = guard.expectation(lookout.was_power_cut()).find(&engine)?;
        guard.restart(state);
        let handles: Vec<_> = guard.published.topics.iter().map(|(key, topic)| (*key, topic.name.clone())).collect();
        for (key, name) in handles {
            let topic = engine.topic(&name).ok_or_else(|| format!("there is no topic {name}"))?;
            guard.ids.insert(topic.id());
            guard.handles.insert(key, topic);
        }
        guard.epoch = Some(engine.node_epoch().0);
        guard.data_id = Some(engine.data_id());
        drop(guard);
        let salt = mix(config.seed, operations_before);
        Ok(World {
            config,
            disk,
            clock,
            engine,
            drive,
            model,
            lookout,
            operations_before,
            salt,
            is_checkpointing: false,
            compactor_rests: true,
            clean: BTreeMap::new(),
            watcher: Watcher::new(),
            watched: BTreeMap::new(),
        })
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock()
    }

    /// Operations since the run began.
    pub fn operations(&self) -> u64 {
        self.operations_before + self.disk.ops()
    }

    /// A number that no other batch of this run gets.
    pub fn salt(&mut self) -> u64 {
        self.salt = self.salt.wrapping_add(1);
        self.salt
    }

    pub fn now(&self) -> i64 {
        self.engine.clock().wall().0
    }

    fn told<T>(&self, outcome: Result<T, Fatal>) -> Step<T> {
        self.lookout.check()?;
        match outcome {
            Ok(value) => Ok(value),
            Err(fatal) => {
                ensure!(self.engine.failure() == Some(fatal.to_string()), "the engine does not say that it failed");
                self.lookout.ended(&self.disk);
                Err(if self.disk.is_stopped() { End::Stopped } else { End::Failed(fatal.to_string()) })
            }
        }
    }

    /// Takes in what the engine has done, and compares what it shows.
    fn look(&mut self) -> Step {
        let mut model = self.model.lock();
        model.poll();
        model.check()?;
        let names: Vec<String> = self.engine.topics().iter().map(|topic| topic.name().to_owned()).collect();
        let mut due: Vec<String> = model.published.topics.values().map(|topic| topic.name.clone()).collect();
        due.sort_unstable();
        ensure!(names == due, "topics {names:?} are shown where {due:?} are durable");
        let handles: Vec<_> = model.handles.iter().map(|(key, topic)| (*key, topic.clone())).collect();
        for (key, topic) in handles {
            let Some(known) = model.published.topics.get(&key) else { continue };
            let (found, due) = (topic.partitions().len(), known.partitions.len());
            ensure!(found == due, "{found} partitions of {} are shown where {due} are durable", topic.name());
            let settings = topic.settings();
            ensure!(
                *settings.overrides() == known.settings,
                "{} shows settings {:?} where {:?} are durable",
                topic.name(),
                settings.overrides(),
                known.settings
            );
            for (index, partition) in topic.partitions().iter().enumerate() {
                let bounds = partition.bounds();
                let due = model.published.partition(key, index).map_or(0, |partition| partition.next);
                let shown = bounds.high_watermark.0;
                ensure!(shown == due, "#{key}/{index} shows offsets up to {shown} where {due} is durable");
                model.resolve(key, index, bounds.log_start.0)?;
            }
        }
        drop(model);
        self.look_at_news()
    }

    /// A watcher must be told of every partition whose bounds have changed, or which is gone.
    fn look_at_news(&mut self) -> Step {
        let mut news = Vec::new();
        self.watcher.take_dirty(&mut news);
        let model = self.model.lock();
        let mut gone = Vec::new();
        for ((key, index), (partition, known)) in &mut self.watched {
            let (bounds, token) = (partition.bounds(), token(*key, *index));
            let is_gone = !model.published.topics.contains_key(key);
            let is_told = news.contains(&token);
            ensure!(
                is_told || (bounds == *known && !is_gone),
                "nobody tells the watcher of #{key}/{index}: {bounds:?}"
            );
            *known = bounds;
            if is_gone {
                self.watcher.unwatch(partition, token);
                gone.push((*key, *index));
            }
        }
        gone.iter().for_each(|place| drop(self.watched.remove(place)));
        for (key, topic) in &model.published.topics {
            let Some(handle) = model.handles.get(key) else { continue };
            for index in 0..topic.partitions.len() {
                let Some(partition) = handle.partition(index as u32) else { continue };
                self.watched.entry((*key, index)).or_insert_with(|| {
                    self.watcher.watch(&partition, token(*key, index));
                    let bounds = partition.bounds();
                    (partition, bounds)
                });
            }
        }
        Ok(())
    }

    /// One step of the committer.
    pub fn commit(&mut self) -> Step<bool> {
        let outcome = self.drive.commit();
        let worked = self.told(outcome)?;
        self.look()?;
        Ok(worked)
    }

    pub fn seal(&mut self) -> Step {
        let outcome = self.drive.seal();
        self.told(outcome)
    }

    pub fn tend(&mut self) -> Step {
        let outcome = self.drive.tend();
        self.told(outcome)
    }

    pub fn begin_checkpoint(&mut self) {
        // While one is under way the engine goes on with that.
        if !std::mem::replace(&mut self.is_checkpointing, true) {
            self.model().checkpoint_began();
        }
        self.drive.begin_checkpoint();
    }

    /// Whether there is more of the checkpoint to do.
    pub fn step_checkpoint(&mut self) -> Step<bool> {
        let outcome = self.drive.step_checkpoint();
        let has_more = self.told(outcome)?;
        if !has_more && std::mem::take(&mut self.is_checkpointing) {
            self.model().checkpoint_ended();
        }
        Ok(has_more)
    }

    /// Up to where partitions are compacted; those are left out that start only there.
    fn clean_ends(&self) -> BTreeMap<(Key, usize), i64> {
        let model = self.model.lock();
        let mut ends = BTreeMap::new();
        for (key, topic) in &model.handles {
            for (index, partition) in topic.partitions().iter().enumerate() {
                let (end, log_start) = (partition.first_dirty(), partition.bounds().log_start);
                if end > log_start {
                    ends.insert((*key, index), end.0);
                }
            }
        }
        ends
    }

    /// The next part of a compaction pass. Says whether there is more of it.
    pub fn compact(&mut self) -> Step<bool> {
        let compactions = self.engine.stats().compactions;
        let goes_on = self.drive.compact();
        let is_done = self.engine.stats().compactions > compactions;
        if goes_on && self.compactor_rests {
            self.clean = self.clean_ends();
            let mut model = self.model.lock();
            let Model { passes, published, .. } = &mut *model;
            passes.begin(self.engine.clock().wall().0, published);
        }
        if is_done {
            let mut moved = self.clean_ends();
            moved.retain(|place, end| self.clean.get(place).is_none_or(|before| *before < *end));
            // Where deletions went further than the pass, nothing shows where that was.
            let reach = moved.into_iter().next().map(|((key, index), end)| (key, index, end));
            self.model.lock().passes.end(reach);
        }
        self.compactor_rests = !goes_on || is_done;
        self.lookout.check()?;
        if self.disk.is_stopped() {
            // It minds nothing; whoever moves the engine next learns of it.
            self.lookout.ended(&self.disk);
            return Err(End::Stopped);
        }
        Ok(goes_on)
    }

    /// Compacts until nothing is due.
    pub fn compact_all(&mut self) -> Step {
        for _ in 0..100_000 {
            if !self.compact()? {
                return Ok(());
            }
            let stats = self.engine.stats();
            if !self.commit()? && stats.wal_used * 2 > stats.wal_size {
                // The WAL may be full.
                self.begin_checkpoint();
                self.step_checkpoint()?;
                self.tend()?;
            }
        }
        Err(End::Wrong(format!("compaction does not end: {:?}", self.engine.stats())))
    }

    pub fn sweep(&mut self) -> Step<usize> {
        match self.drive.sweep_orphans() {
            Ok(swept) => {
                self.lookout.check()?;
                Ok(swept)
            }
            // Orphans do not stop an engine.
            Err(_) if self.disk.is_stopped() => {
                self.lookout.ended(&self.disk);
                Err(End::Stopped)
            }
            Err(error) => Err(End::Wrong(format!("orphans are not swept: {error}"))),
        }
    }

    pub fn scrub(&mut self) -> Step<u64> {
        let read = self.drive.scrub();
        let damage = self.engine.stats().damage;
        ensure!(damage == 0 || self.disk.is_stopped(), "the scrub found {damage} damaged places");
        Ok(read)
    }

    /// Goes on until everything that was asked is answered.
    pub fn drain(&mut self) -> Step {
        for _ in 0..10_000 {
            let worked = self.commit()?;
            if !worked && !self.model().waits() && self.engine.stats().queued_commands == 0 {
                return Ok(());
            }
            if !worked {
                // The WAL is full.
                self.begin_checkpoint();
                self.step_checkpoint()?;
                self.tend()?;
            }
        }
        Err(End::Wrong(format!("the engine does not answer any more: {:?}", self.engine.stats())))
    }

    /// A whole checkpoint.
    pub fn checkpoint(&mut self) -> Step {
        self.drain()?;
        self.begin_checkpoint();
        for _ in 0..10_000 {
            self.commit()?;
            if !self.step_checkpoint()? {
                return Ok(());
            }
        }
        Err(End::Wrong("a checkpoint does not end".to_owned()))
    }

    pub fn create(&mut self, name: &str, partitions: u32, settings: &[(&str, &str)]) {
        let settings: BTreeMap<String, String> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let new = NewTopic { name: name.to_owned(), partitions, settings: settings.clone() };
        let mut pending = self.engine.create_topic(new);
        let mut model = self.model.lock();
        if is_busy(&mut pending) {
            return;
        }
        if model.decided.by_name(name).is_some() {
            let expected = Err(TopicError::Exists(name.to_owned()));
            return model.push(Event::Answer, Some(Answer::Created(pending, expected)), false);
        }
        let key = model.next_key;
        model.next_key += 1;
        let epoch = self.engine.node_epoch().0;
        let event = Event::Create { key, name: name.to_owned(), partitions, settings, epoch };
        model.push(event, Some(Answer::Created(pending, Ok(key))), false);
    }

    pub fn delete(&mut self, key: Key) {
        let mut model = self.model.lock();
        let Some(id) = model.handles.get(&key).map(|topic| topic.id()) else { return };
        let mut pending = self.engine.delete_topic(id);
        if is_busy(&mut pending) {
            return;
        }
        if model.decided.topics.contains_key(&key) {
            model.push(Event::Delete { key }, Some(Answer::Changed(pending, Ok(()))), false);
        } else {
            let answer = Answer::Changed(pending, Err(TopicError::NotFound));
            model.push(Event::Answer, Some(answer), false);
        }
    }

    pub fn add_partitions(&mut self, key: Key, total: u32) {
        let mut model = self.model.lock();
        let Some(id) = model.handles.get(&key).map(|topic| topic.id()) else { return };
        let Some(has) = model.decided.topics.get(&key).map(|topic| topic.partitions.len()) else { return };
        if total as usize <= has {
            return;
        }
        let mut pending = self.engine.add_partitions(id, total);
        if is_busy(&mut pending) {
            return;
        }
        let event = Event::AddPartitions { key, total, epoch: self.engine.node_epoch().0 };
        model.push(event, Some(Answer::Changed(pending, Ok(()))), false);
    }

    /// Sets a topic's setting, or takes it back.
    pub fn alter(&mut self, key: Key, name: &str, value: Option<&str>) {
        let mut model = self.model.lock();
        let Some(id) = model.handles.get(&key).map(|topic| topic.id()) else { return };
        let mut seen = None;
        let mut pending = self.engine.alter_topic(id, |settings| {
            let mut settings = settings.clone();
            seen = Some(settings.clone());
            match value {
                Some(value) => settings.insert(name.to_owned(), value.to_owned()),
                None => settings.remove(name),
            };
            Ok::<_, TopicError>(settings)
        });
        if is_busy(&mut pending) {
            return;
        }
        let Some(due) = model.decided.topics.get(&key).map(|topic| topic.settings.clone()) else {
            let answer = Answer::Changed(pending, Err(TopicError::NotFound));
            return model.push(Event::Answer, Some(answer), false);
        };
        if seen.as_ref() != Some(&due) {
            model.note_wrong(format!("a change of #{key} was shown {seen:?} where {due:?} is decided"));
        }
        let mut settings = due.clone();
        match value {
            Some(value) => settings.insert(name.to_owned(), value.to_owned()),
            None => settings.remove(name),
        };
        let event = if settings == due { Event::Answer } else { Event::Alter { key, settings } };
        model.push(event, Some(Answer::Changed(pending, Ok(()))), false);
    }

    pub fn new_producer(&mut self) {
        let mut pending = self.engine.new_producer_id();
        if is_busy(&mut pending) {
            return;
        }
        self.model().push(Event::Answer, Some(Answer::Producer(pending)), false);
    }

    pub fn partition(&self, key: Key, index: usize) -> Option<Arc<Partition>> {
        self.model().handles.get(&key)?.partition(index as u32)
    }

    /// Appends what the recipe makes. Says whether it was queued (or is a repeat of what was).
    pub fn append(&mut self, key: Key, index: usize, recipe: &Recipe) -> Step<bool> {
        let Some(partition) = self.partition(key, index) else { return Ok(false) };
        let settings = partition.settings();
        let batch = if recipe.is_stamped || recipe.timestamp > self.now() + 3_600_000 {
            recipe.build()
        } else {
            // As a head does it.
            let bytes = recipe.build().into_parts().0;
            let rules = settings.rules(TimestampMs(self.now()));
            batch::check(bytes, &batch::Rules { batch_size_max: 64 << 20, ..rules })
                .map_err(|error| format!("a valid batch was refused: {error}"))?
        };
        let ack = self.engine.ack();
        let outcome = partition.append(&batch, &ack);
        let mut model = self.model.lock();
        if outcome == Err(AppendError::DiskFull) {
            ensure!(self.config.disk_reserve_bytes > 0, "the disk is called full");
            return Ok(false);
        }
        let Some(due) = model.decided.partition(key, index) else {
            ensure!(outcome == Err(AppendError::Deleted), "a batch for a deleted topic is answered {outcome:?}");
            return Ok(false);
        };
        let judgement = match recipe.producer {
            Some(producer) => due.judge(producer, batch.header().last_sequence()),
            None => Judgement::Next,
        };
        match (judgement, outcome) {
            (_, Err(AppendError::Busy)) if self.engine.stats().queued_commands > 0 => Ok(false),
            (Judgement::Next, Ok(appended)) => {
                let base = appended.base_offset.0;
                ensure!(!appended.repeated, "a new batch is called a repeat of {base}");
                ensure!(base == due.next, "a batch got offset {base} instead of {}", due.next);
                let least = due.batches.last().map_or(i64::MIN, |last| last.append_time);
                ensure!(appended.append_time.0 >= least, "the append time went back");
                let (epoch, passes) = (self.engine.node_epoch(), model.passes.count());
                let batch = Arc::new(Stored::new(&batch, base, epoch, appended.append_time, passes));
                let syncs = settings.durability == Some(Durability::Fsync);
                model.push(Event::Append { key, partition: index, batch }, Some(Answer::Ack(ack)), syncs);
                Ok(true)
            }
            (Judgement::Repeat(base), Ok(appended)) => {
                ensure!(appended.repeated, "a repeated batch was appended again at {}", appended.base_offset);
                let found = appended.base_offset.0;
                ensure!(found == base, "a repeated batch is said to lie at {found} instead of {base}");
                model.push(Event::Answer, Some(Answer::Ack(ack)), false);
                Ok(true)
            }
            (Judgement::OutOfOrder(due), Err(AppendError::OutOfOrderSequence { expected, .. })) if due == expected => {
                Ok(false)
            }
            (Judgement::Stale(due), Err(AppendError::StaleProducerEpoch { current, .. })) if due == current => {
                Ok(false)
            }
            (due, outcome) => Err(End::Wrong(format!("a batch is answered {outcome:?} where {due:?} is due"))),
        }
    }

    /// Deletes records. None deletes all that are published.
    pub fn delete_records(&mut self, key: Key, index: usize, before: Option<i64>) -> Step {
        let Some(partition) = self.partition(key, index) else { return Ok(()) };
        let ack = self.engine.ack();
        let outcome = partition.delete_records(before.map(Offset), &ack);
        let mut model = self.model.lock();
        if model.decided.partition(key, index).is_none() {
            ensure!(outcome == Err(DeleteRecordsError::Deleted), "deleting deleted records is answered {outcome:?}");
            return Ok(());
        }
        let Some(published) = model.published.partition(key, index) else { return Ok(()) };
        let bounds = partition.bounds();
        let asked = before.unwrap_or(published.next);
        if asked < 0 || asked > published.next {
            ensure!(outcome == Err(DeleteRecordsError::OutOfRange), "deleting before {asked} is answered {outcome:?}");
            return Ok(());
        }
        match outcome {
            Ok(offset) => {
                let due = asked.max(bounds.log_start.0);
                ensure!(offset.0 == due, "records are deleted before {offset} instead of {due}");
                let event = Event::LogStart { key, partition: index, offset: due };
                model.push(event, Some(Answer::Ack(ack)), true);
                Ok(())
            }
            Err(DeleteRecordsError::Busy) if self.engine.stats().queued_commands > 0 => Ok(()),
            Err(error) => Err(End::Wrong(format!("deleting before {asked} is refused: {error}"))),
        }
    }

    /// A retention pass.
    pub fn retain(&mut self) {
        let now = self.now();
        let handles: Vec<_> = self.model.lock().handles.values().cloned().collect();
        for partition in handles.iter().flat_map(|topic| topic.partitions().iter().cloned().collect::<Vec<_>>()) {
            // A machine that stops meanwhile shows when the engine moves next.
            let _ = read_all(&partition);
        }
        let mut model = self.model.lock();
        let mut events = Vec::new();
        for (key, topic) in &model.published.topics {
            let Some(handle) = model.handles.get(key) else { continue };
            let settings = handle.settings();
            for (index, partition) in topic.partitions.iter().enumerate() {
                let starts = |batches: &[Extent]| {
                    partition.retention_starts(batches, now, settings.retention_ms, settings.retention_bytes)
                };
                // What compaction has left, retention sees.
                let left = model
                    .passes
                    .of(*key, index)
                    .and_then(|_| handle.partition(index as u32))
                    .map(|left| extents(&left));
                let starts = match left {
                    None => starts(&partition.extents()),
                    Some(Ok(left)) => starts(&left),
                    // The disk fails.
                    Some(Err(_)) => partition.batches.iter().map(|batch| batch.end()).collect(),
                };
                if settings.deletes && !starts.is_empty() {
                    events.push((topic.name.clone(), Event::Retain { key: *key, partition: index, starts }));
                }
            }
        }
        events.sort_by(|left, right| left.0.cmp(&right.0));
        events.into_iter().for_each(|(_, event)| model.push(event, None, false));
        drop(model);
        self.drive.retain();
    }

    /// Has the engine write what it has gathered of a partition, as a read does: nothing may be written while the model is held,
    /// since each operation of the disk may be looked at.
    fn settle(&self, partition: &Arc<Partition>) -> Step {
        let outcome = read_all(partition);
        self.lookout.check()?;
        if outcome.is_err() && self.disk.is_stopped() {
            self.lookout.ended(&self.disk);
            return Err(End::Stopped);
        }
        // Whatever else is wrong, the read that follows says.
        Ok(())
    }

    /// Reads, and holds what comes against what is published.
    pub fn read(&mut self, key: Key, index: usize, request: &ReadRequest) -> Step {
        let Some(partition) = self.partition(key, index) else { return Ok(()) };
        self.settle(&partition)?;
        let model = self.model.lock();
        let Some(due) = model.published.partition(key, index) else {
            let outcome = partition.read(request);
            ensure!(matches!(outcome, Err(ReadError::Deleted)), "a deleted topic can be read");
            return Ok(());
        };
        let bounds = partition.bounds();
        let (from, end) = (request.from.0, due.next);
        if from < bounds.log_start.0 || from > end {
            let refused = matches!(partition.read(request), Err(ReadError::OutOfRange { .. }));
            ensure!(refused, "a read from {from} is answered, out of [{}, {end}]", bounds.log_start);
            return Ok(());
        }
        let (bytes, next) = read(&partition, request).map_err(|why| format!("a read from {from}: {why}"))?;
        if let Some(seen) = model.passes.of(key, index) {
            let said = |why| format!("a read from {from}: {why}");
            let found = compacted::found(due, &bytes, from).map_err(said)?;
            ensure!(found.next == next.0, "a read from {from} says that it came to {next}, not {}", found.next);
            compacted::check_gone(due, &found.rows, (from, found.next), &seen).map_err(said)?;
            let fits = bytes.len() <= request.bytes_max || (found.batches == 1 && request.at_least_one);
            ensure!(fits, "{} bytes for {request:?}", bytes.len());
            ensure!(found.batches > 0 || from == end || !request.at_least_one, "nothing comes for {request:?}");
            return Ok(());
        }
        let wanted = due.batches.iter().filter(|batch| batch.end() > from);
        let mut rest = &bytes[..];
        let (mut reached, mut count) = (from, 0);
        for batch in wanted.clone() {
            if rest.is_empty() {
                break;
            }
            ensure!(rest.starts_with(&batch.bytes), "a read from {from} gives other bytes at {}", batch.base);
            rest = &rest[batch.bytes.len()..];
            (reached, count) = (batch.end(), count + 1);
        }
        ensure!(rest.is_empty(), "a read from {from} gives {} bytes too many", rest.len());
        ensure!(next.0 == reached, "a read from {from} says that it came to {next}, not {reached}");
        let fits = bytes.len() <= request.bytes_max;
        ensure!(fits || (count == 1 && request.at_least_one), "{} bytes for {request:?}", bytes.len());
        let first = wanted.clone().next();
        let may_come = first.is_some_and(|first| request.at_least_one || first.bytes.len() <= request.bytes_max);
        ensure!(count > 0 || !may_come, "nothing comes for {request:?} where batches are");
        Ok(())
    }

    /// Looks for a time, and for the latest time.
    pub fn find_time(&mut self, key: Key, index: usize, at: i64) -> Step {
        let Some(partition) = self.partition(key, index) else { return Ok(()) };
        self.settle(&partition)?;
        let model = self.model.lock();
        let Some(due) = model.published.partition(key, index) else { return Ok(()) };
        let log_start = partition.bounds().log_start.0;
        let epoch_of = |offset: i64| due.batches.iter().find(|batch| batch.end() > offset).map_or(0, |b| b.epoch);
        let kept: Vec<(i64, i64)> = match model.passes.of(key, index) {
            Some(seen) => {
                let bytes = read_all(&partition).map_err(|why| format!("before looking for a time: {why}"))?.into();
                let left = compacted::left(due, &bytes, log_start, &seen)?;
                left.into_iter().map(|row| (row.offset, row.timestamp)).collect()
            }
            None => {
                let records = due.batches.iter().flat_map(|batch| batch.records());
                records.filter(|record| record.0 >= log_start).collect()
            }
        };
        let found = partition.find_time(TimestampMs(at)).map_err(|error| format!("looking for time {at}: {error}"))?;
        let found = found.map(|point| (point.offset.0, point.timestamp.0, point.epoch.0));
        let wanted = kept.iter().find(|record| record.1 >= at).map(|record| (record.0, record.1, epoch_of(record.0)));
        ensure!(found == wanted, "time {at} is found at {found:?} instead of {wanted:?}");
        let greatest = kept.iter().map(|record| record.1).max().filter(|time| *time >= 0);
        let first = greatest.and_then(|time| kept.iter().find(|record| record.1 == time)).map(|record| record.0);
        let found = partition.max_timestamp().map_err(|error| format!("looking for the latest time: {error}"))?;
        let found = found.map(|point| point.offset.0);
        ensure!(found == first, "the latest time is found at {found:?} instead of {first:?}");
        Ok(())
    }

    /// Stops the machine or the process as `image` leaves it, and opens what is there.
    pub fn restart(self, image: SimDisk, is_power_cut: bool) -> Step<World> {
        let World { config, disk, clock, engine, drive, model, lookout, operations_before, .. } = self;
        let operations = operations_before + disk.ops();
        drop(drive);
        drop(engine);
        let mut guard = model.lock();
        guard.check_stopped()?;
        let known = guard.snapshot(is_power_cut);
        *guard = known;
        drop(guard);
        disk.watch(|_| ());
        lookout.stopped_by(is_power_cut);
        World::on(config, image, clock, model, lookout, operations)
    }

    /// Ends the run, and keeps what a kill leaves.
    pub fn freeze(self) -> Step<Frozen> {
        let frozen = Frozen {
            disk: self.disk.kill_image(),
            config: self.config.clone(),
            clock: self.clock.clone(),
            due: self.model().snapshot(false).expectation(false),
        };
        self.end()?;
        Ok(frozen)
    }

    /// Ends the run. The machine goes on to nobody's interest.
    pub fn end(self) -> Step {
        self.disk.watch(|_| ());
        drop(self.drive);
        drop(self.engine);
        let stopped = self.model.lock().check_stopped();
        Ok(stopped?)
    }
}
