//! The durable log beneath every Headwater API.
//!
//! Open an [`Engine`], create a [`Topic`], append checked record batches to its [`Partition`]s, wait for the [`Ack`], read
//! them back as ranges of segment files. The engine is synchronous, knows no socket and speaks no protocol. How a batch
//! travels from `append` to the medium and to readers is told in ARCHITECTURE.md; what lies on disk, in docs/format.md.

pub mod batch;
pub mod env;

mod ack;
mod background;
mod cell;
mod checkpoint;
mod commit;
mod compaction;
mod encoding;
mod engine;
mod ids;
mod offload;
mod partition;
mod recovery;
mod segment;
mod settings;
mod stats;
mod topic;
mod wake;
mod wal;
mod watch;

pub use ack::{Ack, AckWait, Pending, Stopped};
pub use commit::Fatal;
pub use engine::{Drive, Engine, GatherBounds, Options};
pub use ids::{Epoch, FileId, FilePosition, Offset, PartitionId, ProducerId, Sequence, TimestampMs, TopicId};
pub use offload::{Abandoned, Offloaded};
pub use partition::{
    AppendError, Appended, Batches, Bounds, ColdRead, DeleteRecordsError, FileRange, KnownProducer, Partition, Read,
    ReadError, ReadRequest, TimePoint,
};
pub use recovery::{OpenError, Report, SegmentOnDisk, TopicOnDisk, check, topic_on_disk};
pub use settings::{Durability, InvalidSetting, Settings};
pub use stats::{HistogramSnapshot, StatsSnapshot};
pub use topic::{NewTopic, Topic, TopicError};
pub use wake::WakeTogether;
pub use watch::{Watcher, WatcherWait};
