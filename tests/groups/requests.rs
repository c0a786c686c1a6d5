//! The requests of a group's members.

use bytes::{BufMut, Bytes};
use headwater_tests::calls::name;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, OffsetFetchRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

pub const JOIN: i16 = 9;
pub const SYNC: i16 = 5;
pub const BEAT: i16 = 4;
pub const COMMIT: i16 = 9;
pub const FETCH: i16 = 9;

/// Errors that members meet.
pub const LOADING: i16 = 14;
pub const NOT_AVAILABLE: i16 = 15;
pub const NOT_COORDINATOR: i16 = 16;
pub const ILLEGAL_GENERATION: i16 = 22;
pub const UNKNOWN_MEMBER: i16 = 25;
pub const REBALANCING: i16 = 27;
pub const ID_REQUIRED: i16 = 79;

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

pub fn join(id: &str, member: &StrBytes, topic: &str, timeout_ms: i32) -> JoinGroupRequest {
    // A subscription of version 1: the topic, no data, nothing owned.
    let mut metadata = Vec::new();
    metadata.put_i16(1);
    metadata.put_i32(1);
    metadata.put_i16(topic.len() as i16);
    metadata.extend_from_slice(topic.as_bytes());
    metadata.put_i32(-1);
    metadata.put_i32(0);
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(metadata.into());
    JoinGroupRequest::default()
        .with_group_id(group(id))
        .with_member_id(member.clone())
        .with_session_timeout_ms(timeout_ms)
        .with_rebalance_timeout_ms(timeout_ms)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// The leader gives each member its share of the partitions.
pub fn sync(id: &str, joined: &JoinGroupResponse, topic: &str, partitions: usize) -> SyncGroupRequest {
    let count = joined.members.len().max(1);
    let assignments = joined.members.iter().enumerate().map(|(index, member)| {
        let own = (index..partitions).step_by(count);
        SyncGroupRequestAssignment::default()
            .with_member_id(member.member_id.clone())
            .with_assignment(assignment(topic, own))
    });
    SyncGroupRequest::default()
        .with_group_id(group(id))
        .with_member_id(joined.member_id.clone())
        .with_generation_id(joined.generation_id)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.collect())
}

fn assignment(topic: &str, partitions: impl Iterator<Item = usize>) -> Bytes {
    let mut out = Vec::new();
    out.put_i16(1);
    out.put_i32(1);
    out.put_i16(topic.len() as i16);
    out.extend_from_slice(topic.as_bytes());
    let at = out.len();
    out.put_i32(0);
    let mut count = 0;
    for partition in partitions {
        out.put_i32(partition as i32);
        count += 1;
    }
    out[at..at + 4].copy_from_slice(&i32::to_be_bytes(count));
    out.put_i32(-1);
    out.into()
}

pub fn beat(id: &str, member: &StrBytes, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default().with_group_id(group(id)).with_member_id(member.clone()).with_generation_id(generation)
}

/// A commit of one partition; without a member when the generation is -1.
pub fn commit(
    id: &str,
    member: &StrBytes,
    generation: i32,
    topic: &str,
    partition: i32,
    offset: i64,
) -> OffsetCommitRequest {
    let partition =
        OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_member_id(member.clone())
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

pub fn fetch(id: &str, topic: &str, partition: i32) -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopics::default().with_name(name(topic)).with_partition_indexes(vec![partition]);
    let group = OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(Some(vec![topic]));
    OffsetFetchRequest::default().with_groups(vec![group])
}
