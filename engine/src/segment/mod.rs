//! Segment files: a partition's batches, one after the other, byte for byte as they were checked.
//!
//! A segment has no header: its first byte is its first batch's. Which file holds which offsets, and how much of it is
//! published, is known to the partition (and the checkpoint), never read from the file. Bytes beyond the published size
//! are leftovers of a crash or rounds on their way; nobody reads them.
//!
//! Names: `segments/<low byte of the file id>/<file id>.log`, the index of a sealed segment beside it as `.index`.

mod extents;
pub mod files;
pub mod gather;
pub mod index;
pub mod loads;
#[cfg(test)]
mod tests;
pub mod walk;
