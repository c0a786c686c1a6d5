//! Topics: names, settings, partitions; and the catalogue of all of them.

mod catalogue;
mod name;
#[cfg(test)]
mod tests;

pub(crate) use catalogue::Catalogue;

use crate::cell::Shared;
use crate::encoding::{Malformed, Reader};
use crate::ids::{PartitionId, TopicId};
use crate::partition::{Partition, Published, TopicCore};
use crate::settings::{InvalidSetting, Settings};
use crate::wal::entry::TopicRecord;
use bytes::BufMut;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a topic is made from.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// Settings that are set explicitly.
    pub settings: BTreeMap<String, String>,
}

/// Why a change of the catalogue was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// A topic of that name exists.
    #[error("topic {0} exists")]
    Exists(String),
    /// No such topic.
    #[error("no such topic")]
    NotFound,
    /// The name cannot be one.
    #[error("{0}")]
    InvalidName(String),
    /// The partition count cannot be one.
    #[error("{0}")]
    InvalidPartitions(String),
    /// A setting cannot have that value.
    #[error(transparent)]
    InvalidSetting(#[from] InvalidSetting),
    /// More partitions than this server holds.
    #[error("this server holds at most {max} partitions")]
    TooManyPartitions { max: usize },
    /// More is queued than the engine holds at a time.
    #[error("the engine is busy")]
    Busy,
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

impl From<crate::ack::Stopped> for TopicError {
    fn from(_: crate::ack::Stopped) -> TopicError {
        TopicError::Stopped
    }
}

impl From<crate::commit::Refused> for TopicError {
    fn from(refused: crate::commit::Refused) -> TopicError {
        use crate::commit::Refused;
        match refused {
            Refused::Busy | Refused::DiskFull => TopicError::Busy,
            Refused::Stopped => TopicError::Stopped,
        }
    }
}

/// A named log of partitions.
pub struct Topic {
    record: TopicRecord,
    core: Arc<TopicCore>,
    partitions: RwLock<Arc<[Arc<Partition>]>>,
}

impl Topic {
    /// A topic without partitions yet.
    pub(crate) fn new(record: TopicRecord, settings: Settings) -> Topic {
        let core = TopicCore { name: record.name.clone(), settings: RwLock::new(Arc::new(settings)) };
        Topic { record, core: Arc::new(core), partitions: RwLock::new(Arc::new([])) }
    }

    /// Makes partitions that follow the ones there are; `state` gives the state of each.
    pub(crate) fn make_partitions(
        &self,
        shared: &Arc<Shared>,
        ids: impl Iterator<Item = PartitionId>,
        mut state: impl FnMut(PartitionId) -> Published,
        from: usize,
    ) -> Vec<Arc<Partition>> {
        let numbered = ids.zip(from..);
        let made = numbered.map(|(id, index)| {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            Partition::new(id, index, self.core.clone(), shared.clone(), state(id))
        });
        made.collect()
    }

    /// Takes in partitions made before.
    pub(crate) fn add_partitions(&self, added: &[Arc<Partition>]) {
        let mut partitions = self.partitions.write();
        *partitions = partitions.iter().chain(added).cloned().collect();
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its id.
    pub fn id(&self) -> TopicId {
        self.record.id
    }

    /// All its partitions.
    pub fn partitions(&self) -> Arc<[Arc<Partition>]> {
        self.partitions.read().clone()
    }

    /// One of its partitions.
    pub fn partition(&self, index: u32) -> Option<Arc<Partition>> {
        self.partitions.read().get(usize::try_from(index).ok()?).cloned()
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.core.settings.read().clone()
    }

    /// A change of its settings is durable.
    pub(crate) fn set_settings(&self, settings: Arc<Settings>) {
        *self.core.settings.write() = settings;
    }

    /// Whether the server keeps its own state in it.
    pub fn is_internal(&self) -> bool {
        self.core.is_internal()
    }

    /// As checkpoints hold it: the record it was made by, with the settings of now, then the ranges of its partitions' ids.
    ///
    /// ```text
    /// version u8 = 1, record, ranges: count u32, each first u64, count u32
    /// ```
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut ranges: Vec<(u64, u32)> = Vec::new();
        for partition in self.partitions.read().iter() {
            match ranges.last_mut() {
                Some((first, count)) if *first + u64::from(*count) == partition.id().0 => *count += 1,
                _ => ranges.push((partition.id().0, 1)),
            }
        }
        let mut out = vec![1];
        TopicRecord { settings: self.settings().overrides().clone(), ..self.record.clone() }.encode(&mut out);
        out.put_u32_le(u32::try_from(ranges.len()).unwrap_or(u32::MAX));
        for (first, count) in ranges {
            out.put_u64_le(first);
            out.put_u32_le(count);
        }
        out
    }

    /// Reads what `encode` wrote: the record and the ranges of ids. A range is not spelled out here: what it says of its
    /// length is only as good as the bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(TopicRecord, Vec<(PartitionId, u32)>), Malformed> {
        let mut reader = Reader(bytes);
        if reader.u8()? != 1 {
            return Err(Malformed("topic version"));
        }
        let record = TopicRecord::decode(&mut reader)?;
        let ranges = (0..reader.count(12)?).map(|_| Ok((PartitionId(reader.u64()?), reader.u32()?)));
        let ranges = ranges.collect::<Result<Vec<_>, Malformed>>()?;
        if reader.is_empty() { Ok((record, ranges)) } else { Err(Malformed("topic size")) }
    }
}
