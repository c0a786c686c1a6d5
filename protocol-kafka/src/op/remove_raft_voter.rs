//! RemoveRaftVoter: the catalogue has one voter, which stays.

use super::add_raft_voter::{check_cluster, check_voter};
use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: RemoveRaftVoterRequest,
) -> Result<RemoveRaftVoterResponse, Close> {
    let failure = check(ctx, &request);
    ctx.count_error(call, failure.code());
    Ok(RemoveRaftVoterResponse::default().with_error_code(failure.code()).with_error_message(failure.message()))
}

fn check(ctx: &Context, request: &RemoveRaftVoterRequest) -> Failure {
    let checked = check_cluster(ctx, request.cluster_id.as_ref())
        .and_then(|()| check_voter("Remove", request.voter_id, request.voter_directory_id));
    checked.err().unwrap_or_else(|| {
        Failure::because(ResponseError::UnsupportedVersion, "This server is one node: its voter cannot be removed")
    })
}
