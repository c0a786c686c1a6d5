//! From a data folder to a running state: read the checkpoint, replay the WAL behind it, take a new incarnation.
//!
//! Replay runs twice over the blocks. The first pass changes the state, by the same code that publishes live rounds; it
//! shows which files are alive at the end. The second writes batches, only into those. Both are idempotent: a crash at any
//! point leads to the same place again. Segments are not read.

mod look;
mod repair;

pub use look::{Report, SegmentOnDisk, TopicOnDisk, check, topic_on_disk};

use crate::batch::BatchHeader;
use crate::cell::{Cell, Shared, random_id};
use crate::checkpoint::key;
use crate::checkpoint::{Header, Loaded, Lost, Store};
use crate::commit::{Append, Changes, Command, Queue, Queued, Resume, Space};
use crate::encoding::{Malformed, Reader};
use crate::engine::Options;
use crate::env::{DirLock, Env, WalDevice, WalMethod};
use crate::ids::{Epoch, FileId, PartitionId, Sequence, TopicId};
use crate::partition::{Partition, Published};
use crate::segment::files::FileTable;
use crate::segment::loads::Loads;
use crate::settings::{Durability, Settings};
use crate::stats::Stats;
use crate::topic::{Topic, TopicError};
use crate::wal::block::HEADER_SIZE;
use crate::wal::entry::Entry;
use crate::wal::ring::{Place, Ring, SlotFile, create_slot, list_slots};
use crate::wal::scan::{Run, Scanner};
use crossbeam::channel::Receiver;
use repair::Repair;
use std::collections::{HashMap, HashSet};
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Why a data folder could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Reading or writing it failed.
    #[error("{doing}: {error}")]
    Io { doing: String, error: io::Error },
    /// Something in it contradicts itself in a way that no crash explains.
    #[error(
        "the data folder is damaged: {0}. Nothing was changed. Restore a copy, or look with `headwater check`; `headwater check --repair` goes on from the newest state that can be read and keeps what it cuts"
    )]
    Damaged(String),
    /// A stored thing is malformed.
    #[error("the data folder holds something this version cannot read: {0}")]
    Malformed(#[from] Malformed),
    /// The server's defaults for topics are no good.
    #[error(transparent)]
    Topic(#[from] TopicError),
}

fn doing<T>(what: &str, result: io::Result<T>) -> Result<T, OpenError> {
    result.map_err(|error| OpenError::Io { doing: what.to_owned(), error })
}

/// A data folder, opened.
pub struct Recovered {
    pub cell: Arc<Cell>,
    pub store: Store,
    pub resume: Resume,
    pub receiver: Receiver<Queued>,
    pub device: Box<dyn WalDevice>,
    pub lock: Box<dyn DirLock>,
    pub slots: Vec<SlotFile>,
    /// Blocks that were replayed.
    pub replayed: u64,
    /// What a repair cut, if it had to.
    pub repaired: Option<String>,
}

/// The folders of a data folder.
pub struct Folders {
    pub wal: PathBuf,
    pub checkpoints: PathBuf,
    pub segments: PathBuf,
}

impl Folders {
    pub fn of(options: &Options) -> Folders {
        let dir = &options.data_dir;
        Folders { wal: dir.join("wal"), checkpoints: dir.join("checkpoints"), segments: dir.join("segments") }
    }
}

/// A data folder, read but not changed.
struct Inspected {
    cell: Arc<Cell>,
    receiver: Receiver<Queued>,
    store: Store,
    header: Header,
    slots: Vec<SlotFile>,
    /// Before the first block behind the checkpoint, and behind the last.
    start: Scanner,
    end: Scanner,
    replay: Replay,
    damage: Option<String>,
}

/// Reads checkpoint and WAL and rebuilds the state, in memory alone. The incarnation lies above `above` too.
fn inspect(
    env: Env,
    options: Options,
    slots: Vec<SlotFile>,
    (store, loaded): (Store, Loaded),
    (above, epoch): (u64, Epoch),
    mut before_replay: impl FnMut(&Cell),
) -> Result<Inspected, OpenError> {
    let folders = Folders::of(&options);
    let disk = env.disk.clone();
    let Loaded { header, state, unusable, lost: _ } = loaded;
    let incarnation = last_incarnation(&header).max(above) + 1;
    let (queue, receiver) = Queue::new(options.queued_commands_max, options.queued_bytes_max);
    let shared = Arc::new(Shared {
        files: FileTable::new(disk.clone(), folders.segments, options.open_files_max, options.gathers),
        stats: Stats::default(),
        queue,
        space: Space::new(options.disk_reserve_bytes),
        loads: Loads::default(),
        wakers: Arc::default(),
        incarnation,
        epoch,
        data_id: header.data_id,
        next_file: AtomicU64::new(FileId::first_of(incarnation).0),
        damage: Default::default(),
        env,
        options,
    });
    let cell = Arc::new(Cell::new(shared, header.through));
    let mut replay = Replay::restore(cell.clone(), &header, &state)?;
    drop(state);
    before_replay(&cell);

    let next = Sequence(header.through.0 + 1);
    let start = Scanner::open(&*disk, &slots, &header.runs, header.place, next, header.crc);
    let start = doing("reading the WAL", start)?;
    let mut end = start.clone();
    let mut block = Vec::new();
    while let Some(read) = doing("reading the WAL", end.read_next(&mut block))? {
        replay.apply_block(&block, read.sequence)?;
    }
    let damage = match unusable {
        Some(unusable) => Some(unusable),
        None => doing("reading the WAL", end.find_damage())?,
    };
    Ok(Inspected { cell, receiver, store, header, slots, start, end, replay, damage })
}

/// The latest run that a checkpoint knows.
fn last_incarnation(header: &Header) -> u64 {
    header.runs.iter().map(|run| run.incarnation).max().unwrap_or_default()
}

/// Opens the data folder. `repair` cuts at damage instead of refusing.
pub fn recover(env: Env, options: Options, repair: bool) -> Result<Recovered, OpenError> {
    let folders = Folders::of(&options);
    let disk = env.disk.clone();
    doing("making the data folder", disk.create_dir_all(&options.data_dir))?;
    let lock = doing("locking the data folder", disk.lock(&options.data_dir))?;
    for dir in [&folders.wal, &folders.checkpoints, &folders.segments] {
        doing("making the data folder", disk.create_dir_all(dir))?;
    }
    let method = match (options.durability, options.wal_method) {
        (Durability::Os, WalMethod::Auto) => WalMethod::Unflushed,
        (_, method) => method,
    };
    let mut device = doing("opening the WAL device", disk.wal_device(method, &folders.wal))?;
    let loaded = doing("reading the checkpoint", Store::load(disk.clone(), folders.checkpoints.clone()))?;
    let mut slots = doing("reading the WAL", list_slots(&*disk, &folders.wal))?;
    let (loaded, epoch) = match loaded {
        Some(loaded) => {
            let epoch = loaded.1.header.epoch.0.checked_add(1).ok_or(Malformed("node epoch"))?;
            (loaded, Epoch(epoch))
        }
        None => {
            // An earlier first start may have made the folders and been killed before they were durable.
            let parent = options.data_dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            for dir in parent.into_iter().chain([options.data_dir.as_path()]) {
                doing("syncing the data folder", disk.sync_dir(dir))?;
            }
            (first_start(&env, &folders, &slots)?, Epoch(0))
        }
    };
    while slots.len() < 2 {
        let number = slots.iter().map(|slot| slot.number + 1).max().unwrap_or_default();
        let slot = create_slot(&*disk, &folders.wal, number, options.wal_slot_bytes());
        slots.push(doing("making a WAL slot", slot)?);
    }

    // A slot's name may not be durable yet, when the process that made it was killed before it could see to that.
    doing("syncing the WAL folder", disk.sync_dir(&folders.wal))?;

    let (above, epoch, mut repair) = match repair {
        true => {
            let repair = Repair::look(&*disk, &options, &slots, &loaded.1)?;
            (repair.above(), repair.epoch(epoch)?, Some(repair))
        }
        false => (0, epoch, None),
    };
    let mut missing = Ok(());
    let inspected = inspect(env, options, slots, loaded, (above, epoch), |cell| {
        if let Some(repair) = &mut repair {
            missing = repair.look_for_segments(cell);
        }
    })?;
    missing?;
    let inspected = match (repair, &inspected.damage) {
        (Some(repair), Some(damage)) => {
            let damage = damage.clone();
            return repair.finish(inspected, &damage, device, lock);
        }
        (None, Some(damage)) => return Err(OpenError::Damaged(damage.clone())),
        (_, None) => inspected,
    };
    let Inspected { cell, receiver, mut store, header, slots, start, end, replay, damage: _ } = inspected;
    let replayed = end.next_sequence().0 - start.next_sequence().0;
    replay.write_batches(start, &end)?;
    doing("syncing the WAL", end.sync())?;
    replay.finish();

    // From here on everything that was read is durable, and this run's blocks can be told from leftovers behind the end.
    let run = Run { incarnation: cell.shared.incarnation, first: end.next_sequence() };
    let mut renewed = Header { epoch, ..header };
    if replay.entries > 0 {
        renewed.runs.push(run);
    } else {
        renewed.through = Sequence(end.next_sequence().0 - 1);
        renewed.crc = end.previous_crc();
        renewed.place = end.place();
        renewed.runs = vec![run];
    }
    let through = renewed.through;
    doing("writing a checkpoint", store.write(renewed, Changes::new()))?;
    cell.set_checkpointed(through);

    let ring = Ring::open(&mut *device, &slots, end.place(), end.used());
    let resume = Resume {
        next: end.next_sequence(),
        previous_crc: end.previous_crc(),
        ring: doing("opening the WAL", ring)?,
        place: end.place(),
    };
    Ok(Recovered { cell, store, resume, receiver, device, lock, slots, replayed, repaired: None })
}

/// An empty folder, or one whose very first start did not get as far as a checkpoint. Should there be blocks in the WAL
/// all the same, the replay finds that no checkpoint knows their run.
fn first_start(env: &Env, folders: &Folders, slots: &[SlotFile]) -> Result<(Store, Loaded), OpenError> {
    let run = Run { incarnation: 0, first: Sequence(0) };
    let header = Header {
        place: Place { slot: slots.first().map_or(0, |slot| slot.number), position: 0 },
        data_id: random_id(env),
        runs: vec![run],
        ..Header::default()
    };
    let store = Store::new(env.disk.clone(), folders.checkpoints.clone());
    Ok((store, Loaded { header, state: Changes::new(), unusable: None, lost: Lost::default() }))
}

/// The state while it is rebuilt.
struct Replay {
    cell: Arc<Cell>,
    topics: HashMap<TopicId, Arc<Topic>>,
    partitions: HashMap<PartitionId, Arc<Partition>>,
    entries: u64,
}

impl Replay {
    fn restore(cell: Arc<Cell>, header: &Header, state: &crate::commit::Changes) -> Result<Replay, OpenError> {
        let mut replay = Replay { cell, topics: HashMap::new(), partitions: HashMap::new(), entries: 0 };
        {
            let mut dirty = replay.cell.dirty.lock();
            dirty.next_partition = header.next_partition;
            dirty.next_producer = header.next_producer;
        }
        for (key, value) in state {
            let (true, Some(value)) = (key::is_topic(key), value) else { continue };
            let (record, ranges) = Topic::decode(value)?;
            let is_known = |(first, count): &(PartitionId, u32)| {
                first.0.checked_add(u64::from(*count)).is_some_and(|end| end <= header.next_partition)
            };
            if !ranges.iter().all(is_known) {
                return Err(Malformed("partition ids of a topic").into());
            }
            let ids =
                ranges.iter().flat_map(|(first, count)| (0..u64::from(*count)).map(|step| PartitionId(first.0 + step)));
            let settings = Settings::parse(record.settings.clone(), &replay.cell.shared.options.topic_defaults);
            let epoch = record.epoch;
            let topic = Arc::new(Topic::new(record, settings.map_err(TopicError::from)?));
            let mut failed = None;
            let published = |id| match state.get(&key::partition(id)) {
                Some(Some(value)) => Published::decode(value).unwrap_or_else(|error| {
                    failed = Some(error);
                    Published::default()
                }),
                _ => Published::new(epoch),
            };
            let made = topic.make_partitions(&replay.cell.shared, ids, published, 0);
            if let Some(error) = failed {
                return Err(error.into());
            }
            topic.add_partitions(&made);
            replay.partitions.extend(made.into_iter().map(|partition| (partition.id(), partition)));
            replay.cell.catalogue.publish(&topic);
            replay.topics.insert(topic.id(), topic);
        }
        Ok(replay)
    }

    fn apply_block(&mut self, block: &[u8], sequence: Sequence) -> Result<(), OpenError> {
        let mut reader = Reader(block.get(HEADER_SIZE..).unwrap_or_default());
        while !reader.is_empty() {
            self.entries += 1;
            let command = self.command(Entry::decode(&mut reader)?)?;
            let applied = self.cell.apply(command, sequence, &mut Vec::new());
            applied.map_err(|fatal| OpenError::Damaged(fatal.0))?;
        }
        Ok(())
    }

    fn partition(&self, id: PartitionId) -> Result<Arc<Partition>, OpenError> {
        let partition = self.partitions.get(&id).cloned();
        partition.ok_or_else(|| OpenError::Damaged(format!("the log names partition {id}, which does not exist")))
    }

    fn topic(&self, id: TopicId) -> Result<Arc<Topic>, OpenError> {
        let topic = self.topics.get(&id).cloned();
        topic.ok_or_else(|| OpenError::Damaged(format!("the log names topic {id}, which does not exist")))
    }

    /// The command that an entry was written for.
    fn command(&mut self, entry: Entry<'_>) -> Result<Command, OpenError> {
        let shared = self.cell.shared.clone();
        Ok(match entry {
            Entry::Append { partition, file, position, time, batch } => {
                let header = BatchHeader::parse(batch).map_err(|error| OpenError::Damaged(error.to_string()))?;
                let partition = self.partition(partition)?;
                Command::Append(Append {
                    partition,
                    bytes: bytes::Bytes::new(),
                    header,
                    file,
                    position,
                    time,
                    sync: false,
                })
            }
            Entry::Roll { partition, file, base } => {
                Command::Roll { partition: self.partition(partition)?, file, base }
            }
            Entry::LogStart { partition, offset } => {
                Command::LogStart { partition: self.partition(partition)?, offset }
            }
            Entry::CreateTopic(record) => {
                let settings = Settings::parse(record.settings.clone(), &shared.options.topic_defaults);
                let topic = Arc::new(Topic::new(record.clone(), settings.map_err(TopicError::from)?));
                let ids = (0..u64::from(record.count)).map(|step| PartitionId(record.first.0 + step));
                let made = topic.make_partitions(&shared, ids, |_| Published::new(record.epoch), 0);
                topic.add_partitions(&made);
                self.partitions.extend(made.into_iter().map(|partition| (partition.id(), partition)));
                self.topics.insert(topic.id(), topic.clone());
                Command::CreateTopic { topic, record }
            }
            Entry::AddPartitions { topic, first, count, epoch } => {
                let topic = self.topic(topic)?;
                let ids = (0..u64::from(count)).map(|step| PartitionId(first.0 + step));
                let from = topic.partitions().len();
                let added = topic.make_partitions(&shared, ids, |_| Published::new(epoch), from);
                let known = added.iter().map(|partition| (partition.id(), partition.clone()));
                self.partitions.extend(known);
                Command::AddPartitions { topic, added, first, epoch }
            }
            Entry::DeleteTopic { topic } => Command::DeleteTopic { topic: self.topic(topic)? },
            Entry::ProducerIds { next } => Command::ProducerIds { next },
            Entry::AlterTopic { topic, settings } => {
                let settings = Settings::parse(settings, &shared.options.topic_defaults).map_err(TopicError::from)?;
                Command::AlterTopic { topic: self.topic(topic)?, settings: Arc::new(settings) }
            }
            Entry::Swap { partition, swap } => {
                Command::Swap { partition: self.partition(partition)?, swap: Box::new(swap) }
            }
        })
    }

    /// The second pass: batches go to files that are alive at the end, blocks that may not be durable to their places.
    fn write_batches(&self, mut scanner: Scanner, end: &Scanner) -> Result<(), OpenError> {
        let mut alive = HashSet::new();
        for partition in self.partitions.values() {
            alive.extend(partition.published().segments.iter().map(|segment| segment.file));
        }
        let files = &self.cell.shared.files;
        let mut block = Vec::new();
        while scanner.next_sequence() < end.next_sequence() {
            let Some(header) = doing("reading the WAL", scanner.read_next(&mut block))? else {
                return Err(OpenError::Damaged("a WAL block could be read once, but not again".to_owned()));
            };
            if header.sequence > end.proven() {
                doing("writing the WAL", scanner.write_back(&*self.cell.shared.env.disk, &block))?;
            }
            let mut reader = Reader(block.get(HEADER_SIZE..).unwrap_or_default());
            let mut writes: Vec<(FileId, u64, &[u8])> = Vec::new();
            while !reader.is_empty() {
                match Entry::decode(&mut reader)? {
                    Entry::Append { file, position, batch, .. } if alive.contains(&file) => {
                        writes.push((file, position, batch));
                    }
                    Entry::Roll { file, .. } if alive.contains(&file) => {
                        doing("making a segment", files.get_or_create(file))?;
                    }
                    _ => {}
                }
            }
            writes.sort_by_key(|(file, position, _)| (*file, *position));
            for run in writes.chunk_by(|left, right| left.0 == right.0) {
                let Some((id, position, _)) = run.first() else { continue };
                let file = doing("opening a segment", files.get(*id))?;
                file.own(*position);
                let mut at = *position;
                for piece in run.chunks(512) {
                    let parts: Vec<_> = piece.iter().map(|(_, _, batch)| IoSlice::new(batch)).collect();
                    doing("writing a segment", file.disk_file().write_at(&parts, at))?;
                    at += piece.iter().map(|(_, _, batch)| batch.len() as u64).sum::<u64>();
                }
            }
        }
        Ok(())
    }

    /// What is published is all there is.
    fn finish(&self) {
        let (next_partition, next_producer) = {
            let dirty = self.cell.dirty.lock();
            (dirty.next_partition, dirty.next_producer)
        };
        let topics = self.cell.catalogue.topics();
        for topic in &topics {
            topic.partitions().iter().for_each(|partition| partition.reset_front());
        }
        self.cell.catalogue.restore(topics, next_partition, next_producer);
    }
}
