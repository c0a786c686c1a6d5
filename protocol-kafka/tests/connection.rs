//! What a connection does with frames that are none, clients that do not read, and too much at once.

mod harness;

use bytes::{BufMut, Bytes, BytesMut};
use harness::{Client, Server, batch, frame, name, versions};
use headwater_protocol::metrics::{Ended, Traffic};
use headwater_protocol::net::{Memory, Outbox, Transport};
use headwater_protocol_kafka::{Options, TABLE};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, ProduceRequest};
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest, MetadataRequest};
use kafka_protocol::protocol::StrBytes;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};

fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("apache-kafka-java"))
        .with_client_software_version(StrBytes::from_static_str("4.1.0"))
}

/// A Produce request with one record of this size.
fn produce(acks: i16, size: usize) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(batch(&[&"x".repeat(size)])));
    let topic = TopicProduceData::default().with_name(name("orders").into()).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1_000).with_topic_data(vec![topic])
}

/// A frame whose header says this key and version, with an old or a flexible header.
fn bare(key: i16, version: i16, flexible: bool) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i16(key);
    body.put_i16(version);
    body.put_i32(7);
    body.put_i16(-1);
    if flexible {
        body.put_u8(0);
    }
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.extend_from_slice(&body);
    frame.freeze()
}

#[tokio::test]
async fn api_versions_names_every_row_in_every_version() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    // Version 5 is one that the crate does not know; a golden case plays it.
    for version in versions(ApiKey::ApiVersions).filter(|version| *version <= 4) {
        let answer = client.call(version, &api_versions()).await;
        assert_eq!(answer.error_code, 0);
        let ranges: Vec<_> =
            answer.api_keys.iter().map(|row| (row.api_key, row.min_version, row.max_version)).collect();
        let expected: Vec<_> = TABLE.iter().map(|row| (row.key as i16, row.min, row.max)).collect();
        assert_eq!(ranges, expected, "version {version}");
    }
    let nameless = ApiVersionsRequest::default();
    assert_eq!(client.call(3, &nameless).await.error_code, 42, "as the reference, which wants a name");
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_gets_an_answer_that_every_client_reads() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    client.io.write_all(&bare(18, 99, true)).await.unwrap();
    let answer = harness::decode::<ApiVersionsResponse>(client.receive_frame().await.unwrap(), 0, 7);
    assert_eq!(answer.error_code, 35);
    let ranges: Vec<_> = answer.api_keys.iter().map(|row| (row.api_key, row.min_version, row.max_version)).collect();
    assert_eq!(ranges, [(18, 0, 5)]);
    assert_eq!(client.call(4, &api_versions()).await.error_code, 0, "the connection goes on");
}

#[tokio::test]
async fn what_is_no_request_closes_the_connection_without_an_answer() {
    let server = Server::start(Options::default());
    let sized = |size: i32| Bytes::copy_from_slice(&[&size.to_be_bytes()[..], &[0; 12]].concat());
    let cases = [
        ("ApiVersions 99 with an old header", bare(18, 99, false)),
        ("a key that is gone", bare(4, 0, false)),
        ("an unknown key", bare(999, 0, true)),
        ("an operation that is not served", bare(ApiKey::WriteTxnMarkers as i16, 1, true)),
        ("a version below", bare(1, 3, false)),
        ("a version above", bare(1, 19, true)),
        ("a negative version", bare(3, -1, false)),
        ("no size", sized(0)),
        ("a negative size", sized(-1)),
        ("the smallest size", sized(i32::MIN)),
        ("a size over the bound", sized((100 << 20) + 1)),
        ("2 GiB", sized(i32::MAX)),
        ("one byte", Bytes::from_static(&[0, 0, 0, 1, 0])),
        ("a cut header", Bytes::from_static(&[0, 0, 0, 6, 0, 18, 0, 0, 0, 0])),
        ("a body that is none", bare(3, 9, true)),
    ];
    for (what, bytes) in cases {
        let (mut client, task) = server.connect_with(1 << 20);
        client.io.write_all(&bytes).await.unwrap();
        assert!(client.is_closed().await, "{what}");
        assert_eq!(task.await.unwrap(), Ended::Refused, "{what}");
    }
    // A large request without records has a bound of its own: its first bytes tell.
    let (mut client, task) = server.connect_with(1 << 20);
    client.io.write_all(&[&(50i32 << 20).to_be_bytes()[..], &[0, 3, 0, 9]].concat()).await.unwrap();
    assert!(client.is_closed().await);
    assert_eq!(task.await.unwrap(), Ended::Refused);
}

#[tokio::test]
async fn answers_before_a_bad_frame_still_go_out() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    let id = client.send(3, &api_versions()).await;
    client.io.write_all(&[0xff; 8]).await.unwrap();
    client.receive::<ApiVersionsRequest>(3, id).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn requests_in_any_pieces_are_read_alike() {
    let server = Server::start(Options::default());
    server.topic("orders", 1, &[]).await;
    let mut bytes = Vec::new();
    for (id, size) in [(1, 10), (2, 100_000), (3, 1), (4, 5_000), (5, 700_000)] {
        bytes.extend_from_slice(&frame(0, 9, id, &produce(1, size)));
        bytes.extend_from_slice(&frame(18, 3, id + 10, &api_versions()));
    }
    for piece in [1, 7, 4_096, 65_537, bytes.len()] {
        // One byte at a time only for the small ones at the front; all of it would take long.
        let end = if piece < 100 { 3_000 } else { bytes.len() };
        let (mut client, _) = server.connect_with(1 << 20);
        for piece in bytes[..end].chunks(piece) {
            client.io.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let count = if end == bytes.len() { 5 } else { 1 };
        for id in 1..=count {
            let answer = client.receive::<ProduceRequest>(9, id).await;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
            client.receive::<ApiVersionsRequest>(3, id + 10).await;
        }
    }
    server.settle().await;
}

#[tokio::test]
async fn announced_bytes_cost_nothing_until_they_come() {
    let mut options = Options::default();
    options.limits.request_memory_max = 1 << 20;
    let server = Server::start(options);
    server.topic("orders", 1, &[]).await;
    let mut held = Vec::new();
    for _ in 0..10_000 {
        let (mut client, _) = server.connect_with(64);
        client.io.write_all(&[&(100i32 << 20).to_be_bytes()[..], &[0, 0, 0, 9]].concat()).await.unwrap();
        held.push(client);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.ctx.metrics().snapshot().request_memory, 0, "1 TiB was announced");
    let answer = server.connect().call(9, &produce(1, 500_000)).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "others are unharmed");
}

#[tokio::test]
async fn requests_larger_than_all_memory_together_still_get_through() {
    let mut options = Options::default();
    options.limits.request_memory_max = 1 << 20;
    let server = Server::start(options);
    server.topic("orders", 1, &[("max.message.bytes", "10000000")]).await;
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect_with(16 << 10).0).collect();
    // Each is half read when the memory is gone; one at a time may go beyond.
    let calls = clients.iter_mut().map(|client| async { client.call(9, &produce(1, 900_000)).await });
    for answer in join_all(calls).await {
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    server.settle().await;
}

async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_stops_in_the_middle_and_an_idle_client_are_cut_off() {
    let (server, _drive) = Server::by_hand(Options::default());
    let limits = server.ctx.options.limits.clone();
    for half in [&[0][..], &[0, 0, 1, 0], &[0, 0, 1, 0, 0, 3, 0, 9, 0]] {
        let (mut client, task) = server.connect_with(1 << 20);
        let start = tokio::time::Instant::now();
        client.io.write_all(half).await.unwrap();
        assert_eq!(task.await.unwrap(), Ended::Stalled, "{half:?}");
        let took = start.elapsed();
        assert!(took >= limits.stall_max && took < limits.stall_max + Duration::from_secs(1), "{took:?}");
    }
    let (mut client, task) = server.connect_with(1 << 20);
    tokio::time::sleep(limits.idle_max / 2).await;
    client.call(3, &api_versions()).await;
    let start = tokio::time::Instant::now();
    assert_eq!(task.await.unwrap(), Ended::Idle);
    let took = start.elapsed();
    assert!(
        took >= limits.idle_max && took < limits.idle_max + Duration::from_secs(1),
        "counted from the last request"
    );
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_does_not_keep_a_request_going() {
    let (server, _drive) = Server::by_hand(Options::default());
    let limits = server.ctx.options.limits.clone();
    let (mut client, task) = server.connect_with(1 << 20);
    let start = tokio::time::Instant::now();
    client.io.write_all(&[&(2i32 << 20).to_be_bytes()[..], &[0; 100_000]].concat()).await.unwrap();
    while client.io.write_all(&[0]).await.is_ok() {
        tokio::time::sleep(limits.stall_max / 3).await;
    }
    assert_eq!(task.await.unwrap(), Ended::Stalled);
    assert!(start.elapsed() < limits.stall_max * 2, "{:?}", start.elapsed());
    assert_eq!(server.ctx.metrics().snapshot().request_memory, 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_memory_is_not_cut_off_and_small_requests_do_not_wait() {
    let mut options = Options::default();
    options.limits.request_memory_max = 1 << 20;
    let stall_max = options.limits.stall_max;
    let (server, _drive) = Server::by_hand(options);
    let mut hold = Vec::new();
    for _ in 0..2 {
        // The first two take all memory, one of them more than there is.
        let (mut client, task) = server.connect_with(4 << 20);
        client.io.write_all(&[&(1i32 << 20).to_be_bytes()[..], &[0; 700_000]].concat()).await.unwrap();
        hold.push((client, task));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(stall_max / 2).await;
    let (mut waiting, task) = server.connect_with(4 << 20);
    let request = frame(
        3,
        9,
        1,
        &MetadataRequest::default()
            .with_topics(Some(vec![]))
            .with_unknown_tagged_fields(std::collections::BTreeMap::from([(9, Bytes::from(vec![0; 100_000]))])),
    );
    waiting.io.write_all(&request).await.unwrap();
    assert_eq!(server.connect().call(3, &api_versions()).await.error_code, 0, "a small one is served at once");
    tokio::time::sleep(stall_max * 3 / 4).await;
    assert!(!task.is_finished(), "it is us that it waits for");
    for (_client, task) in hold {
        assert_eq!(task.await.unwrap(), Ended::Stalled);
    }
    assert!(waiting.receive_frame().await.is_some());
}

#[tokio::test]
async fn a_fetch_that_waits_does_not_hold_what_it_was_decoded_from() {
    let server = Server::start(Options::default());
    let orders = server.topic("orders", 1, &[]).await;
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name("orders").into()).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(60_000)
        .with_min_bytes(1)
        .with_rack_id(StrBytes::from_string("r".repeat(30_000)))
        .with_topics(vec![topic]);
    let mut client = server.connect();
    client.send(11, &request).await;
    let held = async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.ctx.metrics().snapshot().request_memory
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !(1..1_000).contains(&held().await) {
        assert!(tokio::time::Instant::now() < deadline, "{} bytes are held", held().await);
    }
    drop(orders);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_not_read_from_and_then_cut_off() {
    let (server, _drive) = Server::by_hand(Options::default());
    let limits = server.ctx.options.limits.clone();
    let (mut client, task) = server.connect_with(4 << 10);
    let request = frame(3, 9, 1, &MetadataRequest::default().with_topics(Some(vec![])));
    let mut sent = 0u64;
    let start = tokio::time::Instant::now();
    while client.io.write_all(&request).await.is_ok() {
        sent += request.len() as u64;
    }
    assert_eq!(task.await.unwrap(), Ended::Stalled);
    assert!(start.elapsed() < limits.stall_max + Duration::from_secs(1));
    let received = server.ctx.metrics().snapshot().bytes_received;
    assert!(sent < 3 * limits.unread_bytes_max, "{sent} bytes were taken");
    assert!(received < 3 * limits.unread_bytes_max);
    assert_eq!(server.ctx.metrics().snapshot().request_memory, 0);
}

/// A pipe whose system says what it holds.
struct Held(Memory<DuplexStream>, Arc<AtomicUsize>);

impl AsyncRead for Held {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, out)
    }
}

impl Transport for Held {
    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox, traffic: &Traffic) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, out, traffic)
    }

    fn held(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }

    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_little_of_what_the_system_holds_is_not_cut_off() {
    let (server, _drive) = Server::by_hand(Options::default());
    let stall_max = server.ctx.options.limits.stall_max;
    let (mut client, theirs) = tokio::io::duplex(4 << 10);
    let held = Arc::new(AtomicUsize::new(1_000_000));
    let task = server.serve(Held(Memory(theirs), held.clone()));
    let request = frame(3, 9, 1, &MetadataRequest::default().with_topics(Some(vec![])));
    while tokio::time::timeout(Duration::from_secs(1), client.write_all(&request)).await.is_ok() {}
    for _ in 0..6 {
        held.fetch_sub(1_000, Ordering::Relaxed);
        tokio::time::sleep(stall_max * 2 / 3).await;
        assert!(!task.is_finished(), "it takes some all the time");
    }
    let still = tokio::time::Instant::now();
    assert_eq!(task.await.unwrap(), Ended::Stalled);
    assert!(still.elapsed() <= stall_max * 2, "{:?}", still.elapsed());
}

#[tokio::test]
async fn a_half_closed_connection_gets_its_answers() {
    let server = Server::start(Options::default());
    server.topic("orders", 1, &[]).await;
    let (mut client, task) = server.connect_with(1 << 20);
    let first = client.send(9, &produce(1, 10)).await;
    let second = client.send(3, &api_versions()).await;
    client.io.shutdown().await.unwrap();
    client.receive::<ProduceRequest>(9, first).await;
    client.receive::<ApiVersionsRequest>(3, second).await;
    assert_eq!(client.io.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(task.await.unwrap(), Ended::ByClient);
}

#[tokio::test]
async fn requests_errors_and_bytes_are_counted() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    client.call(9, &produce(1, 10)).await;
    client.call(3, &api_versions()).await;
    let snapshot = server.ctx.metrics().snapshot();
    let of = |name: &str| snapshot.operations.iter().find(|operation| operation.name == name).unwrap();
    assert_eq!(of("Produce").errors, [(3, 1)]);
    assert_eq!(of("Produce").requests.iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [&(9, 1)]);
    assert_eq!(of("ApiVersions").latency_buckets.iter().sum::<u64>(), 1);
    assert!(snapshot.bytes_received > 0 && snapshot.bytes_sent_memory > 0);
}

/// One time was taken for all that a poll did, so an answer that waits for nothing had a latency of exactly 0: Metadata,
/// ListOffsets and most fetches. Only what waited for the medium was seen.
#[tokio::test]
async fn an_answer_that_waits_for_nothing_takes_time_too() {
    let server = Server::start(Options::default());
    server.topic("orders", 200, &[]).await;
    let mut client = server.connect();
    let start = tokio::time::Instant::now();
    client.call(9, &MetadataRequest::default().with_topics(None)).await;
    let waited = start.elapsed();
    let partition = |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(name("orders").into());
    let topic = topic.with_partitions((0..200).map(partition).collect());
    client.call(6, &ListOffsetsRequest::default().with_topics(vec![topic])).await;
    let partition = |index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1);
    let topic = FetchTopic::default().with_topic(name("orders").into());
    let topic = topic.with_partitions((0..200).map(partition).collect());
    client.call(12, &FetchRequest::default().with_max_wait_ms(0).with_topics(vec![topic])).await;
    let snapshot = server.ctx.metrics().snapshot();
    let taken = |name: &str| snapshot.operations.iter().find(|operation| operation.name == name).unwrap().latency_sum;
    for operation in ["Metadata", "ListOffsets", "Fetch"] {
        assert!(taken(operation) > Duration::ZERO, "{operation}");
    }
    assert!(taken("Metadata") <= waited, "{:?} of {waited:?}", taken("Metadata"));
}

/// Connections that had sent many costly requests ahead were served one after the other, each to its end; everybody else
/// waited for seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clients_that_send_ahead_leave_others_their_turn() {
    let server = Server::start(Options::default());
    server.topic("wide", 5_000, &[]).await;
    let begun = tokio::time::Instant::now();
    let mut greedy = Vec::new();
    for _ in 0..4 {
        let mut client = server.connect_with(64 << 20).0;
        for _ in 0..40 {
            client.send(9, &MetadataRequest::default().with_topics(None)).await;
        }
        greedy.push(client);
    }
    let mut other = server.connect();
    other.call(3, &api_versions()).await;
    let other = begun.elapsed();
    for client in &mut greedy {
        for _ in 0..40 {
            client.receive_frame().await.expect("an answer");
        }
    }
    let all = begun.elapsed();
    // Served one after the other, it came last; how early it comes now depends on what else the machine does.
    assert!(other * 5 < all * 4, "a small request took {other:?}, the costly ones {all:?}");
}
