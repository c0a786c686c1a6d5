//! ListOffsets: where a partition begins and ends, and from which offset on records are at least as late as a time.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use crate::model::Same;
use crate::model::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
use crate::topics;
use headwater_engine::{Bounds, Partition, ReadError, TimePoint, TimestampMs};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse as Answer, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{self, TopicName};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Timestamps with a meaning of their own, and the versions from which they have it.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LAST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// A look-up that may read from the medium: where its answer goes, and what is asked.
struct LookUp {
    place: (usize, usize),
    partition: Arc<Partition>,
    at: i64,
}

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    Same(request): ListOffsetsRequest,
) -> Result<ListOffsetsResponse, Close> {
    // Version 1 has no isolation level.
    let isolation = if call.version >= 2 { request.isolation_level } else { 0 };
    let repeated = repeated(&request);
    let mut topics: Vec<ListOffsetsTopicResponse> = Vec::new();
    let mut places: HashMap<TopicName, usize> = HashMap::new();
    let mut answered = HashSet::new();
    let mut look_ups = Vec::new();
    for topic in request.topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
        let place = *places.entry(topic.name.clone()).or_insert_with(|| {
            topics.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()));
            topics.len() - 1
        });
        let known = topics::by_name(ctx, &topic.name);
        for wanted in topic.partitions {
            let key = (topic.name.clone(), wanted.partition_index);
            if !answered.insert(key.clone()) {
                continue;
            }
            let Some(list) = topics.get_mut(place).map(|topic| &mut topic.partitions) else { continue };
            let mut answer = Answer::default().with_partition_index(wanted.partition_index);
            let partition = known.as_ref().and_then(|topic| topics::partition(topic, wanted.partition_index));
            let result = if !matches!(isolation, 0 | 1) {
                Err(ResponseError::UnknownServerError.into())
            } else if repeated.contains(&key) {
                Err(ResponseError::InvalidRequest.into())
            } else if !is_served(call.version, wanted.timestamp) {
                Err(ResponseError::UnsupportedVersion.into())
            } else {
                partition.ok_or(Failure::from(ResponseError::UnknownTopicOrPartition)).and_then(|partition| {
                    topics::check_leader_epoch(&partition, wanted.current_leader_epoch)?;
                    Ok(partition)
                })
            };
            match result {
                Err(failure) => answer.error_code = failure.code(),
                Ok(partition) => match special(&partition, wanted.timestamp, isolation) {
                    Some((offset, epoch)) => {
                        answer.offset = offset;
                        set_epoch(&mut answer, epoch, call.version);
                    }
                    None => look_ups.push(LookUp { place: (place, list.len()), partition, at: wanted.timestamp }),
                },
            }
            list.push(answer);
        }
    }
    if !look_ups.is_empty() {
        let found = ctx.engine.offload(move || look_ups.into_iter().map(look_up).collect::<Vec<_>>());
        for ((topic, partition), bounds, result) in found.await.map_err(|_| Close::Stopped)? {
            let answer = topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(partition));
            let Some(answer) = answer else { continue };
            match result {
                Err(error) => answer.error_code = Failure::from(error).code(),
                // A record that the reader may not fetch yet is not told of either.
                Ok(point) => {
                    let end = bounds.end(isolation == 1);
                    if let Some(point) = point.filter(|point| point.offset < end) {
                        answer.offset = point.offset.0;
                        answer.timestamp = point.timestamp.0;
                        set_epoch(answer, point.epoch.0, call.version);
                    }
                }
            }
        }
    }
    topics.iter().flat_map(|topic| &topic.partitions).for_each(|answer| ctx.count_error(call, answer.error_code));
    Ok(Same(messages::ListOffsetsResponse::default().with_topics(topics)))
}

/// Partitions that are named more than once: the reference refuses those.
fn repeated(request: &messages::ListOffsetsRequest) -> HashSet<(TopicName, i32)> {
    let mut seen = HashSet::new();
    let all = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| (&topic.name, p.partition_index)));
    all.filter(|key| !seen.insert(*key)).map(|(name, index)| (name.clone(), index)).collect()
}

/// Whether the timestamp means something at this version.
fn is_served(version: i16, timestamp: i64) -> bool {
    match timestamp {
        0.. | LATEST | EARLIEST => true,
        MAX_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LAST_TIERED => version >= 9,
        EARLIEST_PENDING_UPLOAD => version >= 11,
        _ => false,
    }
}

/// The offset and epoch for a timestamp that needs no look-up.
fn special(partition: &Partition, timestamp: i64, isolation: i8) -> Option<(i64, i32)> {
    let bounds = partition.bounds();
    match timestamp {
        LATEST if isolation == 1 => Some((bounds.last_stable.0, partition.leader_epoch().0)),
        LATEST => Some((bounds.high_watermark.0, partition.leader_epoch().0)),
        EARLIEST | EARLIEST_LOCAL => Some((bounds.log_start.0, topics::epoch_of(partition, bounds.log_start).0)),
        // Nothing is in remote storage, and nothing is on its way there.
        LAST_TIERED | EARLIEST_PENDING_UPLOAD => Some((-1, -1)),
        _ => None,
    }
}

fn set_epoch(answer: &mut Answer, epoch: i32, version: i16) {
    if version >= 4 {
        answer.leader_epoch = epoch;
    }
}

type Found = ((usize, usize), Bounds, Result<Option<TimePoint>, ReadError>);

/// Runs on a replay thread.
fn look_up(wanted: LookUp) -> Found {
    // Taken first: what is found below these bounds was published when the look-up began.
    let bounds = wanted.partition.bounds();
    let found = match wanted.at {
        MAX_TIMESTAMP => wanted.partition.max_timestamp(),
        at => wanted.partition.find_time(TimestampMs(at)),
    };
    (wanted.place, bounds, found)
}
