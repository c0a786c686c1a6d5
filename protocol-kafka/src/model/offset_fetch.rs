//! OffsetFetch. Version 10 names topics by their ids.

use super::layout::{layout, request};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

layout! {
    /// A question how far groups have come.
    struct OffsetFetchRequest {
        /// The group, where only one can be asked about.
        group_id: StrBytes [0..=7],
        /// Its topics; null asks about all.
        topics: Option<Vec<OffsetFetchRequestTopics>> [0..=7],
        /// The groups.
        groups: Vec<OffsetFetchRequestGroup> [8..],
        /// Whether offsets that a transaction may still change are to be waited for.
        require_stable: bool [7..],
    }

    /// A group that is asked about.
    struct OffsetFetchRequestGroup {
        /// Its id.
        group_id: StrBytes [0..],
        /// The member that asks, in groups of the newer kind.
        member_id: Option<StrBytes> [9..],
        /// Its epoch.
        member_epoch: i32 [9..] = -1,
        /// Topics; null asks about all.
        topics: Option<Vec<OffsetFetchRequestTopics>> [0..],
    }

    /// A topic that is asked about.
    struct OffsetFetchRequestTopics {
        /// Its name.
        name: TopicName [0..=9],
        /// Its id.
        topic_id: Uuid [10..],
        /// Its partitions.
        partition_indexes: Vec<i32> [0..],
    }
}

request!(OffsetFetchRequest, 6);
