//! The bytes of a WAL block.

use super::aligned::AlignedBuffer;
use bytes::Bytes;
use std::io::IoSlice;

/// Bytes for the WAL: those of a buffer and, for a device that writes from several places, others between them that stay where they are.
pub struct WalBytes {
    buffer: AlignedBuffer,
    /// Each goes before the byte of the buffer at that position.
    apart: Vec<(usize, Bytes)>,
    size: usize,
}

impl WalBytes {
    /// What the buffer holds, and room for more.
    pub fn new(buffer: AlignedBuffer) -> WalBytes {
        let size = buffer.len();
        WalBytes { buffer, apart: Vec::new(), size }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Those that are in the buffer.
    pub fn buffer(&self) -> &AlignedBuffer {
        &self.buffer
    }

    /// All of them, when all are in the buffer.
    pub fn whole(&self) -> Option<&AlignedBuffer> {
        self.apart.is_empty().then_some(&self.buffer)
    }

    /// All of them, in order.
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.apart.len() + 1);
        let mut rest = self.buffer.as_slice();
        let mut done = 0;
        for (before, bytes) in &self.apart {
            let (part, others) = rest.split_at(before - done);
            slices.extend([IoSlice::new(part), IoSlice::new(bytes)]);
            (rest, done) = (others, *before);
        }
        slices.push(IoSlice::new(rest));
        slices.retain(|slice| !slice.is_empty());
        slices
    }

    /// Appends bytes to the buffer.
    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.size += bytes.len();
    }

    /// Appends bytes that stay where they are.
    pub fn put_apart(&mut self, bytes: Bytes) {
        self.size += bytes.len();
        self.apart.push((self.buffer.len(), bytes));
    }

    /// Overwrites bytes of the buffer.
    ///
    /// # Panics
    /// When the range does not lie within it.
    pub fn put_at(&mut self, position: usize, bytes: &[u8]) {
        self.buffer.put_at(position, bytes);
    }

    /// Appends zeros until their number is a multiple of `multiple`.
    pub fn pad_to(&mut self, multiple: usize) {
        let padding = self.size.next_multiple_of(multiple) - self.size;
        self.buffer.extend_from_slice(&vec![0; padding]);
        self.size += padding;
    }
}

impl From<AlignedBuffer> for WalBytes {
    fn from(buffer: AlignedBuffer) -> WalBytes {
        WalBytes::new(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_apart_keep_their_place() {
        let mut bytes = WalBytes::new(AlignedBuffer::with_capacity(4096));
        bytes.put_apart(Bytes::from_static(b"first"));
        bytes.put(b"head");
        bytes.put_apart(Bytes::from_static(b"one"));
        bytes.put_apart(Bytes::from_static(b"two"));
        bytes.put(b"tail");
        bytes.put_at(0, b"H");
        bytes.pad_to(32);
        let all: Vec<u8> = bytes.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(all, b"firstHeadonetwotail\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!((bytes.len(), bytes.whole().is_none()), (32, true));
    }
}
