//! The topic settings, one row each, in the order in which the reference checks them.

use super::value::Kind::{Bool, Choice, GzipLevel, Int, Long, Ratio, Replicas, Words};
use super::{Effect, Importance, Setting, Synonym};
use Effect::{Acts, Kept};
use Importance::{High, Low, Medium};

const ROW: Setting =
    Setting { name: "", kind: Bool, default: "", synonym: None, importance: Low, effect: Kept, documentation: "" };

const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// A broker's setting that always has a value.
const fn from(name: &'static str) -> Option<Synonym> {
    Some(Synonym { name, has_default: true })
}

/// A broker's setting that is unset unless an operator sets it, because an older one stands behind it.
const fn maybe_from(name: &'static str) -> Option<Synonym> {
    Some(Synonym { name, has_default: false })
}

/// Every name that a topic may set.
#[rustfmt::skip]
#[allow(clippy::needless_update, reason = "the rows look alike")]
pub const SETTINGS: &[Setting] = &[
    Setting { name: "segment.bytes", kind: Int { min: 1 << 20, max: i32::MAX }, default: "1073741824",
        synonym: from("log.segment.bytes"), importance: Medium, effect: Acts,
        documentation: "Size at which a partition's current segment file is closed and a new one begun. Retention and compaction \
            work on whole closed segments, so smaller segments are freed sooner and cost more files.", ..ROW },
    Setting { name: "segment.ms", kind: Long { min: 1 }, default: "604800000", synonym: maybe_from("log.roll.ms"), importance: Medium, effect: Acts,
        documentation: "Age at which a partition's current segment is closed even when it is not full, so that retention and \
            compaction get at its records.", ..ROW },
    Setting { name: "segment.jitter.ms", kind: Long { min: 0 }, default: "0", synonym: maybe_from("log.roll.jitter.ms"),
        documentation: "Largest random time taken off `segment.ms`, so that many partitions do not roll at one moment.", ..ROW },
    Setting { name: "segment.index.bytes", kind: Int { min: 4, max: i32::MAX }, default: "10485760",
        synonym: from("log.index.size.max.bytes"),
        documentation: "Size of a segment's index file in Apache Kafka. Headwater sizes its indexes itself.", ..ROW },
    Setting { name: "flush.messages", kind: Long { min: 1 }, default: "9223372036854775807",
        synonym: from("log.flush.interval.messages"),
        documentation: "Number of records after which Apache Kafka forces a sync. Headwater syncs before every acknowledgement \
            unless `headwater.durability` is `os`.", ..ROW },
    Setting { name: "flush.ms", kind: Long { min: 0 }, default: "9223372036854775807",
        synonym: maybe_from("log.flush.interval.ms"),
        documentation: "Time after which Apache Kafka forces a sync. Headwater syncs before every acknowledgement unless \
            `headwater.durability` is `os`.", ..ROW },
    Setting { name: "retention.bytes", kind: Long { min: i64::MIN }, default: "-1", synonym: from("log.retention.bytes"),
        importance: High, effect: Acts,
        documentation: "Size of a partition beyond which its oldest segments are deleted; any negative number means no limit. It \
            counts per partition, not per topic.", ..ROW },
    Setting { name: "retention.ms", kind: Long { min: -1 }, default: "604800000", synonym: maybe_from("log.retention.ms"),
        importance: High, effect: Acts,
        documentation: "Age beyond which a partition's oldest segments are deleted; -1 means for ever. This is how long consumers \
            have to read a record.", ..ROW },
    Setting { name: "max.message.bytes", kind: Int { min: 0, max: i32::MAX }, default: "1048588",
        synonym: from("message.max.bytes"), importance: High, effect: Acts,
        documentation: "Largest record batch that is accepted, as the producer sent it (compressed when it is compressed).", ..ROW },
    Setting { name: "index.interval.bytes", kind: Int { min: 0, max: i32::MAX }, default: "4096",
        synonym: from("log.index.interval.bytes"),
        documentation: "Bytes of records between two entries of a segment's index in Apache Kafka. Headwater chooses its own.",
        ..ROW },
    Setting { name: "delete.retention.ms", kind: Long { min: 0 }, default: "86400000",
        synonym: from("log.cleaner.delete.retention.ms"), importance: Medium, effect: Acts,
        documentation: "How long a compacted topic keeps the mark that a key was deleted (a null value) after the compaction that first \
            met it, so that a consumer that reads from the beginning sees it.", ..ROW },
    Setting { name: "min.compaction.lag.ms", kind: Long { min: 0 }, default: "0",
        synonym: from("log.cleaner.min.compaction.lag.ms"), importance: Medium, effect: Acts,
        documentation: "Age below which a record of a compacted topic is never compacted away. Segments are looked at as a whole, by their \
            newest record.", ..ROW },
    Setting { name: "max.compaction.lag.ms", kind: Long { min: 1 }, default: "9223372036854775807",
        synonym: from("log.cleaner.max.compaction.lag.ms"), importance: Medium, effect: Acts,
        documentation: "Age at which a record of a compacted topic becomes due for compaction however little there is to gain. The current \
            segment is closed at that age, when the next record comes.",
        ..ROW },
    Setting { name: "file.delete.delay.ms", kind: Long { min: 0 }, default: "60000",
        synonym: from("log.segment.delete.delay.ms"),
        documentation: "How long Apache Kafka keeps a deleted segment's file. Headwater deletes a file when its last reader is \
            done.", ..ROW },
    Setting { name: "min.cleanable.dirty.ratio", kind: Ratio, default: "0.5", synonym: from("log.cleaner.min.cleanable.ratio"),
        importance: Medium, effect: Acts,
        documentation: "Share of a compacted partition that must be uncompacted before compaction is worth its while.", ..ROW },
    Setting { name: "cleanup.policy", kind: Words(&["compact", "delete"]), default: "delete",
        synonym: from("log.cleanup.policy"), importance: High, effect: Acts,
        documentation: "What becomes of old records: `delete` frees them by age and size, `compact` keeps the last one of each \
            key, both together do both, and an empty list keeps everything. A topic with `compact` takes no record without a key.",
        ..ROW },
    Setting { name: "unclean.leader.election.enable", kind: Bool, default: "false",
        synonym: from("unclean.leader.election.enable"),
        documentation: "Whether a replica that lags may become leader at the price of records. A single node has none.", ..ROW },
    Setting { name: "min.insync.replicas", kind: Int { min: 1, max: i32::MAX }, default: "1", synonym: from("min.insync.replicas"),
        documentation: "Replicas that must have a record before it is acknowledged to a producer with acks=all. As in Apache Kafka, \
            no more are waited for than the topic has, so it changes nothing on one node.", ..ROW },
    Setting { name: "compression.type", kind: Choice(COMPRESSION_TYPES), default: "producer", synonym: from("compression.type"),
        importance: Medium, effect: Acts,
        documentation: "Codec in which batches are stored. `producer` keeps each batch as it came, which costs nothing; with any \
            other value, batches that came otherwise are compressed again.", ..ROW },
    Setting { name: "compression.gzip.level", kind: GzipLevel, default: "-1", synonym: from("compression.gzip.level"),
        documentation: "Level at which Apache Kafka compresses when `compression.type` is `gzip`. Headwater compresses at the codec's usual level.", ..ROW },
    Setting { name: "compression.lz4.level", kind: Int { min: 1, max: 17 }, default: "9", synonym: from("compression.lz4.level"),
        documentation: "Level at which Apache Kafka compresses when `compression.type` is `lz4`. Headwater's encoder has one level.", ..ROW },
    Setting { name: "compression.zstd.level", kind: Int { min: -131_072, max: 22 }, default: "3",
        synonym: from("compression.zstd.level"),
        documentation: "Level at which Apache Kafka compresses when `compression.type` is `zstd`. Headwater compresses at the codec's usual level.", ..ROW },
    Setting { name: "preallocate", kind: Bool, default: "false", synonym: from("log.preallocate"),
        documentation: "Whether Apache Kafka preallocates segment files. Headwater decides by itself.", ..ROW },
    Setting { name: "message.timestamp.type", kind: Choice(&["CreateTime", "LogAppendTime"]), default: "CreateTime",
        synonym: from("log.message.timestamp.type"), importance: Medium, effect: Acts,
        documentation: "Which time a record carries: the producer's, or that of its arrival.", ..ROW },
    Setting { name: "message.timestamp.before.max.ms", kind: Long { min: 0 }, default: "9223372036854775807",
        synonym: from("log.message.timestamp.before.max.ms"), importance: Medium, effect: Acts,
        documentation: "How far a producer's timestamp may lie in the past. Only with `CreateTime`.", ..ROW },
    Setting { name: "message.timestamp.after.max.ms", kind: Long { min: 0 }, default: "3600000",
        synonym: from("log.message.timestamp.after.max.ms"), importance: Medium, effect: Acts,
        documentation: "How far a producer's timestamp may lie in the future. Only with `CreateTime`.", ..ROW },
    Setting { name: "leader.replication.throttled.replicas", kind: Replicas, default: "",
        documentation: "Replicas whose leader side is throttled while they are moved. A single node moves none.", ..ROW },
    Setting { name: "follower.replication.throttled.replicas", kind: Replicas, default: "",
        documentation: "Replicas whose follower side is throttled while they are moved. A single node moves none.", ..ROW },
    Setting { name: "max.decompressed.message.bytes", kind: Int { min: 1, max: 2_147_483_639 }, default: "2147483639",
        synonym: from("max.decompressed.message.bytes"), importance: Medium, effect: Acts,
        documentation: "Largest record in a compressed batch. Whatever it says, the records of one batch may unfold to 64 MiB \
            together, so that no batch unfolds without end.", ..ROW },
    Setting { name: "errors.deadletterqueue.group.enable", kind: Bool, default: "false",
        documentation: "Whether share groups may use this topic as their dead-letter queue.", ..ROW },
    Setting { name: "remote.storage.enable", kind: Bool, default: "false",
        documentation: "Whether old segments are moved to remote storage. Not there: `true` is refused.", ..ROW },
    Setting { name: "local.retention.ms", kind: Long { min: -2 }, default: "-2", synonym: from("log.local.retention.ms"),
        documentation: "Age beyond which segments that are in remote storage leave the local disk; -2 takes `retention.ms`.", ..ROW },
    Setting { name: "local.retention.bytes", kind: Long { min: -2 }, default: "-2", synonym: from("log.local.retention.bytes"),
        documentation: "Size beyond which segments that are in remote storage leave the local disk; -2 takes `retention.bytes`.",
        ..ROW },
    Setting { name: "remote.copy.lag.ms", kind: Long { min: -1 }, default: "0", synonym: from("log.remote.copy.lag.ms"),
        documentation: "Age at which a closed segment is copied to remote storage; 0 at once, -1 by `local.retention.ms`.", ..ROW },
    Setting { name: "remote.copy.lag.bytes", kind: Long { min: -1 }, default: "-1", synonym: from("log.remote.copy.lag.bytes"),
        documentation: "Bytes of newer records after which a closed segment is copied to remote storage; 0 at once, -1 by \
            `local.retention.bytes`.", ..ROW },
    Setting { name: "remote.log.copy.disable", kind: Bool, default: "false",
        documentation: "Whether no further segments are copied to remote storage.", ..ROW },
    Setting { name: "remote.log.delete.on.disable", kind: Bool, default: "false",
        documentation: "Whether remote segments are deleted when remote storage is switched off.", ..ROW },
    Setting { name: "batch.validation", kind: Choice(&["full", "header"]), default: "full", effect: Acts,
        documentation: "Headwater's own. How compressed batches are checked: `full` unpacks them and walks every record, as Apache \
            Kafka does; `header` trusts their checksum and their header.", ..ROW },
    Setting { name: "headwater.durability", kind: Choice(&["fsync", "os"]), default: "fsync", importance: High, effect: Acts,
        documentation: "Headwater's own. When a write counts as done: `fsync` when it is on the medium, `os` when the operating \
            system has it, which a power cut may undo and a killed process does not.", ..ROW },
];
