//! Where blocks go: a ring of slots, reused once a checkpoint covers what they hold, grown when that is not soon enough.

use super::{BLOCK_ALIGNMENT, SLOT_HEADER_SIZE};
use crate::encoding::Reader;
use crate::env::{AlignedBuffer, Disk, DiskFile, OpenMode, WalDevice};
use crate::ids::Sequence;
use bytes::BufMut;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 6] = b"HWWAL\0";
const FORMAT_VERSION: u16 = 1;
/// New slots are filled by so many bytes at a time.
const PIECE: usize = 1 << 20;

/// A place in the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    pub slot: u32,
    pub position: u64,
}

/// A slot's file, not yet opened.
#[derive(Clone, Debug)]
pub struct SlotFile {
    pub number: u32,
    pub path: PathBuf,
    pub size: u64,
}

/// Writes a new slot, header and zeros, and makes it durable under its name. Past the page cache: many slots are made while producers are at their
/// fastest, and nobody reads them back.
pub fn create_slot(disk: &dyn Disk, dir: &Path, number: u32, size: u64) -> io::Result<SlotFile> {
    let size = size.next_multiple_of(BLOCK_ALIGNMENT);
    let path = dir.join(format!("{number:08}.slot"));
    let new = dir.join(format!("{number:08}.new"));
    if disk.exists(&new)? {
        disk.remove(&new)?;
    }
    let file = disk.open(&new, OpenMode::Create)?;
    match fill(&*disk.open_direct(&new)?, number, size) {
        // A filesystem that opens files for direct writes and then takes none.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => fill(&*file, number, size)?,
        other => other?,
    }
    disk.rename(&new, &path)?;
    disk.sync_dir(dir)?;
    Ok(SlotFile { number, path, size })
}

/// Writes a slot's header and zeros, durably.
fn fill(file: &dyn DiskFile, number: u32, size: u64) -> io::Result<()> {
    file.preallocate(0, size)?;
    let mut header = MAGIC.to_vec();
    header.put_u16_le(FORMAT_VERSION);
    header.put_u32_le(number);
    header.put_u64_le(size);
    let piece_size = usize::try_from(size).unwrap_or(PIECE).min(PIECE);
    let mut piece = AlignedBuffer::with_capacity(piece_size);
    piece.extend_from_slice(&header);
    piece.pad_to(piece_size);
    let mut position = 0;
    while position < size {
        let rest = usize::try_from(size - position).unwrap_or(piece_size);
        let part = &piece.as_slice()[..rest.min(piece_size)];
        file.write_at(&[IoSlice::new(part)], position)?;
        position += part.len() as u64;
        // After the first piece there are only zeros.
        header.fill(0);
        piece.put_at(0, &header);
    }
    file.sync()
}

/// The slots of a folder, by number. An unknown newer format is refused.
pub fn list_slots(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<SlotFile>> {
    let mut slots = Vec::new();
    for name in disk.list(dir)? {
        let Some(number) = name.strip_suffix(".slot").and_then(|stem| stem.parse().ok()) else { continue };
        let path = dir.join(&name);
        let file = disk.open(&path, OpenMode::Read)?;
        let mut header = [0; 20];
        let read = file.read_at(&mut header, 0)?;
        let mut reader = Reader(header.get(..read).unwrap_or_default());
        let known = reader.take(MAGIC.len()).is_ok_and(|magic| magic == MAGIC);
        let version = reader.take(2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        if !known || version > FORMAT_VERSION {
            let what = format!("{} is no WAL slot that this version can read (format {version})", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        slots.push(SlotFile { number, path, size: file.size()? });
    }
    slots.sort_by_key(|slot| slot.number);
    Ok(slots)
}

struct Slot {
    number: u32,
    size: u64,
    file: Arc<dyn DiskFile>,
    /// The last block in it; none when it holds nothing that matters.
    last: Option<Sequence>,
}

/// Places blocks. Owned by the committer.
pub struct Ring {
    slots: Vec<Slot>,
    current: usize,
    position: u64,
}

impl Ring {
    /// A ring that goes on at `next`; `used` names the last block of each slot that still matters.
    pub fn open(
        device: &mut dyn WalDevice,
        files: &[SlotFile],
        next: Place,
        used: &[(u32, Sequence)],
    ) -> io::Result<Ring> {
        let slots = files
            .iter()
            .map(|slot| {
                let last = used.iter().find(|(number, _)| *number == slot.number).map(|(_, last)| *last);
                Ok(Slot { number: slot.number, size: slot.size, file: device.open(&slot.path)?, last })
            })
            .collect::<io::Result<Vec<_>>>()?;
        let current = slots.iter().position(|slot| slot.number == next.slot);
        let current = current.ok_or_else(|| io::Error::other(format!("WAL slot {} is missing", next.slot)))?;
        Ok(Ring { slots, current, position: next.position.max(SLOT_HEADER_SIZE) })
    }

    /// Takes in a slot that was made meanwhile.
    pub fn add(&mut self, device: &mut dyn WalDevice, slot: &SlotFile) -> io::Result<()> {
        let file = device.open(&slot.path)?;
        self.slots.push(Slot { number: slot.number, size: slot.size, file, last: None });
        Ok(())
    }

    /// A place for block `sequence` of `size` bytes; none when the ring is full. Slots whose blocks are all at or below
    /// `checkpointed` are free.
    pub fn place(
        &mut self,
        size: u64,
        sequence: Sequence,
        checkpointed: Sequence,
    ) -> Option<(Arc<dyn DiskFile>, Place)> {
        if self.slots[self.current].size < self.position + size {
            let count = self.slots.len();
            // The current slot comes last: once a checkpoint covers all of it, it may be the only one that is large enough.
            let next = (1..=count).map(|step| (self.current + step) % count).find(|index| {
                let slot = &self.slots[*index];
                slot.last.is_none_or(|last| last <= checkpointed) && slot.size >= SLOT_HEADER_SIZE + size
            })?;
            self.current = next;
            self.position = SLOT_HEADER_SIZE;
        }
        let slot = &mut self.slots[self.current];
        slot.last = Some(sequence);
        let place = Place { slot: slot.number, position: self.position };
        self.position += size;
        Some((slot.file.clone(), place))
    }

    /// Bytes of all slots, and those of slots that hold blocks above `checkpointed`.
    pub fn usage(&self, checkpointed: Sequence) -> (u64, u64) {
        let total = self.slots.iter().map(|slot| slot.size).sum();
        let used = self.slots.iter().filter(|slot| slot.last.is_some_and(|last| last > checkpointed));
        (total, used.map(|slot| slot.size).sum())
    }
}
