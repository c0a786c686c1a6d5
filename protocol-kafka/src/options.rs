//! What a Kafka listener is told by the server.

use headwater_protocol::Limits;
use std::time::Duration;

/// Settings of the Kafka head. They do not change while it serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host that Metadata names; clients come back to it.
    pub advertised_host: String,
    /// The port that Metadata names; `serve` fills in the listener's own when this is 0.
    pub advertised_port: u16,
    /// The id of this broker.
    pub node_id: i32,
    /// The rack that Metadata names.
    pub rack: Option<String>,
    /// Whether Metadata makes a topic that it is asked for and that does not exist (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Partitions of a topic that is made without a number (`num.partitions`).
    pub default_partitions: u32,
    /// Consumer groups.
    pub groups: GroupOptions,
    /// Bounds on connections, requests and memory.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            advertised_host: "127.0.0.1".to_owned(),
            advertised_port: 0,
            node_id: 1,
            rack: None,
            auto_create_topics: true,
            default_partitions: 1,
            groups: GroupOptions::default(),
            limits: Limits::default(),
        }
    }
}

/// Settings of consumer groups, each under the reference's name.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// How long the first members of a group wait for further ones (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: i32,
    /// The shortest session that a member may ask for (`group.min.session.timeout.ms`).
    pub session_timeout_min_ms: i32,
    /// The longest one (`group.max.session.timeout.ms`).
    pub session_timeout_max_ms: i32,
    /// Members of a group (`group.max.size`).
    pub members_max: usize,
    /// Partitions of `__consumer_offsets`, when it is made (`offsets.topic.num.partitions`).
    pub topic_partitions: u32,
    /// Bytes of its segments (`offsets.topic.segment.bytes`).
    pub topic_segment_bytes: u64,
    /// How long offsets outlive their group's last member (`offsets.retention.minutes`).
    pub offsets_retention_ms: i64,
    /// Time between two looks for expired offsets (`offsets.retention.check.interval.ms`).
    pub retention_check_interval: Duration,
    /// UTF-16 units of what a client may say beside an offset (`offset.metadata.max.bytes`).
    pub offset_metadata_max: usize,
}

impl Default for GroupOptions {
    fn default() -> GroupOptions {
        GroupOptions {
            initial_rebalance_delay_ms: 3_000,
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            members_max: i32::MAX as usize,
            topic_partitions: 50,
            topic_segment_bytes: 100 << 20,
            offsets_retention_ms: 7 * 24 * 3600 * 1000,
            retention_check_interval: Duration::from_secs(600),
            offset_metadata_max: 4096,
        }
    }
}
