//! Bounds on what one request of the admin kind may ask for. A small request can ask for a large answer; these keep it in
//! proportion. The bounds on connections, requests and memory are the listener's, in `headwater_protocol::Limits`.

use crate::call::Close;
use crate::context::Context;
use crate::map::Failure;
use headwater_protocol::budget::Charge;
use kafka_protocol::protocol::StrBytes;

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

/// A Fetch without a session is kept with its connection for when it comes again, if it is no longer than this ...
pub(crate) const ASKED_AGAIN_BYTES_MAX: usize = 1 << 10;

/// ... and names no more partitions. Others are read anew each time.
pub(crate) const ASKED_AGAIN_PARTITIONS_MAX: usize = 16;

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

/// Bytes of memory, about, of all groups together: their members, ids that are given out, offsets. When they are used up, what
/// would take more is refused: new groups and members, and members that grow, with POLICY_VIOLATION, offsets of further partitions
/// with INVALID_COMMIT_OFFSET_SIZE.
pub(crate) const GROUPS_BYTES_MAX: usize = 512 << 20;

/// Bytes of memory, about, of the members of one group: its leader gets all of them in one answer. A member that makes it larger
/// gets GROUP_MAX_SIZE_REACHED.
pub(crate) const GROUP_BYTES_MAX: usize = 32 << 20;

/// Bytes of a group's record. A leader whose assignment makes it larger gets UNKNOWN_SERVER_ERROR, as from the reference.
pub(crate) const GROUP_RECORD_BYTES_MAX: usize = 16 << 20;

/// Offsets committed by one group. Commits beyond it get INVALID_COMMIT_OFFSET_SIZE.
pub(crate) const OFFSETS_PER_GROUP_MAX: usize = 500_000;

/// Bytes of a batch of offsets: what the reference's topic of offsets takes by default. A larger OffsetCommit gets
/// UNKNOWN_SERVER_ERROR, as there.
pub(crate) const OFFSETS_BATCH_BYTES_MAX: usize = 1_048_588;

/// Topics that the members of one group may say that they read. With more, it is not known what they read.
pub(crate) const GROUP_TOPICS_MAX: usize = 100_000;

/// Groups in one request about groups. One that names more closes its connection.
pub(crate) const GROUPS_NAMED_MAX: usize = 100_000;

/// Bytes of members, about, in one answer of DescribeGroups. Groups beyond it are answered with a throttling error.
pub(crate) const GROUPS_DESCRIBED_BYTES_MAX: usize = 64 << 20;

/// Bytes, about, that one answer of OffsetFetch takes. What is beyond it is answered with a throttling error.
pub(crate) const OFFSETS_FETCHED_BYTES_MAX: usize = 128 << 20;

/// Partitions of all groups whose lag the metrics show. The others are counted in `headwater_group_lag_left_out`.
pub(crate) const GROUP_LAGS_MAX: usize = 10_000;

/// Bytes of messages in one answer that has one for each item. Items beyond it have their error's number alone.
const MESSAGES_BYTES_MAX: usize = 4 << 20;

/// What is left of them.
pub(crate) struct Messages(usize);

impl Messages {
    /// For a new answer.
    pub(crate) fn new() -> Messages {
        Messages(MESSAGES_BYTES_MAX)
    }

    /// A failure's message, if it fits.
    pub(crate) fn take(&mut self, failure: &Failure) -> Option<StrBytes> {
        self.0 = self.0.checked_sub(failure.message.as_ref()?.len())?;
        failure.message()
    }
}

/// Looks that a request does not name more groups than one may.
pub(crate) fn check_groups(named: usize) -> Result<(), Close> {
    if named > GROUPS_NAMED_MAX { Err(Close::Refused("a request that names too many groups")) } else { Ok(()) }
}

/// Accounts for an answer of about `bytes` while it is being made. Waits until there is memory for it. With one charge for each
/// request at a time: whoever held one while it waited for another could wait for itself.
pub(crate) async fn account(ctx: &Context, bytes: usize) -> Charge {
    let mut charge = Charge::up_to(&ctx.answers, bytes as u64);
    charge.grow(bytes as u64).await;
    charge
}

/// The same for an answer whose size is not known yet: the charge is to grow with it.
pub(crate) fn account_for_parts(ctx: &Context) -> Charge {
    Charge::new(&ctx.answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::error::ResponseError;

    #[test]
    fn messages_end_when_an_answer_has_enough_of_them() {
        let failure = Failure::because(ResponseError::InvalidRequest, "x".repeat(1 << 20));
        let mut messages = Messages::new();
        let taken = (0..1_000).filter(|_| messages.take(&failure).is_some()).count();
        assert_eq!(taken, MESSAGES_BYTES_MAX >> 20);
        assert_eq!(messages.take(&Failure::new(ResponseError::InvalidRequest)), None);
    }
}
