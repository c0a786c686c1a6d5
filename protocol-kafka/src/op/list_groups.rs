//! ListGroups: all groups, by state and by kind.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::group::State;
use crate::limits;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

/// The kind of group that is served, as the reference writes it.
const CLASSIC: &str = "classic";

/// About the memory that a group takes beside its id, in the answer and on the way to it.
const LISTED_BYTES: usize = 256;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: ListGroupsRequest,
) -> Result<ListGroupsResponse, Close> {
    // Without an end: a list that leaves groups out would be taken for the whole.
    let count = ctx.groups.count();
    let charge = limits::account(ctx, count * LISTED_BYTES).await;
    let listed = match ctx.groups.open(false).await {
        Ok(_) => ctx.groups.list(),
        Err(unavailable) => Err(unavailable),
    };
    let listed = match listed {
        Ok(listed) => listed,
        Err(unavailable) => {
            ctx.count_error(call, unavailable.0.code());
            return Ok(ListGroupsResponse::default().with_error_code(unavailable.0.code()));
        }
    };
    let is_wanted = |wanted: &[StrBytes], value: &str| {
        wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    // The filters are as long as the client makes them: each is looked through once, not once for each group.
    let states = State::ALL.map(|state| (state, is_wanted(&request.states_filter, state.name())));
    let is_of_type = is_wanted(&request.types_filter, CLASSIC);
    let listed = listed.into_iter().filter(|group| is_of_type && states.contains(&(group.state, true)));
    let listed: Vec<_> = listed.collect();
    drop(charge);
    let _charge = limits::account(ctx, listed.iter().map(|group| LISTED_BYTES + group.id.len()).sum()).await;
    let groups = listed.into_iter().map(|group| {
        ListedGroup::default()
            .with_group_id(group.id.into())
            .with_protocol_type(group.protocol_type.unwrap_or_default())
            .with_group_state(StrBytes::from_static_str(group.state.name()))
            .with_group_type(StrBytes::from_static_str(CLASSIC))
    });
    Ok(ListGroupsResponse::default().with_groups(groups.collect()))
}
