//! CreatePartitions: more partitions for a topic.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::{self, Failure};
use crate::topics;
use headwater_engine::TopicId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use std::collections::{HashMap, HashSet};

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: CreatePartitionsRequest,
) -> Result<CreatePartitionsResponse, Close> {
    let mut count: HashMap<&TopicName, usize> = HashMap::new();
    for topic in &request.topics {
        *count.entry(&topic.name).or_default() += 1;
    }
    let mut refused = HashSet::new();
    let mut results = Vec::new();
    let mut pending = Vec::new();
    for topic in &request.topics {
        if count.get(&topic.name) != Some(&1) {
            if refused.insert(&topic.name) {
                let repeated = Failure::because(ResponseError::InvalidRequest, "Duplicate topic name.");
                results.push(answer(&topic.name, Err(repeated)));
            }
            continue;
        }
        match check(ctx, topic) {
            Ok((id, total)) if !request.validate_only => {
                pending.push((&topic.name, ctx.engine.add_partitions(id, total)));
            }
            checked => results.push(answer(&topic.name, checked.map(|_| ()))),
        }
    }
    for (name, added) in pending {
        results.push(answer(name, added.await.map_err(Failure::from)));
    }
    results.iter().for_each(|result| ctx.count_error(call, result.error_code));
    Ok(CreatePartitionsResponse::default().with_results(results))
}

fn answer(name: &TopicName, outcome: Result<(), Failure>) -> CreatePartitionsTopicResult {
    let result = CreatePartitionsTopicResult::default().with_name(name.clone());
    match outcome {
        Ok(()) => result.with_error_message(None),
        Err(failure) => result.with_error_code(failure.code()).with_error_message(failure.message()),
    }
}

/// The topic and the number of partitions that it is to have.
fn check(ctx: &Context, wanted: &CreatePartitionsTopic) -> Result<(TopicId, u32), Failure> {
    let topic = topics::by_name(ctx, &wanted.name).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let present = map::partition_index(u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX));
    let additional = wanted.count.saturating_sub(present);
    if additional == 0 {
        let message = format!("Topic already has {present} partition(s).");
        return Err(Failure::because(ResponseError::InvalidPartitions, message));
    }
    let total = u32::try_from(wanted.count).ok().filter(|_| additional > 0).ok_or_else(|| {
        let (name, count) = (&*wanted.name, wanted.count);
        let message =
            format!("The topic {name} currently has {present} partition(s); {count} would not be an increase.");
        Failure::because(ResponseError::InvalidPartitions, message)
    })?;
    if topic.is_internal() {
        // What is in it is found by the number of its partitions.
        let why = "An internal topic keeps the number of its partitions.";
        return Err(Failure::because(ResponseError::PolicyViolation, why));
    }
    if let Some(assignments) = &wanted.assignments {
        let given = assignments.len();
        if usize::try_from(additional) != Ok(given) {
            let message = format!(
                "Attempted to add {additional} additional partition(s), but only {given} assignment(s) were specified."
            );
            return Err(Failure::because(ResponseError::InvalidReplicaAssignment, message));
        }
        for assignment in assignments {
            topics::check_assignment(ctx, &assignment.broker_ids)?;
        }
    }
    topics::check_not_internal(&topic)?;
    Ok((topic.id(), total))
}
