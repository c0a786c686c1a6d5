//! A small Kafka client for the command line tools. It speaks to any broker: it negotiates versions, finds leaders,
//! retries what may be retried, and gives up after a time.
//!
//! It is not a client library: one request at a time per connection, no membership of groups, no transactions. Requests name
//! topics by name and stay below the versions that need topic ids, but for Fetch, which must not go on in another topic.

mod cluster;
mod connection;
mod error;
mod fetch;
mod groups;
mod offsets;
mod partitioner;
mod produce;
mod topics;

pub use cluster::{Cluster, PartitionState};
pub use error::ClientError;
pub use fetch::{Fetched, Fetcher, Gap, Span};
pub use groups::{Committed, GroupState, ListedGroup, Member, TopicPartition};
pub use offsets::At;
pub use partitioner::Partitioner;
pub use produce::{Identity, Outgoing, Sender};
pub use topics::{NewTopic, Setting, SettingsChange};

/// How many bytes an answer may have. A broker sends what the request allowed it to; this is the bound on a broken one.
const ANSWER_SIZE_MAX: usize = 256 << 20;
