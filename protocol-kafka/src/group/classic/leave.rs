//! LeaveGroup.

use super::{Effects, Group, Moment, Rules, State};
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;

/// A member that leaves, or that an administrator removes.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    /// Empty: whoever has the instance id.
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
}

impl Group {
    /// Members leave. The outcome for each, in order.
    pub(crate) fn leave(
        &mut self,
        now: Moment,
        rules: &Rules,
        leaving: &[Leaving],
        effects: &mut Effects,
    ) -> Vec<Result<(), ResponseError>> {
        let outcomes: Vec<_> = leaving.iter().map(|member| self.leave_one(member, effects)).collect();
        if outcomes.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.rebalance(now, rules, effects),
                State::PreparingRebalance => self.maybe_complete_join(now, effects),
                State::Empty => {}
            }
        }
        outcomes
    }

    fn leave_one(&mut self, leaving: &Leaving, effects: &mut Effects) -> Result<(), ResponseError> {
        let Leaving { member_id, instance_id } = leaving;
        let id = if member_id.is_empty() {
            let known = instance_id.as_ref().and_then(|instance_id| self.static_members.get(instance_id));
            known.cloned().ok_or(ResponseError::UnknownMemberId)?
        } else {
            if !self.pending.contains_key(member_id) {
                self.check_member(member_id, instance_id.as_ref())?;
            }
            member_id.clone()
        };
        self.remove(&id, effects);
        Ok(())
    }
}
