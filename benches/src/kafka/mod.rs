//! A small Kafka client that costs little CPU for a record, so that the server is what is measured.
//!
//! Batches are encoded once and sent again and again; requests are framed by hand in fixed, non-flexible versions that every
//! broker from 2.4 on serves (Produce 8, Fetch 11, Metadata 8, ListOffsets 5, CreateTopics 4, DeleteTopics 3). Every answer
//! is parsed far enough to see its error codes; fetched batches are checked against their CRC and counted.
//!
//! All partitions must be led by the broker that is connected to: the generator does not follow leaders. What is sent, how fast
//! and what is measured is in [`crate::load`].

pub mod admin;
pub mod batch;
pub mod connection;
pub mod error;
pub mod fetch;
pub mod process;
pub mod produce;
pub mod ready;
pub mod wire;

pub use error::Error;

/// Produce, and the version that is spoken.
pub const PRODUCE: (i16, i16) = (0, 8);
/// Fetch.
pub const FETCH: (i16, i16) = (1, 11);
/// ListOffsets.
pub const LIST_OFFSETS: (i16, i16) = (2, 5);
/// Metadata.
pub const METADATA: (i16, i16) = (3, 8);
/// CreateTopics.
pub const CREATE_TOPICS: (i16, i16) = (19, 4);
/// DeleteTopics.
pub const DELETE_TOPICS: (i16, i16) = (20, 3);

#[cfg(test)]
mod tests;
