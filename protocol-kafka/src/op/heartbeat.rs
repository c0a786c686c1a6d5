//! Heartbeat: a member lives, and hears of rebalances.

use crate::call::{Call, Close};
use crate::context::Context;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

pub(crate) async fn handle(ctx: &Context, call: &Call, request: HeartbeatRequest) -> Result<HeartbeatResponse, Close> {
    let code = beat(ctx, &request).await.err().map_or(0, |error| error.code());
    ctx.count_error(call, code);
    Ok(HeartbeatResponse::default().with_error_code(code))
}

async fn beat(ctx: &Context, request: &HeartbeatRequest) -> Result<(), ResponseError> {
    if request.group_id.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    ctx.groups.open(false).await.map_err(|unavailable| unavailable.0)?;
    let instance_id = request.group_instance_id.as_ref();
    ctx.groups.heartbeat(&request.group_id, &request.member_id, instance_id, request.generation_id)
}
