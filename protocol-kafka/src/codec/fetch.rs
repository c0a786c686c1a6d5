//! Fetch answers, written by hand around the records, which stay where they are.
//!
//! ```text
//! v4-18:  throttle i32 | error i16, session i32 (v7+) | [ topic name (v4-12) or id (v13+) | [ partition ] ] | endpoints (tag 0, v16+)
//! partition: index i32 | error i16 | high watermark i64 | last stable i64 | log start i64 (v5+) | aborted [ ] |
//!            preferred replica i32 (v11+) | records | diverging epoch (tag 0, v12+), current leader (tag 1, v12+)
//! v12+:   compact lengths, tags after each structure
//! ```
//!
//! The answer comes out in parts: bytes, and between them the records of each partition. A test holds every version against
//! crate kafka-protocol, byte for byte.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// Records that are not in memory, or need not be.
pub(crate) trait Records {
    /// Their size in bytes.
    fn size(&self) -> usize;
}

/// A whole answer.
pub(crate) struct FetchAnswer<R> {
    pub(crate) error_code: i16,
    pub(crate) session_id: i32,
    pub(crate) topics: Vec<TopicAnswer<R>>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// Where a node is reached.
pub(crate) struct Endpoint {
    pub(crate) node_id: i32,
    pub(crate) host: String,
    pub(crate) port: i32,
    pub(crate) rack: Option<String>,
}

/// A topic's part of the answer. It has both names; the version decides which one is sent.
pub(crate) struct TopicAnswer<R> {
    pub(crate) name: StrBytes,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<PartitionAnswer<R>>,
}

/// A partition's part of the answer.
pub(crate) struct PartitionAnswer<R> {
    pub(crate) index: i32,
    pub(crate) error_code: i16,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable: i64,
    pub(crate) log_start: i64,
    /// Whether the list of aborted transactions is there (and empty) or null: the reference sends null to those who read
    /// uncommitted records.
    pub(crate) aborted_listed: bool,
    /// Epoch and end offset where the client's log and ours part.
    pub(crate) diverging: Option<(i32, i64)>,
    /// Leader and its epoch, for a client that did not know it.
    pub(crate) leader: Option<(i32, i32)>,
    /// The record batches. `None` is sent as an empty set, as the reference does, not as null.
    pub(crate) records: Option<R>,
}

/// A piece of the encoded answer.
pub(crate) enum Part<R> {
    Bytes(Bytes),
    Records(R),
}

/// The answer is longer than a frame can be.
#[derive(Debug)]
pub(crate) struct TooLong;

/// Encodes an answer of version 4 to 18 as a whole frame.
pub(crate) fn encode<R: Records>(
    correlation_id: i32,
    version: i16,
    answer: FetchAnswer<R>,
) -> Result<Vec<Part<R>>, TooLong> {
    let partitions: usize = answer.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut out = Writer {
        parts: Vec::with_capacity(2 * partitions + 1),
        first: BytesMut::new(),
        // A partition's fields take at most 67 bytes without tags.
        bytes: BytesMut::with_capacity(64 + 64 * answer.topics.len() + 72 * partitions),
        compact: version >= 12,
        size: 0,
    };
    out.bytes.put_i32(0);
    out.bytes.put_i32(correlation_id);
    out.tags(0);
    out.bytes.put_i32(0);
    if version >= 7 {
        out.bytes.put_i16(answer.error_code);
        out.bytes.put_i32(answer.session_id);
    }
    out.length(answer.topics.len());
    for topic in answer.topics {
        if version >= 13 {
            out.bytes.put_slice(topic.id.as_bytes());
        } else {
            out.string(&topic.name);
        }
        out.length(topic.partitions.len());
        for partition in topic.partitions {
            out.partition(version, partition);
        }
        out.tags(0);
    }
    if version >= 16 && !answer.endpoints.is_empty() {
        out.endpoints(&answer.endpoints);
    } else {
        out.tags(0);
    }
    out.finish()
}

struct Writer<R> {
    /// What is written; its first part is empty and stands for `first`.
    parts: Vec<Part<R>>,
    /// The first part, which begins with the size of the frame: known only at the end.
    first: BytesMut,
    bytes: BytesMut,
    compact: bool,
    /// Bytes of all parts.
    size: usize,
}

impl<R: Records> Writer<R> {
    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }

    /// The length of an array or of bytes. Whatever is too long for its field is too long for the frame as well, and `finish`
    /// refuses that.
    fn length(&mut self, length: usize) {
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        if self.compact {
            self.varint(length as u32 + 1);
        } else {
            self.bytes.put_i32(length);
        }
    }

    fn string(&mut self, string: &str) {
        if self.compact {
            self.length(string.len());
        } else {
            self.bytes.put_i16(i16::try_from(string.len()).unwrap_or(i16::MAX));
        }
        self.bytes.put_slice(string.as_bytes());
    }

    /// How many tagged fields follow.
    fn tags(&mut self, count: u8) {
        if self.compact {
            self.bytes.put_u8(count);
        }
    }

    fn partition(&mut self, version: i16, partition: PartitionAnswer<R>) {
        self.bytes.put_i32(partition.index);
        self.bytes.put_i16(partition.error_code);
        self.bytes.put_i64(partition.high_watermark);
        self.bytes.put_i64(partition.last_stable);
        if version >= 5 {
            self.bytes.put_i64(partition.log_start);
        }
        match (partition.aborted_listed, self.compact) {
            (true, _) => self.length(0),
            (false, true) => self.bytes.put_u8(0),
            (false, false) => self.bytes.put_i32(-1),
        }
        if version >= 11 {
            // No other replica is nearer.
            self.bytes.put_i32(-1);
        }
        match partition.records {
            Some(records) if records.size() > 0 => {
                self.length(records.size());
                self.cut();
                self.size = self.size.saturating_add(records.size());
                self.parts.push(Part::Records(records));
            }
            _ => self.length(0),
        }
        if self.compact {
            self.tags(u8::from(partition.diverging.is_some()) + u8::from(partition.leader.is_some()));
            if let Some((epoch, end_offset)) = partition.diverging {
                self.bytes.put_slice(&[0, 13]);
                self.bytes.put_i32(epoch);
                self.bytes.put_i64(end_offset);
                self.bytes.put_u8(0);
            }
            if let Some((leader, epoch)) = partition.leader {
                self.bytes.put_slice(&[1, 9]);
                self.bytes.put_i32(leader);
                self.bytes.put_i32(epoch);
                self.bytes.put_u8(0);
            }
        }
    }

    /// The one tagged field at the end: tag, size, array.
    fn endpoints(&mut self, endpoints: &[Endpoint]) {
        let outer = std::mem::take(&mut self.bytes);
        self.length(endpoints.len());
        for endpoint in endpoints {
            self.bytes.put_i32(endpoint.node_id);
            self.string(&endpoint.host);
            self.bytes.put_i32(endpoint.port);
            match &endpoint.rack {
                Some(rack) => self.string(rack),
                None => self.bytes.put_u8(0),
            }
            self.tags(0);
        }
        let array = std::mem::replace(&mut self.bytes, outer);
        self.tags(1);
        self.bytes.put_u8(0);
        self.varint(u32::try_from(array.len()).unwrap_or(u32::MAX));
        self.bytes.put_slice(&array);
    }

    /// Ends the part that is being written.
    fn cut(&mut self) {
        let bytes = self.bytes.split();
        self.size = self.size.saturating_add(bytes.len());
        if self.parts.is_empty() {
            self.first = bytes;
            self.parts.push(Part::Bytes(Bytes::new()));
        } else {
            self.parts.push(Part::Bytes(bytes.freeze()));
        }
    }

    fn finish(mut self) -> Result<Vec<Part<R>>, TooLong> {
        self.cut();
        let size = i32::try_from(self.size.saturating_sub(4)).map_err(|_| TooLong)?;
        let mut place = &mut self.first[..];
        place.put_i32(size);
        if let Some(first) = self.parts.first_mut() {
            *first = Part::Bytes(self.first.freeze());
        }
        Ok(self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode_answer;
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::messages::fetch_response::{
        EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
    };

    impl Records for Bytes {
        fn size(&self) -> usize {
            self.len()
        }
    }

    fn partition(version: i16, index: i32, records: Option<Bytes>) -> (PartitionAnswer<Bytes>, PartitionData) {
        let tagged = version >= 12 && index % 2 == 1;
        let ours = PartitionAnswer {
            index,
            error_code: index as i16,
            high_watermark: i64::MAX - i64::from(index),
            last_stable: 1 << 40,
            log_start: if version >= 5 { 77 } else { -1 },
            aborted_listed: index % 3 == 0,
            diverging: (tagged && index % 4 == 1).then_some((3, 1 << 33)),
            leader: tagged.then_some((1, 9)),
            records: records.clone(),
        };
        let mut theirs = PartitionData::default()
            .with_partition_index(ours.index)
            .with_error_code(ours.error_code)
            .with_high_watermark(ours.high_watermark)
            .with_last_stable_offset(ours.last_stable)
            .with_log_start_offset(ours.log_start)
            .with_aborted_transactions(ours.aborted_listed.then(Vec::new))
            .with_records(Some(records.unwrap_or_default()));
        if let Some((epoch, end)) = ours.diverging {
            theirs = theirs.with_diverging_epoch(EpochEndOffset::default().with_epoch(epoch).with_end_offset(end));
        }
        if let Some((leader, epoch)) = ours.leader {
            let leader = LeaderIdAndEpoch::default().with_leader_id(leader.into()).with_leader_epoch(epoch);
            theirs = theirs.with_current_leader(leader);
        }
        (ours, theirs)
    }

    /// Topics with so many partitions, each partition with so many bytes of records (none for an odd one without).
    fn answers(
        version: i16,
        shape: &[(&'static str, &[usize])],
        endpoints: bool,
    ) -> (FetchAnswer<Bytes>, FetchResponse) {
        let mut ours = FetchAnswer { error_code: 0, session_id: 0, topics: Vec::new(), endpoints: Vec::new() };
        let mut theirs = FetchResponse::default();
        if version >= 7 {
            (ours.error_code, ours.session_id) = (71, 0x1234_5678);
            theirs = theirs.with_error_code(71).with_session_id(0x1234_5678);
        }
        for (number, &(name, sizes)) in shape.iter().enumerate() {
            let id = Uuid::from_u128(number as u128 + 5);
            let partitions = (0i32..).zip(sizes).map(|(index, &size)| {
                let records = (size > 0).then(|| vec![b'a' + (index % 26) as u8; size].into());
                partition(version, index, records)
            });
            let (our_partitions, their_partitions) = partitions.unzip();
            ours.topics.push(TopicAnswer { name: StrBytes::from_static_str(name), id, partitions: our_partitions });
            let mut topic = FetchableTopicResponse::default().with_partitions(their_partitions);
            topic = match version {
                13.. => topic.with_topic_id(id),
                _ => topic.with_topic(StrBytes::from_static_str(name).into()),
            };
            theirs.responses.push(topic);
        }
        if endpoints && version >= 16 {
            for (node_id, rack) in [(1, None), (200, Some("rack"))] {
                let host = "h".repeat(100);
                let theirs_one = NodeEndpoint::default()
                    .with_node_id(node_id.into())
                    .with_host(StrBytes::from_string(host.clone()))
                    .with_port(9092)
                    .with_rack(rack.map(StrBytes::from_static_str));
                theirs.node_endpoints.push(theirs_one);
                ours.endpoints.push(Endpoint { node_id, host, port: 9092, rack: rack.map(str::to_owned) });
            }
        }
        (ours, theirs)
    }

    #[test]
    fn every_version_is_written_as_the_crate_writes_it() {
        let hundred: Vec<usize> = (0..100).map(|index| if index % 5 == 4 { 0 } else { index * 37 + 1 }).collect();
        let shapes: [&[(&'static str, &[usize])]; 5] = [
            &[],
            &[("empty", &[])],
            &[("one", &[1_000_000])],
            &[("none", &[0, 0, 0]), ("tiny", &[1, 127, 128, 16_383, 16_384])],
            &[("hundred", &hundred), ("a", &[5]), ("b", &[0])],
        ];
        for version in 4..=18 {
            for shape in shapes {
                for endpoints in [false, true] {
                    let (ours, theirs) = answers(version, shape, endpoints);
                    let expected = encode_answer(-9, version, &theirs).unwrap();
                    let mut written = Vec::new();
                    let mut records = 0;
                    for part in encode(-9, version, ours).unwrap() {
                        match part {
                            Part::Bytes(bytes) => written.extend_from_slice(&bytes),
                            Part::Records(bytes) => {
                                records += 1;
                                written.extend_from_slice(&bytes);
                            }
                        }
                    }
                    assert!(written == expected, "version {version}, {shape:?}");
                    let with_records = shape.iter().flat_map(|(_, sizes)| *sizes).filter(|&&size| size > 0).count();
                    assert_eq!(records, with_records, "each partition's records are a part of their own");
                }
            }
        }
    }
}
