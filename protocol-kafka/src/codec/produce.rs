//! Produce requests, decoded by hand: records stay slices of the frame, and what is allocated is bounded by what was sent.
//!
//! ```text
//! v3-13:  transactional id | acks i16 | timeout i32 | [ topic name (v0-12) or id (v13) | [ index i32 | records ] ]
//! v9+:    compact lengths, tags after each structure
//! ```

use super::cursor::Cursor;
use super::{Malformed, TopicRef};
use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

/// Partitions in one request; more are refused. A frame of empty partitions would otherwise decode to many times its size.
const PARTITIONS_MAX: usize = 100_000;

/// A Produce request of any version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProduceBody {
    pub(crate) transactional_id: Option<StrBytes>,
    pub(crate) acks: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) topics: Vec<TopicBody>,
}

/// The batches for one topic.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TopicBody {
    pub(crate) topic: TopicRef,
    pub(crate) partitions: Vec<PartitionBody>,
}

/// The batch for one partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PartitionBody {
    pub(crate) index: i32,
    pub(crate) records: Option<Bytes>,
}

/// Decodes a request of version 3 to 13.
pub(crate) fn decode(body: &Bytes, version: i16) -> Result<ProduceBody, Malformed> {
    let compact = version >= 9;
    let mut cursor = Cursor::new(body.clone());
    let transactional_id = cursor.nullable_string(compact)?;
    let acks = cursor.i16()?;
    let timeout_ms = cursor.i32()?;
    let topic_count = cursor.array(compact, 3)?;
    if topic_count > PARTITIONS_MAX {
        return Err(Malformed(format!("{topic_count} topics")));
    }
    let mut topics = Vec::with_capacity(topic_count);
    let mut total = 0usize;
    for _ in 0..topic_count {
        let topic = if version >= 13 { TopicRef::Id(cursor.uuid()?) } else { TopicRef::Name(cursor.string(compact)?) };
        let count = cursor.array(compact, 5)?;
        total = total.saturating_add(count);
        if total > PARTITIONS_MAX {
            return Err(Malformed(format!("{total} partitions")));
        }
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            let index = cursor.i32()?;
            let records = cursor.nullable_bytes(compact)?;
            if compact {
                cursor.skip_tags()?;
            }
            partitions.push(PartitionBody { index, records });
        }
        if compact {
            cursor.skip_tags()?;
        }
        topics.push(TopicBody { topic, partitions });
    }
    if compact {
        cursor.skip_tags()?;
    }
    Ok(ProduceBody { transactional_id, acks, timeout_ms, topics })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn request(version: i16) -> (ProduceRequest, ProduceBody) {
        let partitions = [(0, Some(&b"records"[..])), (7, None), (-1, Some(&b""[..]))];
        let mut topics = Vec::new();
        let mut expected = Vec::new();
        for (number, name) in ["a", "topic.two"].into_iter().enumerate() {
            let mut topic = TopicProduceData::default();
            let id = Uuid::from_u128(number as u128 + 1);
            let named = if version >= 13 {
                topic = topic.with_topic_id(id);
                TopicRef::Id(id)
            } else {
                topic = topic.with_name(StrBytes::from_static_str(name).into());
                TopicRef::Name(StrBytes::from_static_str(name))
            };
            let (data, bodies) = partitions
                .iter()
                .map(|&(index, records)| {
                    let records = records.map(Bytes::from_static);
                    let data = PartitionProduceData::default().with_index(index).with_records(records.clone());
                    (data, PartitionBody { index, records })
                })
                .unzip();
            topics.push(topic.with_partition_data(data));
            expected.push(TopicBody { topic: named, partitions: bodies });
        }
        let transactional_id = Some(StrBytes::from_static_str("txn"));
        let request = ProduceRequest::default()
            .with_transactional_id(transactional_id.clone().map(Into::into))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(topics);
        (request, ProduceBody { transactional_id, acks: -1, timeout_ms: 30_000, topics: expected })
    }

    #[test]
    fn every_version_is_read_as_the_crate_writes_it_and_records_are_slices() {
        for version in 3..=13 {
            let (request, expected) = request(version);
            let mut body = BytesMut::new();
            request.encode(&mut body, version).unwrap();
            let body = body.freeze();
            let read = decode(&body, version).unwrap();
            assert_eq!(read, expected, "version {version}");
            let records = read.topics[0].partitions[0].records.as_ref().unwrap();
            assert!(body.as_ptr_range().contains(&records.as_ptr()), "no copy");
            for end in 0..body.len() {
                assert!(decode(&body.slice(..end), version).is_err(), "version {version} cut at {end}");
            }
        }
    }

    #[test]
    fn absurd_counts_are_refused() {
        for count in [1 << 20, i32::MAX] {
            let mut body = BytesMut::from(&[0xff, 0xff, 0, 1, 0, 0, 0, 0][..]);
            body.extend_from_slice(&count.to_be_bytes());
            body.resize(body.len() + (16 << 20), 0);
            assert!(decode(&body.freeze(), 3).is_err(), "{count} topics");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes: Vec<u8>, version in 3i16..=13) {
            let _ = decode(&Bytes::from(bytes), version);
        }

        #[test]
        fn a_changed_request_is_a_request_or_an_error(version in 3i16..=13, at: prop::sample::Index, to: u8) {
            let mut body = BytesMut::new();
            request(version).0.encode(&mut body, version).unwrap();
            let at = at.index(body.len());
            body[at] = to;
            let _ = decode(&body.freeze(), version);
        }
    }
}
