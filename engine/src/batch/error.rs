//! Why a batch is refused.

use std::borrow::Cow;

/// Why a batch is refused. The variants keep apart what a protocol answers differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The batch, as sent or as it would be stored, is larger than the topic takes.
    #[error("the batch has {size} bytes, more than the {max} that are allowed")]
    TooLarge {
        /// The size of the batch in bytes.
        size: usize,
        /// The limit that it passes.
        max: usize,
    },
    /// The bytes are damaged, or are of a format from the future: sending the same batch again may work.
    #[error("corrupt batch: {0}")]
    Corrupt(Cow<'static, str>),
    /// The bytes are what the producer meant, but break a rule: sending them again is of no use.
    #[error("invalid batch: {why}")]
    Invalid {
        /// The record that breaks it, counted from 0, where it is one record's fault.
        record_index: Option<i32>,
        /// The rule.
        why: Cow<'static, str>,
    },
    /// A record's timestamp is outside what the topic takes.
    #[error("invalid timestamp of record {record_index}: {why}")]
    Timestamp {
        /// The first such record, counted from 0.
        record_index: i32,
        /// The limits.
        why: Cow<'static, str>,
    },
    /// Records of a compacted topic have no key.
    #[error("{count} records of a compacted topic have no key, the first of them record {}", .record_indexes.first().unwrap_or(&0))]
    WithoutKey {
        /// Which, counted from 0; not all of them when they are very many.
        record_indexes: Vec<i32>,
        /// How many there are.
        count: usize,
    },
    /// The attributes name a codec that does not exist.
    #[error("unknown compression codec {0}")]
    UnsupportedCodec(u8),
    /// The records inflate to more than the limit. Inflating stopped there.
    #[error("the records inflate to more than the {max} bytes that are allowed")]
    Bomb {
        /// The limit in bytes.
        max: usize,
    },
}

impl BatchError {
    /// The whole batch breaks a rule.
    pub(super) fn invalid(why: impl Into<Cow<'static, str>>) -> BatchError {
        BatchError::Invalid { record_index: None, why: why.into() }
    }

    /// One record breaks a rule.
    pub(super) fn invalid_record(record_index: i32, why: impl Into<Cow<'static, str>>) -> BatchError {
        BatchError::Invalid { record_index: Some(record_index), why: why.into() }
    }

    /// The bytes are damaged.
    pub(super) fn corrupt(why: impl Into<Cow<'static, str>>) -> BatchError {
        BatchError::Corrupt(why.into())
    }
}
