//! DescribeGroups: members of groups, and what they have been assigned.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::group::Described;
use crate::limits::{self, GROUPS_DESCRIBED_BYTES_MAX};
use crate::topics::GROUP_OPERATIONS;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

/// The first version that tells a group that is not there from one that is.
const WITH_NOT_FOUND: i16 = 6;

/// About the memory that a group takes in the answer beside its members.
const GROUP_BYTES: usize = 256;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, Close> {
    limits::check_groups(request.groups.len())?;
    let opened = ctx.groups.open(false).await;
    let members: usize = match opened {
        Ok(_) => request.groups.iter().map(|id| ctx.groups.bytes_of(id)).sum(),
        Err(_) => 0,
    };
    let bytes = request.groups.len() * GROUP_BYTES + members.min(GROUPS_DESCRIBED_BYTES_MAX);
    let _charge = limits::account(ctx, bytes).await;
    let mut room = GROUPS_DESCRIBED_BYTES_MAX;
    let mut groups = Vec::with_capacity(request.groups.len());
    for id in request.groups {
        let described = match opened {
            Ok(_) => ctx.groups.describe(&id, &mut room),
            Err(unavailable) => Err(unavailable.0),
        };
        let mut group = match described {
            Ok(Some(described)) => shown(described),
            Ok(None) => absent(call, &id),
            Err(error) => DescribedGroup::default().with_error_code(error.code()),
        };
        group.group_id = id;
        ctx.count_error(call, group.error_code);
        if request.include_authorized_operations && group.error_code == 0 {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        groups.push(group);
    }
    Ok(DescribeGroupsResponse::default().with_groups(groups))
}

fn absent(call: &Call, id: &GroupId) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead"));
    if call.version < WITH_NOT_FOUND {
        return group;
    }
    group
        .with_error_code(ResponseError::GroupIdNotFound.code())
        .with_error_message(Some(StrBytes::from_string(format!("Group {} not found.", id.as_str()))))
}

fn shown(described: Described) -> DescribedGroup {
    let members = described.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(member.id)
            .with_group_instance_id(member.instance_id)
            .with_client_id(member.client_id)
            .with_client_host(member.client_host)
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(described.state.name()))
        .with_protocol_type(described.protocol_type.unwrap_or_default())
        .with_protocol_data(described.protocol.unwrap_or_default())
        .with_members(members.collect())
}
