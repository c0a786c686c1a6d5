//! Small inputs that would inflate to 1 GiB: refused at the limit, before time or memory is spent on them.
#![allow(clippy::disallowed_methods, reason = "the test reads the process's own memory figure")]

use super::*;

const GIB: usize = 1 << 30;
const LIMIT: usize = 1 << 20;

/// One deflate stream whose every part stands for 4 MiB of zeros.
fn gzip_bomb() -> Vec<u8> {
    let mut deflate = flate2::Compress::new(flate2::Compression::default(), false);
    let mut part = Vec::with_capacity(64 << 10);
    deflate.compress_vec(&vec![0; 4 << 20], &mut part, flate2::FlushCompress::Full).unwrap();
    assert_eq!(deflate.total_in(), 4 << 20);
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    bytes.extend(part.repeat(GIB >> 22));
    bytes.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 64]);
    bytes
}

/// 8192 blocks that each say: 128 KiB of the same byte. The frame asks for a window of `1 << window_log` bytes.
fn zstd_bomb(window_log: u8, blocks: usize) -> Vec<u8> {
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3];
    for block in 1..=blocks {
        let header = ((128 << 10) << 3) | (1 << 1) | u32::from(block == blocks);
        bytes.extend_from_slice(&header.to_le_bytes()[..3]);
        bytes.push(b'x');
    }
    bytes
}

fn lz4_bomb() -> Vec<u8> {
    let block = lz4_flex::block::compress(&vec![0; 4 << 20]);
    let mut bytes = vec![4, 0x22, 0x4d, 0x18, 0x60, 0x70];
    bytes.push((twox_hash::XxHash32::oneshot(0, &bytes[4..]) >> 8) as u8);
    for _ in 0..GIB >> 22 {
        bytes.extend_from_slice(&(block.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&block);
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

fn snappy_bomb() -> Vec<u8> {
    let chunk = compress(Codec::Snappy, &vec![0; 1 << 20]).unwrap();
    let (head, chunks) = chunk.split_at(16);
    [head, &chunks.repeat(GIB >> 20)].concat()
}

/// A raw snappy block that only declares 1 GiB.
fn snappy_lie() -> Vec<u8> {
    vec![0x80, 0x80, 0x80, 0x80, 0x04, 0, b'x']
}

fn peak_memory_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[test]
fn bombs_are_refused_with_bounded_memory() {
    let bombs = [
        (Codec::Gzip, gzip_bomb()),
        (Codec::Zstd, zstd_bomb(17, 8192)),
        (Codec::Zstd, zstd_bomb(30, 8192)),
        (Codec::Lz4, lz4_bomb()),
        (Codec::Snappy, snappy_bomb()),
        (Codec::Snappy, snappy_lie()),
    ];
    let before = peak_memory_kib();
    for (codec, bytes) in &bombs {
        assert!(bytes.len() < 64 << 20);
        assert_eq!(decompress(*codec, bytes, LIMIT), Err(BatchError::Bomb { max: LIMIT }), "{codec:?}");
    }
    // Other tests run beside this one, so the bound is far above the limit, and far below what the bombs stand for.
    assert!(peak_memory_kib() - before < 256 << 10, "memory grew with what the bombs declare");
}

#[test]
fn the_bombs_are_real_streams() {
    assert_eq!(decompress(Codec::Zstd, &zstd_bomb(17, 8), LIMIT).unwrap(), vec![b'x'; LIMIT]);
    let mut one = gzip_bomb();
    let part = (one.len() - 20) / (GIB >> 22);
    one.drain(10 + part..one.len() - 10);
    let crc = crc_fast::crc32_iso_hdlc(&vec![0; 4 << 20]).to_le_bytes();
    let end = one.len();
    one[end - 8..end - 4].copy_from_slice(&crc);
    one[end - 4..].copy_from_slice(&(4_u32 << 20).to_le_bytes());
    assert_eq!(decompress(Codec::Gzip, &one, 4 << 20).unwrap(), vec![0; 4 << 20]);
}

#[test]
fn declared_sizes_are_not_trusted() {
    // Less than the limit, but more than the bytes can hold: no memory is cleared for it.
    let lie = [0x80, 0x80, 0x20, 0, b'x'];
    assert!(matches!(decompress(Codec::Snappy, &lie, LIMIT), Err(BatchError::Invalid { .. })));
    // A zstd frame that declares 2^60 bytes, and one that declares fewer than it has.
    let huge = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0];
    assert_eq!(decompress(Codec::Zstd, &huge, LIMIT), Err(BatchError::Bomb { max: LIMIT }));
    let small = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 0x53, 0, 0, b'x'];
    assert!(decompress(Codec::Zstd, &small, LIMIT).is_err());
}

#[test]
fn a_bomb_in_a_batch_is_told_apart() {
    let mut bytes = fill(BatchBuilder::new(), &three())[..BatchHeader::SIZE].to_vec();
    bytes[22] |= Codec::Zstd.number();
    bytes.extend_from_slice(&zstd_bomb(17, 8192));
    let rules = Rules { decompressed_size_max: LIMIT, ..Rules::new(NOW) };
    assert_eq!(check(sealed(bytes), &rules).err(), Some(BatchError::Bomb { max: LIMIT }));
}

#[test]
fn the_largest_record_is_bounded_in_compressed_batches_alone() {
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let rules = |max| Rules { inflated_record_size_max: max, ..Rules::new(NOW) };
        let batch = || fill(BatchBuilder::new().codec(codec), &three());
        let least = (1..100).find(|max| check(batch(), &rules(*max)).is_ok()).unwrap();
        assert_eq!(least > 1, codec != Codec::None, "{codec:?}: {least}");
    }
}
