//! The LZ4 frame format (1.5.1 and later), read block by block into the output.
//!
//! ```text
//!  magic     04 22 4d 18
//!  flags     1 byte: version 01, blocks independent: 1, block checksums, content size, content checksum, 0, dictionary: 0
//!  block max 1 byte: 4-7 for 64 KiB, 256 KiB, 1 MiB, 4 MiB
//!  [content size]     8 bytes
//!  header checksum    1 byte
//!  blocks    each: size (4 bytes, little-endian; top bit: not compressed), bytes, [checksum]
//!  end mark  a size of 0, [content checksum]
//! ```
//! The framing is read here, not by `lz4_flex::frame`: that one takes a frame without its end mark for complete, clears
//! a buffer of the frame's block maximum for each frame (Go clients ask for 4 MiB in every batch), and copies twice.
//!
//! Blocks that refer back to the ones before, and dictionaries, are refused: Apache Kafka's reader takes neither, so its
//! consumers would be stuck at a batch that has them.

use std::io::Write;

use lz4_flex::block::{DecompressError, decompress_into};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::{make_room, unreadable};
use crate::batch::BatchError;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const UNCOMPRESSED: u32 = 1 << 31;
/// One byte of a long match's length stands for 255 bytes of output; nothing makes more of its bytes.
const RATIO_MAX: usize = 255;

/// What the frame's header says.
struct Frame {
    block_checksums: bool,
    content_checksum: bool,
    block_size_max: usize,
}

pub(super) fn decompress(bytes: &[u8], size_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut input = Input { rest: bytes };
    let frame = input.frame()?;
    let mut out = Vec::new();
    loop {
        let size = u32::from_le_bytes(input.array()?);
        let block_size = (size & !UNCOMPRESSED) as usize;
        if block_size == 0 {
            break;
        }
        if block_size > frame.block_size_max {
            return Err(unreadable("lz4", format!("a block of {block_size} bytes is over the frame's maximum")));
        }
        let block = input.take(block_size)?;
        if frame.block_checksums && u32::from_le_bytes(input.array()?) != XxHash32::oneshot(0, block) {
            return Err(unreadable("lz4", "a block's checksum does not match"));
        }
        if size & UNCOMPRESSED == 0 {
            inflate(&frame, block, &mut out, size_max)?;
        } else if block_size > size_max.saturating_sub(out.len()) {
            return Err(BatchError::Bomb { max: size_max });
        } else {
            let size = out.len() + block_size;
            make_room(&mut out, size, size_max);
            out.extend_from_slice(block);
        }
    }
    if frame.content_checksum && u32::from_le_bytes(input.array()?) != XxHash32::oneshot(0, &out) {
        return Err(unreadable("lz4", "the content's checksum does not match"));
    }
    Ok(out)
}

/// Adds what a compressed block holds to `out`.
///
/// A block does not say how far it inflates. Clearing room for the worst case would cost more than the work, so the
/// first try has room for what is usual, and each further one for eight times as much.
fn inflate(frame: &Frame, block: &[u8], out: &mut Vec<u8>, size_max: usize) -> Result<(), BatchError> {
    let start = out.len();
    let left = size_max.saturating_sub(start);
    let most = frame.block_size_max.min(block.len().saturating_mul(RATIO_MAX));
    let mut room = block.len().saturating_mul(4).max(4096);
    loop {
        room = room.min(most).min(left);
        make_room(out, start + room, size_max);
        out.resize(start + room, 0);
        let to = out.get_mut(start..).unwrap_or_default();
        match decompress_into(block, to) {
            Ok(count) => {
                out.truncate(start + count);
                return Ok(());
            }
            Err(DecompressError::OutputTooSmall { .. }) if room < most.min(left) => room = room.saturating_mul(8),
            Err(DecompressError::OutputTooSmall { .. }) if room == left => {
                return Err(BatchError::Bomb { max: size_max });
            }
            Err(error) => return Err(unreadable("lz4", error)),
        }
    }
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], BatchError> {
        let (bytes, rest) = self.rest.split_at_checked(size).ok_or_else(|| unreadable("lz4", "the frame is cut"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], BatchError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| unreadable("lz4", "the frame is cut"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn frame(&mut self) -> Result<Frame, BatchError> {
        if self.array::<4>()? != MAGIC {
            return Err(unreadable("lz4", "no frame starts here"));
        }
        let descriptor = self.rest;
        let [flags, block_max] = self.array::<2>()?;
        // The dictionary bit counts as reserved: there is no way to say which dictionary.
        if flags & 0b1100_0011 != 0b0100_0000 || block_max & 0b1000_1111 != 0 {
            return Err(unreadable("lz4", "the frame's flags are not supported"));
        }
        if flags & 0b0010_0000 == 0 {
            return Err(unreadable("lz4", "blocks that depend on the ones before are not supported"));
        }
        let block_size_max = match block_max >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(unreadable("lz4", "unknown block size")),
        };
        let has_content_size = flags & 0b0000_1000 != 0;
        if has_content_size {
            // A hint that nothing needs, and that no reader of batches compares.
            self.take(8)?;
        }
        let descriptor = descriptor.get(..if has_content_size { 10 } else { 2 }).unwrap_or_default();
        let [checksum] = self.array::<1>()?;
        if checksum != (XxHash32::oneshot(0, descriptor) >> 8) as u8 {
            return Err(unreadable("lz4", "the frame header's checksum does not match"));
        }
        Ok(Frame {
            block_checksums: flags & 0b0001_0000 != 0,
            content_checksum: flags & 0b0000_0100 != 0,
            block_size_max,
        })
    }
}

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    // Java's reader knows neither linked blocks nor dictionaries.
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(bytes.len() / 2));
    encoder.write_all(bytes).map_err(|error| unreadable("lz4", error))?;
    encoder.finish().map_err(|error| unreadable("lz4", error))
}
