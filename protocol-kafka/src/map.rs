//! Engine ids, offsets and errors in Kafka's words, and back. The only place that knows both vocabularies.
//!
//! Each `match` on an engine error goes without `_`, so that a new variant makes this head decide.

mod admin;

pub use admin::{partition_index, setting, topic_name};

use headwater_engine::batch::BatchError;
use headwater_engine::{Abandoned, AppendError, DeleteRecordsError, ReadError, Stopped, TopicError, TopicId};
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
    /// The records whose fault it is, counted from 0 in their batch.
    pub records: Vec<i32>,
    /// What is told of each of these, when it is not the message.
    pub record_message: Option<String>,
}

impl Failure {
    /// An error without a message.
    pub fn new(error: ResponseError) -> Failure {
        Failure { error, message: None, records: Vec::new(), record_message: None }
    }

    /// An error with a message.
    pub fn because(error: ResponseError, message: impl Into<String>) -> Failure {
        Failure { message: Some(message.into()), ..Failure::new(error) }
    }

    /// The error's number.
    pub fn code(&self) -> i16 {
        self.error.code()
    }

    /// The message, as the codec takes it.
    pub fn message(&self) -> Option<StrBytes> {
        self.message.clone().map(StrBytes::from_string)
    }

    /// What is told of each record, as the codec takes it.
    pub fn record_message(&self) -> Option<StrBytes> {
        self.record_message.clone().map(StrBytes::from_string).or_else(|| self.message())
    }

    /// A batch that a partition does not take.
    pub fn of_batch(error: BatchError, topic: &str, partition: i32) -> Failure {
        let (kind, record) = match &error {
            // A producer splits a batch that is too large and sends the halves, which is what helps with a bomb too.
            BatchError::TooLarge { .. } | BatchError::Bomb { .. } => (ResponseError::MessageTooLarge, None),
            BatchError::Corrupt(_) => (ResponseError::CorruptMessage, None),
            BatchError::Invalid { record_index, .. } => (ResponseError::InvalidRecord, *record_index),
            BatchError::Timestamp { record_index, .. } => (ResponseError::InvalidTimestamp, Some(*record_index)),
            BatchError::UnsupportedCodec(_) => (ResponseError::UnsupportedCompressionType, None),
            BatchError::WithoutKey { record_indexes, count } => {
                return Failure::without_key(record_indexes, *count, topic, partition);
            }
        };
        Failure { records: record.into_iter().collect(), ..Failure::because(kind, error.to_string()) }
    }

    /// The reference's words: producers tell each record's sender what is said of it, and people search for it.
    fn without_key(records: &[i32], count: usize, topic: &str, partition: i32) -> Failure {
        let each = format!("Compacted topic cannot accept message without key in topic partition {topic}-{partition}");
        let shown: Vec<String> =
            records.iter().take(3).map(|index| format!("RecordError(batchIndex={index}, message='{each}')")).collect();
        let all = format!(
            "One or more records have been rejected due to {count} record errors in total, and only showing the first \
             three errors at most: [{}]",
            shown.join(", ")
        );
        let failure = Failure::because(ResponseError::InvalidRecord, all);
        Failure { records: records.to_vec(), record_message: Some(each), ..failure }
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
            AppendError::OutOfOrderSequence { .. } => {
                Failure::because(ResponseError::OutOfOrderSequenceNumber, error.to_string())
            }
            AppendError::StaleProducerEpoch { .. } => {
                Failure::because(ResponseError::InvalidProducerEpoch, error.to_string())
            }
            AppendError::DiskFull => Failure::because(ResponseError::KafkaStorageError, error.to_string()),
            AppendError::Busy => Failure::because(ResponseError::RequestTimedOut, error.to_string()),
            AppendError::Stopped => ResponseError::NotLeaderOrFollower.into(),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        match error {
            ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange.into(),
            // Clients raise this one; a storage error they would try again without a word.
            ReadError::Corrupt(why) => Failure::because(ResponseError::CorruptMessage, why),
            ReadError::Deleted => ResponseError::UnknownTopicOrPartition.into(),
            ReadError::Io(error) => Failure::because(ResponseError::KafkaStorageError, error.to_string()),
        }
    }
}

impl From<Abandoned> for Failure {
    fn from(error: Abandoned) -> Failure {
        Failure::because(ResponseError::KafkaStorageError, error.to_string())
    }
}

impl From<Stopped> for Failure {
    fn from(_: Stopped) -> Failure {
        TopicError::Stopped.into()
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
        let kind = match &error {
            TopicError::Exists(_) => ResponseError::TopicAlreadyExists,
            TopicError::NotFound => return ResponseError::UnknownTopicOrPartition.into(),
            TopicError::InvalidName(_) => ResponseError::InvalidTopicException,
            TopicError::InvalidPartitions(_) => ResponseError::InvalidPartitions,
            TopicError::InvalidSetting(_) => ResponseError::InvalidConfig,
            TopicError::TooManyPartitions { .. } => ResponseError::PolicyViolation,
            TopicError::Busy => ResponseError::RequestTimedOut,
            TopicError::Stopped => ResponseError::NotController,
        };
        Failure::because(kind, error.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_id_is_url_safe_base64() {
        assert_eq!(cluster_id(TopicId([0; 16])), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(cluster_id(TopicId([0xff; 16])), "_____________________w");
        assert_eq!(cluster_id(TopicId(*b"headwater-engine")), "aGVhZHdhdGVyLWVuZ2luZQ");
    }
}
