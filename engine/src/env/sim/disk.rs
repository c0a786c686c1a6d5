//! The simulated disk as the engine sees it, and the switches that a test turns.

use super::fault::{Fault, FaultOp, eio};
use super::file::SimFile;
use super::names::{Node, clean};
use super::state::State;
use super::wal::SimWalDevice;
use super::watch::Moment;
use crate::env::{DirLock, Disk, DiskFile, OpenMode, WalDevice, WalMethod};
use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk whose choices follow `seed`.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::from_state(State::new(seed))
    }

    pub(super) fn from_state(state: State) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Stops the machine at operation `count` (from 1, counted since the disk was made): that one is carried out, and like
    /// every later call it returns an error that [`is_stop_error`](super::is_stop_error) knows.
    pub fn stop_after(&self, count: u64) {
        let mut state = self.state();
        state.stop_at = Some(count);
        state.stopped = state.ops >= count;
    }

    /// Operations so far: each write, rename, create, remove, change of size, sync of any kind, WAL submission and WAL
    /// completion is one. So the points at which to stop a run are 1 to `ops()` of the same run undisturbed.
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// Calls `visit` after every operation from now on, while the disk is held: it may take images and work with those, but
    /// must not touch this disk. So one run shows every point at which the machine could stop.
    pub fn watch(&self, visit: impl FnMut(&Moment<'_>) + Send + 'static) {
        self.state().watch = Some(Box::new(visit));
    }

    /// Whether the machine has stopped.
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// A new disk as a power cut at this moment could leave it; `seed` chooses what is kept.
    pub fn crash_image(&self, seed: u64) -> SimDisk {
        SimDisk::from_state(self.state().crashed(seed))
    }

    /// A new disk as a killed process leaves it: everything written is there, writes in flight included. It is no more durable
    /// than before, so a power cut may follow.
    pub fn kill_image(&self) -> SimDisk {
        SimDisk::from_state(self.state().killed())
    }

    /// Turns over one bit of a file, on the medium and in the cache.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state();
        let number = state.names.file(&clean(path))?;
        let inode = state.inode(number)?;
        if position >= inode.size() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        inode.flip_bit(position, bit);
        Ok(())
    }

    /// All files with their sizes, sorted by path.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let size = |number| state.inodes.get(&number).map_or(0, |inode| inode.size());
        state.names.files().map(|(path, number)| (path.to_owned(), size(number))).collect()
    }

    /// The whole content of a file. Works on a stopped machine too.
    pub fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let number = state.names.file(&clean(path))?;
        let inode = state.inode(number)?;
        let mut content = vec![0; usize::try_from(inode.size()).map_err(|_| io::ErrorKind::FileTooLarge)?];
        inode.read(0, &mut content);
        Ok(content)
    }

    /// Makes the `nth` operation (1 is the next) of that kind on a path that `matches` fail with EIO, once.
    pub fn inject_eio(&self, op: FaultOp, nth: u64, matches: impl Fn(&Path) -> bool + Send + 'static) {
        self.state().faults.0.push(Fault { op, left: nth.max(1), path: Box::new(matches) });
    }

    /// Sets how many bytes the disk holds; what is in use stays. A file takes its size or its preallocation, holes included.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Makes this part (0 to 1) of what was not read or written since the call non-resident, chosen by the seed.
    pub fn set_cold(&self, part: f64) {
        let mut state = self.state();
        state.cold = part;
        state.inodes.values_mut().for_each(|inode| inode.cool());
    }

    /// Sets how many WAL writes may be in flight: 1 to 4. Counts for devices made afterwards.
    pub fn set_wal_depth(&self, depth: usize) {
        self.state().wal_depth = depth.clamp(1, 4);
    }

    /// Has files opened for direct writes that take none, as some filesystems do.
    pub fn refuse_direct_writes(&self) {
        self.state().refuses_direct = true;
    }

    /// Stands for all operations so far with their paths, positions, sizes and contents. Reads are left out: they do not change
    /// anything, and threads that replay would make the trace depend on the scheduler.
    pub fn trace_hash(&self) -> u64 {
        self.state().trace.hash()
    }

    /// The last `count` operations, to print when a test fails.
    pub fn trace_tail(&self, count: usize) -> Vec<String> {
        self.state().trace.tail(count)
    }

    pub(super) fn open_sim(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let path = clean(path);
        let mut state = self.state();
        state.check_running()?;
        let number = match mode {
            OpenMode::Read | OpenMode::Write => state.names.file(&path)?,
            OpenMode::Create => state.op("create", &path, (0, 0), &[], |state| {
                let change = state.next_change();
                let number = state.new_inode(path.clone());
                let added = state.names.add(change, &path, Node::File(number));
                if added.is_err() {
                    state.inodes.remove(&number);
                }
                added.map(|()| number)
            })?,
        };
        state.inode(number)?.open += 1;
        drop(state);
        Ok(SimFile::new(self.clone(), number, mode != OpenMode::Read))
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = clean(path);
        let mut state = self.state();
        state.check_running()?;
        let mut missing: Vec<&Path> = Vec::new();
        for dir in path.ancestors() {
            match state.names.get(dir) {
                Some(Node::Folder) => break,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => missing.push(dir),
            }
        }
        // Each folder is an operation of its own, so that a crash may leave only the upper ones.
        for dir in missing.into_iter().rev() {
            state.op("create_dir", dir, (0, 0), &[], |state| {
                let change = state.next_change();
                state.names.add(change, dir, Node::Folder)?;
                state.names.sync_change(change);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.open_sim(path, mode)?))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut file = self.open_sim(path, OpenMode::Write)?;
        file.direct = true;
        Ok(Arc::new(file))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        state.check_running()?;
        Ok(state.names.get(&clean(path)).is_some())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (clean(from), clean(to));
        self.state().op("rename", &from, (0, 0), to.as_os_str().as_encoded_bytes(), |state| {
            let change = state.next_change();
            let moved = state.names.file(&from)?;
            if let Some(replaced) = state.names.rename(change, &from, &to)? {
                state.unname(replaced);
            }
            state.inode(moved)?.path = to.clone();
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = clean(path);
        self.state().op("remove", &path, (0, 0), &[], |state| {
            let change = state.next_change();
            if let Some(number) = state.names.remove(change, &path)? {
                state.unname(number);
            }
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_running()?;
        state.names.list(&clean(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = clean(dir);
        self.state().op("sync_dir", &dir, (0, 0), &[], |state| {
            state.names.folder(&dir)?;
            if state.faults.strikes(FaultOp::Sync, &dir) {
                return Err(eio());
            }
            state.names.sync(&dir);
            state.forget_unreachable();
            Ok(())
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.state().op("sync_all", Path::new(""), (0, 0), &[], |state| {
            let dirty = state.inodes.iter().filter(|(_, inode)| inode.is_dirty());
            let dirty: Vec<u64> = dirty.map(|(number, _)| *number).collect();
            let mut result = Ok(());
            for number in dirty {
                result = state.sync(number).and(result);
            }
            state.names.sync_all();
            state.forget_unreachable();
            result
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.check_running()?;
        Ok(state.free())
    }

    fn total_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.check_running()?;
        Ok(state.capacity)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let path = clean(path);
        let mut state = self.state();
        state.check_running()?;
        if !state.locks.insert(path.clone()) {
            let message = format!("{} is in use by another process", path.display());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
        }
        drop(state);
        Ok(Box::new(SimLock { disk: self.clone(), path }))
    }

    fn wal_device(&self, method: WalMethod, dir: &Path) -> io::Result<Box<dyn WalDevice>> {
        let state = self.state();
        state.check_running()?;
        state.names.folder(&clean(dir))?;
        let depth = if method == WalMethod::Portable { 1 } else { state.wal_depth };
        drop(state);
        Ok(Box::new(SimWalDevice::new(self.clone(), depth, method)))
    }
}

/// Holds the lock until it drops.
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}
