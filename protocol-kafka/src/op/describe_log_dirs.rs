//! DescribeLogDirs: the data folder, what is in it, and how much room there is.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::{self, Failure};
use crate::model::Same;
use crate::model::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use crate::{limits, topics};
use headwater_engine::{Partition, Topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};

/// About the memory that one partition takes in the answer.
const PARTITION_BYTES: usize = 24;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    Same(request): DescribeLogDirsRequest,
) -> Result<DescribeLogDirsResponse, Close> {
    let mut described = match request.topics {
        None => topics::all(ctx).map(|topic| all_of(&topic)).collect(),
        Some(wanted) => {
            let mut by_name: BTreeMap<TopicName, BTreeSet<i32>> = BTreeMap::new();
            for topic in wanted {
                by_name.entry(topic.topic).or_default().extend(topic.partitions);
            }
            by_name.iter().filter_map(|(name, indexes)| some_of(ctx, name, indexes)).collect::<Vec<_>>()
        }
    };
    described.retain(|topic| !topic.partitions.is_empty());
    let count: usize = described.iter().map(|topic| topic.partitions.len()).sum();
    let _charge = limits::account(ctx, count * PARTITION_BYTES).await;
    let engine = ctx.engine.clone();
    let room = ctx.engine.offload(move || engine.filesystem_bytes()).await.map_err(|_| Close::Stopped)?;
    let mut result =
        DescribeLogDirsResult { log_dir: StrBytes::from_string(log_dir(ctx)), topics: described, ..Default::default() };
    match room {
        Ok((total, free)) => {
            result.total_bytes = i64::try_from(total).unwrap_or(i64::MAX);
            result.usable_bytes = i64::try_from(free).unwrap_or(i64::MAX);
        }
        Err(error) => {
            tracing::warn!(%error, "the filesystem does not say how large it is");
            let failure = Failure::new(ResponseError::KafkaStorageError);
            result =
                DescribeLogDirsResult { error_code: failure.code(), log_dir: result.log_dir, ..Default::default() };
        }
    }
    ctx.count_error(call, result.error_code);
    Ok(DescribeLogDirsResponse { results: vec![result], ..Default::default() })
}

/// The data folder as clients see it.
pub(crate) fn log_dir(ctx: &Context) -> String {
    let path = ctx.engine.data_dir();
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn all_of(topic: &Topic) -> DescribeLogDirsTopic {
    let partitions = topic.partitions();
    DescribeLogDirsTopic {
        name: map::topic_name(topic.name()),
        partitions: partitions.iter().map(|partition| entry(partition)).collect(),
    }
}

fn some_of(ctx: &Context, name: &TopicName, indexes: &BTreeSet<i32>) -> Option<DescribeLogDirsTopic> {
    let topic = topics::by_name(ctx, name)?;
    let partitions = indexes.iter().filter_map(|index| topics::partition(&topic, *index));
    Some(DescribeLogDirsTopic { name: name.clone(), partitions: partitions.map(|found| entry(&found)).collect() })
}

fn entry(partition: &Partition) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition {
        partition_index: map::partition_index(partition.index()),
        partition_size: i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX),
        ..Default::default()
    }
}
