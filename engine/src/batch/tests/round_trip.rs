//! What goes in comes out: builder, records, codecs, and stepping over ranges.

use super::*;
use crate::{Epoch, Offset, ProducerId};

proptest! {
    #[test]
    fn every_codec_gives_back_what_it_got(codec in codec_strategy(), bytes in bytes_strategy(200_000)) {
        let packed = compress(codec, &bytes)?;
        prop_assert_eq!(&decompress(codec, &packed, bytes.len())?, &bytes);
        if let Some(max) = bytes.len().checked_sub(1) {
            prop_assert_eq!(decompress(codec, &packed, max), Err(BatchError::Bomb { max }));
        }
    }

    #[test]
    fn built_batches_pass_the_check_and_read_back(records in vec(record_strategy(), 1..20), codec in codec_strategy()) {
        let bytes = fill(BatchBuilder::new().codec(codec), &records);
        let batch = check(bytes.clone(), &lenient())?;
        prop_assert_eq!(batch.bytes(), &bytes, "nothing to correct, so nothing is copied");
        let newest = records.iter().map(|record| record.timestamp).max().unwrap();
        prop_assert_eq!(batch.header().max_timestamp.0, newest.max(-1));
        prop_assert_eq!(batch.header().record_count as usize, records.len());
        prop_assert_eq!(read_all(&bytes)?, records);
    }

    #[test]
    fn transcoding_keeps_records_and_header(
        records in vec(record_strategy(), 1..20), from in codec_strategy(), to in codec_strategy(),
    ) {
        let builder = BatchBuilder::new().codec(from).producer(ProducerId(9), 2, 77).transactional(true);
        let batch = check(fill(builder, &records), &lenient())?;
        let other = transcode(&batch, to, 1 << 20)?;
        verify_crc(other.bytes())?;
        prop_assert_eq!(other.header(), &BatchHeader::parse(other.bytes())?);
        prop_assert_eq!(other.header().attributes, batch.header().attributes.with_codec(to));
        prop_assert_eq!(other.header().base_sequence, 77);
        prop_assert_eq!(read_all(other.bytes())?, records.clone());
        // The check asks for the same when the topic has a codec of its own.
        let rules = Rules { compression: Some(to), ..lenient() };
        let checked = check(batch.bytes().clone(), &rules)?;
        prop_assert_eq!(checked.bytes(), other.bytes());
    }

    #[test]
    fn headers_steps_over_a_range_and_stops_at_a_cut(counts in vec(1..5_usize, 0..6), cut in 0..200_usize) {
        let mut range = Vec::new();
        let mut starts = Vec::new();
        let mut offset = 1000;
        for count in counts {
            let records = vec![Plain::new(NOW.0, "k", "v"); count];
            starts.push((range.len(), offset));
            range.extend_from_slice(&fill(BatchBuilder::new().place(Offset(offset), Epoch(1)), &records));
            offset += count as i64;
        }
        let whole: Vec<_> = headers(&range).map(|(position, header)| (position, header.base_offset.0)).collect();
        prop_assert_eq!(&whole, &starts);
        let size = range.len().saturating_sub(cut);
        let mut cut = headers(&range[..size]);
        let found: Vec<_> = cut.by_ref().map(|(position, _)| position).collect();
        let next = starts.get(found.len()).map_or(range.len(), |start| start.0);
        prop_assert_eq!(cut.position(), next);
        prop_assert!(next <= size);
        prop_assert!(starts.get(found.len() + 1).is_none_or(|start| start.0 > size), "no whole batch is left out");
    }

    #[test]
    fn varints_round_trip_at_every_size(value in any::<i64>(), shift in 0..64_u32) {
        let value = value >> shift;
        let mut bytes = Vec::new();
        super::super::build::put_varint(&mut bytes, value);
        let mut cursor = super::super::record::Cursor::new(&bytes);
        prop_assert_eq!(cursor.varlong(), Ok(value));
        prop_assert!(cursor.rest().is_empty());
        let narrow = super::super::record::Cursor::new(&bytes).varint();
        match i32::try_from(value) {
            Ok(value) => prop_assert_eq!(narrow, Ok(value)),
            Err(_) => prop_assert!(narrow.is_err()),
        }
    }
}

#[test]
fn varints_with_bits_past_their_type_are_refused() {
    let varint = |bytes: &[u8]| super::super::record::Cursor::new(bytes).varint();
    let varlong = |bytes: &[u8]| super::super::record::Cursor::new(bytes).varlong();
    assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MIN));
    assert!(varint(&[0xff, 0xff, 0xff, 0xff, 0x1f]).is_err());
    assert!(varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).is_err());
    assert_eq!(varint(&[0x82, 0x80, 0x00]), Ok(1), "a longer form than needed is readable");
    assert_eq!(varlong(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok(i64::MIN));
    assert!(varlong(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x03]).is_err());
    assert!(varlong(&[0x80; 11]).is_err());
    assert!(varint(&[0x80]).is_err() && varint(&[]).is_err());
}

#[test]
fn append_time_is_every_records_time() {
    let bytes = fill(BatchBuilder::new().timestamp_type(TimestampType::LogAppendTime), &three());
    let times: Vec<_> = read_all(&bytes).unwrap().iter().map(|record| record.timestamp).collect();
    assert_eq!(times, [NOW.0; 3]);
}

#[test]
fn an_empty_batch_is_not_built() {
    assert!(BatchBuilder::new().finish().is_err());
}

/// Timestamps take more bytes when they are counted from a delete horizon, a day ahead: a batch that could just be opened had
/// become one that nobody could open again.
#[test]
fn a_delete_horizon_makes_no_batch_larger_than_can_be_opened() {
    let records: Vec<_> = (0..100).map(|at| Plain::new(1_000 + at, "key", "value")).collect();
    let batch = fill(BatchBuilder::new().codec(Codec::Lz4), &records);
    let before = records_of(&batch, INFLATED_SIZE_MAX).unwrap();
    let retained = |size_max| {
        let fate = |record: &Record<'_>| if record.offset == Offset(0) { Fate::StaysForNow } else { Fate::Stays };
        retain_within(&before, TimestampMs(86_400_000), size_max, fate).unwrap()
    };
    let Retained::Changed(whole) = retained(INFLATED_SIZE_MAX) else { panic!("there is room") };
    let after = records_of(whole.bytes(), INFLATED_SIZE_MAX).unwrap().section().len();
    assert!(after > before.section().len());
    let mut least = None;
    for size_max in before.section().len()..=after + 2 * records.len() {
        match retained(size_max) {
            Retained::Changed(changed) => {
                least = least.or(Some(size_max));
                assert!(records_of(changed.bytes(), size_max).is_ok(), "{size_max}");
            }
            other => assert!(least.is_none() && matches!(other, Retained::Whole), "{size_max}"),
        }
    }
    assert!(least.is_some_and(|least| least >= after), "{least:?}");
}
