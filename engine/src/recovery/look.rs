//! Looking at a data folder that no server uses, without changing it.

use super::{Folders, Inspected, OpenError, doing, first_start, inspect};
use crate::cell::Cell;
use crate::checkpoint::Store;
use crate::engine::Options;
use crate::env::{DirLock, Env};
use crate::ids::Offset;
use crate::partition::Segment;
use crate::wal::ring::list_slots;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;

/// What a check found.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Topics and partitions that a start would find.
    pub topics: usize,
    pub partitions: usize,
    /// WAL blocks behind the checkpoint.
    pub blocks: u64,
    /// Segments whose every CRC was checked, and their bytes.
    pub segments: u64,
    pub bytes: u64,
    /// What is damaged; empty when all is well.
    pub damage: Vec<String>,
    /// Whether checkpoints or the log are damaged, so that no server starts until they were repaired.
    pub refuses_start: bool,
}

/// A data folder that no server uses, read but not changed. The lock is held while it is looked at.
fn look(
    env: Env,
    options: Options,
    before_replay: impl FnMut(&Cell),
) -> Result<(Inspected, Box<dyn DirLock>), OpenError> {
    let folders = Folders::of(&options);
    let disk = env.disk.clone();
    if !doing("looking for the data folder", disk.exists(&folders.checkpoints))? {
        let error = io::Error::new(io::ErrorKind::NotFound, options.data_dir.display().to_string());
        return doing("looking for the data folder", Err(error));
    }
    let lock = doing("locking the data folder", disk.lock(&options.data_dir))?;
    let slots = doing("reading the WAL", list_slots(&*disk, &folders.wal))?;
    let loaded = match doing("reading the checkpoint", Store::load(disk.clone(), folders.checkpoints.clone()))? {
        Some(loaded) => loaded,
        None => first_start(&env, &folders, &slots)?,
    };
    let epoch = loaded.1.header.epoch;
    let inspected = inspect(env, options, slots, loaded, (0, epoch), before_replay)?;
    Ok((inspected, lock))
}

/// A topic's files as a start would find them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOnDisk {
    /// How many partitions it has; one that nothing was written to has no segment.
    pub partitions: usize,
    /// By partition, each in the order of offsets.
    pub segments: Vec<SegmentOnDisk>,
}

/// A segment file as a start would find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentOnDisk {
    /// Its partition's number in the topic.
    pub partition: u32,
    /// Where it lies.
    pub path: PathBuf,
    /// The offset of its first record.
    pub base: Offset,
    /// Bytes that are published.
    pub size: u64,
    /// Bytes of these that a checkpoint covers, or that compaction wrote, so that the file has them. Those behind may still
    /// lie in the WAL alone, until the next start writes them.
    pub checkpointed: u64,
}

/// The files of a topic in a data folder that no server uses. None when there is no such topic. Changes nothing.
pub fn topic_on_disk(env: Env, options: Options, topic: &str) -> Result<Option<TopicOnDisk>, OpenError> {
    let mut checkpointed = HashMap::new();
    let (inspected, _lock) = look(env, options, |cell| {
        let Some(topic) = cell.catalogue.topic(topic) else { return };
        for partition in topic.partitions().iter() {
            let published = partition.published();
            checkpointed.extend(published.segments.iter().map(|segment| (segment.file, segment.size)));
        }
    })?;
    if let Some(damage) = inspected.damage {
        return Err(OpenError::Damaged(damage));
    }
    let cell = inspected.cell;
    let Some(topic) = cell.catalogue.topic(topic) else { return Ok(None) };
    let partitions = topic.partitions();
    let mut segments = Vec::new();
    for partition in partitions.iter() {
        let known = |segment: &Segment| match segment.is_swapped_in {
            true => segment.size,
            false => checkpointed.get(&segment.file).copied().unwrap_or_default(),
        };
        segments.extend(partition.published().segments.iter().map(|segment| SegmentOnDisk {
            partition: partition.index(),
            path: cell.shared.files.log_path(segment.file),
            base: segment.base,
            size: segment.size,
            checkpointed: known(segment),
        }));
    }
    Ok(Some(TopicOnDisk { partitions: partitions.len(), segments }))
}

/// Checks a data folder that no server uses: checkpoint, WAL chain, every batch of every segment that a checkpoint covers or
/// compaction wrote (what else came later lies in the WAL, under its CRCs). Changes nothing.
pub fn check(env: Env, options: Options) -> Result<Report, OpenError> {
    let mut segments = Vec::new();
    let (inspected, _lock) = look(env, options, |cell| {
        cell.catalogue.for_each_partition(|partition| {
            let published = partition.published();
            let each = published.segments.iter().map(|segment| (segment.file, segment.base, segment.size));
            segments.push((partition.clone(), published.epochs.clone(), each.collect::<Vec<_>>()));
        });
    })?;
    let cell = inspected.cell;
    let mut report = Report {
        topics: cell.catalogue.topics().len(),
        blocks: inspected.end.next_sequence().0 - inspected.start.next_sequence().0,
        refuses_start: inspected.damage.is_some(),
        damage: inspected.damage.into_iter().collect(),
        ..Report::default()
    };
    cell.catalogue.for_each_partition(|_| report.partitions += 1);
    // What compaction wrote since the checkpoint lies in no block of the log.
    cell.catalogue.for_each_partition(|partition| {
        let published = partition.published();
        let swapped_in = published.segments.iter().filter(|segment| segment.is_swapped_in);
        let each: Vec<_> = swapped_in.map(|segment| (segment.file, segment.base, segment.size)).collect();
        if !each.is_empty() {
            segments.push((partition.clone(), published.epochs.clone(), each));
        }
    });
    for (partition, epochs, segments) in segments {
        let alive: HashSet<_> = partition.published().segments.iter().map(|segment| segment.file).collect();
        for (file, base, size) in segments.into_iter().filter(|(file, ..)| alive.contains(file)) {
            let checked = cell.shared.files.get(file).map_err(Into::into);
            if let Err(error) = checked.and_then(|file| file.verify(0, base, size, &epochs)) {
                report.damage.push(format!("{} partition {}: {error}", partition.topic_name(), partition.index()));
            }
            report.segments += 1;
            report.bytes += size;
        }
    }
    Ok(report)
}
