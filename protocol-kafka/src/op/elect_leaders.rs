//! ElectLeaders: each partition has the one leader that it can have, so no election is needed.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::limits::Messages;
use crate::map::{self, Failure};
use crate::{topic_name, topics};
use headwater_engine::Topic;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

/// Kinds of election.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: ElectLeadersRequest,
) -> Result<ElectLeadersResponse, Close> {
    let kind = if call.version >= 1 { request.election_type } else { PREFERRED };
    let is_known = matches!(kind, PREFERRED | UNCLEAN);
    let mut response = ElectLeadersResponse::default();
    if !is_known {
        response.error_code = ResponseError::InvalidRequest.code();
    }
    let Some(wanted) = request.topic_partitions else {
        // Of all partitions, those are named for which there was anything to do.
        if is_known {
            let topics = topics::all(ctx).map(|topic| map::topic_name(topic.name()));
            response.replica_election_results =
                topics.map(|name| ReplicaElectionResult::default().with_topic(name)).collect();
        }
        return Ok(response);
    };
    let mut messages = Messages::new();
    for topic in wanted {
        let known = topics::by_name(ctx, &topic.topic);
        let results = topic.partitions.into_iter().map(|index| {
            let failure = if is_known {
                outcome(known.as_deref(), &topic.topic, index)
            } else {
                Failure::because(ResponseError::InvalidRequest, format!("Unknown election type {kind}"))
            };
            ctx.count_error(call, failure.code());
            PartitionResult::default()
                .with_partition_id(index)
                .with_error_code(failure.code())
                .with_error_message(messages.take(&failure))
        });
        let results: Vec<PartitionResult> = results.collect();
        response
            .replica_election_results
            .push(ReplicaElectionResult::default().with_topic(topic.topic).with_partition_result(results));
    }
    Ok(response)
}

fn outcome(topic: Option<&Topic>, name: &str, index: i32) -> Failure {
    let unknown = |what: String| Failure::because(ResponseError::UnknownTopicOrPartition, what);
    match topic {
        None => unknown(format!("No such topic as {}", topic_name::told(name))),
        Some(topic) if topics::partition(topic, index).is_none() => {
            unknown(format!("No such partition as {name}-{index}"))
        }
        Some(_) => {
            Failure::because(ResponseError::ElectionNotNeeded, "Leader election not needed for topic partition.")
        }
    }
}
