//! The 61 bytes before the records: reading them, patching them for an append, and stepping over a range of batches.

use super::crc32c;
use super::{BatchError, Codec};
use crate::{Epoch, Offset, ProducerId, TimestampMs};

/// Who says what time a record is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer, record by record.
    CreateTime,
    /// The log, at the append: every record of the batch carries the batch's max timestamp.
    LogAppendTime,
}

/// The 16 attribute bits: codec 0-2, timestamp type 3, transactional 4, control 5, delete horizon 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// How the records are compressed. Three of the eight numbers name no codec.
    pub fn codec(self) -> Result<Codec, BatchError> {
        Codec::from_number((self.0 & Self::CODEC) as u8)
    }

    /// Who gives the records their timestamps.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.has(Self::LOG_APPEND_TIME) { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
    }

    /// Whether the records belong to a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.has(Self::TRANSACTIONAL)
    }

    /// Whether the batch holds a marker of the log itself (the end of a transaction) instead of a producer's records.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.has(Self::CONTROL)
    }

    /// Whether the base timestamp stands for the time at which compaction may drop this batch's tombstones.
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.has(Self::DELETE_HORIZON)
    }

    /// The same bits with another codec.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Attributes {
        Attributes((self.0 & !Self::CODEC) | i16::from(codec.number()))
    }

    /// The same bits with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        self.with(Self::LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime)
    }

    /// The same bits, with a delete horizon or not.
    #[must_use]
    pub fn with_delete_horizon(self, delete_horizon: bool) -> Attributes {
        self.with(Self::DELETE_HORIZON, delete_horizon)
    }

    /// The same bits, in a transaction or not.
    #[must_use]
    pub fn with_transactional(self, transactional: bool) -> Attributes {
        self.with(Self::TRANSACTIONAL, transactional)
    }

    /// The same bits, a control batch or not.
    #[must_use]
    pub fn with_control(self, control: bool) -> Attributes {
        self.with(Self::CONTROL, control)
    }

    fn has(self, bit: i16) -> bool {
        self.0 & bit != 0
    }

    fn with(self, bit: i16, on: bool) -> Attributes {
        Attributes(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// What the first 61 bytes of a batch say. Reading them promises nothing about the records; see [`super::check()`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record that was ever in the batch.
    pub base_offset: Offset,
    /// The epoch of the leader that appended the batch.
    pub leader_epoch: Epoch,
    /// The format's number: always 2.
    pub magic: i8,
    /// The CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// The attribute bits.
    pub attributes: Attributes,
    /// The distance from the base offset to the last offset. It stays when compaction takes records out.
    pub last_offset_delta: i32,
    /// What the records' timestamps are counted from.
    pub base_timestamp: TimestampMs,
    /// The largest timestamp of the records, or the append time. -1: none has one.
    pub max_timestamp: TimestampMs,
    /// The idempotent producer, or -1.
    pub producer_id: ProducerId,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// The first record's sequence number, or -1.
    pub base_sequence: i32,
    /// How many records are in the batch now.
    pub record_count: i32,
    /// The size of the whole batch in bytes, these 61 included.
    pub size: usize,
}

/// The bytes of a fixed-size field. `None` past the end, so that nothing here can panic.
fn field<const SIZE: usize>(bytes: &[u8], position: usize) -> Option<[u8; SIZE]> {
    bytes.get(position..)?.first_chunk::<SIZE>().copied()
}

impl BatchHeader {
    /// The size of the header in bytes.
    pub const SIZE: usize = 61;
    /// The base offset and the length field: what the length field does not count.
    pub(super) const LENGTH_END: usize = 12;
    const MAGIC_END: usize = 17;
    const LAST_OFFSET_DELTA_AT: usize = 23;
    pub(super) const CRC_AT: usize = 17;
    pub(crate) const ATTRIBUTES_AT: usize = 21;
    pub(super) const MAX_TIMESTAMP_AT: usize = 35;
    pub(super) const MAGIC: i8 = 2;
    /// No message of any magic has a smaller length field.
    const LENGTH_MIN: i32 = 14;

    /// Reads the header at the start of `bytes`, which need not hold the records.
    ///
    /// What is no batch at all, or one of magic 0 or 1, is `Invalid`; an impossible length or magic is `Corrupt`.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let cut = || BatchError::invalid(format!("{} bytes hold no whole batch header", bytes.len()));
        if bytes.len() < Self::MAGIC_END {
            return Err(cut());
        }
        let length = i32::from_be_bytes(field(bytes, 8).ok_or_else(cut)?);
        let magic = i8::from_be_bytes(field(bytes, 16).ok_or_else(cut)?);
        if length < Self::LENGTH_MIN {
            return Err(BatchError::corrupt(format!("impossible length {length}")));
        }
        match magic {
            Self::MAGIC => {}
            0 | 1 => return Err(BatchError::invalid(format!("magic {magic}: only magic 2 is supported"))),
            _ => return Err(BatchError::corrupt(format!("unknown magic {magic}"))),
        }
        let size = usize::try_from(length).ok().and_then(|length| length.checked_add(Self::LENGTH_END));
        let size = size.filter(|size| *size >= Self::SIZE);
        let size = size.ok_or_else(|| BatchError::corrupt(format!("length {length} is below a header's")))?;
        let bytes: &[u8; Self::SIZE] = bytes.first_chunk().ok_or_else(cut)?;
        Self::fields(bytes, magic, size).ok_or_else(cut)
    }

    fn fields(bytes: &[u8; Self::SIZE], magic: i8, size: usize) -> Option<BatchHeader> {
        Some(BatchHeader {
            base_offset: Offset(i64::from_be_bytes(field(bytes, 0)?)),
            leader_epoch: Epoch(i32::from_be_bytes(field(bytes, 12)?)),
            magic,
            crc: u32::from_be_bytes(field(bytes, Self::CRC_AT)?),
            attributes: Attributes(i16::from_be_bytes(field(bytes, Self::ATTRIBUTES_AT)?)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)?),
            base_timestamp: TimestampMs(i64::from_be_bytes(field(bytes, 27)?)),
            max_timestamp: TimestampMs(i64::from_be_bytes(field(bytes, Self::MAX_TIMESTAMP_AT)?)),
            producer_id: ProducerId(i64::from_be_bytes(field(bytes, 43)?)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)?),
            base_sequence: i32::from_be_bytes(field(bytes, 53)?),
            record_count: i32::from_be_bytes(field(bytes, 57)?),
            size,
        })
    }

    /// The header as bytes, its CRC field as it stands in `self`.
    #[must_use]
    pub(super) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut rest = bytes.as_mut_slice();
        let mut put = |field: &[u8]| {
            if let Some((to, after)) = std::mem::take(&mut rest).split_at_mut_checked(field.len()) {
                to.copy_from_slice(field);
                rest = after;
            }
        };
        put(&self.patch(self.base_offset, self.leader_epoch));
        put(&self.magic.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.0.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.0.to_be_bytes());
        put(&self.max_timestamp.0.to_be_bytes());
        put(&self.producer_id.0.to_be_bytes());
        put(&self.producer_epoch.to_be_bytes());
        put(&self.base_sequence.to_be_bytes());
        put(&self.record_count.to_be_bytes());
        bytes
    }

    /// The offset of the last record that was ever in the batch.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// The offset that the next batch gets.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The last record's sequence number, or -1. Sequence numbers start again at 0 after `i32::MAX`.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last & i64::from(i32::MAX)) as i32
    }

    /// Whether an idempotent producer wrote the batch.
    #[must_use]
    pub fn has_producer(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// Lets a whole batch cover the offsets up to `last`, and makes its CRC anew. None, and nothing is changed, when that is
    /// further from the base offset than the field can say, or `batch` is too short for one.
    pub fn cover(&mut self, batch: &mut [u8], last: Offset) -> Option<()> {
        let delta = i32::try_from(last.0.checked_sub(self.base_offset.0)?).ok()?;
        let at = Self::LAST_OFFSET_DELTA_AT;
        batch.get_mut(at..at + 4)?.copy_from_slice(&delta.to_be_bytes());
        let crc = crc32c(batch.get(Self::ATTRIBUTES_AT..)?);
        batch.get_mut(Self::CRC_AT..Self::ATTRIBUTES_AT)?.copy_from_slice(&crc.to_be_bytes());
        (self.last_offset_delta, self.crc) = (delta, crc);
        Some(())
    }

    /// The batch's first 16 bytes for an append at `base_offset`. They lie outside the CRC, so nothing else changes.
    #[must_use]
    pub fn patch(&self, base_offset: Offset, epoch: Epoch) -> [u8; 16] {
        // A header comes from `parse` or a builder; both keep the size within what the length field can say.
        let length = self.size.saturating_sub(Self::LENGTH_END) as u32;
        let mut bytes = [0; 16];
        let (offset_bytes, rest) = bytes.split_at_mut(8);
        let (length_bytes, epoch_bytes) = rest.split_at_mut(4);
        offset_bytes.copy_from_slice(&base_offset.0.to_be_bytes());
        length_bytes.copy_from_slice(&length.to_be_bytes());
        epoch_bytes.copy_from_slice(&epoch.0.to_be_bytes());
        bytes
    }
}

/// Compares the CRC of a whole batch with the one that its header carries.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let stored = field(batch, BatchHeader::CRC_AT).map(u32::from_be_bytes);
    let covered = batch.get(BatchHeader::ATTRIBUTES_AT..);
    let (Some(stored), Some(covered)) = (stored, covered) else {
        return Err(BatchError::corrupt("too short for a CRC"));
    };
    let computed = crc32c(covered);
    if computed != stored {
        return Err(BatchError::corrupt(format!("CRC {stored:08x} is stored, {computed:08x} is computed")));
    }
    Ok(())
}

/// Steps over the batches that lie one after the other in `bytes`.
///
/// Yields each whole batch's position and header. It stops before a last batch that is cut off (a range of a segment
/// often ends in the middle of one) and at the first bytes that are no batch; [`Headers::position`] tells how far it
/// came. CRCs are not looked at.
#[must_use]
pub fn headers(bytes: &[u8]) -> Headers<'_> {
    Headers { bytes, position: 0 }
}

/// See [`headers()`].
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Headers<'_> {
    /// The end of the last batch that was yielded.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

impl Iterator for Headers<'_> {
    type Item = (usize, BatchHeader);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.position..)?;
        let header = BatchHeader::parse(rest).ok().filter(|header| header.size <= rest.len())?;
        let position = self.position;
        self.position = position.checked_add(header.size)?;
        Some((position, header))
    }
}
