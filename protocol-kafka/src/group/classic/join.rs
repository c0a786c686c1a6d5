//! JoinGroup.

use super::member::{MEMBER_SIZE, Member, size_of_protocols};
use super::{Effects, Group, Moment, NEW_MEMBER_TIMEOUT_MS, Persist, Rules, State, Then, Ticket};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::JoinGroupResponse;
use kafka_protocol::protocol::StrBytes;

/// A JoinGroup request, its group's id aside.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Empty: the member has no id yet.
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) client_id: StrBytes,
    pub(crate) client_host: StrBytes,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocol_type: StrBytes,
    pub(crate) protocols: Vec<(StrBytes, Bytes)>,
    /// The id that it gets if it needs one.
    pub(crate) new_id: StrBytes,
    /// Whether a new member must come a second time, with its id. So a request that is sent twice makes no second member.
    pub(crate) id_required: bool,
    /// Whether it understands that a leader need not assign anew.
    pub(crate) may_skip_assignment: bool,
}

/// A static member that came back, until that is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Replacement {
    instance_id: StrBytes,
    old_id: StrBytes,
    new_id: StrBytes,
    old_protocols: Vec<(StrBytes, Bytes)>,
    old_rebalance_timeout_ms: i32,
    old_session_timeout_ms: i32,
    /// The leader before it came.
    leader: StrBytes,
    ticket: Ticket,
    may_skip_assignment: bool,
}

impl Join {
    /// Bytes of memory that the member will take, about.
    fn bytes(&self) -> usize {
        let ids = self.member_id.len() + self.new_id.len() + self.instance_id.as_ref().map_or(0, |id| id.len());
        MEMBER_SIZE + ids + self.client_id.len() + self.client_host.len() + size_of_protocols(&self.protocols)
    }
}

impl Group {
    /// A member wants to join, or to rejoin. The ticket is answered now or later.
    pub(crate) fn join(&mut self, now: Moment, rules: &Rules, ticket: Ticket, join: Join, effects: &mut Effects) {
        let growth = self.growth(&join);
        if !self.has_room(&join.member_id, rules) {
            self.remove(&join.member_id, effects);
            effects.join_error(ticket, StrBytes::new(), ResponseError::GroupMaxSizeReached);
        } else if growth > 0 && self.bytes.saturating_add(growth) > rules.bytes_max {
            // A member that was taken in as it was stays one, until its session ends.
            effects.join_error(ticket, StrBytes::new(), ResponseError::GroupMaxSizeReached);
        } else if !self.supports(&join.protocol_type, join.protocols.iter().map(|(name, _)| name)) {
            effects.join_error(ticket, join.member_id, ResponseError::InconsistentGroupProtocol);
        } else if join.member_id.is_empty() {
            self.join_new(now, rules, ticket, join, effects);
        } else {
            self.join_known(now, rules, ticket, join, effects);
        }
    }

    fn has_room(&self, id: &StrBytes, rules: &Rules) -> bool {
        match self.state {
            State::Empty => true,
            // Those who wait count, so that a group that has become too large sheds the last ones.
            State::PreparingRebalance => {
                self.members.get(id).is_some_and(|member| member.join.is_some()) || self.joined < rules.members_max
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(id) || self.members.len() < rules.members_max
            }
        }
    }

    /// Bytes of memory, about, that the member takes more than what has its place now.
    pub(crate) fn growth(&self, join: &Join) -> usize {
        let known = join.instance_id.as_ref().and_then(|instance_id| self.static_members.get(instance_id));
        let id = known.unwrap_or(&join.member_id);
        let before = self.members.get(id).map_or(0, |member| member.bytes(id));
        join.bytes().saturating_sub(before)
    }

    fn join_new(&mut self, now: Moment, rules: &Rules, ticket: Ticket, join: Join, effects: &mut Effects) {
        let known = join.instance_id.as_ref().and_then(|instance_id| self.static_members.get(instance_id)).cloned();
        match (&join.instance_id, known) {
            (Some(instance_id), Some(old_id)) => {
                let instance_id = instance_id.clone();
                self.replace(now, rules, ticket, join, instance_id, old_id, effects);
            }
            (None, _) if join.id_required => {
                if self.pending.len() >= rules.pending_max {
                    effects.join_error(ticket, StrBytes::new(), ResponseError::GroupMaxSizeReached);
                    return;
                }
                let until = effects.arm(now.after(join.session_timeout_ms));
                self.give_out(join.new_id.clone(), until);
                effects.join_error(ticket, join.new_id, ResponseError::MemberIdRequired);
            }
            _ => {
                let id = join.new_id.clone();
                self.add(now, rules, ticket, id, join, effects);
            }
        }
    }

    fn join_known(&mut self, now: Moment, rules: &Rules, ticket: Ticket, join: Join, effects: &mut Effects) {
        let id = join.member_id.clone();
        if self.pending.contains_key(&id) {
            if join.instance_id.is_some() {
                // Static members are never asked to come again, so no such client exists.
                effects.join_error(ticket, id, ResponseError::UnknownServerError);
            } else {
                self.add(now, rules, ticket, id, join, effects);
            }
            return;
        }
        if let Err(error) = self.check_member(&id, join.instance_id.as_ref()) {
            effects.join_error(ticket, id, error);
            return;
        }
        let is_same = self.members.get(&id).is_some_and(|member| member.protocols == join.protocols);
        match self.state {
            State::PreparingRebalance => self.rejoin(now, rules, ticket, join, effects),
            // It may not have got the answer to its last JoinGroup.
            State::CompletingRebalance if is_same => effects.join(ticket, self.generation_for(&id)),
            // A leader that rejoins asks for a rebalance, because of something that only it knows.
            State::Stable if is_same && !self.is_leader(&id) => effects.join(ticket, self.generation_for(&id)),
            State::CompletingRebalance | State::Stable => self.rejoin(now, rules, ticket, join, effects),
            State::Empty => effects.join_error(ticket, id, ResponseError::UnknownMemberId),
        }
    }

    fn rejoin(&mut self, now: Moment, rules: &Rules, ticket: Ticket, join: Join, effects: &mut Effects) {
        let (rebalance, session) = (join.rebalance_timeout_ms, join.session_timeout_ms);
        self.update(&join.member_id, join.protocols, rebalance, session, Some(ticket), effects);
        self.rebalance(now, rules, effects);
    }

    fn add(&mut self, now: Moment, rules: &Rules, ticket: Ticket, id: StrBytes, join: Join, effects: &mut Effects) {
        if self.state == State::PreparingRebalance && self.previous == State::Empty {
            self.has_grown = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        let member = Member {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            join: Some(ticket),
            sync: None,
            is_new: true,
            session: Some(effects.arm(now.after(NEW_MEMBER_TIMEOUT_MS))),
        };
        self.insert(id, member);
        self.rebalance(now, rules, effects);
    }

    /// A static member comes back without its id: it gets a new one and takes its old place.
    #[allow(clippy::too_many_arguments, reason = "each is a thing of its own, and one caller has them all at hand")]
    fn replace(
        &mut self,
        now: Moment,
        rules: &Rules,
        ticket: Ticket,
        join: Join,
        instance_id: StrBytes,
        old_id: StrBytes,
        effects: &mut Effects,
    ) {
        let leader = self.leader.clone().unwrap_or_default();
        let new_id = join.new_id;
        self.rename(&instance_id, &old_id, &new_id, effects);
        self.refresh(now, &new_id, effects);
        let Some(member) = self.members.get(&new_id) else { return };
        let replacement = Replacement {
            instance_id,
            old_id,
            new_id: new_id.clone(),
            old_protocols: member.protocols.clone(),
            old_rebalance_timeout_ms: member.rebalance_timeout_ms,
            old_session_timeout_ms: member.session_timeout_ms,
            leader,
            ticket,
            may_skip_assignment: join.may_skip_assignment,
        };
        let (rebalance, session) = (join.rebalance_timeout_ms, join.session_timeout_ms);
        self.update(&new_id, join.protocols, rebalance, session, Some(ticket), effects);
        match self.state {
            // As long as the protocol stays, the others need not know.
            State::Stable if self.vote() == self.protocol => {
                let then = Some(Then::Replace(Box::new(replacement)));
                effects.persist.push(Persist { record: self.record(), then });
            }
            // The leader may be assigning to the old id just now.
            State::Stable | State::CompletingRebalance => self.prepare(now, rules, effects),
            State::PreparingRebalance | State::Empty => self.maybe_complete_join(now, effects),
        }
    }

    /// Gives a static member another id. Whoever waits under the old one is fenced off.
    fn rename(&mut self, instance_id: &StrBytes, old_id: &StrBytes, new_id: &StrBytes, effects: &mut Effects) {
        if let Some(ticket) = self.take_join(old_id) {
            effects.join_error(ticket, old_id.clone(), ResponseError::FencedInstanceId);
        }
        let Some(mut member) = self.members.remove(old_id) else { return };
        if let Some(ticket) = member.sync.take() {
            effects.sync_error(ticket, ResponseError::FencedInstanceId);
        }
        member.is_new = false;
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.clone());
        }
        self.static_members.insert(instance_id.clone(), new_id.clone());
        self.bytes = self.bytes + new_id.len() - old_id.len();
        self.members.insert(new_id.clone(), member);
    }

    /// That a static member came back is kept, or could not be.
    pub(super) fn replaced(
        &mut self,
        now: Moment,
        replacement: Replacement,
        kept: Result<(), ResponseError>,
        effects: &mut Effects,
    ) {
        let Replacement { instance_id, old_id, new_id, leader, ticket, .. } = replacement;
        let is_waiting = self.members.get(&new_id).is_some_and(|member| member.join == Some(ticket));
        if let Err(error) = kept {
            if !is_waiting {
                return;
            }
            self.take_join(&new_id);
            let (protocols, session) = (replacement.old_protocols, replacement.old_session_timeout_ms);
            self.update(&new_id, protocols, replacement.old_rebalance_timeout_ms, session, None, effects);
            self.rename(&instance_id, &new_id, &old_id, effects);
            self.refresh(now, &old_id, effects);
            let answer = JoinGroupResponse::default()
                .with_generation_id(self.generation)
                .with_protocol_type(self.protocol_type.clone())
                .with_protocol_name(self.protocol.clone())
                .with_leader(leader)
                .with_error_code(error.code());
            effects.join(ticket, answer);
            return;
        }
        // A rebalance may have begun meanwhile, and have answered it.
        if !is_waiting || self.state == State::PreparingRebalance {
            return;
        }
        self.take_join(&new_id);
        // While it waited, nothing could be heard of it.
        self.refresh(now, &new_id, effects);
        let mut answer = self.generation_for(&new_id);
        if replacement.may_skip_assignment {
            answer.skip_assignment = self.is_leader(&new_id);
        } else {
            // It must not take itself for the leader, or it would assign anew: it is told of the one before.
            answer.leader = leader;
            answer.members = Vec::new();
        }
        effects.join(ticket, answer);
    }
}
