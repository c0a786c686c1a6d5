//! AlterPartitionReassignments: a partition can be placed on the one node there is, where it is already.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::limits::Messages;
use crate::map::Failure;
use crate::{topic_name, topics};
use headwater_engine::Topic;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use kafka_protocol::protocol::StrBytes;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: AlterPartitionReassignmentsRequest,
) -> Result<AlterPartitionReassignmentsResponse, Close> {
    let mut response = AlterPartitionReassignmentsResponse::default()
        // The reference has an empty message when nothing was asked for.
        .with_error_message(request.topics.is_empty().then(StrBytes::new));
    if call.version >= 1 {
        response.allow_replication_factor_change = request.allow_replication_factor_change;
    }
    let mut messages = Messages::new();
    for topic in request.topics {
        let known = topics::by_name(ctx, &topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let failure = check(ctx, known.as_deref(), &topic.name, partition).err();
            let code = failure.as_ref().map_or(0, Failure::code);
            ctx.count_error(call, code);
            ReassignablePartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
                .with_error_message(failure.and_then(|failure| messages.take(&failure)))
        });
        let partitions = partitions.collect();
        response.responses.push(ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    Ok(response)
}

fn check(ctx: &Context, topic: Option<&Topic>, name: &str, wanted: &ReassignablePartition) -> Result<(), Failure> {
    let unknown = |what: String| Err(Failure::because(ResponseError::UnknownTopicOrPartition, what));
    let Some(topic) = topic else {
        return unknown(format!("Unable to find a topic named {}.", topic_name::told(name)));
    };
    let index = wanted.partition_index;
    if topics::partition(topic, index).is_none() {
        return unknown(format!("Unable to find partition {name}:{index}."));
    }
    match &wanted.replicas {
        Some(brokers) => topics::check_assignment(ctx, brokers),
        None => Err(ResponseError::NoReassignmentInProgress.into()),
    }
}
