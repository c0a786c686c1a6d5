//! The generator against a broker in a few lines that speaks through the `kafka-protocol` crate, so that our hand-made frames
//! are read, and our hand-made parsers fed, by somebody else's code.

use super::batch::{Shape, walk};
use super::*;
use crate::load::phase::{Phase, Watch};
use crate::load::schedule::Rate;
use crate::load::{consumer, end_to_end, keys, producer};
use crate::scenario;
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
    /// Waits so long before it answers the Produce request of this number, everybody else waiting too.
    stall: Option<(u32, Duration)>,
    produced: u32,
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
    stream.set_nodelay(true).unwrap();
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
            log.produced += 1;
            if let Some((_, wait)) = log.stall.filter(|(nth, _)| *nth == log.produced) {
                std::thread::sleep(wait);
            }
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
                    let last = log.batches.get(&partition.partition).and_then(|batches| batches.last());
                    if let Some((base, only)) = last
                        && *base >= partition.fetch_offset
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

fn produce_plan(address: SocketAddr, acks: i16) -> producer::Plan {
    producer::Plan {
        partitions: PARTITIONS,
        acks,
        connections: 2,
        in_flight: 3,
        shape: Shape::plain(100, 4096),
        total_bytes: 200_000,
        ..producer::Plan::new(address, "load")
    }
}

fn produce(plan: &producer::Plan) -> Result<Phase, Error> {
    scenario::produce("produce", plan, &Watch { pid: Some(std::process::id()), ..Watch::default() })
}

fn consume(address: SocketAddr) -> Result<Phase, Error> {
    let plan = consumer::Plan { consumers: 2, passes: 2, ..consumer::Plan::new(address, "load") };
    scenario::consume("consume", &plan, &Watch::default())
}

#[test]
fn what_is_produced_is_fetched_and_counted() {
    let address = broker(Log::default());
    let produced = produce(&produce_plan(address, -1)).unwrap();
    let sent = produced.flows[0].counts;
    assert!(sent.bytes >= 200_000 && sent.bytes == sent.records * 100, "{sent:?}");
    assert_eq!(produced.flows[0].latencies, sent.requests);
    assert!(produced.cost.server.is_some());
    let read = consume(address).unwrap().flows[0].counts;
    assert_eq!((read.batch_bytes, read.records), (2 * sent.batch_bytes, 2 * sent.records));
}

#[test]
fn every_shape_of_load_is_counted() {
    let changes: [fn(&mut producer::Plan); 5] = [
        |plan| plan.acks = 0,
        |plan| plan.stamp = true,
        |plan| plan.keys = keys::Distribution::Zipf,
        |plan| (plan.partitions_a_request, plan.threads) = (3, 2),
        |plan| (plan.rate, plan.connections, plan.owned) = (Rate::Bytes(2e6), 3, true),
    ];
    for change in changes {
        let address = broker(Log::default());
        let mut plan = produce_plan(address, -1);
        change(&mut plan);
        let sent = produce(&plan).unwrap().flows[0].counts;
        let read = consume(address).unwrap().flows[0].counts;
        assert_eq!((read.batch_bytes, read.records), (2 * sent.batch_bytes, 2 * sent.records), "{plan:?}");
    }
}

/// A broker that stops for a second: in an open loop, all that was due in that second was late, and says so.
#[test]
fn stalled_broker_shows_in_the_percentiles_of_an_open_loop() {
    let stalled = Log { stall: Some((50, Duration::from_secs(1))), ..Log::default() };
    let plan = producer::Plan {
        shape: Shape { records: Some(1), ..Shape::plain(100, 0) },
        rate: Rate::Records(200.0),
        total_bytes: 0,
        duration: Duration::from_secs(3),
        ..produce_plan(broker(stalled), -1)
    };
    let open = produce(&plan).unwrap();
    let flow = &open.flows[0];
    assert_eq!((flow.counts.records, flow.latencies), (600, 600));
    // A third of the requests were due in that second, so that the slowest tenth waited for 0.7 s at least.
    let latency = flow.latency;
    assert!(latency.max_us > 0.95e6 && latency.p99_us > 0.9e6 && latency.p90_us > 0.5e6, "{latency:?}");
    let slow = flow.over_time.iter().filter(|second| second.latency.max_us > 0.5e6).count();
    assert!((1..=2).contains(&slow), "{:?}", flow.over_time);

    // The same stall in a closed loop hits the few requests that were in flight.
    let stalled = Log { stall: Some((50, Duration::from_secs(1))), ..Log::default() };
    let plan = producer::Plan { rate: Rate::Closed, address: broker(stalled), ..plan };
    let latency = produce(&plan).unwrap().flows[0].latency;
    assert!(latency.max_us > 0.95e6 && latency.p90_us < 0.5e6, "{latency:?}");
}

/// What was due while the broker stopped goes out in a few batches, as a client would send it; each record keeps its own latency.
#[test]
fn late_records_join_and_each_counts_from_when_it_was_due() {
    for (stamp, partitions_a_request) in [(false, 1), (true, 2)] {
        let address = broker(Log { stall: Some((50, Duration::from_secs(1))), ..Log::default() });
        let plan = producer::Plan {
            shape: Shape { records: Some(1), ..Shape::plain(100, 2048) },
            rate: Rate::Records(200.0 * partitions_a_request as f64),
            total_bytes: 0,
            duration: Duration::from_secs(2),
            in_flight: 2,
            stamp,
            partitions_a_request,
            ..produce_plan(address, -1)
        };
        let open = produce(&plan).unwrap();
        let flow = &open.flows[0];
        let sent = flow.counts;
        assert_eq!((sent.records, flow.latencies), (400 * partitions_a_request as u64, 400));
        assert!(sent.requests < 260, "those of the stall went out in a few: {sent:?}");
        assert!(flow.latency.max_us > 0.95e6 && flow.latency.p90_us > 0.7e6, "{:?}", flow.latency);
        let read = consume(address).unwrap().flows[0].counts;
        assert_eq!((read.batch_bytes, read.records), (2 * sent.batch_bytes, 2 * sent.records));
    }
}

#[test]
fn end_to_end_counts_from_when_a_record_was_due() {
    for (rate, batch_bytes) in [(Rate::Records(300.0), 0), (Rate::Records(300.0), 1000), (Rate::Closed, 0)] {
        let address = broker(Log { stall: Some((20, Duration::from_millis(500))), ..Log::default() });
        let plan = producer::Plan {
            shape: Shape { records: Some(1), ..Shape::plain(100, batch_bytes) },
            rate,
            connections: 1,
            owned: true,
            total_bytes: 30_000,
            ..produce_plan(address, -1)
        };
        let phase = end_to_end::end_to_end(&plan, &consumer::Plan::new(address, "load"), &Watch::default()).unwrap();
        let flow = phase.flow("consume").unwrap();
        assert_eq!((flow.counts.records, flow.latencies), (300, 300));
        assert!(flow.latency.max_us > 0.45e6, "{:?}", flow.latency);
    }
}

#[test]
fn lost_batch_is_noticed() {
    let address = broker(Log { lost: Some(1), ..Log::default() });
    produce(&produce_plan(address, 1)).unwrap();
    let error = consume(address).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn error_codes_end_a_run() {
    let address = broker(Log { produce_code: 10, ..Log::default() });
    for acks in [1, -1] {
        let error = produce(&produce_plan(address, acks)).unwrap_err();
        assert!(matches!(error, Error::Code { api: "Produce", code: 10, .. }), "{error}");
        assert!(error.to_string().contains("load-"), "{error}");
    }
    let error = ready::wait(address, "load", Some(PARTITIONS), Duration::from_millis(100)).unwrap_err();
    assert!(error.to_string().contains("MESSAGE_TOO_LARGE"), "{error}");
    let deleted = admin::delete_topic(&mut connection::Connection::open(address).unwrap(), "load");
    assert!(matches!(deleted, Err(Error::Code { api: "DeleteTopics", code: 3, .. })));
}

#[test]
fn nobody_there_is_an_error_that_names_the_address() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = produce(&produce_plan(address, -1)).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let plan = producer::Plan { total_bytes: 0, ..produce_plan(broker(Log::default()), -1) };
    assert!(produce(&plan).unwrap_err().to_string().contains("how long"));
}

#[test]
fn ready_puts_single_records() {
    let address = broker(Log::default());
    let (_, partitions) = ready::wait(address, "load", None, Duration::from_secs(5)).unwrap();
    assert_eq!(partitions, PARTITIONS);
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
    let walked = walk(&bytes, 5, |_| {}).unwrap();
    assert_eq!((walked.records, walked.next_offset, walked.bytes), (2, 7, bytes.len() as u64));
}
