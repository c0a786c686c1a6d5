//! OffsetDelete: what a group has committed for topics that it does not read.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::group::{own, unless_busy};
use crate::topics;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use kafka_protocol::protocol::StrBytes;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: OffsetDeleteRequest,
) -> Result<OffsetDeleteResponse, Close> {
    // Partitions that are there are asked of the group; the others are answered here.
    let mut wanted: Vec<(StrBytes, i32)> = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
        let known = topics::by_name(ctx, &topic.name);
        let name = own(&topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let is_there = known.as_ref().is_some_and(|known| topics::partition(known, index).is_some());
            if is_there {
                wanted.push((name.clone(), index));
            }
            let code = if is_there { 0 } else { ResponseError::UnknownTopicOrPartition.code() };
            OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code)
        });
        let partitions = partitions.collect();
        topics.push(OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    let failed = |error: ResponseError| {
        ctx.count_error(call, error.code());
        Ok(OffsetDeleteResponse::default().with_error_code(error.code()))
    };
    if request.group_id.is_empty() {
        return failed(ResponseError::InvalidGroupId);
    }
    if let Err(unavailable) = ctx.groups.open(false).await {
        return failed(unavailable.0);
    }
    let deleted = unless_busy(ctx, || ctx.groups.delete_offsets(&request.group_id, &wanted)).await;
    let (outcomes, queued) = match deleted {
        Ok(deleted) => deleted,
        Err(error) => return failed(error),
    };
    if let Some(queued) = queued {
        queued.wait().await.map_err(|_| Close::Stopped)?;
    }
    let mut outcomes = outcomes.into_iter();
    for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if partition.error_code == 0
            && let Some(Err(error)) = outcomes.next()
        {
            partition.error_code = error.code();
        }
        ctx.count_error(call, partition.error_code);
    }
    Ok(OffsetDeleteResponse::default().with_topics(topics))
}
