//! Walking the batches of a segment file.

use super::files::SegmentFile;
use crate::batch::{BatchHeader, verify_crc};
use crate::ids::{Epoch, Offset};
use std::io;
use std::ops::Range;

/// Bytes read at a time when only headers are wanted ...
const HOP_BYTES: usize = 4 << 10;
/// ... and when everything is.
const READ_BYTES: usize = 256 << 10;

/// Hops from batch header to batch header between two positions.
pub struct HeaderWalk<'a> {
    file: &'a SegmentFile,
    position: u64,
    end: u64,
    /// Offsets follow one another without a gap: what lies outside of a batch's CRC is checked against its neighbours.
    expected: Offset,
    buffer: Vec<u8>,
    buffer_start: u64,
    /// Bytes read at a time.
    piece: usize,
}

/// A segment's bytes are not what they must be.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// They could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// They are damaged.
    #[error("segment {file} is damaged at byte {position}: {why}")]
    Corrupt { file: String, position: u64, why: String },
}

/// A batch that was checked.
struct Checked {
    at: u64,
    header: BatchHeader,
    /// Its place in the buffer.
    place: Option<Range<usize>>,
}

impl<'a> HeaderWalk<'a> {
    /// Walks from `position`, the first byte of the batch with base offset `base`, up to `end`, a batch's end.
    pub fn new(file: &'a SegmentFile, position: u64, base: Offset, end: u64) -> HeaderWalk<'a> {
        HeaderWalk { file, position, end, expected: base, buffer: Vec::new(), buffer_start: 0, piece: HOP_BYTES }
    }

    /// The same for whoever wants every batch, all of it: small ones come many at a time from the file.
    pub fn reading(file: &'a SegmentFile, position: u64, base: Offset, end: u64) -> HeaderWalk<'a> {
        HeaderWalk { piece: READ_BYTES, ..HeaderWalk::new(file, position, base, end) }
    }

    /// Where it is: the first byte of the next batch, and that batch's base offset.
    pub fn place(&self) -> (u64, Offset) {
        (self.position, self.expected)
    }

    fn corrupt(&self, why: impl ToString) -> WalkError {
        WalkError::Corrupt { file: self.file.id().to_string(), position: self.position, why: why.to_string() }
    }

    /// Reads a piece from `position` on.
    fn fill(&mut self, position: u64) -> io::Result<()> {
        let size = usize::try_from(self.end - position).unwrap_or(self.piece).min(self.piece);
        self.buffer.resize(size, 0);
        self.buffer_start = position;
        self.file.read_exact_at(&mut self.buffer, position)
    }

    /// The next batch: its position and header. None at the end.
    pub fn next_batch(&mut self) -> Result<Option<(u64, BatchHeader)>, WalkError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let left = self.end - self.position;
        if left < BatchHeader::SIZE as u64 {
            return Err(self.corrupt("a batch header is cut"));
        }
        let skip = usize::try_from(self.position - self.buffer_start).unwrap_or(usize::MAX);
        if self.buffer.len().saturating_sub(skip) < BatchHeader::SIZE {
            self.fill(self.position)?;
        }
        let skip = usize::try_from(self.position - self.buffer_start).unwrap_or(usize::MAX);
        let header = BatchHeader::parse(self.buffer.get(skip..).unwrap_or_default()).map_err(|e| self.corrupt(e))?;
        if header.size as u64 > left {
            return Err(self.corrupt("a batch reaches past the segment's end"));
        }
        if header.base_offset != self.expected {
            return Err(self.corrupt(format!("base offset {} where {} comes next", header.base_offset, self.expected)));
        }
        let at = self.position;
        self.position += header.size as u64;
        self.expected = header.next_offset();
        Ok(Some((at, header)))
    }

    /// The next batch, all of it, in `bytes`: its CRC is checked, and its epoch against the partition's list of epochs and
    /// where they start.
    pub fn next_checked(
        &mut self,
        epochs: &[(Epoch, Offset)],
        bytes: &mut Vec<u8>,
    ) -> Result<Option<(u64, BatchHeader)>, WalkError> {
        let Some(Checked { at, header, place }) = self.check_next(epochs, bytes)? else { return Ok(None) };
        if let Some(read) = place.and_then(|place| self.buffer.get(place)) {
            bytes.clear();
            bytes.extend_from_slice(read);
        }
        Ok(Some((at, header)))
    }

    /// Checks the next batch. If it does not stand in the buffer, it is in `bytes`.
    fn check_next(&mut self, epochs: &[(Epoch, Offset)], bytes: &mut Vec<u8>) -> Result<Option<Checked>, WalkError> {
        let Some((at, header)) = self.next_batch()? else { return Ok(None) };
        let mut start = usize::try_from(at - self.buffer_start).unwrap_or(usize::MAX);
        let is_cut = self.buffer.len().saturating_sub(start) < header.size;
        if is_cut && self.piece == READ_BYTES && header.size <= READ_BYTES {
            // The batches behind it come along.
            self.fill(at)?;
            start = 0;
        }
        let place = start..start.saturating_add(header.size);
        let (checked, place) = match self.buffer.get(place.clone()) {
            Some(read) => (verify_crc(read), Some(place)),
            None => {
                bytes.resize(header.size, 0);
                self.file.read_exact_at(bytes, at)?;
                (verify_crc(bytes), None)
            }
        };
        let after = epochs.partition_point(|(_, start)| *start <= header.base_offset);
        let epoch = after.checked_sub(1).and_then(|index| epochs.get(index)).map(|(epoch, _)| *epoch);
        let why = match checked {
            Err(why) => why.to_string(),
            Ok(()) if epoch.is_none_or(|epoch| epoch == header.leader_epoch) => {
                return Ok(Some(Checked { at, header, place }));
            }
            Ok(()) => format!("epoch {} is not that of the log there", header.leader_epoch),
        };
        self.position = at;
        Err(self.corrupt(why))
    }
}

/// Reads `[position, end)`, whole batches, the first with base offset `base`, and checks them: CRCs, offsets without a
/// gap, epochs. `seen` is told where each begins.
pub fn verify(
    file: &SegmentFile,
    position: u64,
    base: Offset,
    end: u64,
    epochs: &[(Epoch, Offset)],
    mut seen: impl FnMut(u64, BatchHeader),
) -> Result<(), WalkError> {
    let mut walk = HeaderWalk::reading(file, position, base, end);
    let mut bytes = Vec::new();
    while let Some(Checked { at, header, .. }) = walk.check_next(epochs, &mut bytes)? {
        seen(at, header);
    }
    Ok(())
}
