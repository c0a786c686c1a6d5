//! OffsetCommit. Version 10 names topics by their ids.

use super::layout::{layout, request};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

layout! {
    /// How far a group has come.
    struct OffsetCommitRequest {
        /// The group.
        group_id: StrBytes [0..],
        /// The generation that the member is in; -1 from outside of a group.
        generation_id_or_member_epoch: i32 [1..] = -1,
        /// The member; empty from outside of a group.
        member_id: StrBytes [1..],
        /// The name that a static member goes by.
        group_instance_id: Option<StrBytes> [7..],
        /// How long the offsets are to be kept; -1 leaves it to the server.
        retention_time_ms: i64 [2..=4] = -1,
        /// Topics with their partitions.
        topics: Vec<OffsetCommitRequestTopic> [0..],
    }

    /// A topic in a commit.
    struct OffsetCommitRequestTopic {
        /// Its name.
        name: TopicName [0..=9],
        /// Its id.
        topic_id: Uuid [10..],
        /// Its partitions.
        partitions: Vec<OffsetCommitRequestPartition> [0..],
    }

    /// A partition in a commit.
    struct OffsetCommitRequestPartition {
        /// Its number.
        partition_index: i32 [0..],
        /// The next offset to read.
        committed_offset: i64 [0..],
        /// The leader epoch of the last record read; -1 when it is not known.
        committed_leader_epoch: i32 [6..] = -1,
        /// What the client wants to have kept beside it.
        committed_metadata: Option<StrBytes> [0..],
    }
}

request!(OffsetCommitRequest, 8);
