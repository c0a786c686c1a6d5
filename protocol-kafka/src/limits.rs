//! Bounds on what one request of the admin kind may ask for. A small request can ask for a large answer; these keep it in
//! proportion. The bounds on connections, requests and memory are the listener's, in `headwater_protocol::Limits`.

use crate::context::Context;
use headwater_protocol::budget::Charge;

/// Partitions in one answer of DescribeTopicPartitions, whatever the client asks for (`max.request.partition.size.limit`).
pub(crate) const PARTITIONS_DESCRIBED_MAX: usize = 2_000;

/// Resources in one DescribeConfigs. Those beyond it are answered with a throttling error.
pub(crate) const RESOURCES_DESCRIBED_MAX: usize = 10_000;

/// Resources in one AlterConfigs or IncrementalAlterConfigs. Those beyond it are answered with a throttling error.
pub(crate) const RESOURCES_ALTERED_MAX: usize = 10_000;

/// Bytes of all settings of one topic, names included. A change to more is refused as a bad setting.
pub(crate) const TOPIC_SETTINGS_BYTES_MAX: usize = 64 << 10;

/// Idempotent producers in one answer of DescribeProducers. A partition whose producers would be more is answered with a
/// throttling error.
pub(crate) const PRODUCERS_DESCRIBED_MAX: usize = 100_000;

/// Topics in one CreateTopics. Those beyond it are answered with a throttling error.
pub(crate) const TOPICS_CREATED_MAX: usize = 10_000;

/// Topics that one Metadata request makes on demand. The client asks again for the others.
pub(crate) const TOPICS_AUTO_CREATED_MAX: usize = 1_000;

/// Groups of one server. One more is refused with POLICY_VIOLATION.
pub(crate) const GROUPS_MAX: usize = 200_000;

/// Members of one group, whatever `group.max.size` says. One more gets GROUP_MAX_SIZE_REACHED.
pub(crate) const GROUP_MEMBERS_MAX: usize = 20_000;

/// Member ids of one group that are given out and not used yet. One more gets GROUP_MAX_SIZE_REACHED.
pub(crate) const GROUP_PENDING_MAX: usize = 20_000;

/// Bytes of a name that is kept with a group: its records have old string fields, where flexible requests have larger ones. A longer
/// group id gets INVALID_GROUP_ID, other names INVALID_REQUEST.
pub(crate) const GROUP_TEXT_BYTES_MAX: usize = 32_000;

/// Protocols that one member may support. With more, JoinGroup gets INCONSISTENT_GROUP_PROTOCOL.
pub(crate) const GROUP_PROTOCOLS_MAX: usize = 100;

/// Bytes of members' metadata and assignments, and of what is said beside committed offsets, of all groups together. When they
/// are used up, JoinGroup gets POLICY_VIOLATION, and OffsetCommit INVALID_COMMIT_OFFSET_SIZE.
pub(crate) const GROUPS_BYTES_MAX: usize = 512 << 20;

/// Bytes of a group's record. A leader whose assignment makes it larger gets UNKNOWN_SERVER_ERROR, as from the reference.
pub(crate) const GROUP_RECORD_BYTES_MAX: usize = 16 << 20;

/// Offsets committed by one group. Commits beyond it get INVALID_COMMIT_OFFSET_SIZE.
pub(crate) const OFFSETS_PER_GROUP_MAX: usize = 500_000;

/// Bytes of the records of one OffsetCommit. A larger one gets INVALID_COMMIT_OFFSET_SIZE.
pub(crate) const COMMIT_RECORDS_BYTES_MAX: usize = 16 << 20;

/// Keys in one FindCoordinator. Those beyond it are answered with a throttling error.
pub(crate) const COORDINATOR_KEYS_MAX: usize = 10_000;

/// Bytes of members, about, in one answer of DescribeGroups. Groups beyond it are answered with a throttling error.
pub(crate) const GROUPS_DESCRIBED_BYTES_MAX: usize = 64 << 20;

/// Bytes, about, that one answer of OffsetFetch takes. What is beyond it is answered with a throttling error.
pub(crate) const OFFSETS_FETCHED_BYTES_MAX: usize = 128 << 20;

/// Partitions of all groups whose lag the metrics show. The others are counted in `headwater_group_lag_left_out`.
pub(crate) const GROUP_LAGS_MAX: usize = 10_000;

/// Accounts for an answer of about `bytes` while it is being made: new requests wait when it is much.
pub(crate) fn account(ctx: &Context, bytes: usize) -> Charge {
    let mut charge = Charge::new(&ctx.budget);
    charge.grow_at_once(bytes as u64);
    charge
}
