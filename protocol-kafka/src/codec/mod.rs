//! Bytes to requests, answers to bytes. Pure: no engine, no I/O; nothing here panics, whatever the bytes say.
//!
//! ```text
//! frame:    size i32 | header | body                 size counts what follows it
//! request:  key i16 | version i16 | correlation i32 | client id string | tags (flexible versions)
//! answer:   correlation i32 | tags (flexible versions, but never ApiVersions) | body
//! ```
//!
//! Bodies are coded by crate kafka-protocol, behind the guard of `guard.rs`, or, where it is behind, by `model`. Two bodies carry records and are coded by hand:
//! Produce (`produce.rs`), because a guard that lets 100 MiB of records pass would let 100 MiB worth of empty topics pass too,
//! and Fetch answers (`fetch.rs`), because their records stay in files.

pub(crate) mod cursor;
pub(crate) mod fetch;
mod guard;
pub(crate) mod header;
pub(crate) mod produce;

use bytes::{BufMut, Bytes, BytesMut};
use guard::Guarded;
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request, StrBytes};
use uuid::Uuid;

/// The bytes are no such request.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) String);

/// An answer does not fit its version.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unencodable(pub(crate) String);

/// How a request names a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopicRef {
    Name(StrBytes),
    Id(Uuid),
}

/// A request's body that can be read.
pub(crate) trait FromWire: Sized {
    /// Reads it.
    fn from_wire(body: &Bytes, version: i16) -> Result<Self, Malformed>;
}

/// An answer's body that can be written.
pub(crate) trait ToWire {
    /// The version of the header before it.
    fn header_version(version: i16) -> i16;

    /// About how many bytes it takes.
    fn size(&self, _version: i16) -> Result<usize, Unencodable> {
        Ok(256)
    }

    /// Writes it onto the end of `out`.
    fn to_wire(&self, out: &mut BytesMut, version: i16) -> Result<(), Unencodable>;
}

/// The crate's requests.
impl<R: Request> FromWire for R {
    fn from_wire(body: &Bytes, version: i16) -> Result<R, Malformed> {
        let compact = R::header_version(version) >= 2;
        let mut guarded = Guarded::new(body.clone(), compact);
        let request = R::decode(&mut guarded, version).map_err(|error| Malformed(error.to_string()))?;
        if guarded.is_exact() {
            return Ok(request);
        }
        // Some number was read as a smaller one. The decoding came to its end all the same, so it was no array's length, and
        // it is safe to decode the true numbers.
        R::decode(&mut body.clone(), version).map_err(|error| Malformed(error.to_string()))
    }
}

/// The crate's answers.
impl<A: Encodable + HeaderVersion> ToWire for A {
    fn header_version(version: i16) -> i16 {
        A::header_version(version)
    }

    fn size(&self, version: i16) -> Result<usize, Unencodable> {
        self.compute_size(version).map_err(|error| Unencodable(error.to_string()))
    }

    fn to_wire(&self, out: &mut BytesMut, version: i16) -> Result<(), Unencodable> {
        self.encode(out, version).map_err(|error| Unencodable(error.to_string()))
    }
}

/// Encodes an answer as a whole frame.
pub(crate) fn encode_answer<A: ToWire>(correlation_id: i32, version: i16, answer: &A) -> Result<Bytes, Unencodable> {
    // Asked for the size first, so that the frame is allocated once.
    let mut out = BytesMut::with_capacity(answer.size(version)?.saturating_add(9));
    out.put_i32(0);
    out.put_i32(correlation_id);
    if A::header_version(version) >= 1 {
        out.put_u8(0);
    }
    answer.to_wire(&mut out, version)?;
    let size = out.len() - 4;
    let size = i32::try_from(size).map_err(|_| Unencodable(format!("an answer of {size} bytes")))?;
    out[..4].copy_from_slice(&size.to_be_bytes());
    Ok(out.freeze())
}
