//! Open segment files: a bounded cache, least recently used first out. Who still holds a file keeps it open.

use super::extents::Extents;
use super::gather::{Bounds, Gather, Pieces};
use super::index::{Index, Rebuilt};
use super::walk::{HeaderWalk, WalkError};
use crate::batch::verify_crc;
use crate::commit::Space;
use crate::env::{Disk, DiskFile, OpenMode};
use crate::ids::{Epoch, FileId, Offset, TimestampMs};
use crate::partition::Sealed;
use bytes::Bytes;
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Preallocation grows from this with the file, doubling.
const PREALLOCATE_MIN: u64 = 64 << 10;
/// ... up to this at a time.
const PREALLOCATE_MAX: u64 = 32 << 20;
/// Dirty bytes of one file that write-back is asked for at a time.
const WRITE_BACK_BYTES: u64 = 4 << 20;

/// An open segment.
pub struct SegmentFile {
    id: FileId,
    file: Arc<dyn DiskFile>,
    /// Bytes preallocated so far, when this process is the one that appends.
    allocated: AtomicU64,
    /// The index of everything published before this process began to append, or of all of a sealed segment.
    index: OnceLock<Arc<Index>>,
    /// Bytes from here on were written by this process: their CRCs were checked before.
    own_from: AtomicU64,
    /// Bytes from here on were written since write-back was last asked for.
    dirty_from: AtomicU64,
    /// What of that below `own_from` had its CRCs checked since the file was opened.
    verified: Mutex<Extents>,
    gather: Gather,
}

impl SegmentFile {
    /// Its id.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// The file beneath.
    pub fn disk_file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// What was appended and may not be in the file yet.
    pub fn gather(&self) -> &Gather {
        &self.gather
    }

    /// Sees to it that the bytes before `end` are in the file. May wait for the medium.
    pub fn settle(&self, end: u64) -> io::Result<()> {
        if self.gather.holds(end) { self.gather.settle(self) } else { Ok(()) }
    }

    /// The descriptor, for `sendfile`.
    pub fn raw_fd(&self) -> Option<RawFd> {
        self.file.raw_fd()
    }

    /// A published range, mapped.
    pub fn slice(&self, position: u64, size: usize) -> io::Result<Bytes> {
        self.settle(position + size as u64)?;
        self.file.slice(position, size)
    }

    /// Fills `out` from `position`; a shorter file is an error.
    pub fn read_exact_at(&self, out: &mut [u8], position: u64) -> io::Result<()> {
        self.settle(position + out.len() as u64)?;
        let mut filled = 0;
        while filled < out.len() {
            let read = self.file.read_at(&mut out[filled..], position + filled as u64)?;
            if read == 0 {
                return Err(self.too_short());
            }
            filled += read;
        }
        Ok(())
    }

    /// What it means that the file ends before what is published.
    pub fn too_short(&self) -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, format!("segment {} is too short", self.id))
    }

    /// Reserves space ahead of a write that ends at `end`, unless that would take what is kept for draining a full disk.
    /// Failing is no harm: the write itself will say when the disk is full.
    pub fn reserve(&self, end: u64, space: &Space) {
        let allocated = self.allocated.load(Ordering::Relaxed);
        if end <= allocated {
            return;
        }
        let step = allocated.clamp(PREALLOCATE_MIN, PREALLOCATE_MAX);
        let target = (end.next_multiple_of(4096)).max(allocated + step);
        let size = target - allocated;
        if space.admit(size) && self.file.preallocate(allocated, size).is_ok() {
            self.allocated.store(target, Ordering::Relaxed);
        }
    }

    /// Notes that this process appends from `position` on.
    pub fn own(&self, position: u64) {
        self.own_from.fetch_min(position, Ordering::Relaxed);
        self.dirty_from.fetch_min(position, Ordering::Relaxed);
        // What lies before it is allocated, also when the file was closed and opened again meanwhile.
        self.allocated.fetch_max(position.next_multiple_of(4096), Ordering::Relaxed);
    }

    /// The bytes up to `end` that were written since the last call, once they are many.
    pub fn take_dirty_range(&self, end: u64) -> Option<std::ops::Range<u64>> {
        let from = self.dirty_from.load(Ordering::Relaxed);
        if end.saturating_sub(from) < WRITE_BACK_BYTES {
            return None;
        }
        self.dirty_from.store(end, Ordering::Relaxed);
        Some(from..end)
    }

    /// Whether every CRC in the range was checked since the file was opened, or before it was written.
    pub fn is_verified(&self, position: u64, end: u64) -> bool {
        let end = end.min(self.own_from.load(Ordering::Relaxed));
        position >= end || self.verified.lock().cover(&(position..end))
    }

    /// Checks the CRCs of `[position, end)`, whole batches, and notes it.
    pub fn verify(&self, position: u64, base: Offset, end: u64, epochs: &[(Epoch, Offset)]) -> Result<(), WalkError> {
        super::walk::verify(self, position, base, end, epochs, |_, _| {})?;
        self.verified.lock().add(position..end);
        Ok(())
    }

    /// The index of the part `[0, end)` that this process did not publish itself, read or made now when it is not at
    /// hand. `base` is the segment's base offset, `next` the segment that follows. May block. Where it is made, the batches are checked on the way.
    pub fn index(
        &self,
        files: &FileTable,
        base: Offset,
        end: u64,
        next: Option<FileId>,
        epochs: &[(Epoch, Offset)],
    ) -> Result<Arc<Index>, WalkError> {
        if let Some(index) = self.index.get() {
            return Ok(index.clone());
        }
        let index = match next.and_then(|next| files.read_index(self.id, next)) {
            Some(index) => index,
            None => self.make_index(base, end, epochs)?,
        };
        Ok(self.index.get_or_init(|| Arc::new(index)).clone())
    }

    fn make_index(&self, base: Offset, end: u64, epochs: &[(Epoch, Offset)]) -> Result<Index, WalkError> {
        let mut index = Rebuilt::default();
        match super::walk::verify(self, 0, base, end, epochs, |at, header| index.note(at, &header)) {
            Ok(()) => self.verified.lock().add(0..end),
            Err(WalkError::Io(error)) => return Err(error.into()),
            Err(WalkError::Corrupt { .. }) => {
                index = Rebuilt::default();
                let mut walk = HeaderWalk::new(self, 0, base, end);
                let mut bytes = Vec::new();
                while let Some((position, mut header)) = walk.next_batch()? {
                    bytes.resize(header.size, 0);
                    self.read_exact_at(&mut bytes, position)?;
                    if verify_crc(&bytes).is_err() {
                        // What it says of times cannot be trusted: whoever looks for one must come here and meet the damage.
                        header.max_timestamp = TimestampMs(i64::MAX);
                    }
                    index.note(position, &header);
                }
            }
        }
        Ok(index.finish())
    }

    /// Hands over the complete index of a segment that is being sealed.
    pub fn set_index(&self, index: Arc<Index>) {
        // One that is there already covers the same bytes.
        let _ = self.index.set(index);
    }

    /// The same, only if it is at hand.
    pub fn index_at_hand(&self) -> Option<Arc<Index>> {
        self.index.get().cloned()
    }
}

/// The files of all segments, the most recently used of them open.
pub struct FileTable {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    open: Mutex<lru::LruCache<FileId, Arc<SegmentFile>>>,
    pieces: Arc<Pieces>,
}

/// Ids of all segment files that exist in the folder of segments, in order.
pub fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<FileId>> {
    let mut ids = Vec::new();
    for low in disk.list(dir)? {
        for name in disk.list(&dir.join(low))? {
            let stem = Path::new(&name).file_stem().and_then(|stem| stem.to_str());
            ids.extend(stem.and_then(|stem| u64::from_str_radix(stem, 16).ok()).map(FileId));
        }
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

impl Drop for FileTable {
    /// Files and what they share hold each other while they gather.
    fn drop(&mut self) {
        self.pieces.let_go();
    }
}

impl FileTable {
    /// Keeps at most `open_max` files open.
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, open_max: usize, gathers: Bounds) -> FileTable {
        let bound = std::num::NonZeroUsize::new(open_max.max(4)).unwrap_or(std::num::NonZeroUsize::MIN);
        // The table grows as files are opened: an unbounded cache trimmed by hand does not reserve its bound up front.
        let open = lru::LruCache::unbounded();
        let mut table = FileTable { disk, dir, open: Mutex::new(open), pieces: Pieces::new(gathers) };
        table.open.get_mut().resize(bound);
        table
    }

    fn path(&self, id: FileId, extension: &str) -> PathBuf {
        let low = id.0 & 0xff;
        self.dir.join(format!("{low:02x}")).join(format!("{id}.{extension}"))
    }

    /// The segment's path.
    pub fn log_path(&self, id: FileId) -> PathBuf {
        self.path(id, "log")
    }

    fn wrap(&self, id: FileId, file: Arc<dyn DiskFile>, own_from: u64) -> Arc<SegmentFile> {
        Arc::new(SegmentFile {
            id,
            file,
            allocated: AtomicU64::new(0),
            index: OnceLock::new(),
            own_from: AtomicU64::new(own_from),
            dirty_from: AtomicU64::new(u64::MAX),
            verified: Mutex::default(),
            gather: Gather::new(self.pieces.clone()),
        })
    }

    /// What the gathering files share.
    pub fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Appends to a file at its end. `gathers`: nobody reads it, so the bytes may wait in memory. True when some went to the page cache.
    pub fn append(
        &self,
        file: &Arc<SegmentFile>,
        parts: &[IoSlice<'_>],
        position: u64,
        gathers: bool,
    ) -> io::Result<bool> {
        let open = || self.disk.open_direct(&self.log_path(file.id));
        file.gather.put(file, &open, parts, position, gathers)
    }

    /// The file, if it is open.
    pub fn at_hand(&self, id: FileId) -> Option<Arc<SegmentFile>> {
        let open = self.open.lock().get(&id).cloned();
        open.or_else(|| self.pieces.file(id))
    }

    /// The file, opened now if need be. May block.
    pub fn get(&self, id: FileId) -> io::Result<Arc<SegmentFile>> {
        if let Some(file) = self.at_hand(id) {
            return Ok(file);
        }
        let opened = self.disk.open(&self.log_path(id), OpenMode::Write)?;
        let mut open = self.open.lock();
        // Another thread may have opened it meanwhile: all must share one, which knows what was verified.
        if let Some(file) = open.get(&id) {
            return Ok(file.clone());
        }
        let file = self.wrap(id, opened, u64::MAX);
        open.put(id, file.clone());
        Ok(file)
    }

    /// A new file.
    pub fn create(&self, id: FileId) -> io::Result<Arc<SegmentFile>> {
        let path = self.log_path(id);
        let opened = match self.disk.open(&path, OpenMode::Create) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.create_dir_all(path.parent().unwrap_or(&self.dir))?;
                self.disk.open(&path, OpenMode::Create)?
            }
            other => other?,
        };
        let file = self.wrap(id, opened, 0);
        self.open.lock().put(id, file.clone());
        Ok(file)
    }

    /// The file of a segment that a replayed roll names: there already, or lost with the folder entry.
    pub fn get_or_create(&self, id: FileId) -> io::Result<Arc<SegmentFile>> {
        match self.get(id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(id),
            other => other,
        }
    }

    /// Finishes a sealed segment: frees what was preallocated, writes its index. Harmless when left undone.
    pub fn seal(&self, segment: &Sealed) -> io::Result<()> {
        let id = segment.file;
        let file = self.get(id)?;
        file.settle(segment.size)?;
        file.file.set_size(segment.size)?;
        drop(file);
        if !segment.index.is_complete() {
            // The table's file may know an index of its first part only; whoever needs it makes the whole.
            self.open.lock().pop(&id);
            return Ok(());
        }
        let path = self.path(id, "index");
        if self.disk.exists(&path)? {
            return Ok(());
        }
        let file = self.disk.open(&path, OpenMode::Create)?;
        file.write_at(&[IoSlice::new(&segment.index.encode(segment.next))], 0)
    }

    /// Makes a segment that compaction wrote durable, with its index and their names.
    pub fn finish_compacted(&self, segment: &SegmentFile, index: &Arc<Index>) -> io::Result<()> {
        let id = segment.id();
        segment.file.sync()?;
        let path = self.path(id, "index");
        let file = self.disk.open(&path, OpenMode::Create)?;
        file.write_at(&[IoSlice::new(&index.encode(id))], 0)?;
        file.sync()?;
        self.disk.sync_dir(path.parent().unwrap_or(&self.dir))?;
        segment.set_index(index.clone());
        Ok(())
    }

    fn read_index(&self, id: FileId, next: FileId) -> Option<Index> {
        let file = self.disk.open(&self.path(id, "index"), OpenMode::Read).ok()?;
        let size = usize::try_from(file.size().ok()?).ok()?;
        let mut bytes = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match file.read_at(&mut bytes[filled..], filled as u64).ok()? {
                0 => return None,
                read => filled += read,
            }
        }
        Index::decode(&bytes, id, next)
    }

    /// Unlinks a segment and its index. Readers that hold the file go on.
    pub fn remove(&self, id: FileId) -> io::Result<()> {
        self.open.lock().pop(&id);
        self.pieces.forget(id);
        for extension in ["log", "index"] {
            match self.disk.remove(&self.path(id, extension)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Ids of all segment files that exist.
    pub fn list(&self) -> io::Result<Vec<FileId>> {
        list(&*self.disk, &self.dir)
    }

    /// The file leaves the table, as one that was not used for long does.
    #[cfg(test)]
    pub fn close(&self, id: FileId) {
        self.open.lock().pop(&id);
    }

    /// Files open in the table.
    pub fn open_count(&self) -> usize {
        self.open.lock().len()
    }
}
