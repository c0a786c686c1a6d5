//! Record batches, version 2: one encoder, and a walk over fetched ones.
//!
//! ```text
//! 0 base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 | 17 crc u32 | 21 attributes i16
//! 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64 | 51 epoch i16
//! 53 base sequence i32 | 57 record count i32 | 61 records
//! ```
//! The CRC-32C covers everything from the attributes on; the length counts from the leader epoch on.

use super::error::Error;
use super::wire::{Reader, Source};
use crc_fast::{CrcAlgorithm, Digest, checksum};
use headwater_engine::batch::{Codec, compress};
use serde::{Serialize, Serializer};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a batch before its records.
pub const HEAD: usize = 61;

/// An encoded batch, to be sent many times.
pub struct Batch {
    /// The bytes as Produce carries them.
    pub bytes: Vec<u8>,
    /// How many records it holds.
    pub records: u64,
    /// Bytes of the values.
    pub value_bytes: u64,
}

/// What a batch is made of.
#[derive(Clone, Debug, Serialize)]
pub struct Shape {
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// Bytes of a batch before it is compressed, at most; it holds one record at least. Where records are counted, the most that late ones
    /// join into.
    pub batch_bytes: usize,
    /// Records of a batch, when that is what counts.
    pub records: Option<usize>,
    /// Bytes of a record's key; 0: no key.
    pub key_bytes: usize,
    /// How it is compressed.
    #[serde(serialize_with = "as_debug")]
    pub codec: Codec,
    /// The share of a value that repeats itself, so that a codec has something to do; the rest is random.
    pub repeats: f64,
}

fn as_debug<S: Serializer>(codec: &Codec, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&format_args!("{codec:?}"))
}

impl Shape {
    /// Random values of that size in batches of that size, not compressed.
    #[must_use]
    pub fn plain(record_bytes: usize, batch_bytes: usize) -> Self {
        Self { record_bytes, batch_bytes, records: None, key_bytes: 0, codec: Codec::None, repeats: 0.0 }
    }

    /// The batch.
    pub fn batch(&self) -> Result<Batch, Error> {
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut records = Vec::new();
        let mut size = HEAD;
        while records.len() < self.records.unwrap_or(usize::MAX) {
            let record = self.record(records.len(), &mut random);
            if self.records.is_none() && !records.is_empty() && size + record.len() > self.batch_bytes {
                break;
            }
            size += record.len();
            records.push(record);
        }
        let bytes = records.concat();
        let compressed = compress(self.codec, &bytes).map_err(|error| Error::Answer(error.to_string()))?;
        let value_bytes = (records.len() * self.record_bytes) as u64;
        Ok(Batch { bytes: encode(records.len(), self.codec, &compressed), records: records.len() as u64, value_bytes })
    }

    /// How many records fit its size; one at least.
    #[must_use]
    pub fn records_that_fit(&self) -> u64 {
        let (mut random, mut size, mut records) = (1, HEAD, 0);
        loop {
            size += self.record(records, &mut random).len();
            if size > self.batch_bytes {
                return records.max(1) as u64;
            }
            records += 1;
        }
    }

    /// A record without headers.
    fn record(&self, offset_delta: usize, random: &mut u64) -> Vec<u8> {
        let mut body = vec![0]; // attributes
        varint(&mut body, 0); // timestamp delta
        varint(&mut body, offset_delta as i64);
        if self.key_bytes == 0 {
            varint(&mut body, -1);
        } else {
            varint(&mut body, self.key_bytes as i64);
            fill(&mut body, self.key_bytes, random);
        }
        varint(&mut body, self.record_bytes as i64);
        let repeated = (self.record_bytes as f64 * self.repeats.clamp(0.0, 1.0)) as usize;
        fill(&mut body, self.record_bytes - repeated, random);
        body.extend(b"headwater ".iter().cycle().take(repeated));
        varint(&mut body, 0); // no headers
        let mut out = Vec::with_capacity(body.len() + 5);
        varint(&mut out, body.len() as i64);
        out.extend(body);
        out
    }
}

/// Random bytes.
fn fill(out: &mut Vec<u8>, len: usize, random: &mut u64) {
    let end = out.len() + len;
    while out.len() < end {
        out.extend(next(random).to_le_bytes());
    }
    out.truncate(end);
}

/// xorshift64: fast, and random enough to defeat compression.
pub fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// Gives a batch new times, and the checksum that belongs to them.
pub fn stamp(batch: &mut [u8], now_ms: i64) {
    batch[27..35].copy_from_slice(&now_ms.to_be_bytes());
    batch[35..43].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc_of(batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    i64::try_from(now).unwrap_or(0)
}

/// A batch around its records.
fn encode(records: usize, codec: Codec, section: &[u8]) -> Vec<u8> {
    let count = i32::try_from(records).expect("a batch holds far fewer records");
    let now = now_ms();
    let mut bytes = Vec::with_capacity(HEAD + section.len());
    bytes.extend(0i64.to_be_bytes());
    bytes.extend(0i32.to_be_bytes());
    bytes.extend((-1i32).to_be_bytes());
    bytes.push(2);
    bytes.extend(0u32.to_be_bytes());
    bytes.extend(i16::from(codec.number()).to_be_bytes());
    bytes.extend((count - 1).to_be_bytes());
    bytes.extend(now.to_be_bytes());
    bytes.extend(now.to_be_bytes());
    // No producer id, epoch or sequence: not idempotent, so that the same bytes may be sent again.
    bytes.extend((-1i64).to_be_bytes());
    bytes.extend((-1i16).to_be_bytes());
    bytes.extend((-1i32).to_be_bytes());
    bytes.extend(count.to_be_bytes());
    bytes.extend(section);
    let length = i32::try_from(bytes.len() - 12).expect("a batch is far below 2 GiB");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc_of(&bytes);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// A zigzag variable-length integer.
fn varint(out: &mut Vec<u8>, value: i64) {
    let mut left = (value << 1 ^ value >> 63) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn crc_of(batch: &[u8]) -> u32 {
    // CRC-32C ("iSCSI") yields 32 bits in the lower half.
    checksum(CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32
}

/// What a walk over fetched batches found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Bytes of whole batches.
    pub bytes: u64,
    /// Their records.
    pub records: u64,
    /// The offset after the last.
    pub next_offset: i64,
}

/// Walks batches in memory, as [`walk_from`] does.
#[cfg(test)]
pub fn walk(bytes: &[u8], offset: i64, each: impl FnMut(u64)) -> Result<Walked, Error> {
    walk_from(&mut Reader::new(bytes), bytes.len(), offset, true, each)
}

/// Walks the whole batches in the next `size` bytes, checks that offsets go on without a gap from `offset`, and with `sums` each CRC. A cut
/// batch at the end is no error: a broker may stop anywhere. `each` is told the records of every batch.
pub fn walk_from(
    source: &mut impl Source,
    size: usize,
    offset: i64,
    sums: bool,
    mut each: impl FnMut(u64),
) -> Result<Walked, Error> {
    let mut walked = Walked { next_offset: offset, ..Walked::default() };
    let mut left = size;
    while left >= HEAD {
        let bytes: [u8; HEAD] = source.array()?;
        left -= HEAD;
        let mut head = Reader::new(&bytes);
        let (base, length) = (head.i64()?, head.count()?);
        let Some(rest) = (length + 12).checked_sub(HEAD).filter(|&rest| rest <= left) else { break };
        head.i32()?;
        let (magic, crc) = (head.i8()?, head.i32()?);
        head.i16()?;
        let delta = head.i32()?;
        let count = Reader::new(&bytes[57..]).count()?;
        let mut sum = Digest::new(CrcAlgorithm::Crc32Iscsi);
        sum.update(&bytes[21..]);
        source.pass(rest, |bytes| {
            if sums {
                sum.update(bytes);
            }
        })?;
        left -= rest;
        if magic != 2 || (sums && crc as u32 != sum.finalize() as u32) {
            return Err(Error::Answer(format!("the batch at offset {base} is damaged (magic {magic})")));
        }
        // The first batch may begin before the offset that was asked for, none may begin after the one expected.
        if base > walked.next_offset {
            return Err(Error::Answer(format!(
                "offset {} is missing: the next batch is at {base}",
                walked.next_offset
            )));
        }
        walked.bytes += (HEAD + rest) as u64;
        walked.records += count as u64;
        each(count as u64);
        walked.next_offset = base + i64::from(delta) + 1;
    }
    source.skip(left)?;
    Ok(walked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filled_batch_walks_back_and_stays_within_its_size() {
        let batch = Shape::plain(1024, 65536).batch().unwrap();
        assert!(batch.bytes.len() <= 65536 && batch.bytes.len() > 64000, "{}", batch.bytes.len());
        assert_eq!((batch.records, batch.value_bytes), (63, 63 * 1024));
        let walked = walk(&batch.bytes, 0, |_| {}).unwrap();
        assert_eq!(walked, Walked { bytes: batch.bytes.len() as u64, records: 63, next_offset: 63 });
    }

    /// Hands on what it has in pieces of so many bytes.
    struct Pieces<'a>(Reader<'a>, usize);

    impl Source for Pieces<'_> {
        fn pass(&mut self, mut len: usize, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
            while len > 0 {
                let piece = len.min(self.1);
                each(self.0.raw(piece)?);
                len -= piece;
            }
            Ok(())
        }
    }

    #[test]
    fn what_comes_in_pieces_walks_as_what_is_there_at_once() {
        let mut bytes = Shape::plain(100, 1000).batch().unwrap().bytes;
        bytes.extend_from_slice(&bytes.clone()[..90]);
        let expected = walk(&bytes, 0, |_| {}).unwrap();
        for size in [1, 7, 60, 61, 62, 1000] {
            let mut source = Pieces(Reader::new(&bytes), size);
            assert_eq!(walk_from(&mut source, bytes.len(), 0, true, |_| {}).unwrap(), expected);
            assert!(source.0.rest().is_empty(), "the cut batch is passed over");
            let mut short = Pieces(Reader::new(&bytes[..bytes.len() - 1]), size);
            assert!(walk_from(&mut short, bytes.len(), 0, true, |_| {}).is_err(), "less came than was said");
        }
    }

    #[test]
    fn batch_of_one_record_may_exceed_the_size() {
        assert_eq!(Shape::plain(1024, 1).batch().unwrap().records, 1);
    }

    #[test]
    fn stamped_batch_has_its_checksum_and_compressed_ones_are_smaller() {
        let shape = Shape { repeats: 0.5, key_bytes: 8, ..Shape::plain(1000, 32_000) };
        let mut plain = shape.batch().unwrap();
        stamp(&mut plain.bytes, 1);
        assert_eq!(walk(&plain.bytes, 0, |_| {}).unwrap().records, plain.records);
        for codec in Codec::ALL.into_iter().skip(1) {
            let batch = Shape { codec, ..shape.clone() }.batch().unwrap();
            assert_eq!(walk(&batch.bytes, 0, |_| {}).unwrap().records, plain.records);
            assert!(batch.bytes.len() < plain.bytes.len() * 3 / 4, "{codec:?} {}", batch.bytes.len());
        }
        let five = Shape { records: Some(5), ..Shape::plain(1024, 0) }.batch().unwrap();
        assert_eq!((five.records, five.value_bytes), (5, 5120));
    }

    #[test]
    fn damaged_missing_and_cut_batches_are_told_apart() {
        let batch = Shape::plain(100, 1000).batch().unwrap();
        let mut damaged = batch.bytes.clone();
        damaged[200] ^= 1;
        assert!(walk(&damaged, 0, |_| {}).is_err());
        let unchecked = walk_from(&mut Reader::new(&damaged), damaged.len(), 0, false, |_| {});
        assert_eq!(unchecked.unwrap(), walk(&batch.bytes, 0, |_| {}).unwrap());
        let mut later = batch.bytes.clone();
        later[..8].copy_from_slice(&5i64.to_be_bytes());
        assert!(walk(&later, 3, |_| {}).is_err());
        assert_eq!(walk(&batch.bytes[..batch.bytes.len() - 1], 0, |_| {}).unwrap(), Walked::default());
    }

    #[test]
    fn varints_match_the_zigzag_definition() {
        for (value, bytes) in [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (64, vec![0x80, 1]), (1024, vec![0x80, 0x10])]
        {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }
}
