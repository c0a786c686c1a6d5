//! Copies into memory that a device is to read.
//!
//! An ordinary store first fetches the line it writes. After a block has been written to the medium, whoever carried it
//! there may still hold its lines: on a virtual machine we measured 34 to 68 thousand cycles for a batch of 64 KiB where
//! the copy itself takes 9 thousand, for seconds on end. Streaming stores fetch nothing, and took 5 thousand at all times.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

/// From this size on, streaming pays; a shorter copy stays in the cache, where the checksum looks for it.
const STREAMED_MIN: usize = 4096;

/// Copies `from` to `to`, which is as long.
///
/// # Panics
/// When the lengths differ: that is a bug of the caller.
pub(super) fn copy(from: &[u8], to: &mut [MaybeUninit<u8>]) {
    assert_eq!(from.len(), to.len(), "a copy goes to a place of its own length");
    if cfg!(target_arch = "x86_64") && from.len() >= STREAMED_MIN {
        return stream(from, to);
    }
    plain(from, to);
}

fn plain(from: &[u8], to: &mut [MaybeUninit<u8>]) {
    // SAFETY: both are valid for as many bytes, and `&mut` rules out that they overlap.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr().cast(), from.len().min(to.len())) }
}

#[cfg(not(target_arch = "x86_64"))]
fn stream(from: &[u8], to: &mut [MaybeUninit<u8>]) {
    plain(from, to);
}

#[cfg(target_arch = "x86_64")]
fn stream(from: &[u8], to: &mut [MaybeUninit<u8>]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const LINE: usize = 64;
    let head = to.as_ptr().align_offset(LINE).min(from.len());
    let (first, from) = from.split_at(head);
    let (to_first, to) = to.split_at_mut(head);
    plain(first, to_first);
    let (lines, last) = from.split_at(from.len() / LINE * LINE);
    let (to_lines, to_last) = to.split_at_mut(lines.len());
    for (line, to_line) in lines.chunks_exact(LINE).zip(to_lines.chunks_exact_mut(LINE)) {
        let (source, target) = (line.as_ptr().cast::<__m128i>(), to_line.as_mut_ptr().cast::<__m128i>());
        // SAFETY: SSE2 is part of x86_64. Both lines are 64 bytes, of which four times 16 are read, from any alignment, and
        // written to an address that is a multiple of 64, so of 16.
        unsafe {
            for part in 0..LINE / size_of::<__m128i>() {
                _mm_stream_si128(target.add(part), _mm_loadu_si128(source.add(part)));
            }
        }
    }
    // SAFETY: no condition; it orders the streamed stores before whatever makes the block known to others.
    unsafe { _mm_sfence() };
    plain(last, to_last);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_and_length_arrives_whole_and_touches_nothing_else() {
        let source: Vec<u8> = (0..3 * STREAMED_MIN).map(|index| (index % 251) as u8 + 1).collect();
        for (start, target_start) in (0..70).map(|shift| (shift * 7 % 67, shift)) {
            for length in
                [0, 1, 63, STREAMED_MIN - 1, STREAMED_MIN, STREAMED_MIN + 1 + shift_of(start), 2 * STREAMED_MIN]
            {
                let from = &source[start..start + length];
                let mut target = vec![MaybeUninit::new(0_u8); target_start + length + 64];
                copy(from, &mut target[target_start..target_start + length]);
                // SAFETY: all of it was initialised above.
                let target: Vec<u8> = target.iter().map(|byte| unsafe { byte.assume_init() }).collect();
                assert!(target[..target_start].iter().all(|byte| *byte == 0), "before, at {target_start} of {length}");
                assert_eq!(&target[target_start..target_start + length], from, "{start} to {target_start}");
                assert!(target[target_start + length..].iter().all(|byte| *byte == 0), "after, at {target_start}");
            }
        }
    }

    fn shift_of(start: usize) -> usize {
        start * 13 % 200
    }
}
