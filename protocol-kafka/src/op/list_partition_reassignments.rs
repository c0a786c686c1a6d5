//! ListPartitionReassignments: nothing moves on a single node.

use crate::call::{Call, Close};
use crate::context::Context;
use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

pub(crate) async fn handle(
    _ctx: &Context,
    _call: &Call,
    _request: ListPartitionReassignmentsRequest,
) -> Result<ListPartitionReassignmentsResponse, Close> {
    Ok(ListPartitionReassignmentsResponse::default().with_error_message(None))
}
