//! DescribeProducers: the idempotent producers that partitions remember. No transaction is ever open.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::limits::{self, Messages, PRODUCERS_DESCRIBED_MAX};
use crate::map::Failure;
use crate::{topic_name, topics};
use headwater_engine::{KnownProducer, Topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

/// About the memory that one producer takes, in the answer and on the way to it.
const PRODUCER_BYTES: usize = 128;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: DescribeProducersRequest,
) -> Result<DescribeProducersResponse, Close> {
    let mut room = PRODUCERS_DESCRIBED_MAX;
    let mut charge = limits::account_for_parts(ctx);
    let mut response = DescribeProducersResponse::default();
    let mut messages = Messages::new();
    for topic in request.topics {
        let known = topics::by_name(ctx, &topic.name);
        let fault = if known.is_none() { topic_name::fault(&topic.name) } else { None };
        let mut partitions = Vec::new();
        for index in topic.partition_indexes {
            let found = producers(known.as_deref(), fault.as_deref(), index, room);
            let (failure, producers) = match found {
                Ok(producers) => (None, producers),
                Err(failure) => (Some(failure), Vec::new()),
            };
            room -= producers.len();
            charge.grow((producers.len() * PRODUCER_BYTES) as u64).await;
            let code = failure.as_ref().map_or(0, Failure::code);
            ctx.count_error(call, code);
            partitions.push(
                PartitionResponse::default()
                    .with_partition_index(index)
                    .with_error_code(code)
                    .with_error_message(failure.and_then(|failure| messages.take(&failure)))
                    .with_active_producers(producers.iter().map(entry).collect()),
            );
        }
        response.topics.push(TopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    Ok(response)
}

fn producers(
    topic: Option<&Topic>,
    fault: Option<&str>,
    index: i32,
    room: usize,
) -> Result<Vec<KnownProducer>, Failure> {
    let Some(topic) = topic else {
        return Err(match fault {
            Some(fault) => {
                let fault = topic_name::told(fault);
                Failure::because(ResponseError::InvalidTopicException, format!("Topic name is invalid: {fault}"))
            }
            None => Failure::because(
                ResponseError::UnknownTopicOrPartition,
                "This server does not host this topic-partition.",
            ),
        });
    };
    let partition = topics::partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    // Producers come and go meanwhile, so both numbers are looked at.
    let producers = if partition.producer_count() <= room { partition.producers() } else { Vec::new() };
    if producers.len() > room || (producers.is_empty() && partition.producer_count() > room) {
        let message = format!("One answer describes {PRODUCERS_DESCRIBED_MAX} producers.");
        return Err(Failure::because(ResponseError::ThrottlingQuotaExceeded, message));
    }
    Ok(producers)
}

fn entry(producer: &KnownProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(producer.id.0.into())
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence.unwrap_or(-1))
        .with_last_timestamp(producer.last_append.0)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(-1)
}
