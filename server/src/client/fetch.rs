//! Reading a topic: one task for each leader asks for its partitions, and a bounded channel brings the batches together,
//! so that a slow reader slows the tasks and nothing piles up.

use super::cluster::Retry;
use super::connection::Connection;
use super::{At, ClientError, Cluster};
use bytes::Bytes;
use headwater_engine::batch::{BatchHeader, headers};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The newest Fetch version that names topics by name.
const FETCH_VERSION_MAX: i16 = 12;
const ANSWER_SIZE: i32 = 16 << 20;
const PARTITION_SIZE: i32 = 4 << 20;
const LONG_POLL: Duration = Duration::from_millis(500);
const CHANNEL_SIZE: usize = 4;

/// What to read.
#[derive(Debug, Clone)]
pub struct FetchPlan {
    pub topic: String,
    /// The next offset of each partition.
    pub positions: BTreeMap<i32, i64>,
    /// Where each partition's reading ends; a partition that is not in here is read for ever.
    pub ends: BTreeMap<i32, i64>,
}

/// Whole batches of one partition. The first may begin before the offset that was asked for, the last may pass the end.
#[derive(Debug)]
pub struct Fetched {
    pub partition: i32,
    /// Records before this offset were not asked for.
    pub from: i64,
    pub batches: Bytes,
}

enum Event {
    Batches(Fetched, i64),
    Failed(i32, ClientError),
}

/// A running read.
pub struct Fetcher<'a> {
    cluster: &'a mut Cluster,
    plan: FetchPlan,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    /// Partitions that no task reads, because the last one failed.
    loose: Vec<i32>,
    /// Since the last batch came: how long and how often to try again.
    retry: Retry,
}

impl<'a> Fetcher<'a> {
    /// Starts to read.
    pub fn new(cluster: &'a mut Cluster, plan: FetchPlan) -> Fetcher<'a> {
        let (sender, events) = mpsc::channel(CHANNEL_SIZE);
        let loose = plan.positions.keys().copied().filter(|partition| plan.is_open(*partition)).collect();
        let retry = Retry::new(cluster.wait());
        Fetcher { cluster, plan, events, sender, tasks: JoinSet::new(), loose, retry }
    }

    /// The next batches; none when every partition is read to its end.
    pub async fn next(&mut self) -> Result<Option<Fetched>, ClientError> {
        loop {
            if !self.loose.is_empty()
                && let Err(error) = self.start().await
            {
                self.retry.pause_or(error).await?;
                continue;
            }
            if !self.plan.positions.keys().any(|partition| self.plan.is_open(*partition)) {
                return Ok(None);
            }
            match self.events.recv().await {
                Some(Event::Batches(fetched, next)) => {
                    self.retry = Retry::new(self.cluster.wait());
                    self.plan.positions.insert(fetched.partition, next);
                    return Ok(Some(fetched));
                }
                Some(Event::Failed(partition, error)) => self.repair(partition, error).await?,
                None => return Ok(None),
            }
        }
    }

    /// Gives the loose partitions to new tasks. What it could not give away stays loose.
    async fn start(&mut self) -> Result<(), ClientError> {
        for (leader, partitions) in self.cluster.leaders(&self.plan.topic, &self.loose).await? {
            let connection = self.cluster.own(leader).await?;
            let mut plan = self.plan.clone();
            plan.positions.retain(|partition, _| partitions.contains(partition) && self.plan.is_open(*partition));
            self.loose.retain(|partition| !partitions.contains(partition));
            self.tasks.spawn(read_leader(connection, plan, self.sender.clone()));
        }
        Ok(())
    }

    /// A partition came loose: finds out whether, and where, it can go on.
    async fn repair(&mut self, partition: i32, error: ClientError) -> Result<(), ClientError> {
        if error.is(ResponseError::OffsetOutOfRange) {
            let position = self.plan.positions.get(&partition).copied().unwrap_or_default();
            let first = self.cluster.offsets(&self.plan.topic, &[partition], At::Earliest).await?;
            let first = first.get(&partition).copied().unwrap_or_default();
            if first <= position {
                return Err(error);
            }
            tracing::warn!(partition, from = position, to = first, "records were deleted before they could be read");
            self.plan.positions.insert(partition, first);
        } else {
            self.retry.pause_or(error).await?;
        }
        if self.plan.is_open(partition) {
            self.loose.push(partition);
        }
        Ok(())
    }
}

impl FetchPlan {
    fn is_open(&self, partition: i32) -> bool {
        match (self.positions.get(&partition), self.ends.get(&partition)) {
            (Some(position), Some(end)) => position < end,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

/// Reads the partitions of one leader until each is at its end or has failed.
async fn read_leader(mut connection: Connection, mut plan: FetchPlan, events: mpsc::Sender<Event>) {
    while !plan.positions.is_empty() {
        let rows = match fetch(&mut connection, &plan).await {
            Ok(rows) => rows,
            Err(error) => {
                let code = ResponseError::NotLeaderOrFollower.code();
                let mut error = Some(error);
                for partition in std::mem::take(&mut plan.positions).into_keys() {
                    // The first one carries the reason, the others only have to be started again.
                    let again = ClientError::Refused { what: plan.topic.clone(), code, message: None };
                    let error = error.take().unwrap_or(again);
                    if events.send(Event::Failed(partition, error)).await.is_err() {
                        return;
                    }
                }
                return;
            }
        };
        for row in rows {
            let partition = row.partition_index;
            let Some(position) = plan.positions.get(&partition).copied() else { continue };
            let event = match read_row(&plan.topic, position, row) {
                Ok(None) => continue,
                Ok(Some((fetched, next))) => {
                    plan.positions.insert(partition, next);
                    Event::Batches(fetched, next)
                }
                Err(error) => {
                    plan.positions.remove(&partition);
                    Event::Failed(partition, error)
                }
            };
            if events.send(event).await.is_err() {
                return;
            }
        }
        let still_open: Vec<i32> = plan.positions.keys().copied().filter(|p| plan.is_open(*p)).collect();
        plan.positions.retain(|partition, _| still_open.contains(partition));
    }
}

fn read_row(topic: &str, position: i64, row: PartitionData) -> Result<Option<(Fetched, i64)>, ClientError> {
    ClientError::check(row.error_code, None, || {
        format!("cannot read {topic}/{} at offset {position}", row.partition_index)
    })?;
    let Some(bytes) = row.records.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let mut walk = headers(&bytes);
    let last = walk.by_ref().last();
    let size = walk.position();
    let Some((_, last)) = last else {
        let why = BatchHeader::parse(&bytes).err().map_or_else(|| "a batch is cut off".to_owned(), |e| e.to_string());
        return Err(ClientError::Invalid(format!(
            "{topic}/{} at offset {position} cannot be read: {why}",
            row.partition_index
        )));
    };
    let next = last.next_offset().0.max(position);
    Ok(Some((Fetched { partition: row.partition_index, from: position, batches: bytes.slice(..size) }, next)))
}

async fn fetch(connection: &mut Connection, plan: &FetchPlan) -> Result<Vec<PartitionData>, ClientError> {
    let version = connection.version::<FetchRequest>(FETCH_VERSION_MAX)?;
    let rows = plan
        .positions
        .iter()
        .map(|(partition, position)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(*position)
                .with_last_fetched_epoch(-1)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(PARTITION_SIZE)
        })
        .collect();
    let topic =
        FetchTopic::default().with_topic(TopicName(StrBytes::from_string(plan.topic.clone()))).with_partitions(rows);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(i32::try_from(LONG_POLL.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(ANSWER_SIZE)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let answer = connection.call(&request, version).await?;
    ClientError::check(answer.error_code, None, || format!("cannot read {}", plan.topic))?;
    Ok(answer.responses.into_iter().flat_map(|topic| topic.partitions).collect())
}
