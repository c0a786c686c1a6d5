//! What can go wrong while loading a broker.

use std::io;
use std::net::SocketAddr;

/// A failure that ends a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed, or an answer did not come in time.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The broker answered with an error code.
    #[error("{api} answered error {code} ({}) for {what}", name(*.code))]
    Code {
        /// Which request.
        api: &'static str,
        /// Topic and partition.
        what: String,
        /// Kafka's error code.
        code: i16,
    },
    /// Nobody accepts connections there.
    #[error("no broker can be reached at {0}: {1}")]
    Unreachable(SocketAddr, io::Error),
    /// The broker answered something that cannot be, or nothing.
    #[error("{0}")]
    Answer(String),
}

impl Error {
    /// An error code, when it is not 0.
    pub fn check(api: &'static str, code: i16, what: impl FnOnce() -> String) -> Result<(), Self> {
        if code == 0 { Ok(()) } else { Err(Self::Code { api, what: what(), code }) }
    }

    /// Whether it means that a broker is still starting or a topic still being made, so that trying again makes sense.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        // Unknown topic, leader not available, not leader, not enough replicas, broker not available.
        matches!(self, Self::Code { code: 3 | 5 | 6 | 8 | 19 | 20, .. } | Self::Unreachable(..))
    }
}

/// Names of the codes that a load generator meets.
fn name(code: i16) -> &'static str {
    match code {
        -1 => "UNKNOWN_SERVER_ERROR",
        1 => "OFFSET_OUT_OF_RANGE",
        2 => "CORRUPT_MESSAGE",
        3 => "UNKNOWN_TOPIC_OR_PARTITION",
        5 => "LEADER_NOT_AVAILABLE",
        6 => "NOT_LEADER_OR_FOLLOWER",
        7 => "REQUEST_TIMED_OUT",
        10 => "MESSAGE_TOO_LARGE",
        17 => "INVALID_TOPIC_EXCEPTION",
        19 => "NOT_ENOUGH_REPLICAS",
        20 => "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        21 => "INVALID_REQUIRED_ACKS",
        35 => "UNSUPPORTED_VERSION",
        36 => "TOPIC_ALREADY_EXISTS",
        37 => "INVALID_PARTITIONS",
        40 => "INVALID_CONFIG",
        42 => "INVALID_REQUEST",
        44 => "POLICY_VIOLATION",
        56 => "KAFKA_STORAGE_ERROR",
        87 => "INVALID_RECORD",
        89 => "THROTTLING_QUOTA_EXCEEDED",
        _ => "see the protocol guide",
    }
}
