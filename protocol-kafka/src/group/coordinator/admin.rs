//! What is shown of groups, and their deletion.

use super::super::State;
use super::{Coordinator, LOADING, Refused, Unavailable};
use bytes::Bytes;
use headwater_engine::Ack;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A group as DescribeGroups shows it.
pub(crate) struct Described {
    pub(crate) state: State,
    pub(crate) protocol_type: Option<StrBytes>,
    /// Only once it is agreed on.
    pub(crate) protocol: Option<StrBytes>,
    pub(crate) members: Vec<Member>,
}

/// A member as DescribeGroups shows it.
pub(crate) struct Member {
    pub(crate) id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) client_id: StrBytes,
    pub(crate) client_host: StrBytes,
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}

/// A group in a list.
pub(crate) struct Listed {
    pub(crate) id: StrBytes,
    pub(crate) protocol_type: Option<StrBytes>,
    pub(crate) state: State,
}

impl Coordinator {
    /// About the bytes that the group's members take when it is described.
    pub(crate) fn bytes_of(&self, id: &StrBytes) -> usize {
        self.with(id, |_, held, _, _| held.group.bytes()).ok().flatten().unwrap_or(0)
    }

    /// The group, if it is there. It must fit `room`, which it takes: a small request may name one large group many times.
    pub(crate) fn describe(&self, id: &StrBytes, room: &mut usize) -> Result<Option<Described>, ResponseError> {
        let described = self.with(id, |_, held, _, _| {
            *room = room.checked_sub(held.group.bytes()).ok_or(ResponseError::ThrottlingQuotaExceeded)?;
            let mut members = Vec::new();
            held.group.for_each_member(|id, member, metadata| {
                members.push(Member {
                    id: id.clone(),
                    instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    metadata,
                    assignment: member.assignment.clone(),
                });
            });
            let state = held.group.state();
            let protocol_type = held.group.protocol_type().cloned();
            let protocol = held.group.protocol().filter(|_| state == State::Stable).cloned();
            Ok(Described { state, protocol_type, protocol, members })
        });
        described.map_err(|Unavailable(error)| error)?.transpose()
    }

    /// All groups. An error while some are not loaded yet.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, Unavailable> {
        let Some(opened) = self.0.opened.get() else { return Ok(Vec::new()) };
        let mut listed = Vec::new();
        for shard in &opened.shards {
            if shard.loading.load(Ordering::Acquire) == LOADING {
                return Err(Unavailable(ResponseError::CoordinatorLoadInProgress));
            }
            let slots: Vec<Arc<_>> = shard.groups.read().values().cloned().collect();
            listed.extend(slots.into_iter().filter_map(|slot| {
                let held = slot.lock()?;
                let protocol_type = held.group.protocol_type().cloned();
                Some(Listed { id: slot.id.clone(), protocol_type, state: held.group.state() })
            }));
        }
        Ok(listed)
    }

    /// Deletes a group that has no members. What to wait for.
    pub(crate) fn delete(&self, id: &StrBytes) -> Result<Ack, Refused> {
        let deleted = self.with(id, |slot, held, now, _| {
            if held.group.state() != State::Empty {
                return Err(Refused::Error(ResponseError::NonEmptyGroup));
            }
            let offsets = held.offsets.decided().into_keys().collect();
            let ack = self.0.queue_gone(slot, held, now, offsets, true)?;
            self.0.forget(slot, held);
            Ok(ack)
        })?;
        deleted.ok_or(Refused::Error(ResponseError::GroupIdNotFound))?
    }

    /// How many groups there are.
    pub(crate) fn count(&self) -> usize {
        self.0.groups.load(Ordering::Relaxed)
    }
}
