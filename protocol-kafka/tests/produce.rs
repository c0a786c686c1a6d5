//! Produce through a connection: every version, every answer of the acceptance table, order, pipelining.

mod harness;

use bytes::Bytes;
use harness::{Client, Server, batch, batch_with, compressed, idempotent, name, versions};
use headwater_engine::batch::Codec;
use headwater_engine::{Offset, TimestampMs, Topic};
use headwater_protocol_kafka::Options;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, DescribeProducersRequest, InitProducerIdRequest, ProduceRequest};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;
use uuid::Uuid;

fn request(version: i16, topic: &Topic, acks: i16, batches: Vec<(i32, Option<Bytes>)>) -> ProduceRequest {
    let partitions = batches
        .into_iter()
        .map(|(index, records)| PartitionProduceData::default().with_index(index).with_records(records));
    let mut data = TopicProduceData::default().with_partition_data(partitions.collect());
    data = if version >= 13 {
        data.with_topic_id(Uuid::from_bytes(topic.id().0))
    } else {
        data.with_name(name(topic.name()).into())
    };
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1_000).with_topic_data(vec![data])
}

async fn produce(client: &mut Client, version: i16, request: &ProduceRequest) -> Vec<PartitionProduceResponse> {
    let mut answer = client.call(version, request).await;
    assert_eq!(answer.responses.len(), 1);
    answer.responses.remove(0).partition_responses
}

#[tokio::test]
async fn every_version_appends_and_answers_each_partition_by_itself() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 2, &[]).await;
    let mut client = server.connect();
    for (round, version) in versions(ApiKey::Produce).enumerate() {
        let batches = vec![(1, Some(batch(&["a", "b"]))), (9, Some(batch(&["c"]))), (0, Some(batch(&["d"])))];
        let answers = produce(&mut client, version, &request(version, &topic, -1, batches)).await;
        let facts: Vec<_> =
            answers.iter().map(|answer| (answer.index, answer.error_code, answer.base_offset)).collect();
        assert_eq!(facts, [(1, 0, 2 * round as i64), (9, 3, -1), (0, 0, round as i64)], "version {version}");
        assert_eq!(answers[0].log_append_time_ms, -1);
        assert_eq!(answers[0].log_start_offset, if version >= 5 { 0 } else { -1 });
        let high_watermark = topic.partition(1).unwrap().bounds().high_watermark;
        assert_eq!(high_watermark, Offset(2 * (round as i64 + 1)), "answered, so durable and readable");
    }
}

#[tokio::test]
async fn every_codec_is_taken() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    for codec in Codec::ALL {
        let answers =
            produce(&mut client, 11, &request(11, &topic, 1, vec![(0, Some(compressed(codec, &["x"; 50])))])).await;
        assert_eq!((answers[0].error_code, &answers[0].error_message), (0, &None), "{codec:?}");
    }
    assert_eq!(topic.partition(0).unwrap().bounds().high_watermark, Offset(250));
}

/// What a bad batch gets, in version 11: error, record index if one is named.
#[tokio::test]
async fn bad_batches_get_the_errors_of_the_reference() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[]).await;
    let other = server.topic("small", 1, &[("max.message.bytes", "100")]).await;
    let mut client = server.connect();
    let change = |at: usize, to: u8| {
        let mut bytes = batch(&["a", "b"]).to_vec();
        bytes[at] = to;
        Bytes::from(bytes)
    };
    let twice = Bytes::from([batch(&["a"]), batch(&["b"])].concat());
    let late = {
        let mut builder = headwater_engine::batch::BatchBuilder::new();
        for lead_ms in [0, 3 * 3_600_000] {
            let time = TimestampMs(server.engine.clock().wall().0 + lead_ms);
            builder.push(time, None, Some(b"v"), &[]).unwrap();
        }
        builder.finish().unwrap()
    };
    let transactional =
        batch_with(&["a"], |builder| builder.producer(headwater_engine::ProducerId(5), 0, 0).transactional(true));
    let cases = [
        ("bad CRC", &topic, Some(change(17, 0xaa)), 2, None),
        ("magic above 2", &topic, Some(change(16, 3)), 2, None),
        ("magic 1", &topic, Some(change(16, 1)), 87, None),
        ("no batch", &topic, None, 87, None),
        ("no bytes", &topic, Some(Bytes::new()), 87, None),
        ("two batches", &topic, Some(twice), 87, None),
        ("too large", &other, Some(batch(&["x".repeat(200).as_str()])), 10, None),
        ("too far ahead", &topic, Some(late), 32, Some(1)),
        ("transactional without an id", &topic, Some(transactional.clone()), 53, None),
    ];
    for (what, topic, records, code, record) in cases {
        let answers = produce(&mut client, 11, &request(11, topic, -1, vec![(0, records.clone())])).await;
        assert_eq!((answers[0].error_code, answers[0].base_offset), (code, -1), "{what}");
        assert_eq!(answers[0].record_errors.first().map(|error| error.batch_index), record, "{what}");
        // Before version 8 there is no room for a message, and encoding one must not fail.
        let old = produce(&mut client, 7, &request(7, topic, -1, vec![(0, records)])).await;
        assert_eq!(old[0].error_code, code, "{what}");
    }
    let in_transaction = request(11, &topic, -1, vec![(0, Some(transactional))])
        .with_transactional_id(Some(StrBytes::from_static_str("t").into()));
    assert_eq!(produce(&mut client, 11, &in_transaction).await[0].error_code, 48);
    assert_eq!(topic.partition(0).unwrap().bounds().high_watermark, Offset(0), "nothing of this was kept");
}

#[tokio::test]
async fn acks_out_of_range_refuse_every_partition() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    for acks in [2, -2] {
        let answers =
            produce(&mut client, 9, &request(9, &topic, acks, vec![(0, Some(batch(&["a"]))), (1, None)])).await;
        assert!(answers.iter().all(|answer| (answer.error_code, answer.base_offset) == (21, -1)), "acks={acks}");
    }
}

#[tokio::test]
async fn unknown_topics_are_told_by_name_and_by_id() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    let data = |topic: TopicProduceData| {
        let partition = PartitionProduceData::default().with_records(Some(batch(&["a"])));
        ProduceRequest::default().with_acks(1).with_topic_data(vec![topic.with_partition_data(vec![partition])])
    };
    let by_name = data(TopicProduceData::default().with_name(name("nowhere").into()));
    assert_eq!(produce(&mut client, 12, &by_name).await[0].error_code, 3);
    let by_id = data(TopicProduceData::default().with_topic_id(Uuid::from_u128(7)));
    assert_eq!(produce(&mut client, 13, &by_id).await[0].error_code, 100);
}

#[tokio::test]
async fn a_producer_without_acks_hears_nothing_and_is_cut_off_on_an_error() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    client.send(9, &request(9, &topic, 0, vec![(0, Some(batch(&["a"])))])).await;
    let answers = produce(&mut client, 9, &request(9, &topic, 1, vec![(0, Some(batch(&["b"])))])).await;
    assert_eq!(answers[0].base_offset, 1, "the first was taken, in order, and not answered");
    client.send(9, &request(9, &topic, 0, vec![(5, Some(batch(&["c"])))])).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn versions_below_three_close_the_connection() {
    let server = Server::start(Options::default());
    for version in 0..3 {
        let mut client = server.connect();
        let mut frame = harness::frame(0, 3, 1, &ProduceRequest::default()).to_vec();
        frame[7] = version;
        tokio::io::AsyncWriteExt::write_all(&mut client.io, &frame).await.unwrap();
        assert!(client.is_closed().await, "version {version}");
    }
}

#[tokio::test]
async fn an_idempotent_producer_gets_the_first_offset_for_a_repeat() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    let id = client.call(4, &idempotent_producer()).await;
    assert_eq!((id.error_code, id.producer_epoch), (0, 0));
    let producer = id.producer_id.0;
    let mut send = async |epoch, sequence, values: &[&str]| {
        let records = Some(idempotent(producer, epoch, sequence, values));
        let answers = produce(&mut client, 11, &request(11, &topic, -1, vec![(0, records)])).await;
        (answers[0].error_code, answers[0].base_offset)
    };
    for sequence in 0..6 {
        assert_eq!(send(0, sequence, &["a"]).await, (0, i64::from(sequence)));
    }
    for sequence in 1..6 {
        assert_eq!(send(0, sequence, &["a"]).await, (0, i64::from(sequence)), "one of the last five, again");
    }
    assert_eq!(send(0, 8, &["a"]).await, (45, -1), "a gap");
    assert_eq!(send(1, 0, &["a"]).await, (0, 6), "a new epoch begins anew");
    assert_eq!(send(0, 6, &["a"]).await, (47, -1), "the old epoch is over");

    let asked = TopicRequest::default().with_name(name("orders").into()).with_partition_indexes(vec![0, 0]);
    let answer = client.call(0, &DescribeProducersRequest::default().with_topics(vec![asked])).await;
    for partition in &answer.topics[0].partitions {
        assert_eq!((partition.error_code, partition.active_producers.len()), (0, 1));
        let known = &partition.active_producers[0];
        assert_eq!((known.producer_id.0, known.producer_epoch, known.last_sequence), (producer, 1, 0));
        assert!(known.last_timestamp > 0 && known.coordinator_epoch == -1 && known.current_txn_start_offset == -1);
    }
}

fn idempotent_producer() -> InitProducerIdRequest {
    InitProducerIdRequest::default().with_transactional_id(None)
}

#[tokio::test]
async fn init_producer_id_answers_as_the_reference() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    let mut ids = Vec::new();
    for version in versions(ApiKey::InitProducerId) {
        let answer = client.call(version, &idempotent_producer()).await;
        assert_eq!((answer.error_code, answer.producer_epoch), (0, 0), "version {version}");
        ids.push(answer.producer_id.0);
    }
    ids.dedup();
    assert_eq!(ids.len(), versions(ApiKey::InitProducerId).count(), "each id is new");
    let transactional = |id: &'static str, timeout_ms| {
        InitProducerIdRequest::default()
            .with_transactional_id(Some(StrBytes::from_static_str(id).into()))
            .with_transaction_timeout_ms(timeout_ms)
    };
    for (request, code) in [
        (transactional("t", 900_001), 50),
        (transactional("", 1), 42),
        (transactional("t", 60_000), 15),
        (idempotent_producer().with_producer_id(5.into()), 42),
    ] {
        let answer = client.call(5, &request).await;
        assert_eq!((answer.error_code, answer.producer_id.0, answer.producer_epoch), (code, -1, -1), "{request:?}");
    }
}

#[tokio::test]
async fn log_append_time_is_answered() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let mut client = server.connect();
    let answers = produce(&mut client, 9, &request(9, &topic, -1, vec![(0, Some(batch(&["a"])))])).await;
    assert_eq!(answers[0].log_append_time_ms, server.engine.clock().wall().0);
}

/// The engine is moved by hand here, so nothing is durable before the test says so.
#[tokio::test]
async fn requests_sent_ahead_are_queued_at_once_and_answered_in_order_when_durable() {
    let (server, mut drive) = Server::by_hand(Options::default());
    let pending = server.engine.create_topic(headwater_engine::NewTopic {
        name: "orders".to_owned(),
        partitions: 1,
        ..Default::default()
    });
    while drive.commit().unwrap() {}
    let topic = pending.await.unwrap();
    let mut client = server.connect();
    let mut ids = Vec::new();
    for number in 0..10 {
        // The error in the middle needs no medium, and must wait for its turn all the same.
        let partition = if number == 4 { 3 } else { 0 };
        let records = Some(batch(&[&number.to_string()]));
        ids.push(client.send(9, &request(9, &topic, 1, vec![(partition, records)])).await);
    }
    // ApiVersions is no Produce: it waits until all of them are answered.
    let versions_id = client.send(3, &api_versions()).await;
    let mut waited = Box::pin(client.receive_frame());
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waited).await.is_err(), "nothing is durable yet");
    drop(waited);
    assert_eq!(server.engine.stats().appended_batches, 0);
    while drive.commit().unwrap() {}
    let mut offset = 0;
    for (number, id) in ids.into_iter().enumerate() {
        let answer = client.receive::<ProduceRequest>(9, id).await;
        let partition = &answer.responses[0].partition_responses[0];
        if number == 4 {
            assert_eq!(partition.error_code, 3);
        } else {
            assert_eq!((partition.error_code, partition.base_offset), (0, offset));
            offset += 1;
        }
    }
    client.receive::<kafka_protocol::messages::ApiVersionsRequest>(3, versions_id).await;
}

fn api_versions() -> kafka_protocol::messages::ApiVersionsRequest {
    kafka_protocol::messages::ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("harness"))
        .with_client_software_version(StrBytes::from_static_str("1"))
}

#[tokio::test]
async fn a_connection_queues_no_more_than_its_bound() {
    let mut options = Options::default();
    options.limits.pending_requests_max = 3;
    let (server, mut drive) = Server::by_hand(options);
    let pending = server.engine.create_topic(headwater_engine::NewTopic {
        name: "orders".to_owned(),
        partitions: 1,
        ..Default::default()
    });
    while drive.commit().unwrap() {}
    let topic = pending.await.unwrap();
    let mut client = server.connect();
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(client.send(9, &request(9, &topic, 1, vec![(0, Some(batch(&["a"])))])).await);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    while drive.commit().unwrap() {}
    assert_eq!(topic.partition(0).unwrap().bounds().high_watermark, Offset(3), "three were queued");
    for id in ids {
        loop {
            tokio::select! {
                answer = client.receive::<ProduceRequest>(9, id) => {
                    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => while drive.commit().unwrap() {},
            }
        }
    }
    assert_eq!(topic.partition(0).unwrap().bounds().high_watermark, Offset(10));
}

/// Inflating a batch took a tenth of a second of the thread that serves all the other connections, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn batches_that_inflate_to_much_do_not_hold_up_other_clients() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[]).await;
    let plain = server.topic("plain", 1, &[("compression.type", "uncompressed")]).await;
    let zeros = "0".repeat(60 << 20);
    let heavy = compressed(Codec::Zstd, &[&zeros]);
    assert!(heavy.len() < 100_000, "{} bytes", heavy.len());
    let bomb = compressed(Codec::Zstd, &[&zeros, &zeros]);
    let begun = tokio::time::Instant::now();
    let mut waiting = Vec::new();
    for (topic, batch, code) in [(&topic, &heavy, 0), (&plain, &heavy, 10), (&topic, &bomb, 10)].repeat(4) {
        let mut client = server.connect();
        let id = client.send(11, &request(11, topic, -1, vec![(0, Some(batch.clone()))])).await;
        waiting.push(async move {
            let answer = client.receive::<ProduceRequest>(11, id).await;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, code);
        });
    }
    let mut other = server.connect();
    produce(&mut other, 11, &request(11, &topic, -1, vec![(0, Some(batch(&["small"])))])).await;
    let other = begun.elapsed();
    for one in waiting {
        one.await;
    }
    let all = begun.elapsed();
    assert!(other * 4 < all, "a small batch took {other:?}, the heavy ones {all:?}");
}
