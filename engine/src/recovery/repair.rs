//! Cutting a damaged data folder, on demand: the state as far as it can be read becomes a checkpoint of its own, numbers go
//! on above all that can have been given away before, and what was cut is kept in a folder of its own.
//!
//! The order makes a crash harmless. Files that the state does not know are moved first, then the checkpoint is written,
//! then the old WAL and the unreadable checkpoints are moved. Before the checkpoint the folder is as damaged as it was;
//! behind it, it is whole.

use super::{Inspected, OpenError, Recovered, doing, last_incarnation};
use crate::cell::Cell;
use crate::checkpoint::{Header, Loaded, key};
use crate::commit::{Changes, Resume};
use crate::engine::Options;
use crate::env::{DirLock, Disk, DiskFile, OpenMode, WalDevice};
use crate::ids::{Epoch, FileId, Sequence};
use crate::partition::Segment;
use crate::segment::files::{self, FileTable};
use crate::wal::block::{BlockHeader, HEADER_SIZE};
use crate::wal::ring::{Place, Ring, SlotFile, create_slot};
use crate::wal::scan::Run;
use crate::wal::{BLOCK_ALIGNMENT, SLOT_HEADER_SIZE};
use std::collections::{HashMap, HashSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

/// Partition and producer ids skipped, more than can have been given away in what was lost.
const ID_GAP: u64 = 1 << 32;
/// Bytes read or copied at a time.
const PIECE: usize = 1 << 20;
/// Names of the folders that hold what was cut begin so; the incarnation follows.
const FOLDER_PREFIX: &str = "repaired-";

/// What is known of a folder before it is repaired.
pub(super) struct Repair {
    data_dir: PathBuf,
    /// The latest incarnation that the usable checkpoint knows, and the latest that anything hints at.
    known: u64,
    seen: u64,
    /// The greatest sequence that anything hints at.
    sequence: u64,
    /// Unreadable checkpoints.
    checkpoints: Vec<PathBuf>,
    /// Segments that the checkpoint or a swap in the log names and that are gone: what made them useless, a later checkpoint or a
    /// block of the log, cannot be read.
    missing: HashSet<FileId>,
}

impl Repair {
    /// Looks for every number that was ever given away. Changes nothing.
    pub fn look(disk: &dyn Disk, options: &Options, slots: &[SlotFile], loaded: &Loaded) -> Result<Repair, OpenError> {
        let Loaded { header, lost, .. } = loaded;
        let known = last_incarnation(header);
        let mut repair = Repair {
            data_dir: options.data_dir.clone(),
            known,
            seen: known.saturating_add(lost.checkpoints),
            sequence: header.through.max(lost.through).0,
            checkpoints: lost.paths.clone(),
            missing: HashSet::new(),
        };
        for slot in slots {
            doing("reading the WAL", repair.look_at_slot(disk, slot))?;
        }
        let folders = super::Folders::of(options);
        let files = doing("looking for segments", files::list(disk, &folders.segments))?;
        let latest = files.into_iter().map(FileId::incarnation).max();
        repair.seen = repair.seen.max(latest.unwrap_or_default());
        // A repair that came to no end may have moved files already.
        for name in doing("looking for earlier repairs", disk.list(&options.data_dir))? {
            let earlier = name.strip_prefix(FOLDER_PREFIX).and_then(|number| number.parse().ok());
            repair.seen = repair.seen.max(earlier.unwrap_or_default());
        }
        // As many blocks as the slots have room for may be unreadable.
        let unreadable: u64 = slots.iter().map(|slot| slot.size / BLOCK_ALIGNMENT).sum();
        repair.sequence = repair.sequence.saturating_add(unreadable);
        if repair.seen + 1 >= FileId::INCARNATION_END || repair.sequence > u64::MAX / 2 {
            let what = format!("it names run {} and block {}, which cannot be", repair.seen, repair.sequence);
            return Err(OpenError::Damaged(what));
        }
        Ok(repair)
    }

    fn look_at_slot(&mut self, disk: &dyn Disk, slot: &SlotFile) -> io::Result<()> {
        let file = disk.open(&slot.path, OpenMode::Read)?;
        let mut chunk = vec![0; PIECE];
        let mut position = SLOT_HEADER_SIZE;
        while position < slot.size {
            let read = read_full(&*file, &mut chunk, position)?;
            for start in (0..read).step_by(BLOCK_ALIGNMENT as usize) {
                let header = chunk.get(start..read).and_then(BlockHeader::parse);
                let Some(header) = header.filter(|header| self.is_news(header)) else { continue };
                let at = position + start as u64;
                if at + header.padded_size() > slot.size {
                    continue;
                }
                let mut block = vec![0; HEADER_SIZE + header.body_size as usize];
                if read_full(&*file, &mut block, at)? == block.len() && header.verifies(&block) {
                    self.seen = self.seen.max(header.incarnation);
                    self.sequence = self.sequence.max(header.sequence.0);
                }
            }
            if read == 0 {
                break;
            }
            position += (read as u64).next_multiple_of(BLOCK_ALIGNMENT);
        }
        Ok(())
    }

    fn is_news(&self, header: &BlockHeader) -> bool {
        header.incarnation > self.seen || header.sequence.0 > self.sequence
    }

    /// The latest incarnation that may have been taken.
    pub fn above(&self) -> u64 {
        self.seen
    }

    /// The node epoch: `next`, were nothing lost. It grows with the incarnation.
    pub fn epoch(&self, next: Epoch) -> Result<Epoch, OpenError> {
        let lost = i32::try_from(self.seen - self.known).ok();
        let epoch = lost.and_then(|lost| next.0.checked_add(lost));
        epoch.map(Epoch).ok_or_else(|| OpenError::Damaged(format!("no epoch follows {next}")))
    }

    /// Notes which segments of the checkpoint are gone. Called before the log is replayed, which makes new ones.
    pub fn look_for_segments(&mut self, cell: &Cell) -> Result<(), OpenError> {
        self.look_for(cell, |_| true)
    }

    fn look_for(&mut self, cell: &Cell, is_looked_for: impl Fn(&Segment) -> bool) -> Result<(), OpenError> {
        let mut files = Vec::new();
        cell.catalogue.for_each_partition(|partition| {
            let published = partition.published();
            let segments = published.segments.iter().filter(|segment| is_looked_for(segment));
            files.extend(segments.map(|segment| segment.file));
        });
        for file in files {
            let path = cell.shared.files.log_path(file);
            if !doing("looking for segments", cell.shared.env.disk.exists(&path))? {
                self.missing.insert(file);
            }
        }
        Ok(())
    }

    /// Cuts the log behind what can be read.
    pub fn finish(
        mut self,
        inspected: Inspected,
        damage: &str,
        mut device: Box<dyn WalDevice>,
        lock: Box<dyn DirLock>,
    ) -> Result<Recovered, OpenError> {
        let Inspected { cell, receiver, mut store, header, slots, start, end, replay, .. } = inspected;
        let shared = cell.shared.clone();
        let disk = &*shared.env.disk;
        let folders = super::Folders::of(&shared.options);
        let replayed = end.next_sequence().0 - start.next_sequence().0;

        // The replay makes no segment that compaction wrote: it only names it.
        self.look_for(&cell, |segment| segment.is_swapped_in)?;
        let skipped = self.skip_missing(&cell);
        replay.write_batches(start, &end)?;
        let first = Sequence(self.sequence.max(end.next_sequence().0) + 1);
        {
            let mut dirty = cell.dirty.lock();
            let partitions = dirty.next_partition.checked_add(ID_GAP);
            let producers = dirty.next_producer.checked_add_unsigned(ID_GAP);
            let (Some(partitions), Some(producers)) = (partitions, producers) else {
                return Err(OpenError::Damaged("no ids are left".to_owned()));
            };
            (dirty.next_partition, dirty.next_producer) = (partitions, producers);
        }
        replay.finish();

        let folder = self.data_dir.join(format!("{FOLDER_PREFIX}{}", shared.incarnation));
        doing("making a folder for what is cut", disk.create_dir_all(&folder))?;
        let mut kept = Kept { disk, folder: &folder, files: 0, bytes: 0 };
        doing("keeping what is cut", kept.segments(&cell))?;

        // A log of its own: nothing in it can be taken for a block of the old one.
        let mut next_slot = slots.iter().map(|slot| slot.number + 1).max().unwrap_or_default();
        let mut fresh = Vec::new();
        for _ in 0..2 {
            let slot = create_slot(disk, &folders.wal, next_slot, shared.options.wal_slot_bytes());
            fresh.push(doing("making a WAL slot", slot)?);
            next_slot += 1;
        }
        let place = Place { slot: next_slot - 2, position: SLOT_HEADER_SIZE };

        doing("syncing the segments", disk.sync_all())?;
        let renewed = {
            let dirty = cell.dirty.lock();
            Header {
                through: Sequence(first.0 - 1),
                crc: end.previous_crc(),
                place,
                epoch: shared.epoch,
                next_partition: dirty.next_partition,
                next_producer: dirty.next_producer,
                runs: vec![Run { incarnation: shared.incarnation, first }],
                ..header
            }
        };
        let through = renewed.through;
        let state = whole_state(&cell);
        doing("writing a checkpoint", store.write_whole(renewed, &state))?;
        cell.set_checkpointed(through);

        for path in slots.iter().map(|slot| &slot.path).chain(&self.checkpoints) {
            doing("keeping what is cut", kept.take(path))?;
        }
        doing("keeping what is cut", disk.sync_all())?;
        let mut repaired = format!("{damage}; {} kept in {}", kept.count(), folder.display());
        if skipped > 0 {
            let were = if skipped == 1 { "segment was" } else { "segments were" };
            repaired += &format!("; {skipped} {were} deleted already, and the log starts behind");
        }
        tracing::warn!("the data folder was repaired: {repaired}");

        let ring = Ring::open(&mut *device, &fresh, place, &[]);
        let ring = doing("opening the WAL", ring)?;
        let resume = Resume { next: first, previous_crc: end.previous_crc(), ring, place };
        Ok(Recovered { cell, store, resume, receiver, device, lock, slots: fresh, replayed, repaired: Some(repaired) })
    }

    /// Lets logs start behind segments that are gone. Says how many those are.
    fn skip_missing(&self, cell: &Cell) -> usize {
        let mut skipped = 0;
        cell.catalogue.for_each_partition(|partition| {
            let mut published = partition.published();
            let is_missing = |file: &FileId| self.missing.contains(file);
            let Some(last) = published.segments.iter().rposition(|segment| is_missing(&segment.file)) else { return };
            skipped += published.segments.iter().filter(|segment| is_missing(&segment.file)).count();
            let next = published.segments.get(last + 1).map(|segment| segment.base);
            let log_start = next.unwrap_or(published.high_watermark);
            published.advance_log_start(log_start);
            if next.is_none() {
                // The next append makes a new one.
                published.segments.clear();
            }
        });
        skipped
    }
}

/// Everything that a checkpoint holds.
fn whole_state(cell: &Cell) -> Changes {
    // What changed is in the whole.
    cell.dirty.lock().capture();
    let mut state = Changes::new();
    for topic in cell.catalogue.topics() {
        state.insert(key::topic(topic.id()), Some(topic.encode()));
        for partition in topic.partitions().iter() {
            state.insert(key::partition(partition.id()), Some(partition.published().encode()));
        }
    }
    state
}

/// What is cut, on its way to a folder of its own.
struct Kept<'a> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    files: u64,
    bytes: u64,
}

impl Kept<'_> {
    /// Moves segment files that belong to no partition, and copies what lies behind the end of those that are written on.
    fn segments(&mut self, cell: &Cell) -> io::Result<()> {
        let files: &FileTable = &cell.shared.files;
        let (mut sealed, mut active) = (HashSet::new(), HashMap::new());
        cell.catalogue.for_each_partition(|partition| {
            let published = partition.published();
            let Some((last, others)) = published.segments.split_last() else { return };
            active.insert(last.file, last.size);
            sealed.extend(others.iter().map(|segment| segment.file));
        });
        for id in files.list()? {
            let path = files.log_path(id);
            let index = path.with_extension("index");
            match active.get(&id) {
                _ if sealed.contains(&id) => continue,
                Some(end) => self.copy_tail(&path, *end)?,
                None => {
                    // The table may hold it open.
                    self.take(&path)?;
                }
            }
            self.take(&index)?;
        }
        Ok(())
    }

    /// Moves a file, if it is there.
    fn take(&mut self, path: &Path) -> io::Result<()> {
        let (true, Some(name)) = (self.disk.exists(path)?, path.file_name()) else { return Ok(()) };
        self.bytes += self.disk.open(path, OpenMode::Read)?.size()?;
        self.files += 1;
        self.disk.rename(path, &self.folder.join(name))
    }

    /// Copies the bytes of a file behind `end`, which the next appends write over.
    fn copy_tail(&mut self, path: &Path, end: u64) -> io::Result<()> {
        let (true, Some(stem)) = (self.disk.exists(path)?, path.file_stem()) else { return Ok(()) };
        let from = self.disk.open(path, OpenMode::Read)?;
        let size = from.size()?;
        if size <= end {
            return Ok(());
        }
        let name = format!("{}-from-{end}.log", stem.to_string_lossy());
        let to = self.disk.open(&self.folder.join(name), OpenMode::Create)?;
        let mut piece = vec![0; PIECE];
        let mut position = end;
        while position < size {
            let read = read_full(&*from, &mut piece, position)?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            to.write_at(&[IoSlice::new(bytes)], position - end)?;
            position += read as u64;
        }
        to.sync()?;
        self.files += 1;
        self.bytes += size - end;
        Ok(())
    }

    fn count(&self) -> String {
        let files = if self.files == 1 { "1 file".to_owned() } else { format!("{} files", self.files) };
        format!("what was cut and the old log ({files}, {} bytes) are", self.bytes)
    }
}

/// Reads until `out` is full or the file ends.
fn read_full(file: &dyn DiskFile, out: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, position + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
