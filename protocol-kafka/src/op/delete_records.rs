//! DeleteRecords: moves the beginning of partitions forward.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use crate::{topic_config, topics};
use headwater_engine::{Ack, Offset, Topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use std::collections::HashMap;

/// Stands for the high watermark.
const ALL: i64 = -1;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: DeleteRecordsRequest,
) -> Result<DeleteRecordsResponse, Close> {
    let ack = ctx.engine.ack();
    let mut topics: Vec<DeleteRecordsTopicResult> = Vec::new();
    let mut places: HashMap<TopicName, usize> = HashMap::new();
    for topic in request.topics {
        let place = *places.entry(topic.name.clone()).or_insert_with(|| {
            topics.push(DeleteRecordsTopicResult::default().with_name(topic.name.clone()));
            topics.len() - 1
        });
        let Some(results) = topics.get_mut(place).map(|topic| &mut topic.partitions) else { continue };
        let known = topics::by_name(ctx, &topic.name);
        // Of a partition that is named twice the last one counts, as in the reference.
        let wanted: HashMap<i32, i64> = topic.partitions.iter().map(|p| (p.partition_index, p.offset)).collect();
        let mut wanted: Vec<(i32, i64)> = wanted.into_iter().collect();
        wanted.sort_unstable();
        for (index, offset) in wanted {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
            results.retain(|earlier| earlier.partition_index != index);
            results.push(match delete(known.as_deref(), index, offset, &ack) {
                Ok(start) => result.with_low_watermark(start.0),
                Err(failure) => result.with_low_watermark(-1).with_error_code(failure.code()),
            });
        }
    }
    ack.wait().await.map_err(|_| Close::Stopped)?;
    topics.iter().flat_map(|topic| &topic.partitions).for_each(|result| ctx.count_error(call, result.error_code));
    Ok(DeleteRecordsResponse::default().with_topics(topics))
}

fn delete(topic: Option<&Topic>, index: i32, offset: i64, ack: &Ack) -> Result<Offset, Failure> {
    let unknown = || Failure::from(ResponseError::UnknownTopicOrPartition);
    let topic = topic.ok_or_else(unknown)?;
    let partition = topics::partition(topic, index).ok_or_else(unknown)?;
    if topic.is_internal() {
        return Err(ResponseError::InvalidTopicException.into());
    }
    if !topic_config::may_delete_records(&topic.settings()) {
        return Err(ResponseError::PolicyViolation.into());
    }
    let before = match offset {
        ALL => None,
        0.. => Some(Offset(offset)),
        _ => return Err(ResponseError::OffsetOutOfRange.into()),
    };
    Ok(partition.delete_records(before, ack)?)
}
