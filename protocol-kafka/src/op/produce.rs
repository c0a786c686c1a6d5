//! Produce: batches into partitions.
//!
//! Each partition's batch is checked and queued on its own, in the request's order, on the connection's task; its records stay
//! a slice of the request's frame all the way to the committer. The answer is known then but for one thing, whether the
//! medium has it, and that wait overlaps with the next requests. Both acks=1 and acks=all mean durable; acks=0 gets no answer,
//! and a closed connection when something went wrong.

use crate::call::{Call, Close, Outcome, Reply, Running};
use crate::codec::TopicRef;
use crate::codec::produce::{PartitionBody, ProduceBody, TopicBody, decode};
use crate::context::Context;
use crate::map::{Failure, topic_id_from};
use bytes::Bytes;
use headwater_engine::batch::{BatchError, BatchHeader, CheckedBatch, Codec, Rules, TimestampType, check};
use headwater_engine::{Abandoned, Ack, AppendError, Topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The first version of record batches as we store them; versions below carry older formats and are only advertised.
const VERSION_MIN: i16 = 3;

/// The first version whose batches may be compressed with zstd.
const ZSTD_VERSION_MIN: i16 = 7;

/// A batch that inflates to more is checked by a replay thread.
const INFLATED_HERE_MAX: usize = 1 << 20;
/// A larger batch is compressed anew by a replay thread.
const RECOMPRESSED_HERE_MAX: usize = 64 << 10;

/// The first pause when the engine is busy; it doubles up to the longest one.
const BUSY_PAUSE_FIRST: Duration = Duration::from_millis(1);
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(50);

pub(crate) fn handle(ctx: Arc<Context>, call: Call) -> Running {
    Box::pin(async move {
        if call.version < VERSION_MIN {
            return Err(Close::Refused("Produce below version 3 carries formats that are no longer taken"));
        }
        let body = decode(&call.body, call.version).map_err(Close::Malformed)?;
        let acks = body.acks;
        let mut run = Run {
            ctx: &ctx,
            refused: refusal(&body),
            transactional: body.transactional_id.is_some(),
            ack: ctx.engine.ack(),
            queued: false,
            failures: 0,
            deadline: None,
        };
        let mut answer = ProduceResponse::default();
        for topic in body.topics {
            answer.responses.push(run.topic(&call, topic).await?);
        }
        let Run { ack, queued, failures, .. } = run;
        if acks == 0 {
            // The client does not listen for an answer; that the connection closes is all it can notice.
            return if failures > 0 {
                Err(Close::Refused("an error with acks=0"))
            } else {
                Ok(Outcome::Done(Reply::Nothing))
            };
        }
        let reply = call.answer(&answer)?;
        if !queued {
            return Ok(Outcome::Done(reply));
        }
        Ok(Outcome::Queued(Box::pin(async move {
            ack.wait().await.map_err(|_| Close::Stopped)?;
            Ok(reply)
        })))
    })
}

/// The error that refuses every partition of a request, if one does.
fn refusal(body: &ProduceBody) -> Option<Failure> {
    if !(-1..=1).contains(&body.acks) {
        return Some(ResponseError::InvalidRequiredAcks.into());
    }
    let mut batches = body.topics.iter().flat_map(|topic| &topic.partitions).filter_map(|part| part.records.as_ref());
    if body.transactional_id.is_none() && batches.any(is_transactional) {
        return Some(ResponseError::TransactionalIdAuthorizationFailed.into());
    }
    None
}

fn is_transactional(batch: &Bytes) -> bool {
    BatchHeader::parse(batch).is_ok_and(|header| header.attributes.is_transactional())
}

fn is_zstd(batch: &Bytes) -> bool {
    BatchHeader::parse(batch).is_ok_and(|header| header.attributes.codec().is_ok_and(|codec| codec == Codec::Zstd))
}

/// Whether the topic demands another codec than the producer's.
fn is_recompressed(batch: &Bytes, rules: &Rules) -> bool {
    let codec = BatchHeader::parse(batch).ok().and_then(|header| header.attributes.codec().ok());
    rules.compression.is_some() && rules.compression != codec
}

/// One request being worked on.
struct Run<'a> {
    ctx: &'a Context,
    refused: Option<Failure>,
    transactional: bool,
    ack: Ack,
    /// Whether the ack has anything to wait for.
    queued: bool,
    failures: usize,
    /// Until when a busy engine is waited for; set at the first wait.
    deadline: Option<Instant>,
}

/// What a partition's answer says when all is well.
struct Done {
    base_offset: i64,
    log_append_time: i64,
    log_start: i64,
}

impl Run<'_> {
    async fn topic(&mut self, call: &Call, body: TopicBody) -> Result<TopicProduceResponse, Close> {
        let (topic, unknown) = match &body.topic {
            TopicRef::Name(name) => (self.ctx.engine.topic(name), ResponseError::UnknownTopicOrPartition),
            TopicRef::Id(id) => (self.ctx.engine.topic_by_id(topic_id_from(*id)), ResponseError::UnknownTopicId),
        };
        let rules = topic.as_ref().map(|topic| topic.settings().rules(self.ctx.engine.clock().wall()));
        let mut answer = match body.topic {
            TopicRef::Name(name) => TopicProduceResponse::default().with_name(name.into()),
            TopicRef::Id(id) => TopicProduceResponse::default().with_topic_id(id),
        };
        answer.partition_responses.reserve_exact(body.partitions.len());
        for part in body.partitions {
            let index = part.index;
            let result = match (&self.refused, &topic, &rules) {
                (Some(failure), ..) => Err(failure.clone()),
                (None, Some(topic), Some(rules)) => self.partition(call.version, topic, rules, part).await?,
                _ => Err(unknown.into()),
            };
            let (answered, code) = partition_answer(call.version, index, result);
            self.ctx.count_error(call, code);
            self.failures += usize::from(code != 0);
            answer.partition_responses.push(answered);
        }
        Ok(answer)
    }

    /// Checks a batch. What takes long is done by a replay thread: this one serves many connections.
    async fn check(&self, records: Bytes, rules: &Rules) -> Result<Result<CheckedBatch, BatchError>, Abandoned> {
        let inflated_max = rules.decompressed_size_max.min(INFLATED_HERE_MAX);
        if !is_recompressed(&records, rules) || records.len() <= RECOMPRESSED_HERE_MAX {
            let here = Rules { decompressed_size_max: inflated_max, ..*rules };
            match check(records.clone(), &here) {
                Err(BatchError::Bomb { .. }) if inflated_max < rules.decompressed_size_max => {}
                outcome => return Ok(outcome),
            }
        }
        // It is never closed; without a permit the check is done all the same.
        let _permit = self.ctx.heavy_checks.acquire().await;
        let rules = *rules;
        self.ctx.engine.offload(move || check(records, &rules)).await
    }

    async fn partition(
        &mut self,
        version: i16,
        topic: &Topic,
        rules: &Rules,
        body: PartitionBody,
    ) -> Result<Result<Done, Failure>, Close> {
        let partition = u32::try_from(body.index).ok().and_then(|index| topic.partition(index));
        let Some(partition) = partition else { return Ok(Err(ResponseError::UnknownTopicOrPartition.into())) };
        if topic.is_internal() {
            let why = "internal topics are not written by producers";
            return Ok(Err(Failure::because(ResponseError::InvalidTopicException, why)));
        }
        let Some(records) = body.records else {
            return Ok(Err(Failure::because(ResponseError::InvalidRecord, "no batch for this partition")));
        };
        if self.transactional && is_transactional(&records) {
            let why = "this server does not coordinate transactions, so none can be open";
            return Ok(Err(Failure::because(ResponseError::InvalidTxnState, why)));
        }
        if version < ZSTD_VERSION_MIN && is_zstd(&records) {
            let why = "zstd came with version 7 of Produce";
            return Ok(Err(Failure::because(ResponseError::UnsupportedCompressionType, why)));
        }
        let batch = match self.check(records, rules).await {
            Ok(Ok(batch)) => batch,
            Ok(Err(error)) => return Ok(Err(Failure::of_batch(error, topic.name(), body.index))),
            Err(abandoned) => return Ok(Err(abandoned.into())),
        };
        let mut pause = BUSY_PAUSE_FIRST;
        loop {
            match partition.append(&batch, &self.ack) {
                Ok(appended) => {
                    self.queued = true;
                    let stamped = rules.timestamp_type == TimestampType::LogAppendTime;
                    return Ok(Ok(Done {
                        base_offset: appended.base_offset.0,
                        log_append_time: if stamped { batch.header().max_timestamp.0 } else { -1 },
                        log_start: appended.log_start.0,
                    }));
                }
                Err(AppendError::Stopped) => return Err(Close::Stopped),
                Err(AppendError::Busy) => {
                    let now = Instant::now();
                    let deadline = *self.deadline.get_or_insert(now + self.ctx.options.limits.busy_wait_max);
                    if now >= deadline {
                        return Ok(Err(AppendError::Busy.into()));
                    }
                    tokio::time::sleep(pause.min(deadline - now)).await;
                    pause = (pause * 2).min(BUSY_PAUSE_MAX);
                }
                Err(error) => return Ok(Err(error.into())),
            }
        }
    }
}

fn partition_answer(version: i16, index: i32, result: Result<Done, Failure>) -> (PartitionProduceResponse, i16) {
    let answer = PartitionProduceResponse::default().with_index(index);
    let failure = match result {
        Ok(done) => {
            let answer = answer
                .with_base_offset(done.base_offset)
                .with_log_append_time_ms(done.log_append_time)
                .with_log_start_offset(if version >= 5 { done.log_start } else { -1 });
            return (answer, 0);
        }
        Err(failure) => failure,
    };
    let code = failure.code();
    let mut answer =
        answer.with_error_code(code).with_base_offset(-1).with_log_append_time_ms(-1).with_log_start_offset(-1);
    if version >= 8 {
        let errors = failure.records.iter().map(|record| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(*record)
                .with_batch_index_error_message(failure.record_message())
        });
        answer.record_errors.extend(errors);
        answer = answer.with_error_message(failure.message());
    }
    (answer, code)
}
