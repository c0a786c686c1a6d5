//! The state machine of one classic group. Pure: no clock, no lock, no I/O. Time comes in with each input; what is to be done
//! comes out as [`Effects`]: answers for requests that wait, records to keep, the next deadline.
//!
//! ```text
//!             first member joins
//!   Empty ---------------------------> PreparingRebalance <----------------------+
//!     ^                                 |  wait until all have joined, or         | a member joins, leaves,
//!     |  nobody is left                 |  the time to rebalance is over          | expires or changes
//!     +---------------------------------+                                         |
//!                                       v                                         |
//!                               CompletingRebalance ------------------------------+
//!                                       |  the leader's assignment is kept        |
//!                                       v                                         |
//!                                     Stable -------------------------------------+
//! ```
//! A request that waits (JoinGroup until the generation is complete, SyncGroup until the leader's assignment is kept) is known
//! by its ticket. Each ticket is answered once, unless its group is given up as a whole.
//!
//! What is answered in which state, and in which order faults are looked for, is the reference's. Two things are ours: a request
//! whose place another one of the same member takes is told to rejoin (there it is never answered), and so is a SyncGroup whose
//! member goes.

mod join;
mod leave;
mod member;
mod sync;
#[cfg(test)]
mod tests;
mod timers;

pub(crate) use join::Join;
pub(crate) use leave::Leaving;
pub(crate) use sync::Sync;

use super::java;
use super::records::{GroupRecord, MemberRecord};
use super::subscription;
use crate::limits::GROUP_TOPICS_MAX;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use member::Member;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use timers::JoinTimer;

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Milliseconds on a clock that never goes back; deadlines are on it.
    pub(crate) ms: u64,
    /// Milliseconds since 1970, for what is kept.
    pub(crate) wall: i64,
}

impl Moment {
    fn after(self, ms: i32) -> u64 {
        self.ms.saturating_add(u64::try_from(ms).unwrap_or(0))
    }
}

/// A request that waits for its answer.
pub(crate) type Ticket = u64;

/// What a server's configuration says about groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How long the first members of a group wait for further ones.
    pub(crate) initial_delay_ms: i32,
    /// Members of a group.
    pub(crate) members_max: usize,
    /// Member ids given out whose members have not joined yet.
    pub(crate) pending_max: usize,
    /// Bytes of memory of a group's members, about.
    pub(crate) bytes_max: usize,
}

/// How long a member that has just got its id may wait for its first generation. It sends no heartbeats yet, so nothing else
/// tells whether it is still there.
const NEW_MEMBER_TIMEOUT_MS: i32 = 5 * 60 * 1_000;

/// Where a group stands, in the reference's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// All of them.
    pub(crate) const ALL: [State; 4] =
        [State::Empty, State::PreparingRebalance, State::CompletingRebalance, State::Stable];

    /// Its name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// The answer to a request that waited.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
}

/// A record to keep, and what goes on once it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Persist {
    pub(crate) record: GroupRecord,
    pub(crate) then: Option<Then>,
}

/// What goes on once a record is kept: handed back by [`Group::persisted`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Then {
    /// Members get what the leader assigned.
    Assign { generation: i32, assignments: HashMap<StrBytes, Bytes> },
    /// A static member that came back under a new id gets its answer.
    Replace(Box<join::Replacement>),
}

/// What an input leads to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Effects {
    pub(crate) replies: Vec<(Ticket, Reply)>,
    pub(crate) persist: Vec<Persist>,
    /// The earliest deadline that was set.
    pub(crate) due: Option<u64>,
    /// Members whose session ended.
    pub(crate) expired: u64,
    /// Whether a generation became stable.
    pub(crate) is_stabilized: bool,
}

impl Effects {
    fn arm(&mut self, at: u64) -> u64 {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        at
    }

    fn join(&mut self, ticket: Ticket, answer: JoinGroupResponse) {
        self.replies.push((ticket, Reply::Join(answer)));
    }

    fn join_error(&mut self, ticket: Ticket, member_id: StrBytes, error: ResponseError) {
        self.join(ticket, refusal(member_id, error));
    }

    fn sync_error(&mut self, ticket: Ticket, error: ResponseError) {
        self.replies.push((ticket, Reply::Sync(SyncGroupResponse::default().with_error_code(error.code()))));
    }
}

/// What a JoinGroup hears that leads nowhere.
pub(crate) fn refusal(member_id: StrBytes, error: ResponseError) -> JoinGroupResponse {
    JoinGroupResponse::default().with_member_id(member_id).with_protocol_name(None).with_error_code(error.code())
}

/// One classic group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    state: State,
    previous: State,
    /// Wall time of the last change of state; -1: not known.
    state_time: i64,
    generation: i32,
    protocol_type: Option<StrBytes>,
    protocol: Option<StrBytes>,
    leader: Option<StrBytes>,
    members: BTreeMap<StrBytes, Member>,
    /// Member ids by instance id.
    static_members: HashMap<StrBytes, StrBytes>,
    /// Member ids given out whose members have not joined yet, and until when they may.
    pending: BTreeMap<StrBytes, u64>,
    /// Members that have not asked for their assignment in this generation.
    pending_sync: BTreeSet<StrBytes>,
    /// Whether what this generation's leader assigned is on its way to the log.
    is_assigned: bool,
    /// How many members support each protocol.
    supported: HashMap<StrBytes, usize>,
    /// Members whose JoinGroup waits.
    joined: usize,
    /// Whether a member came during the initial delay.
    has_grown: bool,
    join_timer: Option<JoinTimer>,
    sync_timer: Option<u64>,
    /// Topics that the members read; none when that is not known.
    subscribed: Option<HashSet<StrBytes>>,
    /// Bytes of memory that members and ids given out take, about.
    bytes: usize,
}

impl Group {
    /// An empty group.
    pub(crate) fn new(now: Moment) -> Group {
        Group {
            state: State::Empty,
            previous: State::Empty,
            state_time: now.wall,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            is_assigned: false,
            supported: HashMap::new(),
            joined: 0,
            has_grown: false,
            join_timer: None,
            sync_timer: None,
            subscribed: None,
            bytes: 0,
        }
    }

    /// A group as it was kept. Its members have their whole session to be heard of again.
    pub(crate) fn restore(record: GroupRecord, now: Moment, rules: &Rules, effects: &mut Effects) -> Group {
        let mut group = Group::new(now);
        group.generation = record.generation;
        group.protocol_type = Some(record.protocol_type).filter(|kind| !kind.is_empty());
        group.protocol = record.protocol;
        group.state_time = record.state_time;
        for kept in record.members {
            let protocol = group.protocol.clone().unwrap_or_default();
            let member = Member {
                instance_id: kept.instance_id,
                client_id: kept.client_id,
                client_host: kept.client_host,
                rebalance_timeout_ms: kept.rebalance_timeout_ms,
                session_timeout_ms: kept.session_timeout_ms,
                protocols: vec![(protocol, kept.subscription)],
                assignment: kept.assignment,
                join: None,
                sync: None,
                is_new: false,
                session: Some(effects.arm(now.after(kept.session_timeout_ms))),
            };
            group.insert(kept.id, member);
        }
        if !group.members.is_empty() {
            (group.state, group.previous) = (State::Stable, State::Stable);
            group.leader = record.leader.filter(|leader| group.members.contains_key(leader)).or(group.leader);
        }
        group.subscribed = group.subscriptions();
        if group.members.len() > rules.members_max {
            group.prepare(now, rules, effects);
        }
        group
    }

    /// What is kept of it.
    pub(crate) fn record(&self) -> GroupRecord {
        self.record_with(|_, member| member.assignment.clone())
    }

    fn record_with(&self, assignment: impl Fn(&StrBytes, &Member) -> Bytes) -> GroupRecord {
        let members = self.members.iter().map(|(id, member)| MemberRecord {
            id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: self.metadata(member),
            assignment: assignment(id, member),
        });
        GroupRecord {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_time: self.state_time,
            members: members.collect(),
        }
    }

    /// What is kept of a group that has only just been made, whoever is about to join it.
    pub(crate) fn record_of_new(&self) -> GroupRecord {
        GroupRecord { state_time: self.state_time, ..GroupRecord::default() }
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Its generation.
    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    /// What its members call their kind of group; none before the first one.
    pub(crate) fn protocol_type(&self) -> Option<&StrBytes> {
        self.protocol_type.as_ref()
    }

    /// The protocol that its members use.
    pub(crate) fn protocol(&self) -> Option<&StrBytes> {
        self.protocol.as_ref()
    }

    /// Wall time of its last change of state, when that is known.
    pub(crate) fn state_time(&self) -> Option<i64> {
        Some(self.state_time).filter(|time| *time >= 0)
    }

    /// Bytes of memory that members and ids given out take, about.
    pub(crate) fn bytes(&self) -> usize {
        /// What a topic takes in the set of those that are read, about. Its name is in a member's metadata.
        const SUBSCRIBED_SIZE: usize = 64;
        self.bytes + self.subscribed.as_ref().map_or(0, HashSet::len) * SUBSCRIBED_SIZE
    }

    /// Members and ids given out.
    pub(crate) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    /// Whether its members are consumers.
    pub(crate) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    /// Topics that its members read, when that is known.
    pub(crate) fn subscribed(&self) -> Option<&HashSet<StrBytes>> {
        self.subscribed.as_ref()
    }

    /// Whether its members read a topic. When that is not known, consumers may.
    pub(crate) fn is_subscribed(&self, topic: &StrBytes) -> bool {
        self.subscribed.as_ref().map_or(self.is_of_consumers(), |topics| topics.contains(topic))
    }

    /// Each member as DescribeGroups shows it; `f` gets id, member and metadata.
    pub(crate) fn for_each_member(&self, mut f: impl FnMut(&StrBytes, &Member, Bytes)) {
        for (id, member) in &self.members {
            // What is not agreed on yet is not shown.
            let metadata = if self.state == State::Stable { self.metadata(member) } else { Bytes::new() };
            f(id, member, metadata);
        }
    }

    fn metadata(&self, member: &Member) -> Bytes {
        self.protocol.as_ref().and_then(|protocol| member.metadata(protocol)).unwrap_or_default()
    }

    fn transition(&mut self, state: State, now: Moment) {
        self.previous = self.state;
        self.state = state;
        self.state_time = now.wall;
    }

    /// The longest time that a member wants to have for rejoining. Clients may say nothing, or less; a wait that is over before it
    /// begins would be begun and ended for ever where only static members are left.
    fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0).max(1)
    }

    fn all_joined(&self) -> bool {
        self.members.len() == self.joined && self.pending.is_empty()
    }

    fn is_leader(&self, id: &StrBytes) -> bool {
        self.leader.as_ref() == Some(id)
    }

    /// Checks that a member is who it says it is.
    fn check_member(&self, id: &StrBytes, instance_id: Option<&StrBytes>) -> Result<(), ResponseError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(known) if known != id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    /// A heartbeat: the error to answer, if any.
    pub(crate) fn heartbeat(
        &mut self,
        now: Moment,
        id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
        effects: &mut Effects,
    ) -> Result<(), ResponseError> {
        self.check_member(id, instance_id)?;
        if generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        if self.state == State::Empty {
            return Err(ResponseError::UnknownMemberId);
        }
        self.refresh(now, id, effects);
        if self.state == State::PreparingRebalance { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    /// Whether offsets may be committed. Members are heard of by it.
    pub(crate) fn check_commit(
        &mut self,
        now: Moment,
        id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
        effects: &mut Effects,
    ) -> Result<(), ResponseError> {
        if generation < 0 && self.state == State::Empty {
            // An admin client, or a consumer that assigns itself its partitions.
            return Ok(());
        }
        if generation < 0 && id.is_empty() && instance_id.is_none() {
            return if self.state == State::Empty { Ok(()) } else { Err(ResponseError::UnknownMemberId) };
        }
        self.check_member(id, instance_id)?;
        if generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        match self.state {
            State::CompletingRebalance => Err(ResponseError::RebalanceInProgress),
            State::Empty => Ok(()),
            State::PreparingRebalance | State::Stable => {
                self.refresh(now, id, effects);
                Ok(())
            }
        }
    }

    /// Begins the wait for the members to rejoin.
    fn prepare(&mut self, now: Moment, rules: &Rules, effects: &mut Effects) {
        if self.state == State::CompletingRebalance {
            for member in self.members.values_mut() {
                self.bytes -= member.assignment.len();
                member.assignment = Bytes::new();
            }
            self.propagate(now, Err(ResponseError::RebalanceInProgress), effects);
        }
        self.pending_sync.clear();
        self.sync_timer = None;
        let is_initial = self.state == State::Empty;
        if is_initial {
            let delay_ms = rules.initial_delay_ms;
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
            let at = effects.arm(now.after(delay_ms));
            self.join_timer = Some(JoinTimer::Initial { at, delay_ms, remaining_ms });
        }
        self.transition(State::PreparingRebalance, now);
        if is_initial {
            return;
        }
        if self.all_joined() {
            self.complete_join(now, effects);
        } else {
            let at = effects.arm(now.after(self.rebalance_timeout_ms()));
            self.join_timer = Some(JoinTimer::Rebalance { at });
        }
    }

    /// After a change of the members: begins a rebalance, or ends the one that is under way when nobody is waited for.
    fn rebalance(&mut self, now: Moment, rules: &Rules, effects: &mut Effects) {
        if self.state == State::PreparingRebalance {
            self.maybe_complete_join(now, effects);
        } else {
            self.prepare(now, rules, effects);
        }
    }

    fn maybe_complete_join(&mut self, now: Moment, effects: &mut Effects) {
        // The first members wait for the initial delay, whoever is there.
        if self.state == State::PreparingRebalance && self.previous != State::Empty && self.all_joined() {
            self.complete_join(now, effects);
        }
    }

    /// Ends the wait: who has not rejoined is out, but for static members; the others get the new generation.
    fn complete_join(&mut self, now: Moment, effects: &mut Effects) {
        self.join_timer = None;
        let gone = |(_, member): &(&StrBytes, &Member)| member.join.is_none() && member.instance_id.is_none();
        let gone: Vec<StrBytes> = self.members.iter().filter(gone).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove(&id, effects);
        }
        if !self.elect() && !self.members.is_empty() {
            // Static members alone, none of them back yet: their sessions will end it.
            let at = effects.arm(now.after(self.rebalance_timeout_ms()));
            self.join_timer = Some(JoinTimer::Rebalance { at });
            return;
        }
        // As in the reference, the number after the largest is the smallest.
        self.generation = self.generation.wrapping_add(1);
        self.is_assigned = false;
        self.pending_sync.clear();
        self.protocol = if self.members.is_empty() { None } else { self.vote() };
        self.subscribed = self.subscriptions();
        if self.members.is_empty() {
            self.transition(State::Empty, now);
            effects.persist.push(Persist { record: self.record(), then: None });
            return;
        }
        self.transition(State::CompletingRebalance, now);
        let ids: Vec<StrBytes> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(ticket) = self.take_join(&id) {
                effects.join(ticket, self.generation_for(&id));
            }
            self.refresh(now, &id, effects);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.pending_sync.insert(id);
        }
        self.sync_timer = Some(effects.arm(now.after(self.rebalance_timeout_ms())));
    }

    /// The current generation as a member's JoinGroup hears of it; the leader gets the members with it.
    fn generation_for(&self, id: &StrBytes) -> JoinGroupResponse {
        JoinGroupResponse::default()
            .with_member_id(id.clone())
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol.clone())
            .with_leader(self.leader.clone().unwrap_or_default())
            .with_members(if self.is_leader(id) { self.metadata_of_all() } else { Vec::new() })
    }

    fn metadata_of_all(&self) -> Vec<JoinGroupResponseMember> {
        let members = self.members.iter().map(|(id, member)| {
            JoinGroupResponseMember::default()
                .with_member_id(id.clone())
                .with_group_instance_id(member.instance_id.clone())
                .with_metadata(self.metadata(member))
        });
        members.collect()
    }

    /// Sees to it that the leader is one who has joined. Says whether there is one.
    fn elect(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        if self.members.get(leader).is_some_and(|member| member.join.is_some()) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.join.is_some()).map(|(id, _)| id.clone());
        match joined {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// The protocol that most members prefer, of those that all support.
    fn vote(&self) -> Option<StrBytes> {
        let everybody = self.members.len();
        let is_candidate = |name: &StrBytes| self.supported.get(name) == Some(&everybody);
        let mut votes: Vec<(&StrBytes, usize)> = Vec::new();
        for member in self.members.values() {
            let Some((choice, _)) = member.protocols.iter().find(|(name, _)| is_candidate(name)) else { continue };
            match votes.iter_mut().find(|(name, _)| *name == choice) {
                Some((_, count)) => *count += 1,
                None => votes.push((choice, 1)),
            }
        }
        // Of equals, the one that the reference's hash map comes to first.
        votes.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), java::bucket(name)));
        votes.first().map(|(name, _)| (*name).clone())
    }

    /// Whether a member with these protocols can be one of this group's.
    fn supports<'a>(&self, protocol_type: &str, mut names: impl Iterator<Item = &'a StrBytes>) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && names.next().is_some();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && names.any(|name| self.supported.get(name).copied().unwrap_or(0) == self.members.len())
    }

    /// The topics that consumers say they read, in the metadata of the protocol in use.
    fn subscriptions(&self) -> Option<HashSet<StrBytes>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(HashSet::new());
        }
        self.protocol.as_ref()?;
        let mut topics = HashSet::new();
        for member in self.members.values() {
            subscription::add_topics(&self.metadata(member), &mut topics, GROUP_TOPICS_MAX)?;
        }
        Some(topics)
    }
}
