//! Good requests about groups.

use crate::harness::{frame, frame_since, name};
use bytes::Bytes;
use kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use kafka_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use kafka_protocol::messages::{
    ApiKey, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, ListGroupsRequest,
};
use uuid::Uuid;

/// A topic's name that takes as many bytes as an id, its length included.
const AS_LONG_AS_AN_ID: &str = "fifteen-letters";
/// The first version that names topics by id.
const BY_ID: i16 = 10;

/// How a topic is named in a commit or a fetch.
fn topic_name(v: i16) -> kafka_protocol::messages::TopicName {
    name(if v >= BY_ID { AS_LONG_AS_AN_ID } else { "orders" }).into()
}

/// Puts the id where its name stands: the codec's crate does not know the version.
fn by_id(frame: Bytes, id: Uuid) -> Bytes {
    let mut bytes = frame.to_vec();
    let at = bytes.windows(AS_LONG_AS_AN_ID.len()).position(|part| part == AS_LONG_AS_AN_ID.as_bytes());
    if let Some(at) = at {
        bytes[at - 1..at + AS_LONG_AS_AN_ID.len()].copy_from_slice(id.as_bytes());
    }
    bytes.into()
}

/// One of an operation's version; none when it is not about groups.
pub fn request(key: ApiKey, v: i16, topic_id: Uuid) -> Option<Bytes> {
    let group = || name("g").into();
    let number = key as i16;
    Some(match key {
        ApiKey::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default().with_committed_metadata(Some(name("said")));
            let topic = OffsetCommitRequestTopic::default().with_name(topic_name(v)).with_partitions(vec![
                partition
                    .with_committed_offset(
                        5
                    );
                2
            ]);
            let request = OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![topic]);
            let request = request.with_generation_id_or_member_epoch(-1);
            by_id(frame_since(number, v, v.min(BY_ID - 1), 1, &request), topic_id)
        }
        ApiKey::OffsetFetch if v >= 8 => {
            let topic =
                OffsetFetchRequestTopics::default().with_name(name("orders").into()).with_partition_indexes(vec![0, 1]);
            let group = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![topic]));
            let request = OffsetFetchRequest::default().with_groups(vec![group]);
            by_id(frame_since(number, v, v.min(BY_ID - 1), 1, &request), topic_id)
        }
        ApiKey::OffsetFetch => {
            let topic =
                OffsetFetchRequestTopic::default().with_name(name("orders").into()).with_partition_indexes(vec![0, 1]);
            let request = OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
            frame(number, v, 1, &request)
        }
        ApiKey::FindCoordinator if v >= 4 => {
            frame(number, v, 1, &FindCoordinatorRequest::default().with_coordinator_keys(vec![name("g"), name("h")]))
        }
        ApiKey::FindCoordinator => frame(number, v, 1, &FindCoordinatorRequest::default().with_key(name("g"))),
        ApiKey::JoinGroup => {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(name("range"))
                .with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x06orders\xff\xff\xff\xff"));
            let request = JoinGroupRequest::default()
                .with_group_id(group())
                .with_session_timeout_ms(6_000)
                .with_rebalance_timeout_ms(if v >= 1 { 10 } else { -1 })
                .with_protocol_type(name("consumer"))
                .with_protocols(vec![protocol]);
            frame(number, v, 1, &request)
        }
        ApiKey::Heartbeat => {
            frame(number, v, 1, &HeartbeatRequest::default().with_group_id(group()).with_member_id(name("m")))
        }
        ApiKey::LeaveGroup if v >= 3 => {
            let member = MemberIdentity::default().with_member_id(name("m")).with_group_instance_id(Some(name("i")));
            frame(number, v, 1, &LeaveGroupRequest::default().with_group_id(group()).with_members(vec![member]))
        }
        ApiKey::LeaveGroup => {
            frame(number, v, 1, &LeaveGroupRequest::default().with_group_id(group()).with_member_id(name("m")))
        }
        ApiKey::SyncGroup => {
            let assignment = SyncGroupRequestAssignment::default()
                .with_member_id(name("m"))
                .with_assignment(Bytes::from_static(b"assigned"));
            let mut request = SyncGroupRequest::default()
                .with_group_id(group())
                .with_member_id(name("m"))
                .with_assignments(vec![assignment]);
            if v >= 5 {
                request = request.with_protocol_type(Some(name("consumer"))).with_protocol_name(Some(name("range")));
            }
            frame(number, v, 1, &request)
        }
        ApiKey::DescribeGroups => {
            frame(number, v, 1, &DescribeGroupsRequest::default().with_groups(vec![group(), name("h").into()]))
        }
        ApiKey::ListGroups => {
            let mut request = ListGroupsRequest::default();
            if v >= 4 {
                request.states_filter.push(name("Stable"));
            }
            frame(number, v, 1, &request)
        }
        ApiKey::DeleteGroups => {
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group(), name("h").into()]);
            frame_since(number, v, v.min(2), 1, &request)
        }
        ApiKey::OffsetDelete => {
            let topic = OffsetDeleteRequestTopic::default()
                .with_name(name("orders").into())
                .with_partitions(vec![OffsetDeleteRequestPartition::default(); 2]);
            frame(number, v, 1, &OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic]))
        }
        _ => return None,
    })
}
