//! Over a real socket and a real disk: large ranges of records never enter user space on their way out, small ones are read and
//! sent with what is around them; and connections are bounded.

mod harness;

use bytes::{Bytes, BytesMut};
use harness::{batch, decode, frame, name};
use headwater_engine::env::Env;
use headwater_engine::{Engine, NewTopic, Options as EngineOptions};
use headwater_protocol::{Phase, Trigger};
use headwater_protocol_kafka::{Options, metrics, serve};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProduceRequest, ProduceResponse};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn call(stream: &mut TcpStream, frame: &Bytes) -> Bytes {
    stream.write_all(frame).await.unwrap();
    let size = stream.read_i32().await.unwrap();
    let mut answer = vec![0; size as usize];
    stream.read_exact(&mut answer).await.unwrap();
    answer.into()
}

/// Fetches until each partition answers with records: what was gathered in memory is brought to its file by the first read,
/// and an answer waits for a bounded number of those.
async fn fetch_all(stream: &mut TcpStream, request: &FetchRequest) -> Vec<Bytes> {
    for _ in 0..10 {
        let answer = decode::<FetchResponse>(call(stream, &frame(1, 12, 2, request)).await, 12, 2);
        let partitions = &answer.responses[0].partitions;
        let records: Vec<Bytes> = partitions.iter().map(|data| data.records.clone().unwrap_or_default()).collect();
        if records.iter().all(|bytes| !bytes.is_empty()) {
            return records;
        }
    }
    panic!("partitions without records");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_ranges_go_from_disk_to_socket_by_sendfile() {
    let folder = tempfile::tempdir().unwrap();
    let env = Env::real(folder.path()).unwrap();
    let options = EngineOptions { disk_reserve_bytes: 0, ..EngineOptions::new(folder.path().to_owned()) };
    let engine = Engine::open(env, options).unwrap();
    engine.start().unwrap();
    engine.create_topic(NewTopic { name: "orders".to_owned(), partitions: 2, ..Default::default() }).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, shutdown) = Trigger::new();
    let counters = Arc::new(metrics());
    let mut options = Options::default();
    options.limits.connections_max = 3;
    let server = tokio::spawn(serve(listener, engine.clone(), options, counters.clone(), shutdown));

    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut sent = 0;
    for number in 0..40u32 {
        let records = batch(&[&format!("{number}").repeat(30_000)]);
        sent += records.len() as u64;
        let partition = PartitionProduceData::default().with_index((number % 2) as i32).with_records(Some(records));
        let topic = TopicProduceData::default().with_name(name("orders").into()).with_partition_data(vec![partition]);
        let request = ProduceRequest::default().with_acks(1).with_timeout_ms(1_000).with_topic_data(vec![topic]);
        let answer = decode::<ProduceResponse>(call(&mut stream, &frame(0, 9, 1, &request)).await, 9, 1);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    let partitions =
        [0, 1].map(|index| FetchPartition::default().with_partition(index).with_partition_max_bytes(10 << 20));
    let topic = FetchTopic::default().with_topic(name("orders").into()).with_partitions(partitions.to_vec());
    let request = FetchRequest::default().with_max_bytes(10 << 20).with_topics(vec![topic]);
    fetch_all(&mut stream, &request).await;
    let before = counters.snapshot();
    let records = fetch_all(&mut stream, &request).await;
    assert_eq!(records.iter().map(|bytes| bytes.len() as u64).sum::<u64>(), sent);
    for bytes in &records {
        assert_eq!(headwater_engine::batch::headers(bytes).count(), 20);
        for (position, header) in headwater_engine::batch::headers(bytes) {
            headwater_engine::batch::verify_crc(&bytes[position..position + header.size]).unwrap();
        }
    }
    let snapshot = counters.snapshot();
    assert_eq!(snapshot.bytes_sent_sendfile - before.bytes_sent_sendfile, sent, "every record byte went by sendfile");
    assert_eq!((snapshot.bytes_sent_mapped, snapshot.bytes_sent_copied), (0, 0));
    assert!(snapshot.bytes_sent_memory < 10_000, "the rest is heads and answers");

    // One connection more than the bound is closed at once; those that are open are unharmed.
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(TcpStream::connect(address).await.unwrap());
    }
    let mut closed = 0;
    for other in &mut others {
        let mut byte = [0];
        let read = tokio::time::timeout(std::time::Duration::from_millis(300), other.read(&mut byte)).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert_eq!(closed, 3, "two more fit beside the first");
    call(&mut stream, &frame(1, 12, 2, &request)).await;

    trigger.advance(Phase::Draining);
    server.await.unwrap().unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(counters.snapshot().connections_open, 0);
    engine.shut_down().unwrap();
}

/// Of a client that asks for many answers before it reads the first, each write takes only a part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_ranges_are_sent_with_what_is_around_them() {
    const PARTITIONS: i32 = 100;
    const ANSWERS: i32 = 40;
    let folder = tempfile::tempdir().unwrap();
    let env = Env::real(folder.path()).unwrap();
    let options = EngineOptions { disk_reserve_bytes: 0, ..EngineOptions::new(folder.path().to_owned()) };
    let engine = Engine::open(env, options).unwrap();
    engine.start().unwrap();
    engine.create_topic(NewTopic { name: "orders".to_owned(), partitions: 100, ..Default::default() }).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, shutdown) = Trigger::new();
    let counters = Arc::new(metrics());
    let server = tokio::spawn(serve(listener, engine.clone(), Options::default(), counters.clone(), shutdown));

    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut produced, mut small, mut large) = (Vec::new(), 0, 0);
    let produce = (0..PARTITIONS).map(|index| {
        // Most have a few KiB; some as much as is just small, some more, in between.
        let records = batch(&[&"x".repeat(match index % 10 {
            3 => 32_000,
            7 => 40_000,
            _ => 40 * (index as usize + 1),
        })]);
        *(if records.len() <= 32 << 10 { &mut small } else { &mut large }) += records.len() as u64;
        produced.push(records.clone());
        PartitionProduceData::default().with_index(index).with_records(Some(records))
    });
    let topic =
        TopicProduceData::default().with_name(name("orders").into()).with_partition_data(produce.collect::<Vec<_>>());
    let request = ProduceRequest::default().with_acks(1).with_timeout_ms(1_000).with_topic_data(vec![topic]);
    decode::<ProduceResponse>(call(&mut stream, &frame(0, 9, 1, &request)).await, 9, 1);

    let partitions = (0..PARTITIONS)
        .map(|index| FetchPartition::default().with_partition(index).with_partition_max_bytes(64 << 10))
        .collect::<Vec<_>>();
    let topic = FetchTopic::default().with_topic(name("orders").into()).with_partitions(partitions);
    let request = FetchRequest::default().with_max_bytes(10 << 20).with_topics(vec![topic]);
    fetch_all(&mut stream, &request).await;
    let before = counters.snapshot();
    let mut requests = BytesMut::new();
    for number in 0..ANSWERS {
        requests.extend_from_slice(&frame(1, 12, number, &request));
    }
    let (mut read, mut write) = stream.split();
    let receive = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        for number in 0..ANSWERS {
            let size = read.read_i32().await.unwrap();
            let mut answer = vec![0; size as usize];
            read.read_exact(&mut answer).await.unwrap();
            let answer = decode::<FetchResponse>(answer.into(), 12, number);
            for data in &answer.responses[0].partitions {
                // The server writes the leader's epoch and the base offset, outside of what the CRC covers.
                let records = data.records.as_ref().unwrap();
                let sent = &produced[data.partition_index as usize];
                assert_eq!(records.len(), sent.len());
                assert!(records[16..] == sent[16..], "answer {number}, partition {}", data.partition_index);
            }
            assert_eq!(answer.responses[0].partitions.len(), PARTITIONS as usize);
        }
    };
    let (sent, ()) = tokio::join!(write.write_all(&requests), receive);
    sent.unwrap();

    let snapshot = counters.snapshot();
    let times = ANSWERS as u64;
    assert_eq!(snapshot.bytes_sent_mapped, 0);
    assert_eq!(snapshot.bytes_sent_copied - before.bytes_sent_copied, times * small, "small ranges are read and sent");
    assert_eq!(snapshot.bytes_sent_sendfile - before.bytes_sent_sendfile, times * large, "large ones go by sendfile");
    trigger.advance(Phase::Draining);
    server.await.unwrap().unwrap();
    engine.shut_down().unwrap();
}
