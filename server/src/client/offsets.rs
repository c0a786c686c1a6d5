//! Where a partition begins and ends, and which offset a time means.

use super::cluster::{Retry, TopicState};
use super::connection::Connection;
use super::{ClientError, Cluster};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;

/// A place in a partition that only the broker can turn into an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Earliest,
    Latest,
    /// The first record with this timestamp (milliseconds since 1970) or a later one.
    Time(i64),
}

impl At {
    fn on_the_wire(self) -> i64 {
        match self {
            At::Latest => -1,
            At::Earliest => -2,
            At::Time(at) => at,
        }
    }
}

impl Cluster {
    /// The offset of `at` in each partition; -1 where no record is that late.
    pub async fn offsets(
        &mut self,
        topic: &str,
        partitions: &[i32],
        at: At,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let mut found = BTreeMap::new();
        let mut retry = Retry::new(self.wait());
        loop {
            let open: Vec<i32> = partitions.iter().copied().filter(|p| !found.contains_key(p)).collect();
            if open.is_empty() {
                return Ok(found);
            }
            let asked = match self.leaders(topic, &open).await {
                Ok(leaders) => self.offsets_of(topic, leaders, at, &mut found).await,
                // A topic that nobody makes does not appear by waiting for it; a leader that is new may not know it yet.
                Err(error) if error.is(ResponseError::UnknownTopicOrPartition) => return Err(error),
                Err(error) => Err(error),
            };
            if let Err(error) = asked {
                retry.pause_or(error).await?;
            }
        }
    }

    /// Where partitions end, of those that are there and have a leader.
    pub async fn ends(&mut self, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, ClientError> {
        let state = match self.topic(topic, false).await {
            Err(error) if error.is(ResponseError::UnknownTopicOrPartition) => return Ok(BTreeMap::new()),
            found => found?,
        };
        let led = state.partitions.iter().filter(|row| row.leader.is_some()).map(|row| row.partition);
        let led: Vec<i32> = led.filter(|partition| partitions.contains(partition)).collect();
        self.offsets(topic, &led, At::Latest).await
    }

    async fn offsets_of(
        &mut self,
        topic: &str,
        leaders: BTreeMap<i32, Vec<i32>>,
        at: At,
        found: &mut BTreeMap<i32, i64>,
    ) -> Result<(), ClientError> {
        for (leader, partitions) in leaders {
            let connection = self.broker(leader).await?;
            found.extend(ask_offsets(connection, topic, &partitions, at.on_the_wire()).await?);
        }
        Ok(())
    }

    /// Groups partitions by the broker that leads them.
    pub async fn leaders(&mut self, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, Vec<i32>>, ClientError> {
        self.topic(topic, false).await?.leaders(partitions)
    }
}

/// Asks the leader of partitions for an offset in each.
pub(super) async fn ask_offsets(
    connection: &mut Connection,
    topic: &str,
    partitions: &[i32],
    timestamp: i64,
) -> Result<Vec<(i32, i64)>, ClientError> {
    let version = connection.version::<ListOffsetsRequest>(i16::MAX)?;
    let row = |partition: &i32| {
        ListOffsetsPartition::default()
            .with_partition_index(*partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp)
    };
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let rows = ListOffsetsTopic::default().with_name(name).with_partitions(partitions.iter().map(row).collect());
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![rows]);
    let answer = connection.call(&request, version).await?;
    let mut found = Vec::new();
    for row in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
        ClientError::check(row.error_code, None, || format!("offsets of {topic}/{}", row.partition_index))?;
        found.push((row.partition_index, row.offset));
    }
    Ok(found)
}

impl TopicState {
    /// Groups partitions by the broker that leads them.
    pub fn leaders(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Vec<i32>>, ClientError> {
        let topic = &self.name;
        let mut leaders: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            let row = self.partitions.iter().find(|row| row.partition == *partition);
            let row = row.ok_or_else(|| {
                let count = self.partitions.len();
                ClientError::Invalid(format!(
                    "topic {topic} has {count} partitions; there is none with number {partition}"
                ))
            })?;
            match row.leader {
                Some(leader) => leaders.entry(leader).or_default().push(*partition),
                None => ClientError::check(ResponseError::LeaderNotAvailable.code(), None, || {
                    format!("partition {topic}/{partition}")
                })?,
            }
        }
        Ok(leaders)
    }
}
