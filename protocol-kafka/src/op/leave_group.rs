//! LeaveGroup: members leave, or an administrator removes them.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::group::Leaving;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

/// The first version that names more than one member.
const WITH_MEMBERS: i16 = 3;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: LeaveGroupRequest,
) -> Result<LeaveGroupResponse, Close> {
    let LeaveGroupRequest { group_id, member_id, mut members, .. } = request;
    if call.version < WITH_MEMBERS {
        members = vec![MemberIdentity::default().with_member_id(member_id)];
    }
    let leaving = members.iter();
    let leaving: Vec<Leaving> = leaving
        .map(|member| Leaving { member_id: member.member_id.clone(), instance_id: member.group_instance_id.clone() })
        .collect();
    let outcome = if group_id.is_empty() {
        Err(ResponseError::InvalidGroupId)
    } else {
        match ctx.groups.open(false).await {
            Ok(_) => ctx.groups.leave(&group_id, &leaving).map_err(|unavailable| unavailable.0),
            Err(unavailable) => Err(unavailable.0),
        }
    };
    let outcome = match outcome {
        Ok(Some((outcomes, ended))) => {
            // That nobody is left is kept before it is said: a crash would bring the last one back.
            match ended.transpose() {
                Ok(None) => Ok(Some(outcomes)),
                Ok(Some(ended)) => {
                    ended.wait().await.map_err(|_| Close::Stopped)?;
                    Ok(Some(outcomes))
                }
                Err(error) => Err(error),
            }
        }
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    let outcomes = match outcome {
        Ok(Some(outcomes)) => outcomes,
        Ok(None) => vec![Err(ResponseError::UnknownMemberId); members.len()],
        Err(error) => {
            ctx.count_error(call, error.code());
            return Ok(LeaveGroupResponse::default().with_error_code(error.code()));
        }
    };
    let codes = outcomes.into_iter().map(|outcome| outcome.err().map_or(0, |error| error.code()));
    let codes: Vec<i16> = codes.collect();
    codes.iter().for_each(|code| ctx.count_error(call, *code));
    if call.version < WITH_MEMBERS {
        return Ok(LeaveGroupResponse::default().with_error_code(codes.first().copied().unwrap_or(0)));
    }
    let answers = members.into_iter().zip(codes).map(|(member, code)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code)
    });
    Ok(LeaveGroupResponse::default().with_members(answers.collect()))
}
