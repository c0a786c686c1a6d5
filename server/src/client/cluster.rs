//! The brokers of a cluster and which of them leads what.

use super::ClientError;
use super::connection::Connection;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// The newest Metadata version in which a topic may go by its name alone.
const METADATA_VERSION_MAX: i16 = 12;
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a topic that a broker makes on the way may take to appear.
const CREATION_WAIT_MAX: Duration = Duration::from_secs(5);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Connections to a cluster's brokers, opened as they are needed.
pub struct Cluster {
    bootstrap: Vec<String>,
    brokers: HashMap<i32, String>,
    /// The broker that Metadata calls the controller.
    controller: Option<i32>,
    connections: HashMap<String, Connection>,
    wait: Duration,
}

/// A topic as Metadata shows it.
#[derive(Debug, Clone)]
pub struct TopicState {
    pub name: String,
    /// Nil from brokers before 2.8.
    pub id: Uuid,
    pub is_internal: bool,
    pub partitions: Vec<PartitionState>,
}

/// A partition as Metadata shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PartitionState {
    pub partition: i32,
    /// None while there is none.
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

impl Cluster {
    /// A cluster that can be reached through one of `bootstrap` (`HOST:PORT`, separated by commas). `wait` bounds each
    /// answer, and each operation with its retries.
    pub async fn connect(bootstrap: &str, wait: Duration) -> Result<Cluster, ClientError> {
        let bootstrap: Vec<String> =
            bootstrap.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut cluster =
            Cluster { bootstrap, brokers: HashMap::new(), controller: None, connections: HashMap::new(), wait };
        cluster.any().await?;
        Ok(cluster)
    }

    /// How long an operation may take.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// A connection to some broker: an open one, or the first that can be reached.
    pub async fn any(&mut self) -> Result<&mut Connection, ClientError> {
        self.connections.retain(|_, connection| !connection.is_torn());
        if let Some(address) = self.connections.keys().next().cloned() {
            return self.to(&address).await;
        }
        let candidates: Vec<String> = self.bootstrap.iter().chain(self.brokers.values()).cloned().collect();
        let mut last = ClientError::Invalid("no address to connect to: --bootstrap is empty".to_owned());
        for address in candidates {
            match Connection::open(&address, self.wait).await {
                Ok(connection) => return Ok(self.connections.entry(address).insert_entry(connection).into_mut()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection to a broker that Metadata named.
    pub async fn broker(&mut self, id: i32) -> Result<&mut Connection, ClientError> {
        let address = self.brokers.get(&id).cloned();
        let address = address.ok_or_else(|| ClientError::Invalid(format!("the cluster names no broker {id}")))?;
        self.to(&address).await
    }

    /// A connection of its own to a broker that Metadata named.
    pub async fn own(&self, id: i32) -> Result<Connection, ClientError> {
        let address = self.brokers.get(&id);
        let address = address.ok_or_else(|| ClientError::Invalid(format!("the cluster names no broker {id}")))?;
        Connection::open(address, self.wait).await
    }

    async fn to(&mut self, address: &str) -> Result<&mut Connection, ClientError> {
        if self.connections.get(address).is_none_or(Connection::is_torn) {
            let connection = Connection::open(address, self.wait).await?;
            self.connections.insert(address.to_owned(), connection);
        }
        self.connections.get_mut(address).ok_or_else(|| ClientError::Invalid(format!("no connection to {address}")))
    }

    /// The ids of all brokers.
    pub async fn broker_ids(&mut self) -> Result<Vec<i32>, ClientError> {
        self.metadata(Some(&[]), false).await?;
        let mut ids: Vec<i32> = self.brokers.keys().copied().collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The broker that decides about topics. Brokers before 2.8 refuse what is the controller's; later ones pass it on.
    pub async fn controller(&mut self) -> Result<&mut Connection, ClientError> {
        self.metadata(Some(&[]), false).await?;
        match self.controller {
            Some(id) => self.broker(id).await,
            None => self.any().await,
        }
    }

    /// Where another answer than Metadata says that a broker is.
    pub(super) fn learn(&mut self, id: i32, host: &str, port: i32) {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        self.brokers.insert(id, format!("{host}:{port}"));
    }

    /// The named topic; made on the way when `create` is set and the broker does such things.
    pub async fn topic(&mut self, name: &str, create: bool) -> Result<TopicState, ClientError> {
        // A broker that makes no topics by itself says the same as one that has not finished making it.
        let mut retry = Retry::new(if create { self.wait.min(CREATION_WAIT_MAX) } else { self.wait });
        loop {
            let found = self.metadata(Some(&[name]), create).await.and_then(|mut topics| match topics.pop() {
                Some(topic) => read_topic(topic),
                None => Err(ClientError::Invalid(format!("the broker said nothing about topic {name}"))),
            });
            match found {
                // A topic that nobody makes does not appear by waiting for it.
                Err(error) if create || !error.is(kafka_protocol::error::ResponseError::UnknownTopicOrPartition) => {
                    retry.pause_or(error).await?;
                }
                found => return found,
            }
        }
    }

    /// Every topic, sorted by name.
    pub async fn topics(&mut self) -> Result<Vec<TopicState>, ClientError> {
        let mut topics = Vec::new();
        for topic in self.metadata(None, false).await? {
            topics.push(read_topic(topic)?);
        }
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// Asks for topics by name, or for all of them.
    async fn metadata(
        &mut self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> Result<Vec<MetadataResponseTopic>, ClientError> {
        let connection = self.any().await?;
        let version = connection.version::<MetadataRequest>(METADATA_VERSION_MAX)?;
        let named = topics.map(|names| {
            let row = |name: &&str| {
                let name = TopicName(StrBytes::from_string((*name).to_owned()));
                MetadataRequestTopic::default().with_name(Some(name))
            };
            names.iter().map(row).collect()
        });
        let mut request = MetadataRequest::default().with_topics(named);
        if version >= 4 {
            request.allow_auto_topic_creation = create;
        }
        let answer: MetadataResponse = connection.call(&request, version).await?;
        self.brokers.clear();
        for broker in &answer.brokers {
            self.learn(broker.node_id.0, &broker.host, broker.port);
        }
        self.controller = Some(answer.controller_id.0).filter(|id| self.brokers.contains_key(id));
        Ok(answer.topics)
    }
}

fn read_topic(topic: MetadataResponseTopic) -> Result<TopicState, ClientError> {
    let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
    ClientError::check(topic.error_code, None, || format!("topic {name}"))?;
    let mut partitions: Vec<PartitionState> = topic
        .partitions
        .into_iter()
        .map(|partition| PartitionState {
            partition: partition.partition_index,
            leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.iter().map(|id| id.0).collect(),
            in_sync: partition.isr_nodes.iter().map(|id| id.0).collect(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.partition);
    Ok(TopicState { name, id: topic.topic_id, is_internal: topic.is_internal, partitions })
}

/// Paces attempts: a growing pause, and an end.
pub struct Retry {
    until: Instant,
    pause: Duration,
}

impl Retry {
    /// Attempts may go on for `wait`.
    pub fn new(wait: Duration) -> Retry {
        Retry { until: Instant::now() + wait, pause: RETRY_PAUSE }
    }

    /// Waits before the next attempt; gives the error back when it is final or the time is over.
    pub async fn pause_or(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_retriable() || Instant::now() + self.pause > self.until {
            return Err(error);
        }
        tracing::debug!(%error, "retrying");
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(RETRY_PAUSE_MAX);
        Ok(())
    }
}
