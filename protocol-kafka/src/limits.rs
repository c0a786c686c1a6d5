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

/// Topics in one CreateTopics. Those beyond it are answered with a throttling error.
pub(crate) const TOPICS_CREATED_MAX: usize = 10_000;

/// Topics that one Metadata request makes on demand. The client asks again for the others.
pub(crate) const TOPICS_AUTO_CREATED_MAX: usize = 1_000;

/// Accounts for an answer of about `bytes` while it is being made: new requests wait when it is much.
pub(crate) fn account(ctx: &Context, bytes: usize) -> Charge {
    let mut charge = Charge::new(&ctx.budget);
    charge.grow_at_once(bytes as u64);
    charge
}
