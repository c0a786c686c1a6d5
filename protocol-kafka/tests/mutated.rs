//! Requests with bytes changed, cut, doubled, and lengths made absurd, sent through whole connections to a real engine: no
//! panic, no hang, no memory that stays in use, and the server serves on.
//!
//! `HEADWATER_TEST_ALL` asks for a million cases; `HEADWATER_TEST_CASES` for any number.

#[path = "mutated/groups.rs"]
mod groups;
mod harness;

use bytes::{Bytes, BytesMut};
use harness::{Server, batch, compressed, frame, frame_since, idempotent, name};
use headwater_engine::batch::Codec;
use headwater_protocol::metrics::Ended;
use headwater_protocol_kafka::{Options, TABLE};
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AddRaftVoterRequest, AlterClientQuotasRequest, AlterConfigsRequest, AlterPartitionReassignmentsRequest,
    AlterReplicaLogDirsRequest, DescribeClientQuotasRequest, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeQuorumRequest, ElectLeadersRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    ListPartitionReassignmentsRequest, RemoveRaftVoterRequest, UnregisterBrokerRequest, UpdateFeaturesRequest,
    add_raft_voter_request, alter_configs_request, describe_producers_request, describe_quorum_request,
    elect_leaders_request, incremental_alter_configs_request,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeTopicPartitionsRequest, FetchRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

/// One good request of an operation's version.
fn request(key: ApiKey, version: i16, topic_id: Uuid) -> Bytes {
    let orders = || name("orders");
    let v = version;
    match key {
        ApiKey::Produce => {
            let batches = [batch(&["a", "b"]), compressed(Codec::Gzip, &["c"; 9]), idempotent(1, 0, 0, &["d"])];
            let partitions = (0..).zip(batches).map(|(index, records)| {
                PartitionProduceData::default().with_index(index % 2).with_records(Some(records))
            });
            let topic = TopicProduceData::default().with_partition_data(partitions.collect());
            let topic = if v >= 13 { topic.with_topic_id(topic_id) } else { topic.with_name(orders().into()) };
            let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(100).with_topic_data(vec![topic]);
            frame(0, v, 1, &request)
        }
        ApiKey::Fetch => {
            let partitions =
                (0..3).map(|index| FetchPartition::default().with_partition(index).with_partition_max_bytes(9_999));
            let mut topic = FetchTopic::default().with_partitions(partitions.collect());
            let mut forgotten = ForgottenTopic::default().with_partitions(vec![5, 6]);
            if v >= 13 {
                (topic, forgotten) = (topic.with_topic_id(topic_id), forgotten.with_topic_id(topic_id));
            } else {
                (topic, forgotten) = (topic.with_topic(orders().into()), forgotten.with_topic(orders().into()));
            }
            let mut request = FetchRequest::default().with_max_wait_ms(1).with_min_bytes(1).with_topics(vec![topic]);
            if v >= 7 {
                request = request.with_session_epoch(0).with_forgotten_topics_data(vec![forgotten]);
            }
            frame(1, v, 1, &request)
        }
        ApiKey::ListOffsets => {
            let partitions = [-1, -2, -3, 5].map(|time| ListOffsetsPartition::default().with_timestamp(time));
            let topic = ListOffsetsTopic::default().with_name(orders().into()).with_partitions(partitions.to_vec());
            frame_since(2, v, v.min(10), 1, &ListOffsetsRequest::default().with_topics(vec![topic]))
        }
        ApiKey::Metadata => {
            let topic = MetadataRequestTopic::default().with_name(Some(orders().into()));
            frame(3, v, 1, &MetadataRequest::default().with_topics(Some(vec![topic])))
        }
        ApiKey::ApiVersions => {
            let mut request = ApiVersionsRequest::default();
            if v >= 3 {
                request = request.with_client_software_name(name("a")).with_client_software_version(name("1"));
            }
            if v < 5 {
                return frame(18, v, 1, &request);
            }
            // The cluster and the node come before the tagged fields.
            let mut frame = frame_since(18, v, 4, 1, &request).to_vec();
            frame.truncate(frame.len() - 1);
            frame.extend_from_slice(&[5, b'a', b'b', b'c', b'd', 0, 0, 0, 1, 0]);
            let size = i32::try_from(frame.len() - 4).expect("a small request");
            frame[..4].copy_from_slice(&size.to_be_bytes());
            frame.into()
        }
        ApiKey::CreateTopics => {
            let config = CreatableTopicConfig::default().with_name(name("segment.ms")).with_value(Some(name("99999")));
            let topic = CreatableTopic::default()
                .with_name(name("made").into())
                .with_num_partitions(2)
                .with_replication_factor(1)
                .with_configs(vec![config]);
            frame(19, v, 1, &CreateTopicsRequest::default().with_timeout_ms(50).with_topics(vec![topic]))
        }
        ApiKey::DeleteTopics => {
            let mut request = DeleteTopicsRequest::default().with_timeout_ms(50);
            if v >= 6 {
                request.topics.push(DeleteTopicState::default().with_name(Some(name("made").into())));
            } else {
                request.topic_names.push(name("made").into());
            }
            frame(20, v, 1, &request)
        }
        ApiKey::DeleteRecords => {
            let partition = DeleteRecordsPartition::default().with_offset(1);
            let topic = DeleteRecordsTopic::default().with_name(orders().into()).with_partitions(vec![partition]);
            frame(21, v, 1, &DeleteRecordsRequest::default().with_timeout_ms(50).with_topics(vec![topic]))
        }
        ApiKey::InitProducerId => frame(22, v, 1, &InitProducerIdRequest::default().with_transactional_id(None)),
        ApiKey::OffsetForLeaderEpoch => {
            let topic = OffsetForLeaderTopic::default()
                .with_topic(orders().into())
                .with_partitions(vec![OffsetForLeaderPartition::default(); 2]);
            frame(23, v, 1, &OffsetForLeaderEpochRequest::default().with_topics(vec![topic]))
        }
        ApiKey::DescribeConfigs => {
            let resources = [(2, "orders"), (4, "1")].map(|(kind, of)| {
                DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(name(of))
            });
            frame(32, v, 1, &DescribeConfigsRequest::default().with_resources(resources.to_vec()))
        }
        ApiKey::AlterConfigs => {
            let config = alter_configs_request::AlterableConfig::default()
                .with_name(name("segment.ms"))
                .with_value(Some(name("99999")));
            let resource = alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(name("made"))
                .with_configs(vec![config]);
            frame(33, v, 1, &AlterConfigsRequest::default().with_resources(vec![resource]))
        }
        ApiKey::IncrementalAlterConfigs => {
            let configs =
                [(0, "segment.ms", "99999"), (2, "cleanup.policy", "compact")].map(|(operation, of, value)| {
                    incremental_alter_configs_request::AlterableConfig::default()
                        .with_name(name(of))
                        .with_config_operation(operation)
                        .with_value(Some(name(value)))
                });
            let resource = incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(name("made"))
                .with_configs(configs.to_vec());
            frame(44, v, 1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]))
        }
        ApiKey::AlterReplicaLogDirs => {
            let topic = AlterReplicaLogDirTopic::default().with_name(orders().into()).with_partitions(vec![0, 7]);
            let dir = AlterReplicaLogDir::default().with_path(name("data")).with_topics(vec![topic]);
            frame(34, v, 1, &AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]))
        }
        ApiKey::DescribeLogDirs => {
            let topic = DescribableLogDirTopic::default().with_topic(orders().into()).with_partitions(vec![0, 1]);
            frame_since(35, v, v.min(4), 1, &DescribeLogDirsRequest::default().with_topics(Some(vec![topic])))
        }
        ApiKey::ElectLeaders => {
            let topic = elect_leaders_request::TopicPartitions::default()
                .with_topic(orders().into())
                .with_partitions(vec![0, 1]);
            frame(43, v, 1, &ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic])))
        }
        ApiKey::AlterPartitionReassignments => {
            let partition = ReassignablePartition::default().with_replicas(Some(vec![1.into(), 2.into()]));
            let topic = ReassignableTopic::default().with_name(orders().into()).with_partitions(vec![partition]);
            frame(45, v, 1, &AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]))
        }
        ApiKey::ListPartitionReassignments => {
            frame(46, v, 1, &ListPartitionReassignmentsRequest::default().with_topics(None))
        }
        ApiKey::DescribeClientQuotas => {
            let component = ComponentData::default().with_entity_type(name("user")).with_match_type(2).with_match(None);
            frame(48, v, 1, &DescribeClientQuotasRequest::default().with_components(vec![component]))
        }
        ApiKey::AlterClientQuotas => {
            let entity = EntityData::default().with_entity_type(name("user")).with_entity_name(Some(name("a")));
            let change = OpData::default().with_key(name("request_percentage")).with_value(5.0);
            let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![change]);
            frame(49, v, 1, &AlterClientQuotasRequest::default().with_entries(vec![entry]))
        }
        ApiKey::DescribeQuorum => {
            let partition = describe_quorum_request::PartitionData::default();
            let topic = describe_quorum_request::TopicData::default()
                .with_topic_name(name("__cluster_metadata").into())
                .with_partitions(vec![partition]);
            frame(55, v, 1, &DescribeQuorumRequest::default().with_topics(vec![topic]))
        }
        ApiKey::UpdateFeatures => {
            let update = FeatureUpdateKey::default().with_feature(name("f")).with_max_version_level(1);
            frame(57, v, 1, &UpdateFeaturesRequest::default().with_feature_updates(vec![update]))
        }
        ApiKey::DescribeProducers => {
            let topic = describe_producers_request::TopicRequest::default()
                .with_name(orders().into())
                .with_partition_indexes(vec![0, 1, 2]);
            frame(61, v, 1, &DescribeProducersRequest::default().with_topics(vec![topic]))
        }
        ApiKey::UnregisterBroker => frame(64, v, 1, &UnregisterBrokerRequest::default().with_broker_id(7.into())),
        ApiKey::ListConfigResources => {
            let kinds = if v >= 1 { vec![2, 4] } else { Vec::new() };
            frame(74, v, 1, &ListConfigResourcesRequest::default().with_resource_types(kinds))
        }
        ApiKey::AddRaftVoter => {
            let listener = add_raft_voter_request::Listener::default().with_name(name("C")).with_host(name("h"));
            let request = AddRaftVoterRequest::default().with_voter_id(7).with_listeners(vec![listener]);
            if v == 0 {
                return frame(80, v, 1, &request);
            }
            // Whether to wait comes before the tagged fields.
            let mut frame = frame_since(80, v, 0, 1, &request).to_vec();
            frame.extend_from_slice(&[0]);
            let size = i32::try_from(frame.len() - 4).expect("a small request");
            frame[..4].copy_from_slice(&size.to_be_bytes());
            frame.into()
        }
        ApiKey::RemoveRaftVoter => frame(81, v, 1, &RemoveRaftVoterRequest::default().with_voter_id(7)),
        ApiKey::CreatePartitions => {
            let topic = CreatePartitionsTopic::default().with_name(name("made").into()).with_count(3);
            frame(37, v, 1, &CreatePartitionsRequest::default().with_timeout_ms(50).with_topics(vec![topic]))
        }
        ApiKey::DescribeCluster => frame(60, v, 1, &DescribeClusterRequest::default()),
        ApiKey::DescribeTopicPartitions => {
            let cursor = Cursor::default().with_topic_name(orders().into());
            let request = DescribeTopicPartitionsRequest::default()
                .with_topics(vec![TopicRequest::default().with_name(orders().into())])
                .with_cursor(Some(cursor));
            frame(75, v, 1, &request)
        }
        other => groups::request(other, v, topic_id)
            .unwrap_or_else(|| panic!("{other:?} has a row and no request here: add one")),
    }
}

/// A change to a request's bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    /// A number where a length may stand.
    Number(prop::sample::Index, i32),
    /// A varint where a length may stand.
    Varint(prop::sample::Index, u32),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    /// The frame's size does not say how long the frame is.
    Size(i32),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let number =
        prop_oneof![Just(-1), Just(0), Just(i32::MAX), Just(i32::MIN), Just(1 << 20), Just(1 << 30), any::<i32>()];
    let varint = prop_oneof![Just(0), Just(u32::MAX), Just(1 << 20), Just(1 << 31), any::<u32>()];
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, to)| Change::Set(at, to)),
        3 => (at(), number).prop_map(|(at, to)| Change::Number(at, to)),
        3 => (at(), varint).prop_map(|(at, to)| Change::Varint(at, to)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), 1u8..20).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (-2i32..2_000).prop_map(Change::Size),
    ]
}

fn apply(bytes: &mut BytesMut, change: &Change) {
    // All but `Size` leave the size true afterwards, so that the change reaches the decoders.
    let mut body = bytes.split_off(4);
    let place = |at: &prop::sample::Index, length: usize| at.index(length.max(1)).min(length);
    match change {
        Change::Set(at, to) => {
            let at = place(at, body.len());
            if let Some(byte) = body.get_mut(at) {
                *byte = *to;
            }
        }
        Change::Number(at, to) => {
            let at = place(at, body.len());
            for (byte, to) in body[at..].iter_mut().zip(to.to_be_bytes()) {
                *byte = to;
            }
        }
        Change::Varint(at, to) => {
            let at = place(at, body.len());
            let mut rest = *to;
            for byte in &mut body[at..] {
                *byte = (rest & 0x7f) as u8 | if rest >= 0x80 { 0x80 } else { 0 };
                rest >>= 7;
                if rest == 0 {
                    break;
                }
            }
        }
        Change::Cut(at) => body.truncate(place(at, body.len())),
        Change::Remove(at, count) => {
            let at = place(at, body.len());
            let tail = body.split_off(at);
            body.extend_from_slice(&tail[usize::from(*count).min(tail.len())..]);
        }
        Change::Insert(at, more) => {
            let tail = body.split_off(place(at, body.len()));
            body.extend_from_slice(more);
            body.extend_from_slice(&tail);
        }
        Change::Size(_) => {}
    }
    let size = match change {
        Change::Size(size) => *size,
        _ => body.len() as i32,
    };
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    bytes.unsplit(body);
}

#[derive(Clone, Debug)]
struct Case {
    requests: Vec<(prop::sample::Index, Vec<Change>)>,
    piece: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let request = (any::<prop::sample::Index>(), prop::collection::vec(change(), 0..4));
    (prop::collection::vec(request, 1..4), prop_oneof![Just(usize::MAX), 1usize..64])
        .prop_map(|(requests, piece)| Case { requests, piece })
}

fn cases() -> u32 {
    let asked = std::env::var("HEADWATER_TEST_CASES").ok().and_then(|cases| cases.parse().ok());
    asked.unwrap_or(if std::env::var_os("HEADWATER_TEST_ALL").is_some() { 1_000_000 } else { 5_000 })
}

/// A line of the kernel's account of this process, in bytes.
#[allow(clippy::disallowed_methods, reason = "a look at the machine itself")]
fn memory(what: &str) -> u64 {
    let status = std::fs::read("/proc/self/status").expect("Linux");
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).expect("a known name");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
}

/// Sends bytes over a connection of their own and waits until it has ended. What comes back is whole answers.
async fn send(server: &Server, bytes: &[u8], piece: usize) -> Result<(), TestCaseError> {
    let (client, task) = server.connect_with(1 << 16);
    let (mut read, mut write) = tokio::io::split(client.io);
    let sending = async {
        for piece in bytes.chunks(piece.clamp(1, bytes.len().max(1))) {
            // The server may have closed already.
            if write.write_all(piece).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    };
    let mut answers = Vec::new();
    let all = async { tokio::join!(sending, read.read_to_end(&mut answers)).1 };
    let ended = tokio::time::timeout(Duration::from_secs(20), async { (all.await, task.await) }).await;
    let Ok((_, ended)) = ended else { return Err(TestCaseError::fail("the connection hangs")) };
    match ended {
        Ok(Ended::ByClient | Ended::Refused | Ended::Broken | Ended::Idle) => {}
        other => return Err(TestCaseError::fail(format!("the connection ended as {other:?}"))),
    }
    whole_frames(&answers)
}

/// A server with a few topics, and one good request of every operation and version.
async fn prepare() -> (Server, Vec<Bytes>) {
    let mut options = Options::default();
    // A fetch whose wait was changed must not make the test slow.
    options.limits.fetch_wait_max = Duration::from_millis(5);
    options.limits.busy_wait_max = Duration::from_millis(5);
    // Nor must a JoinGroup that waits for other members, with requests behind it.
    options.limits.idle_max = Duration::from_millis(50);
    options.limits.fetch_sessions_max = 50;
    options.groups.topic_partitions = 4;
    options.groups.initial_rebalance_delay_ms = 0;
    let server = Server::start_small(options);
    let topic = server.topic("orders", 2, &[("retention.bytes", "1000000"), ("segment.bytes", "1000000")]).await;
    server.topic("made", 1, &[]).await;
    let id = Uuid::from_bytes(topic.id().0);
    let templates = TABLE
        .iter()
        .flat_map(|row| {
            // An operation with one version is drawn as often as others.
            let versions: Vec<i16> = harness::versions(row.key).collect();
            let draws = versions.len().max(6);
            versions
                .into_iter()
                .cycle()
                .take(draws)
                .map(move |version| request(row.key, version, id))
                .collect::<Vec<_>>()
        })
        .collect();
    (server, templates)
}

/// The codec's crate allocates arrays as long as they say they are. An absurd length at any place of any request must be
/// refused before that: the process's address space tells, whether the memory was touched or not.
#[tokio::test]
async fn absurd_lengths_anywhere_allocate_nothing() {
    let (server, templates) = prepare().await;
    let before = memory("VmPeak");
    let mut sent = 0;
    for template in &templates {
        for at in 4..template.len() {
            for length in [i32::MAX, 1 << 28, 1 << 20] {
                let mut bytes = template.to_vec();
                for (byte, to) in bytes[at..].iter_mut().zip(length.to_be_bytes()) {
                    *byte = to;
                }
                send(&server, &bytes, usize::MAX).await.unwrap();
                let mut bytes = template.to_vec();
                for (byte, shift) in bytes[at..].iter_mut().zip([0, 7, 14, 21, 28]) {
                    let rest = length as u32 >> shift;
                    *byte = (rest & 0x7f) as u8 | if rest >= 0x80 { 0x80 } else { 0 };
                    if rest < 0x80 {
                        break;
                    }
                }
                send(&server, &bytes, usize::MAX).await.unwrap();
                sent += 2;
            }
        }
    }
    assert!(sent > 10_000, "{sent} requests");
    // 2^28 of the smallest structures are 8 GiB.
    let grown = memory("VmPeak") - before;
    assert!(grown < 2 << 30, "{grown} bytes were allocated at once");
}

#[test]
fn changed_requests_do_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, templates) = runtime.block_on(prepare());
    let before = memory("VmRSS");
    let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let result = runner.run(&case(), |case| {
        let mut bytes = BytesMut::new();
        for (template, changes) in &case.requests {
            let mut request = BytesMut::from(&template.get(&templates)[..]);
            changes.iter().for_each(|change| apply(&mut request, change));
            bytes.unsplit(request);
        }
        runtime.block_on(send(&server, &bytes, case.piece))
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    runtime.block_on(async {
        server.settle().await;
        let answer = server.connect().call(1, &MetadataRequest::default().with_topics(None)).await;
        assert!(!answer.topics.is_empty(), "the server serves on");
    });
    // Enough of the requests got through the decoders to mean something.
    for operation in server.ctx.metrics().snapshot().operations {
        let answered: u64 = operation.requests.iter().map(|(_, count)| count).sum();
        assert!(answered > u64::from(cases()) / 1_000, "{} was answered {answered} times", operation.name);
    }
    assert_eq!(server.engine.failure(), None);
    let grown = memory("VmRSS").saturating_sub(before);
    assert!(grown < 512 << 20, "memory grew by {grown} bytes");
}

/// What came back is whole answers.
fn whole_frames(mut bytes: &[u8]) -> Result<(), TestCaseError> {
    while let Some((size, rest)) = bytes.split_first_chunk::<4>() {
        let size = i32::from_be_bytes(*size);
        prop_assert!(size >= 4, "an answer of {size} bytes");
        let Some(rest) = rest.get(size as usize..) else {
            return Err(TestCaseError::fail(format!("an answer is cut: {size} bytes announced, {} came", rest.len())));
        };
        bytes = rest;
    }
    prop_assert!(bytes.is_empty());
    Ok(())
}
