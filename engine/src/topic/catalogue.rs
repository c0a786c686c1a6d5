//! All topics: those that are durable, and the names that are promised to topics on their way.

use super::{NewTopic, Topic, TopicError, name};
use crate::ack::{Ack, Pending};
use crate::cell::Shared;
use crate::commit::Command;
use crate::ids::{PartitionId, ProducerId, TopicId};
use crate::partition::{Partition, Published};
use crate::settings::Settings;
use crate::wal::entry::TopicRecord;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A topic as decided, durable or not.
struct Decided {
    topic: Arc<Topic>,
    partitions: Vec<Arc<Partition>>,
    settings: Arc<Settings>,
}

/// What is decided. Its lock is held while a command is queued, so that the queue's order is the order of decisions.
#[derive(Default)]
struct Front {
    by_name: HashMap<String, TopicId>,
    by_id: HashMap<TopicId, Decided>,
    partition_count: usize,
    next_partition: u64,
    next_producer: i64,
    /// Producer ids below this are logged as given away.
    reserved_producers: i64,
}

#[derive(Default)]
struct PublishedTopics {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
}

/// See the module.
#[derive(Default)]
pub struct Catalogue {
    front: Mutex<Front>,
    published: RwLock<PublishedTopics>,
}

/// Producer ids are logged in blocks of this many.
const PRODUCER_BLOCK: i64 = 1000;

impl Catalogue {
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.published.read().by_name.get(name).cloned()
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.published.read().by_id.get(&id).cloned()
    }

    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.published.read().by_name.values().cloned().collect()
    }

    pub fn partition_count(&self) -> usize {
        self.front.lock().partition_count
    }

    /// After recovery: everything published is all there is.
    pub fn restore(&self, topics: Vec<Arc<Topic>>, next_partition: u64, next_producer: i64) {
        let mut front = self.front.lock();
        let mut published = self.published.write();
        *front = Front { next_partition, next_producer, reserved_producers: next_producer, ..Front::default() };
        *published = PublishedTopics::default();
        for topic in topics {
            let partitions = topic.partitions().to_vec();
            front.partition_count += partitions.len();
            front.by_name.insert(topic.name().to_owned(), topic.id());
            let settings = topic.settings();
            front.by_id.insert(topic.id(), Decided { topic: topic.clone(), partitions, settings });
            published.by_id.insert(topic.id(), topic.clone());
            published.by_name.insert(topic.name().to_owned(), topic);
        }
    }

    /// Refuses with an answer that rests on what was decided before: it holds once that is durable.
    fn refuse<T, E: From<TopicError>>(shared: &Shared, error: E) -> Pending<Result<T, E>> {
        Self::answer(shared, Err(error))
    }

    /// Answers with something that rests on what was decided before.
    fn answer<T, E: From<TopicError>>(shared: &Shared, answer: Result<T, E>) -> Pending<Result<T, E>> {
        let ack = Ack::default();
        match shared.queue.push(Command::Barrier, Some(&ack)) {
            Ok(()) => Pending::new(ack, answer),
            Err(refused) => Pending::ready(Err(TopicError::from(refused).into())),
        }
    }

    fn check(front: &Front, shared: &Shared, new: &NewTopic) -> Result<Settings, TopicError> {
        name::check(&new.name).map_err(TopicError::InvalidName)?;
        if new.partitions == 0 {
            return Err(TopicError::InvalidPartitions("Number of partitions must be larger than 0.".to_owned()));
        }
        let settings = Settings::parse_new(new.settings.clone(), &shared.options.topic_defaults)?;
        let max = shared.options.partitions_max;
        if front.partition_count + new.partitions as usize > max {
            return Err(TopicError::TooManyPartitions { max });
        }
        if front.by_name.contains_key(&new.name) {
            return Err(TopicError::Exists(new.name.clone()));
        }
        Ok(settings)
    }

    pub fn check_new(&self, shared: &Shared, new: &NewTopic) -> Pending<Result<(), TopicError>> {
        let front = self.front.lock();
        match Self::check(&front, shared, new) {
            Ok(_) => Pending::ready(Ok(())),
            Err(error) => Self::refuse(shared, error),
        }
    }

    pub fn create(&self, shared: &Arc<Shared>, new: NewTopic) -> Pending<Result<Arc<Topic>, TopicError>> {
        let mut front = self.front.lock();
        let settings = match Self::check(&front, shared, &new) {
            Ok(settings) => settings,
            Err(error) => return Self::refuse(shared, error),
        };
        let record = TopicRecord {
            id: shared.random_id(),
            first: PartitionId(front.next_partition),
            count: new.partitions,
            epoch: shared.epoch,
            created: shared.env.clock.wall(),
            name: new.name,
            settings: new.settings,
        };
        let topic = Arc::new(Topic::new(record.clone(), settings));
        let ids = ids(record.first, record.count);
        let partitions = topic.make_partitions(shared, ids, |_| Published::new(record.epoch), 0);
        topic.add_partitions(&partitions);
        let ack = Ack::default();
        let command = Command::CreateTopic { topic: topic.clone(), record: record.clone() };
        if let Err(refused) = shared.queue.push(command, Some(&ack)) {
            return Pending::ready(Err(refused.into()));
        }
        front.next_partition += u64::from(record.count);
        front.partition_count += record.count as usize;
        front.by_name.insert(record.name, record.id);
        let settings = topic.settings();
        front.by_id.insert(record.id, Decided { topic: topic.clone(), partitions, settings });
        Pending::new(ack, Ok(topic))
    }

    pub fn delete(&self, shared: &Shared, id: TopicId) -> Pending<Result<(), TopicError>> {
        let mut front = self.front.lock();
        let Some(Decided { topic, partitions, .. }) = front.by_id.get(&id) else {
            return Self::refuse(shared, TopicError::NotFound);
        };
        let ack = Ack::default();
        // Every partition's lock is held while the command is queued: no batch can be queued behind it.
        let mut fronts: Vec<_> = partitions.iter().map(|partition| partition.front()).collect();
        if let Err(refused) = shared.queue.push(Command::DeleteTopic { topic: topic.clone() }, Some(&ack)) {
            return Pending::ready(Err(refused.into()));
        }
        fronts.iter_mut().for_each(|partition| partition.is_deleted = true);
        drop(fronts);
        if let Some(decided) = front.by_id.remove(&id) {
            front.by_name.remove(decided.topic.name());
            front.partition_count -= decided.partitions.len();
        }
        Pending::new(ack, Ok(()))
    }

    pub fn add_partitions(&self, shared: &Arc<Shared>, id: TopicId, total: u32) -> Pending<Result<(), TopicError>> {
        let mut guard = self.front.lock();
        let front = &mut *guard;
        let Some(decided) = front.by_id.get_mut(&id) else { return Self::refuse(shared, TopicError::NotFound) };
        let has = u32::try_from(decided.partitions.len()).unwrap_or(u32::MAX);
        let Some(more) = total.checked_sub(has).filter(|more| *more > 0) else {
            let why = if total == has {
                format!("Topic already has {has} partition(s).")
            } else {
                format!(
                    "The topic {} currently has {has} partition(s); {total} would not be an increase.",
                    decided.topic.name()
                )
            };
            return Self::refuse(shared, TopicError::InvalidPartitions(why));
        };
        let max = shared.options.partitions_max;
        if front.partition_count + more as usize > max {
            return Pending::ready(Err(TopicError::TooManyPartitions { max }));
        }
        let first = PartitionId(front.next_partition);
        let topic = decided.topic.clone();
        let new = |_| Published::new(shared.epoch);
        let added = topic.make_partitions(shared, ids(first, more), new, decided.partitions.len());
        let ack = Ack::default();
        let command = Command::AddPartitions { topic, added: added.clone(), first, epoch: shared.epoch };
        if let Err(refused) = shared.queue.push(command, Some(&ack)) {
            return Pending::ready(Err(refused.into()));
        }
        decided.partitions.extend(added);
        front.next_partition += u64::from(more);
        front.partition_count += more as usize;
        Pending::new(ack, Ok(()))
    }

    /// Gives a topic the settings that `change` makes of those it has; `only_check` says what that would come to. The lock
    /// is held meanwhile, so that of two changes at a time neither is lost.
    pub fn alter<E: From<TopicError>>(
        &self,
        shared: &Shared,
        id: TopicId,
        change: impl FnOnce(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, E>,
        only_check: bool,
    ) -> Pending<Result<(), E>> {
        let mut front = self.front.lock();
        let Some(decided) = front.by_id.get_mut(&id) else {
            return Self::refuse(shared, E::from(TopicError::NotFound));
        };
        let changed = change(decided.settings.overrides()).and_then(|overrides| {
            Settings::parse_new(overrides, &shared.options.topic_defaults)
                .map_err(|error| TopicError::from(error).into())
        });
        let settings = match changed {
            Ok(settings) if settings == *decided.settings || only_check => return Self::answer(shared, Ok(())),
            Ok(settings) => Arc::new(settings),
            Err(error) => return Self::refuse(shared, error),
        };
        let ack = Ack::default();
        let command = Command::AlterTopic { topic: decided.topic.clone(), settings: settings.clone() };
        if let Err(refused) = shared.queue.push(command, Some(&ack)) {
            return Pending::ready(Err(TopicError::from(refused).into()));
        }
        decided.settings = settings;
        Pending::new(ack, Ok(()))
    }

    /// A producer id that nobody was given before and nobody will be given again.
    pub fn new_producer(&self, shared: &Shared) -> Pending<Result<ProducerId, TopicError>> {
        let mut front = self.front.lock();
        let ack = Ack::default();
        let id = front.next_producer;
        // The first id of a block has the block logged; the others rest on that and wait for it as well.
        let starts_block = id >= front.reserved_producers;
        let command = if starts_block { Command::ProducerIds { next: id + PRODUCER_BLOCK } } else { Command::Barrier };
        if let Err(refused) = shared.queue.push(command, Some(&ack)) {
            return Pending::ready(Err(refused.into()));
        }
        if starts_block {
            front.reserved_producers = id + PRODUCER_BLOCK;
        }
        front.next_producer = id + 1;
        Pending::new(ack, Ok(ProducerId(id)))
    }

    /// A creation is durable.
    pub fn publish(&self, topic: &Arc<Topic>) {
        let mut published = self.published.write();
        published.by_id.insert(topic.id(), topic.clone());
        published.by_name.insert(topic.name().to_owned(), topic.clone());
    }

    /// A deletion is durable.
    pub fn retract(&self, topic: &Topic) {
        let mut published = self.published.write();
        published.by_id.remove(&topic.id());
        if published.by_name.get(topic.name()).is_some_and(|named| named.id() == topic.id()) {
            published.by_name.remove(topic.name());
        }
    }

    /// Every partition of every published topic.
    pub fn for_each_partition(&self, mut visit: impl FnMut(&Arc<Partition>)) {
        for topic in self.topics() {
            topic.partitions().iter().for_each(&mut visit);
        }
    }
}

fn ids(first: PartitionId, count: u32) -> impl Iterator<Item = PartitionId> {
    (0..u64::from(count)).map(move |step| PartitionId(first.0 + step))
}
