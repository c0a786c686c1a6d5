//! Groups through whole connections: who waits, who is answered when, and what is there after a restart.

mod harness;

use bytes::Bytes;
use harness::{Client, Server, engine_options, name};
use headwater_engine::batch::headers;
use headwater_engine::env::Env;
use headwater_engine::{Engine, Read, ReadRequest};
use headwater_protocol::Phase;
use headwater_protocol::metrics::Ended;
use headwater_protocol_kafka::Options;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteTopicsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const JOIN: i16 = 9;
const SYNC: i16 = 5;
const BEAT: i16 = 4;

fn options() -> Options {
    let mut options = Options::default();
    options.groups.initial_rebalance_delay_ms = 0;
    options.groups.topic_partitions = 3;
    options
}

fn join(group: &str, id: &StrBytes) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(name("range"))
        .with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x06orders\xff\xff\xff\xff"));
    JoinGroupRequest::default()
        .with_group_id(name(group).into())
        .with_member_id(id.clone())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(name("consumer"))
        .with_protocols(vec![protocol])
}

fn sync(group: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let assignments = joined.members.iter().map(|member| {
        let assignment = Bytes::from(format!("for {}", member.member_id.as_str()));
        SyncGroupRequestAssignment::default().with_member_id(member.member_id.clone()).with_assignment(assignment)
    });
    SyncGroupRequest::default()
        .with_group_id(name(group).into())
        .with_member_id(joined.member_id.clone())
        .with_generation_id(joined.generation_id)
        .with_protocol_type(Some(name("consumer")))
        .with_protocol_name(Some(name("range")))
        .with_assignments(assignments.collect())
}

/// A new member's id.
async fn id(client: &mut Client, group: &str) -> StrBytes {
    let answer = client.call(JOIN, &join(group, &StrBytes::new())).await;
    assert_eq!(answer.error_code, 79);
    answer.member_id
}

/// Joins alone, and is assigned to.
async fn alone(client: &mut Client, group: &str) -> JoinGroupResponse {
    let id = id(client, group).await;
    let joined = client.call(JOIN, &join(group, &id)).await;
    assert_eq!(joined.error_code, 0);
    let synced: SyncGroupResponse = client.call(SYNC, &sync(group, &joined)).await;
    assert_eq!(synced.error_code, 0);
    joined
}

async fn beat(client: &mut Client, group: &str, joined: &JoinGroupResponse) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(name(group).into())
        .with_member_id(joined.member_id.clone())
        .with_generation_id(joined.generation_id);
    client.call(BEAT, &request).await.error_code
}

async fn commit(client: &mut Client, group: &str, member: Option<&JoinGroupResponse>, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(name("orders").into()).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(name(group).into())
        .with_generation_id_or_member_epoch(member.map_or(-1, |member| member.generation_id))
        .with_member_id(member.map(|member| member.member_id.clone()).unwrap_or_default())
        .with_topics(vec![topic]);
    client.call(9, &request).await.topics[0].partitions[0].error_code
}

/// The committed offset; -1: none. Waits while groups are being loaded.
async fn committed(client: &mut Client, group: &str) -> i64 {
    loop {
        let topic =
            OffsetFetchRequestTopics::default().with_name(name("orders").into()).with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default().with_group_id(name(group).into()).with_topics(Some(vec![topic]));
        let answer = client.call(8, &OffsetFetchRequest::default().with_groups(vec![group])).await;
        match answer.groups[0].error_code {
            0 => return answer.groups[0].topics[0].partitions[0].committed_offset,
            14 => tokio::time::sleep(Duration::from_millis(1)).await,
            other => panic!("error {other}"),
        }
    }
}

async fn state(client: &mut Client, group: &str) -> String {
    let answer = client.call(5, &DescribeGroupsRequest::default().with_groups(vec![name(group).into()])).await;
    answer.groups[0].group_state.to_string()
}

#[tokio::test]
async fn members_wait_for_each_other_and_get_what_the_leader_assigns() {
    let server = Server::start(options());
    let (mut a, mut b) = (server.connect(), server.connect());
    let first = alone(&mut a, "g").await;
    assert_eq!((first.generation_id, &first.leader), (1, &first.member_id));
    let b_id = id(&mut b, "g").await;
    let waiting = b.send(JOIN, &join("g", &b_id)).await;
    // The other connection has its turn before the leader is asked.
    while beat(&mut a, "g", &first).await != 27 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let leader = a.call(JOIN, &join("g", &first.member_id)).await;
    let follower = b.receive::<JoinGroupRequest>(JOIN, waiting).await;
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    let waiting = b.send(SYNC, &sync("g", &follower)).await;
    let own = a.call(SYNC, &sync("g", &leader)).await;
    let other = b.receive::<SyncGroupRequest>(SYNC, waiting).await;
    for (synced, joined) in [(own, &leader), (other, &follower)] {
        assert_eq!(&synced.assignment[..], format!("for {}", joined.member_id.as_str()).as_bytes());
    }
    assert_eq!(state(&mut a, "g").await, "Stable");
    let member = MemberIdentity::default().with_member_id(follower.member_id);
    let leave = LeaveGroupRequest::default().with_group_id(name("g").into()).with_members(vec![member]);
    assert_eq!(b.call(5, &leave).await.members[0].error_code, 0);
    assert_eq!(beat(&mut a, "g", &leader).await, 27);
    drop((a, b));
    server.settle().await;
}

#[tokio::test]
async fn whoever_leaves_while_it_waits_holds_no_memory_and_stays_a_member() {
    let server = Server::start(options());
    let (mut a, mut b) = (server.connect(), server.connect());
    let first = alone(&mut a, "g").await;
    let b_id = id(&mut b, "g").await;
    b.send(JOIN, &join("g", &b_id)).await;
    while beat(&mut a, "g", &first).await != 27 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(b);
    server.settle().await;
    let leader = a.call(JOIN, &join("g", &first.member_id)).await;
    assert_eq!(leader.members.len(), 2, "its session goes on, as at the reference");
}

#[tokio::test]
async fn whoever_waits_is_sent_away_when_the_server_stops() {
    let server = Server::start(options());
    let (mut a, mut b) = (server.connect(), server.connect());
    let first = alone(&mut a, "g").await;
    let b_id = id(&mut b, "g").await;
    let waiting = b.send(JOIN, &join("g", &b_id)).await;
    while beat(&mut a, "g", &first).await != 27 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.advance(Phase::Draining);
    assert_eq!(b.receive::<JoinGroupRequest>(JOIN, waiting).await.error_code, 16);
    assert!(b.is_closed().await);
}

#[tokio::test]
async fn a_silent_member_is_removed_by_the_timer() {
    let mut options = options();
    options.groups.session_timeout_min_ms = 1;
    let server = Server::start(options);
    let mut client = server.connect();
    let id = id(&mut client, "g").await;
    let request = join("g", &id).with_session_timeout_ms(50);
    let joined = client.call(JOIN, &request).await;
    assert_eq!(client.call(SYNC, &sync("g", &joined)).await.error_code, 0);
    while state(&mut client, "g").await != "Empty" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(beat(&mut client, "g", &joined).await, 25);
}

/// A server on real files, which can be started again.
fn over(folder: &tempfile::TempDir) -> Server {
    let env = Env::real(folder.path()).expect("the machine");
    let mut engine_options = engine_options();
    engine_options.data_dir = folder.path().to_owned();
    let engine = Engine::open(env, engine_options).expect("the folder");
    engine.start().expect("threads");
    Server::around(engine, options(), true)
}

/// Stops a server whose clients are gone, so that its folder can be opened again.
async fn stop(client: Client, serving: JoinHandle<Ended>, server: Server) {
    drop(client);
    serving.await.expect("a connection that ends");
    drop(server);
}

#[tokio::test]
async fn groups_and_offsets_are_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = over(&folder);
    server.topic("orders", 1, &[]).await;
    let (mut client, serving) = server.connect_with(1 << 16);
    let joined = alone(&mut client, "g").await;
    for offset in [3, 9, 7] {
        assert_eq!(commit(&mut client, "g", Some(&joined), offset).await, 0);
        assert_eq!(committed(&mut client, "g").await, offset);
    }
    assert_eq!(commit(&mut client, "simple", None, 5).await, 0);
    stop(client, serving, server).await;

    let server = over(&folder);
    let mut client = server.connect();
    assert_eq!(committed(&mut client, "g").await, 7);
    assert_eq!(committed(&mut client, "simple").await, 5);
    assert_eq!(committed(&mut client, "nobody").await, -1);
    assert_eq!(state(&mut client, "g").await, "Stable");
    assert_eq!(beat(&mut client, "g", &joined).await, 0, "the group goes on without a rebalance");
    let synced = client.call(SYNC, &sync("g", &joined)).await;
    assert_eq!(&synced.assignment[..], format!("for {}", joined.member_id.as_str()).as_bytes());
    let listed = client.call(4, &ListGroupsRequest::default()).await;
    assert_eq!(listed.groups.len(), 2);
}

#[tokio::test]
async fn offsets_go_with_their_topic() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = over(&folder);
    server.topic("orders", 1, &[]).await;
    let (mut client, serving) = server.connect_with(1 << 16);
    assert_eq!(commit(&mut client, "g", None, 5).await, 0);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![name("orders").into()]).with_timeout_ms(1_000);
    assert_eq!(client.call(5, &delete).await.responses[0].error_code, 0);
    server.topic("orders", 1, &[]).await;
    assert_eq!(committed(&mut client, "g").await, -1);
    assert_eq!(commit(&mut client, "g", None, 6).await, 0);
    // A topic that is deleted where the groups do not hear of it, as in a crash right behind it.
    let topic = server.engine.topic("orders").expect("the topic");
    server.engine.delete_topic(topic.id()).await.expect("deleted");
    server.topic("orders", 1, &[]).await;
    drop(topic);
    stop(client, serving, server).await;
    let server = over(&folder);
    assert_eq!(committed(&mut server.connect(), "g").await, -1);
}

#[tokio::test]
async fn what_nobody_needs_expires() {
    let mut options = options();
    // The clock of the simulated machine stands still.
    options.groups.offsets_retention_ms = 0;
    options.groups.retention_check_interval = Duration::from_millis(20);
    let server = Server::start(options);
    server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    let joined = alone(&mut client, "kept").await;
    assert_eq!(commit(&mut client, "kept", Some(&joined), 5).await, 0);
    assert_eq!(commit(&mut client, "gone", None, 5).await, 0);
    while state(&mut client, "gone").await != "Dead" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(committed(&mut client, "gone").await, -1);
    assert_eq!(committed(&mut client, "kept").await, 5, "its members read the topic");
}

#[tokio::test]
async fn the_topic_of_the_groups_is_made_when_it_is_needed_and_is_compacted() {
    let server = Server::start(options());
    assert!(server.engine.topic("__consumer_offsets").is_none());
    let answer =
        server.connect().call(4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![name("g")])).await;
    assert_eq!((answer.coordinators[0].error_code, answer.coordinators[0].port), (0, 9092));
    let topic = server.engine.topic("__consumer_offsets").expect("the topic");
    assert_eq!(topic.partitions().len(), 3);
    assert_eq!(topic.settings().overrides().get("cleanup.policy").map(String::as_str), Some("compact"));
}

/// A client left while its JoinGroup waited for another member. What it had sent behind that had been read, so nothing more was,
/// and nobody noticed: the connection stayed for as long as the client had said that a rebalance may take.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_behind_a_request_that_waits_is_missed_in_the_end() {
    let mut options = options();
    // Less than a new member has for its first generation, which would end it too.
    options.limits.idle_max = Duration::from_secs(60);
    let server = Server::start(options);
    let mut first = server.connect();
    let joined = alone(&mut first, "group").await;
    let mut second = server.connect_with(1 << 16);
    let new = id(&mut second.0, "group").await;
    let since = tokio::time::Instant::now();
    let mut request = join("group", &new);
    request.rebalance_timeout_ms = i32::MAX;
    second.0.send(JOIN, &request).await;
    second.0.send(3, &FindCoordinatorRequest::default().with_key(name("group"))).await;
    drop(second.0);
    // The first member lives and does not rejoin.
    while !second.1.is_finished() {
        assert!(since.elapsed() < Duration::from_secs(100), "nobody has noticed");
        beat(&mut first, "group", &joined).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let ended = second.1.await.unwrap();
    assert!(matches!(ended, Ended::Idle), "{ended:?} after {:?}", since.elapsed());
}

/// A commit of these partitions of topic orders, with nothing said beside them.
fn commit_of(group: &str, partitions: std::ops::Range<i32>) -> OffsetCommitRequest {
    let partitions = partitions.map(|index| OffsetCommitRequestPartition::default().with_partition_index(index));
    let topic =
        OffsetCommitRequestTopic::default().with_name(name("orders").into()).with_partitions(partitions.collect());
    OffsetCommitRequest::default()
        .with_group_id(name(group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

#[tokio::test]
async fn a_large_group_goes_in_batches_of_ordinary_size() {
    let server = Server::start(options());
    server.topic("orders", 100, &[]).await;
    let mut client = server.connect();
    let group = "g".repeat(30_000);
    let large = client.call(9, &commit_of(&group, 0..100)).await;
    assert_eq!(large.topics[0].partitions[0].error_code, -1, "as the reference says of a batch over a megabyte");
    for from in [0, 25, 50, 75] {
        let answer = client.call(9, &commit_of(&group, from..from + 25)).await;
        assert!(answer.topics[0].partitions.iter().all(|partition| partition.error_code == 0));
    }
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![name(&group).into()]);
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 0);
    assert_eq!(state(&mut client, &group).await, "Dead");
    let topic = server.engine.topic("__consumer_offsets").expect("the topic");
    let mut records = 0;
    for partition in topic.partitions().iter() {
        let mut from = partition.bounds().log_start;
        while from < partition.bounds().high_watermark {
            let request = ReadRequest { from, bytes_max: 1, at_least_one: true, stable_only: false };
            let read = match partition.read(&request).expect("a batch") {
                Read::Ready(batches) => batches,
                Read::Cold(cold) => cold.read().expect("a batch"),
            };
            let bytes = read.range.expect("a batch").bytes().expect("its bytes");
            for (_, header) in headers(&bytes) {
                assert!(header.size <= 1 << 20, "a batch of {} bytes", header.size);
                records += header.record_count;
            }
            from = read.next;
        }
    }
    assert_eq!(records, 100 + 100 + 1, "offsets, their ends and that of the group");
}

/// A server whose log takes nothing while it is held.
fn holding(options: Options) -> (Server, Arc<AtomicBool>) {
    let (server, mut drive) = Server::by_hand(options);
    let is_held = Arc::new(AtomicBool::new(false));
    let held = is_held.clone();
    tokio::spawn(async move {
        loop {
            if !held.load(Ordering::Relaxed) {
                drive.commit().expect("a sound disk");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    (server, is_held)
}

/// What was there before was judged to be old, and its end went behind the commit that replaced it.
#[tokio::test(start_paused = true)]
async fn a_commit_on_its_way_outlives_what_it_replaces() {
    let mut options = options();
    options.groups.retention_check_interval = Duration::from_secs(10);
    let (server, is_held) = holding(options);
    let old = server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    let joined = alone(&mut client, "g").await;
    assert_eq!(commit(&mut client, "g", Some(&joined), 5).await, 0);
    server.engine.delete_topic(old.id()).await.expect("deleted");
    server.topic("orders", 1, &[]).await;
    is_held.store(true, Ordering::Relaxed);
    let request = commit_of("g", 0..1);
    let request = request.with_generation_id_or_member_epoch(joined.generation_id).with_member_id(joined.member_id);
    let id = client.send(9, &request).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    is_held.store(false, Ordering::Relaxed);
    assert_eq!(client.receive::<OffsetCommitRequest>(9, id).await.topics[0].partitions[0].error_code, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(committed(&mut client, "g").await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_another_request_deletes_is_said_to_be_gone_when_it_is() {
    let (server, is_held) = holding(options());
    server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    assert_eq!(commit(&mut client, "g", None, 5).await, 0);
    let partitions = vec![OffsetDeleteRequestPartition::default()];
    let topic = OffsetDeleteRequestTopic::default().with_name(name("orders").into()).with_partitions(partitions);
    let delete = OffsetDeleteRequest::default().with_group_id(name("g").into()).with_topics(vec![topic]);
    is_held.store(true, Ordering::Relaxed);
    client.send(0, &delete).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut other = server.connect();
    other.send(0, &delete).await;
    let early = tokio::time::timeout(Duration::from_secs(1), other.receive_frame()).await;
    assert!(early.is_err(), "answered before it is gone");
    is_held.store(false, Ordering::Relaxed);
    assert!(other.receive_frame().await.is_some());
}

#[tokio::test]
async fn that_nobody_is_left_is_said_once_it_is_kept() {
    let (server, is_held) = holding(options());
    server.topic("orders", 1, &[]).await;
    let mut client = server.connect();
    let joined = alone(&mut client, "g").await;
    is_held.store(true, Ordering::Relaxed);
    let member = MemberIdentity::default().with_member_id(joined.member_id.clone());
    let leave = LeaveGroupRequest::default().with_group_id(name("g").into()).with_members(vec![member]);
    let id = client.send(5, &leave).await;
    let early = tokio::time::timeout(Duration::from_millis(100), client.receive_frame()).await;
    assert!(early.is_err(), "answered before it is kept");
    is_held.store(false, Ordering::Relaxed);
    assert_eq!(client.receive::<LeaveGroupRequest>(5, id).await.members[0].error_code, 0);
    assert_eq!(state(&mut client, "g").await, "Empty");
}

#[tokio::test]
async fn offsets_of_a_topic_that_nobody_told_of_go_too() {
    let mut options = options();
    options.groups.retention_check_interval = Duration::from_millis(20);
    let server = Server::start(options);
    let orders = server.topic("orders", 1, &[]).await;
    server.topic("others", 1, &[]).await;
    let mut client = server.connect();
    assert_eq!(commit(&mut client, "g", None, 5).await, 0);
    server.engine.delete_topic(orders.id()).await.expect("deleted");
    while state(&mut client, "g").await != "Dead" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Requests that hold all memory, one of them more than there is, waited for each other when their answers needed some too.
#[tokio::test]
async fn requests_that_hold_all_memory_get_their_answers() {
    let mut options = options();
    options.limits.request_memory_max = 8 << 20;
    let server = Server::start(options);
    server.topic("orders", 100, &[]).await;
    let group = "g".repeat(500);
    let answer = server.connect().call(9, &commit_of(&group, 0..100)).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    // Each frame of 300 KB takes more than all there is, and its answer more than answers may take.
    let asked = OffsetFetchRequestGroup::default().with_group_id(name(&group).into()).with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![asked; 600]);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let mut client = server.connect_with(64 << 20).0;
            let request = request.clone();
            tokio::spawn(async move { client.call(8, &request).await.groups.len() })
        })
        .collect();
    for task in tasks {
        let answered = tokio::time::timeout(Duration::from_secs(60), task).await;
        assert_eq!(answered.expect("an answer").expect("a client"), 600);
    }
    server.settle().await;
}

#[tokio::test]
async fn a_request_that_names_too_many_groups_ends_its_connection() {
    let server = Server::start(options());
    let many = |count: usize| vec![name("g"); count];
    let mut client = server.connect();
    let answer = client.call(4, &FindCoordinatorRequest::default().with_coordinator_keys(many(100_000))).await;
    assert_eq!(answer.coordinators.len(), 100_000);
    client.send(4, &FindCoordinatorRequest::default().with_coordinator_keys(many(100_001))).await;
    assert!(client.is_closed().await);
}
