//! Topics and partitions as a Kafka client may see them, and what several operations ask of them.

use crate::context::Context;
use crate::map::{self, Failure};
use crate::topic_name;
use headwater_engine::{Epoch, Offset, Partition, Topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// All operations on a topic that a client may be told that it may do, as a bit field: everything, while there is no
/// authorizer.
pub(crate) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// The same for the cluster.
pub(crate) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// The same for a group.
pub(crate) const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

/// The topic of that name.
pub(crate) fn by_name(ctx: &Context, name: &str) -> Option<Arc<Topic>> {
    if topic_name::is_hidden(name) { None } else { ctx.engine.topic(name) }
}

/// The topic of that id.
pub(crate) fn by_id(ctx: &Context, id: Uuid) -> Option<Arc<Topic>> {
    ctx.engine.topic_by_id(map::topic_id_from(id)).filter(|topic| !topic_name::is_hidden(topic.name()))
}

/// All topics, by name.
pub(crate) fn all(ctx: &Context) -> impl Iterator<Item = Arc<Topic>> {
    ctx.engine.topics().into_iter().filter(|topic| !topic_name::is_hidden(topic.name()))
}

/// Refuses to grow a topic that the server keeps its own state in. The reference does it, and groups are then looked for in
/// other partitions than those that their offsets are in.
pub(crate) fn check_not_internal(topic: &Topic) -> Result<(), Failure> {
    if !topic.is_internal() {
        return Ok(());
    }
    let message = format!("Topic '{}' is internal: its partitions are the server's own.", topic.name());
    Err(Failure::because(ResponseError::PolicyViolation, message))
}

/// The partition with that index.
pub(crate) fn partition(topic: &Topic, index: i32) -> Option<Arc<Partition>> {
    topic.partition(u32::try_from(index).ok()?)
}

/// Existing topics by what new names could collide with: metric names cannot tell dots from underscores. Made when the first
/// name needs it, once per request.
#[derive(Default)]
pub(crate) struct Collisions {
    forms: Option<HashMap<String, Arc<Topic>>>,
}

impl Collisions {
    /// The topic that a new one called `name` would collide with.
    pub(crate) fn find(&mut self, ctx: &Context, name: &str) -> Option<&Topic> {
        if !topic_name::can_collide(name) {
            return None;
        }
        let forms = self.forms.get_or_insert_with(|| {
            let topics = ctx.engine.topics().into_iter().filter(|topic| topic_name::can_collide(topic.name()));
            topics.map(|topic| (topic_name::collision_form(topic.name()), topic)).collect()
        });
        forms.get(&topic_name::collision_form(name)).map(|topic| &**topic).filter(|topic| topic.name() != name)
    }
}

/// Checks the leader epoch that a client believes in; -1 says that it believes nothing.
pub(crate) fn check_leader_epoch(partition: &Partition, believed: i32) -> Result<(), Failure> {
    let epoch = partition.leader_epoch().0;
    if believed < 0 || believed == epoch {
        Ok(())
    } else if believed < epoch {
        Err(ResponseError::FencedLeaderEpoch.into())
    } else {
        Err(ResponseError::UnknownLeaderEpoch.into())
    }
}

/// The leader epoch in which the record at `offset` was appended: the smallest that ends behind it.
pub(crate) fn epoch_of(partition: &Partition, offset: Offset) -> Epoch {
    let (mut low, mut high) = (0, partition.leader_epoch().0);
    while low < high {
        let middle = low + (high - low) / 2;
        match partition.epoch_end(Epoch(middle)) {
            Some((_, end)) if end > offset => high = middle,
            _ => low = middle + 1,
        }
    }
    partition.epoch_end(Epoch(low)).map_or(Epoch(low), |(epoch, _)| epoch)
}

/// Checks the brokers that a request places a partition on. This node is the only one.
pub(crate) fn check_assignment(ctx: &Context, brokers: &[BrokerId]) -> Result<(), Failure> {
    let invalid = |message: String| Err(Failure::because(ResponseError::InvalidReplicaAssignment, message));
    if brokers.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut seen = HashSet::new();
    let mut sorted: Vec<i32> = brokers.iter().map(|broker| broker.0).collect();
    sorted.sort_unstable();
    for broker in sorted {
        if broker != ctx.options.node_id {
            return invalid(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ));
        }
        if !seen.insert(broker) {
            return invalid(format!("The manual partition assignment includes the broker {broker} more than once."));
        }
    }
    Ok(())
}
