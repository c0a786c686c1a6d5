//! Fetch through a connection: every version, limits, waiting, errors of the acceptance table.

mod harness;

use bytes::Bytes;
use harness::{Client, Server, batch, name, versions};
use headwater_engine::batch::{Rules, check, headers, records_of};
use headwater_engine::env::sim;
use headwater_engine::{Batches, Offset, Partition, Read, ReadRequest, TimestampMs, Topic};
use headwater_protocol::Phase;
use headwater_protocol::metrics::Ended;
use headwater_protocol_kafka::Options;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

fn partition(index: i32, from: i64) -> FetchPartition {
    FetchPartition::default().with_partition(index).with_fetch_offset(from).with_partition_max_bytes(1 << 20)
}

fn topic(version: i16, topic: &Topic, partitions: Vec<FetchPartition>) -> FetchTopic {
    let named = FetchTopic::default().with_partitions(partitions);
    if version >= 13 {
        named.with_topic_id(Uuid::from_bytes(topic.id().0))
    } else {
        named.with_topic(name(topic.name()).into())
    }
}

fn request(topics: Vec<FetchTopic>) -> FetchRequest {
    FetchRequest::default().with_max_wait_ms(0).with_min_bytes(1).with_max_bytes(50 << 20).with_topics(topics)
}

fn partitions(answer: FetchResponse) -> Vec<PartitionData> {
    answer.responses.into_iter().flat_map(|topic| topic.partitions).collect()
}

async fn append(server: &Server, partition: &Arc<Partition>, values: &[&str]) {
    let batch = check(batch(values), &Rules::new(TimestampMs(1))).unwrap();
    let ack = server.engine.ack();
    partition.append(&batch, &ack).unwrap();
    ack.wait().await.unwrap();
}

/// Offsets and values of all records of an answer.
fn records(data: &PartitionData) -> Vec<(i64, String)> {
    let bytes: Bytes = data.records.clone().unwrap_or_default();
    let mut records = Vec::new();
    for (position, header) in headers(&bytes) {
        let one = bytes.slice(position..position + header.size);
        for record in records_of(&one, 1 << 20).unwrap().iter() {
            let record = record.unwrap();
            records.push((record.offset.0, String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()));
        }
    }
    records
}

fn expected(from: i64, values: &[&str]) -> Vec<(i64, String)> {
    (from..).zip(values.iter().map(|value| (*value).to_owned())).collect()
}

#[tokio::test]
async fn every_version_gets_the_records_and_the_bounds() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 3, &[]).await;
    append(&server, &orders.partition(0).unwrap(), &["a", "b"]).await;
    append(&server, &orders.partition(0).unwrap(), &["c"]).await;
    append(&server, &orders.partition(2).unwrap(), &["d"]).await;
    let mut client = server.connect();
    for version in versions(ApiKey::Fetch) {
        for isolation in [0, 1] {
            let wanted = vec![partition(0, 0), partition(1, 0), partition(2, 0), partition(7, 0)];
            let request = request(vec![topic(version, &orders, wanted)]).with_isolation_level(isolation);
            let answer = client.call(version, &request).await;
            assert_eq!((answer.error_code, answer.session_id), (0, 0), "version {version}");
            let got = partitions(answer);
            let codes: Vec<_> = got.iter().map(|data| (data.partition_index, data.error_code)).collect();
            assert_eq!(codes, [(0, 0), (1, 0), (2, 0), (7, 3)], "version {version}");
            assert_eq!(records(&got[0]), expected(0, &["a", "b", "c"]), "version {version}");
            assert_eq!(records(&got[1]), []);
            assert_eq!(records(&got[2]), expected(0, &["d"]));
            assert_eq!(got.iter().map(|data| data.high_watermark).collect::<Vec<_>>(), [3, 0, 1, -1]);
            assert_eq!(got[0].last_stable_offset, 3);
            assert_eq!(got[0].log_start_offset, if version >= 5 { 0 } else { -1 });
            assert_eq!(got[3].records, Some(Bytes::new()), "an error carries an empty set, not null");
            assert_eq!(got[0].aborted_transactions.is_some(), isolation == 1);
        }
    }
}

#[tokio::test]
async fn the_first_batch_comes_whole_and_the_limits_hold_for_the_rest() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 3, &[]).await;
    let long = "x".repeat(1_000);
    for index in 0..3 {
        for _ in 0..3 {
            append(&server, &orders.partition(index).unwrap(), &[&long]).await;
        }
    }
    let mut client = server.connect();
    let mut counts = async |bytes_max: i32, partition_bytes_max: i32| {
        let wanted = (0..3).map(|index| partition(index, 0).with_partition_max_bytes(partition_bytes_max));
        let request = request(vec![topic(12, &orders, wanted.collect())]).with_max_bytes(bytes_max);
        partitions(client.call(12, &request).await).iter().map(|data| records(data).len()).collect::<Vec<_>>()
    };
    assert_eq!(counts(1 << 20, 1 << 20).await, [3, 3, 3]);
    assert_eq!(counts(1 << 20, 2_500).await, [2, 2, 2]);
    assert_eq!(counts(1 << 20, 10).await, [1, 0, 0], "one batch at least, in the first partition that has any");
    assert_eq!(counts(10, 1 << 20).await, [1, 0, 0]);
    assert_eq!(counts(4_500, 1 << 20).await, [3, 1, 0], "the rest of the bytes goes to the next partition");
    assert_eq!(counts(0, 0).await, [1, 0, 0]);
    assert_eq!(counts(-5, -5).await, [1, 0, 0]);
}

#[tokio::test]
async fn offsets_out_of_range_and_epochs_get_the_errors_of_the_reference() {
    let (env, ..) = sim::env(1);
    for _ in 0..2 {
        // Two starts, so that there is an epoch before this one.
        let server = Server::over(env.clone(), Options::default(), true);
        server.engine.start().unwrap();
    }
    let server = Server::over(env, Options::default(), true);
    server.engine.start().unwrap();
    let orders = server.topic("orders", 1, &[]).await;
    let log = orders.partition(0).unwrap();
    for value in ["a", "b", "c"] {
        append(&server, &log, &[value]).await;
    }
    let ack = server.engine.ack();
    log.delete_records(Some(Offset(1)), &ack).unwrap();
    ack.wait().await.unwrap();
    let epoch = log.leader_epoch().0;
    let mut client = server.connect();
    let cases = [
        ("at the log start", partition(0, 1), 0),
        ("at the end", partition(0, 3), 0),
        ("below the log start", partition(0, 0), 1),
        ("past the end", partition(0, 4), 1),
        ("negative", partition(0, -1), 1),
        ("our epoch", partition(0, 1).with_current_leader_epoch(epoch), 0),
        ("an old epoch", partition(0, 1).with_current_leader_epoch(epoch - 1), 74),
        ("an epoch to come", partition(0, 1).with_current_leader_epoch(epoch + 1), 75),
    ];
    for (what, wanted, code) in cases {
        for version in [9, 12, 16, 18] {
            let answer = client.call(version, &request(vec![topic(version, &orders, vec![wanted.clone()])])).await;
            let tells_leader = version >= 16 && code == 74;
            assert_eq!(answer.node_endpoints.len(), usize::from(tells_leader), "{what}, version {version}");
            let got = partitions(answer);
            assert_eq!(got[0].error_code, code, "{what}, version {version}");
            if code != 0 {
                assert_eq!((got[0].high_watermark, got[0].log_start_offset), (-1, -1), "{what}");
            }
            let leader = if tells_leader { (1, epoch) } else { (-1, -1) };
            assert_eq!((got[0].current_leader.leader_id.0, got[0].current_leader.leader_epoch), leader, "{what}");
        }
    }
    // A log that has parted from ours is told where.
    let parted = partition(0, 4).with_last_fetched_epoch(epoch);
    let got = partitions(client.call(12, &request(vec![topic(12, &orders, vec![parted])])).await);
    assert_eq!((got[0].error_code, got[0].diverging_epoch.epoch, got[0].diverging_epoch.end_offset), (0, epoch, 3));
    // One whose last epoch is still to come cannot be told.
    let ahead = partition(0, 3).with_last_fetched_epoch(epoch + 5);
    let got = partitions(client.call(12, &request(vec![topic(12, &orders, vec![ahead])])).await);
    assert_eq!(got[0].error_code, 1);
}

#[tokio::test]
async fn unknown_topics_are_told_by_name_and_by_id() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    let by_name = FetchTopic::default().with_topic(name("nowhere").into()).with_partitions(vec![partition(0, 0)]);
    let by_id = FetchTopic::default().with_topic_id(Uuid::from_u128(5)).with_partitions(vec![partition(0, 0)]);
    for (version, topic, code) in [(12, by_name, 3), (13, by_id, 100)] {
        // With nothing to wait for, the answer comes at once.
        let request = request(vec![topic]).with_max_wait_ms(60_000);
        let answer = tokio::time::timeout(Duration::from_secs(5), client.call(version, &request)).await.unwrap();
        assert_eq!(partitions(answer)[0].error_code, code, "version {version}");
    }
}

#[tokio::test]
async fn a_fetch_waits_until_enough_is_published() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 2, &[]).await;
    let size = batch(&["aaaa"]).len() as i32;
    let mut client = server.connect();
    let wanted = vec![partition(0, 0), partition(1, 0)];
    let request = request(vec![topic(12, &orders, wanted)]).with_max_wait_ms(60_000).with_min_bytes(2 * size);
    let id = client.send(12, &request).await;
    append(&server, &orders.partition(0).unwrap(), &["aaaa"]).await;
    let mut waited = Box::pin(client.receive_frame());
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waited).await.is_err(), "half of it is not enough");
    append(&server, &orders.partition(1).unwrap(), &["bbbb"]).await;
    let frame = tokio::time::timeout(Duration::from_secs(5), waited).await.unwrap().unwrap();
    let got = partitions(harness::decode::<FetchResponse>(frame, 12, id));
    assert_eq!(records(&got[0]), expected(0, &["aaaa"]));
    assert_eq!(records(&got[1]), expected(0, &["bbbb"]));
}

#[tokio::test]
async fn a_fetch_that_finds_too_little_answers_when_its_time_is_over() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 1, &[]).await;
    append(&server, &orders.partition(0).unwrap(), &["a"]).await;
    let mut client = server.connect();
    let start = tokio::time::Instant::now();
    let request = request(vec![topic(12, &orders, vec![partition(0, 0)])]).with_max_wait_ms(100).with_min_bytes(10_000);
    let got = partitions(client.call(12, &request).await);
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert_eq!(records(&got[0]), expected(0, &["a"]));
}

#[tokio::test]
async fn a_topic_deleted_under_a_waiting_fetch_ends_the_wait() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 1, &[]).await;
    for (version, code) in [(12, 3), (13, 100)] {
        let doomed = server.topic(&format!("doomed-{version}"), 1, &[]).await;
        let mut client = server.connect();
        let topics =
            vec![topic(version, &orders, vec![partition(0, 0)]), topic(version, &doomed, vec![partition(0, 0)])];
        let id = client.send(version, &request(topics).with_max_wait_ms(60_000)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.engine.delete_topic(doomed.id()).await.unwrap();
        let answer =
            tokio::time::timeout(Duration::from_secs(5), client.receive::<FetchRequest>(version, id)).await.unwrap();
        assert_eq!(partitions(answer)[1].error_code, code);
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_waiting_fetch() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 1, &[]).await;
    let (mut client, task): (Client, _) = server.connect_with(1 << 20);
    client.send(12, &request(vec![topic(12, &orders, vec![partition(0, 0)])]).with_max_wait_ms(60_000)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(client);
    let ended = tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
    assert_eq!(ended, Ended::ByClient);
}

#[tokio::test]
async fn a_shutdown_answers_waiting_fetches_and_closes() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 1, &[]).await;
    let (mut client, task) = server.connect_with(1 << 20);
    let (mut idle, idle_task) = server.connect_with(1 << 20);
    let id = client.send(12, &request(vec![topic(12, &orders, vec![partition(0, 0)])]).with_max_wait_ms(60_000)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    server.advance(Phase::Draining);
    let got = tokio::time::timeout(Duration::from_secs(5), client.receive::<FetchRequest>(12, id)).await.unwrap();
    assert_eq!(partitions(got)[0].error_code, 0);
    assert!(client.is_closed().await && idle.is_closed().await);
    assert_eq!((task.await.unwrap(), idle_task.await.unwrap()), (Ended::Shutdown, Ended::Shutdown));
}

/// Every read of the disk would wait here, so each goes over the replay threads.
#[tokio::test]
async fn cold_records_come_all_the_same() {
    let (server, disk, _) = Server::start_on(3, Options::default());
    let orders = server.topic("orders", 20, &[]).await;
    for index in 0..20 {
        for _ in 0..3 {
            append(&server, &orders.partition(index).unwrap(), &["cold", "records"]).await;
        }
    }
    disk.set_cold(1.0);
    let mut client = server.connect();
    let wanted = (0..20).map(|index| partition(index, 2)).collect();
    let got = partitions(client.call(12, &request(vec![topic(12, &orders, wanted)])).await);
    for data in got {
        assert_eq!(records(&data), expected(2, &["cold", "records", "cold", "records"]));
    }
}

/// Two partitions, of which an answer has room for one. The other is read ahead, all of its next batch, but not beside appends.
#[tokio::test]
async fn what_the_next_answer_will_hold_is_read_while_this_one_is_sent() {
    let (server, disk, clock) = Server::start_on(4, Options::default());
    let orders = server.topic("orders", 2, &[]).await;
    let read = |index: u32| {
        let (from, bytes_max) = (Offset(0), 1);
        let request = ReadRequest { from, bytes_max, at_least_one: true, stable_only: false };
        orders.partition(index).unwrap().read(&request).unwrap()
    };
    let large = "x".repeat(200_000);
    for index in 0..2 {
        // What is read is written at once.
        assert!(matches!(read(index), Read::Ready(_)));
        append(&server, &orders.partition(index).unwrap(), &[&large]).await;
    }
    disk.set_cold(1.0);
    let mut client = server.connect();
    let asked = request(vec![topic(12, &orders, vec![partition(0, 0), partition(1, 0)])]).with_max_bytes(1);
    let got = partitions(client.call(12, &asked).await);
    assert_eq!(got.iter().map(|data| records(data).len()).collect::<Vec<_>>(), [1, 0]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(matches!(read(1), Read::Cold(_)), "read ahead beside appends");
    clock.advance(Duration::from_secs(2));
    client.call(12, &asked).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !matches!(read(1), Read::Ready(Batches { range: Some(_), .. })) {
        assert!(Instant::now() < deadline, "not read ahead");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What does not fit ends an answer only when there is enough in it: else it would wait for news although more is there.
#[tokio::test]
async fn a_batch_that_does_not_fit_does_not_keep_others_from_being_enough() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 3, &[]).await;
    for (index, size) in [(0, 100), (1, 5_000), (2, 900)] {
        append(&server, &orders.partition(index).unwrap(), &["y".repeat(size).as_str()]).await;
    }
    let mut client = server.connect();
    for (bytes_min, found) in [(1, [1, 0, 0]), (500, [1, 0, 1])] {
        let wanted = (0..3).map(|index| partition(index, 0)).collect();
        let asked = request(vec![topic(12, &orders, wanted)]).with_max_bytes(2_000).with_min_bytes(bytes_min);
        let asked = asked.with_max_wait_ms(60_000);
        let got = tokio::time::timeout(Duration::from_secs(20), client.call(12, &asked)).await.unwrap();
        assert_eq!(partitions(got).iter().map(|data| records(data).len()).collect::<Vec<_>>(), found);
    }
}

/// A request without a session that found nothing is kept for when it comes again. What it rests on may have changed by then.
#[tokio::test]
async fn a_question_asked_again_sees_what_changed_between_and_while_it_waits() {
    let server = Server::start(Options::default());
    for version in versions(ApiKey::Fetch) {
        let orders = server.topic(&format!("orders-{version}"), 2, &[]).await;
        let mut client = server.connect();
        let again = request(vec![topic(version, &orders, vec![partition(0, 0), partition(1, 0)])]).with_max_wait_ms(5);
        for _ in 0..3 {
            let got = partitions(client.call(version, &again).await);
            assert_eq!(
                got.iter().map(|data| (data.error_code, data.high_watermark)).collect::<Vec<_>>(),
                [(0, 0), (0, 0)]
            );
        }
        // Between two of them; and once more, for nothing that was sent is held back.
        append(&server, &orders.partition(1).unwrap(), &["a"]).await;
        for _ in 0..2 {
            let got = partitions(client.call(version, &again).await);
            assert_eq!(records(&got[1]), expected(0, &["a"]), "version {version}");
            assert_eq!((got[0].high_watermark, got[1].high_watermark), (0, 1));
        }
        // While it waits.
        let wanted = |wait| request(vec![topic(version, &orders, vec![partition(0, 0)])]).with_max_wait_ms(wait);
        client.call(version, &wanted(60)).await;
        client.call(version, &wanted(60)).await;
        let id = client.send(version, &wanted(60_000)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        append(&server, &orders.partition(0).unwrap(), &["b"]).await;
        let got =
            tokio::time::timeout(Duration::from_secs(5), client.receive::<FetchRequest>(version, id)).await.unwrap();
        assert_eq!(records(&partitions(got)[0]), expected(0, &["b"]));
    }
}

#[tokio::test]
async fn a_question_asked_again_wakes_for_news_and_meets_a_log_that_was_cut_or_deleted() {
    let server = Server::start(Options::default());
    for version in [4, 11, 12, 13, 17] {
        let name = format!("orders-{version}");
        let orders = server.topic(&name, 1, &[]).await;
        let mut client = server.connect();
        // The same bytes each time, with a wait that is longer than the test: it must be news that ends it.
        let short = request(vec![topic(version, &orders, vec![partition(0, 0)])]).with_max_wait_ms(300);
        client.call(version, &short).await;
        let id = client.send(version, &short).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let begun = tokio::time::Instant::now();
        append(&server, &orders.partition(0).unwrap(), &["a", "b"]).await;
        let got = partitions(client.receive::<FetchRequest>(version, id).await);
        assert_eq!(records(&got[0]), expected(0, &["a", "b"]));
        assert!(begun.elapsed() < Duration::from_millis(250), "it waited to the end");

        let cut = request(vec![topic(version, &orders, vec![partition(0, 2)])]).with_max_wait_ms(5);
        client.call(version, &cut).await;
        let ack = server.engine.ack();
        append(&server, &orders.partition(0).unwrap(), &["c"]).await;
        orders.partition(0).unwrap().delete_records(None, &ack).unwrap();
        ack.wait().await.unwrap();
        assert_eq!(partitions(client.call(version, &cut).await)[0].error_code, 1, "OFFSET_OUT_OF_RANGE");

        let last = request(vec![topic(version, &orders, vec![partition(0, 3)])]).with_max_wait_ms(5);
        client.call(version, &last).await;
        server.engine.delete_topic(orders.id()).await.unwrap();
        let code = if version >= 13 { 100 } else { 3 };
        for _ in 0..2 {
            assert_eq!(partitions(client.call(version, &last).await)[0].error_code, code, "version {version}");
        }
        if version < 13 {
            // Made anew under its name, it is another topic.
            let orders = server.topic(&name, 1, &[]).await;
            append(&server, &orders.partition(0).unwrap(), &["d"]).await;
            assert_eq!(partitions(client.call(version, &last).await)[0].error_code, 1);
            let first = request(vec![topic(version, &orders, vec![partition(0, 0)])]).with_max_wait_ms(5);
            assert_eq!(records(&partitions(client.call(version, &first).await)[0]), expected(0, &["d"]));
        }
    }
}
