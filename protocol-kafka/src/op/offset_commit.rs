//! OffsetCommit: how far a group has come. The answer is known once the commit is queued; only the wait for the medium is left
//! then, and overlaps with the next requests.

use crate::call::{Call, Close, Outcome, Running};
use crate::context::Context;
use crate::group::{CommitPartition, Committed, Committer, own, unless_busy};
use crate::model::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::{map, topics};
use headwater_engine::Topic;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::OffsetCommitResponse;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use std::sync::Arc;

/// The first version whose clients know GROUP_ID_NOT_FOUND.
const WITH_GROUP_NOT_FOUND: i16 = 9;
/// The first version that names topics by id.
const BY_ID: i16 = 10;
/// Stands for the server's own time to keep offsets.
const DEFAULT_RETENTION: i64 = -1;

pub(crate) fn handle(ctx: Arc<Context>, call: Call) -> Running {
    Box::pin(async move {
        let request: OffsetCommitRequest = call.decode()?;
        let mut commit = Commit::new(&ctx, &request);
        for topic in request.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
            commit.topic(call.version, topic);
        }
        let Commit { partitions, mut answer, .. } = commit;
        let queued = if partitions.is_empty() { Ok(None) } else { queue(&ctx, &call, &request, &partitions).await };
        let queued = queued.unwrap_or_else(|error| {
            for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.error_code == 0 {
                    partition.error_code = error.code();
                }
            }
            None
        });
        let codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        codes.for_each(|code| ctx.count_error(&call, code));
        let reply = call.answer(&answer)?;
        let Some(queued) = queued else { return Ok(Outcome::Done(reply)) };
        Ok(Outcome::Queued(Box::pin(async move {
            queued.wait().await.map_err(|_| Close::Stopped)?;
            Ok(reply)
        })))
    })
}

/// Queues what can be committed; waits while the engine is busy.
async fn queue(
    ctx: &Context,
    call: &Call,
    request: &OffsetCommitRequest,
    partitions: &[CommitPartition],
) -> Result<Option<crate::group::Queued>, ResponseError> {
    let who = Committer {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_ref(),
        generation: request.generation_id_or_member_epoch,
        knows_groups: call.version >= WITH_GROUP_NOT_FOUND,
    };
    ctx.groups.open(true).await.map_err(|unavailable| unavailable.0)?;
    unless_busy(ctx, || ctx.groups.commit(&request.group_id, &who, partitions)).await.map(Some)
}

/// A request being taken apart: what can be committed, and the answer as it is when all of that works.
struct Commit<'a> {
    ctx: &'a Context,
    now: i64,
    expire_time: Option<i64>,
    partitions: Vec<CommitPartition>,
    answer: OffsetCommitResponse,
}

impl Commit<'_> {
    fn new<'a>(ctx: &'a Context, request: &OffsetCommitRequest) -> Commit<'a> {
        let now = ctx.engine.clock().wall().0;
        let retention = Some(request.retention_time_ms).filter(|ms| *ms != DEFAULT_RETENTION);
        Commit {
            ctx,
            now,
            expire_time: retention.map(|ms| now.saturating_add(ms)),
            partitions: Vec::new(),
            answer: OffsetCommitResponse::default(),
        }
    }

    fn topic(&mut self, version: i16, topic: &OffsetCommitRequestTopic) {
        let (known, unknown) = if version >= BY_ID {
            (topics::by_id(self.ctx, topic.topic_id), ResponseError::UnknownTopicId)
        } else {
            (topics::by_name(self.ctx, &topic.name), ResponseError::UnknownTopicOrPartition)
        };
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let outcome = match &known {
                Some(known) => self.partition(known, partition),
                None => Err(unknown),
            };
            answers.push(
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(outcome.err().map_or(0, |error| error.code())),
            );
        }
        self.answer.topics.push(
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(answers),
        );
    }

    fn partition(&mut self, topic: &Topic, asked: &OffsetCommitRequestPartition) -> Result<(), ResponseError> {
        let index = asked.partition_index;
        topics::partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let metadata = asked.committed_metadata.clone().unwrap_or_default();
        // Counted as Java counts.
        let most = self.ctx.groups.options().offset_metadata_max;
        if metadata.len() > most && metadata.encode_utf16().count() > most {
            return Err(ResponseError::OffsetMetadataTooLarge);
        }
        self.partitions.push(CommitPartition {
            topic: crate::group::text(topic.name()),
            partition: index,
            committed: Committed {
                offset: asked.committed_offset,
                leader_epoch: asked.committed_leader_epoch,
                metadata: own(&metadata),
                commit_time: self.now,
                expire_time: self.expire_time,
                topic_id: Some(map::topic_id(topic.id())),
            },
        });
        Ok(())
    }
}
