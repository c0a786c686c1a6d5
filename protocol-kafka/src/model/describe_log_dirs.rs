//! DescribeLogDirs. Version 5 says whether a folder is closed to new partitions.

use super::Same;
use super::layout::{answer, layout};
use kafka_protocol::messages::{self, TopicName};
use kafka_protocol::protocol::StrBytes;

pub(crate) type DescribeLogDirsRequest = Same<messages::DescribeLogDirsRequest, 4>;

layout! {
    /// The folders and what is in them.
    struct DescribeLogDirsResponse {
        /// How long the client was kept waiting for its quota.
        throttle_time_ms: i32 [0..],
        /// What is wrong with the whole request.
        error_code: i16 [3..],
        /// One for each folder.
        results: Vec<DescribeLogDirsResult> [0..],
    }

    /// A folder.
    struct DescribeLogDirsResult {
        /// What is wrong with the folder.
        error_code: i16 [0..],
        /// Where it is.
        log_dir: StrBytes [0..],
        /// What is in it.
        topics: Vec<DescribeLogDirsTopic> [0..],
        /// Bytes of the volume that it is on.
        total_bytes: i64 [4..] = -1,
        /// Bytes of that volume that are free.
        usable_bytes: i64 [4..] = -1,
        /// Whether no new partitions are put there.
        is_cordoned: bool [5..],
    }

    /// A topic with partitions in a folder.
    struct DescribeLogDirsTopic {
        /// What it is called.
        name: TopicName [0..],
        /// Its partitions.
        partitions: Vec<DescribeLogDirsPartition> [0..],
    }

    /// A partition in a folder.
    struct DescribeLogDirsPartition {
        /// Its number.
        partition_index: i32 [0..],
        /// Bytes of its segments.
        partition_size: i64 [0..],
        /// How far it is behind the partition that it copies.
        offset_lag: i64 [0..],
        /// Whether it is a copy that is to take the other's place.
        is_future_key: bool [0..],
    }
}

answer!(DescribeLogDirsResponse, 2);
