//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup, once the group is found.

use super::super::classic::{Effects, Join, Leaving, Persist, Reply, Sync};
use super::{Coordinator, Held, Slot, Unavailable, is_keepable};
use headwater_engine::Ack;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;
use tokio::sync::oneshot;

/// An answer that may take long.
pub(crate) type Waiting = oneshot::Receiver<Reply>;

impl Coordinator {
    /// An id for a new member: what it calls itself, and a random number.
    pub(crate) fn member_id(&self, prefix: &str) -> StrBytes {
        let random = uuid::Builder::from_random_bytes(self.0.engine.random().to_be_bytes()).into_uuid();
        StrBytes::from_string(format!("{prefix}-{random}"))
    }

    /// A member joins.
    pub(crate) fn join(&self, id: &StrBytes, join: Join) -> Result<Waiting, Unavailable> {
        let is_known = !join.member_id.is_empty();
        let texts = [&join.client_id, &join.protocol_type, &join.new_id].into_iter().chain(&join.instance_id);
        if !texts.chain(join.protocols.iter().map(|(name, _)| name)).all(|text| is_keepable(text)) {
            return Err(Unavailable(ResponseError::InvalidRequest));
        }
        let (sender, receiver) = oneshot::channel();
        let ticket = self.0.ticket();
        let act = |_: &Arc<Slot>, held: &mut Held, now, effects: &mut Effects| {
            if !self.0.has_room(held.group.growth(&join)) {
                return Err(Unavailable(ResponseError::PolicyViolation));
            }
            held.waiting.insert(ticket, sender);
            let is_new = held.is_new();
            held.group.join(now, &self.0.rules, ticket, join, effects);
            if is_new && effects.persist.is_empty() && !held.group.is_unused() {
                effects.persist.push(Persist { record: held.group.record_of_new(), then: None });
            }
            Ok(receiver)
        };
        if is_known {
            // A member without a group: the group has been forgotten.
            return self.with(id, act)?.ok_or(Unavailable(ResponseError::UnknownMemberId))?;
        }
        self.with_new(id, act)?
    }

    /// A member comes for its assignment.
    pub(crate) fn sync(&self, id: &StrBytes, sync: Sync) -> Result<Waiting, Unavailable> {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.0.ticket();
        let synced = self.with(id, |_, held, _, effects| {
            held.waiting.insert(ticket, sender);
            held.group.sync(ticket, sync, effects);
        })?;
        synced.map(|()| receiver).ok_or(Unavailable(ResponseError::UnknownMemberId))
    }

    /// A member lives.
    pub(crate) fn heartbeat(
        &self,
        id: &StrBytes,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        let beat = |held: &mut Held, now, effects: &mut Effects| {
            held.group.heartbeat(now, member_id, instance_id, generation, effects)
        };
        match self.with(id, |_, held, now, effects| beat(held, now, effects)) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(ResponseError::UnknownMemberId),
            // The group will be there in a moment; until then the member is believed.
            Err(Unavailable(ResponseError::CoordinatorLoadInProgress)) => Ok(()),
            Err(Unavailable(error)) => Err(error),
        }
    }

    /// Members leave. The outcome for each, and what to wait for when nobody is left. None when there is no such group.
    #[allow(clippy::type_complexity, reason = "it is taken apart at once")]
    pub(crate) fn leave(
        &self,
        id: &StrBytes,
        leaving: &[Leaving],
    ) -> Result<Option<(Vec<Result<(), ResponseError>>, Option<Result<Ack, ResponseError>>)>, Unavailable> {
        loop {
            let Some(slot) = self.find(id)? else { return Ok(None) };
            let Some(mut held) = slot.lock() else { continue };
            held.noted = None;
            let outcomes = self.0.act(&slot, &mut held, |_, held, now, effects| {
                held.group.leave(now, &self.0.rules, leaving, effects)
            })?;
            return Ok(Some((outcomes, held.noted.take())));
        }
    }
}

impl Held {
    /// Whether nothing has happened to the group yet.
    fn is_new(&self) -> bool {
        self.group.generation() == 0
            && self.group.is_unused()
            && self.group.protocol_type().is_none()
            && self.offsets.is_empty()
    }
}
