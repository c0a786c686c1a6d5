//! What the server said, and what may be true without having been said.

use anyhow::{Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// A partition of a topic.
pub type Place = (Uuid, i32);

/// A batch that is in the log for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Stands for its bytes.
    pub fingerprint: u64,
    /// Offsets that it takes.
    pub count: i64,
}

/// A batch that was sent and not answered: it may be in the log.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Offsets that it would take.
    pub count: i64,
    /// How often it may be there.
    pub copies: u32,
}

/// A partition.
#[derive(Default)]
pub struct Partition {
    /// By base offset.
    pub kept: BTreeMap<i64, Kept>,
    /// By fingerprint.
    pub attempts: HashMap<u64, Attempt>,
    /// Where an idempotent producer's batch is, by fingerprint: there must be no other copy.
    pub unique: HashMap<u64, i64>,
    /// The log starts here or later.
    pub start_min: i64,
    /// The log starts here or earlier.
    pub start_max: i64,
}

impl Partition {
    /// The offset after the last batch that is there for certain.
    pub fn end(&self) -> i64 {
        self.kept.last_key_value().map_or(self.start_min, |(base, kept)| base + kept.count).max(self.start_min)
    }

    /// A batch is in the log: acknowledged there, or found there.
    pub fn keep(&mut self, base: i64, kept: Kept, idempotent: bool) -> Result<()> {
        if idempotent && let Some(first) = self.unique.insert(kept.fingerprint, base) {
            ensure!(first == base, "an idempotent batch is at offset {first}, and at {base} again");
        }
        if let Some(there) = self.kept.get(&base) {
            ensure!(*there == kept && idempotent, "offset {base} was given twice: {there:?} and {kept:?}");
            return Ok(());
        }
        if let Some((before, there)) = self.kept.range(..base).next_back() {
            ensure!(before + there.count <= base, "the batch at {base} overlaps {there:?} at {before}");
        }
        if let Some((after, there)) = self.kept.range(base..).next() {
            ensure!(base + kept.count <= *after, "{kept:?} at {base} overlaps {there:?} at {after}");
        }
        self.kept.insert(base, kept);
        Ok(())
    }

    /// Forgets batches that end at or before the log start.
    pub fn forget_below(&mut self, start: i64) {
        self.kept.retain(|base, kept| base + kept.count > start);
        let kept = &self.kept;
        self.unique.retain(|_, base| kept.contains_key(base));
    }
}

/// A topic whose creation was acknowledged or found.
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Whether it is never deleted.
    pub steady: bool,
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// Whether its deletion was asked for.
    pub deleting: bool,
    /// How many partitions were asked for.
    pub growing: Option<usize>,
}

/// A batch that a consumer was given.
pub struct Seen {
    /// Where.
    pub place: Place,
    /// Its base offset.
    pub base: i64,
    /// The batch.
    pub kept: Kept,
}

/// All of it.
#[derive(Default)]
pub struct Model {
    /// Topics that exist, unless they are being deleted.
    pub topics: BTreeMap<Uuid, Topic>,
    /// A topic that may exist, because its creation was not answered: name and partitions.
    pub creating: Option<(String, usize)>,
    /// Topics that are gone for certain.
    pub deleted: Vec<Uuid>,
    /// What consumers were given in this round.
    pub seen: Vec<Seen>,
    /// Batches acknowledged in this round, and their bytes.
    pub acknowledged: (u64, u64),
}

impl Model {
    /// A partition of a topic that has not been deleted.
    pub fn partition(&mut self, place: Place) -> Option<&mut Partition> {
        self.topics.get_mut(&place.0)?.partitions.get_mut(usize::try_from(place.1).ok()?)
    }

    /// Whether the topic is there for certain.
    pub fn is_there(&self, topic: Uuid) -> bool {
        self.topics.get(&topic).is_some_and(|topic| !topic.deleting)
    }

    /// Adds a topic.
    pub fn add(&mut self, id: Uuid, name: &str, partitions: usize, steady: bool) -> Result<()> {
        if self.deleted.contains(&id) || self.topics.contains_key(&id) {
            bail!("topic id {id} was given twice");
        }
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        let topic = Topic { name: name.to_owned(), steady, partitions, deleting: false, growing: None };
        self.topics.insert(id, topic);
        Ok(())
    }

    /// A batch is about to be sent.
    pub fn attempt(&mut self, place: Place, fingerprint: u64, count: i64, idempotent: bool) {
        if let Some(partition) = self.partition(place) {
            let attempt = partition.attempts.entry(fingerprint).or_insert(Attempt { count, copies: 0 });
            attempt.copies = if idempotent { 1 } else { attempt.copies + 1 };
        }
    }

    /// A batch was acknowledged.
    pub fn acknowledge(&mut self, place: Place, base: i64, kept: Kept, size: usize, idempotent: bool) -> Result<()> {
        let Some(partition) = self.partition(place) else { return Ok(()) };
        partition.keep(base, kept, idempotent)?;
        if let Some(attempt) = partition.attempts.get_mut(&kept.fingerprint) {
            attempt.copies -= 1;
            if attempt.copies == 0 {
                partition.attempts.remove(&kept.fingerprint);
            }
        }
        self.acknowledged.0 += 1;
        self.acknowledged.1 += size as u64;
        Ok(())
    }
}
