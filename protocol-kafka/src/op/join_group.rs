//! JoinGroup: a member joins its group and waits for the next generation.

use crate::call::{Call, Outcome, Running};
use crate::context::Context;
use crate::group::{Join, Reply, own, refusal};
use crate::limits::{self, GROUP_PROTOCOLS_MAX};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The first version with a time to rebalance beside that of the session.
const WITH_REBALANCE_TIMEOUT: i16 = 1;
/// The first version whose clients know that they must come a second time, with the id that they are given.
const WITH_ID_REQUIRED: i16 = 4;
/// The first version in which no protocol can be null.
const WITH_NULL_PROTOCOL: i16 = 7;
/// The first version whose leaders know that they need not always assign.
const WITH_SKIPPED_ASSIGNMENT: i16 = 9;
/// What a waiting request takes of memory, about; its metadata counts as the group's.
const WAITING_BYTES: u64 = 1 << 10;
/// What a member takes in a leader's answer beside its metadata, about.
const MEMBER_BYTES: usize = 256;

pub(crate) fn handle(ctx: Arc<Context>, mut call: Call) -> Running {
    Box::pin(async move {
        let request: JoinGroupRequest = call.decode()?;
        let group = own(&request.group_id);
        let member_id = own(&request.member_id);
        let join = join(&ctx, &call, request);
        // The frame is not held while the members gather.
        let mut memory = call.let_go();
        memory.shrink_to(WAITING_BYTES);
        let mut answer = match join {
            Ok(join) => run(&ctx, &group, join).await,
            Err(error) => Err(error),
        }
        .unwrap_or_else(|error| refusal(member_id, error));
        if call.version < WITH_NULL_PROTOCOL {
            answer.protocol_name.get_or_insert_default();
        }
        ctx.count_error(&call, answer.error_code);
        // A leader hears of all members, as often as it asks.
        let bytes = answer.members.iter().map(|member| MEMBER_BYTES + member.metadata.len()).sum();
        let _charge = limits::account(&ctx, bytes).await;
        call.answer(&answer).map(Outcome::Done)
    })
}

async fn run(ctx: &Context, group: &StrBytes, join: Join) -> Result<JoinGroupResponse, ResponseError> {
    ctx.groups.open(true).await.map_err(|unavailable| unavailable.0)?;
    let waiting = ctx.groups.join(group, join).map_err(|unavailable| unavailable.0)?;
    tokio::select! {
        reply = waiting => match reply {
            Ok(Reply::Join(answer)) => Ok(answer),
            _ => Err(ResponseError::NotCoordinator),
        },
        () = ctx.draining() => Err(ResponseError::NotCoordinator),
    }
}

/// The request as the group takes it, in memory of its own.
fn join(ctx: &Context, call: &Call, request: JoinGroupRequest) -> Result<Join, ResponseError> {
    if request.group_id.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    let options = ctx.groups.options();
    if !(options.session_timeout_min_ms..=options.session_timeout_max_ms).contains(&request.session_timeout_ms) {
        return Err(ResponseError::InvalidSessionTimeout);
    }
    if request.protocols.len() > GROUP_PROTOCOLS_MAX {
        return Err(ResponseError::InconsistentGroupProtocol);
    }
    let mut protocols: Vec<(StrBytes, bytes::Bytes)> = Vec::with_capacity(request.protocols.len());
    for protocol in &request.protocols {
        if !protocols.iter().any(|(name, _)| *name == protocol.name) {
            protocols.push((own(&protocol.name), bytes::Bytes::copy_from_slice(&protocol.metadata)));
        }
    }
    let client_id = call.client_id.as_ref().map(own).unwrap_or_default();
    let instance_id = request.group_instance_id.as_ref().map(own);
    let has_own_timeout = call.version >= WITH_REBALANCE_TIMEOUT;
    Ok(Join {
        member_id: own(&request.member_id),
        new_id: if request.member_id.is_empty() {
            ctx.groups.member_id(instance_id.as_ref().unwrap_or(&client_id))
        } else {
            StrBytes::new()
        },
        instance_id,
        client_id,
        client_host: StrBytes::from_string(host(call.peer)),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if has_own_timeout { request.rebalance_timeout_ms } else { request.session_timeout_ms },
        protocol_type: own(&request.protocol_type),
        protocols,
        id_required: call.version >= WITH_ID_REQUIRED,
        may_skip_assignment: call.version >= WITH_SKIPPED_ASSIGNMENT,
    })
}

/// Where a client connects from, as Java writes it.
fn host(peer: Option<SocketAddr>) -> String {
    match peer.map(|peer| peer.ip().to_canonical()) {
        None => "/".to_owned(),
        Some(IpAddr::V4(address)) => format!("/{address}"),
        Some(IpAddr::V6(address)) => {
            let parts: Vec<String> = address.segments().iter().map(|part| format!("{part:x}")).collect();
            format!("/{}", parts.join(":"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn hosts_are_written_as_java_writes_them() {
        let of = |text: &str| host(Some(text.parse().unwrap()));
        assert_eq!(of("127.0.0.1:1"), "/127.0.0.1");
        assert_eq!(of("[::1]:1"), "/0:0:0:0:0:0:0:1");
        assert_eq!(of("[::ffff:10.0.0.1]:1"), "/10.0.0.1");
    }
}
