//! Snappy in the framing of xerial's snappy-java, which Java and librdkafka write.
//!
//! ```text
//!  header   82 "SNAPPY" 00, version (4 bytes), oldest compatible version (4 bytes)
//!  chunks   each: size (4 bytes, big-endian), a raw snappy block of that size
//! ```
//! The header may come again between chunks (streams that were joined). Input without the header is a single raw block,
//! as some clients write it.

use snap::raw::{Decoder, Encoder, decompress_len};

use super::{make_room, unreadable};
use crate::batch::BatchError;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// The block size that snappy-java writes by default.
const CHUNK_SIZE: usize = 32 << 10;
/// No element makes more of its bytes: three bytes can stand for 64.
const RATIO_MAX: usize = 22;

pub(super) fn decompress(bytes: &[u8], size_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    let Some(mut rest) = after_header(bytes)? else {
        block(bytes, &mut out, size_max)?;
        return Ok(out);
    };
    while !rest.is_empty() {
        if let Some(after) = after_header(rest)? {
            rest = after;
            continue;
        }
        let Some((size, after)) = rest.split_first_chunk::<4>() else {
            return Err(unreadable("snappy", "a chunk's size is cut"));
        };
        let size = u32::from_be_bytes(*size) as usize;
        let Some((chunk, after)) = after.split_at_checked(size) else {
            return Err(unreadable("snappy", format!("a chunk of {size} bytes is cut")));
        };
        block(chunk, &mut out, size_max)?;
        rest = after;
    }
    Ok(out)
}

/// What follows the header, or `None` when there is none.
fn after_header(bytes: &[u8]) -> Result<Option<&[u8]>, BatchError> {
    let Some(rest) = bytes.strip_prefix(&MAGIC) else { return Ok(None) };
    match rest.get(VERSIONS.len()..) {
        Some(rest) => Ok(Some(rest)),
        None => Err(unreadable("snappy", "the header is cut")),
    }
}

/// Adds what one raw block holds to `out`.
fn block(block: &[u8], out: &mut Vec<u8>, size_max: usize) -> Result<(), BatchError> {
    let size = decompress_len(block).map_err(|error| unreadable("snappy", error))?;
    let start = out.len();
    let end = start.checked_add(size).filter(|end| *end <= size_max).ok_or(BatchError::Bomb { max: size_max })?;
    if size > block.len().saturating_mul(RATIO_MAX) {
        return Err(unreadable("snappy", format!("{} bytes cannot hold the {size} that they declare", block.len())));
    }
    make_room(out, end, size_max);
    out.resize(end, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let count = Decoder::new().decompress(block, room).map_err(|error| unreadable("snappy", error))?;
    out.truncate(start + count);
    Ok(())
}

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    let mut encoder = Encoder::new();
    let mut out = Vec::with_capacity(bytes.len() / 2 + 32);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSIONS);
    for chunk in bytes.chunks(CHUNK_SIZE) {
        let block = encoder.compress_vec(chunk).map_err(|error| unreadable("snappy", error))?;
        // A block of 32 KiB has a size far below 4 GiB.
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}
