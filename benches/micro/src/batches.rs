//! A producer's batch: its header is read, its CRC and records are checked, and its head is written anew at the append.

use crate::harness::Harness;
use anyhow::Result;
use bytes::Bytes;
use headwater_engine::batch::{BatchBuilder, BatchHeader, Codec, Rules, check, headers, verify_crc};
use headwater_engine::{Epoch, Offset, TimestampMs};
use std::hint::black_box;

/// When every record was made, and when it is now.
pub const NOW: TimestampMs = TimestampMs(1_790_000_000_000);

/// A batch of `bytes` at most, at least one record, with values of `record_bytes`. The values repeat themselves every few
/// records, so a codec halves them, about.
pub fn batch(bytes: usize, record_bytes: usize, codec: Codec) -> Result<Bytes> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u8
    };
    let values: Vec<Vec<u8>> = (0..4).map(|_| (0..record_bytes).map(|_| next() % 16).collect()).collect();
    let mut builder = BatchBuilder::new().codec(codec);
    for value in values.iter().cycle() {
        // A record's own fields take up to 16 bytes here.
        if builder.record_count() > 0 && builder.size() + record_bytes + 16 > bytes {
            break;
        }
        builder.push(NOW, None, Some(value), &[])?;
    }
    Ok(builder.finish()?)
}

pub fn run(harness: &mut Harness) -> Result<()> {
    let rules = Rules::new(NOW);
    let cases = [
        ("64 KiB of 1 KiB records", 64 << 10, 1 << 10, Codec::None),
        ("64 KiB of 100 B records", 64 << 10, 100, Codec::None),
        ("16 KiB of 1 KiB records", 16 << 10, 1 << 10, Codec::None),
        ("one record of 1 KiB", 1 << 10, 1 << 10, Codec::None),
        ("64 KiB of 1 KiB records, lz4", 64 << 10, 1 << 10, Codec::Lz4),
        ("64 KiB of 1 KiB records, zstd", 64 << 10, 1 << 10, Codec::Zstd),
    ];
    for (what, bytes, record_bytes, codec) in cases {
        let batch = batch(bytes, record_bytes, codec)?;
        harness.plain(&format!("batch: check, {what}"), batch.len(), || {
            black_box(check(batch.clone(), &rules)?);
            Ok(())
        })?;
    }
    let large = batch(64 << 10, 1 << 10, Codec::None)?;
    harness.plain("batch: CRC alone, 64 KiB", large.len(), || Ok(verify_crc(black_box(&large))?))?;
    harness.plain("batch: header read", 0, || {
        black_box(BatchHeader::parse(black_box(&large))?);
        Ok(())
    })?;
    let header = BatchHeader::parse(&large)?;
    let mut offset = 0;
    harness.plain("batch: head for an append", 0, || {
        offset += 1;
        black_box(header.patch(Offset(offset), Epoch(7)));
        Ok(())
    })?;
    let small = batch(1 << 10, 1 << 10, Codec::None)?;
    let many: Vec<u8> = std::iter::repeat_n(&small[..], 100).flatten().copied().collect();
    harness.plain("batch: step over 100 batches of 1 KiB", many.len(), || {
        anyhow::ensure!(black_box(headers(&many).count()) == 100);
        Ok(())
    })
}
