//! Classic consumer groups: who is in a group, what each member has been assigned, how far they have come.
//!
//! ```text
//!  op/join_group.rs ...      requests, answers
//!         |
//!    coordinator             finds the group, runs the machine under the group's lock, queues its records, arms the timer
//!      |       |
//!   classic  offsets         the state machine of one group; what it has committed: pure
//!         |
//!      records               what is kept of both, in Kafka's form
//!         |
//!   __consumer_offsets       an internal topic of the engine; a group's partition follows from its name
//! ```
//! What is kept of a group is a record in its partition of `__consumer_offsets`, appended under the group's lock: so the order of
//! its records is the order in which things were decided. An answer that says "done" is given after the engine's ack.

mod classic;
mod coordinator;
mod java;
mod offsets;
mod records;
mod subscription;

pub(crate) use classic::{Join, Leaving, Reply, State, Sync, refusal};
pub(crate) use coordinator::{CommitPartition, Committer, Coordinator, Described, Queued, own, text, unless_busy};
pub(crate) use offsets::Offsets;
pub(crate) use records::Committed;

/// The topic that groups are kept in.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
