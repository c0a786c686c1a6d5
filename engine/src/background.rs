//! Work that nobody waits for: write-back, sealing, retention, WAL growth, free space, orphans, the scrub.

use crate::cell::Cell;
use crate::commit::Fatal;
use crate::ids::{FileId, TimestampMs};
use crate::partition::Partition;
use crate::recovery::Folders;
use crate::wal::ring::{SlotFile, create_slot};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Done by one thread, a little at a time.
pub struct Background {
    cell: Arc<Cell>,
    folders: Folders,
    next_slot: u32,
    wal_size: u64,
    /// The largest slot's size.
    slot_size_max: u64,
    /// Files of earlier runs that may be in no partition any more; none once they were swept.
    has_orphans: bool,
    scrub: Option<Scrub>,
}

/// Where the scrub is: partitions still to visit.
struct Scrub {
    partitions: Vec<Arc<Partition>>,
    segment: usize,
}

impl Background {
    pub fn new(cell: Arc<Cell>, slots: &[SlotFile]) -> Background {
        let folders = Folders::of(&cell.shared.options);
        let next_slot = slots.iter().map(|slot| slot.number + 1).max().unwrap_or_default();
        let wal_size = slots.iter().map(|slot| slot.size).sum();
        let slot_size_max = slots.iter().map(|slot| slot.size).max().unwrap_or_default();
        Background { cell, folders, next_slot, wal_size, slot_size_max, has_orphans: true, scrub: None }
    }

    /// What must not wait long: free space, WAL growth, write-back, sealed segments.
    pub fn tend(&mut self) -> Result<(), Fatal> {
        let shared = &self.cell.shared;
        let disk = &*shared.env.disk;
        let queued = shared.queue.bytes();
        shared.space.refresh(disk, queued).map_err(|error| Fatal::io("asking for free space", &error))?;
        let ranges = std::mem::take(&mut *self.cell.write_back.lock());
        for (file, range) in ranges {
            file.disk_file().start_writeback(range.start, range.end - range.start);
        }
        let sealed = std::mem::take(&mut *self.cell.sealed.lock());
        for segment in sealed {
            match shared.files.seal(&segment) {
                // Deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!("segment {} was not finished: {error}", segment.file),
                Ok(()) => {}
            }
        }
        self.grow()
    }

    /// A new WAL slot when the ring is half full, or a block finds no place.
    fn grow(&mut self) -> Result<(), Fatal> {
        let options = &self.cell.shared.options;
        let stats = &self.cell.shared.stats;
        let wanted = self.cell.take_wanted_slot();
        let is_half_full = stats.wal_used.load(Ordering::Relaxed) * 2 > self.wal_size;
        if wanted.is_none() && !is_half_full {
            return Ok(());
        }
        let room = options.wal_size_max.saturating_sub(self.wal_size);
        let least = wanted.map_or(0, |size| size + crate::wal::SLOT_HEADER_SIZE);
        // A block larger than any slot must get one that holds it, whatever the bound and however full the disk: it was
        // admitted, and what drains the disk may wait behind it.
        let needs_larger = least > self.slot_size_max;
        // The ring doubles: a small slot is there soon, and load that lasts gets large ones.
        let doubled = self.wal_size.clamp(options.wal_slot_bytes(), options.wal_slot_bytes_max());
        let size = doubled.min(room.max(options.wal_slot_bytes())).max(least);
        let size = match room >= size && self.cell.shared.space.admit_comfort(size) {
            true => size,
            false if needs_larger => least,
            false => return Ok(()),
        };
        let disk = &*self.cell.shared.env.disk;
        match create_slot(disk, &self.folders.wal, self.next_slot, size) {
            Ok(slot) => {
                self.next_slot += 1;
                self.wal_size += slot.size;
                self.slot_size_max = self.slot_size_max.max(slot.size);
                self.cell.give_slot(slot);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!("the WAL cannot grow: {error}");
                Ok(())
            }
            Err(error) => Err(Fatal::io("making a WAL slot", &error)),
        }
    }

    /// What may wait: retention, silent producers.
    pub fn retain(&mut self) {
        let shared = &self.cell.shared;
        let now = shared.env.clock.wall();
        let silent_since = TimestampMs(now.0.saturating_sub(shared.options.producer_expiry_ms));
        self.cell.catalogue.for_each_partition(|partition| {
            partition.expire_producers(silent_since);
            if let Some(retention) = partition.retention(now) {
                // Refused: the next pass tries again.
                let _ = partition.retain(&retention);
            }
        });
    }

    /// Unlinks files of earlier runs that belong to nobody: rolls that were lost, deletions whose unlink was. A repair moves
    /// what its state does not know out of the way, so none of what it cut is found here.
    pub fn sweep_orphans(&mut self) -> io::Result<usize> {
        if !std::mem::take(&mut self.has_orphans) {
            return Ok(0);
        }
        let shared = &self.cell.shared;
        let files = shared.files.list()?;
        let mut alive: HashSet<FileId> = HashSet::new();
        self.cell.catalogue.for_each_partition(|partition| {
            alive.extend(partition.published().segments.iter().map(|segment| segment.file));
        });
        // Files that wait for a checkpoint go with it, not before: what a swap replaced is all there is of its records if that swap is
        // lost to damage.
        alive.extend(self.cell.dirty.lock().waiting_garbage());
        let is_old = |file: &&FileId| file.incarnation() < shared.incarnation;
        let mut swept = 0;
        for file in files.iter().filter(is_old).filter(|file| !alive.contains(file)) {
            shared.files.remove(*file)?;
            swept += 1;
        }
        if swept > 0 {
            tracing::info!("{swept} segment files of earlier runs belonged to no partition and were removed");
        }
        Ok(swept)
    }

    /// Checks the next sealed segment against its CRCs. Returns the bytes it read; 0 when there is none at all.
    pub fn scrub(&mut self) -> u64 {
        let shared = self.cell.shared.clone();
        loop {
            let scrub = self.scrub.get_or_insert_with(|| {
                let mut partitions = Vec::new();
                self.cell.catalogue.for_each_partition(|partition| partitions.push(partition.clone()));
                Scrub { partitions, segment: 0 }
            });
            let Some(partition) = scrub.partitions.last().cloned() else {
                self.scrub = None;
                return 0;
            };
            let (sealed, epochs) = {
                let published = partition.published();
                let sealed = published.segments.split_last().and_then(|(_, sealed)| sealed.get(scrub.segment));
                (sealed.map(|segment| (segment.file, segment.base, segment.size)), published.epochs.clone())
            };
            let Some((file, base, size)) = sealed else {
                scrub.partitions.pop();
                scrub.segment = 0;
                continue;
            };
            scrub.segment += 1;
            let checked = shared.files.get(file).map_err(Into::into);
            let checked = checked.and_then(|file| file.verify(0, base, size, &epochs));
            match checked {
                Err(crate::segment::walk::WalkError::Io(error)) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let place = format!("{} partition {}", partition.topic_name(), partition.index());
                    shared.report_damage(&format!("{place}: {error}"));
                }
                Ok(()) => {}
            }
            shared.stats.scrubbed_bytes.fetch_add(size, Ordering::Relaxed);
            return size.max(1);
        }
    }
}
