//! OffsetFetch: how far groups have come.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::group::{Committed, Offsets};
use crate::limits::{self, OFFSETS_FETCHED_BYTES_MAX};
use crate::model::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::{map, topics};
use headwater_engine::Topic;
use headwater_protocol::budget::Charge;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchResponse, TopicName};

use kafka_protocol::protocol::StrBytes;

/// The first version that can ask about all topics.
const WITH_ALL_TOPICS: i16 = 2;
/// The first version that asks about more than one group.
const WITH_GROUPS: i16 = 8;
/// The first version that names topics by id.
const BY_ID: i16 = 10;
/// The first version with an error of its own beside those of the partitions.
const WITH_ERROR: i16 = 2;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: OffsetFetchRequest,
) -> Result<OffsetFetchResponse, Close> {
    if call.version < WITH_ALL_TOPICS && request.topics.is_none() {
        return Err(Close::Refused("OffsetFetch below version 2 must name its topics"));
    }
    limits::check_groups(request.groups.len())?;
    let opened = ctx.groups.open(false).await.map_err(|unavailable| unavailable.0);
    let mut room = Room(OFFSETS_FETCHED_BYTES_MAX);
    let whole = match call.version {
        WITH_GROUPS.. => request.groups.iter().map(|group| bytes_of_all(ctx, group)).sum(),
        _ => bytes_of_all(ctx, &older_group(&request)),
    };
    let whole = std::cmp::min(whole, OFFSETS_FETCHED_BYTES_MAX);
    let charge = limits::account(ctx, whole).await;
    if call.version >= WITH_GROUPS {
        let groups = request.groups.into_iter().map(|group| {
            let fetched = opened.and_then(|_| fetch(ctx, call.version, &group, &mut room));
            fetched.unwrap_or_else(|error| {
                ctx.count_error(call, error.code());
                OffsetFetchResponseGroup::default().with_group_id(GroupId(group.group_id)).with_error_code(error.code())
            })
        });
        let groups = groups.collect();
        let _charge = account_for_all(ctx, charge, whole, &room).await;
        return Ok(OffsetFetchResponse::default().with_groups(groups));
    }
    let group = older_group(&request);
    match opened.and_then(|_| fetch(ctx, call.version, &group, &mut room)) {
        Ok(fetched) => {
            let topics = fetched.topics.into_iter().map(older_topic).collect();
            let _charge = account_for_all(ctx, charge, whole, &room).await;
            Ok(OffsetFetchResponse::default().with_topics(topics))
        }
        Err(error) => {
            ctx.count_error(call, error.code());
            let answer = OffsetFetchResponse::default();
            if call.version >= WITH_ERROR {
                return Ok(answer.with_error_code(error.code()));
            }
            // Each partition says it.
            let topics = group.topics.unwrap_or_default().into_iter().map(|topic| {
                let partitions = topic.partition_indexes.iter();
                let partitions = partitions.map(|index| unknown(*index).with_error_code(error.code()));
                older_topic(
                    OffsetFetchResponseTopics::default().with_name(topic.name).with_partitions(partitions.collect()),
                )
            });
            Ok(answer.with_topics(topics.collect()))
        }
    }
}

/// A request that asks about one group, as later ones do.
fn older_group(request: &OffsetFetchRequest) -> OffsetFetchRequestGroup {
    OffsetFetchRequestGroup {
        group_id: request.group_id.clone(),
        topics: request.topics.clone(),
        ..OffsetFetchRequestGroup::default()
    }
}

/// What a group's offsets take in the answer, about, when all of them are asked for. Partitions that are named are paid for with the
/// request, and what is said beside their offsets before it is copied.
fn bytes_of_all(ctx: &Context, group: &OffsetFetchRequestGroup) -> usize {
    if group.topics.is_some() {
        return 0;
    }
    ctx.groups.committed(&group.group_id, |offsets| offsets.map_or(0, Offsets::bytes)).unwrap_or(0)
}

fn older_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    });
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
}

/// Accounts for what was found beside `whole`, which the charge is for.
async fn account_for_all(ctx: &Context, charge: Charge, whole: usize, room: &Room) -> Charge {
    if room.taken() <= whole {
        return charge;
    }
    drop(charge);
    limits::account(ctx, room.taken()).await
}

/// Bytes that are left for an answer: a small request may name the same large thing many times.
struct Room(usize);

impl Room {
    /// Bytes that are taken.
    fn taken(&self) -> usize {
        OFFSETS_FETCHED_BYTES_MAX - self.0
    }

    /// Takes so many partitions with so much said beside them, if they fit.
    fn takes(&mut self, partitions: usize, bytes: usize) -> bool {
        const EACH: usize = 128;
        let left = self.0.checked_sub(partitions.saturating_mul(EACH).saturating_add(bytes));
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// What a group has committed: for the partitions that are asked for, or for all.
fn fetch(
    ctx: &Context,
    version: i16,
    group: &OffsetFetchRequestGroup,
    room: &mut Room,
) -> Result<OffsetFetchResponseGroup, ResponseError> {
    let topics = ctx.groups.committed(&group.group_id, |offsets| match (&group.topics, offsets) {
        (Some(topics), _) => Ok(topics.iter().map(|topic| some(ctx, version, topic, offsets, room)).collect()),
        (None, Some(offsets)) if room.takes(0, offsets.bytes()) => Ok(all(ctx, version, offsets)),
        (None, Some(_)) => Err(ResponseError::ThrottlingQuotaExceeded),
        (None, None) => Ok(Vec::new()),
    });
    let topics = topics.map_err(|unavailable| unavailable.0)??;
    Ok(OffsetFetchResponseGroup::default().with_group_id(GroupId(group.group_id.clone())).with_topics(topics))
}

fn some(
    ctx: &Context,
    version: i16,
    topic: &OffsetFetchRequestTopics,
    offsets: Option<&Offsets>,
    room: &mut Room,
) -> OffsetFetchResponseTopics {
    let answer = OffsetFetchResponseTopics::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
    let name = if version >= BY_ID {
        match topics::by_id(ctx, topic.topic_id) {
            Some(topic) => crate::group::text(topic.name()),
            None => {
                let code = ResponseError::UnknownTopicId.code();
                let partitions = topic.partition_indexes.iter().map(|index| unknown(*index).with_error_code(code));
                return answer.with_partitions(partitions.collect());
            }
        }
    } else {
        topic.name.0.clone()
    };
    let there = topics::by_name(ctx, &name);
    let partitions = topic.partition_indexes.iter().map(|index| {
        let committed =
            offsets.and_then(|offsets| offsets.get(&name, *index)).filter(|it| is_shown(it, there.as_deref()));
        match committed {
            Some(committed) if room.takes(1, committed.metadata.len()) => known(*index, committed),
            Some(_) => unknown(*index).with_error_code(ResponseError::ThrottlingQuotaExceeded.code()),
            None => unknown(*index),
        }
    });
    answer.with_partitions(partitions.collect())
}

fn all(ctx: &Context, version: i16, offsets: &Offsets) -> Vec<OffsetFetchResponseTopics> {
    let topics = offsets.iter().filter_map(|(name, partitions)| {
        let there = topics::by_name(ctx, name);
        let shown = partitions.iter().filter(|(_, committed)| is_shown(committed, there.as_deref()));
        let shown = shown.map(|(index, committed)| known(*index, committed)).collect();
        let answer = OffsetFetchResponseTopics::default().with_partitions(shown);
        if version >= BY_ID {
            // A topic that is being deleted has no id to name it by.
            there.map(|topic| answer.with_topic_id(map::topic_id(topic.id())))
        } else {
            Some(answer.with_name(TopicName(name.clone())))
        }
    });
    topics.collect()
}

/// Whether an offset is shown. One of a topic that was deleted is on its way out; until it has gone it must not place anybody in
/// another topic of its name.
fn is_shown(committed: &Committed, there: Option<&Topic>) -> bool {
    there.is_none_or(|topic| committed.is_of(topic))
}

fn known(index: i32, committed: &Committed) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(committed.offset)
        .with_committed_leader_epoch(committed.leader_epoch)
        .with_metadata(Some(committed.metadata.clone()))
}

fn unknown(index: i32) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(StrBytes::new()))
}
