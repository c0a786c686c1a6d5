//! Each rule of the check: what is refused, with which kind of error, and what is corrected.

use super::*;
use crate::ProducerId;

/// Where fields lie in a batch, for tests that damage them.
const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const MAGIC: usize = 16;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const RECORD_COUNT: usize = 57;
const RECORDS: usize = 61;

#[derive(Debug, PartialEq)]
enum Kind {
    TooLarge,
    Corrupt,
    Invalid(Option<i32>),
    Timestamp(i32),
    Unsupported,
    Bomb,
    WithoutKey(Vec<i32>),
}

fn kind(result: Result<CheckedBatch, BatchError>) -> Result<CheckedBatch, Kind> {
    result.map_err(|error| match error {
        BatchError::TooLarge { .. } => Kind::TooLarge,
        BatchError::Corrupt(_) => Kind::Corrupt,
        BatchError::Invalid { record_index, .. } => Kind::Invalid(record_index),
        BatchError::Timestamp { record_index, .. } => Kind::Timestamp(record_index),
        BatchError::UnsupportedCodec(_) => Kind::Unsupported,
        BatchError::Bomb { .. } => Kind::Bomb,
        BatchError::WithoutKey { record_indexes, .. } => Kind::WithoutKey(record_indexes),
    })
}

fn refuses(bytes: impl Into<Bytes>, rules: &Rules, expected: Kind) {
    let error = kind(check(bytes.into(), rules)).expect_err("refused");
    assert_eq!(error, expected);
}

fn good() -> Bytes {
    fill(BatchBuilder::new(), &three())
}

fn rules() -> Rules {
    Rules::new(NOW)
}

#[test]
fn a_good_batch_keeps_its_memory() {
    let bytes = good();
    let batch = check(bytes.clone(), &rules()).unwrap();
    assert_eq!(batch.bytes().as_ptr(), bytes.as_ptr());
    assert_eq!(batch.header(), &BatchHeader::parse(&bytes).unwrap());
}

#[test]
fn exactly_one_whole_batch_is_taken() {
    let one = good();
    for size in 0..one.len() {
        refuses(one.slice(..size), &rules(), Kind::Invalid(None));
    }
    refuses([&one[..], &one[..]].concat(), &rules(), Kind::Invalid(None));
    refuses([&one[..], b"\0"].concat(), &rules(), Kind::Invalid(None));
    refuses(with_bytes(&one, BASE_OFFSET, &7_i64.to_be_bytes()), &rules(), Kind::Invalid(None));
}

#[test]
fn damaged_bytes_are_corrupt() {
    let one = good();
    for position in ATTRIBUTES..one.len() {
        let mut bytes = one.to_vec();
        bytes[position] ^= 1;
        refuses(bytes, &rules(), Kind::Corrupt);
    }
    for magic in [3, 127, -1_i8] {
        refuses(with_bytes(&one, MAGIC, &magic.to_be_bytes()), &rules(), Kind::Corrupt);
    }
    for magic in [0, 1_i8] {
        refuses(with_bytes(&one, MAGIC, &magic.to_be_bytes()), &rules(), Kind::Invalid(None));
    }
    for length in [i32::MIN, -1, 0, 13, 14, 48] {
        let mut bytes = one.to_vec();
        bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_be_bytes());
        refuses(bytes, &rules(), Kind::Corrupt);
    }
}

#[test]
fn size_limit_counts_the_whole_batch() {
    let one = good();
    assert!(check(one.clone(), &Rules { batch_size_max: one.len(), ..rules() }).is_ok());
    let small = Rules { batch_size_max: one.len() - 1, ..rules() };
    assert_eq!(check(one.clone(), &small).err(), Some(BatchError::TooLarge { size: one.len(), max: one.len() - 1 }));
    // A batch that only grows over the limit when it is stored in the topic's codec is refused too.
    let packed = fill(BatchBuilder::new().codec(Codec::Zstd), &[Plain::new(NOW.0, "k", &"x".repeat(10_000))]);
    let unpack = Rules { batch_size_max: 5_000, compression: Some(Codec::None), ..rules() };
    refuses(packed, &unpack, Kind::TooLarge);
}

#[test]
fn counts_must_agree() {
    let one = good();
    for count in [i32::MIN, -1, 0, 2, 4, i32::MAX] {
        refuses(with_bytes(&one, RECORD_COUNT, &count.to_be_bytes()), &rules(), Kind::Invalid(None));
        let delta = count.wrapping_sub(1).to_be_bytes();
        let both = with_bytes(&with_bytes(&one, RECORD_COUNT, &count.to_be_bytes()), LAST_OFFSET_DELTA, &delta);
        refuses(both, &rules(), Kind::Invalid(None));
    }
    refuses(with_bytes(&one, LAST_OFFSET_DELTA, &5_i32.to_be_bytes()), &rules(), Kind::Invalid(None));
}

#[test]
fn records_must_be_well_formed() {
    // A record of `three` is: length 18 >> 1 = 9, attributes, timestamp delta (1-2 bytes), offset delta, key, value, headers.
    let one = good();
    let index_0 = |position: usize, byte: u8| {
        refuses(with_bytes(&one, RECORDS + position, &[byte]), &rules(), Kind::Invalid(Some(0)));
    };
    assert_eq!(one[RECORDS..RECORDS + 9], [16, 0, 0, 0, 2, b'a', 2, b'1', 0]);
    index_0(0, 0); // shorter than its fields
    index_0(0, 14); // a byte too short
    index_0(0, 18); // a byte too long
    index_0(0, 1); // negative
    index_0(0, 0x7e); // past the end
    index_0(3, 2); // offset delta 1
    index_0(3, 1); // offset delta -1
    index_0(4, 3); // key length -2
    index_0(4, 0x7e); // key past the record
    index_0(6, 3); // value length -2
    index_0(8, 1); // header count -1
    index_0(8, 2); // one header, none there
}

#[test]
fn attributes_that_clients_may_not_set_are_refused() {
    refuses(fill(BatchBuilder::new().control(true), &three()), &rules(), Kind::Invalid(None));
    refuses(fill(BatchBuilder::new().transactional(true), &three()), &rules(), Kind::Invalid(None));
    refuses(fill(BatchBuilder::new().producer(ProducerId(1), 0, -1), &three()), &rules(), Kind::Invalid(None));
    assert!(check(fill(BatchBuilder::new().producer(ProducerId(1), 0, 0), &three()), &rules()).is_ok());
    for codec in 5..8_i16 {
        refuses(with_bytes(&good(), ATTRIBUTES, &codec.to_be_bytes()), &rules(), Kind::Unsupported);
    }
}

#[test]
fn timestamps_out_of_range_name_the_first_record() {
    let hour = 3_600_000;
    let batch = |times: [i64; 3]| fill(BatchBuilder::new(), &times.map(|time| Plain::new(time, "k", "v")));
    assert!(check(batch([NOW.0, NOW.0 + hour, 0]), &rules()).is_ok(), "an old one is taken by default");
    refuses(batch([NOW.0, NOW.0 + hour + 1, NOW.0 + hour + 2]), &rules(), Kind::Timestamp(1));
    let young = Rules { timestamp_before_max_ms: 1000, ..rules() };
    assert!(check(batch([NOW.0 - 1000, -1, NOW.0]), &young).is_ok(), "-1 is always allowed");
    refuses(batch([NOW.0, NOW.0, NOW.0 - 1001]), &young, Kind::Timestamp(2));
    let error = check(batch([NOW.0, NOW.0, NOW.0 - 1001]), &young).unwrap_err().to_string();
    assert!(error.contains("record 2") && error.contains(&format!("[{}, {}]", NOW.0 - 1000, NOW.0 + hour)), "{error}");
    // The topic's own stamp replaces whatever the producer said.
    let stamping = Rules { timestamp_type: TimestampType::LogAppendTime, ..young };
    assert!(check(batch([NOW.0, NOW.0, NOW.0 - 1001]), &stamping).is_ok());
    // A fault in the structure wins.
    let mut broken = batch([NOW.0 + hour * 2, NOW.0 + hour * 2, NOW.0 + hour * 2]).to_vec();
    *broken.last_mut().unwrap() = 1;
    refuses(sealed(broken), &rules(), Kind::Invalid(Some(2)));
}

#[test]
fn extreme_timestamps_are_refused_not_wrapped() {
    let extreme = with_bytes(&good(), BASE_TIMESTAMP, &i64::MAX.to_be_bytes());
    refuses(extreme.clone(), &lenient(), Kind::Timestamp(1));
    // Where the log stamps the batch, nobody will ever add that delta up.
    let stamping = Rules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
    let stamped = check(extreme, &stamping).unwrap();
    assert_eq!(read_all(stamped.bytes()).unwrap().len(), 3);
    let old = fill(BatchBuilder::new(), &[Plain::new(i64::MIN, "k", "v")]);
    refuses(old, &rules(), Kind::Timestamp(0));
}

#[test]
fn max_timestamp_is_what_the_records_say() {
    for codec in Codec::ALL {
        let right = fill(BatchBuilder::new().codec(codec), &three());
        let wrong = with_bytes(&right, MAX_TIMESTAMP, &5_i64.to_be_bytes());
        let batch = check(wrong.clone(), &rules()).unwrap();
        assert_eq!(batch.bytes(), &right, "{codec:?}: max timestamp and CRC are corrected");
        assert_eq!(batch.header(), &BatchHeader::parse(&right).unwrap());
        // A compressed batch that stays closed keeps its producer's word.
        let closed = check(wrong.clone(), &Rules { validation: Validation::Header, ..rules() }).unwrap();
        assert_eq!(closed.bytes(), if codec == Codec::None { &right } else { &wrong });
    }
    let none = fill(BatchBuilder::new(), &[Plain::new(-1, "k", "v")]);
    assert_eq!(check(none, &rules()).unwrap().header().max_timestamp, TimestampMs(-1));
}

#[test]
fn append_time_topics_stamp_the_header_alone() {
    let stamping = Rules { timestamp_type: TimestampType::LogAppendTime, now: TimestampMs(NOW.0 + 50), ..rules() };
    for codec in Codec::ALL {
        let sent = fill(BatchBuilder::new().codec(codec), &three());
        let batch = check(sent.clone(), &stamping).unwrap();
        verify_crc(batch.bytes()).unwrap();
        assert_eq!(batch.header(), &BatchHeader::parse(batch.bytes()).unwrap());
        assert_eq!(batch.header().max_timestamp.0, NOW.0 + 50);
        assert_eq!(batch.bytes()[RECORDS..], sent[RECORDS..]);
        assert!(read_all(batch.bytes()).unwrap().iter().all(|record| record.timestamp == NOW.0 + 50));
    }
    let claimed = fill(BatchBuilder::new().timestamp_type(TimestampType::LogAppendTime), &three());
    refuses(claimed, &stamping, Kind::Timestamp(0));
}

#[test]
fn create_time_topics_clear_a_claimed_append_time() {
    for codec in [Codec::None, Codec::Lz4] {
        let plain = fill(BatchBuilder::new().codec(codec), &three());
        let claimed = fill(BatchBuilder::new().codec(codec).timestamp_type(TimestampType::LogAppendTime), &three());
        assert_eq!(check(claimed.clone(), &rules()).unwrap().bytes(), &plain);
        let none = with_bytes(&claimed, MAX_TIMESTAMP, &(-1_i64).to_be_bytes());
        refuses(none, &rules(), Kind::Timestamp(0));
        let far = with_bytes(&claimed, MAX_TIMESTAMP, &(NOW.0 * 2).to_be_bytes());
        refuses(far, &rules(), Kind::Timestamp(0));
    }
}

#[test]
fn compacted_topics_need_keys_even_in_closed_batches() {
    let compacted = Rules { key_required: true, validation: Validation::Header, ..rules() };
    for codec in Codec::ALL {
        let mut records = three();
        assert!(check(fill(BatchBuilder::new().codec(codec), &records), &compacted).is_ok());
        records[1].key = None;
        refuses(fill(BatchBuilder::new().codec(codec), &records), &compacted, Kind::WithoutKey(vec![1]));
        let mut both = records.clone();
        both[2].key = None;
        refuses(fill(BatchBuilder::new().codec(codec), &both), &compacted, Kind::WithoutKey(vec![1, 2]));
        records[2].timestamp = NOW.0 * 2;
        refuses(fill(BatchBuilder::new().codec(codec), &records), &compacted, Kind::Timestamp(2));
    }
}

/// Each takes some bytes of the answer, so not all of a million are told.
#[test]
fn records_without_a_key_are_counted_and_the_first_are_told() {
    let mut builder = BatchBuilder::new();
    for _ in 0..3_000 {
        builder.push(NOW, None, None, &[]).unwrap();
    }
    match check(builder.finish().unwrap(), &Rules { key_required: true, ..rules() }) {
        Err(BatchError::WithoutKey { record_indexes, count }) => {
            assert_eq!((record_indexes.len(), count), (1_000, 3_000));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn header_validation_leaves_compressed_batches_closed() {
    let closed = Rules { validation: Validation::Header, ..rules() };
    let mut bytes = fill(BatchBuilder::new().codec(Codec::Gzip), &three()).to_vec();
    bytes.truncate(RECORDS + 4);
    let broken = sealed(bytes);
    assert!(check(broken.clone(), &closed).is_ok());
    refuses(broken.clone(), &rules(), Kind::Invalid(None));
    refuses(broken.clone(), &Rules { compression: Some(Codec::Zstd), ..closed }, Kind::Invalid(None));
    refuses(with_bytes(&good(), RECORDS, &[0]), &closed, Kind::Invalid(Some(0)));
    let far = with_bytes(&broken, MAX_TIMESTAMP, &(NOW.0 * 2).to_be_bytes());
    refuses(far, &closed, Kind::Timestamp(0));
}
