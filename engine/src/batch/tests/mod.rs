//! What several of these tests need: batches to begin with, and ways to damage them.

mod bombs;
mod golden;
mod mutation;
mod round_trip;
mod rules;
mod timing;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::retain::retain_within;
use super::*;
use crate::TimestampMs;

/// The time at which the tests' batches arrive.
const NOW: TimestampMs = TimestampMs(1_700_000_000_000);

/// A record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Plain {
    fn new(timestamp: i64, key: &str, value: &str) -> Plain {
        Plain { timestamp, key: Some(key.into()), value: Some(value.into()), headers: Vec::new() }
    }

    fn of(record: &Record<'_>) -> Plain {
        Plain {
            timestamp: record.timestamp.0,
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: record.headers.map(|(name, value)| (name.into(), value.map(Into::into))).collect(),
        }
    }
}

/// Adds the records to a batch and finishes it.
fn fill(mut builder: BatchBuilder, records: &[Plain]) -> Bytes {
    for record in records {
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
        let time = TimestampMs(record.timestamp);
        builder.push(time, record.key.as_deref(), record.value.as_deref(), &headers).unwrap();
    }
    builder.finish().unwrap()
}

/// Three ordinary records at `NOW` and shortly before.
fn three() -> Vec<Plain> {
    vec![Plain::new(NOW.0 - 5, "a", "1"), Plain::new(NOW.0, "b", "2"), Plain::new(NOW.0 - 9, "c", "3")]
}

/// Everything that the batch holds.
fn read_all(batch: &Bytes) -> Result<Vec<Plain>, BatchError> {
    records_of(batch, 64 << 20)?.iter().map(|record| record.map(|record| Plain::of(&record))).collect()
}

/// Overwrites bytes and repairs the CRC, as a producer that means it would send them.
fn with_bytes(batch: &Bytes, position: usize, new: &[u8]) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[position..position + new.len()].copy_from_slice(new);
    sealed(bytes)
}

/// Gives a batch the length and the CRC that fit its bytes.
fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let length = (bytes.len() as i32 - 12).to_be_bytes();
    bytes[8..12].copy_from_slice(&length);
    let crc = crc32c(&bytes[21..]).to_be_bytes();
    bytes[17..21].copy_from_slice(&crc);
    Bytes::from(bytes)
}

fn bytes_strategy(size_max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..size_max), vec(Just(b'x'), 0..size_max)]
}

fn record_strategy() -> impl Strategy<Value = Plain> {
    let headers = vec((bytes_strategy(12), proptest::option::of(bytes_strategy(12))), 0..4);
    let time = prop_oneof![8 => NOW.0 - 100_000..NOW.0 + 100_000, 1 => Just(-1), 1 => 0..i64::MAX / 4];
    let key = proptest::option::of(bytes_strategy(40));
    let value = proptest::option::of(bytes_strategy(300));
    (time, key, value, headers).prop_map(|(timestamp, key, value, headers)| Plain { timestamp, key, value, headers })
}

fn codec_strategy() -> impl Strategy<Value = Codec> {
    proptest::sample::select(&Codec::ALL[..])
}

/// Rules under which only the structure of a batch matters.
fn lenient() -> Rules {
    Rules { timestamp_after_max_ms: i64::MAX, ..Rules::new(NOW) }
}
