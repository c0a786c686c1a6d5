//! Incremental fetch sessions (KIP-227) through connections.

mod harness;

use harness::{Client, Server, batch, name};
use headwater_engine::batch::{Rules, check};
use headwater_engine::{Partition, TimestampMs, Topic};
use headwater_protocol_kafka::Options;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const V: i16 = 12;

/// Positions by partition.
fn request(session: (i32, i32), topic: &Topic, positions: &[(i32, i64)]) -> FetchRequest {
    let partitions = positions.iter().map(|&(index, from)| {
        FetchPartition::default().with_partition(index).with_fetch_offset(from).with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default().with_topic(name(topic.name()).into()).with_partitions(partitions.collect());
    let topics = if positions.is_empty() { vec![] } else { vec![topic] };
    FetchRequest::default()
        .with_session_id(session.0)
        .with_session_epoch(session.1)
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_topics(topics)
}

/// Partition, error, bytes of records: of what the answer names.
fn facts(answer: &FetchResponse) -> Vec<(i32, i16, usize)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|data| (data.partition_index, data.error_code, data.records.as_ref().map_or(0, |bytes| bytes.len())))
        .collect()
}

async fn append(server: &Server, partition: &Arc<Partition>) -> usize {
    let bytes = batch(&["a record"]);
    let size = bytes.len();
    let batch = check(bytes, &Rules::new(TimestampMs(1))).unwrap();
    let ack = server.engine.ack();
    partition.append(&batch, &ack).unwrap();
    ack.wait().await.unwrap();
    size
}

async fn open(client: &mut Client, topic: &Topic, positions: &[(i32, i64)]) -> i32 {
    let answer = client.call(V, &request((0, 0), topic, positions)).await;
    assert_eq!(answer.error_code, 0);
    assert_eq!(facts(&answer).len(), positions.len(), "a full answer names every partition");
    answer.session_id
}

#[tokio::test]
async fn an_incremental_answer_names_only_what_changed() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 3, &[]).await;
    let mut client = server.connect();
    let id = open(&mut client, &orders, &[(0, 0), (1, 0), (2, 0)]).await;
    assert_ne!(id, 0);
    let idle = client.call(V, &request((id, 1), &orders, &[])).await;
    assert_eq!((idle.session_id, facts(&idle)), (id, vec![]));
    let size = append(&server, &orders.partition(1).unwrap()).await;
    let one = client.call(V, &request((id, 2), &orders, &[])).await;
    assert_eq!(facts(&one), [(1, 0, size)]);
    let again = client.call(V, &request((id, 3), &orders, &[])).await;
    assert_eq!(facts(&again), [(1, 0, size)], "until the client moves on, it gets the same again");
    let moved = client.call(V, &request((id, 4), &orders, &[(1, 1)])).await;
    assert_eq!(facts(&moved), []);
    append(&server, &orders.partition(1).unwrap()).await;
    append(&server, &orders.partition(0).unwrap()).await;
    let two = client.call(V, &request((id, 5), &orders, &[])).await;
    assert_eq!(facts(&two), [(0, 0, size), (1, 0, size)]);
    let records = two.responses[0].partitions[1].records.clone().unwrap();
    assert_eq!(headwater_engine::batch::BatchHeader::parse(&records).unwrap().base_offset.0, 1);
}

#[tokio::test]
async fn a_waiting_session_is_woken_by_any_of_its_partitions() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 50, &[]).await;
    let mut client = server.connect();
    let positions: Vec<_> = (0..50).map(|index| (index, 0)).collect();
    let id = open(&mut client, &orders, &positions).await;
    for (epoch, index) in [(1, 49), (2, 7)] {
        // The client has moved past what it got before.
        let moved: &[(i32, i64)] = if epoch == 2 { &[(49, 1)] } else { &[] };
        let sent = client.send(V, &request((id, epoch), &orders, moved).with_max_wait_ms(60_000)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let size = append(&server, &orders.partition(index as u32).unwrap()).await;
        let answer =
            tokio::time::timeout(Duration::from_secs(5), client.receive::<FetchRequest>(V, sent)).await.unwrap();
        assert_eq!(facts(&answer), [(index, 0, size)]);
    }
}

#[tokio::test]
async fn partitions_join_and_leave_a_session() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 3, &[]).await;
    let mut client = server.connect();
    let id = open(&mut client, &orders, &[(0, 0)]).await;
    let size = append(&server, &orders.partition(2).unwrap()).await;
    let joined = client.call(V, &request((id, 1), &orders, &[(2, 0)])).await;
    assert_eq!(facts(&joined), [(2, 0, size)]);
    let forgotten = ForgottenTopic::default().with_topic(name("orders").into()).with_partitions(vec![2]);
    let left = client.call(V, &request((id, 2), &orders, &[]).with_forgotten_topics_data(vec![forgotten])).await;
    assert_eq!(facts(&left), []);
    append(&server, &orders.partition(2).unwrap()).await;
    assert_eq!(facts(&client.call(V, &request((id, 3), &orders, &[])).await), []);
    // When the last one leaves, so does the session.
    let forgotten = ForgottenTopic::default().with_topic(name("orders").into()).with_partitions(vec![0]);
    let empty = client.call(V, &request((id, 4), &orders, &[]).with_forgotten_topics_data(vec![forgotten])).await;
    assert_eq!((empty.error_code, empty.session_id), (0, 0));
    assert_eq!(client.call(V, &request((id, 5), &orders, &[])).await.error_code, 70);
}

#[tokio::test]
async fn wrong_ids_epochs_and_names_are_refused() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    let id = open(&mut client, &orders, &[(0, 0)]).await;
    let code = async |client: &mut Client, session| client.call(V, &request(session, &orders, &[])).await.error_code;
    assert_eq!(code(&mut client, (id ^ 1, 1)).await, 70, "no such session");
    assert_eq!(code(&mut client, (id, 2)).await, 71, "an epoch ahead");
    assert_eq!(code(&mut client, (id, 1)).await, 0);
    assert_eq!(code(&mut client, (id, 1)).await, 71, "an epoch behind");
    let by_id = FetchRequest::default().with_session_id(id).with_session_epoch(2);
    assert_eq!(client.call(13, &by_id).await.error_code, 106, "topics by id in a session of names");
    // A session goes on over another connection, and a full request without one closes it.
    let mut other = server.connect();
    assert_eq!(code(&mut other, (id, 2)).await, 0);
    let closing = other.call(V, &request((id, -1), &orders, &[(0, 0)])).await;
    assert_eq!((closing.error_code, closing.session_id), (0, 0));
    assert_eq!(code(&mut other, (id, 3)).await, 70);
}

#[tokio::test]
async fn epochs_before_version_seven_mean_no_session() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    for version in 4..7 {
        let answer = client.call(version, &request((0, -1), &orders, &[(0, 0)])).await;
        assert_eq!((answer.session_id, facts(&answer)), (0, vec![(0, 0, 0)]));
    }
}

#[tokio::test]
async fn a_partition_with_an_error_is_named_until_the_error_is_gone() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    let id = open(&mut client, &orders, &[(0, 0), (1, 0)]).await;
    for epoch in 1..4 {
        assert_eq!(facts(&client.call(V, &request((id, epoch), &orders, &[])).await), [(1, 3, 0)]);
    }
    server.engine.add_partitions(orders.id(), 2).await.unwrap();
    assert_eq!(
        facts(&client.call(V, &request((id, 4), &orders, &[])).await),
        [(1, 0, 0)],
        "told once that it is there"
    );
    assert_eq!(facts(&client.call(V, &request((id, 5), &orders, &[])).await), []);
    let size = append(&server, &orders.partition(1).unwrap()).await;
    assert_eq!(facts(&client.call(V, &request((id, 6), &orders, &[])).await), [(1, 0, size)]);
}

#[tokio::test]
async fn a_topic_made_anew_under_its_name_is_found_again() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    let id = open(&mut client, &orders, &[(0, 0)]).await;
    server.engine.delete_topic(orders.id()).await.unwrap();
    assert_eq!(facts(&client.call(V, &request((id, 1), &orders, &[])).await), [(0, 3, 0)]);
    let again = server.topic("orders", 1, &[]).await;
    let size = append(&server, &again.partition(0).unwrap()).await;
    assert_eq!(facts(&client.call(V, &request((id, 2), &orders, &[])).await), [(0, 0, size)]);
}

#[tokio::test]
async fn partitions_take_turns_when_not_all_fit() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 3, &[]).await;
    for index in 0..3 {
        for _ in 0..3 {
            append(&server, &orders.partition(index).unwrap()).await;
        }
    }
    let mut client = server.connect();
    // Room for one batch in each answer.
    let mut turn = async |session, positions: &[(i32, i64)]| {
        let answer = client.call(V, &request(session, &orders, positions).with_max_bytes(1)).await;
        let served = facts(&answer).into_iter().find(|fact| fact.2 > 0).map(|fact| fact.0);
        (answer.session_id, served)
    };
    let (id, first) = turn((0, 0), &[(0, 0), (1, 0), (2, 0)]).await;
    assert_eq!(first, Some(0));
    let mut served = Vec::new();
    let mut next = [1, 0, 0];
    let mut last = 0;
    for epoch in 1..=8 {
        let (_, partition) = turn((id, epoch), &[(last, next[last as usize])]).await;
        last = partition.expect("there is more");
        next[last as usize] += 1;
        served.push(last);
    }
    let count = |index| served.iter().filter(|&&partition| partition == index).count();
    assert_eq!((count(0), count(1), count(2)), (2, 3, 3), "{served:?}");
}

#[tokio::test]
async fn sessions_are_bounded_and_the_rest_goes_without() {
    let mut options = Options::default();
    options.limits.fetch_sessions_max = 2;
    options.limits.fetch_session_partitions_max = 5;
    let server = Server::start(options);
    let orders = server.topic("orders", 6, &[]).await;
    let mut client = server.connect();
    let first = open(&mut client, &orders, &[(0, 0), (1, 0)]).await;
    let second = open(&mut client, &orders, &[(0, 0)]).await;
    assert!(first != 0 && second != 0 && first != second);
    assert_eq!(open(&mut client, &orders, &[(0, 0)]).await, 0, "no third session");
    let answer = client.call(V, &request((second, 1), &orders, &[(1, 0), (2, 0), (3, 0), (4, 0)])).await;
    assert_eq!(answer.error_code, 70, "a session that outgrows the bound is closed");
    assert_ne!(open(&mut client, &orders, &[(0, 0)]).await, 0, "its place is free again");
}

#[tokio::test]
async fn a_session_by_topic_ids_follows_the_id() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    let by_id = |session: (i32, i32), named: bool| {
        let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
        let id = Uuid::from_bytes(orders.id().0);
        let topic = FetchTopic::default().with_topic_id(id).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_max_wait_ms(0).with_min_bytes(1).with_max_bytes(1 << 20);
        let request = request.with_session_id(session.0).with_session_epoch(session.1);
        if named { request.with_topics(vec![topic]) } else { request }
    };
    let id = client.call(17, &by_id((0, 0), true)).await.session_id;
    let size = append(&server, &orders.partition(0).unwrap()).await;
    assert_eq!(facts(&client.call(17, &by_id((id, 1), false)).await), [(0, 0, size)]);
    server.engine.delete_topic(orders.id()).await.unwrap();
    server.topic("orders", 1, &[]).await;
    let answer = client.call(17, &by_id((id, 2), false)).await;
    assert_eq!(facts(&answer), [(0, 100, 0)], "the name is another topic now");
    assert_eq!(answer.responses[0].topic_id, Uuid::from_bytes(orders.id().0));
}
