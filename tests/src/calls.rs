//! The requests that tests make often, with the parts of the answers that they look at.

use crate::client::{Client, Failure};
use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use uuid::Uuid;

const WAIT_MS: i32 = 30_000;

/// A topic name as requests carry it.
#[must_use]
pub fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn one<T>(items: Vec<T>) -> Result<T, Failure> {
    items.into_iter().next().ok_or_else(|| Failure::wrong("an answer leaves out what was asked for"))
}

/// CreateTopics for one topic: its error code, and its id when it was made.
pub fn create_topic(
    client: &mut Client,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<(i16, Uuid), Failure> {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string((*name).to_owned()))
            .with_value(Some(StrBytes::from_string((*value).to_owned())))
    });
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(WAIT_MS);
    let answer = one(client.call(7, &request)?.topics)?;
    Ok((answer.error_code, answer.topic_id))
}

/// DeleteTopics for one topic, by its id: its error code.
pub fn delete_topic(client: &mut Client, id: Uuid) -> Result<i16, Failure> {
    let topic = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(WAIT_MS);
    Ok(one(client.call(6, &request)?.responses)?.error_code)
}

/// CreatePartitions for one topic: its error code.
pub fn create_partitions(client: &mut Client, topic: &str, total: i32) -> Result<i16, Failure> {
    let topic = CreatePartitionsTopic::default().with_name(name(topic)).with_count(total).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(WAIT_MS);
    Ok(one(client.call(3, &request)?.results)?.error_code)
}

/// DeleteRecords for one partition: its error code, and where the log starts now.
pub fn delete_records(client: &mut Client, topic: &str, partition: i32, offset: i64) -> Result<(i16, i64), Failure> {
    let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(WAIT_MS);
    let answer = one(one(client.call(2, &request)?.topics)?.partitions)?;
    Ok((answer.error_code, answer.low_watermark))
}

/// All topics: their ids and numbers of partitions, by name.
pub fn topics(client: &mut Client) -> Result<BTreeMap<String, (Uuid, usize)>, Failure> {
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    let answer = client.call(12, &request)?;
    let mut topics = BTreeMap::new();
    for topic in answer.topics {
        let name = topic.name.map(|name| name.0.to_string()).unwrap_or_default();
        if topic.error_code != 0 {
            return Err(Failure::Wrong(format!("Metadata answers {} for {name}", topic.error_code)));
        }
        topics.insert(name, (topic.topic_id, topic.partitions.len()));
    }
    Ok(topics)
}

/// A producer id and its epoch.
pub fn init_producer(client: &mut Client) -> Result<(i64, i16), Failure> {
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(0);
    let answer = client.call(4, &request)?;
    match answer.error_code {
        0 => Ok((answer.producer_id.0, answer.producer_epoch)),
        code => Err(Failure::Wrong(format!("InitProducerId answers {code}"))),
    }
}

/// Where a partition starts (`timestamp` -2), ends (-1), or reaches a time: error code and offset.
pub fn offset(client: &mut Client, topic: &str, partition: i32, timestamp: i64) -> Result<(i16, i64), Failure> {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let answer = one(one(client.call(7, &request)?.topics)?.partitions)?;
    Ok((answer.error_code, answer.offset))
}

/// A Produce request with acks=all for one batch. Versions from 13 on name the topic by its id.
#[must_use]
pub fn produce_request(topic: &str, id: Uuid, partition: i32, batch: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic =
        TopicProduceData::default().with_name(name(topic)).with_topic_id(id).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(WAIT_MS).with_topic_data(vec![topic])
}

/// Produces one batch with acks=all: error code and base offset.
pub fn produce(client: &mut Client, topic: &str, partition: i32, batch: Bytes) -> Result<(i16, i64), Failure> {
    let request = produce_request(topic, Uuid::nil(), partition, batch);
    let answer = one(one(client.call(9, &request)?.responses)?.partition_responses)?;
    Ok((answer.error_code, answer.base_offset))
}

/// What a fetch of one partition asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The topic, for versions below 13.
    pub topic: &'a str,
    /// Its id, for the others.
    pub id: Uuid,
    /// The partition.
    pub partition: i32,
    /// From where.
    pub offset: i64,
    /// At most so many bytes.
    pub bytes_max: i32,
    /// How long to wait for at least a byte.
    pub wait_ms: i32,
}

/// A Fetch request without a session.
#[must_use]
pub fn fetch_request(wanted: Wanted<'_>) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(wanted.partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(wanted.offset)
        .with_partition_max_bytes(wanted.bytes_max);
    let topic =
        FetchTopic::default().with_topic(name(wanted.topic)).with_topic_id(wanted.id).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(wanted.wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(wanted.bytes_max)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// Fetches from one partition.
pub fn fetch(client: &mut Client, version: i16, wanted: Wanted<'_>) -> Result<PartitionData, Failure> {
    let answer = client.call(version, &fetch_request(wanted))?;
    if answer.error_code != 0 {
        return Err(Failure::Wrong(format!("Fetch answers {}", answer.error_code)));
    }
    one(one(answer.responses)?.partitions)
}
