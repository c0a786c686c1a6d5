//! What one group has committed. Pure but for the acks that it looks at.
//!
//! A commit is queued in the engine first and shows once it is durable. Commits become durable in the order in which they were
//! queued, so they are applied from the front of a list: a later one is never undone by an earlier one.

use super::records::Committed;
use headwater_engine::Ack;
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use uuid::Uuid;

/// A committed offset that changes; none when it goes.
pub(crate) type Change = (StrBytes, i32, Option<Committed>);

struct Queued {
    ack: Ack,
    changes: Vec<Change>,
    bytes: usize,
}

/// Bytes of memory that an offset takes beside texts, about.
const OFFSET_SIZE: usize = 128;
/// The same of a topic: a map has room for several partitions from its first one on.
const TOPIC_SIZE: usize = 1_024;

fn size_of(committed: &Committed) -> usize {
    OFFSET_SIZE + committed.metadata.len()
}

/// Offsets by topic and partition.
#[derive(Default)]
pub(crate) struct Offsets {
    durable: HashMap<StrBytes, BTreeMap<i32, Committed>>,
    queued: VecDeque<Queued>,
    count: usize,
    bytes: usize,
}

impl Offsets {
    /// Changes were queued in the engine; they hold when `ack` is done.
    pub(crate) fn queue(&mut self, ack: Ack, changes: Vec<Change>) {
        self.settle();
        let size = |(topic, _, committed): &Change| topic.len() + committed.as_ref().map_or(OFFSET_SIZE, size_of);
        let bytes = changes.iter().map(size).sum();
        self.bytes += bytes;
        self.queued.push_back(Queued { ack, changes, bytes });
    }

    /// Takes in what has become durable.
    pub(crate) fn settle(&mut self) {
        while let Some(outcome) = self.queued.front().and_then(|queued| queued.ack.poll_done()) {
            let Some(queued) = self.queued.pop_front() else { return };
            self.bytes -= queued.bytes;
            // The engine stopped: nobody is told that these hold.
            if outcome.is_ok() {
                queued.changes.into_iter().for_each(|change| self.apply(change));
            }
        }
    }

    /// Takes in one change that is durable.
    pub(crate) fn apply(&mut self, (topic, partition, committed): Change) {
        match committed {
            Some(committed) => {
                self.bytes += size_of(&committed);
                let name = topic.len();
                let partitions = self.durable.entry(topic).or_insert_with(|| {
                    self.bytes += TOPIC_SIZE + name;
                    BTreeMap::new()
                });
                match partitions.insert(partition, committed) {
                    Some(before) => self.bytes -= size_of(&before),
                    None => self.count += 1,
                }
            }
            None => {
                let Some(partitions) = self.durable.get_mut(&topic) else { return };
                if let Some(before) = partitions.remove(&partition) {
                    self.count -= 1;
                    self.bytes -= size_of(&before);
                }
                if partitions.is_empty() {
                    self.durable.remove(&topic);
                    self.bytes -= TOPIC_SIZE + topic.len();
                }
            }
        }
    }

    /// The offset committed for a partition.
    pub(crate) fn get(&self, topic: &StrBytes, partition: i32) -> Option<&Committed> {
        self.durable.get(topic)?.get(&partition)
    }

    /// All of them, topic by topic.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&StrBytes, &BTreeMap<i32, Committed>)> {
        self.durable.iter()
    }

    /// What there is when everything queued is durable: topics and partitions, with the topic's id where it is known.
    pub(crate) fn decided(&self) -> HashMap<(StrBytes, i32), Option<Uuid>> {
        let each = |(topic, all): (&StrBytes, &BTreeMap<i32, Committed>)| {
            let each = all.iter().map(|(index, committed)| ((topic.clone(), *index), committed.topic_id));
            each.collect::<Vec<_>>()
        };
        let mut decided: HashMap<(StrBytes, i32), Option<Uuid>> = self.durable.iter().flat_map(each).collect();
        for (topic, partition, committed) in self.queued.iter().flat_map(|queued| &queued.changes) {
            let key = (topic.clone(), *partition);
            match committed {
                Some(committed) => decided.insert(key, committed.topic_id),
                None => decided.remove(&key),
            };
        }
        decided
    }

    /// Whether something is committed for one of these topics, or on its way.
    pub(crate) fn knows_any<T>(&self, topics: &HashMap<StrBytes, T>) -> bool {
        let mut queued = self.queued.iter().flat_map(|queued| &queued.changes);
        self.durable.keys().any(|name| topics.contains_key(name)) || queued.any(|(name, ..)| topics.contains_key(name))
    }

    /// Whether a partition's offset is about to change.
    pub(crate) fn is_changing(&self, topic: &StrBytes, partition: i32) -> bool {
        let mut queued = self.queued.iter().flat_map(|queued| &queued.changes);
        queued.any(|(name, index, _)| *index == partition && name == topic)
    }

    /// What was queued last, when it is not durable yet.
    pub(crate) fn last_queued(&self) -> Option<Ack> {
        self.queued.back().map(|queued| queued.ack.clone())
    }

    /// How many bytes more they would take with these changes.
    pub(crate) fn growth(&self, changes: &[Change]) -> usize {
        let growth = changes.iter().map(|(topic, partition, committed)| {
            let more = committed.as_ref().map_or(0, size_of);
            match self.durable.get(topic) {
                Some(partitions) => more.saturating_sub(partitions.get(partition).map_or(0, size_of)),
                None => more + TOPIC_SIZE + topic.len(),
            }
        });
        growth.sum()
    }

    /// Whether nothing is committed, nor on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.queued.is_empty()
    }

    /// How many there are, and may be once everything queued is durable.
    pub(crate) fn count(&self) -> usize {
        self.count + self.queued.iter().map(|queued| queued.changes.len()).sum::<usize>()
    }

    /// Bytes of memory that they take, about, those on their way included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: i64) -> Committed {
        Committed {
            offset,
            leader_epoch: -1,
            metadata: StrBytes::from_static_str("m"),
            commit_time: 0,
            expire_time: None,
            topic_id: None,
        }
    }

    fn topic() -> StrBytes {
        StrBytes::from_static_str("orders")
    }

    #[test]
    fn changes_hold_in_the_order_in_which_they_were_queued() {
        let mut offsets = Offsets::default();
        for offset in [5, 3] {
            offsets.queue(Ack::default(), vec![(topic(), 0, Some(committed(offset)))]);
        }
        offsets.settle();
        assert_eq!(offsets.get(&topic(), 0).map(|c| c.offset), Some(3));
        offsets.queue(Ack::default(), vec![(topic(), 0, None), (topic(), 1, Some(committed(9)))]);
        assert_eq!(offsets.decided(), HashMap::from([((topic(), 1), None)]));
        offsets.settle();
        assert_eq!((offsets.get(&topic(), 0), offsets.count()), (None, 1));
    }

    #[test]
    fn bytes_are_counted_from_the_moment_when_they_are_queued_until_they_go() {
        let mut offsets = Offsets::default();
        offsets.queue(Ack::default(), vec![(topic(), 0, Some(committed(1))), (topic(), 1, Some(committed(2)))]);
        let queued = offsets.bytes();
        assert!(queued >= 2 * (OFFSET_SIZE + 1) + topic().len());
        offsets.settle();
        assert_eq!(offsets.bytes(), 2 * (OFFSET_SIZE + 1) + TOPIC_SIZE + topic().len());
        let same = vec![(topic(), 0, Some(committed(7)))];
        assert_eq!(offsets.growth(&same), 0, "an offset that moves takes no more");
        let other = vec![(topic(), 2, Some(committed(7)))];
        assert_eq!(offsets.growth(&other), OFFSET_SIZE + 1);
        offsets.queue(Ack::default(), vec![(topic(), 0, None), (topic(), 1, None)]);
        offsets.settle();
        assert_eq!(offsets.bytes(), 0);
    }
}
