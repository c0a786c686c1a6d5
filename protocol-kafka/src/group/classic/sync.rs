//! SyncGroup: the leader hands in what each member gets, and each member comes for its own.

use super::{Effects, Group, Moment, Persist, Rules, State, Then, Ticket};
use super::{Reply, ResponseError, StrBytes};
use bytes::Bytes;
use kafka_protocol::messages::SyncGroupResponse;
use std::collections::HashMap;

/// A SyncGroup request, its group's id aside.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<StrBytes>,
    pub(crate) protocol: Option<StrBytes>,
    /// From the leader alone.
    pub(crate) assignments: Vec<(StrBytes, Bytes)>,
}

impl Group {
    /// A member comes for its assignment. The ticket is answered now or later.
    pub(crate) fn sync(&mut self, ticket: Ticket, sync: Sync, effects: &mut Effects) {
        if let Err(error) = self.check_sync(&sync) {
            effects.sync_error(ticket, error);
            return;
        }
        let id = sync.member_id;
        match self.state {
            State::Empty => effects.sync_error(ticket, ResponseError::UnknownMemberId),
            State::PreparingRebalance => effects.sync_error(ticket, ResponseError::RebalanceInProgress),
            State::CompletingRebalance => {
                self.has_synced(&id);
                let before = self.members.get_mut(&id).and_then(|member| member.sync.replace(ticket));
                if let Some(before) = before {
                    effects.sync_error(before, ResponseError::RebalanceInProgress);
                }
                // A leader that says it again gets what it said first: that may be kept already, and members learn of it any moment.
                if self.is_leader(&id) && !std::mem::replace(&mut self.is_assigned, true) {
                    self.assign(sync.assignments, effects);
                }
            }
            State::Stable => {
                self.has_synced(&id);
                let assignment = self.members.get(&id).map(|member| member.assignment.clone());
                effects.replies.push((ticket, Reply::Sync(self.assigned(assignment.unwrap_or_default()))));
            }
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ResponseError> {
        if self.state == State::Empty {
            return Err(ResponseError::UnknownMemberId);
        }
        self.check_member(&sync.member_id, sync.instance_id.as_ref())?;
        if sync.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        let differ =
            |asked: &Option<StrBytes>, ours: &Option<StrBytes>| matches!((asked, ours), (Some(a), Some(b)) if a != b);
        if differ(&sync.protocol_type, &self.protocol_type) || differ(&sync.protocol, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn has_synced(&mut self, id: &StrBytes) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            self.sync_timer = None;
        }
    }

    /// The leader has assigned. Members hear of it once it is kept.
    fn assign(&mut self, assignments: Vec<(StrBytes, Bytes)>, effects: &mut Effects) {
        let given: HashMap<StrBytes, Bytes> = assignments.into_iter().collect();
        let of = |id: &StrBytes| given.get(id).cloned().unwrap_or_default();
        let assignments: HashMap<StrBytes, Bytes> = self.members.keys().map(|id| (id.clone(), of(id))).collect();
        let record = self.record_with(|id, _| of(id));
        let then = Some(Then::Assign { generation: self.generation, assignments });
        effects.persist.push(Persist { record, then });
    }

    /// A record is kept, or could not be.
    pub(crate) fn persisted(
        &mut self,
        now: Moment,
        rules: &Rules,
        then: Then,
        kept: Result<(), ResponseError>,
        effects: &mut Effects,
    ) {
        match then {
            Then::Assign { generation, assignments } => {
                // Another rebalance may have begun meanwhile.
                if self.state != State::CompletingRebalance || generation != self.generation {
                    return;
                }
                match kept {
                    Ok(()) => self.stabilize(now, assignments, effects),
                    Err(error) => {
                        self.propagate(now, Err(error), effects);
                        self.rebalance(now, rules, effects);
                    }
                }
            }
            Then::Replace(replacement) => self.replaced(now, *replacement, kept, effects),
        }
    }

    fn stabilize(&mut self, now: Moment, mut assignments: HashMap<StrBytes, Bytes>, effects: &mut Effects) {
        for (id, member) in &mut self.members {
            self.bytes -= member.assignment.len();
            member.assignment = assignments.remove(id).unwrap_or_default();
            self.bytes += member.assignment.len();
        }
        self.propagate(now, Ok(()), effects);
        self.transition(State::Stable, now);
        effects.is_stabilized = true;
    }

    /// Answers every SyncGroup that waits: with its member's assignment, or an error. Their sessions start anew: while they
    /// waited, nothing could be heard of them.
    pub(super) fn propagate(&mut self, now: Moment, outcome: Result<(), ResponseError>, effects: &mut Effects) {
        let waiting: Vec<StrBytes> =
            self.members.iter().filter(|(_, member)| member.sync.is_some()).map(|(id, _)| id.clone()).collect();
        for id in waiting {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let Some(ticket) = member.sync.take() else { continue };
            let assignment = member.assignment.clone();
            match outcome {
                Ok(()) => effects.replies.push((ticket, Reply::Sync(self.assigned(assignment)))),
                Err(error) => effects.sync_error(ticket, error),
            }
            self.refresh(now, &id, effects);
        }
    }

    fn assigned(&self, assignment: Bytes) -> SyncGroupResponse {
        SyncGroupResponse::default()
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol.clone())
            .with_assignment(assignment)
    }
}
