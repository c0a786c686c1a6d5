//! DeleteGroups: groups without members, and what they have committed.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::group::{Busy, Refused};
use crate::limits;
use crate::model::Same;
use crate::model::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use headwater_engine::Ack;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use std::collections::HashSet;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    Same(request): DeleteGroupsRequest,
) -> Result<DeleteGroupsResponse, Close> {
    limits::check_groups(request.groups_names.len())?;
    let opened = ctx.groups.open(false).await;
    let mut seen = HashSet::new();
    let mut queued = Vec::new();
    for id in request.groups_names {
        if !seen.insert(id.clone()) {
            continue;
        }
        let deleted = match opened {
            Ok(_) => delete(ctx, &id).await,
            Err(unavailable) => Err(unavailable.0),
        };
        queued.push((id, deleted));
    }
    let mut results = Vec::with_capacity(queued.len());
    for (id, deleted) in queued {
        let code = match deleted {
            Ok(ack) => {
                ack.wait().await.map_err(|_| Close::Stopped)?;
                0
            }
            Err(error) => error.code(),
        };
        ctx.count_error(call, code);
        // The reference has words for groups of the newer kinds alone.
        results.push(DeletableGroupResult { group_id: id.0, error_code: code, error_message: None });
    }
    Ok(DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() })
}

/// Queues the end of a group; waits while the engine is busy.
async fn delete(ctx: &Context, id: &StrBytes) -> Result<Ack, ResponseError> {
    let mut busy = Busy::new(ctx);
    loop {
        match ctx.groups.delete(id) {
            Ok(ack) => return Ok(ack),
            Err(Refused::Error(error)) => return Err(error),
            Err(Refused::Busy) if busy.pause().await => {}
            Err(Refused::Busy) => return Err(ResponseError::CoordinatorNotAvailable),
        }
    }
}
