//! The generator against a broker in a few lines that speaks through the `kafka-protocol` crate, so that our hand-made frames
//! are read, and our hand-made parsers fed, by somebody else's code.

use super::batch::walk;
use super::*;
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, FetchRequest,
    FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable};
use kafka_protocol::records::RecordBatchDecoder;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::Duration;

/// What the broker keeps: whole batches with their base offset, by partition.
#[derive(Default)]
struct Log {
    batches: BTreeMap<i32, Vec<(i64, Bytes)>>,
    ends: BTreeMap<i32, i64>,
    /// Answered to every Produce.
    produce_code: i16,
    /// Leaves this batch out of what is fetched.
    lost: Option<usize>,
}

const PARTITIONS: i32 = 3;

/// Starts a broker; its threads end with the test's process.
fn broker(log: Log) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let log = Arc::new(Mutex::new(log));
    let accept = move || {
        for stream in listener.incoming() {
            let log = log.clone();
            Builder::new().spawn(move || serve(stream.unwrap(), &log)).unwrap();
        }
    };
    Builder::new().spawn(accept).unwrap();
    address
}

fn serve(mut stream: TcpStream, log: &Mutex<Log>) {
    let mut len = [0; 4];
    while stream.read_exact(&mut len).is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        stream.read_exact(&mut frame).unwrap();
        let mut frame = Bytes::from(frame);
        let header = RequestHeader::decode(&mut frame, 1).unwrap();
        let mut out = BytesMut::new();
        ResponseHeader::default().with_correlation_id(header.correlation_id).encode(&mut out, 0).unwrap();
        let (key, version) = (header.request_api_key, header.request_api_version);
        let answered = answer((key, version), &mut frame, &mut out, &mut log.lock().unwrap());
        assert!(!frame.has_remaining(), "request {key} has {} bytes too many", frame.remaining());
        if answered {
            stream.write_all(&u32::try_from(out.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&out).unwrap();
        }
    }
}

fn answer(api: (i16, i16), frame: &mut Bytes, out: &mut BytesMut, log: &mut Log) -> bool {
    let version = api.1;
    match api {
        PRODUCE => {
            let request = ProduceRequest::decode(frame, version).unwrap();
            let mut response = ProduceResponse::default();
            for topic in &request.topic_data {
                let mut answered = TopicProduceResponse::default().with_name(topic.name.clone());
                for partition in &topic.partition_data {
                    let at = append(log, partition.index, partition.records.clone().unwrap());
                    let code = log.produce_code;
                    answered.partition_responses.push(
                        PartitionProduceResponse::default()
                            .with_index(partition.index)
                            .with_error_code(code)
                            .with_base_offset(if code == 0 { at } else { -1 }),
                    );
                }
                response.responses.push(answered);
            }
            response.encode(out, version).unwrap();
            request.acks != 0
        }
        FETCH => {
            let request = FetchRequest::decode(frame, version).unwrap();
            let mut response = FetchResponse::default();
            for topic in &request.topics {
                let mut answered = FetchableTopicResponse::default().with_topic(topic.topic.clone());
                for partition in &topic.partitions {
                    let batches = log.batches.get(&partition.partition).into_iter().flatten().enumerate();
                    // Two batches and a piece of the next: what a broker may cut off.
                    let wanted =
                        batches.filter(|&(at, (base, _))| *base >= partition.fetch_offset && log.lost != Some(at));
                    let mut records: Vec<u8> = wanted.take(3).flat_map(|(_, (_, batch))| batch.to_vec()).collect();
                    records.truncate(records.len().max(100) - 100);
                    if let Some((_, (_, only))) = log.batches[&partition.partition].iter().enumerate().last()
                        && records.len() < only.len()
                    {
                        records = only.to_vec();
                    }
                    answered.partitions.push(
                        PartitionData::default()
                            .with_partition_index(partition.partition)
                            .with_records(Some(Bytes::from(records))),
                    );
                }
                response.responses.push(answered);
            }
            response.encode(out, version).unwrap();
            true
        }
        LIST_OFFSETS => {
            let request = ListOffsetsRequest::decode(frame, version).unwrap();
            let mut response = ListOffsetsResponse::default();
            for topic in &request.topics {
                let mut answered = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
                for partition in &topic.partitions {
                    let end = log.ends.get(&partition.partition_index).copied().unwrap_or(0);
                    answered.partitions.push(
                        ListOffsetsPartitionResponse::default()
                            .with_partition_index(partition.partition_index)
                            .with_offset(if partition.timestamp == -1 { end } else { 0 }),
                    );
                }
                response.topics.push(answered);
            }
            response.encode(out, version).unwrap();
            true
        }
        METADATA => {
            let request = MetadataRequest::decode(frame, version).unwrap();
            let name = request.topics.unwrap()[0].name.clone();
            let partitions = (0..PARTITIONS)
                .map(|at| MetadataResponsePartition::default().with_partition_index(at).with_leader_id(BrokerId(1)));
            let topic = MetadataResponseTopic::default().with_name(name).with_partitions(partitions.collect());
            MetadataResponse::default().with_topics(vec![topic]).encode(out, version).unwrap();
            true
        }
        CREATE_TOPICS => {
            let request = CreateTopicsRequest::decode(frame, version).unwrap();
            assert_eq!((request.topics[0].num_partitions, request.topics[0].replication_factor), (PARTITIONS, 1));
            // Made already, which is as good.
            let topic = CreatableTopicResult::default().with_name(request.topics[0].name.clone()).with_error_code(36);
            CreateTopicsResponse::default().with_topics(vec![topic]).encode(out, version).unwrap();
            true
        }
        DELETE_TOPICS => {
            let request = DeleteTopicsRequest::decode(frame, version).unwrap();
            let topic =
                DeletableTopicResult::default().with_name(Some(request.topic_names[0].clone())).with_error_code(3);
            DeleteTopicsResponse::default().with_responses(vec![topic]).encode(out, version).unwrap();
            true
        }
        other => panic!("unexpected request {other:?}"),
    }
}

/// Appends a batch after the crate has decoded it, CRC included, and returns its base offset.
fn append(log: &mut Log, partition: i32, batch: Bytes) -> i64 {
    let decoded = RecordBatchDecoder::decode(&mut batch.clone()).unwrap();
    let end = log.ends.entry(partition).or_default();
    let base = *end;
    *end += i64::try_from(decoded.records.len()).unwrap();
    let mut bytes = batch.to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    log.batches.entry(partition).or_default().push((base, Bytes::from(bytes)));
    base
}

fn produce_plan(address: SocketAddr, acks: i16) -> produce::Plan {
    produce::Plan {
        address,
        topic: "load".into(),
        partitions: PARTITIONS,
        acks,
        connections: 2,
        in_flight: 3,
        batch_bytes: 4096,
        record_bytes: 100,
        total_bytes: 200_000,
        duration: Duration::ZERO,
        pid: Some(std::process::id()),
    }
}

fn fetch_plan(address: SocketAddr, expect_bytes: u64) -> fetch::Plan {
    fetch::Plan {
        address,
        topic: "load".into(),
        connections: 2,
        bytes_max: 1 << 20,
        partition_bytes_max: 1 << 20,
        passes: 2,
        expect_bytes: Some(expect_bytes),
        pid: None,
    }
}

#[test]
fn what_is_produced_is_fetched_and_counted() {
    let address = broker(Log::default());
    let produced = produce::run(&produce_plan(address, -1)).unwrap();
    assert!(produced.bytes >= 200_000 && produced.bytes == produced.records * 100, "{produced:?}");
    assert!(produced.server.is_some());
    let fetched = fetch::run(&fetch_plan(address, produced.batch_bytes)).unwrap();
    assert_eq!((fetched.batch_bytes, fetched.records), (2 * produced.batch_bytes, 2 * produced.records));
    assert!(fetch::run(&fetch_plan(address, produced.batch_bytes + 1)).is_err());
}

#[test]
fn produce_without_acks_counts_what_was_taken() {
    let address = broker(Log::default());
    let produced = produce::run(&produce_plan(address, 0)).unwrap();
    fetch::run(&fetch_plan(address, produced.batch_bytes)).unwrap();
}

#[test]
fn lost_batch_is_noticed() {
    let address = broker(Log { lost: Some(1), ..Log::default() });
    let produced = produce::run(&produce_plan(address, 1)).unwrap();
    let error = fetch::run(&fetch_plan(address, produced.batch_bytes)).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn error_codes_end_a_run() {
    let address = broker(Log { produce_code: 10, ..Log::default() });
    for acks in [1, -1] {
        let error = produce::run(&produce_plan(address, acks)).unwrap_err();
        assert!(matches!(error, Error::Code { api: "Produce", code: 10, .. }), "{error}");
    }
    let error = ready::wait(address, "load", Some(PARTITIONS), Duration::from_millis(100)).unwrap_err();
    assert!(error.to_string().contains("MESSAGE_TOO_LARGE"), "{error}");
    let deleted = admin::delete_topic(&mut connection::Connection::open(address).unwrap(), "load");
    assert!(matches!(deleted, Err(Error::Code { api: "DeleteTopics", code: 3, .. })));
}

#[test]
fn ready_and_ping_put_single_records() {
    let address = broker(Log::default());
    let (_, partitions) = ready::wait(address, "load", None, Duration::from_secs(5)).unwrap();
    assert_eq!(partitions, PARTITIONS);
    let plan = ping::Plan {
        address,
        topic: "load".into(),
        partitions: PARTITIONS,
        acks: -1,
        connections: 2,
        record_bytes: 64,
        count: 20,
        rate: 2000.0,
        pid: None,
    };
    assert_eq!(ping::run(&plan).unwrap().records, 40);
}

#[test]
fn walk_accepts_what_the_crate_encodes() {
    use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
    let record = |offset| Record {
        transactional: false,
        control: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: -1,
        timestamp: 1,
        key: None,
        value: Some(Bytes::from_static(b"value")),
        headers: Default::default(),
        delete_horizon: false,
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &[record(5), record(6)], &options).unwrap();
    let walked = walk(&bytes, 5).unwrap();
    assert_eq!((walked.records, walked.next_offset, walked.bytes), (2, 7, bytes.len() as u64));
}
