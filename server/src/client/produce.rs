//! Sending batches, one request at a time per broker: what was sent first is stored first, and a batch is sent again
//! only when that cannot store it twice.

use super::cluster::Retry;
use super::{ClientError, Cluster};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::HashMap;

/// The newest Produce version that names topics by name.
const PRODUCE_VERSION_MAX: i16 = 12;

/// A batch on its way.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub partition: i32,
    pub batch: Bytes,
    pub record_count: u64,
}

/// An idempotent producer's id and epoch.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    pub id: i64,
    pub epoch: i16,
}

/// Sends batches to the leaders of a topic's partitions.
pub struct Sender<'a> {
    cluster: &'a mut Cluster,
    topic: String,
    acks: i16,
    /// Batches carry producer ids and sequence numbers, so the broker recognises a repeated one.
    idempotent: bool,
    leaders: HashMap<i32, i32>,
    /// Records that the broker acknowledged; with acks 0, records that were sent.
    pub done: u64,
}

impl Cluster {
    /// A new idempotent producer.
    pub async fn new_identity(&mut self) -> Result<Identity, ClientError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let mut retry = Retry::new(self.wait());
        loop {
            let asked = self.ask(|_| request.clone(), 4).await.and_then(|answer| {
                ClientError::check(answer.error_code, None, || "cannot get a producer id".to_owned())?;
                Ok(Identity { id: answer.producer_id.0, epoch: answer.producer_epoch })
            });
            match asked {
                Err(error) => retry.pause_or(error).await?,
                done => return done,
            }
        }
    }
}

impl<'a> Sender<'a> {
    /// A sender for one topic. `acks` is 0, 1 or -1.
    pub fn new(cluster: &'a mut Cluster, topic: &str, acks: i16, idempotent: bool) -> Sender<'a> {
        Sender { cluster, topic: topic.to_owned(), acks, idempotent, leaders: HashMap::new(), done: 0 }
    }

    /// Sends batches, at most one for each partition, and waits until all of them are acknowledged.
    pub async fn send(&mut self, batches: Vec<Outgoing>) -> Result<(), ClientError> {
        let mut open: HashMap<i32, Outgoing> = batches.into_iter().map(|batch| (batch.partition, batch)).collect();
        let mut retry = Retry::new(self.cluster.wait());
        while !open.is_empty() {
            if let Err(error) = self.attempt(&mut open).await {
                self.leaders.clear();
                retry.pause_or(error).await?;
            }
        }
        Ok(())
    }

    /// One request per leader. Takes out of `open` what is done; an error is the first one that came up.
    async fn attempt(&mut self, open: &mut HashMap<i32, Outgoing>) -> Result<(), ClientError> {
        let missing: Vec<i32> = open.keys().copied().filter(|p| !self.leaders.contains_key(p)).collect();
        if !missing.is_empty() {
            for (leader, partitions) in self.cluster.leaders(&self.topic, &missing).await? {
                self.leaders.extend(partitions.into_iter().map(|partition| (partition, leader)));
            }
        }
        let mut by_leader: HashMap<i32, Vec<&Outgoing>> = HashMap::new();
        for batch in open.values() {
            by_leader.entry(self.leaders[&batch.partition]).or_default().push(batch);
        }
        let mut done = Vec::new();
        let mut first_error = None;
        for (leader, batches) in by_leader {
            let request = request(&self.topic, self.acks, self.cluster.wait_ms(), &batches);
            match self.exchange(leader, &request).await {
                Ok(None) => done.extend(batches.iter().map(|batch| batch.partition)),
                Ok(Some(rows)) => {
                    for row in rows {
                        match self.read(&row) {
                            Ok(()) => done.push(row.index),
                            Err(error) => first_error = first_error.or(Some(error)),
                        }
                    }
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        for partition in done {
            self.done += open.remove(&partition).map_or(0, |batch| batch.record_count);
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn exchange(
        &mut self,
        leader: i32,
        request: &ProduceRequest,
    ) -> Result<Option<Vec<PartitionProduceResponse>>, ClientError> {
        let connection = self.cluster.broker(leader).await?;
        let version = connection.version::<ProduceRequest>(PRODUCE_VERSION_MAX)?;
        if self.acks == 0 {
            return connection.send(request, version).await.map(|()| None);
        }
        match connection.call(request, version).await {
            Ok(answer) => Ok(Some(answer.responses.into_iter().flat_map(|topic| topic.partition_responses).collect())),
            Err(error @ (ClientError::Lost { .. } | ClientError::Timeout { .. })) if !self.idempotent => {
                Err(ClientError::Invalid(format!(
                    "{error}; the last records may be stored or not, and sending them again could store them twice \
                     (--idempotent makes that safe)"
                )))
            }
            Err(error) => Err(error),
        }
    }

    fn read(&self, row: &PartitionProduceResponse) -> Result<(), ClientError> {
        // The broker has it already: the first answer was lost.
        if self.idempotent && row.error_code == ResponseError::DuplicateSequenceNumber.code() {
            return Ok(());
        }
        let record = row.record_errors.first();
        let about_record = record.and_then(|record| record.batch_index_error_message.as_deref());
        ClientError::check(row.error_code, row.error_message.as_deref().or(about_record), || {
            format!("{}/{} refuses records", self.topic, row.index)
        })
    }
}

fn request(topic: &str, acks: i16, timeout_ms: i32, batches: &[&Outgoing]) -> ProduceRequest {
    let rows = batches
        .iter()
        .map(|batch| {
            PartitionProduceData::default().with_index(batch.partition).with_records(Some(batch.batch.clone()))
        })
        .collect();
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(acks)
        .with_timeout_ms(timeout_ms)
        .with_topic_data(vec![TopicProduceData::default().with_name(name).with_partition_data(rows)])
}
