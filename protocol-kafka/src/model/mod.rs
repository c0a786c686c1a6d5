//! Messages that crate kafka-protocol 0.18 does not know in their newest version: one file per API, with its request and its
//! answer.
//!
//! Where a newer version only gave a number a new meaning, the crate's type goes on under [`Same`]. Where it has new fields,
//! `layout.rs` describes the whole message anew, all of its versions. `codec` reads and writes both like the crate's own.

pub(crate) mod add_raft_voter;
pub(crate) mod api_versions;
pub(crate) mod delete_groups;
pub(crate) mod describe_log_dirs;
mod layout;
pub(crate) mod list_offsets;
pub(crate) mod offset_commit;
pub(crate) mod offset_fetch;

use crate::codec::{FromWire, Malformed, ToWire, Unencodable};
use bytes::{Bytes, BytesMut};
#[cfg(test)]
use kafka_protocol::messages::ApiKey;

/// The highest version served of each API where it is above the crate's. OffsetCommit and OffsetFetch are not among them: the
/// crate says 10, writes its answers in it, and cannot read its requests.
#[cfg(test)]
pub(crate) const NEWER: &[(ApiKey, i16)] = &[
    (ApiKey::ListOffsets, 11),
    (ApiKey::ApiVersions, 5),
    (ApiKey::DescribeLogDirs, 5),
    (ApiKey::DeleteGroups, 3),
    (ApiKey::AddRaftVoter, 1),
];

/// A message of the crate whose bytes are the same in all versions after `LAST`, the last that the crate knows.
#[derive(Debug, Default)]
pub(crate) struct Same<T, const LAST: i16>(pub(crate) T);

impl<T: FromWire, const LAST: i16> FromWire for Same<T, LAST> {
    fn from_wire(body: &Bytes, version: i16) -> Result<Self, Malformed> {
        T::from_wire(body, version.min(LAST)).map(Same)
    }
}

impl<T: ToWire, const LAST: i16> ToWire for Same<T, LAST> {
    fn header_version(version: i16) -> i16 {
        T::header_version(version.min(LAST))
    }

    fn size(&self, version: i16) -> Result<usize, Unencodable> {
        self.0.size(version.min(LAST))
    }

    fn to_wire(&self, out: &mut BytesMut, version: i16) -> Result<(), Unencodable> {
        self.0.to_wire(out, version.min(LAST))
    }
}
