//! What can go wrong between a tool and a broker, in words for the person at the terminal.

use kafka_protocol::error::ResponseError;
use std::io;
use std::time::Duration;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("lost the connection to {address}: {source}")]
    Lost { address: String, source: io::Error },
    #[error("{address} did not answer {api} within {} s", .after.as_secs_f32())]
    Timeout { address: String, api: &'static str, after: Duration },
    #[error("{address} answered {api} with something that cannot be read: {why}")]
    Malformed { address: String, api: &'static str, why: String },
    #[error("{address} serves no version of {api} that this program speaks")]
    Unsupported { address: String, api: &'static str },
    #[error("{what}: {}", describe(*.code, .message.as_deref()))]
    Refused { what: String, code: i16, message: Option<String> },
    #[error("topic {topic} was deleted, and made again, while it was read")]
    Remade { topic: String },
    /// A partition has become shorter than it was when reading began.
    #[error("{place} ends at offset {end} now, before {wanted}, which it had when reading began: its log was cut")]
    Shorter { place: String, wanted: i64, end: i64 },
    /// A partition holds more, and the broker does not hand it out.
    #[error("{place} does not come within {} s: it is in remote storage, or at another replica", .after.as_secs_f32())]
    Owed { place: String, after: Duration },
    #[error("{0}")]
    Invalid(String),
}

impl ClientError {
    /// A broker's error code, unless it is 0.
    pub fn check(code: i16, message: Option<&str>, what: impl FnOnce() -> String) -> Result<(), ClientError> {
        if code == 0 {
            return Ok(());
        }
        let message = message.filter(|text| !text.is_empty()).map(str::to_owned);
        Err(ClientError::Refused { what: what(), code, message })
    }

    /// Whether the same request may work a moment later. Says nothing about whether the failed one had an effect.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. } | ClientError::Lost { .. } | ClientError::Timeout { .. } => true,
            // A leader that is new may know a moment later that more is there.
            ClientError::Shorter { .. } => true,
            ClientError::Refused { code, .. } => {
                ResponseError::try_from_code(*code).is_some_and(|error| error.is_retriable())
            }
            ClientError::Malformed { .. }
            | ClientError::Unsupported { .. }
            | ClientError::Remade { .. }
            // It was asked for again and again before this was said.
            | ClientError::Owed { .. }
            | ClientError::Invalid(_) => false,
        }
    }

    /// Whether the broker refused with this error.
    pub fn is(&self, error: ResponseError) -> bool {
        matches!(self, ClientError::Refused { code, .. } if *code == error.code())
    }

    /// What a newcomer may try next.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ClientError::Connect { .. } => {
                Some("is a broker running there? `headwater serve` starts one; --bootstrap HOST:PORT names another")
            }
            ClientError::Malformed { .. } => {
                Some("is this the port of a Kafka broker? It may speak TLS, or another protocol")
            }
            ClientError::Unsupported { .. } => Some("the broker is too old, or leaves this to others"),
            ClientError::Remade { .. } | ClientError::Shorter { .. } => Some("what is missing of it is gone"),
            ClientError::Owed { .. } => Some("a larger --timeout waits longer"),
            ClientError::Refused { code, .. } => match ResponseError::try_from_code(*code) {
                Some(ResponseError::UnknownTopicOrPartition) => {
                    Some("`headwater topic list` shows what there is; `headwater topic create` makes a topic")
                }
                Some(ResponseError::MessageTooLarge) => Some(
                    "a batch is larger than the topic's max.message.bytes: lower --batch-bytes, or raise the setting",
                ),
                Some(ResponseError::InvalidReplicationFactor) => {
                    Some("leave --replication away to take the broker's default")
                }
                _ => None,
            },
            _ => None,
        }
    }
}

fn describe(code: i16, message: Option<&str>) -> String {
    let name = match ResponseError::try_from_code(code) {
        Some(ResponseError::Unknown(code)) => format!("error {code}"),
        Some(ResponseError::UnknownTopicOrPartition) if message.is_none() => {
            return "there is no such topic or partition (UnknownTopicOrPartition)".to_owned();
        }
        Some(error) => error.to_string(),
        None => "no error".to_owned(),
    };
    match message {
        Some(text) => format!("{text} ({name})"),
        None => name,
    }
}
