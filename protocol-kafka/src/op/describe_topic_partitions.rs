//! DescribeTopicPartitions: topics with their partitions, in pages.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::limits::PARTITIONS_DESCRIBED_MAX;
use crate::{map, topic_name, topics};
use headwater_engine::Topic;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_request::Cursor as RequestCursor;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition as Partition, DescribeTopicPartitionsResponseTopic as Answer,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: DescribeTopicPartitionsRequest,
) -> Result<DescribeTopicPartitionsResponse, Close> {
    let cursor = request.cursor.as_ref();
    if let Some(error) = fault(&request) {
        ctx.count_error(call, error.code());
        let topics = request
            .topics
            .into_iter()
            .map(|topic| Answer::default().with_error_code(error.code()).with_name(Some(topic.name)));
        return Ok(DescribeTopicPartitionsResponse::default().with_topics(topics.collect()));
    }
    let begins_at = cursor.map(|cursor| cursor.topic_name.clone()).unwrap_or_default();
    let mut topics: BTreeMap<TopicName, Option<Arc<Topic>>> = BTreeMap::new();
    if request.topics.is_empty() {
        let all = topics::all(ctx);
        topics.extend(all.map(|topic| (map::topic_name(topic.name()), Some(topic))));
    } else {
        topics.extend(request.topics.into_iter().map(|topic| {
            let known = topics::by_name(ctx, &topic.name);
            (topic.name, known)
        }));
    }
    let mut room = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_DESCRIBED_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for (name, topic) in topics.range(begins_at..) {
        if room == 0 {
            response.next_cursor = Some(Cursor::default().with_topic_name(name.clone()));
            break;
        }
        let mut answer = Answer::default()
            .with_name(Some(name.clone()))
            .with_is_internal(topic_name::is_internal(name))
            .with_topic_authorized_operations(topics::TOPIC_OPERATIONS);
        let Some(topic) = topic else {
            let is_bad = topic_name::fault(name).is_some();
            let error =
                if is_bad { ResponseError::InvalidTopicException } else { ResponseError::UnknownTopicOrPartition };
            response.topics.push(answer.with_error_code(error.code()));
            continue;
        };
        let first = cursor.filter(|cursor| cursor.topic_name == *name).map_or(0, |cursor| cursor.partition_index);
        let partitions = topic.partitions();
        let rest = usize::try_from(first).ok().and_then(|first| partitions.get(first..)).unwrap_or_default();
        let node = BrokerId(ctx.options.node_id);
        answer.partitions = rest
            .iter()
            .take(room)
            .map(|partition| {
                Partition::default()
                    .with_partition_index(map::partition_index(partition.index()))
                    .with_leader_id(node)
                    .with_leader_epoch(partition.leader_epoch().0)
                    .with_replica_nodes(vec![node])
                    .with_isr_nodes(vec![node])
                    .with_eligible_leader_replicas(Some(Vec::new()))
                    .with_last_known_elr(Some(Vec::new()))
            })
            .collect();
        answer.topic_id = map::topic_id(topic.id());
        answer.is_internal |= topic.is_internal();
        response.topics.push(answer);
        if let Some(next) = rest.get(room) {
            let index = map::partition_index(next.index());
            response.next_cursor = Some(Cursor::default().with_topic_name(name.clone()).with_partition_index(index));
            break;
        }
        room -= rest.len();
    }
    response.topics.iter().for_each(|topic| ctx.count_error(call, topic.error_code));
    Ok(response)
}

/// What makes the reference refuse the whole request. An empty name throws in it where other bad names do not.
fn fault(request: &DescribeTopicPartitionsRequest) -> Option<ResponseError> {
    let has_name = |name: &TopicName| request.topics.iter().any(|topic| topic.name == *name);
    let is_bad = |cursor: &&RequestCursor| {
        cursor.partition_index < 0 || !(request.topics.is_empty() || has_name(&cursor.topic_name))
    };
    if request.cursor.as_ref().filter(is_bad).is_some() {
        return Some(ResponseError::InvalidRequest);
    }
    request.topics.iter().any(|topic| topic.name.is_empty()).then_some(ResponseError::UnknownServerError)
}
