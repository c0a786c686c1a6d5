//! DeleteGroups. Version 3 says in words why a group was not deleted.

use super::Same;
use super::layout::{answer, layout};
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;

pub(crate) type DeleteGroupsRequest = Same<messages::DeleteGroupsRequest, 2>;

layout! {
    /// What became of each group.
    struct DeleteGroupsResponse {
        /// How long the client was kept waiting for its quota.
        throttle_time_ms: i32 [0..],
        /// One for each group.
        results: Vec<DeletableGroupResult> [0..],
    }

    /// What became of a group.
    struct DeletableGroupResult {
        /// Its id.
        group_id: StrBytes [0..],
        /// What is wrong with it.
        error_code: i16 [0..],
        /// The same in words.
        error_message: Option<StrBytes> [3..],
    }
}

answer!(DeleteGroupsResponse, 2);
