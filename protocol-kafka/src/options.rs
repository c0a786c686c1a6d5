//! What a Kafka listener is told by the server.

use headwater_protocol::Limits;

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
            limits: Limits::default(),
        }
    }
}
