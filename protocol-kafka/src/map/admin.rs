//! Names, numbers and settings of topics, on the wire.

use headwater_engine::batch::{Codec, TimestampType, Validation};
use headwater_engine::{Durability, Settings};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;

/// A topic's name, as the codec takes it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A partition's index, or a number of partitions, on the wire. The engine holds fewer than the wire can count.
pub fn partition_index(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

/// What the engine acts on under the name of a setting, as the setting's text; none for names that it keeps unread.
pub fn setting(name: &str, settings: &Settings) -> Option<String> {
    Some(match name {
        "segment.bytes" => settings.segment_bytes.to_string(),
        "segment.ms" => settings.segment_ms.to_string(),
        "retention.bytes" => settings.retention_bytes.to_string(),
        "retention.ms" => settings.retention_ms.to_string(),
        "cleanup.policy" => match (settings.compacts, settings.deletes) {
            (true, true) => "compact,delete",
            (true, false) => "compact",
            (false, true) => "delete",
            (false, false) => "",
        }
        .to_owned(),
        // As the reference writes such a number: with a point.
        "min.cleanable.dirty.ratio" => format!("{:?}", settings.dirty_ratio_min),
        "min.compaction.lag.ms" => settings.compaction_lag_min_ms.to_string(),
        "max.compaction.lag.ms" => settings.compaction_lag_max_ms.to_string(),
        "delete.retention.ms" => settings.delete_retention_ms.to_string(),
        "max.message.bytes" => settings.batch_size_max.to_string(),
        "max.decompressed.message.bytes" => settings.inflated_record_size_max.to_string(),
        "message.timestamp.before.max.ms" => settings.timestamp_before_max_ms.to_string(),
        "message.timestamp.after.max.ms" => settings.timestamp_after_max_ms.to_string(),
        "message.timestamp.type" => match settings.timestamp_type {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
        .to_owned(),
        "compression.type" => match settings.compression {
            None => "producer",
            Some(Codec::None) => "uncompressed",
            Some(Codec::Gzip) => "gzip",
            Some(Codec::Snappy) => "snappy",
            Some(Codec::Lz4) => "lz4",
            Some(Codec::Zstd) => "zstd",
        }
        .to_owned(),
        "batch.validation" => match settings.validation {
            Validation::Full => "full",
            Validation::Header => "header",
        }
        .to_owned(),
        "headwater.durability" => match settings.durability? {
            Durability::Fsync => "fsync",
            Durability::Os => "os",
        }
        .to_owned(),
        _ => return None,
    })
}
