//! Gzip: one or more members after each other, as the JDK's reader takes them.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use super::{first_capacity, make_room, unreadable};
use crate::batch::BatchError;

/// How many members one section may have. Every member costs its reader a fresh window; clients write a single one.
const MEMBERS_MAX: usize = 64;
/// What a member begins with: the magic and the only method there is.
const MEMBER: [u8; 3] = [0x1f, 0x8b, 8];

pub(super) fn decompress(bytes: &[u8], size_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    let mut rest = bytes;
    for _ in 0..MEMBERS_MAX {
        let room = first_capacity(rest.len(), size_max);
        let mut decoder = GzDecoder::new(rest);
        read_to_end(&mut decoder, &mut out, room, size_max)?;
        rest = decoder.into_inner();
        if !rest.starts_with(&MEMBER) {
            return Ok(out);
        }
    }
    Err(unreadable("gzip", format!("more than {MEMBERS_MAX} members")))
}

/// Reads all there is, growing `out` step by step and never past one byte over the limit.
fn read_to_end(
    reader: &mut impl Read,
    out: &mut Vec<u8>,
    first_capacity: usize,
    size_max: usize,
) -> Result<(), BatchError> {
    let mut filled = out.len();
    loop {
        if filled == out.len() {
            if filled > size_max {
                return Err(BatchError::Bomb { max: size_max });
            }
            let size = filled.saturating_mul(2).max(first_capacity).max(filled + 1).min(size_max.saturating_add(1));
            make_room(out, size, size_max);
            out.resize(size, 0);
        }
        let room = out.get_mut(filled..).unwrap_or_default();
        match reader.read(room) {
            Ok(0) => {
                out.truncate(filled);
                return Ok(());
            }
            Ok(count) => filled += count,
            Err(error) => return Err(unreadable("gzip", error)),
        }
    }
}

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(|error| unreadable("gzip", error))
}
