//! Compaction: of the records of a key only the last stays, at its offset.
//!
//! One compactor looks for the partition with the most to gain (`standing`), and makes a *pass* over it: first it reads
//! what was not compacted yet and notes in a `map` which record of each key is the last; then it reads everything from the
//! beginning and writes what stays into new segments (`rewrite`), several small ones into one. Each new segment is durable
//! before the log is told, by one entry, that it takes the place of those it was made from. Whatever happens in between, the log is
//! either as it was or as it shall be; files that are in it neither way are swept.
//!
//! ```text
//!   log start        clean                      end          (young, or not in a checkpoint yet)    active
//!      | compacted     | dirty: read into the map | not looked at  ...                                |
//!      | ------------ read again, written anew -- |
//! ```
//!
//! The last segment is never compacted: it is written on. Nothing that compaction does stops the engine: a pass that fails
//! leaves the log as it was and is tried again later. Memory of a pass: the map (`Options::compaction_map_bytes_max`), a few
//! MiB of buffers, and one batch, stored and inflated, before and after (at most three times 64 MiB, mostly a few KiB).

mod compactor;
mod map;
mod pass;
mod rewrite;
mod standing;
#[cfg(test)]
mod tests;

pub use compactor::Compactor;
