//! Checkpoints: the state after one WAL block, so that the blocks up to it need not be replayed and their space is free.
//!
//! State is a map from keys to values. A *base* file holds all of it, a *delta* what changed since the file before; now
//! and then base and deltas are merged into a new base. Files are numbered without a gap and named
//! `<number>-<through>.base` or `.delta`; the WAL sequence in the name is for people, and
//! for a repair that cannot read the file. A file gets its name only once it is
//! complete and durable.
//!
//! ```text
//! file    0    magic "HWCKP\0", format version u16
//!         8    number u64, through u64 (WAL sequence), crc u32 of that block, slot u32, position u64 of the next block
//!        40    data id 16 bytes, node epoch i32, next_partition u64, next_producer i64
//!        76    runs: count u32, each incarnation u64, first u64     (the runs whose blocks follow `through`)
//!              previous u32: crc of the file before (0 for a base)
//!              entries: count u32, each key_size u16, key, then value_size u32 + 1 and value, or 0 when the key is gone
//!              crc32c u32 of everything before
//! ```
//!
//! `file` is the bytes, `store` the folder, `checkpointer` the course of one checkpoint.

mod checkpointer;
mod file;
mod store;
#[cfg(test)]
mod tests;

pub use checkpointer::{Checkpointer, Progress};
pub use file::Header;
pub use store::{Loaded, Lost, Store};

/// Keys of the state map.
pub mod key {
    use crate::ids::{PartitionId, TopicId};

    pub fn topic(id: TopicId) -> Vec<u8> {
        [&[1], id.0.as_slice()].concat()
    }

    pub fn partition(id: PartitionId) -> Vec<u8> {
        [&[2], id.0.to_be_bytes().as_slice()].concat()
    }

    pub fn is_topic(key: &[u8]) -> bool {
        key.first() == Some(&1)
    }
}
