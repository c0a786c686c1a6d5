//! Engine ids, offsets and errors in Kafka's words, and back. The only place that knows both vocabularies.
//!
//! Each `match` on an engine error goes without `_`, so that a new variant makes this head decide.

use headwater_engine::{AppendError, DeleteRecordsError, ReadError, TopicError, TopicId};
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// An error on its way to the client: the protocol's number and, where the version has room for it, a message.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The protocol's own error.
    pub error: ResponseError,
    /// What a human should know beyond it.
    pub message: Option<String>,
}

impl Failure {
    /// An error without a message.
    pub fn new(error: ResponseError) -> Failure {
        Failure { error, message: None }
    }

    /// An error with a message.
    pub fn because(error: ResponseError, message: impl Into<String>) -> Failure {
        Failure { error, message: Some(message.into()) }
    }

    /// The error's number.
    pub fn code(&self) -> i16 {
        self.error.code()
    }

    /// The message, as the codec takes it.
    pub fn message(&self) -> Option<StrBytes> {
        self.message.clone().map(StrBytes::from_string)
    }
}

impl From<ResponseError> for Failure {
    fn from(error: ResponseError) -> Failure {
        Failure::new(error)
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Failure {
        match error {
            AppendError::Deleted => ResponseError::UnknownTopicOrPartition.into(),
            AppendError::Closed(why) => Failure::because(ResponseError::PolicyViolation, why),
            AppendError::OutOfOrderSequence { producer, expected, found } => Failure::because(
                ResponseError::OutOfOrderSequenceNumber,
                format!("producer {producer} sent sequence {found} where {expected} was next"),
            ),
            AppendError::StaleProducerEpoch { .. } => ResponseError::InvalidProducerEpoch.into(),
            // Retriable, and idle producers make room with time.
            AppendError::TooManyProducers => Failure::because(
                ResponseError::ThrottlingQuotaExceeded,
                "the partition has as many active idempotent producers as it may have",
            ),
            AppendError::DiskFull => ResponseError::KafkaStorageError.into(),
            AppendError::Busy => ResponseError::RequestTimedOut.into(),
            AppendError::Stopped => ResponseError::NotLeaderOrFollower.into(),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        match error {
            ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange.into(),
            ReadError::Corrupt(why) => Failure::because(ResponseError::KafkaStorageError, why),
            ReadError::Deleted => ResponseError::UnknownTopicOrPartition.into(),
            ReadError::Io(error) => Failure::because(ResponseError::KafkaStorageError, error.to_string()),
            ReadError::Stopped => ResponseError::NotLeaderOrFollower.into(),
        }
    }
}

impl From<DeleteRecordsError> for Failure {
    fn from(error: DeleteRecordsError) -> Failure {
        match error {
            DeleteRecordsError::OutOfRange => ResponseError::OffsetOutOfRange.into(),
            DeleteRecordsError::Deleted => ResponseError::UnknownTopicOrPartition.into(),
            DeleteRecordsError::Busy => ResponseError::RequestTimedOut.into(),
            DeleteRecordsError::Stopped => ResponseError::NotLeaderOrFollower.into(),
        }
    }
}

impl From<TopicError> for Failure {
    fn from(error: TopicError) -> Failure {
        match error {
            TopicError::Exists => ResponseError::TopicAlreadyExists.into(),
            TopicError::NotFound => ResponseError::UnknownTopicOrPartition.into(),
            TopicError::InvalidName(why) => Failure::because(ResponseError::InvalidTopicException, why),
            TopicError::InvalidPartitions(why) => Failure::because(ResponseError::InvalidPartitions, why),
            TopicError::InvalidSetting { name, why } => {
                Failure::because(ResponseError::InvalidConfig, format!("{name}: {why}"))
            }
            TopicError::TooManyPartitions { max } => {
                Failure::because(ResponseError::PolicyViolation, format!("at most {max} partitions fit this server"))
            }
            TopicError::DiskFull => ResponseError::KafkaStorageError.into(),
            TopicError::Busy => ResponseError::RequestTimedOut.into(),
            TopicError::Stopped => ResponseError::NotController.into(),
        }
    }
}

/// A topic id on the wire.
pub fn topic_id(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

/// A topic id from the wire.
pub fn topic_id_from(id: Uuid) -> TopicId {
    TopicId(id.into_bytes())
}

/// The cluster id as Kafka writes its own: 16 bytes in URL-safe base64 without padding.
pub fn cluster_id(id: TopicId) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = u128::from_be_bytes(id.0);
    // 22 digits of 6 bits hold 132: the last digit carries 2 bits of the id and 4 zeros.
    let mut digits = [0u8; 22];
    let last = (bits & 0b11) << 4;
    bits >>= 2;
    for digit in digits[..21].iter_mut().rev() {
        *digit = ALPHABET[(bits & 63) as usize];
        bits >>= 6;
    }
    digits[21] = ALPHABET[last as usize];
    digits.iter().map(|&digit| char::from(digit)).collect()
}

// ---- metadata and admin ----
