//! The record batch: the unit that producers send, that the log stores and that readers get back, byte for byte.
//!
//! This module owns the layout of a batch and of the records inside, the check of a batch that comes from outside, the
//! compression codecs, and the building of batches. It is pure: bytes in, bytes or an error out, no I/O, and no bytes
//! make it panic. What it does not own: who may write where, which offset a batch gets, and sequence numbers compared
//! with earlier batches.
//!
//! ```text
//!  position  size  field              big-endian throughout
//!         0     8  base offset        set at the append, outside the CRC
//!         8     4  length             of everything that follows this field
//!        12     4  leader epoch       set at the append, outside the CRC
//!        16     1  magic              2
//!        17     4  CRC-32C            of everything that follows this field
//!        21     2  attributes         see [`Attributes`]
//!        23     4  last offset delta
//!        27     8  base timestamp
//!        35     8  max timestamp
//!        43     8  producer id        -1: none
//!        51     2  producer epoch
//!        53     4  base sequence      -1: none
//!        57     4  record count
//!        61     -  records            compressed as one piece, when the attributes name a codec
//! ```
//!
//! A batch from outside goes through [`check()`] once and becomes a [`CheckedBatch`]; what the engine itself makes comes
//! from a [`BatchBuilder`]. Readers use [`headers()`] to step over batches and [`records_of`] to look inside.

mod build;
mod check;
mod codec;
mod crc;
mod error;
mod header;
mod record;
mod records;
mod retain;
#[cfg(test)]
mod tests;

/// A batch with these records in a codec, as a topic that does not look into such batches takes it.
#[cfg(test)]
pub fn closed_for_tests(header: BatchHeader, section: &[u8]) -> CheckedBatch {
    build::recompress(header, section, Codec::Zstd).expect("records")
}

pub use build::{BatchBuilder, transcode};
pub use check::{CheckedBatch, INFLATED_SIZE_MAX, Rules, Validation, check};
pub use codec::{Codec, compress, decompress};
pub(crate) use crc::Crc32c;
pub use crc::crc32c;
pub use error::BatchError;
pub use header::{Attributes, BatchHeader, Headers, TimestampType, headers, verify_crc};
pub use record::RecordHeaders;
pub use records::{Record, RecordIter, Records, records_of};
pub use retain::{Fate, Retained, each_record, empty, retain};
