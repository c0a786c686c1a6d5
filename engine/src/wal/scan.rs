//! Reading the WAL back after a crash: follow the chain of blocks, then say whether its end is an end or a wound.

use super::block::{BlockHeader, HEADER_SIZE};
use super::ring::{Place, SlotFile};
use super::{BLOCK_ALIGNMENT, SLOT_HEADER_SIZE};
use crate::env::{Disk, DiskFile, OpenMode};
use crate::ids::Sequence;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes read at a time while looking for a block behind the chain's end.
const SCAN_BYTES: usize = 1 << 20;

/// From block `first` on, blocks carry `incarnation`: one entry for each run since the checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    pub incarnation: u64,
    pub first: Sequence,
}

#[derive(Clone)]
struct Slot {
    number: u32,
    path: PathBuf,
    size: u64,
    file: Arc<dyn DiskFile>,
    first: Option<BlockHeader>,
}

/// Walks the chain of blocks. A clone walks on independently.
#[derive(Clone)]
pub struct Scanner {
    slots: Vec<Slot>,
    runs: Vec<Run>,
    at: Place,
    next: Sequence,
    previous_crc: u32,
    used: Vec<(u32, Sequence)>,
    /// The highest block that one of those read calls durable.
    proven: Sequence,
}

impl Scanner {
    /// Starts at block `next`, which lies at `at` or, when the writer went on elsewhere, at the start of another slot.
    pub fn open(
        disk: &dyn Disk,
        files: &[SlotFile],
        runs: &[Run],
        at: Place,
        next: Sequence,
        previous_crc: u32,
    ) -> io::Result<Scanner> {
        let slots = files
            .iter()
            .map(|slot| {
                let file = disk.open(&slot.path, OpenMode::Read)?;
                let first = header_at(&*file, SLOT_HEADER_SIZE)?;
                Ok(Slot { number: slot.number, path: slot.path.clone(), size: slot.size, file, first })
            })
            .collect::<io::Result<Vec<_>>>()?;
        // A run makes durable what it finds before it writes anything.
        let proven = Sequence(runs.last().map_or(0, |run| run.first.0.saturating_sub(1)));
        Ok(Scanner { slots, runs: runs.to_vec(), at, next, previous_crc, used: Vec::new(), proven })
    }

    /// Where the next block would go.
    pub fn place(&self) -> Place {
        self.at
    }

    /// The number of the next block.
    pub fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// The CRC that the next block must name.
    pub fn previous_crc(&self) -> u32 {
        self.previous_crc
    }

    /// The last block seen in each slot.
    pub fn used(&self) -> &[(u32, Sequence)] {
        &self.used
    }

    fn incarnation_of(&self, sequence: Sequence) -> u64 {
        self.runs.iter().rev().find(|run| run.first <= sequence).map_or(0, |run| run.incarnation)
    }

    fn is_next(&self, header: &BlockHeader) -> bool {
        header.sequence == self.next
            && header.incarnation == self.incarnation_of(self.next)
            && header.previous_crc == self.previous_crc
    }

    /// Reads the next block into `block` (header and body); none where the chain ends.
    pub fn read_next(&mut self, block: &mut Vec<u8>) -> io::Result<Option<BlockHeader>> {
        let here = self.slots.iter().find(|slot| slot.number == self.at.slot);
        let there = self.slots.iter().filter(|slot| slot.first.is_some_and(|first| self.is_next(&first)));
        let candidates = here.map(|slot| (slot.clone(), self.at.position)).into_iter();
        let candidates: Vec<_> = candidates.chain(there.map(|slot| (slot.clone(), SLOT_HEADER_SIZE))).collect();
        for (slot, position) in candidates {
            let Some(header) = read_block(&slot, position, block, |header| self.is_next(header))? else { continue };
            self.at = Place { slot: slot.number, position: position + header.padded_size() };
            self.previous_crc = header.crc;
            self.proven = self.proven.max(header.durable_through);
            match self.used.iter_mut().find(|(number, _)| *number == slot.number) {
                Some(entry) => entry.1 = self.next,
                None => self.used.push((slot.number, self.next)),
            }
            self.next = Sequence(self.next.0 + 1);
            return Ok(Some(header));
        }
        Ok(None)
    }

    /// After the chain's end: whether something proves that the block missing there was once acknowledged. A block of an
    /// earlier run always was; for the last run a later block says so in its `durable_through`.
    pub fn find_damage(&self) -> io::Result<Option<String>> {
        if let Some(run) = self.runs.last().filter(|run| self.next < run.first) {
            let what = format!("block {} is unreadable, but a later run started from block {}", self.next, run.first);
            return Ok(Some(what));
        }
        let incarnation = self.incarnation_of(self.next);
        let mut block = Vec::new();
        let mut suspects = Vec::new();
        for slot in &self.slots {
            let mut from = SLOT_HEADER_SIZE;
            match first_of(slot, &mut block)? {
                First::Whole(first) if first.incarnation > incarnation => {
                    let run = first.incarnation;
                    return Ok(Some(format!("block {} is of run {run}, which no checkpoint knows", first.sequence)));
                }
                // A slot of another lap cannot hold a proof: the missing block would have been written over its first.
                First::Whole(first) if first.incarnation < incarnation || first.sequence < self.next => {
                    from = slot.size
                }
                First::Empty => from = slot.size,
                // The missing block may be this one, or be followed by it.
                First::Whole(_) | First::Broken => {}
            }
            if slot.number == self.at.slot {
                from = from.min(self.at.position.max(SLOT_HEADER_SIZE));
            }
            suspects.push((slot, from));
        }
        let proves = |header: &BlockHeader| {
            header.incarnation == incarnation && header.sequence > self.next && header.durable_through >= self.next
        };
        for (slot, from) in suspects {
            let mut chunk = vec![0; SCAN_BYTES];
            let mut position = from;
            while position < slot.size {
                let read = slot.file.read_at(&mut chunk, position)?;
                let starts = (0..read).step_by(BLOCK_ALIGNMENT as usize);
                let candidates = starts.filter(|start| {
                    chunk.get(*start..read).and_then(BlockHeader::parse).is_some_and(|header| proves(&header))
                });
                for start in candidates {
                    if let Some(header) = read_block(slot, position + start as u64, &mut block, proves)? {
                        let what = format!(
                            "block {} is unreadable, but block {} says that everything up to {} had been made durable",
                            self.next, header.sequence, header.durable_through
                        );
                        return Ok(Some(what));
                    }
                }
                if read == 0 {
                    break;
                }
                position += (read as u64).next_multiple_of(BLOCK_ALIGNMENT);
            }
        }
        Ok(None)
    }

    /// The highest block that is known to be durable.
    pub fn proven(&self) -> Sequence {
        self.proven
    }

    /// Writes the block that was read last to its place again. After a sync that failed it may lie in the page cache alone,
    /// as if it were clean, and then no sync would write it.
    pub fn write_back(&self, disk: &dyn Disk, block: &[u8]) -> io::Result<()> {
        let Some(slot) = self.slots.iter().find(|slot| slot.number == self.at.slot) else { return Ok(()) };
        let position = self.at.position - (block.len() as u64).next_multiple_of(BLOCK_ALIGNMENT);
        disk.open(&slot.path, OpenMode::Write)?.write_at(&[IoSlice::new(block)], position)
    }

    /// Makes durable what was read: after a kill the last blocks may lie in the page cache or a device cache alone.
    pub fn sync(&self) -> io::Result<()> {
        self.slots
            .iter()
            .filter(|slot| self.used.iter().any(|used| used.0 == slot.number))
            .try_for_each(|slot| slot.file.sync())
    }
}

/// What a slot begins with.
enum First {
    Whole(BlockHeader),
    /// Nothing was ever written there.
    Empty,
    /// A block was torn, or is damaged.
    Broken,
}

fn first_of(slot: &Slot, block: &mut Vec<u8>) -> io::Result<First> {
    if let Some(header) = read_block(slot, SLOT_HEADER_SIZE, block, |_| true)? {
        return Ok(First::Whole(header));
    }
    let mut bytes = [0; HEADER_SIZE];
    slot.file.read_at(&mut bytes, SLOT_HEADER_SIZE)?;
    Ok(if bytes == [0; HEADER_SIZE] { First::Empty } else { First::Broken })
}

fn header_at(file: &dyn DiskFile, position: u64) -> io::Result<Option<BlockHeader>> {
    let mut bytes = [0; HEADER_SIZE];
    let read = file.read_at(&mut bytes, position)?;
    Ok(BlockHeader::parse(&bytes[..read]))
}

/// Reads the block at `position` when its header is one that `wanted` accepts and its CRC holds.
fn read_block(
    slot: &Slot,
    position: u64,
    block: &mut Vec<u8>,
    wanted: impl Fn(&BlockHeader) -> bool,
) -> io::Result<Option<BlockHeader>> {
    let Some(header) = header_at(&*slot.file, position)?.filter(wanted) else { return Ok(None) };
    if position + header.padded_size() > slot.size {
        return Ok(None);
    }
    block.clear();
    block.resize(HEADER_SIZE + header.body_size as usize, 0);
    let mut filled = 0;
    while filled < block.len() {
        let read = slot.file.read_at(&mut block[filled..], position + filled as u64)?;
        if read == 0 {
            return Ok(None);
        }
        filled += read;
    }
    Ok(header.verifies(block).then_some(header))
}
