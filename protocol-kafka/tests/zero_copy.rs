//! Over a real socket and a real disk, record bytes never enter user space on their way out; and connections are bounded.

mod harness;

use bytes::Bytes;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_go_from_disk_to_socket_by_sendfile() {
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
    let answer = decode::<FetchResponse>(call(&mut stream, &frame(1, 12, 2, &request)).await, 12, 2);
    let records: Vec<Bytes> = answer.responses[0].partitions.iter().map(|data| data.records.clone().unwrap()).collect();
    assert_eq!(records.iter().map(|bytes| bytes.len() as u64).sum::<u64>(), sent);
    for bytes in &records {
        assert_eq!(headwater_engine::batch::headers(bytes).count(), 20);
        for (position, header) in headwater_engine::batch::headers(bytes) {
            headwater_engine::batch::verify_crc(&bytes[position..position + header.size]).unwrap();
        }
    }
    let snapshot = counters.snapshot();
    assert_eq!(snapshot.bytes_sent_sendfile, sent, "every record byte went by sendfile");
    assert_eq!(snapshot.bytes_sent_mapped, 0);
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
