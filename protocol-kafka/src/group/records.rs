//! The records of `__consumer_offsets`, in Kafka's own form, so that any of its clients and tools can read them.
//!
//! ```text
//! key:    version i16 | ...            0 and 1: a committed offset; 2: a classic group's members; others: kinds not served
//!   0, 1: group string | topic string | partition i32
//!   2:    group string
//! value:  version i16 | ...            none at all: the offset or the group is gone
//!   offset  0-2: offset i64 | metadata string | commit time i64 (| expire time i64, in version 1)
//!           3:   offset i64 | leader epoch i32 | metadata string | commit time i64
//!           4:   the same, compact, with the topic's id as tagged field 0
//!   group   0-4: protocol type | generation i32 | protocol | leader | state time i64 (2+) | members, each
//!                id | instance id (3+) | client id | host | rebalance timeout i32 (1+) | session timeout i32 |
//!                subscription | assignment; compact in version 4
//! ```
//! All versions are read. Offsets are written in version 4, those with a time to expire of their own in version 1, the only one
//! that has it; groups are written in version 3: as the reference does.

use crate::codec::Malformed;
use crate::codec::cursor::Cursor;
use bytes::{BufMut, Bytes};
use headwater_engine::Topic;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 4;
const OFFSET_VALUE_EXPIRING: i16 = 1;
const GROUP_VALUE: i16 = 3;
/// The first versions of both values that are compact.
const COMPACT: i16 = 4;
/// The tagged field of an offset's topic id.
const TOPIC_ID: u32 = 0;

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A committed offset.
    Offset { group: StrBytes, topic: StrBytes, partition: i32 },
    /// A classic group.
    Group(StrBytes),
    /// Something that this server does not write, by its version.
    Other(i16),
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    /// -1: not known.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: StrBytes,
    pub(crate) commit_time: i64,
    /// When it expires, for commits of old clients that say so.
    pub(crate) expire_time: Option<i64>,
    /// The topic that it was committed for, when that was known.
    pub(crate) topic_id: Option<Uuid>,
}

/// A classic group as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct GroupRecord {
    /// Empty: none.
    pub(crate) protocol_type: StrBytes,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<StrBytes>,
    pub(crate) leader: Option<StrBytes>,
    /// Since when it has been in its state; -1: not known.
    pub(crate) state_time: i64,
    pub(crate) members: Vec<MemberRecord>,
}

/// A member of a classic group as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberRecord {
    pub(crate) id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) client_id: StrBytes,
    pub(crate) client_host: StrBytes,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

/// A string that fits the wire's length field; longer ones never come here, because requests have the same field.
fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.extend_from_slice(text.as_bytes().get(..i16::MAX as usize).unwrap_or(text.as_bytes()));
}

fn put_nullable(out: &mut Vec<u8>, text: Option<&StrBytes>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The key of a committed offset.
pub(crate) fn offset_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + group.len() + topic.len());
    out.put_i16(OFFSET_KEY);
    put_string(&mut out, group);
    put_string(&mut out, topic);
    out.put_i32(partition);
    out
}

/// The key of a group.
pub(crate) fn group_key(group: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + group.len());
    out.put_i16(GROUP_KEY);
    put_string(&mut out, group);
    out
}

/// Reads a key.
pub(crate) fn read_key(key: &[u8]) -> Result<Key, Malformed> {
    let mut cursor = Cursor::new(Bytes::copy_from_slice(key));
    match cursor.i16()? {
        0 | OFFSET_KEY => {
            Ok(Key::Offset { group: cursor.string(false)?, topic: cursor.string(false)?, partition: cursor.i32()? })
        }
        GROUP_KEY => Ok(Key::Group(cursor.string(false)?)),
        other => Ok(Key::Other(other)),
    }
}

impl Committed {
    /// Whether it was committed for this topic, which has its name now.
    pub(crate) fn is_of(&self, topic: &Topic) -> bool {
        self.topic_id.is_none_or(|id| id == crate::map::topic_id(topic.id()))
    }

    /// The value of a record.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 + self.metadata.len());
        if let Some(expire_time) = self.expire_time {
            out.put_i16(OFFSET_VALUE_EXPIRING);
            out.put_i64(self.offset);
            put_string(&mut out, &self.metadata);
            out.put_i64(self.commit_time);
            out.put_i64(expire_time);
            return out;
        }
        out.put_i16(OFFSET_VALUE);
        out.put_i64(self.offset);
        out.put_i32(self.leader_epoch);
        put_varint(&mut out, u32::try_from(self.metadata.len()).unwrap_or(u32::MAX - 1) + 1);
        out.extend_from_slice(self.metadata.as_bytes());
        out.put_i64(self.commit_time);
        match self.topic_id {
            Some(id) => {
                put_varint(&mut out, 1);
                put_varint(&mut out, TOPIC_ID);
                put_varint(&mut out, 16);
                out.extend_from_slice(id.as_bytes());
            }
            None => put_varint(&mut out, 0),
        }
        out
    }

    /// Reads the value of a record.
    pub(crate) fn read(value: &[u8]) -> Result<Committed, Malformed> {
        let mut cursor = Cursor::new(Bytes::copy_from_slice(value));
        let version = cursor.i16()?;
        if !(0..=OFFSET_VALUE).contains(&version) {
            return Err(Malformed(format!("a committed offset of version {version}")));
        }
        let compact = version >= COMPACT;
        let offset = cursor.i64()?;
        let leader_epoch = if version >= 3 { cursor.i32()? } else { -1 };
        let metadata = cursor.string(compact)?;
        let commit_time = cursor.i64()?;
        let expire_time = if version == OFFSET_VALUE_EXPIRING { Some(cursor.i64()?) } else { None };
        let mut topic_id = None;
        if compact {
            cursor.tags(|tag, bytes| {
                if tag == TOPIC_ID {
                    topic_id = Some(Cursor::new(bytes).uuid()?);
                }
                Ok(())
            })?;
        }
        // -1 stands for none in the version that always has the field.
        let expire_time = expire_time.filter(|time| *time != -1);
        let topic_id = topic_id.filter(|id| !id.is_nil());
        Ok(Committed { offset, leader_epoch, metadata, commit_time, expire_time, topic_id })
    }
}

impl GroupRecord {
    /// The value of a record.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.members.len() * 256);
        out.put_i16(GROUP_VALUE);
        put_string(&mut out, &self.protocol_type);
        out.put_i32(self.generation);
        put_nullable(&mut out, self.protocol.as_ref());
        put_nullable(&mut out, self.leader.as_ref());
        out.put_i64(self.state_time);
        out.put_i32(i32::try_from(self.members.len()).unwrap_or(i32::MAX));
        for member in &self.members {
            put_string(&mut out, &member.id);
            put_nullable(&mut out, member.instance_id.as_ref());
            put_string(&mut out, &member.client_id);
            put_string(&mut out, &member.client_host);
            out.put_i32(member.rebalance_timeout_ms);
            out.put_i32(member.session_timeout_ms);
            put_bytes(&mut out, &member.subscription);
            put_bytes(&mut out, &member.assignment);
        }
        out
    }

    /// Reads the value of a record.
    pub(crate) fn read(value: &[u8]) -> Result<GroupRecord, Malformed> {
        /// The least that a member takes.
        const MEMBER_SIZE_MIN: usize = 9;
        let mut cursor = Cursor::new(Bytes::copy_from_slice(value));
        let version = cursor.i16()?;
        if !(0..=4).contains(&version) {
            return Err(Malformed(format!("a group of version {version}")));
        }
        let compact = version >= COMPACT;
        let null = || Malformed("bytes are null".to_owned());
        let protocol_type = cursor.string(compact)?;
        let generation = cursor.i32()?;
        let protocol = cursor.nullable_string(compact)?;
        let leader = cursor.nullable_string(compact)?;
        let state_time = if version >= 2 { cursor.i64()? } else { -1 };
        let mut members = Vec::new();
        for _ in 0..cursor.array(compact, MEMBER_SIZE_MIN)? {
            let id = cursor.string(compact)?;
            let instance_id = if version >= 3 { cursor.nullable_string(compact)? } else { None };
            let client_id = cursor.string(compact)?;
            let client_host = cursor.string(compact)?;
            let rebalance_timeout_ms = if version >= 1 { Some(cursor.i32()?) } else { None };
            let session_timeout_ms = cursor.i32()?;
            let subscription = cursor.nullable_bytes(compact)?.ok_or_else(null)?;
            let assignment = cursor.nullable_bytes(compact)?.ok_or_else(null)?;
            if compact {
                cursor.skip_tags()?;
            }
            members.push(MemberRecord {
                id,
                instance_id,
                client_id,
                client_host,
                rebalance_timeout_ms: rebalance_timeout_ms.filter(|ms| *ms >= 0).unwrap_or(session_timeout_ms),
                session_timeout_ms,
                subscription,
                assignment,
            });
        }
        if compact {
            cursor.skip_tags()?;
        }
        Ok(GroupRecord { protocol_type, generation, protocol, leader, state_time, members })
    }
}

#[cfg(test)]
mod tests;
