//! Record batches, version 2, encoded and walked by hand: what the engine does with batches is not checked by its own code.
//! `headwater_benches::kafka::batch` draws the layout.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a batch before its records.
pub const HEAD: usize = 61;

/// Who sends a batch, for a producer that numbers its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// From InitProducerId.
    pub producer_id: i64,
    /// From InitProducerId.
    pub epoch: i16,
    /// The number of the batch's first record.
    pub sequence: i32,
}

impl Source {
    /// A producer that does not number its records.
    pub const NONE: Source = Source { producer_id: -1, epoch: -1, sequence: -1 };
}

/// What the records are compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Nothing.
    None,
    /// gzip, at its fastest.
    Gzip,
}

/// A batch of records without keys and headers, stamped with the current time.
#[must_use]
pub fn encode(values: &[Vec<u8>], source: Source, codec: Codec) -> Bytes {
    let mut records = Vec::new();
    for (delta, value) in values.iter().enumerate() {
        record(&mut records, delta, value);
    }
    let (records, attributes) = match codec {
        Codec::None => (records, 0),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder
                .write_all(&records)
                .and_then(|()| encoder.finish())
                .map(|bytes| (bytes, 1))
                .expect("memory takes it")
        }
    };
    assemble(attributes, values.len(), source, &records)
}

/// A batch around a record section, whatever that is: lengths and CRC are right, the rest is the caller's word.
#[must_use]
pub fn assemble(attributes: i16, count: usize, source: Source, records: &[u8]) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let now = i64::try_from(now).unwrap_or(0);
    let count = i32::try_from(count).expect("tests make small batches");
    let mut bytes = Vec::with_capacity(HEAD + records.len());
    bytes.extend(0i64.to_be_bytes());
    bytes.extend(i32::try_from(HEAD - 12 + records.len()).expect("far below 2 GiB").to_be_bytes());
    bytes.extend((-1i32).to_be_bytes());
    bytes.push(2);
    bytes.extend([0; 4]);
    bytes.extend(attributes.to_be_bytes());
    bytes.extend((count - 1).to_be_bytes());
    bytes.extend(now.to_be_bytes());
    bytes.extend(now.to_be_bytes());
    bytes.extend(source.producer_id.to_be_bytes());
    bytes.extend(source.epoch.to_be_bytes());
    bytes.extend(source.sequence.to_be_bytes());
    bytes.extend(count.to_be_bytes());
    bytes.extend_from_slice(records);
    let crc = crc_of(&bytes);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

/// Appends a record without key and headers to a record section.
pub fn record(out: &mut Vec<u8>, offset_delta: usize, value: &[u8]) {
    let mut head = vec![0]; // attributes
    varint(&mut head, 0); // timestamp delta
    varint(&mut head, offset_delta as i64);
    varint(&mut head, -1); // no key
    varint(&mut head, value.len() as i64);
    varint(out, (head.len() + value.len() + 1) as i64);
    out.extend(head);
    out.extend_from_slice(value);
    varint(out, 0); // no headers
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

/// CRC-32C from the attributes on.
fn crc_of(batch: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32
}

/// Stands for all bytes of a batch that the server must keep as they were sent: all but base offset and leader epoch.
#[must_use]
pub fn fingerprint(batch: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&batch[8..12]);
    hasher.write(&batch[16..]);
    hasher.finish()
}

/// A batch found in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its first offset.
    pub base: i64,
    /// Offsets that it takes.
    pub count: i64,
    /// Bytes.
    pub size: usize,
    /// Its bytes, see [`fingerprint`].
    pub fingerprint: u64,
    /// The epoch that the server gave it.
    pub leader_epoch: i32,
    /// Who sent it.
    pub source: Source,
}

impl Found {
    /// The offset after its last.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.base + self.count
    }
}

/// The whole batches in `bytes`, each with a CRC that holds. A cut batch at the end is left out, as a client does.
pub fn walk(bytes: &[u8]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut left = bytes;
    while left.len() >= HEAD {
        let base = i64::from_be_bytes(part(left, 0)?);
        let length = usize::try_from(i32::from_be_bytes(part(left, 8)?)).context("a negative batch length")?;
        let Some(batch) = left.get(..length + 12) else { break };
        ensure!(
            batch.len() >= HEAD && batch[16] == 2,
            "no batch at offset {base}: length {length}, magic {}",
            left[16]
        );
        let crc = u32::from_be_bytes(part(batch, 17)?);
        ensure!(crc == crc_of(batch), "the batch at offset {base} is damaged");
        found.push(Found {
            base,
            count: i64::from(i32::from_be_bytes(part(batch, 23)?)) + 1,
            size: batch.len(),
            fingerprint: fingerprint(batch),
            leader_epoch: i32::from_be_bytes(part(batch, 12)?),
            source: Source {
                producer_id: i64::from_be_bytes(part(batch, 43)?),
                epoch: i16::from_be_bytes(part(batch, 51)?),
                sequence: i32::from_be_bytes(part(batch, 53)?),
            },
        });
        left = &left[batch.len()..];
    }
    Ok(found)
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).context("a batch ends too early")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_walks_back_and_a_changed_one_does_not() {
        let source = Source { producer_id: 7, epoch: 1, sequence: 30 };
        for codec in [Codec::None, Codec::Gzip] {
            let batch = encode(&[vec![1; 100], vec![2; 50]], source, codec);
            let two = [batch.as_ref(), batch.as_ref(), &batch[..70]].concat();
            let found = walk(&two).unwrap();
            assert_eq!(found.len(), 2);
            assert_eq!((found[0].count, found[0].size, found[0].source), (2, batch.len(), source));
            assert_eq!(found[0], found[1]);
            let mut changed = batch.to_vec();
            changed[0..16].fill(0);
            changed[8..12].copy_from_slice(&batch[8..12]);
            assert_eq!(walk(&changed).unwrap()[0].fingerprint, found[0].fingerprint, "offset and epoch do not count");
            changed[65] ^= 1;
            assert!(walk(&changed).is_err());
            assert_ne!(fingerprint(&changed), found[0].fingerprint);
        }
    }
}
