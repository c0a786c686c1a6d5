//! OffsetForLeaderEpoch: where the records of a leader epoch end, so that a consumer notices that it is ahead of the log.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use crate::topics;
use headwater_engine::{Epoch, Partition};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: OffsetForLeaderEpochRequest,
) -> Result<OffsetForLeaderEpochResponse, Close> {
    let topics = request.topics.into_iter().map(|topic| {
        let known = topics::by_name(ctx, &topic.topic);
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let partition = known.as_ref().and_then(|topic| topics::partition(topic, wanted.partition));
            let answer = EpochEndOffset::default().with_partition(wanted.partition);
            match partition.ok_or(ResponseError::UnknownTopicOrPartition.into()).and_then(|p| end(&p, &wanted)) {
                Ok((epoch, end)) => answer.with_leader_epoch(epoch).with_end_offset(end),
                Err(failure) => {
                    ctx.count_error(call, failure.code());
                    answer.with_error_code(failure.code())
                }
            }
        });
        OffsetForLeaderTopicResult::default().with_partitions(partitions.collect()).with_topic(topic.topic)
    });
    Ok(OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}

/// The epoch that is meant and its end; -1 for both when the log knows no such epoch.
fn end(partition: &Partition, wanted: &OffsetForLeaderPartition) -> Result<(i32, i64), Failure> {
    topics::check_leader_epoch(partition, wanted.current_leader_epoch)?;
    let asked = wanted.leader_epoch;
    if asked == -1 || asked > partition.leader_epoch().0 {
        return Ok((-1, -1));
    }
    Ok(match partition.epoch_end(Epoch(asked)) {
        Some((epoch, end)) => (epoch.0, end.0),
        // Before the first epoch that the log knows: that one's beginning.
        None => (asked, partition.bounds().log_start.0),
    })
}
