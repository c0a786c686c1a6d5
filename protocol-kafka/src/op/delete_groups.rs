//! DeleteGroups: groups without members, and what they have committed.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::group::unless_busy;
use crate::limits;
use crate::model::Same;
use crate::model::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
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
            Ok(_) => unless_busy(ctx, || ctx.groups.delete(&id)).await,
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
