//! Members of a classic group, and the bookkeeping that comes with each change of them.

use super::{Effects, Group, Moment, Ticket};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;

/// A member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) client_id: StrBytes,
    pub(crate) client_host: StrBytes,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// What it supports, the best first, each with its metadata.
    pub(crate) protocols: Vec<(StrBytes, Bytes)>,
    pub(crate) assignment: Bytes,
    /// Its JoinGroup that waits.
    pub(crate) join: Option<Ticket>,
    /// Its SyncGroup that waits.
    pub(crate) sync: Option<Ticket>,
    /// Whether it has not seen a generation yet.
    pub(crate) is_new: bool,
    /// When its session ends, unless something is heard of it; none while that is not looked at.
    pub(crate) session: Option<u64>,
}

impl Member {
    pub(crate) fn metadata(&self, protocol: &StrBytes) -> Option<Bytes> {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, metadata)| metadata.clone())
    }

    /// Bytes of memory that it takes with its id, about.
    pub(super) fn bytes(&self, id: &StrBytes) -> usize {
        let instance_id = self.instance_id.as_ref().map_or(0, |id| id.len());
        let texts = id.len() + instance_id + self.client_id.len() + self.client_host.len();
        MEMBER_SIZE + texts + size_of_protocols(&self.protocols) + self.assignment.len()
    }

    /// Whether it need not be heard of: its request waits, and it can send no other meanwhile.
    pub(super) fn is_excused(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }
}

/// Bytes of memory that a member takes beside texts, metadata and its assignment, about.
pub(super) const MEMBER_SIZE: usize = 512;
/// The same of an id that is given out.
const PENDING_SIZE: usize = 128;

/// The same of a protocol that a member supports.
const PROTOCOL_SIZE: usize = 128;

/// Bytes of memory that protocols take, about.
pub(super) fn size_of_protocols(protocols: &[(StrBytes, Bytes)]) -> usize {
    protocols.iter().map(|(name, metadata)| PROTOCOL_SIZE + name.len() + metadata.len()).sum()
}

impl Group {
    /// Takes a member in.
    pub(super) fn insert(&mut self, id: StrBytes, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), id.clone());
        }
        self.count(&member.protocols, true);
        self.joined += usize::from(member.join.is_some());
        self.bytes += member.bytes(&id);
        self.leader.get_or_insert_with(|| id.clone());
        self.take_back(&id);
        self.members.insert(id, member);
    }

    /// Removes a member, or an id that was given out. Whoever waits under it is told that it is unknown.
    pub(super) fn remove(&mut self, id: &StrBytes, effects: &mut Effects) {
        if let Some(ticket) = self.take_join(id) {
            effects.join_error(ticket, StrBytes::new(), ResponseError::UnknownMemberId);
        }
        if let Some(member) = self.members.remove(id) {
            if let Some(ticket) = member.sync {
                effects.sync_error(ticket, ResponseError::UnknownMemberId);
            }
            self.count(&member.protocols, false);
            self.bytes -= member.bytes(id);
            if let Some(instance_id) = &member.instance_id
                && self.static_members.get(instance_id) == Some(id)
            {
                self.static_members.remove(instance_id);
            }
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.take_back(id);
        self.pending_sync.remove(id);
    }

    /// Gives out an id.
    pub(super) fn give_out(&mut self, id: StrBytes, until: u64) {
        self.bytes += PENDING_SIZE + id.len();
        self.pending.insert(id, until);
    }

    /// An id that was given out is used, or no longer good.
    fn take_back(&mut self, id: &StrBytes) {
        if self.pending.remove(id).is_some() {
            self.bytes -= PENDING_SIZE + id.len();
        }
    }

    /// Counts what a member supports.
    fn count(&mut self, protocols: &[(StrBytes, Bytes)], is_added: bool) {
        for (name, _) in protocols {
            if is_added {
                *self.supported.entry(name.clone()).or_default() += 1;
            } else if let Some(count) = self.supported.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(name);
                }
            }
        }
    }

    /// Gives a member what its new JoinGroup says. One that still waits is told to come again: this one takes its place.
    pub(super) fn update(
        &mut self,
        id: &StrBytes,
        protocols: Vec<(StrBytes, Bytes)>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
        join: Option<Ticket>,
        effects: &mut Effects,
    ) {
        if let Some(ticket) = self.take_join(id) {
            effects.join_error(ticket, id.clone(), ResponseError::RebalanceInProgress);
        }
        let Some(member) = self.members.get_mut(id) else { return };
        let before = std::mem::replace(&mut member.protocols, protocols);
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        member.join = join;
        let after = member.protocols.clone();
        self.joined += usize::from(join.is_some());
        self.bytes = self.bytes + size_of_protocols(&after) - size_of_protocols(&before);
        self.count(&before, false);
        self.count(&after, true);
    }

    /// Takes the ticket of a member's JoinGroup that waits.
    pub(super) fn take_join(&mut self, id: &StrBytes) -> Option<Ticket> {
        let ticket = self.members.get_mut(id)?.join.take()?;
        self.joined -= 1;
        Some(ticket)
    }

    /// A member was heard of: its session starts anew.
    pub(super) fn refresh(&mut self, now: Moment, id: &StrBytes, effects: &mut Effects) {
        if let Some(member) = self.members.get_mut(id) {
            member.session = Some(effects.arm(now.after(member.session_timeout_ms)));
        }
    }
}
