//! The frame around a round's entries.

use super::BLOCK_ALIGNMENT;
use crate::batch::Crc32c;
use crate::env::{AlignedBuffer, WalBytes};
use crate::ids::Sequence;
use bytes::Bytes;

/// From so many bytes on, taking in a known CRC costs less than summing them.
const KNOWN_MIN: usize = 8192;
const MAGIC: u32 = u32::from_le_bytes(*b"HWB1");
/// Bytes before the entries.
pub const HEADER_SIZE: usize = 64;

/// What a block's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockHeader {
    pub crc: u32,
    pub body_size: u32,
    pub entry_count: u32,
    pub incarnation: u64,
    pub sequence: Sequence,
    pub durable_through: Sequence,
    pub previous_crc: u32,
}

impl BlockHeader {
    /// Reads a header; none when it is no block's. The CRC is not checked here.
    pub fn parse(bytes: &[u8]) -> Option<BlockHeader> {
        let mut reader = crate::encoding::Reader(bytes.get(..HEADER_SIZE)?);
        if reader.u32().ok()? != MAGIC {
            return None;
        }
        Some(BlockHeader {
            crc: reader.u32().ok()?,
            body_size: reader.u32().ok()?,
            entry_count: reader.u32().ok()?,
            incarnation: reader.u64().ok()?,
            sequence: Sequence(reader.u64().ok()?),
            durable_through: Sequence(reader.u64().ok()?),
            previous_crc: reader.u32().ok()?,
        })
    }

    /// Bytes the block takes in its slot.
    pub fn padded_size(&self) -> u64 {
        (HEADER_SIZE as u64 + u64::from(self.body_size)).next_multiple_of(BLOCK_ALIGNMENT)
    }

    /// Whether `block` (header, body, perhaps padding) carries the CRC that its header names.
    pub fn verifies(&self, block: &[u8]) -> bool {
        block
            .get(8..HEADER_SIZE + self.body_size as usize)
            .is_some_and(|covered| crate::batch::crc32c(covered) == self.crc)
    }
}

/// A block being built.
pub struct BlockWriter {
    bytes: WalBytes,
    /// Whether bytes whose CRC is known may stay where they are.
    gathers: bool,
    /// Of the entries, as far as they are summed: so many bytes of the buffer, and all that is apart.
    crc: Crc32c,
    summed: usize,
}

impl BlockWriter {
    /// A block in `buffer`, for a device that `gathers` what is apart from it or does not. Leaves room for its header.
    pub fn new(mut buffer: AlignedBuffer, gathers: bool) -> BlockWriter {
        buffer.clear();
        buffer.extend_from_slice(&[0; HEADER_SIZE]);
        BlockWriter { bytes: buffer.into(), gathers, crc: Crc32c::default(), summed: HEADER_SIZE }
    }

    /// What of so many bytes with a known CRC goes into the buffer.
    pub fn size_in_buffer(known: usize, gathers: bool) -> usize {
        if gathers && known >= KNOWN_MIN { 0 } else { known }
    }

    /// Bytes in the buffer so far, the header's among them.
    pub fn len(&self) -> usize {
        self.bytes.buffer().len()
    }

    /// Appends bytes of an entry.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.put(bytes);
    }

    /// Appends bytes of an entry, whose CRC this is. Where they are many, they are not looked at again: should memory have changed them since they were
    /// checked, the block's CRC says so, and recovery stops at the block instead of taking a damaged batch.
    pub fn put_known(&mut self, bytes: Bytes, crc: u32) {
        debug_assert_eq!(crate::batch::crc32c(&bytes), crc, "the CRC is that of the bytes");
        if bytes.len() < KNOWN_MIN {
            return self.put(&bytes);
        }
        self.sum();
        self.crc.update_known(crc, bytes.len());
        if self.gathers {
            return self.bytes.put_apart(bytes);
        }
        self.put(&bytes);
        self.summed = self.len();
    }

    fn sum(&mut self) {
        self.crc.update(self.bytes.buffer().as_slice().get(self.summed..).unwrap_or_default());
        self.summed = self.len();
    }

    /// Writes the header with its CRC, pads. Returns the block and its CRC, which the next block names.
    pub fn finish(mut self, mut header: BlockHeader) -> (WalBytes, u32) {
        self.sum();
        let mut block = self.bytes;
        let body_size = block.len() - HEADER_SIZE;
        header.body_size = u32::try_from(body_size).expect("a round is bounded far below 4 GiB");
        let mut bytes = [0u8; HEADER_SIZE];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&header.body_size.to_le_bytes());
        bytes[12..16].copy_from_slice(&header.entry_count.to_le_bytes());
        bytes[16..24].copy_from_slice(&header.incarnation.to_le_bytes());
        bytes[24..32].copy_from_slice(&header.sequence.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&header.durable_through.0.to_le_bytes());
        bytes[40..44].copy_from_slice(&header.previous_crc.to_le_bytes());
        let mut whole = Crc32c::default();
        whole.update(&bytes[8..]);
        whole.update_known(self.crc.value(), body_size);
        let crc = whole.value();
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        block.put_at(0, &bytes);
        block.pad_to(BLOCK_ALIGNMENT as usize);
        (block, crc)
    }
}
