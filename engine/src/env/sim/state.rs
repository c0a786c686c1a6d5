//! Everything that a simulated disk knows, under one lock.

use super::fault::{FaultOp, Faults, enospc};
use super::inode::Inode;
use super::keep::Keep;
use super::names::Names;
use super::rng::{SimRng, mix};
use super::trace::Trace;
use super::watch::Visit;
use super::{MachineStopped, trace};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// What a disk holds unless a test says otherwise.
const CAPACITY: u64 = 1 << 40;

pub(super) struct State {
    pub(super) seed: u64,
    /// Decides what is not a crash's to decide: the order of completions, what a failing sync keeps.
    pub(super) rng: SimRng,
    pub(super) names: Names,
    pub(super) inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Changes so far; each carries its number.
    changes: u64,
    pub(super) ops: u64,
    pub(super) stop_at: Option<u64>,
    pub(super) stopped: bool,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) faults: Faults,
    pub(super) trace: Trace,
    pub(super) capacity: u64,
    used: u64,
    pub(super) wal_depth: usize,
    pub(super) refuses_direct: bool,
    pub(super) cold: f64,
    pub(super) watch: Option<Visit>,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            seed,
            rng: SimRng::new(seed),
            names: Names::default(),
            inodes: BTreeMap::new(),
            next_inode: 0,
            changes: 0,
            ops: 0,
            stop_at: None,
            stopped: false,
            locks: BTreeSet::new(),
            faults: Faults::default(),
            trace: Trace::default(),
            capacity: CAPACITY,
            used: 0,
            wal_depth: 4,
            refuses_direct: false,
            cold: 0.0,
            watch: None,
        }
    }

    /// An error once the machine has stopped.
    pub(super) fn check_running(&self) -> io::Result<()> {
        if self.stopped { Err(MachineStopped::error()) } else { Ok(()) }
    }

    /// Carries out one operation that counts, and stops the machine after it when it is its turn.
    pub(super) fn op<T>(
        &mut self,
        name: &'static str,
        path: &Path,
        numbers: (u64, u64),
        content: &[u8],
        carry_out: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        self.check_running()?;
        let result = carry_out(self);
        self.trace.push(name, path, numbers, trace::crc(content), result.is_err());
        self.ops += 1;
        self.show();
        self.stopped = self.stop_at.is_some_and(|last| self.ops >= last);
        self.check_running()?;
        result
    }

    /// A number for the next change.
    pub(super) fn next_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    pub(super) fn new_inode(&mut self, path: PathBuf) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, Inode::new(path));
        number
    }

    pub(super) fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(|| io::Error::other(format!("no simulated file {number}")))
    }

    /// Changes a file and keeps the books on space.
    fn change_inode(&mut self, number: u64, change: impl FnOnce(&mut Inode)) -> io::Result<()> {
        let inode = self.inode(number)?;
        let before = inode.allocated;
        change(inode);
        let after = inode.allocated;
        self.used = self.used - before + after;
        Ok(())
    }

    pub(super) fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }

    /// How far a file may grow.
    fn end_max(&mut self, number: u64) -> io::Result<u64> {
        let free = self.free();
        Ok(self.inode(number)?.allocated.saturating_add(free / 4096 * 4096))
    }

    /// Writes; on a full disk what fits, and an error. Gives the change's number.
    pub(super) fn write(&mut self, number: u64, position: u64, bytes: Bytes, in_flight: bool) -> io::Result<u64> {
        let end = position.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.inode(number)?.check_free_of_flights(position..end)?;
        let end_max = self.end_max(number)?;
        let change = self.next_change();
        if end > end_max {
            let fits = usize::try_from(end_max.saturating_sub(position)).unwrap_or(usize::MAX);
            let bytes = bytes.slice(..fits.min(bytes.len()));
            self.change_inode(number, |inode| inode.write(change, position, bytes, false))?;
            return Err(enospc());
        }
        self.change_inode(number, |inode| inode.write(change, position, bytes, in_flight))?;
        Ok(change)
    }

    pub(super) fn set_size(&mut self, number: u64, size: u64) -> io::Result<()> {
        let inode = self.inode(number)?;
        inode.check_free_of_flights(size..u64::MAX)?;
        if size > self.end_max(number)? {
            return Err(enospc());
        }
        let change = self.next_change();
        self.change_inode(number, |inode| inode.set_size(change, size))
    }

    pub(super) fn preallocate(&mut self, number: u64, end: u64) -> io::Result<()> {
        if end > self.end_max(number)? {
            return Err(enospc());
        }
        self.change_inode(number, |inode| inode.preallocate(end))
    }

    /// Syncs one file, or fails to, when a fault says so.
    pub(super) fn sync(&mut self, number: u64) -> io::Result<()> {
        let path = self.inode(number)?.path.clone();
        if self.faults.strikes(FaultOp::Sync, &path) {
            self.fail_sync(number)?;
            return Err(super::fault::eio());
        }
        self.inode(number)?.sync();
        Ok(())
    }

    /// What a sync that fails leaves of a file.
    pub(super) fn fail_sync(&mut self, number: u64) -> io::Result<()> {
        let keep = Keep::new(self.rng.next_u64(), self.changes);
        self.inode(number)?.fail_sync(&keep);
        Ok(())
    }

    /// Takes the name of a file away.
    pub(super) fn unname(&mut self, number: u64) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.named = false;
            self.release(number);
        }
    }

    /// Frees the space of a file that nothing leads to now. Its content stays as long as a crash could bring it back.
    fn release(&mut self, number: u64) {
        if let Some(inode) = self.inodes.get(&number).filter(|inode| !inode.named && inode.open == 0) {
            self.used = self.used.saturating_sub(inode.allocated);
            self.forget_unreachable();
        }
    }

    pub(super) fn forget_unreachable(&mut self) {
        if self.inodes.values().any(|inode| !inode.named && inode.open == 0) {
            let reachable = self.names.reachable();
            self.inodes.retain(|number, inode| inode.named || inode.open > 0 || reachable.contains(number));
        }
    }

    pub(super) fn closed(&mut self, number: u64) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.open = inode.open.saturating_sub(1);
            self.release(number);
        }
    }

    /// Whether a unit of a file is to be read from the medium: a fixed part of them, chosen by the seed.
    pub(super) fn is_cold(&self, number: u64, position: u64, size: u64) -> bool {
        self.cold > 0.0
            && self.inodes.get(&number).is_some_and(|inode| {
                inode.cold_units(position, size).any(|unit| {
                    let draw = mix(self.seed ^ mix(number ^ mix(unit)));
                    ((draw >> 11) as f64) < self.cold * (1u64 << 53) as f64
                })
            })
    }

    /// The disk that a restarted machine finds after a power cut.
    pub(super) fn crashed(&self, seed: u64) -> State {
        let keep = Keep::new(seed, self.changes);
        let names = self.names.crashed(&keep);
        let mut inodes = BTreeMap::new();
        for (path, number) in names.files() {
            if let Some(inode) = self.inodes.get(&number) {
                inodes.insert(number, inode.crashed(path.to_owned(), &keep));
            }
        }
        self.restarted(seed, names, inodes)
    }

    /// The disk that a restarted process finds: all is there, and no more durable than before.
    pub(super) fn killed(&self) -> State {
        let mut inodes = self.inodes.clone();
        for inode in inodes.values_mut() {
            inode.land_all();
            inode.open = 0;
        }
        let mut state = self.restarted(self.seed, self.names.clone(), inodes);
        state.forget_unreachable();
        state
    }

    fn restarted(&self, seed: u64, names: Names, inodes: BTreeMap<u64, Inode>) -> State {
        let used = inodes.values().filter(|inode| inode.named).map(|inode| inode.allocated).sum();
        State {
            names,
            inodes,
            next_inode: self.next_inode,
            changes: self.changes,
            capacity: self.capacity,
            used,
            wal_depth: self.wal_depth,
            refuses_direct: self.refuses_direct,
            cold: self.cold,
            ..State::new(seed)
        }
    }
}
