//! What is shown of groups, and their deletion.

use super::super::State;
use super::super::offsets::Change;
use super::{Coordinator, LOADING, Unavailable};
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

impl Described {
    /// About the bytes that it takes in an answer.
    pub(crate) fn bytes(&self) -> usize {
        const EACH: usize = 256;
        let members = self.members.iter().map(|member| EACH + member.metadata.len() + member.assignment.len());
        EACH + members.sum::<usize>()
    }
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
    /// The group, if it is there.
    pub(crate) fn describe(&self, id: &StrBytes) -> Result<Option<Described>, Unavailable> {
        self.with(id, |_, held, _, _| {
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
            Described {
                state,
                protocol_type: held.group.protocol_type().cloned(),
                protocol: held.group.protocol().filter(|_| state == State::Stable).cloned(),
                members,
            }
        })
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
    pub(crate) fn delete(&self, id: &StrBytes) -> Result<Ack, ResponseError> {
        let deleted = self.with(id, |slot, held, now, _| {
            if held.group.state() != State::Empty {
                return Err(ResponseError::NonEmptyGroup);
            }
            let offsets = held.offsets.decided();
            let changes: Vec<Change> = offsets.into_keys().map(|(topic, partition)| (topic, partition, None)).collect();
            let ack = self.0.queue(slot, held, now, changes, true).map_err(|error| Unavailable::from(error).0)?;
            self.0.forget(slot, held);
            Ok(ack)
        });
        deleted.map_err(|Unavailable(error)| error)?.ok_or(ResponseError::GroupIdNotFound)?
    }
}
