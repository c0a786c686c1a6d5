//! The codecs that a record section may be compressed with.
//!
//! Inflating takes bytes that nobody trusts. Three rules keep it safe: the output has a limit that is checked while it
//! grows, a length that the input declares is at most a hint within that limit, and the input has to be whole, since a
//! consumer would fail on it later. What follows a complete stream is ignored where the reference's codecs ignore it
//! (gzip, lz4) and refused where they refuse it (snappy, zstd).

mod gzip;
mod lz4;
mod snappy;
mod zstandard;

use super::BatchError;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// Gzip (RFC 1952).
    Gzip,
    /// Snappy blocks in the framing of xerial's snappy-java; a lone raw block is read too.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Codec {
    /// Every codec, in the order of their numbers in the attributes.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec's number in the attributes.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// The codec with that number.
    pub fn from_number(number: u8) -> Result<Codec, BatchError> {
        match number {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(BatchError::UnsupportedCodec(other)),
        }
    }
}

/// Inflates `bytes` to at most `size_max` bytes; more is a [`BatchError::Bomb`], found after `size_max` bytes.
pub fn decompress(codec: Codec, bytes: &[u8], size_max: usize) -> Result<Vec<u8>, BatchError> {
    match codec {
        Codec::None if bytes.len() > size_max => Err(BatchError::Bomb { max: size_max }),
        Codec::None => Ok(bytes.to_vec()),
        Codec::Gzip => gzip::decompress(bytes, size_max),
        Codec::Snappy => snappy::decompress(bytes, size_max),
        Codec::Lz4 => lz4::decompress(bytes, size_max),
        Codec::Zstd => zstandard::decompress(bytes, size_max),
    }
}

/// Compresses `bytes` in the form that every client reads, at each codec's usual level.
pub fn compress(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    match codec {
        Codec::None => Ok(bytes.to_vec()),
        Codec::Gzip => gzip::compress(bytes),
        Codec::Snappy => snappy::compress(bytes),
        Codec::Lz4 => lz4::compress(bytes),
        Codec::Zstd => zstandard::compress(bytes),
    }
}

/// The room to begin with where the input does not say how far it inflates: most batches fit, none is trusted.
fn first_capacity(compressed_size: usize, size_max: usize) -> usize {
    compressed_size.saturating_mul(4).max(4096).min(size_max)
}

/// Output grows step by step up to here. An allocator keeps what it grew through; beyond, room for all that the limit allows
/// is therefore taken at once: what is never written to is an address range, not memory, and a range of that size goes back
/// to the system when it is freed.
const GROWS_TO: usize = 1 << 20;

/// Makes room for `size` bytes in all.
fn make_room(out: &mut Vec<u8>, size: usize, size_max: usize) {
    if size <= out.capacity() {
        return;
    }
    let room = match size {
        0..=GROWS_TO => out.capacity().saturating_mul(2).clamp(size, GROWS_TO),
        _ => size.max(size_max.saturating_add(1)),
    };
    out.reserve_exact(room.saturating_sub(out.len()));
}

/// The input is no stream of that codec.
fn unreadable(codec: &'static str, why: impl std::fmt::Display) -> BatchError {
    BatchError::invalid(format!("{codec}: {why}"))
}
