//! FindCoordinator: who looks after a group. This node, for each of them.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::limits::{self, Messages};
use crate::map::Failure;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

/// The first version that names more than one key.
const WITH_KEYS: i16 = 4;
/// The first version that knows share groups.
const WITH_SHARE_GROUPS: i16 = 6;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// About the memory that a key takes in the answer.
const FOUND_BYTES: usize = 256;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: FindCoordinatorRequest,
) -> Result<FindCoordinatorResponse, Close> {
    let kind = request.key_type;
    let is_share = kind == SHARE && call.version >= WITH_SHARE_GROUPS;
    let known = match kind {
        GROUP => ctx.groups.open(true).await.map(|_| ()).map_err(|unavailable| failure(unavailable.0)),
        // Nothing that clients would ask for again and again.
        TRANSACTION => Err(Failure::because(ResponseError::UnsupportedVersion, "Transactions are not served.")),
        _ if is_share => Err(failure(ResponseError::CoordinatorNotAvailable)),
        // Known, but not in this version: the reference finds no words for it where it could be one of several.
        SHARE if call.version >= WITH_KEYS => Err(Failure::new(ResponseError::InvalidRequest)),
        _ => Err(failure(ResponseError::InvalidRequest)),
    };
    let mut messages = Messages::new();
    let host = StrBytes::from_string(ctx.options.advertised_host.clone());
    let mut found = |key: StrBytes| {
        let known = if is_share { check_share_key(&key).and_then(|()| known.clone()) } else { known.clone() };
        let answer = Coordinator::default().with_key(key);
        match known {
            Ok(()) => answer
                .with_node_id(BrokerId(ctx.options.node_id))
                .with_host(host.clone())
                .with_port(i32::from(ctx.options.advertised_port)),
            Err(failure) => {
                ctx.count_error(call, failure.code());
                answer
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(failure.code())
                    .with_error_message(Some(messages.take(&failure).unwrap_or_default()))
            }
        }
    };
    if call.version < WITH_KEYS {
        let found = found(request.key);
        let fine = StrBytes::from_static_str("NONE");
        return Ok(FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_error_message(if found.error_code == 0 { Some(fine) } else { found.error_message })
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port));
    }
    limits::check_groups(request.coordinator_keys.len())?;
    let _charge = limits::account(ctx, request.coordinator_keys.len() * FOUND_BYTES).await;
    let found = request.coordinator_keys.into_iter().map(found).collect();
    Ok(FindCoordinatorResponse::default().with_coordinators(found))
}

/// An error with the words that the reference has for it.
fn failure(error: ResponseError) -> Failure {
    let words = match error {
        ResponseError::InvalidRequest => {
            "This most likely occurs because of a request being malformed by the client library or the message was sent to an \
             incompatible broker. See the broker logs for more details."
        }
        _ => "The coordinator is not available.",
    };
    Failure::because(error, words)
}

/// The key of a share group names it with a topic's id and a partition.
fn check_share_key(key: &str) -> Result<(), Failure> {
    let invalid = || Failure::new(ResponseError::InvalidRequest);
    let mut parts = key.rsplitn(3, ':');
    parts.next().and_then(|part| part.parse::<u32>().ok()).ok_or_else(invalid)?;
    let id = parts.next().ok_or_else(invalid)?;
    let group = parts.next().ok_or_else(invalid)?;
    // An id is 16 bytes, in base64.
    let is_id = id.len() == 22 && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if group.is_empty() || !is_id { Err(invalid()) } else { Ok(()) }
}
