//! DeleteRecords: moves the beginning of partitions forward.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use crate::{topic_config, topics};
use headwater_engine::{Ack, Offset, Topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use std::collections::{BTreeMap, HashMap};

/// Stands for the high watermark.
const ALL: i64 = -1;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: DeleteRecordsRequest,
) -> Result<DeleteRecordsResponse, Close> {
    // Topics in the order of the request. Of a partition that is named twice the last one counts, as in the reference.
    let mut order = Vec::new();
    let mut wanted: HashMap<TopicName, BTreeMap<i32, i64>> = HashMap::new();
    for topic in request.topics {
        let partitions = wanted.entry(topic.name.clone()).or_insert_with(|| {
            order.push(topic.name.clone());
            BTreeMap::new()
        });
        partitions.extend(topic.partitions.iter().map(|p| (p.partition_index, p.offset)));
    }
    let ack = ctx.engine.ack();
    let mut topics = Vec::new();
    for name in order {
        let known = topics::by_name(ctx, &name);
        let partitions = wanted.remove(&name).unwrap_or_default().into_iter().map(|(index, offset)| {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
            match delete(ctx, known.as_deref(), index, offset, &ack) {
                Ok(start) => result.with_low_watermark(start.0),
                Err(failure) => result.with_low_watermark(-1).with_error_code(failure.code()),
            }
        });
        let partitions = partitions.collect();
        topics.push(DeleteRecordsTopicResult::default().with_name(name).with_partitions(partitions));
    }
    ack.wait().await.map_err(|_| Close::Stopped)?;
    topics.iter().flat_map(|topic| &topic.partitions).for_each(|result| ctx.count_error(call, result.error_code));
    Ok(DeleteRecordsResponse::default().with_topics(topics))
}

fn delete(ctx: &Context, topic: Option<&Topic>, index: i32, offset: i64, ack: &Ack) -> Result<Offset, Failure> {
    let unknown = || Failure::from(ResponseError::UnknownTopicOrPartition);
    let topic = topic.ok_or_else(unknown)?;
    let partition = topics::partition(topic, index).ok_or_else(unknown)?;
    if topic.is_internal() {
        return Err(ResponseError::InvalidTopicException.into());
    }
    if !topic_config::may_delete_records(&topic.settings(), ctx.engine.topic_defaults()) {
        return Err(ResponseError::PolicyViolation.into());
    }
    let before = match offset {
        ALL => None,
        0.. => Some(Offset(offset)),
        _ => return Err(ResponseError::OffsetOutOfRange.into()),
    };
    Ok(partition.delete_records(before, ack)?)
}
