//! Metadata: topics with their partitions and leaders, and the broker to ask.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::group::OFFSETS_TOPIC;
use crate::limits::{self, TOPICS_AUTO_CREATED_MAX};
use crate::topics::Collisions;
use crate::{map, topic_name, topics};
use headwater_engine::{NewTopic, Topic, TopicError};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashSet};
use uuid::Uuid;

/// The first version whose request may name topics by id. Versions 10 and 11 have the field and do not serve it.
const BY_ID: i16 = 12;

/// About the memory that one partition takes in the answer.
const PARTITION_BYTES: usize = 256;

pub(crate) async fn handle(ctx: &Context, call: &Call, request: MetadataRequest) -> Result<MetadataResponse, Close> {
    // Version 0 cannot say null: an empty list is all topics there.
    if call.version == 0 && request.topics.is_none() {
        return Err(Close::Refused("null where version 0 allows none"));
    }
    let named = request.topics.as_deref().unwrap_or_default();
    if call.version < BY_ID && named.iter().any(|t| t.name.is_none() || !t.topic_id.is_nil()) {
        return Ok(refuse(ctx, call, request, ResponseError::InvalidRequest));
    }
    if named.iter().any(|t| t.name.is_none() && t.topic_id.is_nil()) {
        return Ok(refuse(ctx, call, request, ResponseError::UnknownServerError));
    }
    let answer = Answer { ctx, version: call.version, with_operations: request.include_topic_authorized_operations };
    let all = request.topics.is_none() || (call.version == 0 && named.is_empty());
    let _charge = limits::account(ctx, if all { ctx.engine.partition_count() * PARTITION_BYTES } else { 0 }).await;
    let topics = if all {
        let seen = topics::all(ctx);
        seen.map(|topic| answer.known(&topic)).collect()
    } else if named.iter().any(|t| !t.topic_id.is_nil()) {
        // As soon as one topic is named by its id, those with a name alone are not answered.
        let mut ids = HashSet::new();
        let ids = named.iter().map(|t| t.topic_id).filter(|id| !id.is_nil() && ids.insert(*id));
        ids.map(|id| answer.by_id(id)).collect()
    } else {
        let mut names = HashSet::new();
        let names = named.iter().filter_map(|t| t.name.as_ref()).filter(|name| names.insert((*name).clone()));
        answer.by_name(names, request.allow_auto_topic_creation).await
    };
    let mut response = MetadataResponse::default()
        .with_brokers(vec![
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(ctx.options.node_id))
                .with_host(StrBytes::from_string(ctx.options.advertised_host.clone()))
                .with_port(i32::from(ctx.options.advertised_port))
                .with_rack(ctx.options.rack.clone().map(StrBytes::from_string)),
        ])
        .with_cluster_id(Some(ctx.cluster_id.clone()))
        .with_controller_id(BrokerId(ctx.options.node_id))
        .with_topics(topics);
    if (8..=10).contains(&call.version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = topics::CLUSTER_OPERATIONS;
    }
    response.topics.iter().for_each(|topic| ctx.count_error(call, topic.error_code));
    Ok(response)
}

/// The reference's answer to a request that it does not understand: nothing but the error, on every topic.
fn refuse(ctx: &Context, call: &Call, request: MetadataRequest, error: ResponseError) -> MetadataResponse {
    ctx.count_error(call, error.code());
    let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(Some(topic.name.unwrap_or_default()))
            .with_topic_id(topic.topic_id)
    });
    MetadataResponse::default()
        .with_cluster_id(None)
        .with_controller_id(BrokerId(-1))
        .with_topics(topics.collect())
        .with_error_code(error.code())
}

struct Answer<'a> {
    ctx: &'a Context,
    version: i16,
    with_operations: bool,
}

impl Answer<'_> {
    fn topic(&self, error_code: i16) -> MetadataResponseTopic {
        let mut topic = MetadataResponseTopic::default().with_error_code(error_code);
        if self.with_operations && self.version >= 8 {
            topic.topic_authorized_operations = topics::TOPIC_OPERATIONS;
        }
        topic
    }

    fn known(&self, topic: &Topic) -> MetadataResponseTopic {
        let node = BrokerId(self.ctx.options.node_id);
        let partitions = topic.partitions();
        let partitions = partitions.iter().map(|partition| {
            MetadataResponsePartition::default()
                .with_partition_index(map::partition_index(partition.index()))
                .with_leader_id(node)
                .with_leader_epoch(partition.leader_epoch().0)
                .with_replica_nodes(vec![node])
                .with_isr_nodes(vec![node])
        });
        self.topic(0)
            .with_name(Some(map::topic_name(topic.name())))
            .with_topic_id(map::topic_id(topic.id()))
            .with_is_internal(topic.is_internal() || topic_name::is_internal(topic.name()))
            .with_partitions(partitions.collect())
    }

    fn unknown(&self, name: &TopicName, error: ResponseError) -> MetadataResponseTopic {
        self.topic(error.code()).with_name(Some(name.clone())).with_is_internal(topic_name::is_internal(name))
    }

    fn by_id(&self, id: Uuid) -> MetadataResponseTopic {
        match self.ctx.engine.topic_by_id(map::topic_id_from(id)).filter(|t| !topic_name::is_hidden(t.name())) {
            Some(topic) => self.known(&topic),
            None => MetadataResponseTopic::default()
                .with_error_code(ResponseError::UnknownTopicId.code())
                .with_name(None)
                .with_topic_id(id),
        }
    }

    /// Topics that are not there are made first, when that is allowed, all at once. They are still answered with an error,
    /// as the reference does: the client asks again and finds them.
    async fn by_name(&self, names: impl Iterator<Item = &TopicName>, may_create: bool) -> Vec<MetadataResponseTopic> {
        let mut topics = Vec::new();
        let mut created = Vec::new();
        let mut collisions = Collisions::default();
        // What CreateTopics would refuse is not made here either, and is simply unknown.
        let mut is_free = |name: &str| !topic_name::is_reserved(name) && collisions.find(self.ctx, name).is_none();
        for name in names {
            if let Some(topic) = topics::by_name(self.ctx, name) {
                topics.push(self.known(&topic));
            } else if topic_name::fault(name).is_some() {
                topics.push(self.unknown(name, ResponseError::InvalidTopicException));
            } else if **name == *OFFSETS_TOPIC && may_create && self.ctx.options.auto_create_topics {
                // The same as when the first group is looked for. It is found when the client asks again.
                let error = match self.ctx.groups.open(true).await {
                    Ok(_) => ResponseError::UnknownTopicOrPartition,
                    Err(unavailable) => unavailable.0,
                };
                topics.push(self.unknown(name, error));
            } else if may_create
                && self.ctx.options.auto_create_topics
                && created.len() < TOPICS_AUTO_CREATED_MAX
                && is_free(name)
            {
                let partitions = self.ctx.options.default_partitions;
                let new = NewTopic { name: name.to_string(), partitions, settings: BTreeMap::new() };
                created.push((name.clone(), self.ctx.engine.create_topic(new)));
            } else {
                topics.push(self.unknown(name, ResponseError::UnknownTopicOrPartition));
            }
        }
        for (name, pending) in created {
            let error = match pending.await {
                // Another request may have made it meanwhile.
                Ok(_) | Err(TopicError::Exists(_)) => ResponseError::UnknownTopicOrPartition,
                Err(error) => {
                    tracing::warn!(topic = &**name, ?error, "a topic was not made on demand");
                    map::Failure::from(error).error
                }
            };
            topics.push(self.unknown(&name, error));
        }
        topics
    }
}
