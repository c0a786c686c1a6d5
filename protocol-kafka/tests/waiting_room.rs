//! Connections that are given away while their long polls wait: nobody may notice, except by the processor time that it saves.

mod harness;

use harness::{Client, Server, batch, frame, name};
use headwater_engine::batch::{Rules, check};
use headwater_engine::{Partition, TimestampMs, Topic};
use headwater_protocol::Phase;
use headwater_protocol::metrics::Ended;
use headwater_protocol_kafka::Options;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, FetchRequest, FetchResponse};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// Long enough to be given away for.
const WAIT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(30);
/// Soon, on a busy machine.
const SOON: Duration = Duration::from_secs(5);

fn request(version: i16, topic: &Topic, from: i64, wait: Duration) -> FetchRequest {
    let partition =
        FetchPartition::default().with_partition(0).with_fetch_offset(from).with_partition_max_bytes(1 << 20);
    let named = FetchTopic::default().with_partitions(vec![partition]);
    let named = if version >= 13 {
        named.with_topic_id(Uuid::from_bytes(topic.id().0))
    } else {
        named.with_topic(name(topic.name()).into())
    };
    FetchRequest::default()
        .with_max_wait_ms(wait.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_topics(vec![named])
}

fn in_session(session: i32, epoch: i32, wait: Duration) -> FetchRequest {
    FetchRequest::default()
        .with_session_id(session)
        .with_session_epoch(epoch)
        .with_max_wait_ms(wait.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
}

/// The bytes of records in an answer without an error.
fn bytes(answer: &FetchResponse) -> usize {
    assert_eq!(answer.error_code, 0);
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|data| data.records.as_ref().map_or(0, |bytes| bytes.len())).sum()
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

/// Waits until the only connection is given away, or is not.
async fn settles(server: &Server, away: bool) {
    let patience = Instant::now() + SOON;
    while (server.ctx.connections_waiting() == 1) != away {
        assert!(Instant::now() < patience, "the connection is {}", if away { "here" } else { "away" });
        sleep(Duration::from_millis(1)).await;
    }
}

/// A consumer whose connection is given away, and the question that waits meanwhile.
struct Parked {
    server: Server,
    topic: Arc<Topic>,
    client: Client<TcpStream>,
    serves: JoinHandle<Ended>,
    version: i16,
    id: i32,
}

/// The questions before have a short wait, and it is them that are asked in the end.
async fn park(version: i16, wait: Duration) -> Parked {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[]).await;
    let (mut client, serves) = server.connect_by_tcp().await;
    let id = park_again(&server, &mut client, version, &request(version, &topic, 0, wait)).await;
    Parked { server, topic, client, serves, version, id }
}

/// Asks twice; the first question is answered with nothing.
async fn park_again(server: &Server, client: &mut Client<TcpStream>, version: i16, asks: &FetchRequest) -> i32 {
    assert_eq!(bytes(&client.call(version, asks).await), 0);
    let id = client.send(version, asks).await;
    settles(server, true).await;
    id
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(SOON, what).await.expect("it takes too long")
}

#[tokio::test]
async fn the_same_question_is_answered_again_and_again_and_news_end_the_wait() {
    for version in [4, 6, 7, 11, 12, 13, 15, 17] {
        let Parked { server, topic, mut client, version, mut id, .. } = park(version, WAIT).await;
        let asks = request(version, &topic, 0, WAIT);
        for _ in 0..3 {
            let begun = Instant::now();
            assert_eq!(bytes(&client.receive::<FetchRequest>(version, id).await), 0);
            assert!(begun.elapsed() < WAIT * 2, "a wait grows by a seventh at most");
            let begun = Instant::now();
            id = client.send(version, &asks).await;
            let answer = client.receive::<FetchRequest>(version, id).await;
            assert_eq!((bytes(&answer), answer.responses.len()), (0, 1));
            assert!(begun.elapsed() >= WAIT, "it was answered after {:?}", begun.elapsed());
            assert_eq!(server.ctx.connections_waiting(), 1);
            id = client.send(version, &asks).await;
        }
        let size = append(&server, &topic.partition(0).unwrap()).await;
        assert_eq!(bytes(&soon(client.receive::<FetchRequest>(version, id)).await), size, "version {version}");
        settles(&server, false).await;
        // Every answer is counted, with the time that it took.
        let snapshot = server.ctx.metrics().snapshot();
        let fetches = snapshot.operations.iter().find(|operation| operation.name == "Fetch").unwrap();
        assert_eq!(fetches.requests.iter().map(|(_, count)| count).sum::<u64>(), 8);
    }
}

#[tokio::test]
async fn news_between_two_questions_are_in_the_next_answer() {
    let Parked { server, topic, mut client, version, id, .. } = park(12, WAIT).await;
    assert_eq!(bytes(&client.receive::<FetchRequest>(version, id).await), 0);
    let size = append(&server, &topic.partition(0).unwrap()).await;
    settles(&server, false).await;
    let answer = soon(client.call(version, &request(version, &topic, 0, WAIT))).await;
    assert_eq!(bytes(&answer), size);
}

#[tokio::test]
async fn a_log_that_is_cut_or_gone_is_noticed() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[]).await;
    let partition = topic.partition(0).unwrap();
    append(&server, &partition).await;
    let (mut client, _) = server.connect_by_tcp().await;
    let id = park_again(&server, &mut client, 12, &request(12, &topic, 1, WAIT)).await;
    let ack = server.engine.ack();
    partition.delete_records(None, &ack).unwrap();
    ack.wait().await.unwrap();
    let answer = client.receive::<FetchRequest>(12, id).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!((data.error_code, data.log_start_offset, data.high_watermark), (0, 1, 1));
    let id = park_again(&server, &mut client, 12, &request(12, &topic, 1, LONG / 100)).await;
    server.engine.delete_topic(topic.id()).await.unwrap();
    let answer = soon(client.receive::<FetchRequest>(12, id)).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 3, "UNKNOWN_TOPIC_OR_PARTITION");
}

#[tokio::test]
async fn whatever_else_the_client_says_is_heard() {
    let Parked { server, topic, mut client, version, id, .. } = park(12, WAIT).await;
    // Another request behind the one that waits: answered in order.
    let other = client.send(2, &ApiVersionsRequest::default()).await;
    settles(&server, false).await;
    assert_eq!(bytes(&client.receive::<FetchRequest>(version, id).await), 0);
    assert_eq!(client.receive::<ApiVersionsRequest>(2, other).await.error_code, 0);
    // Another request instead of the question.
    let asks = request(version, &topic, 0, WAIT);
    let id = park_again(&server, &mut client, version, &asks).await;
    assert_eq!(bytes(&client.receive::<FetchRequest>(version, id).await), 0);
    assert_eq!(soon(client.call(2, &ApiVersionsRequest::default())).await.error_code, 0);
    // The question in two parts, and then two questions at once.
    let id = park_again(&server, &mut client, version, &asks).await;
    assert_eq!(bytes(&client.receive::<FetchRequest>(version, id).await), 0);
    let parts = frame(ApiKey::Fetch as i16, version, 1_000_000, &asks);
    client.io.write_all(&parts[..parts.len() / 2]).await.unwrap();
    settles(&server, false).await;
    client.io.write_all(&parts[parts.len() / 2..]).await.unwrap();
    assert_eq!(bytes(&client.receive::<FetchRequest>(version, 1_000_000).await), 0);
    let id = park_again(&server, &mut client, version, &asks).await;
    assert_eq!(bytes(&client.receive::<FetchRequest>(version, id).await), 0);
    client.io.write_all(&[&parts[..], &parts[..]].concat()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(bytes(&soon(client.receive::<FetchRequest>(version, 1_000_000)).await), 0);
    }
    // Nonsense.
    let id = park_again(&server, &mut client, version, &asks).await;
    client.io.write_all(&[0xff; 8]).await.unwrap();
    assert_eq!(bytes(&soon(client.receive::<FetchRequest>(version, id)).await), 0);
    assert!(soon(client.is_closed()).await);
}

/// Opens a session that has told its records, and asks it until the connection is given away. The session, and the question's epoch and id.
async fn park_session(
    server: &Server,
    client: &mut Client<TcpStream>,
    topic: &Topic,
    wait: Duration,
) -> (i32, i32, i32) {
    let opened = client.call(12, &request(12, topic, 0, Duration::ZERO).with_session_epoch(0)).await;
    let session = opened.session_id;
    assert_eq!(bytes(&client.call(12, &in_session(session, 1, WAIT)).await), 0);
    let id = client.send(12, &in_session(session, 2, wait)).await;
    settles(server, true).await;
    (session, 2, id)
}

#[tokio::test]
async fn a_client_that_leaves_is_gone_at_once() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[]).await;
    let (mut client, serves) = server.connect_by_tcp().await;
    park_session(&server, &mut client, &topic, LONG).await;
    let begun = Instant::now();
    drop(client);
    assert_eq!(soon(serves).await.unwrap(), Ended::ByClient);
    assert!(begun.elapsed() < Duration::from_secs(1), "it was noticed after {:?}", begun.elapsed());
    // The same between two questions.
    let Parked { mut client, serves, version, id, server, .. } = park(12, WAIT).await;
    assert_eq!(bytes(&client.receive::<FetchRequest>(version, id).await), 0);
    drop(client);
    assert_eq!(soon(serves).await.unwrap(), Ended::ByClient);
    assert_eq!(server.ctx.connections_waiting(), 0);
}

#[tokio::test]
async fn a_client_that_asks_and_leaves_is_gone_at_once() {
    for _ in 0..3 {
        let Parked { server, topic, mut client, serves, version, id } = park(12, WAIT).await;
        assert_eq!(bytes(&client.receive::<FetchRequest>(version, id).await), 0);
        client
            .io
            .write_all(&frame(ApiKey::Fetch as i16, version, 77, &request(version, &topic, 0, WAIT)))
            .await
            .unwrap();
        client.io.shutdown().await.unwrap();
        assert_eq!(soon(serves).await.unwrap(), Ended::ByClient);
        assert_eq!(server.ctx.connections_waiting(), 0);
    }
}

#[tokio::test]
async fn an_idle_client_is_closed_in_the_room_too() {
    let mut options = Options::default();
    options.limits.idle_max = Duration::from_secs(1);
    let server = Server::start(options);
    let topic = server.topic("orders", 1, &[]).await;
    let (mut client, serves) = server.connect_by_tcp().await;
    let id = park_again(&server, &mut client, 12, &request(12, &topic, 0, WAIT)).await;
    assert_eq!(bytes(&client.receive::<FetchRequest>(12, id).await), 0);
    assert_eq!(server.ctx.connections_waiting(), 1);
    assert_eq!(soon(serves).await.unwrap(), Ended::Idle);
}

/// A connection comes back for a moment before it counts as idle. It goes to the room again only if its session is as it was.
#[tokio::test]
async fn a_session_that_is_closed_or_asked_elsewhere_does_not_wait_again() {
    for is_closed in [true, false] {
        let mut options = Options::default();
        options.limits.idle_max = Duration::from_secs(1);
        let server = Server::start(options);
        let topic = server.topic("orders", 1, &[]).await;
        let (mut client, _) = server.connect_by_tcp().await;
        let (session, epoch, first) = park_session(&server, &mut client, &topic, LONG).await;
        sleep(Duration::from_millis(1500)).await;
        settles(&server, true).await;
        let (mut other, _) = server.connect_by_tcp().await;
        // A full request closes the session that it names, whoever asks.
        let asks = match is_closed {
            true => request(12, &topic, 0, Duration::ZERO).with_session_id(session).with_session_epoch(-1),
            false => in_session(session, epoch + 1, WAIT),
        };
        assert_eq!(bytes(&other.call(12, &asks).await), 0);
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(server.ctx.connections_waiting(), 0);
        // It is told when there are news.
        append(&server, &topic.partition(0).unwrap()).await;
        let answer = soon(client.receive::<FetchRequest>(12, first)).await;
        assert_eq!(answer.error_code, if is_closed { 0 } else { 71 }, "INVALID_FETCH_SESSION_EPOCH");
        let answer = soon(client.call(12, &in_session(session, epoch + 1, LONG))).await;
        assert_eq!(answer.error_code, if is_closed { 70 } else { 71 }, "FETCH_SESSION_ID_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_shutdown_answers_at_once_and_closes() {
    let Parked { server, mut client, serves, version, id, .. } = park(12, LONG / 100).await;
    server.advance(Phase::Draining);
    let begun = Instant::now();
    assert_eq!(bytes(&soon(client.receive::<FetchRequest>(version, id)).await), 0);
    assert!(begun.elapsed() < LONG / 200);
    assert_eq!(soon(serves).await.unwrap(), Ended::Shutdown);
    // And where nothing waits.
    let Parked { server, mut client, serves, version, id, .. } = park(12, WAIT).await;
    assert_eq!(bytes(&client.receive::<FetchRequest>(version, id).await), 0);
    server.advance(Phase::Draining);
    assert_eq!(soon(serves).await.unwrap(), Ended::Shutdown);
}

#[tokio::test]
async fn a_session_keeps_count_of_its_epochs() {
    for version in [7, 12, 14, 15, 17] {
        let server = Server::start(Options::default());
        let topic = server.topic("orders", 1, &[]).await;
        let (mut client, _) = server.connect_by_tcp().await;
        let opened = client.call(version, &request(version, &topic, 0, Duration::ZERO).with_session_epoch(0)).await;
        let session = opened.session_id;
        assert_ne!(session, 0);
        assert_eq!(bytes(&client.call(version, &in_session(session, 1, WAIT)).await), 0);
        for epoch in 2..5 {
            let id = client.send(version, &in_session(session, epoch, WAIT)).await;
            settles(&server, true).await;
            let answer = client.receive::<FetchRequest>(version, id).await;
            assert_eq!((bytes(&answer), answer.session_id, answer.responses.len()), (0, session, 0));
        }
        // With another wait, and so in other bytes.
        let id = client.send(version, &in_session(session, 5, LONG)).await;
        sleep(WAIT).await;
        settles(&server, true).await;
        let size = append(&server, &topic.partition(0).unwrap()).await;
        assert_eq!(bytes(&soon(client.receive::<FetchRequest>(version, id)).await), size, "version {version}");
        // The records are behind it.
        assert_eq!(
            bytes(
                &client
                    .call(version, &in_session(session, 6, WAIT).with_topics(request(version, &topic, 1, WAIT).topics))
                    .await
            ),
            0
        );
        let id = client.send(version, &in_session(session, 7, WAIT)).await;
        settles(&server, true).await;
        assert_eq!(bytes(&client.receive::<FetchRequest>(version, id).await), 0);
        // An epoch that is out of step is refused, and the right one still goes on.
        let refused = soon(client.call(version, &in_session(session, 9, WAIT))).await;
        assert_eq!(refused.error_code, 71, "INVALID_FETCH_SESSION_EPOCH");
        assert_eq!(bytes(&client.call(version, &in_session(session, 8, WAIT)).await), 0);
    }
}

#[tokio::test]
async fn who_wants_much_or_waits_little_is_not_given_away() {
    let server = Server::start(Options::default());
    let topic = server.topic("orders", 1, &[]).await;
    let (mut client, _) = server.connect_by_tcp().await;
    let much = request(12, &topic, 0, WAIT).with_min_bytes(1000);
    let short = request(12, &topic, 0, Duration::from_millis(20));
    for asks in [&much, &short] {
        client.call(12, asks).await;
        let id = client.send(12, asks).await;
        sleep(Duration::from_millis(10)).await;
        assert_eq!(server.ctx.connections_waiting(), 0);
        client.receive::<FetchRequest>(12, id).await;
    }
    // What there is when the time is over comes in this answer, even if it is too little.
    let id = client.send(12, &much).await;
    sleep(Duration::from_millis(10)).await;
    let size = append(&server, &topic.partition(0).unwrap()).await;
    assert_eq!(bytes(&client.receive::<FetchRequest>(12, id).await), size);
}
