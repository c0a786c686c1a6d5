//! AlterReplicaLogDirs: there is one folder, so a partition can only stay where it is.

use super::describe_log_dirs::log_dir;
use crate::call::{Call, Close};
use crate::context::Context;
use crate::topics;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, TopicName};
use std::collections::BTreeMap;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: AlterReplicaLogDirsRequest,
) -> Result<AlterReplicaLogDirsResponse, Close> {
    let own = log_dir(ctx);
    let mut results: BTreeMap<TopicName, BTreeMap<i32, i16>> = BTreeMap::new();
    for dir in request.dirs {
        for topic in dir.topics {
            let known = topics::by_name(ctx, &topic.name);
            let places = results.entry(topic.name).or_default();
            for index in topic.partitions {
                let is_known = || known.as_ref().is_some_and(|topic| topics::partition(topic, index).is_some());
                let code = if *dir.path != *own {
                    ResponseError::LogDirNotFound.code()
                } else if is_known() {
                    0
                } else {
                    ResponseError::UnknownTopicOrPartition.code()
                };
                places.insert(index, code);
            }
        }
    }
    let results = results.into_iter().map(|(name, places)| {
        let partitions = places.into_iter().map(|(index, code)| {
            ctx.count_error(call, code);
            AlterReplicaLogDirPartitionResult::default().with_partition_index(index).with_error_code(code)
        });
        AlterReplicaLogDirTopicResult::default().with_topic_name(name).with_partitions(partitions.collect())
    });
    Ok(AlterReplicaLogDirsResponse::default().with_results(results.collect()))
}
