//! One checkpoint file's bytes.

use crate::batch::crc32c;
use crate::commit::Changes;
use crate::encoding::{Malformed, Reader};
use crate::ids::{Epoch, Sequence, TopicId};
use crate::wal::ring::Place;
use crate::wal::scan::Run;
use bytes::BufMut;

const MAGIC: &[u8; 6] = b"HWCKP\0";
const FORMAT_VERSION: u16 = 1;

/// What a checkpoint says besides the state map.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Header {
    pub number: u64,
    pub through: Sequence,
    pub crc: u32,
    pub place: Place,
    pub data_id: TopicId,
    pub epoch: Epoch,
    pub next_partition: u64,
    pub next_producer: i64,
    pub runs: Vec<Run>,
    /// CRC of the file before, for a delta.
    pub previous: u32,
}

/// The bytes of a file, and their CRC, which the next delta names.
pub fn encode(header: &Header, changes: &Changes) -> (Vec<u8>, u32) {
    let mut out = MAGIC.to_vec();
    out.put_u16_le(FORMAT_VERSION);
    out.put_u64_le(header.number);
    out.put_u64_le(header.through.0);
    out.put_u32_le(header.crc);
    out.put_u32_le(header.place.slot);
    out.put_u64_le(header.place.position);
    out.extend_from_slice(&header.data_id.0);
    out.put_i32_le(header.epoch.0);
    out.put_u64_le(header.next_partition);
    out.put_i64_le(header.next_producer);
    out.put_u32_le(u32::try_from(header.runs.len()).expect("runs since a checkpoint are few"));
    for run in &header.runs {
        out.put_u64_le(run.incarnation);
        out.put_u64_le(run.first.0);
    }
    out.put_u32_le(header.previous);
    out.put_u32_le(u32::try_from(changes.len()).expect("keys are bounded by the partitions"));
    for (key, value) in changes {
        out.put_u16_le(u16::try_from(key.len()).expect("keys are short"));
        out.extend_from_slice(key);
        match value {
            Some(value) => {
                out.put_u32_le(u32::try_from(value.len() + 1).expect("values are bounded far below 4 GiB"));
                out.extend_from_slice(value);
            }
            None => out.put_u32_le(0),
        }
    }
    let crc = crc32c(&out);
    out.put_u32_le(crc);
    (out, crc)
}

/// Reads a file; an error says why it is none.
pub fn decode(bytes: &[u8]) -> Result<(Header, Changes, u32), Malformed> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed("checkpoint size"))?;
    let crc = u32::from_le_bytes(*crc);
    let mut reader = Reader(body);
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(Malformed("checkpoint magic"));
    }
    let version = reader.take(2)?;
    if version != FORMAT_VERSION.to_le_bytes() {
        return Err(Malformed("checkpoint format version"));
    }
    if crc32c(body) != crc {
        return Err(Malformed("checkpoint CRC"));
    }
    let mut header = Header {
        number: reader.u64()?,
        through: Sequence(reader.u64()?),
        crc: reader.u32()?,
        place: Place { slot: reader.u32()?, position: reader.u64()? },
        data_id: TopicId(reader.id()?),
        epoch: Epoch(reader.i32()?),
        next_partition: reader.u64()?,
        next_producer: reader.i64()?,
        ..Header::default()
    };
    for _ in 0..reader.count(16)? {
        header.runs.push(Run { incarnation: reader.u64()?, first: Sequence(reader.u64()?) });
    }
    header.previous = reader.u32()?;
    let mut changes = Changes::new();
    for _ in 0..reader.count(6)? {
        let key_size = reader.take(2)?;
        let key = reader.take(usize::from(u16::from_le_bytes([key_size[0], key_size[1]])))?.to_vec();
        let value = match reader.u32()? {
            0 => None,
            size => Some(reader.take(size as usize - 1)?.to_vec()),
        };
        changes.insert(key, value);
    }
    if reader.is_empty() { Ok((header, changes, crc)) } else { Err(Malformed("checkpoint size")) }
}
