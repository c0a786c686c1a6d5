//! AddRaftVoter: the catalogue has one voter, and no other can join it.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use crate::model::Same;
use crate::model::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: AddRaftVoterRequest,
) -> Result<AddRaftVoterResponse, Close> {
    let checked = check_cluster(ctx, request.cluster_id.as_ref())
        .and_then(|()| check_voter("Add", request.voter_id, request.voter_directory_id));
    let failure = checked.err().unwrap_or_else(|| {
        Failure::because(ResponseError::UnsupportedVersion, "This server is one node: no voter can be added to it")
    });
    ctx.count_error(call, failure.code());
    let response = messages::AddRaftVoterResponse::default();
    Ok(Same(response.with_error_code(failure.code()).with_error_message(failure.message())))
}

/// Checks the cluster that the client means.
pub(crate) fn check_cluster(ctx: &Context, meant: Option<&StrBytes>) -> Result<(), Failure> {
    let own = &ctx.cluster_id;
    match meant.filter(|id| *id != own) {
        Some(other) => {
            let message = format!("The given id \"{}\" doesn't match the cluster id \"{}\"", other, own);
            Err(Failure::because(ResponseError::InconsistentClusterId, message))
        }
        None => Ok(()),
    }
}

/// Checks that the request names a voter.
pub(crate) fn check_voter(verb: &str, id: i32, directory: Uuid) -> Result<(), Failure> {
    if id >= 0 && !directory.is_nil() {
        return Ok(());
    }
    let message = format!("{verb} voter request didn't include a valid voter");
    Err(Failure::because(ResponseError::InvalidRequest, message))
}
