//! One simulated file: what the medium holds, what the cache holds, and the changes that make the difference.

use super::image::Image;
use super::keep::Keep;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// What a medium writes as one.
pub(super) const SECTOR: u64 = 512;
/// What a filesystem allocates.
const BLOCK: u64 = 4096;
/// How the cache remembers what is resident.
const RESIDENT_UNIT: u64 = 64 * 1024;

/// A change that is not durable yet.
#[derive(Clone)]
struct Pending {
    /// Its number among all changes on the disk.
    number: u64,
    change: Change,
    /// Whether a WAL device still works on it: then a sync of the file does not cover it.
    in_flight: bool,
}

#[derive(Clone)]
enum Change {
    Write { position: u64, bytes: Bytes },
    Size(u64),
}

impl Change {
    fn size_after(&self, size: u64) -> u64 {
        match self {
            Change::Write { position, bytes } => size.max(position + bytes.len() as u64),
            Change::Size(size) => *size,
        }
    }

    fn apply(&self, image: &mut Image) {
        match self {
            Change::Write { position, bytes } => image.write(*position, bytes),
            Change::Size(size) => image.set_size(*size),
        }
    }
}

/// A simulated file.
#[derive(Clone)]
pub(super) struct Inode {
    /// Its last name, for traces and faults.
    pub(super) path: PathBuf,
    /// Whether a name leads to it now.
    pub(super) named: bool,
    /// How many open files lead to it.
    pub(super) open: usize,
    /// Bytes that it takes of the disk: up to its size or its preallocation, holes included.
    pub(super) allocated: u64,
    /// What the medium holds for certain.
    durable: Image,
    /// What reads see.
    volatile: Image,
    /// What happened to `volatile` since, in order.
    pending: Vec<Pending>,
    /// Which units were read or written and so lie in the cache.
    warm: BTreeSet<u64>,
}

impl Inode {
    pub(super) fn new(path: PathBuf) -> Inode {
        Inode {
            path,
            named: true,
            open: 0,
            allocated: 0,
            durable: Image::default(),
            volatile: Image::default(),
            pending: Vec::new(),
            warm: BTreeSet::new(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.volatile.size()
    }

    /// Reads what lies below the size; how many bytes that was.
    pub(super) fn read(&mut self, position: u64, out: &mut [u8]) -> usize {
        let there = self.size().saturating_sub(position);
        let count = out.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        self.volatile.read(position, &mut out[..count]);
        self.touch(position, count as u64);
        count
    }

    pub(super) fn write(&mut self, number: u64, position: u64, bytes: Bytes, in_flight: bool) {
        if bytes.is_empty() {
            return;
        }
        self.touch(position, bytes.len() as u64);
        self.volatile.write(position, &bytes);
        self.allocated = self.allocated.max(self.size().next_multiple_of(BLOCK));
        self.pending.push(Pending { number, change: Change::Write { position, bytes }, in_flight });
    }

    pub(super) fn set_size(&mut self, number: u64, size: u64) {
        self.volatile.set_size(size);
        self.allocated = size.next_multiple_of(BLOCK);
        self.pending.push(Pending { number, change: Change::Size(size), in_flight: false });
    }

    pub(super) fn preallocate(&mut self, end: u64) {
        self.allocated = self.allocated.max(end.next_multiple_of(BLOCK));
    }

    /// Refuses a change to bytes that a WAL device is writing: what the medium then holds, nobody could say.
    pub(super) fn check_free_of_flights(&self, range: Range<u64>) -> io::Result<()> {
        let clash = self.pending.iter().filter(|pending| pending.in_flight).any(|pending| match &pending.change {
            Change::Write { position, bytes } => *position < range.end && range.start < position + bytes.len() as u64,
            Change::Size(_) => false,
        });
        if !clash {
            return Ok(());
        }
        let message =
            format!("bytes {range:?} of {} change while a WAL write to them is in flight", self.path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }

    /// Whether a sync would do anything.
    pub(super) fn is_dirty(&self) -> bool {
        self.pending.iter().any(|pending| !pending.in_flight)
    }

    /// Makes everything durable but what is in flight.
    pub(super) fn sync(&mut self) {
        self.sync_first(self.pending.len());
    }

    fn sync_first(&mut self, count: usize) {
        let rest = self.pending.split_off(count);
        let mut left = Vec::new();
        for pending in self.pending.drain(..) {
            if pending.in_flight {
                left.push(pending);
            } else {
                pending.change.apply(&mut self.durable);
            }
        }
        left.extend(rest);
        self.pending = left;
    }

    /// A sync that failed: the medium holds some of the changes, reads still see all, and no later sync writes the rest. That
    /// is what Linux does: it marks the pages clean.
    pub(super) fn fail_sync(&mut self, keep: &Keep) {
        self.durable = self.after_crash(keep);
        self.pending.retain(|pending| pending.in_flight);
    }

    /// A WAL device is done with change `number`.
    pub(super) fn land(&mut self, number: u64) {
        for pending in self.pending.iter_mut().filter(|pending| pending.number == number) {
            pending.in_flight = false;
        }
    }

    /// Nothing is in flight any more, because the process is gone.
    pub(super) fn land_all(&mut self) {
        for pending in &mut self.pending {
            pending.in_flight = false;
        }
    }

    /// Makes the WAL write `number` durable, and no other, as `RWF_DSYNC` does.
    pub(super) fn make_durable(&mut self, number: u64) {
        self.land(number);
        while let Some(index) = self.pending.iter().position(|pending| pending.number == number) {
            // A durable write makes the size durable that it needs, and sizes reach the journal in order.
            if self.pending[..index].iter().any(|pending| matches!(pending.change, Change::Size(_))) {
                self.sync_first(index + 1);
                continue;
            }
            let Change::Write { position, bytes } = self.pending.remove(index).change else { continue };
            let range = position..position + bytes.len() as u64;
            // The device wrote whole sectors over what earlier writes left there, so those cannot come back.
            let later = self.pending.split_off(index);
            self.pending = self.pending.drain(..).flat_map(|pending| pending.without(&range)).collect();
            self.pending.extend(later);
            self.durable.write(position, &bytes);
        }
    }

    pub(super) fn flip_bit(&mut self, position: u64, bit: u8) {
        self.durable.flip(position, bit);
        self.volatile.flip(position, bit);
    }

    /// The file as it is found after a power cut. Its content is not an `Inode`'s future, so `self` stays as it is.
    ///
    /// The size is the one after some number of changes. Each sector shows some version that it had, no older than the last
    /// cut of the file that is kept and no newer than the first that is lost: a cut is one change to the filesystem's journal,
    /// and what it removed never shows again.
    fn after_crash(&self, keep: &Keep) -> Image {
        let sizes_kept = keep.sizes(self.pending.iter().map(|pending| pending.number));
        let mut sectors: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let mut size = self.durable.size();
        let mut size_kept = size;
        let mut cuts = BTreeSet::new();
        for (index, pending) in self.pending.iter().enumerate() {
            let range = match &pending.change {
                Change::Write { position, bytes } => *position..position + bytes.len() as u64,
                Change::Size(to) if *to < size => {
                    cuts.insert(index);
                    *to..size
                }
                Change::Size(_) => 0..0,
            };
            if !range.is_empty() {
                for sector in range.start / SECTOR..=(range.end - 1) / SECTOR {
                    sectors.entry(sector).or_default().push(index);
                }
            }
            size = pending.change.size_after(size);
            if index < sizes_kept {
                size_kept = size;
            }
        }
        let mut image = self.durable.clone();
        for (sector, changes) in sectors {
            let is_cut = |index: &usize| cuts.contains(index);
            let oldest =
                changes.iter().rposition(|index| is_cut(index) && *index < sizes_kept).map_or(0, |last| last + 1);
            let newest =
                changes.iter().position(|index| is_cut(index) && *index >= sizes_kept).unwrap_or(changes.len());
            let kept = keep.versions(changes.iter().map(|&index| self.pending[index].number)).clamp(oldest, newest);
            let mut bytes = [0; SECTOR as usize];
            self.durable.read(sector * SECTOR, &mut bytes);
            for &index in &changes[..kept] {
                apply_to_sector(&self.pending[index].change, sector * SECTOR, &mut bytes);
            }
            image.write(sector * SECTOR, &bytes);
        }
        image.set_size(size_kept);
        image
    }

    /// The file that a restarted machine finds under the name `path`.
    pub(super) fn crashed(&self, path: PathBuf, keep: &Keep) -> Inode {
        let image = self.after_crash(keep);
        let mut inode = Inode::new(path);
        // Recovery of a filesystem does not free what was reserved.
        inode.allocated = self.allocated.max(image.size().next_multiple_of(BLOCK));
        inode.durable = image.clone();
        inode.volatile = image;
        inode
    }

    fn touch(&mut self, position: u64, size: u64) {
        if size > 0 {
            self.warm.extend(position / RESIDENT_UNIT..=(position + (size - 1)) / RESIDENT_UNIT);
        }
    }

    /// Empties the cache of everything that could be read back.
    pub(super) fn cool(&mut self) {
        self.warm.clear();
    }

    /// Units of the range that are not in the cache.
    pub(super) fn cold_units(&self, position: u64, size: u64) -> impl Iterator<Item = u64> {
        let end = position.saturating_add(size).min(self.size());
        let units = if position < end { position / RESIDENT_UNIT..(end - 1) / RESIDENT_UNIT + 1 } else { 0..0 };
        units.filter(|unit| !self.warm.contains(unit))
    }
}

impl Pending {
    /// What is left of it outside `range`.
    fn without(self, range: &Range<u64>) -> Vec<Pending> {
        let Change::Write { position, bytes } = &self.change else { return vec![self] };
        let end = position + bytes.len() as u64;
        if end <= range.start || range.end <= *position {
            return vec![self];
        }
        let part = |from: u64, to: u64| {
            let bytes = bytes.slice((from - position) as usize..(to - position) as usize);
            Pending { change: Change::Write { position: from, bytes }, ..self.clone() }
        };
        let mut left = Vec::new();
        if *position < range.start {
            left.push(part(*position, range.start));
        }
        if range.end < end {
            left.push(part(range.end, end));
        }
        left
    }
}

/// What a change does to the sector that begins at `start`.
fn apply_to_sector(change: &Change, start: u64, sector: &mut [u8; SECTOR as usize]) {
    match change {
        Change::Write { position, bytes } => {
            let from = start.max(*position);
            let to = (start + SECTOR).min(position + bytes.len() as u64);
            if from < to {
                let source = &bytes[(from - position) as usize..(to - position) as usize];
                sector[(from - start) as usize..(to - start) as usize].copy_from_slice(source);
            }
        }
        Change::Size(size) => {
            let from = size.saturating_sub(start).min(SECTOR) as usize;
            sector[from..].fill(0);
        }
    }
}
