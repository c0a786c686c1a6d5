//! SyncGroup: a member waits for what the leader assigns to it; the leader brings it.

use crate::call::{Call, Outcome, Running};
use crate::context::Context;
use crate::group::{Reply, Sync, own};
use crate::limits;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;

/// From this version on the protocol must be named.
const WITH_PROTOCOL: i16 = 5;
/// What a waiting request takes of memory, about; assignments count as the group's.
const WAITING_BYTES: u64 = 1 << 10;

pub(crate) fn handle(ctx: Arc<Context>, mut call: Call) -> Running {
    Box::pin(async move {
        let request: SyncGroupRequest = call.decode()?;
        let group = own(&request.group_id);
        let sync = sync(&call, request);
        // The frame is not held while the leader is waited for.
        let mut memory = call.let_go();
        memory.shrink_to(WAITING_BYTES);
        let answer = match sync {
            Ok(sync) => run(&ctx, &group, sync).await,
            Err(error) => Err(error),
        }
        .unwrap_or_else(|error| SyncGroupResponse::default().with_error_code(error.code()));
        ctx.count_error(&call, answer.error_code);
        let _charge = limits::account(&ctx, answer.assignment.len()).await;
        call.answer(&answer).map(Outcome::Done)
    })
}

async fn run(ctx: &Context, group: &StrBytes, sync: Sync) -> Result<SyncGroupResponse, ResponseError> {
    if group.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    ctx.groups.open(false).await.map_err(|unavailable| unavailable.0)?;
    let waiting = ctx.groups.sync(group, sync).map_err(|unavailable| unavailable.0)?;
    tokio::select! {
        reply = waiting => match reply {
            Ok(Reply::Sync(answer)) => Ok(answer),
            _ => Err(ResponseError::NotCoordinator),
        },
        () = ctx.draining() => Err(ResponseError::NotCoordinator),
    }
}

/// The request as the group takes it, in memory of its own.
fn sync(call: &Call, request: SyncGroupRequest) -> Result<Sync, ResponseError> {
    if call.version >= WITH_PROTOCOL && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Err(ResponseError::InconsistentGroupProtocol);
    }
    let assignments = request.assignments.iter();
    Ok(Sync {
        member_id: own(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(own),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(own),
        protocol: request.protocol_name.as_ref().map(own),
        assignments: assignments.map(|to| (own(&to.member_id), Bytes::copy_from_slice(&to.assignment))).collect(),
    })
}
