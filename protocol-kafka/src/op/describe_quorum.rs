//! DescribeQuorum: who keeps the catalogue. It is in the engine's one log, and this node is its only voter: the log's blocks
//! are counted, those that are durable and visible, and the epoch is that of this run.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_protocol::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse};
use kafka_protocol::protocol::StrBytes;

/// The reference's log of its catalogue, by which clients ask.
const METADATA_LOG: &str = "__cluster_metadata";

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: DescribeQuorumRequest,
) -> Result<DescribeQuorumResponse, Close> {
    // Either the one partition is asked for, or nothing is known.
    let is_known = match request.topics.as_slice() {
        [topic] => {
            *topic.topic_name == *METADATA_LOG
                && matches!(topic.partitions.as_slice(), [partition] if partition.partition_index == 0)
        }
        _ => false,
    };
    let explained = |text: &'static str| (call.version >= 2).then(|| StrBytes::from_static_str(text));
    let mut response = DescribeQuorumResponse::default().with_error_message(explained(""));
    response.topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                if is_known {
                    return quorum(ctx, call.version).with_error_message(explained(""));
                }
                let code = ResponseError::UnknownTopicOrPartition.code();
                ctx.count_error(call, code);
                PartitionData::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
                    .with_error_message(explained("This server does not host this topic-partition."))
            });
            let partitions = partitions.collect();
            TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions)
        })
        .collect();
    if is_known && call.version >= 2 {
        let listener = Listener::default()
            .with_name(StrBytes::from_static_str("PLAINTEXT"))
            .with_host(StrBytes::from_string(ctx.options.advertised_host.clone()))
            .with_port(ctx.options.advertised_port);
        response.nodes =
            vec![Node::default().with_node_id(BrokerId(ctx.options.node_id)).with_listeners(vec![listener])];
    }
    Ok(response)
}

fn quorum(ctx: &Context, version: i16) -> PartitionData {
    let node = BrokerId(ctx.options.node_id);
    let end = i64::try_from(ctx.engine.last_block().0.saturating_add(1)).unwrap_or(i64::MAX);
    let mut voter = ReplicaState::default().with_replica_id(node).with_log_end_offset(end);
    if version >= 1 {
        let now = ctx.engine.clock().wall().0;
        voter = voter.with_last_fetch_timestamp(now).with_last_caught_up_timestamp(now);
    }
    if version >= 2 {
        voter.replica_directory_id = map::topic_id(ctx.engine.data_id());
    }
    PartitionData::default()
        .with_leader_id(node)
        .with_leader_epoch(ctx.engine.node_epoch().0)
        .with_high_watermark(end)
        .with_current_voters(vec![voter])
}
