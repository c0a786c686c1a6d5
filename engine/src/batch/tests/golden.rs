//! Bytes that other implementations wrote, and CRC test vectors.

use super::*;
use crate::{Epoch, Offset, ProducerId};

fn golden(name: &str) -> Bytes {
    let mut lines = include_str!("golden.txt").lines().skip_while(|line| *line != name);
    assert_eq!(lines.next(), Some(name), "no golden bytes of that name");
    let hex: String = lines.take_while(|line| line.starts_with("  ")).map(str::trim).collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn golden_records() -> Vec<Plain> {
    let value = [vec![b'a'; 120], vec![b'b'; 40]].concat();
    let headers = vec![
        (b"trace".to_vec(), Some(vec![0, 1, 255])),
        (b"empty".to_vec(), Some(Vec::new())),
        (b"none".to_vec(), None),
    ];
    vec![
        Plain { timestamp: NOW.0, key: Some(b"key-0".to_vec()), value: Some(value), headers },
        Plain { timestamp: NOW.0 + 7, key: None, value: Some(b"second".to_vec()), headers: Vec::new() },
        Plain { timestamp: NOW.0 + 3, key: Some(b"key-2".to_vec()), value: None, headers: Vec::new() },
    ]
}

#[test]
fn crc_matches_the_published_vectors() {
    // RFC 3720, appendix B.4, and the check value of the CRC catalogue.
    let ascending: Vec<u8> = (0..32).collect();
    let descending: Vec<u8> = (0..32).rev().collect();
    for (input, expected) in [
        (&b"123456789"[..], 0xe306_9283),
        (&[0; 32], 0x8a91_36aa),
        (&[0xff; 32], 0x62a8_ab43),
        (&ascending, 0x46dd_794e),
        (&descending, 0x113f_db5c),
        (&[], 0),
    ] {
        assert_eq!(crc32c(input), expected, "{input:02x?}");
    }
}

#[test]
fn batches_of_another_producer_are_read_in_every_codec() {
    for (name, codec) in [
        ("batch-none", Codec::None),
        ("batch-gzip", Codec::Gzip),
        ("batch-snappy", Codec::Snappy),
        ("batch-lz4", Codec::Lz4),
        ("batch-zstd", Codec::Zstd),
    ] {
        let bytes = golden(name);
        let batch = check(bytes.clone(), &Rules::new(NOW)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(batch.bytes(), &bytes, "{name} is stored as it was sent");
        assert_eq!(batch.header().attributes.codec(), Ok(codec), "{name}");
        assert_eq!(batch.header().max_timestamp.0, NOW.0 + 7, "{name}");
        assert_eq!(read_all(&bytes).unwrap(), golden_records(), "{name}");
    }
}

#[test]
fn batches_of_the_java_producer_are_read_in_every_codec() {
    for (name, codec) in [
        ("java-none", Codec::None),
        ("java-gzip", Codec::Gzip),
        ("java-snappy", Codec::Snappy),
        ("java-lz4", Codec::Lz4),
        ("java-zstd", Codec::Zstd),
    ] {
        let bytes = golden(name);
        let sent_at = BatchHeader::parse(&bytes).unwrap().base_timestamp;
        let batch = check(bytes.clone(), &Rules::new(sent_at)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(batch.bytes(), &bytes, "{name} is stored as it was sent");
        assert_eq!(batch.header().attributes.codec(), Ok(codec), "{name}");
        let mut expected = golden_records().swap_remove(0);
        expected.timestamp = sent_at.0;
        expected.headers = vec![(b"trace".to_vec(), Some(b"7".to_vec()))];
        assert_eq!(read_all(&bytes).unwrap(), [expected], "{name}");
    }
}

#[test]
fn builder_writes_the_same_bytes_as_another_producer() {
    assert_eq!(fill(BatchBuilder::new().place(Offset(0), Epoch(0)), &golden_records()), with_epoch("batch-none", 0));
    let builder = BatchBuilder::new().producer(ProducerId(4711), 3, i32::MAX - 1).transactional(true);
    let built = fill(builder.place(Offset(0), Epoch(0)), &golden_records());
    assert_eq!(built, with_epoch("batch-transactional", 0));
}

/// Producers disagree on the leader epoch that they send; it is outside the CRC and overwritten.
fn with_epoch(name: &str, epoch: i32) -> Bytes {
    let mut bytes = golden(name).to_vec();
    bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
    Bytes::from(bytes)
}

#[test]
fn header_fields_are_where_the_format_says() {
    let header = BatchHeader::parse(&golden("batch-transactional")).unwrap();
    assert_eq!((header.base_offset, header.magic, header.size), (Offset(0), 2, 283));
    assert!(header.attributes.is_transactional() && !header.attributes.is_control());
    assert!(!header.attributes.has_delete_horizon());
    assert_eq!(header.attributes.timestamp_type(), TimestampType::CreateTime);
    assert_eq!((header.base_timestamp, header.max_timestamp), (NOW, TimestampMs(NOW.0 + 7)));
    assert_eq!((header.producer_id, header.producer_epoch), (ProducerId(4711), 3));
    assert_eq!((header.base_sequence, header.last_sequence()), (i32::MAX - 1, 0), "sequences wrap to 0");
    assert_eq!((header.record_count, header.last_offset_delta), (3, 2));
    assert_eq!((header.last_offset(), header.next_offset()), (Offset(2), Offset(3)));
}

#[test]
fn patch_places_a_batch_without_touching_its_crc() {
    let bytes = golden("batch-zstd");
    let header = BatchHeader::parse(&bytes).unwrap();
    let mut placed = bytes.to_vec();
    placed[..16].copy_from_slice(&header.patch(Offset(1 << 40), Epoch(9)));
    verify_crc(&placed).unwrap();
    let moved = BatchHeader::parse(&placed).unwrap();
    assert_eq!(moved, BatchHeader { base_offset: Offset(1 << 40), leader_epoch: Epoch(9), ..header });
    assert_eq!(
        records_of(&Bytes::from(placed), 1 << 20).unwrap().iter().last().unwrap().unwrap().offset.0,
        (1 << 40) + 2
    );
}

#[test]
fn streams_of_other_compressors_are_read() {
    let plain = b"headwater ".repeat(40);
    let long = plain.repeat(200);
    for (name, codec, expected) in [
        ("snappy-raw", Codec::Snappy, &plain),
        ("lz4-checksums", Codec::Lz4, &long),
        ("lz4-4m-blocks", Codec::Lz4, &plain),
        ("zstd-no-size", Codec::Zstd, &plain),
        ("zstd-level-22", Codec::Zstd, &plain),
        ("gzip", Codec::Gzip, &plain),
    ] {
        assert_eq!(decompress(codec, &golden(name), 1 << 20).as_ref(), Ok(expected), "{name}");
        assert_eq!(decompress(codec, &golden(name), expected.len()).as_ref(), Ok(expected), "{name}: the limit itself");
        let max = expected.len() - 1;
        assert_eq!(decompress(codec, &golden(name), max), Err(BatchError::Bomb { max }), "{name}: one byte over");
    }
}

#[test]
fn lz4_checksums_are_compared() {
    let good = golden("lz4-checksums");
    // The header checksum, a byte of the first block, its checksum and the content checksum.
    for position in [14, 40, good.len() - 9, good.len() - 1] {
        let mut bad = good.to_vec();
        bad[position] ^= 0x10;
        assert!(decompress(Codec::Lz4, &bad, 1 << 20).is_err(), "position {position}");
    }
}

#[test]
fn lz4_blocks_that_refer_to_others_are_refused_as_the_reference_does() {
    let why = "lz4: blocks that depend on the ones before are not supported";
    assert_eq!(decompress(Codec::Lz4, &golden("lz4-linked"), 1 << 20), Err(BatchError::invalid(why)));
}

#[test]
fn cut_streams_are_refused_and_trailing_bytes_treated_as_the_reference_does() {
    for name in ["gzip", "lz4-4m-blocks", "lz4-checksums", "zstd-no-size", "zstd-level-22", "snappy-raw"] {
        let bytes = golden(name);
        let codec = match name.split('-').next() {
            Some("gzip") => Codec::Gzip,
            Some("lz4") => Codec::Lz4,
            Some("snappy") => Codec::Snappy,
            _ => Codec::Zstd,
        };
        for size in 1..bytes.len() {
            assert!(decompress(codec, &bytes[..size], 1 << 20).is_err(), "{name} cut to {size}");
        }
        let followed = [&bytes[..], b"rest"].concat();
        let ignored = matches!(codec, Codec::Gzip | Codec::Lz4);
        assert_eq!(decompress(codec, &followed, 1 << 20).is_ok(), ignored, "{name}");
    }
    let joined = golden("gzip").repeat(3);
    assert_eq!(decompress(Codec::Gzip, &joined, 1 << 20).unwrap(), b"headwater ".repeat(120));
    assert!(decompress(Codec::Gzip, &golden("gzip").repeat(65), 1 << 20).is_err());
}
