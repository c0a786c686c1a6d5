//! What clients see when the engine is busy, the disk full, or the medium broken.

mod harness;

use harness::{Client, Server, batch, engine_options, name};
use headwater_engine::env::sim::{self, FaultOp};
use headwater_engine::{Drive, Engine, NewTopic, Offset, Options as EngineOptions};
use headwater_protocol_kafka::Options;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use std::time::Duration;

fn produce() -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(batch(&["a record"])));
    let topic = TopicProduceData::default().with_name(name("orders").into()).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![topic])
}

/// Error and base offset.
async fn answer(client: &mut Client, id: i32) -> (i16, i64) {
    let answer = client.receive::<ProduceRequest>(9, id).await;
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

async fn with_orders(server: &Server, drive: &mut Drive) {
    let pending =
        server.engine.create_topic(NewTopic { name: "orders".to_owned(), partitions: 1, ..Default::default() });
    while drive.commit().unwrap() {}
    pending.await.unwrap();
}

fn small_queue(busy_wait_max: Duration) -> (Server, Drive) {
    let (env, ..) = sim::env(1);
    let engine = Engine::open(env, EngineOptions { queued_commands_max: 4, ..engine_options() }).unwrap();
    let mut options = Options::default();
    options.limits.busy_wait_max = busy_wait_max;
    let server = Server::around(engine, options, false);
    let drive = server.engine.drive().unwrap();
    (server, drive)
}

#[tokio::test]
async fn a_busy_engine_is_waited_for_and_then_answered_with_a_retriable_error() {
    let (server, mut drive) = small_queue(Duration::from_millis(100));
    with_orders(&server, &mut drive).await;
    let mut client = server.connect();
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(client.send(9, &produce()).await);
    }
    // The fourth command is a segment's or the fourth batch; in any case the queue is full before the sixth.
    tokio::time::sleep(Duration::from_millis(400)).await;
    while drive.commit().unwrap() {}
    let mut answers = Vec::new();
    for id in ids {
        answers.push(answer(&mut client, id).await);
    }
    let taken = answers.iter().take_while(|(code, _)| *code == 0).count();
    assert!((1..6).contains(&taken), "{answers:?}");
    assert!(answers[taken..].iter().all(|&answer| answer == (7, -1)), "{answers:?}");
    let id = client.send(9, &produce()).await;
    let (waited, ()) = tokio::join!(answer(&mut client, id), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        while drive.commit().unwrap() {}
    });
    assert_eq!(waited, (0, taken as i64), "there is room again, and nothing was queued for the refused ones");
}

#[tokio::test]
async fn batches_keep_their_order_when_the_engine_makes_them_wait() {
    let (server, mut drive) = small_queue(Duration::from_secs(20));
    with_orders(&server, &mut drive).await;
    let mut client = server.connect();
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(client.send(9, &produce()).await);
    }
    let mut offset = 0;
    for id in ids {
        loop {
            tokio::select! {
                answer = answer(&mut client, id) => {
                    assert_eq!(answer, (0, offset), "in the order in which they were sent");
                    offset += 1;
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(10)) => while drive.commit().unwrap() {},
            }
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_producers_and_serves_consumers() {
    let (env, disk, _) = sim::env(1);
    let engine = Engine::open(env, EngineOptions { disk_reserve_bytes: 1 << 20, ..engine_options() }).unwrap();
    let server = Server::around(engine, Options::default(), false);
    let mut drive = server.engine.drive().unwrap();
    with_orders(&server, &mut drive).await;
    let mut client = server.connect();
    let id = client.send(9, &produce()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    while drive.commit().unwrap() {}
    assert_eq!(answer(&mut client, id).await, (0, 0));
    disk.set_capacity(0);
    drive.tend().unwrap();
    let id = client.send(9, &produce()).await;
    assert_eq!(answer(&mut client, id).await, (56, -1));
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name("orders").into()).with_partitions(vec![partition]);
    let fetched = client.call(9, &FetchRequest::default().with_topics(vec![topic])).await;
    let data = &fetched.responses[0].partitions[0];
    assert_eq!((data.error_code, data.records.as_ref().map(bytes::Bytes::len)), (0, Some(batch(&["a record"]).len())));
    disk.set_capacity(1 << 40);
    drive.tend().unwrap();
    let id = client.send(9, &produce()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    while drive.commit().unwrap() {}
    assert_eq!(answer(&mut client, id).await, (0, 1));
}

#[tokio::test]
async fn a_broken_medium_answers_nothing_and_closes() {
    let (env, disk, _) = sim::env(1);
    let engine = Engine::open(env, engine_options()).unwrap();
    let server = Server::around(engine, Options::default(), false);
    let mut drive = server.engine.drive().unwrap();
    with_orders(&server, &mut drive).await;
    let mut client = server.connect();
    client.send(9, &produce()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    disk.inject_eio(FaultOp::Write, 1, |_| true);
    let mut failed = false;
    for _ in 0..100 {
        failed |= drive.commit().is_err();
    }
    assert!(failed && server.engine.failure().is_some());
    // The server ends the process now. Whatever happens before it does, the batch is not acknowledged.
    drop(drive);
    assert!(client.is_closed().await);
    let log = server.engine.topic("orders").unwrap().partition(0).unwrap();
    assert_eq!(log.bounds().high_watermark, Offset(0));
    let mut late = server.connect();
    late.send(9, &produce()).await;
    assert!(late.is_closed().await);
}
