//! Buffers of requests that are answered, for those that come: the allocator takes longer for blocks of that size, and these were just used.

use bytes::BytesMut;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// So many bytes are kept in all.
const KEPT_MAX: usize = 4 << 20;

/// Capacities are multiples of this.
const STEP: usize = 4 << 10;

/// What is kept: not small blocks, which the allocator has at hand, nor large ones.
const KEPT: RangeInclusive<usize> = 2 * STEP..=256 << 10;

/// Empty buffers, those used last at the end.
#[derive(Default)]
pub(crate) struct Spares(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    buffers: VecDeque<BytesMut>,
    bytes: usize,
}

impl Spares {
    /// An empty buffer for `size` bytes, with room for a few more.
    pub(super) fn take(&self, size: usize) -> BytesMut {
        let capacity = size.next_multiple_of(STEP);
        let mut kept = self.0.lock();
        let found = kept.buffers.iter().rposition(|buffer| buffer.capacity() == capacity);
        let Some(buffer) = found.and_then(|at| kept.buffers.remove(at)) else {
            drop(kept);
            return BytesMut::with_capacity(capacity);
        };
        kept.bytes -= capacity;
        buffer
    }

    /// Keeps the memory of a buffer that nobody wants any more; in its place those go that waited longest.
    pub(super) fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        // What was cut off its front comes back with that: more than there is to be seen of it is there only then.
        let _ = buffer.try_reclaim(buffer.capacity() + 1);
        let capacity = buffer.capacity();
        if !KEPT.contains(&capacity) || !capacity.is_multiple_of(STEP) {
            return;
        }
        let mut kept = self.0.lock();
        kept.bytes += capacity;
        kept.buffers.push_back(buffer);
        while kept.bytes > KEPT_MAX {
            let Some(oldest) = kept.buffers.pop_front() else { break };
            kept.bytes -= oldest.capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;

    #[test]
    fn what_was_cut_off_comes_back() {
        let spares = Spares::default();
        let mut buffer = spares.take(65_000);
        buffer.extend_from_slice(&[1; 65_000]);
        buffer.advance(4);
        let place = buffer.as_ptr();
        spares.give(buffer);
        let again = spares.take(64_000);
        assert_eq!((again.capacity(), again.len(), again.as_ptr()), (65_536, 0, place.wrapping_sub(4)));
        assert_eq!(spares.0.lock().bytes, 0);
    }

    #[test]
    fn a_part_counts_with_all_of_its_memory() {
        let spares = Spares::default();
        let mut buffer = BytesMut::zeroed(256 << 10);
        let behind = buffer.split_off((256 << 10) - (8 << 10));
        drop(buffer);
        spares.give(behind);
        assert_eq!(spares.0.lock().bytes, 256 << 10);
        let mut buffer = BytesMut::zeroed(256 << 10);
        buffer.advance((256 << 10) - (8 << 10));
        spares.give(buffer);
        assert_eq!(spares.0.lock().bytes, 512 << 10);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let spares = Spares::default();
        spares.give(BytesMut::with_capacity(8 << 10));
        let many: Vec<_> = (0..32).map(|_| spares.take(128 << 10)).collect();
        many.into_iter().for_each(|buffer| spares.give(buffer));
        spares.give(BytesMut::with_capacity(1 << 20));
        spares.give(BytesMut::with_capacity(100));
        let kept = spares.0.lock();
        assert_eq!((kept.buffers.len(), kept.bytes), (32, KEPT_MAX));
    }
}
