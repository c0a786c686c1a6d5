//! Well-formed requests of every type and version, with an absurd number somewhere: where it hits an array's count or a
//! string's length, the request announces billions of elements that are not there.

use crate::besides::{besides, connect, read_to_end, send};
use crate::samples;
use anyhow::{Result, ensure};
use bytes::Bytes;
use headwater_tests::batch::{self, Codec, Source};
use headwater_tests::calls::{self, Wanted};
use headwater_tests::client::{self, Client};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeTopicPartitionsRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::{BTreeMap, HashSet};
use std::net::{Shutdown, SocketAddr};
use uuid::Uuid;

/// What is written over the bytes at some place.
const ABSURD: [&[u8]; 7] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0x7f, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
];

/// Frames by request type: each version that the server takes and that can say what the request wants to say.
type Frames = BTreeMap<i16, Vec<Vec<u8>>>;

pub struct Samples {
    /// The highest version of each request that the server takes.
    highest: BTreeMap<i16, i16>,
    frames: Frames,
}

impl Samples {
    /// Adds a request, at each version that can say it.
    pub fn add<R: Request>(&mut self, request: &R) {
        let Some(&highest) = self.highest.get(&R::KEY) else { return };
        let versions = 0..=highest;
        let frames = versions.filter_map(|version| client::frame(version, 7, request).ok()).map(|frame| frame.to_vec());
        self.frames.entry(R::KEY).or_default().extend(frames);
    }
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// One request of each type at least, every array with an element.
fn samples(address: SocketAddr) -> Result<Samples> {
    let answer = Client::connect(address)?.call(
        3,
        &ApiVersionsRequest::default().with_client_software_name(text("a")).with_client_software_version(text("1")),
    )?;
    let highest = answer.api_keys.iter().map(|row| (row.api_key, row.max_version)).collect();
    let mut all = Samples { highest, frames: Frames::new() };
    let name = calls::name("absurd");
    let batch: Bytes = batch::encode(&[vec![1; 20], vec![2; 20]], Source::NONE, Codec::None);
    all.add(&calls::produce_request("absurd", Uuid::from_u128(5), 0, batch));
    let wanted = Wanted { topic: "absurd", id: Uuid::from_u128(5), partition: 0, offset: 0, bytes_max: 9, wait_ms: 0 };
    all.add(&calls::fetch_request(wanted));
    let partition = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(name.clone()).with_partitions(vec![partition]);
    all.add(&ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]));
    let topic = MetadataRequestTopic::default().with_name(Some(name.clone()));
    all.add(&MetadataRequest::default().with_topics(Some(vec![topic])));
    all.add(
        &ApiVersionsRequest::default()
            .with_client_software_name(text("client"))
            .with_client_software_version(text("1")),
    );
    let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("9")));
    let topic = CreatableTopic::default().with_name(name.clone()).with_replication_factor(1);
    let counted = topic.clone().with_num_partitions(1).with_configs(vec![config]);
    all.add(&CreateTopicsRequest::default().with_topics(vec![counted]));
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(0)]);
    let assigned = topic.with_num_partitions(-1).with_replication_factor(-1).with_assignments(vec![assignment]);
    all.add(&CreateTopicsRequest::default().with_topics(vec![assigned]));
    all.add(&DeleteTopicsRequest::default().with_topic_names(vec![name.clone()]));
    let topic = DeleteTopicState::default().with_name(Some(name.clone()));
    all.add(&DeleteTopicsRequest::default().with_topics(vec![topic]));
    let partition = DeleteRecordsPartition::default();
    let topic = DeleteRecordsTopic::default().with_name(name.clone()).with_partitions(vec![partition]);
    all.add(&DeleteRecordsRequest::default().with_topics(vec![topic]));
    all.add(&InitProducerIdRequest::default().with_transactional_id(Some(text("someone").into())));
    let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(-1);
    let topic = OffsetForLeaderTopic::default().with_topic(name.clone()).with_partitions(vec![partition]);
    all.add(&OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-2)).with_topics(vec![topic]));
    let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("absurd"));
    let resource = resource.with_configuration_keys(Some(vec![text("retention.ms")]));
    all.add(&DescribeConfigsRequest::default().with_resources(vec![resource]));
    let topic = CreatePartitionsTopic::default().with_name(name.clone()).with_count(1).with_assignments(None);
    all.add(&CreatePartitionsRequest::default().with_topics(vec![topic]));
    all.add(&DescribeClusterRequest::default());
    let topic = TopicRequest::default().with_name(name);
    all.add(&DescribeTopicPartitionsRequest::default().with_topics(vec![topic]));
    samples::groups(&mut all);
    samples::administration(&mut all);
    Ok(all)
}

/// Every place of every frame behind the size, with every absurdity.
fn mutations(frames: &Frames) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for frame in frames.values().flatten() {
        for at in 4..frame.len() {
            for absurd in ABSURD {
                let mut mutated = frame.clone();
                let end = mutated.len().min(at + absurd.len());
                mutated[at..end].copy_from_slice(&absurd[..end - at]);
                all.push(mutated);
            }
        }
    }
    all
}

#[test]
fn absurd_counts_in_every_request_are_refused() {
    let draw = headwater_tests::draw("counts");
    besides("counts", 64.0, |server| {
        let Samples { highest, frames } = samples(server.kafka)?;
        let missing: HashSet<_> = highest.keys().filter(|key| !frames.contains_key(key)).collect();
        ensure!(missing.is_empty(), "no sample of request types {missing:?}");
        let all = mutations(&frames);
        // A tenth of them takes long enough; the seed says which.
        let chance = if headwater_tests::is_long() { 1.0 } else { 0.1 };
        let (mut tried, mut answered) = (0, 0);
        for frame in all.iter().filter(|_| draw.chance(chance)) {
            let mut stream = connect(server.kafka)?;
            send(&mut stream, frame);
            let _closed_already = stream.shutdown(Shutdown::Write);
            let said = read_to_end(&mut stream)?;
            tried += 1;
            answered += usize::from(!said.is_empty());
        }
        Ok(format!("{} request types, {tried} of {} mutations, {answered} answered", frames.len(), all.len()))
    });
}
