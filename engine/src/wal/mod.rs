//! The write-ahead log: one order for everything that happens to the data folder.
//!
//! A WAL is a ring of preallocated, zero-written *slots* (files). *Blocks* follow one another in a slot, each at a multiple
//! of 4 KiB, and go on at the start of another slot when one is full. A block is the atomic unit: it is there whole, with
//! the right CRC and the right predecessor, or it is not there.
//!
//! ```text
//! slot    0     4 KiB: magic "HWWAL\0", format version, slot number, size; blocks from 4 KiB on
//! block   0     magic u32                 "HWB1"
//!         4     crc32c u32                over bytes 8..64 + body_size
//!         8     body_size u32
//!         12    entry_count u32
//!         16    incarnation u64           of the run that wrote it
//!         24    sequence u64              grows by one for ever
//!         32    durable_through u64       highest sequence known durable when this block was built
//!         40    previous_crc u32          the CRC of block sequence-1
//!         44    (zero)
//!         64    entries, then zeros up to a multiple of 4 KiB
//! ```
//!
//! `entry` says what can happen, `block` frames entries, `ring` places blocks, `scan` reads them back after a crash.

pub mod block;
pub mod entry;
pub mod ring;
pub mod scan;
#[cfg(test)]
mod tests;

/// Blocks start at multiples of this.
pub const BLOCK_ALIGNMENT: u64 = 4096;
/// Where the first block of a slot lies.
pub const SLOT_HEADER_SIZE: u64 = 4096;
