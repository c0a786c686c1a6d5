//! Memory aligned for direct I/O, and the pools that WAL blocks and pieces of segments are built in.
//!
//! Direct writes want memory aligned to the medium's sectors; 4 KiB suits every medium. A [`BufferPool`] cuts its blocks from slabs
//! of huge pages, where the kernel has them: the kernel looks at every page of what it is to write, and describes every run of them to the device. A WAL device owns a pool of a few 1 MiB blocks, registered with the kernel where that works. What does not fit,
//! or comes when the pool is empty, is a plain heap block that is freed after use, so that one big batch does not leave its
//! memory behind.
#![allow(unsafe_code)]

use super::streaming;
use parking_lot::Mutex;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment of the memory, and the granularity of its capacity.
pub const ALIGNMENT: usize = 4096;
/// Size of a WAL device's blocks.
pub(crate) const POOLED_SIZE: usize = 1 << 20;
/// How many blocks a WAL device has: one for each write in flight of the deepest one.
pub(crate) const POOLED_COUNT: usize = 4;
/// Slabs of which nothing is used that a pool keeps: fewer, and a load that comes in waves has the kernel clear pages each time.
const IDLE_SLABS_MAX: usize = 8;
// Registered blocks are never let go.
const _: () = assert!(POOLED_SIZE * POOLED_COUNT <= IDLE_SLABS_MAX * HUGE_PAGE);

/// Pools of smaller blocks are those of tests.
const HUGE_FROM: usize = 64 << 10;
/// Size and alignment of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// An allocation.
struct Region {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a region is an address and a layout; what may be done at the address is up to the blocks cut from it.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn new(size: usize, alignment: usize) -> Arc<Region> {
        let size = size.max(1).next_multiple_of(alignment);
        let layout = match Layout::from_size_align(size, alignment) {
            Ok(layout) => layout,
            Err(_) => panic!("a buffer of {size} bytes is larger than memory can be"),
        };
        // SAFETY: the layout's size is at least `alignment`, so not zero.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Arc::new(Region { start, layout })
    }

    /// One of huge pages, if the kernel can.
    fn huge(size: usize) -> Arc<Region> {
        let region = Region::new(size, HUGE_PAGE);
        // SAFETY: the range is a live allocation of ours; the advice changes nothing of what it holds.
        let _refused =
            unsafe { libc::madvise(region.start.as_ptr().cast(), region.layout.size(), libc::MADV_HUGEPAGE) };
        region
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this same layout, and freed only here, when no block is left.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// A part of a region, or all of it, owned alone.
struct Block {
    start: NonNull<u8>,
    capacity: usize,
    /// Its index among the buffers that the kernel knows.
    registered: Option<u16>,
    region: Arc<Region>,
}

// SAFETY: a block owns its part of the region alone, and gives access only through `&` and `&mut` of its owner.
unsafe impl Send for Block {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Block {}

impl Block {
    fn new(capacity: usize) -> Block {
        let region = Region::new(capacity, ALIGNMENT);
        Block { start: region.start, capacity: region.layout.size(), registered: None, region }
    }

    /// All blocks of a size that a region has room for.
    fn cut(region: &Arc<Region>, size: usize) -> Vec<Block> {
        let places = (0..region.layout.size() / size).map(|index| {
            // SAFETY: the place lies within the region's allocation.
            unsafe { region.start.add(index * size) }
        });
        places.map(|start| Block { start, capacity: size, registered: None, region: region.clone() }).collect()
    }
}

/// A growing byte buffer whose memory is aligned to 4 KiB.
pub struct AlignedBuffer {
    /// Always there, except inside `drop`.
    block: Option<Block>,
    len: usize,
    home: Option<Arc<BufferPool>>,
}

impl AlignedBuffer {
    /// An empty buffer with room for at least `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> AlignedBuffer {
        AlignedBuffer { block: Some(Block::new(capacity)), len: 0, home: None }
    }

    fn block(&self) -> &Block {
        match &self.block {
            Some(block) => block,
            None => unreachable!("a buffer holds its block until it is dropped"),
        }
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes it can hold before it moves to a larger block.
    pub fn capacity(&self) -> usize {
        self.block().capacity
    }

    /// Forgets the content, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends `bytes`.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        // SAFETY: `reserve` made room for `bytes.len()` bytes after `len`, in memory that `&mut self` owns alone.
        let room = unsafe {
            let end = self.block().start.as_ptr().add(self.len);
            std::slice::from_raw_parts_mut(end.cast(), bytes.len())
        };
        streaming::copy(bytes, room);
        self.len += bytes.len();
    }

    /// Keeps the first `len` bytes, when there are more.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Overwrites bytes that were appended before, such as a header whose length and checksum are known last.
    ///
    /// # Panics
    /// When the range does not lie within what was appended: that is a bug of the caller.
    pub fn put_at(&mut self, position: usize, bytes: &[u8]) {
        let end = position.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.len), "put_at writes only over bytes that were appended");
        // SAFETY: the range lies within the initialised `len` bytes, which `&mut self` owns alone.
        unsafe {
            let start = self.block().start.as_ptr().add(position);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        }
    }

    /// Appends zeros until the length is a multiple of `multiple`.
    ///
    /// # Panics
    /// When `multiple` is zero.
    pub fn pad_to(&mut self, multiple: usize) {
        let padding = self.len.next_multiple_of(multiple) - self.len;
        self.reserve(padding);
        // SAFETY: `reserve` made room for `padding` bytes after `len`.
        unsafe { std::ptr::write_bytes(self.block().start.as_ptr().add(self.len), 0, padding) };
        self.len += padding;
    }

    /// What it holds.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are initialised, and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.block().start.as_ptr(), self.len) }
    }

    /// The index under which the kernel knows this memory, for fixed writes.
    pub(crate) fn registered_index(&self) -> Option<u16> {
        self.block().registered
    }

    /// Makes room for `more` bytes. A registered or pooled block that is too small goes back to its pool.
    fn reserve(&mut self, more: usize) {
        let Some(needed) = self.len.checked_add(more) else {
            panic!("a buffer cannot hold more bytes than memory has");
        };
        if needed <= self.capacity() {
            return;
        }
        let mut larger = AlignedBuffer::with_capacity(needed.max(self.capacity().saturating_mul(2)));
        larger.extend_from_slice(self.as_slice());
        *self = larger;
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if let (Some(block), Some(home)) = (self.block.take(), self.home.take()) {
            home.give_back(block);
        }
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlignedBuffer").field("len", &self.len).field("capacity", &self.capacity()).finish()
    }
}

/// Blocks of one size that go round between who fills them and who writes them.
pub(crate) struct BufferPool {
    block_size: usize,
    /// How many blocks there are at most.
    blocks_max: usize,
    /// Whether to ask for huge pages: the first byte written to one takes all of its memory.
    wants_huge: bool,
    /// Slabs in the order in which they were made; the first ones are used first, so that the last ones become free.
    slabs: Mutex<Vec<Slab>>,
}

struct Slab {
    region: Arc<Region>,
    /// Taken from the end, so that quiet times touch the same memory again.
    free: Vec<Block>,
    count: usize,
}

impl BufferPool {
    /// A pool of so many blocks of this size, a multiple of [`ALIGNMENT`], which are made when they are first wanted.
    pub(crate) fn new(block_size: usize, blocks_max: usize) -> Arc<BufferPool> {
        BufferPool::with(block_size, blocks_max, block_size >= HUGE_FROM)
    }

    fn with(block_size: usize, blocks_max: usize, wants_huge: bool) -> Arc<BufferPool> {
        Arc::new(BufferPool { block_size, blocks_max, wants_huge, slabs: Mutex::default() })
    }

    /// The pool of a WAL device that is one of thousands, in a simulation.
    pub(crate) fn of_simulated_wal() -> Arc<BufferPool> {
        BufferPool::with(POOLED_SIZE, POOLED_COUNT, false)
    }

    /// The pool of a WAL device.
    pub(crate) fn of_wal() -> Arc<BufferPool> {
        BufferPool::new(POOLED_SIZE, POOLED_COUNT)
    }

    /// The same, its blocks made already and numbered from 0, together with their places in memory for registration.
    ///
    /// The kernel pins registered pages by itself, so the blocks may be freed before or after it lets go of them.
    pub(crate) fn registered() -> (Arc<BufferPool>, Vec<libc::iovec>) {
        let pool = BufferPool::of_wal();
        let mut slabs = pool.slabs.lock();
        let mut places = Vec::with_capacity(POOLED_COUNT);
        while places.len() < POOLED_COUNT {
            let mut slab = pool.slab();
            for block in &mut slab.free {
                block.registered = u16::try_from(places.len()).ok();
                places.push(libc::iovec { iov_base: block.start.as_ptr().cast(), iov_len: block.capacity });
            }
            slabs.push(slab);
        }
        drop(slabs);
        (pool, places)
    }

    fn slab(&self) -> Slab {
        let region = match self.wants_huge {
            true => Region::huge(self.block_size),
            false => Region::new(self.block_size, ALIGNMENT),
        };
        let free = Block::cut(&region, self.block_size);
        Slab { region, count: free.len(), free }
    }

    /// An empty buffer of at least `capacity` bytes; a pooled one when it fits and one is free.
    pub(crate) fn take(self: &Arc<Self>, capacity: usize) -> AlignedBuffer {
        if capacity > self.block_size {
            return AlignedBuffer::with_capacity(capacity);
        }
        let mut slabs = self.slabs.lock();
        let mut block = slabs.iter_mut().find_map(|slab| slab.free.pop());
        if block.is_none() && slabs.iter().map(|slab| slab.count).sum::<usize>() < self.blocks_max {
            let mut slab = self.slab();
            block = slab.free.pop();
            slabs.push(slab);
        }
        drop(slabs);
        match block {
            Some(block) => AlignedBuffer { block: Some(block), len: 0, home: Some(self.clone()) },
            None => AlignedBuffer::with_capacity(capacity),
        }
    }

    /// Takes a block back. Of slabs of which nothing is used a few are kept.
    fn give_back(&self, block: Block) {
        let mut slabs = self.slabs.lock();
        let Some(slab) = slabs.iter_mut().find(|slab| Arc::ptr_eq(&slab.region, &block.region)) else { return };
        slab.free.push(block);
        if slab.free.len() < slab.count {
            return;
        }
        let mut idle = 0;
        slabs.retain(|slab| {
            idle += usize::from(slab.free.len() == slab.count);
            slab.free.len() < slab.count || idle <= IDLE_SLABS_MAX
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_content_survives_growth() {
        let mut buffer = AlignedBuffer::with_capacity(10);
        assert_eq!(buffer.capacity(), ALIGNMENT);
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8).collect();
        for part in bytes.chunks(777) {
            buffer.extend_from_slice(part);
            assert_eq!(buffer.as_slice().as_ptr() as usize % ALIGNMENT, 0);
        }
        assert_eq!(buffer.as_slice(), bytes);
        buffer.put_at(4_095, &[1, 2, 3]);
        assert_eq!(&buffer.as_slice()[4_094..4_099], &[bytes[4_094], 1, 2, 3, bytes[4_098]]);
    }

    #[test]
    fn padding_is_zero_even_over_memory_used_before() {
        let mut buffer = AlignedBuffer::with_capacity(8_192);
        buffer.extend_from_slice(&[7; 8_192]);
        buffer.clear();
        assert!(buffer.is_empty());
        buffer.extend_from_slice(&[1; 5]);
        buffer.pad_to(4_096);
        assert_eq!(buffer.len(), 4_096);
        assert!(buffer.as_slice()[5..].iter().all(|&byte| byte == 0));
        buffer.pad_to(4_096);
        assert_eq!(buffer.len(), 4_096);
    }

    #[test]
    #[should_panic(expected = "put_at")]
    fn put_at_past_the_end_is_refused() {
        AlignedBuffer::with_capacity(100).put_at(0, &[1]);
    }

    #[test]
    fn pooled_blocks_come_back_and_large_ones_do_not() {
        let pool = BufferPool::of_wal();
        let first = pool.take(100);
        let place = first.as_slice().as_ptr();
        drop(first);
        assert_eq!(pool.take(POOLED_SIZE).as_slice().as_ptr(), place);
        drop(pool.take(POOLED_SIZE + 1));
        assert_eq!(free(&pool), 2, "a slab of two");
        let taken: Vec<AlignedBuffer> = (0..POOLED_COUNT + 2).map(|_| pool.take(100)).collect();
        assert_eq!(taken.iter().filter(|buffer| buffer.home.is_some()).count(), POOLED_COUNT);
        drop(taken);
        assert_eq!(free(&pool), POOLED_COUNT);
    }

    fn free(pool: &BufferPool) -> usize {
        pool.slabs.lock().iter().map(|slab| slab.free.len()).sum()
    }

    #[test]
    fn blocks_of_a_slab_lie_apart_and_idle_slabs_are_let_go() {
        const SIZE: usize = 256 * 1024;
        const SLABS: usize = IDLE_SLABS_MAX + 3;
        let pool = BufferPool::new(SIZE, usize::MAX);
        let mut taken: Vec<AlignedBuffer> = (0..SLABS * HUGE_PAGE / SIZE).map(|_| pool.take(SIZE)).collect();
        for (index, buffer) in taken.iter_mut().enumerate() {
            buffer.extend_from_slice(&vec![index as u8; SIZE]);
        }
        assert!(taken.iter().enumerate().all(|(index, buffer)| buffer.as_slice() == vec![index as u8; SIZE]));
        // One block of each slab stays: nothing can be let go, and the free ones are used again.
        let kept: Vec<AlignedBuffer> = taken.into_iter().step_by(HUGE_PAGE / SIZE).collect();
        assert_eq!(free(&pool), SLABS * (HUGE_PAGE / SIZE - 1));
        drop((0..free(&pool)).map(|_| pool.take(SIZE)).collect::<Vec<_>>());
        assert_eq!(pool.slabs.lock().len(), SLABS);
        drop(kept);
        assert_eq!(pool.slabs.lock().len(), IDLE_SLABS_MAX);
    }

    #[test]
    fn a_registered_block_that_is_outgrown_goes_home() {
        let (pool, places) = BufferPool::registered();
        assert_eq!(places.len(), POOLED_COUNT);
        let mut buffer = pool.take(10);
        assert!(buffer.registered_index().is_some());
        assert_eq!(free(&pool), POOLED_COUNT - 1);
        buffer.extend_from_slice(&vec![9; POOLED_SIZE]);
        buffer.extend_from_slice(&[8]);
        assert_eq!(buffer.registered_index(), None);
        assert_eq!(buffer.as_slice().last(), Some(&8));
        assert_eq!(free(&pool), POOLED_COUNT);
    }
}
